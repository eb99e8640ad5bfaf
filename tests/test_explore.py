"""The explorer, with nobody to click and in a real browser: what it shows, what it saves, what it keeps to itself."""

import json
import os
import signal
import socket
import subprocess
import sysconfig
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import nbformat
import numpy as np
import papermill
import pytest
from conftest import CANARY, files_holding, plant

from datacloak_nb.columns import Column
from datacloak_nb.config import load_config, save_config
from datacloak_nb.dataset import Dataset, load_dataset, save_dataset
from datacloak_nb.deploy.bundle import gather, seal
from datacloak_nb.deploy.export import to_onnx
from datacloak_nb.explore import ExploreError, confusion, contributions, explore_run
from datacloak_nb.features.extract import extract
from datacloak_nb.features.names import feature_hash
from datacloak_nb.files import write_json
from datacloak_nb.models.forest import fit_forest
from datacloak_nb.monitoring.feedback import open_feedback
from datacloak_nb.runs import pipeline_path
from datacloak_nb.splits import grouped_folds, split_dataset, split_manifest

HEADER = "canaryQ7X9ZWheader"
BIN = Path(sysconfig.get_path("scripts"))
SETTINGS = {"@jupyter-widgets/jupyterlab-manager/plugin": dict(saveState=True),
            "@jupyterlab/apputils-extension/notification": dict(fetchNews="false")}


def publish(model, folder, config):
    "A bundle of one model in the folder of a run."
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "forest.onnx").write_bytes(to_onnx(model, "1.0.0", config.export))
    bundle = gather(folder / "models", "1.0.0", "forest")
    about = dict(version="1.0.0", kind="rf", classes=list(model.classes), features=dict(hash=feature_hash()))
    (bundle / "model_config.yaml").write_text(json.dumps(dict(model_metadata=about)))
    seal(bundle)


@pytest.fixture(scope="module")
def finished(tiny_columns, tmp_path_factory):
    "A run, and the dataset that it was trained on: canaries in every header and in the cells of every column."
    folder, config = tmp_path_factory.mktemp("finished"), load_config()
    name = lambda o: replace(o, column=Column(f"{o.column.header} {HEADER}", o.column.cells))
    marked = [name(plant(o)) for o in tiny_columns]
    data = load_dataset(save_dataset(Dataset(marked), folder / "data"))
    split, X, y = split_dataset(data, config), extract([o.column for o in data.columns]), data.targets()
    forest = fit_forest(X[split.train], y[split.train], data.classes, dict(n_estimators=20, min_samples_leaf=2), 0)
    run = folder / "20260102T030405-train"
    publish(forest, run, config)
    seed = config.training.random_seed
    folds = grouped_folds(y[split.train], split.groups[split.train], config.evaluation.cross_validation_folds, seed)
    write_json(run / "splits.json", split_manifest(data, split, folds, seed))
    save_config(config, run / "config.yaml")
    return SimpleNamespace(run=run, data=folder / "data", forest=forest)


@pytest.fixture(scope="module")
def explored(finished):
    return explore_run(finished.run, finished.data)


def test_answers_are_those_of_the_run(finished, explored):
    assert np.abs(explored.p - finished.forest.predict_proba(explored.X)).max() < 1e-5
    test = explored.table[explored.table.side == "test"]
    assert np.trace(confusion(explored)) == (test.label == test.answer).sum() and len(test) == len(explored.split.test)


@pytest.mark.parametrize("i", [0, 77, 150, 239])
def test_contributions_add_up_to_the_answer(explored, i):
    usual = np.median(explored.X[explored.split.train], axis=0)
    found = contributions(explored.classifier.probabilities, explored.X[i], usual, pairs=2)
    start = explored.classifier.probabilities(usual[None])[0]
    assert np.abs(start + found.sum(0) - explored.p[i]).max() < 1e-6


def test_contributions_come_near_the_shapley_values(explored):
    "With four features that differ, all orders can be taken."
    from itertools import permutations

    x, ask = explored.X[explored.split.test[0]], explored.classifier.probabilities
    usual = np.median(explored.X[explored.split.train], axis=0)
    largest = np.argsort(-np.abs(contributions(ask, x, usual)).max(1))[:4]
    few, exact = usual.copy(), np.zeros((len(x), 8))
    few[largest] = x[largest]
    for order in permutations(largest):
        rows = np.stack([np.where(np.isin(np.arange(len(x)), order[:k]), few, usual) for k in range(5)])
        exact[list(order)] += np.diff(ask(rows), axis=0) / 24
    assert np.abs(contributions(ask, few, usual, pairs=200) - exact).max() < 0.01


def test_other_columns_are_refused(finished, tiny_columns, tmp_path):
    other = save_dataset(Dataset(tiny_columns[:-1]), tmp_path / "other")
    with pytest.raises(ExploreError, match="was trained on other columns than these 239.*data_path"):
        explore_run(finished.run, other)


# Without a browser


def headless(output, source=None, **parameters):
    "Run the notebook as papermill does, in the folder of its output; the executed one."
    papermill.execute_notebook(source or pipeline_path("explore"), output, parameters, kernel_name="python3",
                               progress_bar=False, cwd=output.parent)
    return nbformat.read(output, 4)


