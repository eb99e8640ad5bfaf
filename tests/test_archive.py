"""The archive of runs: what is read from real and broken folders, the page in a browser, two runs side by side,
and what is never removed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import BROWSER, CANARY, files_holding

from datacloak_nb import runs
from datacloak_nb.archive import read
from datacloak_nb.archive.command import main
from datacloak_nb.archive.pages import compare_runs, save_answers, write_index
from datacloak_nb.archive.read import ArchiveError, find_run, list_runs, read_run, remove_runs
from datacloak_nb.evaluation.metrics import evaluate, save_metrics
from datacloak_nb.files import write_text
from datacloak_nb.labels import LABELS
from datacloak_nb.store import Store

NOW = datetime(2026, 6, 30, tzinfo=UTC)


def notebook(folder, pipeline, days, statuses=("completed",), error=None, **parameters):
    "An executed notebook as papermill leaves it, begun `days` ago."
    began = NOW - timedelta(days=days)
    told = dict(input_path=f"nbs/{pipeline}.ipynb", parameters=parameters, exception=bool(error),
                start_time=began.isoformat(), duration=540.0, end_time=(began + timedelta(minutes=9)).isoformat())
    outputs = [dict(output_type="error", ename=error[0], evalue=error[1], traceback=[])] if error else []
    cells = [dict(cell_type="code", source="", outputs=outputs, metadata=dict(papermill=dict(status=o)))
             for o in statuses]
    write_text(folder / f"{pipeline}.ipynb", json.dumps(dict(cells=cells, metadata=dict(papermill=told))))
    return folder


def answers(folder, share, ids="c{}", rows=400):
    "Leave metrics and answers of a model that is right on about this share of the columns, the easiest ones."
    rng = np.random.default_rng(0)
    y, tables = rng.integers(0, 8, rows), rng.integers(0, 80, rows)
    said = np.where(rng.random(rows) < share, y, (y + 1) % 8)
    p = np.full((rows, 8), .02) + .84 * np.eye(8)[said]
    save_metrics(dict(rf=evaluate(y, p, groups=tables)), folder / "metrics.json")
    save_answers(folder / "answers.csv", [ids.format(i) for i in range(rows)], tables, y, dict(rf=p), LABELS)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A folder with runs of many kinds, and what is none."
    folder = tmp_path_factory.mktemp("made") / "runs"
    write_text(folder / "README.md", "no run")
    (folder / "empty").mkdir()
    answers(notebook(folder / "a-train", "train", 9, model_type="rf"), .80)
    answers(notebook(folder / "b-train", "train", 8, model_type="all"), .95)
    notebook(folder / "c-train", "train", 7, ["completed", "failed", "pending"], ("QualityError", "7 errors <b>"))
    notebook(folder / "d-train", "train", 6, ["completed", "running"])
    notebook(folder / "e-train", "train", 5, ["failed"], ("KeyboardInterrupt", ""))
    write_text(notebook(folder / "f-monitor", "monitor", 4, log="postgresql://a:hush@db/x") / "drift.json",
               '{"answer": "drift"}')
    write_text(notebook(folder / "g-retrain", "retrain", 3) / "decision.json", '{"promote": false}')
    answers(folder / "g-retrain" / "challenger", .9)
    best = dict(protocol="official test", model="gb", accuracy=.9, macro_f1=.8, intervals=dict(accuracy=[.8, .95]))
    write_text(notebook(folder / "h-benchmark", "benchmark", 2) / "benchmark.json",
               json.dumps(dict(picked="gb", results=[best])))
    return folder


@pytest.fixture
def kept(made, tmp_path):
    "A copy of it."
    return shutil.copytree(made, tmp_path / "runs")


def test_how_each_run_ended_and_what_it_found(kept):
    found = {o.name[0]: o for o in list_runs(kept)}
    assert list(found) == list("hgfedcba")
    assert {k: o.state for k, o in found.items() if o.state != "finished"} == dict(
        c="failed", d="interrupted", e="interrupted")
    assert [found[o].outcome for o in "fg"] == ["drift", "champion stays"]
    assert found["c"].problem == "QualityError: 7 errors <b>" and found["h"].figures["accuracy"] == (.9, .8, .95)
    assert found["g"].test.accuracy == pytest.approx(.9, abs=.05) and found["a"].seconds == 540


def test_a_notebook_beside_its_folder_tells_of_the_run(kept):
    for name, output_dir in (("out", "runs/b-train"), ("data", None), ("odd", 7), ("other", "elsewhere/b-train")):
        told = notebook(kept / name, "train", 1, output_dir=output_dir) / "train.ipynb"
        os.replace(told, kept / f"{name}.ipynb")
    (kept / "b-train" / "train.ipynb").unlink()
    run = read_run(kept / "b-train")
    assert (run.state, run.pipeline, run.notebook, run.seconds) == ("finished", "train", "out.ipynb", 540)
    assert run == next(o for o in list_runs(kept) if o.name == run.name)
    page = write_index(kept).read_text()
    assert 'href="out.ipynb"' in page and 'href="a-train/train.ipynb"' in page


@pytest.mark.parametrize("name", ["train.ipynb", "metrics.json", "answers.csv", "splits.json", "decision.json",
                                  "drift.json", "benchmark.json", "models/x_v1/model_config.yaml"])
def test_a_broken_file_breaks_no_page(kept, name):
    path = kept / "b-train" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(kept / "b-train" / "config.yaml", "")
    odd = b'{"metadata": 1, "results": [{}], "hash": [], "cells": [{}], "model_metadata": 1}'
    for content in (b"", b"{", b"[1]", b"\xff\xfe\x00", b"a: [\n\t", odd):
        path.write_bytes(content)
        page = write_index(kept).read_text()
        assert page.count("<tr>") == 9 and "b-train" in page


def test_page_escapes_loads_nothing_and_tells_no_password(kept):
    notebook(kept / "<img src=x onerror=alert(1)>&'", "train", 1, data_path='"><script>alert(2)</script>')
    page = write_index(kept).read_text()
    assert "<img" not in page and page.count("<script") == 1 and "hush" not in page and "a:***@db" in page
    assert re.findall(r"https?://|@import|<link", page) == [] and "7 errors &lt;b&gt;" in page


def test_page_of_others_is_not_written_over(kept, capsys):
    write_text(kept / "index.html", "mine")
    assert main(["--runs", str(kept), "list"]) == 1 and (kept / "index.html").read_text() == "mine"
    assert "is not a page of datacloak-runs" in capsys.readouterr().err


def dump(page, folder):
    "The page after its scripts, as a browser has it."
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}",
               "--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium to show the page")
def test_page_is_sorted_by_a_click(kept, tmp_path):
    page = write_index(kept)
    click = '<script>const at = [...document.querySelectorAll("th")].findIndex(o => o.textContent == "Accuracy"); ' \
            'document.querySelectorAll("th button")[at].click()</script></body>'
    clicked = write_text(tmp_path / "clicked.html", page.read_text().replace("</body>", click))
    order = re.findall(r'<td class="name">\s*(\w)-', dump(clicked, tmp_path / "profile"))
    figures = {o.name[0]: o.figures["accuracy"][0] for o in list_runs(kept) if o.figures}
    assert order[:4] == sorted(figures, key=lambda k: -figures[k]) and len(order) == 8


def test_same_columns_are_compared_in_pairs(kept):
    found = compare_runs(find_run("a-train", kept), find_run("b-train", kept))
    row = found.table.loc["accuracy"]
    assert "the same 400 test columns" in found.how and row.low > 0 and row.difference == pytest.approx(.15, abs=.05)
    assert [o.sum() for o in found.confusions] == [400, 400]


def test_other_columns_are_compared_apart_and_less_sharply(kept):
    pair = find_run("a-train", kept), find_run("b-train", kept)
    paired = compare_runs(*pair).table.loc["accuracy"]
    answers(kept / "b-train", .95, ids="other{}")
    apart = compare_runs(*pair)
    row = apart.table.loc["accuracy"]
    assert apart.how.startswith("Not paired") and row.difference == pytest.approx(paired.difference)
    assert row.high - row.low > paired.high - paired.low


def test_retraining_is_compared_by_its_challenger(kept):
    assert "the same 400" in compare_runs(find_run("a-train", kept), find_run("g-retrain", kept)).how


def test_narrow_terminal_cuts_nothing(kept, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["--runs", str(kept), "list"]) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed and "h-benchmark" in printed and "champion stays" in printed


def test_changed_truths_are_not_compared(kept):
    path = kept / "b-train" / "answers.csv"
    head, *lines = path.read_text().splitlines()
    cells = [o.split(",") for o in lines]
    for o in cells[:100]: o[2] = LABELS[(LABELS.index(o[2]) + 1) % 8]
    write_text(path, "\n".join([head, *map(",".join, cells)]) + "\n")
    assert "the same 300" in compare_runs(find_run("a-train", kept), find_run("b-train", kept)).how


def test_compare_by_command(kept, tmp_path, capsys):
    compare = ["--runs", str(kept), "compare"]
    assert main([*compare, "a-", str(kept / "b-train"), "--output", str(tmp_path / "o.html")]) == 0
    assert "F1 of categorical" in capsys.readouterr().out
    page = (tmp_path / "o.html").read_text()
    assert page.count("data:image/png;base64") == 2 and "http" not in page and "a-train" in page
    assert main([*compare, "a-", "f-"]) == 1
    assert "has no metrics" in capsys.readouterr().err


def test_open(kept, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    write_text(kept / "a-train" / "report.html", "report")
    for name in (["a-"], ["b-"], []): assert main(["--runs", str(kept), "open", *name]) == 0
    assert opened == [(kept / o).as_uri() for o in ("a-train/report.html", "index.html")]
    assert "There is no report in" in capsys.readouterr().out


# Removing


def names(folder):
    return sorted(o.name[0] for o in list_runs(folder))


def test_prune_asks_first_and_takes_options_together(kept, monkeypatch, capsys):
    prune = ["--runs", str(kept), "prune"]
    assert main(prune) == 1 and main([*prune, "--keep", "-1", "--yes"]) == 1
    assert main([*prune, "--interrupted", "--dry-run"]) == 0
    monkeypatch.setattr("builtins.input", lambda text: "n")
    assert main([*prune, "--interrupted"]) == 0 and names(kept) == list("abcdefgh")
    monkeypatch.setattr("builtins.input", lambda text: "y")
    assert main([*prune, "--interrupted", "--keep", "4"]) == 0 and names(kept) == list("abcefgh")
    assert main([*prune, "--keep", "2", "--yes"]) == 0 and names(kept) == ["g", "h"]
    assert (kept / "README.md").is_file() and (kept / "empty").is_dir() and not list(kept.glob(".removed*"))


def test_the_bundle_in_use_is_kept(kept, bundles, unverified, tmp_path, monkeypatch):
    shutil.copytree(bundles["1.0.0"], kept / "a-train" / "models" / bundles["1.0.0"].name)
    store = Store(tmp_path / "store")
    store.add(bundles["1.0.0"], "first", metrics=dict(accuracy=.9))
    store.promote("1.0.0", "first", "there is none")
    monkeypatch.setenv("DATACLOAK_STORE", str(tmp_path / "store"))
    assert main(["--runs", str(kept), "prune", "--keep", "0", "--yes"]) == 0 and names(kept) == ["a"]


def test_nothing_is_removed_for_a_misspelt_store(kept, tmp_path, capsys):
    prune = ["--runs", str(kept), "prune", "--keep", "0", "--yes", "--store"]
    assert main([*prune, str(tmp_path / "strore")]) == 1
    assert len(names(kept)) == 8 and "nothing is in use in the store" in capsys.readouterr().err
    assert main([*prune, ""]) == 0 and names(kept) == []


def test_links_and_strangers_are_not_removed(kept, tmp_path):
    outside = notebook(tmp_path / "outside", "train", 30)
    os.symlink(outside, kept / "z-train")
    with pytest.raises(ArchiveError): remove_runs([read_run(kept / "z-train")], kept)
    with pytest.raises(ArchiveError): remove_runs([read_run(outside)], kept)
    assert (outside / "train.ipynb").is_file() and len(names(kept)) == 9


def test_a_removal_that_was_stopped_is_finished_the_next_time(kept, monkeypatch):
    def stop(path): raise KeyboardInterrupt

    monkeypatch.setattr(read.shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt): remove_runs([find_run("a-", kept)], kept)
    assert "a" not in names(kept) and list(kept.glob(".removed-*"))
    monkeypatch.undo()
    remove_runs([], kept)
    assert not list(kept.glob(".removed-*"))


# Real runs

CODE = "import sys; from datacloak_nb.archive.command import train; sys.exit(train(sys.argv[1:]))"


@pytest.fixture
def project(tmp_path):
    "The folder of a project, so that runs get a place in it."
    write_text(tmp_path / "settings.ini", "")
    return tmp_path


def start(project, data):
    return subprocess.Popen([sys.executable, "-c", CODE, "--data-path", data], cwd=project, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True)


def test_failed_run_enters_the_page(project):
    process = start(project, project / "none")
    printed = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 1, printed
    run, = list_runs(project / "runs")
    page = (project / "runs" / "index.html").read_text()
    assert run.state == "failed" and "DatasetError" in run.problem and f"{run.name}/report.html" in page
    assert runs.start_run(run.folder) == run.folder


def test_killed_run_is_at_work_until_it_is_killed(project, canary_dataset):
    process, deadline, found = start(project, canary_dataset), time.monotonic() + 60, []
    while not found and time.monotonic() < deadline:
        time.sleep(.2)
        found = [o for o in list_runs(project / "runs") if o.parameters]
    states = [o.state for o in found]
    assert main(["--runs", str(project / "runs"), "prune", "--keep", "0", "--yes"]) == 0
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    states += [o.state for o in list_runs(project / "runs")]
    assert states == ["running", "interrupted"]
    write_index(project / "runs")
    assert files_holding(project, CANARY) == []
    assert main(["--runs", str(project / "runs"), "prune", "--interrupted", "--yes"]) == 0
    assert list_runs(project / "runs") == [] and Path(project / "runs" / "index.html").is_file()
