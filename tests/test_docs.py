"""The site builds without a warning and loads nothing from elsewhere; what it tells people to run, runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT, BIN = Path(__file__).parents[1], Path(sys.executable).parent
BLOCK = re.compile(r"```(python|sh)\n(.*?)```", re.S)
BLOCKS = [(name, *o) for name in ("tutorial", "how-to") for o in BLOCK.findall((ROOT / f"docs/{name}.md").read_text())]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The site, built strictly: a broken link fails."
    folder = tmp_path_factory.mktemp("site")
    told = subprocess.run([BIN / "mkdocs", "build", "--strict", "-q", "-f", ROOT / "mkdocs.yml", "-d", folder],
                          env=os.environ | dict(NO_MKDOCS_2_WARNING="1"), capture_output=True, text=True)
    assert told.returncode == 0, told.stderr[-2000:]
    return folder


def test_every_notebook_feature_and_message_has_its_place(site):
    notebooks = {o.stem for o in (ROOT / "nbs").glob("*.ipynb")} - {"index"}
    assert notebooks == {o.stem for o in (site / "reference").glob("*.html")}
    assert (site / "features.html").read_text("utf-8").count("<tr>") == 1 + 376
    messages = (site / "troubleshooting.html").read_text("utf-8")
    assert messages.count("<code>BundleError</code>") > 10 and "nothing was accepted; review first" in messages


def test_no_page_loads_anything_from_elsewhere(site):
    tags = r"<(?:script|link|img|iframe|source|video|audio|object)[^>]+(?:src|srcset|href|data)=[\"']?(?:https?:)?//"
    styles = r"<style(?:(?!</style>).)*?(?:@import|url\([\"']?(?:https?:)?//)"
    pages, loaded = [*site.rglob("*.html")], re.compile(f"{tags}|{styles}", re.S)
    assert len(pages) > 80 and [o.name for o in pages if loaded.search(o.read_text("utf-8"))] == []


@pytest.mark.parametrize("name", ["index.html", "reference/train.html"])
def test_the_search_works_in_a_page_that_was_opened_from_the_folder(site, page, name):
    asked = []
    page.on("request", lambda o: asked.append(o.url))
    page.goto((site / name).as_uri())
    page.fill(".md-search__input", "calibration")
    page.wait_for_selector(".md-search-result__item", timeout=20_000)
    assert all(o.startswith("file:") for o in asked)


@pytest.mark.parametrize("kind, code", [o[1:] for o in BLOCKS], ids=[f"{o[0]}-{i}" for i, o in enumerate(BLOCKS)])
def test_what_a_page_tells_to_run_runs(kind, code, tmp_path):
    env = os.environ | dict(PATH=f"{BIN}:{os.environ['PATH']}", PYTHONPATH=str(ROOT))
    for name in ("nbs", "datacloak_nb", "settings.ini"): (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "-c", code] if kind == "python" else ["bash", "-ec", code]
    told = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr[-2000:]