def shown(notebook):
    return json.dumps([c.get("outputs", []) for c in notebook.cells])


def test_headless_on_a_run_with_clicks_and_no_cell_in_the_notebook(finished, explored, tmp_path):
    counts = confusion(explored)
    label, answer = next((i, j) for i in counts for j in counts if i != j and counts.loc[i, j])
    source = nbformat.read(pipeline_path("explore"), 4)
    for cell in source.cells: # and click, as somebody would
        cell.source = cell.source.replace("explore.Desk(explored, feedback_path, show_cells).page",
            "desk = explore.Desk(explored, feedback_path, show_cells)\ndisplay(desk.page)\n"
            f"desk.matrix.buttons[{label!r}, {answer!r}].click()\nprint('listed', len(desk.listed.options))")
    nbformat.write(source, tmp_path / "clicked.ipynb")
    made = headless(tmp_path / "out.ipynb", tmp_path / "clicked.ipynb", run_path=str(finished.run),
                    data_path=str(finished.data), show_cells=True)
    said = shown(made)
    assert f"listed {counts.loc[label, answer]}" in said and "image/png" in said and "Model 1.0.0" in said
    state = json.dumps(made.metadata.widgets)
    assert "Features that spoke most" in state and "Nearest training columns" in state
    assert files_holding(tmp_path) == files_holding(tmp_path, HEADER) == []


def test_headless_without_a_run(tmp_path):
    said = shown(headless(tmp_path / "out.ipynb"))
    assert "there is no finished run" in said and "Model made-up" in said and "image/png" in said
    assert [o.name for o in tmp_path.iterdir()] == ["out.ipynb"]


def test_headless_refuses_what_it_does_not_take(finished, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="no parameter data_pth"):
        headless(tmp_path / "out.ipynb", run_path=str(finished.run), data_pth="x")


# In a browser


def free_port():
    with socket.socket() as o:
        o.bind(("127.0.0.1", 0))
        return o.getsockname()[1]


@pytest.fixture
def lab(finished, tmp_path):
    "JupyterLab on a folder with the notebook, told to save the state of widgets; the URL of the notebook."
    home, desk = tmp_path / "home", tmp_path / "desk"
    for plugin, wish in SETTINGS.items():
        settings = home / "lab/user-settings" / f"{plugin}.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(wish))
    desk.mkdir()
    notebook = nbformat.read(pipeline_path("explore"), 4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    cell.source = f"run_path, data_path = {str(finished.run)!r}, {str(finished.data)!r}\n" \
                  f"feedback_path, show_cells = {str(tmp_path / 'feedback')!r}, True"
    nbformat.write(notebook, desk / "explore.ipynb")
    port, places = free_port(), {f"JUPYTER_{o}_DIR": str(home) for o in ("CONFIG", "DATA", "RUNTIME")}
    command = [BIN / "jupyter-lab", "--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=open",
               f"--ServerApp.root_dir={desk}", "--ServerApp.log_level=ERROR"]
    with open(tmp_path / "lab.log", "wb") as log:
        server = subprocess.Popen(command, cwd=desk, env=os.environ | places, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token=open", server, tmp_path / "lab.log")
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}/lab/tree/explore.ipynb?token=open", folder=desk,
                              feedback=tmp_path / "feedback")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def wait_for(url, server, log, seconds=40):
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(url).status_code == 200: return
        except httpx.TransportError: time.sleep(.2)
    raise AssertionError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


def test_click_list_and_correct_in_jupyterlab(lab, page, explored, tmp_path):
    counts = confusion(explored)
    label, answer = next((i, j) for i in counts for j in counts if i != j and counts.loc[i, j])
    page.goto(lab.url)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=40_000) # sooner, it asks for a kernel
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    cell = page.get_by_title(f"{counts.loc[label, answer]} columns of {label} are taken for {answer}")
    cell.click(timeout=60_000)
    page.get_by_text(f"{counts.loc[label, answer]} of {label} taken for {answer}").wait_for()
    page.get_by_text("Features that spoke most").wait_for()
    page.get_by_text(HEADER).first.wait_for()
    assert page.get_by_text(CANARY).count() and page.locator("select[size] option").count() == counts.loc[label, answer]
    page.get_by_role("button", name="Save correction").click()
    page.get_by_text(f"is labelled {label}: say another").wait_for()
    page.get_by_label("It is").select_option(answer)
    page.get_by_role("button", name="Save correction").click()
    page.get_by_text("1 wait for a review").wait_for()
    cell.evaluate("o => o.scrollIntoView()")
    page.screenshot(path=tmp_path / "explore.png")
    assert [o.label for o in open_feedback(lab.feedback).columns("pending")] == [answer]
    saved = lab.folder / "explore.ipynb"
    before = saved.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    until = time.monotonic() + 20
    while saved.stat().st_mtime_ns == before and time.monotonic() < until: time.sleep(.2)
    assert "Nearest training columns" in saved.read_text("utf-8") # the state of the widgets is there
    assert files_holding(lab.folder) == files_holding(lab.folder, HEADER) == []
