"""SortingHat's files: what the adapter reads and refuses, and the benchmark through papermill."""

import csv
import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
from conftest import files_holding, plant

from datacloak_nb.benchmark import FIELDS, BenchmarkError, load_sortinghat
from datacloak_nb.config import load_config, save_config
from datacloak_nb.runs import pipeline_path

BIN = Path(sysconfig.get_path("scripts"))
REAL = os.environ.get("SORTINGHAT_TRAIN_CSV", "")
NAMES = dict(text_long="sentence", numeric="numeric", datetime="datetime", categorical="category", identifier="key")


def write_rows(path, columns, name=NAMES.get, fields=FIELDS):
    "Labelled columns in the form of the benchmark, five cells each, 4 columns a file, as Latin-1."
    with path.open("w", encoding="latin-1", errors="replace", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(fields)
        for i, o in enumerate(columns):
            cells, facts = [cell or "" for cell in o.column.cells.to_pylist()[:5]], o.column.facts
            counts = facts.rows, facts.missing, facts.distinct
            writer.writerow([i // 4, o.column.header, name(o.label), *counts, 0, 0, 0, 0, *cells][:len(fields)])
    return path


@pytest.fixture(scope="module")
def columns():
    from datacloak_nb.synthetic import make_columns

    return make_columns(150, 3, tuple(NAMES))


def test_cells_profile_and_classes_come_from_the_file(columns, tmp_path):
    dataset = load_sortinghat(write_rows(tmp_path / "train.csv", columns))
    assert dataset.classes == tuple(sorted(NAMES.values())) and len({o.table for o in dataset.train}) == 38
    first, made = dataset.train[0].column, columns[0].column
    assert first.header == made.header and first.facts.rows == len(made) and first.facts.mean == 0


@pytest.mark.parametrize("change, message", [
    (dict(fields=FIELDS[:6]), "no field mean, std_dev, min_val, max_val"),
    (dict(name=lambda o: "strange"), "class strange of other.csv")])
def test_other_files_are_refused(change, message, columns, tmp_path):
    train = write_rows(tmp_path / "train.csv", columns)
    with pytest.raises(BenchmarkError, match=message):
        load_sortinghat(train, write_rows(tmp_path / "other.csv", columns, **change))


def test_benchmark_runs_with_classes_of_its_own(columns, tmp_path):
    columns = [o if i % 3 else plant(o) for i, o in enumerate(columns)]
    train, test = write_rows(tmp_path / "a.csv", columns[:110]), write_rows(tmp_path / "b.csv", columns[110:])
    models = dict(random_forest=dict(n_estimators=10, search=dict(strategy="none")),
                  gradient_boosting=dict(max_iter=4, search=dict(strategy="none")),
                  neural_network=dict(hidden_layers=[8]))
    config = save_config(load_config(training=dict(epochs=2), evaluation=dict(cross_validation_folds=2), models=models),
                         tmp_path / "tiny.yaml")
    given = dict(train_csv=train, test_csv=test, config=config, output_dir=tmp_path / "run")
    command = [BIN / "papermill", pipeline_path("benchmark"), tmp_path / "out.ipynb", "-k", "python3"]
    command += [o for k, v in given.items() for o in ("-p", k, v)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert {(o["protocol"], o["model"]) for o in report["results"]} == {
        (p, k) for p in ("shuffled", "grouped by file", "official test") for k in ("rf", "gb", "nn", "blend")}
    assert [o["n"] for o in report["results"] if o["protocol"] == "official test"] == [40] * 4
    assert report["seed"] == 42 and set(report["costs"]) == {"rf", "gb", "nn", "blend"}
    train.unlink(), test.unlink()
    assert files_holding(tmp_path) == []


@pytest.mark.skipif(not REAL, reason="SORTINGHAT_TRAIN_CSV names no file; the repository carries none")
def test_the_real_file():
    dataset = load_sortinghat(REAL)
    assert len(dataset.train) == 7936 and len(dataset.classes) == 9 and len({o.table for o in dataset.train}) == 1081
