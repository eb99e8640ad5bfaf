"""What must hold for every notebook and every generated file, whatever it is about."""

import ast
import filecmp
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sysconfig.get_path("scripts"))
NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
ROOMS = [p for p in NOTEBOOKS if p.name[0].isdigit()]
PIPELINES = [p for p in NOTEBOOKS if p not in ROOMS and p.stem != "index"]

notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
room = pytest.mark.parametrize("path", ROOMS, ids=lambda p: p.stem)
pipeline = pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.stem)


def cells(path, kind="code"):
    return [c for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def python(cell):
    "The cell without the lines that only IPython understands."
    return re.sub(r"^\s*[%!].*$", "", source(cell), flags=re.M)


def nodes(path):
    "Every syntax node of the notebook's code."
    return [n for c in cells(path) for n in ast.walk(ast.parse(python(c)))]


def imported(path):
    "The full names of the modules that the notebook imports."
    for n in nodes(path):
        if isinstance(n, ast.Import):
            yield from (a.name for a in n.names)
        elif isinstance(n, ast.ImportFrom):
            yield n.module or ""
            yield from (f"{n.module}.{a.name}" for a in n.names)


def exports(path):
    "The modules that the notebook names in `default_exp`."
    return [m for c in cells(path) for m in re.findall(r"^#\|\s*default_exp\s+(\S+)", source(c), re.M)]


def number(path):
    return int(path.name.split("_")[0])


def plain(name):
    "A distribution's name as PEP 503 normalizes it."
    return re.sub(r"[-_.]+", "-", name).lower()


def required(*keys):
    "The names of the distributions that keys of settings.ini ask for."
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    return {plain(re.match(r"[\w.-]+", r)[0]) for key in keys for r in settings["DEFAULT"][key].split()}


USED = "requirements", "signing_requirements", "s3_requirements", "mlflow_requirements"
NEEDED_TO_WORK = "dev_requirements"


def run(*command, **kwargs):
    "What the command prints; what it says on failure is the message of the test."
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Generated files


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    "A copy of the repository, exported and cleaned anew, so that the check leaves the tree alone."
    copy = tmp_path_factory.mktemp("fresh")
    for name in ("settings.ini", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "nbs", copy / "nbs", ignore=shutil.ignore_patterns("[._]*"))
    shutil.copytree(ROOT / "datacloak_nb" / "migrations", copy / "datacloak_nb" / "migrations") # written by hand
    for command in ("nbdev_export", "nbdev_clean"):
        run(BIN / command, cwd=copy)
    return copy


def differing(one, other, pattern):
    "The files of either folder that the other one lacks or holds otherwise."
    names = {p.relative_to(d).as_posix() for d in (one, other) for p in d.rglob(pattern)}
    _, changed, missing = filecmp.cmpfiles(one, other, names, shallow=False)
    return sorted(changed + missing)


def test_export_is_in_sync(fresh):
    assert differing(fresh / "datacloak_nb", ROOT / "datacloak_nb", "*.py") == [], "run `make export`"
    assert filecmp.cmp(fresh / "pyproject.toml", ROOT / "pyproject.toml", shallow=False), "run `make export`"


def test_notebooks_are_clean(fresh):
    assert [p.name for p in NOTEBOOKS if p.read_bytes() != (fresh / "nbs" / p.name).read_bytes()] == [], (
        "run `make clean-notebooks`")


def test_readme_is_in_sync():
    made = run(BIN / "jupyter-nbconvert", "--to", "markdown", "--stdout", ROOT / "nbs/index.ipynb")
    assert made.strip() == (ROOT / "README.md").read_text("utf-8").strip(), "run `make readme`"


def test_lock_pins_every_requirement_and_names_no_place():
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pinned = map(plain, re.findall(r"^([\w.-]+)==", lock, re.M))
    assert required(*USED, NEEDED_TO_WORK) <= set(pinned), "run `make lock`"
    assert re.findall(r"://|^-", lock, re.M) == []


def test_wheel_carries_the_package_data_and_the_pipelines(tmp_path):
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "runs"))
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, copy)
    carried = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    wanted = [p.relative_to(copy).as_posix() for p in (copy / "datacloak_nb").rglob("*") if p.is_file()]
    wanted += [f"datacloak_nb/pipelines/{p.name}" for p in PIPELINES]
    assert sorted(set(wanted) - set(carried)) == []


# Pipelines


@pipeline
def test_pipeline_has_one_parameters_cell(path, fresh):
    for p in path, fresh / "nbs" / path.name:
        assert [c["metadata"].get("tags") for c in cells(p)].count(["parameters"]) == 1


@pipeline
def test_pipeline_holds_no_definition(path):
    assert [n.name for n in nodes(path) if isinstance(n, (ast.FunctionDef, ast.ClassDef))] == []


@pipeline
def test_pipeline_has_a_complete_kernelspec(path):
    kernel = json.loads(path.read_text("utf-8"))["metadata"]["kernelspec"]
    assert (kernel["name"], kernel["language"]) == ("python3", "python")


# Rooms


@room
def test_room_exports_one_module(path):
    assert exports(path) == [path.stem.split("_", 1)[1]]


@room
def test_room_imports_only_lower_rooms(path):
    numbers = {f"datacloak_nb.{m}": number(p) for p in ROOMS for m in exports(p)}
    used = {m: numbers[m] for m in imported(path) if m in numbers and m != f"datacloak_nb.{exports(path)[0]}"}
    assert {m: n for m, n in used.items() if n >= number(path)} == {}


def test_rooms_have_their_own_numbers():
    assert len({number(p) for p in ROOMS}) == len(ROOMS)


# Every notebook


@notebook
def test_cells_are_short(path):
    long = [c["id"] for c in cells(path) if sum(bool(line.strip()) for line in source(c).splitlines()) > 50]
    assert long == []


@notebook
def test_no_star_imports_and_no_parent_paths(path):
    stars = [n.module for n in nodes(path) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]
    climbs = [n.value for n in nodes(path) if isinstance(n, ast.Constant) and str(n.value).startswith("../")]
    assert stars + climbs == []


@notebook
def test_outputs_are_the_same_at_every_run(path):
    assert "widgets" not in json.loads(path.read_bytes())["metadata"], "run without storing the state of widgets"
    outputs = [o for c in cells(path) for o in c["outputs"]]
    assert [o["ename"] for o in outputs if o["output_type"] == "error"] == []
    text = json.dumps([o.get("text") or {k: v for k, v in o.get("data", {}).items() if "text" in k} for o in outputs])
    assert re.findall(r" at 0x[0-9a-f]+|/ipykernel_\d+|/tmp/\w+|\d+(?:\.\d+)? ?(?:seconds|s/it|it/s)", text) == []


# Dependencies


def test_every_import_is_a_declared_requirement():
    declared, providers = required(*USED), packages_distributions()
    tops = {m.split(".")[0] for p in NOTEBOOKS for m in imported(p)} - sys.stdlib_module_names - {"datacloak_nb", ""}
    assert {t for t in tops if not declared & set(map(plain, providers.get(t, [])))} == set()


def test_contributing_says_why_each_requirement_is_there():
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M)
    explained = {plain(name) for row in rows for name in row.split(", ")}
    assert required(*USED, NEEDED_TO_WORK) - explained == set()


@pytest.mark.parametrize("module", ["features.extract", "predict"])
def test_import_is_cheap(module):
    code = f"import sys, datacloak_nb.{module}; print(*sys.modules)"
    loaded = set(run(sys.executable, "-c", code).split())
    assert {"tensorflow", "tf_keras", "keras", "sklearn", "matplotlib"} & loaded == set()
