"""Feedback: corrections wait, are reviewed and leave as a dataset; whatever is wrong adds nothing and shows no cell."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
from conftest import CANARY, files_holding

from datacloak_nb.config import load_config
from datacloak_nb.dataset import load_dataset
from datacloak_nb.features.extract import extract, extract_frame
from datacloak_nb.labels import LABELS
from datacloak_nb.monitoring.feedback import (
    FeedbackError, add_columns, corrected_columns, export_accepted, main, open_feedback, read_corrections, review)
from datacloak_nb.monitoring.log import open_log
from datacloak_nb.quality import check_quality

HEAD = "table_path,column,label"


@pytest.fixture
def desk(tmp_path):
    "A folder with two tables, one as CSV and one as Parquet."
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(dict(
        note=[f"{CANARY} number {i} said that the tea was rather good." for i in range(40)],
        price=rng.normal(9, 2, 40).round(2), mark=rng.choice(["yes", "no"], 40)))
    frame.to_csv(tmp_path / "visits.csv", index=False)
    days = pd.date_range("2026-01-01", periods=40)
    frame.assign(price=frame.price + 1, day=days).to_parquet(tmp_path / "trips.parquet")
    return tmp_path


def corrections(desk, *rows, head=HEAD):
    path = desk / "corrections.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return str(path)


def run(capsys, *argv):
    "Exit code and what was said."
    code = main([str(o) for o in argv])
    return code, "".join(capsys.readouterr())


ROWS = ("visits.csv,note,text_long", "visits.csv,price,numeric", "visits.csv,mark,boolean",
        "trips.parquet,price,numeric")


def test_from_a_csv_to_a_dataset_and_to_the_log(desk, capsys):
    folder, log = desk / "feedback", desk / "predictions.db"
    X = extract_frame(pd.read_csv(desk / "visits.csv"))
    with open_log(log) as opened:
        opened.add(X, np.full((3, 8), 1 / 8), LABELS, "1.2.0")
    assert run(capsys, "add", folder, corrections(desk, *ROWS)) == (0, "4 new, 4 wait for a review\n")
    columns = open_feedback(folder).columns("pending")
    accept, reject = [o.id for o in columns if o.label != "boolean"], [o.id for o in columns if o.label == "boolean"]
    code, said = run(capsys, "review", folder, "--accept", *accept, "--reject", *reject)
    assert code == 0 and (said.count("accepted"), said.count("rejected"), CANARY in said) == (3, 1, False)
    assert run(capsys, "export", folder, desk / "new", "--truths", log) == (
        0, "3 columns exported, 2 predictions have a truth now\n")
    made = load_dataset(desk / "new")
    assert sorted(o.label for o in made.columns) == ["numeric", "numeric", "text_long"]
    assert len({o.table for o in made.columns}) == 2 and {o.source for o in made.columns} == {"feedback"}
    assert made.metadata.version == "1.1"
    with open_log(log) as opened:
        assert opened.window().rows.truth.fillna("").tolist() == ["text_long", "numeric", ""]


def test_the_features_are_those_of_production(desk):
    made = corrected_columns(read_corrections(corrections(desk, *ROWS[:3])), bytes(32))
    assert (extract([o.column for o in made]) == extract_frame(pd.read_csv(desk / "visits.csv"))).all()


def test_from_the_log(desk, capsys):
    log, tables = desk / "predictions.db", [desk / "visits.csv", desk / "trips.parquet"]
    with open_log(log) as opened:
        keys = opened.add(extract_frame(pd.read_csv(tables[0])), np.full((3, 8), 1 / 8), LABELS, "1.2.0")
        opened.label([keys[0], keys[2]], ["text_long", "boolean"])
    assert run(capsys, "from-log", desk / "f", log, *tables) == (0, "2 new, 2 wait for a review\n")
    assert run(capsys, "from-log", desk / "f", log, *tables) == (0, "0 new, 2 wait for a review\n")
    assert {o.label: o.column.header for o in open_feedback(desk / "f").columns()} == dict(
        text_long="note", boolean="mark")
    (desk / "other.csv").write_text("n\n1\n2\n")
    code, said = run(capsys, "from-log", desk / "f", log, desk / "other.csv")
    assert code == 2 and "no column of these tables has a truth" in said


def test_a_table_with_semicolons_is_found_in_the_log(desk, capsys):
    frame = pd.read_csv(desk / "visits.csv")
    frame.to_csv(desk / "german.csv", sep=";", index=False, encoding="utf-8-sig")
    with open_log(desk / "predictions.db") as opened:
        keys = opened.add(extract_frame(frame), np.full((3, 8), 1 / 8), LABELS, "1.2.0")
        opened.label(keys, ["text_long", "numeric", "boolean"])
    assert run(capsys, "from-log", desk / "f", desk / "predictions.db", desk / "german.csv") == (
        0, "3 new, 3 wait for a review\n")
    assert all(o in run(capsys, "review", desk / "f")[1] for o in ("note", "price", "mark"))


def test_a_dataset_of_feedback_passes_the_gates_that_stop_a_run(desk):
    feedback = open_feedback(desk / "f")
    add_columns(feedback, corrected_columns(read_corrections(corrections(desk, *ROWS)), feedback.key))
    review(feedback, accept=[o.id for o in feedback.columns()])
    export_accepted(feedback, desk / "new")
    found = check_quality(load_dataset(desk / "new"), load_config())
    assert {o.gate for o in found if o.severity == "error"} <= {"folds"}


@pytest.mark.parametrize("head, rows, message", [
    (HEAD, ["visits.csv,note,prose"], "row 1 has no known label"),
    (HEAD, [ROWS[0], "visits.csv,note,text_short"], "row 2 names a column that came before"),
    (HEAD, [ROWS[0], ROWS[0]], "row 2 names a column that came before"),
    (HEAD, [f"visits.csv,{CANARY},numeric"], "row 1 names a column that its table has not"),
    (HEAD, [f"{CANARY}.csv,note,numeric"], "the table of row 1 cannot be read: FileNotFoundError"),
    (HEAD, [f"visits.{CANARY},note,numeric"], "the table of row 1 is no file that can be read; expected .csv, .tsv"),
    (f"{HEAD},note", [f"visits.csv,note,text_long,{CANARY}"], "has other columns"),
    (f"{HEAD},alt", ["visits.csv,note,text_long,text_long"], "row 1 has a wrong alt"),
    (f"{HEAD},language", [f"visits.csv,note,text_long,{CANARY}"], "row 1 has a wrong language"),
    (HEAD, [f"visits.csv,note,text_long,{CANARY}"], "row 1 of corrections.csv has 4 cells; expected 3"),
    ("table_path,label", ["visits.csv,numeric"], "has other columns"),
])
def test_what_is_wrong_adds_nothing_and_shows_no_cell(desk, capsys, head, rows, message):
    code, said = run(capsys, "add", desk / "f", corrections(desk, *rows, head=head))
    assert code == 2 and message in said and CANARY not in said
    assert open_feedback(desk / "f").columns() == []


def test_a_broken_table_shows_no_cell(desk, capsys):
    (desk / "broken.csv").write_text(f'a,b\n1,2\n"{CANARY},3,4,5\n')
    (desk / "broken.parquet").write_text(CANARY)
    for name in "broken.csv", "broken.parquet":
        code, said = run(capsys, "add", desk / "f", corrections(desk, f"{name},a,numeric"))
        assert code == 2 and "the table of row 1 cannot be read" in said and CANARY not in said


def test_a_contradiction_waits_for_a_rejection(desk, capsys):
    folder = desk / "f"
    run(capsys, "add", folder, corrections(desk, ROWS[0]))
    other = corrections(desk, "visits.csv,note,text_short", ROWS[1])
    code, said = run(capsys, "add", folder, other)
    assert code == 2 and "row 1 contradicts" in said and len(open_feedback(folder).columns()) == 1
    run(capsys, "review", folder, "--reject", open_feedback(folder).columns()[0].id)
    assert run(capsys, "add", folder, other) == (0, "2 new, 2 wait for a review\n")


def test_ids_tell_neither_paths_nor_headers_and_depend_on_the_key(desk):
    asked = read_corrections(corrections(desk, *ROWS))
    one, same, other = (corrected_columns(asked, key) for key in (bytes(32), bytes(32), b"1" * 32))
    assert [(o.id, o.table) for o in one] == [(o.id, o.table) for o in same]
    assert not {o.id for o in one} & {o.id for o in other} and not {o.table for o in one} & {o.table for o in other}


def test_reviews_and_keys_hold_no_cell_and_strangers_may_not_enter(desk, capsys):
    folder = desk / "f"
    run(capsys, "add", folder, corrections(desk, *ROWS))
    run(capsys, "review", folder, "--accept", *(o.id for o in open_feedback(folder).columns()))
    assert files_holding(folder / "reviews") == [] and (folder / "key").stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0
    (folder / "key").unlink()
    with pytest.raises(FeedbackError, match="lacks its key"):
        open_feedback(folder)


@pytest.mark.parametrize("argv", [["review"], ["export", "new"]])
def test_a_misspelt_folder_is_not_made(desk, capsys, argv):
    code, said = run(capsys, argv[0], desk / "fedback", *argv[1:])
    assert code == 2 and "no corrections in fedback" in said and not (desk / "fedback").exists()


# Processes


def _add(desk, i, start):
    start.wait()
    feedback = open_feedback(desk / "f")
    asked = read_corrections(desk / f"c{i}.csv")
    add_columns(feedback, corrected_columns(asked, feedback.key))


def test_processes_that_add_at_once_lose_nothing(desk):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    for i, row in enumerate(ROWS):
        (desk / f"c{i}.csv").write_text(f"{HEAD}\n{row}\n")
    processes = [context.Process(target=_add, args=(desk, i, start)) for i in range(4)]
    for o in processes:
        o.start()
    for o in processes:
        o.join(30)
    assert [o.exitcode for o in processes] == [0] * 4 and len(open_feedback(desk / "f").columns()) == 4


def _add_forever(desk):
    feedback = open_feedback(desk / "f")
    frame = pd.read_csv(desk / "visits.csv")
    for i in range(10_000):
        frame.assign(price=frame.price + i).to_csv(desk / "more.csv", index=False)
        (desk / "more_c.csv").write_text(f"{HEAD}\nmore.csv,price,numeric\n")
        add_columns(feedback, corrected_columns(read_corrections(desk / "more_c.csv"), feedback.key))
        review(feedback, accept=[feedback.columns()[-1].id])


def test_a_killed_process_leaves_whole_batches(desk):
    context, seen = multiprocessing.get_context("fork"), 0
    for i in range(15):
        process = context.Process(target=_add_forever, args=(desk,))
        process.start()
        time.sleep(.08 + .013 * i)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        columns = open_feedback(desk / "f").columns()
        assert len(columns) >= seen and all(len(o.column) == 40 for o in columns)
        seen = len(columns)
    assert seen and set(open_feedback(desk / "f").states()) <= {o.id for o in columns}
