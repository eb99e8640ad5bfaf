"""The page of a model in production: what it tells, whom, and what it refuses."""

import json
import re
from datetime import UTC, datetime, timedelta

import nbformat
import numpy as np
import pytest

from datacloak_nb.config import load_config, save_config
from datacloak_nb.deploy.bundle import seal
from datacloak_nb.labels import LABELS
from datacloak_nb.monitoring.alerts import read_alerts
from datacloak_nb.monitoring.drift import DRIFT, STEADY, DriftReport
from datacloak_nb.monitoring.log import open_log
from datacloak_nb.monitoring.reference import make_reference, write_reference
from datacloak_nb.runs import run_pipeline

NOW = datetime(2026, 6, 29, tzinfo=UTC)


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    "A bundle, and a log of eight weeks; in the last one the features are others and every third answer is wrong."
    folder, rng = tmp_path_factory.mktemp("production"), np.random.default_rng(0)
    draw = lambda n: (rng.normal(size=(n, 376)), rng.dirichlet(np.full(8, .1), n))
    truth = lambda p: np.array([rng.choice(8, p=o / o.sum()) for o in p])
    X, p = draw(1500)
    reference = make_reference(X, p, truth(p), LABELS, np.arange(1500) // 10, "1.2.0")
    bundle = folder / "column_classifier_v1.2.0"
    bundle.mkdir()
    (bundle / "column_classifier_v1.2.0.onnx").write_bytes(b"of no matter here")
    write_reference(reference, bundle / "reference.json")
    seal(bundle)
    with open_log(folder / "log.db") as log:
        for table in range(56 * 10):
            week, (X, p) = table // 70, draw(10)
            keys = log.add(X + 2 * (week == 7), p, LABELS, "1.2.0", reference, NOW - timedelta(days=56 - table / 10))
            answers = truth(p) if week < 7 or table % 3 else (p.argmax(1) + 1) % 8
            log.label(keys[:5], np.take(LABELS, answers[:5]))
    return folder


def monitor(production, name, **parameters):
    "Run the pipeline; whether it ended, and its folder."
    run, config = production / name, production / f"{name}.yaml"
    run.mkdir()
    save_config(load_config(monitoring=dict(alerts=dict(channels=["file"]))), config)
    parameters = dict(log=str(production / "log.db"), config=str(config)) | parameters
    return run_pipeline("monitor", run, **parameters), run


def test_page_of_a_drift(production):
    ran, run = monitor(production, "drifted", bundle=str(production), now="2026-06-29T00:00Z")
    report = DriftReport.model_validate_json((run / "drift.json").read_bytes())
    assert ran and report.answer == report.accuracy.answer == DRIFT and report.drifted == 1 and report.n == 700
    page = (run / "report.html").read_text("utf-8")
    assert page.count("data:image/png") >= 4 and "accuracy fell by" in page and "datacloak-retrain" in page
    assert re.findall(r"""(?:src|href|url|import)\s*[=(]?\s*["']?\s*(?:https?:)?//[^"'\s>]+""", page) == []
    assert [o.severity for o in read_alerts(production / "alerts.jsonl")] == ["critical"]


def test_page_of_a_steady_week(production):
    ran, run = monitor(production, "steady", bundle=str(production), now="2026-06-22T00:00Z")
    assert ran and json.loads((run / "drift.json").read_text())["answer"] == STEADY
    assert "Nobody was told." in (run / "report.html").read_text("utf-8")


def test_page_of_nothing(production):
    ran, run = monitor(production, "nothing", bundle=str(production), now="2020-01-01T00:00Z")
    assert ran and json.loads((run / "drift.json").read_text())["answer"] == "insufficient data"


@pytest.mark.parametrize("name, parameters, message", [
    ("nowhere", {}, "name a store or a bundle"), ("lost", dict(bundle=".", log="no.db"), "no such prediction log"),
    ("empty", dict(store="store"), "no version of the store is in use")])
def test_page_needs_a_model_and_a_log(production, name, parameters, message):
    (production / "store").mkdir(exist_ok=True)
    ran, run = monitor(production, name, **{k: str(production / v) for k, v in parameters.items()})
    errors = [o for c in nbformat.read(run / "monitor.ipynb", 4).cells for o in c.get("outputs", []) if "evalue" in o]
    assert not ran and message in errors[0].evalue
