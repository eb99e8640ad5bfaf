"""What the site takes from the repository: README, notebooks, the catalogue of features, and the messages of errors."""

import ast
import csv
import json
import re
from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(o for o in (ROOT / "nbs").glob("*.ipynb") if o.stem != "index")
ROOMS, PIPELINES = [o for o in NOTEBOOKS if o.stem[0].isdigit()], [o for o in NOTEBOOKS if not o.stem[0].isdigit()]
COPIES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "LICENSE.txt": "LICENSE",
          "corpus_sources.csv": "datacloak_nb/data/corpus_sources.csv"}
MOVED = {"nbs/": "reference/", "CONTRIBUTING.md": "contributing.md", "LICENSE": "LICENSE.txt",
         "datacloak_nb/data/corpus_sources.csv": "corpus_sources.csv"}


def start_page():
    "The README, with its links as the site has them."
    text = (ROOT / "README.md").read_text("utf-8")
    return re.sub(r"\]\(([^)]+)\)", lambda o: _moved(o[0]), text)


def _moved(link):
    "A link into the repository as one into the site."
    return next((f"]({new}{link[2 + len(old):]}" for old, new in MOVED.items() if link.startswith(f"]({old}")), link)


def _escaped(text):
    "A text as it stands in a table of Markdown."
    return re.sub(r"[|*_]", r"\\\g<0>", text.replace("<", "&lt;"))


def catalogue():
    "A table of the 376 features."
    rows = list(csv.DictReader((ROOT / "datacloak_nb/data/features.csv").read_text("utf-8").splitlines()))
    lines = [f"| {i} | {o['family']} | `{o['name']}` | {_escaped(o['definition'])} |"
             for i, o in enumerate(rows)]
    return "\n".join(["# Features", "", f"All {len(rows)}, in the order of the vector. `feature_spec.json` of a bundle "
                      "defines them to the last bit.", "", "|   | family | name | is |", "|---|---|---|---|", *lines])


def _text(node):
    "The text that a node makes, with … for what is filled in."
    if isinstance(node, ast.Constant): return str(node.value)
    if isinstance(node, ast.JoinedStr): return "".join(_text(o) for o in node.values)
    return "…"


def messages():
    "(error, message, module) of every error that the library raises with a text of its own."
    for path in sorted((ROOT / "datacloak_nb").rglob("*.py")):
        for o in ast.walk(ast.parse(path.read_text("utf-8"))):
            call = o.exc if isinstance(o, ast.Raise) else None
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], (ast.Constant, ast.JoinedStr)):
                yield getattr(call.func, "id", "error"), _text(call.args[0]), path.relative_to(ROOT / "datacloak_nb")


def troubleshooting():
    "The page of advice, and below it every message."
    rows = [f"| {_escaped(text)} | `{error}` | `{place}` |" for error, text, place in sorted(set(messages()))]
    return "\n".join([(ROOT / "docs/troubleshooting.md").read_text("utf-8"), "| message | error | module |",
                      "|---|---|---|", *rows])


def title(path):
    "The first heading of a notebook."
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return "".join(cells[0]["source"]).lstrip("# ").split("\n")[0]


@event_priority(100) # before the plugin that renders notebooks
def on_files(files, config):
    "Add what is not in docs/."
    pages = {"index.md": start_page(), "features.md": catalogue(), "troubleshooting.md": troubleshooting()}
    if old := files.get_file_from_path("troubleshooting.md"): files.remove(old)
    for name, text in pages.items(): files.append(File.generated(config, name, content=text))
    for name, path in COPIES.items(): files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


@event_priority(100)
def on_config(config):
    "Put the pages in order."
    named = lambda paths: [{title(o): f"reference/{o.name}"} for o in paths]
    config.nav = [{"Start": "index.md"}, {"Tutorial": "tutorial.md"}, {"How to": "how-to.md"}, {"Labels": "labels.md"},
                  {"Features": "features.md"}, {"Troubleshooting": "troubleshooting.md"},
                  {"Pipelines": named(PIPELINES)}, {"Reference": named(ROOMS)},
                  {"About": [{"Changelog": "changelog.md"}, {"Contributing": "contributing.md"}]}]
    return config


def _local(text, url):
    "A page without MathJax and widgets from elsewhere, which none needs, and with the worker that lies beside it."
    text = re.sub(r"https?://[^\"']+/iframe-worker/shim", get_relative_url("iframe-worker.js", url), text)
    return re.sub(r"<script[^>]+src=[\"']https?://[^>]+></script>|<link[^>]+href=[\"']https?://[^>]+>", "", text)


def on_post_page(output, page, config):
    "Load nothing from elsewhere."
    return _local(output, page.url)


def on_post_template(output_content, template_name, config):
    "Load nothing from elsewhere in pages such as 404.html either."
    return _local(output_content, template_name)
