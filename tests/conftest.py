"""What several tests share."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

#: A cell that no archived file may hold: no word of any language, and every text format keeps it as it is.
CANARY = "canaryQ7X9ZWcell"


BROWSERS = "chromium", "chromium-browser", "google-chrome"
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


def files_holding(folder, text=CANARY):
    "The files below `folder` that hold `text`, as UTF-8 or UTF-16."
    marks = [text.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be")]
    files = [p for p in Path(folder).rglob("*") if p.is_file()]
    return sorted(p for p in files if any(mark in p.read_bytes() for mark in marks))


def plant(labelled, text=CANARY):
    "The labelled column with `text` for its first and its last cell."
    from datacloak_nb.columns import Column

    cells = [text, *labelled.column.cells.to_pylist()[1:-1], text]
    return replace(labelled, column=Column(labelled.column.header, cells))


@pytest.fixture
def page():
    "A page of a browser of this machine; nothing is downloaded."
    if BROWSER is None: pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with sync_api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened.new_page(viewport=dict(width=1600, height=1300))
        opened.close()


@pytest.fixture(scope="session")
def tiny_columns():
    "Made columns of every class, the same in every session."
    from datacloak_nb.synthetic import make_columns

    return make_columns(240, seed=7)


@pytest.fixture(scope="session")
def tiny_dataset(tiny_columns, tmp_path_factory):
    "A dataset folder of made columns."
    from datacloak_nb.dataset import Dataset, save_dataset

    return save_dataset(Dataset(tiny_columns), tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def canary_dataset(tiny_columns, tmp_path_factory):
    "The same, with a canary in the cells of every third column."
    from datacloak_nb.dataset import Dataset, save_dataset

    columns = [o if i % 3 else plant(o) for i, o in enumerate(tiny_columns)]
    return save_dataset(Dataset(columns), tmp_path_factory.mktemp("canary") / "data", "csv")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    "{version: small bundle} whose models are none."
    from datacloak_nb.deploy.bundle import gather, seal

    made = {}
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
        folder = tmp_path_factory.mktemp("bundle")
        (folder / "forest.onnx").write_bytes(version.encode() * 1000)
        (folder / "network.onnx").write_bytes(version.encode() * 2000)
        made[version] = seal(gather(folder, version, "forest"))
    return made


@pytest.fixture
def unverified(monkeypatch):
    "Stores take bundles whose models are none; the sums of their files are checked all the same."
    from datacloak_nb import store
    from datacloak_nb.verify import Check

    monkeypatch.setattr(store, "verify_bundle", lambda *args: [Check("skipped")])
