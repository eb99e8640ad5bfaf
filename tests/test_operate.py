"""The story of a model's life, run once on a small scale: each of its steps is on disk, and no cell is."""

import json
import re
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from datacloak_nb.config import load_config, save_config
from datacloak_nb.dataset import load_dataset
from datacloak_nb.monitoring.alerts import read_alerts
from datacloak_nb.monitoring.feedback import open_feedback
from datacloak_nb.monitoring.log import open_log
from datacloak_nb.retraining import FrozenSet, read_decision
from datacloak_nb.runs import run_pipeline, start_run
from datacloak_nb.store import Store, verify_store

SMALL = dict(
    models__model_type="rf", models__random_forest__n_estimators=40, models__random_forest__search__strategy="none",
    data__augmentation=False, evaluation__cross_validation_folds=2, evaluation__min_accuracy_threshold=0.5,
    export__oldest_onnx_runtime="", export__tree_shares=[], monitoring__alerts__channels=["file"],
    retraining__rule="no_worse", retraining__margin=0.06, retraining__class_tolerance=0.15,
    retraining__least_tables=40)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    "The folder that the story leaves, and the versions in it."
    folder = tmp_path_factory.mktemp("story")
    config = str(save_config(load_config(**SMALL), folder / "rules.yaml"))
    run = start_run(folder / "run")
    assert run_pipeline("operate", run, config=config, first_tables=250, tables_a_day=16)
    store = Store(run / "store")
    return SimpleNamespace(run=run, store=store, versions=[o.version for o in store.ledger() if o.action == "add"])


def test_ledger_tells_who_was_promoted_and_who_went_back(story):
    one, two, three = story.versions
    told = [(o.action, o.version, o.rule) for o in story.store.ledger()]
    assert told == [("add", one, ""), ("promote", one, "first"), ("add", two, ""), ("promote", two, "no_worse"),
                    ("add", three, ""), ("promote", three, "by hand"), ("rollback", two, "")]
    assert story.store.current == two and [o.problem for o in verify_store(story.run / "store")] == [""] * 4
    assert "accuracy fell by" in story.store.ledger()[-1].reason


def test_alarms_come_after_the_drift_and_after_the_wrong_promotion(story):
    one, _, three = story.versions
    alarms = [o for o in read_alerts(story.run / "alerts.jsonl") if o.kind == "drift"]
    assert [(o.model_version, o.severity, f"{o.time:%m-%d}") for o in alarms] == [
        (one, "critical", "03-16"), (three, "critical", "03-30")]
    page, told = story.run / "monitor" / "report.html", json.loads((story.run / "monitor" / "drift.json").read_text())
    assert told["answer"] == "drift" and told["accuracy"]["fall_low"] > 0 and "Drift" in page.read_text("utf-8")


def test_each_version_answered_in_its_weeks(story):
    with open_log(story.run / "log.db") as log:
        rows = log.window().rows
    weeks = (rows.time - rows.time.min()).dt.days // 7
    first, then, hand = story.versions
    said = rows.groupby(weeks).model_version.unique().map(list).to_dict()
    assert said == {i: [first] for i in range(10)} | {10: [then], 11: [hand], 12: [then]}
    assert 0.4 < rows.truth.notna().mean() < 0.6 and rows.header.isna().all()


def test_feedback_leaves_out_what_was_rejected(story):
    feedback, made = open_feedback(story.run / "feedback"), load_dataset(story.run / "data" / "corrected", whole=False)
    rejected = {o.id for o in feedback.columns("rejected")}
    assert len(rejected) == 3 and not feedback.columns("pending")
    assert {o.id for o in made.columns} == {o.id for o in feedback.columns("accepted")}


def test_decision_rests_on_columns_that_nobody_learnt_from(story):
    one, two, _ = story.versions
    decision = read_decision(story.run / "retrain" / "decision.json")
    assert (decision.promote, decision.champion, decision.challenger, decision.rule) == (True, one, two, "no_worse")
    frozen = FrozenSet(**json.loads(story.store.evidence(two, "frozen.json")))
    sides = {o["id"]: o["side"] for o in json.loads(story.store.evidence(one, "splits.json"))["columns"]}
    assert {sides[o] for o in frozen.ids} == {"test"} and decision.frozen.columns == len(frozen.ids)
    assert decision.newest.overall["accuracy"].difference > 0.03
    assert json.loads(story.store.evidence(two, "decision.json")) == json.loads(decision.model_dump_json())


def test_page_tells_all_of_it_and_loads_nothing(story):
    page = (story.run / "report.html").read_text("utf-8")
    for said in (*story.versions, "Week 10: <strong>drift", "by hand", "rollback", "Promote"):
        assert said in page
    assert page.count('src="data:image/png') == 4
    assert re.findall(r"""(?:src|href|url|import)\s*[=(]?\s*["']?\s*(?:https?:)?//[^"'\s>]+""", page) == []


def unmistakable(run):
    "Cells of the tables that nothing else can hold: hashes, long ids and addresses of people."
    tables = [pq.read_table(o) for o in sorted((run / "tables").glob("*.parquet"))]
    cells = {o for table in tables for column in table.columns for o in column.to_pylist() if o}
    return [o.strip('" ') for o in sorted(cells) if re.fullmatch(r"[0-9a-f-]{32,64}|\w+@[\w.-]+\.\w+", o.strip('" '))]


def test_no_cell_is_kept_outside_of_the_data(story):
    marks = set(unmistakable(story.run))
    assert len(marks) > 500
    private = {"tables", "data", "feedback", "corrections.csv"}
    kept = [o for o in story.run.rglob("*") if o.is_file() and o.relative_to(story.run).parts[0] not in private]
    assert {"log.db", "operate.ipynb", "report.html", "alerts.jsonl"} <= {o.name for o in kept}
    pattern = re.compile(rb"[0-9a-f-]{32,64}|\w+@[\w.-]+\.\w+")
    assert [o.name for o in kept if any(m.decode() in marks for m in pattern.findall(o.read_bytes()))] == []
