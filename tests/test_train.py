"""The main job through papermill and through its command: what it leaves, what it refuses, what it keeps to itself."""

import json
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import CANARY, files_holding

from datacloak_nb.config import load_config, save_config
from datacloak_nb.deploy.bundle import open_bundle
from datacloak_nb.deploy.card import parse_config
from datacloak_nb.evaluation.metrics import load_metrics
from datacloak_nb.explore import explore_run
from datacloak_nb.monitoring.reference import read_reference
from datacloak_nb.predict import ClassifierError, find_bundle, load_classifier
from datacloak_nb.runs import main, pipeline_path
from datacloak_nb.verify import verify_bundle

KINDS = dict(rf="forest", gb="boosting", nn="network", blend="blend")
BIN = Path(sysconfig.get_path("scripts"))
TINY = dict(
    training__epochs=3, models__random_forest__n_estimators=20, models__neural_network__hidden_layers=[16, 8],
    models__random_forest__search__draws=2, models__random_forest__search__grid__n_estimators=[10, 20],
    models__gradient_boosting__max_iter=5, models__gradient_boosting__search__strategy="none",
    evaluation__cross_validation_folds=2, evaluation__min_accuracy_threshold=.3,
    export__gates__min_gain=0.0) # so that no variant is shipped for a time that was measured


def config_file(folder, **changes):
    "A config that trains in seconds."
    return save_config(load_config(**TINY | changes), Path(folder) / "tiny.yaml")


def papermill(folder, *parameters, output="out.ipynb"):
    "Run train.ipynb by the command line, from `folder`."
    command = [BIN / "papermill", pipeline_path("train"), output, "-k", "python3", "--no-progress-bar", *parameters]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def left_no_model(folder):
    "Whether nothing below `folder` can be taken for a finished model."
    with pytest.raises(ClassifierError):
        load_classifier(folder)
    return not list(Path(folder).rglob("models")) and not list(Path(folder).rglob("model_config.yaml"))


@pytest.fixture(scope="module")
def finished(canary_dataset, tmp_path_factory):
    "A run on columns with canaries in their cells, and what it printed."
    folder = tmp_path_factory.mktemp("finished")
    command = [BIN / "datacloak-train", "--config", config_file(folder), "--data-path", canary_dataset,
               "--output-dir", folder / "run", "--model-type", "all"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    (folder / "printed.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


def test_run_leaves_everything(finished):
    names = {p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()}
    bundle, = (finished / "models").iterdir()
    printed = (finished.parent / "printed.txt").read_text()
    assert re.search(r"Outcome: \d+\.\d% right .*, macro-F1 0\.\d+; warnings about the data: \d", printed)
    made = {"model_config.yaml", "feature_spec.json", "golden_vectors.jsonl", "metrics.json", "reference.json",
            "MODEL_CARD.md"}
    picked = KINDS[load_classifier(finished).kind]
    version = bundle.name.removeprefix("column_classifier_v")
    made |= {f"{o}_v{version}.onnx" for o in {"column_classifier", *KINDS.values()} - {picked}}
    made = {f"models/{bundle.name}/{o}" for o in made | {"SHA256SUMS"}}
    assert made | {"train.ipynb", "report.html", "metrics.json", "config.yaml", "splits.json"} <= names
    confusion, training = (f"confusion_{k}" for k in KINDS), (f"training_{k}" for k in KINDS if k != "blend")
    for plot in (*confusion, *training, "classes", "per_class", "reliability", "origin"):
        assert {f"plots/{plot}.png", f"plots/{plot}.svg"} <= names
    assert load_config(finished / "config.yaml").training.random_seed == 42
    printed = (finished.parent / "printed.txt").read_text()
    assert str(finished / "report.html") in printed and str(bundle) in printed


def described(run):
    "What `model_config.yaml` says of the models of a run."
    return parse_config(next((run / "models").glob("*/model_config.yaml")).read_bytes())


def test_metrics_and_card_agree(finished):
    metrics = load_metrics(finished / "metrics.json")
    card = described(finished)
    kind = load_classifier(finished).kind
    assert set(metrics) == set(KINDS) and card.performance_benchmarks.accuracy_test_set == pytest.approx(
        metrics[kind].accuracy, abs=1e-4)
    assert metrics[kind].n == sum(map(sum, metrics[kind].confusion)) == metrics[kind].parts["synthetic"].n


def test_reference_is_of_the_test_columns(finished):
    bundle, = (finished / "models").iterdir()
    reference = read_reference((bundle / "reference.json").read_bytes())
    tested = load_metrics(finished / "metrics.json")[load_classifier(finished).kind]
    assert reference.n == tested.n and reference.tables == tested.groups
    assert reference.accuracy == pytest.approx(tested.accuracy) and sum(reference.predicted.counts) == tested.n
    assert (bundle / "reference.json").stat().st_size < 150_000


def test_split_keeps_tables_together(finished):
    rows = pd.DataFrame(json.loads((finished / "splits.json").read_text())["columns"])
    assert (rows[rows.side != ""].groupby("table").side.nunique() == 1).all()
    assert set(rows.side) >= {"train", "validation", "test"}


def test_explorer_takes_the_run(finished, canary_dataset):
    table = explore_run(finished, canary_dataset).table.query("side == 'test'")
    measured = load_metrics(finished / "metrics.json")[load_classifier(finished).kind]
    assert (table.label == table.answer).mean() == pytest.approx(measured.accuracy) and len(table) == measured.n


def test_report_loads_nothing(finished):
    page = (finished / "report.html").read_text("utf-8")
    assert re.findall(r"""(?:src|href|url|import)\s*[=(]?\s*["']?\s*(?:https?:)?//[^"'\s>]+""", page) == []
    assert page.count("data:image/png") >= 8 and "default_data" not in page


def test_no_cell_in_anything_written(finished):
    assert files_holding(finished.parent) == []


def test_stored_models_answer_alike(finished, tiny_columns):
    frame = pd.DataFrame({o.id: pd.Series(o.column.cells.to_pylist()) for o in tiny_columns[:30]})
    others = [o for o in KINDS.values() if o != KINDS[load_classifier(finished).kind]]
    best, *rest = (load_classifier(finished, o).classify(frame) for o in ("column_classifier", *others))
    assert len(rest) == 3 and not any(np.array_equal(best.confidence, o.confidence) for o in rest)
    assert list(best.columns[:3]) == ["column", "type", "confidence"] and len(best) == 30


def test_finished_run_is_not_written_over(finished, capsys):
    assert main(["--output-dir", str(finished)]) == 2
    assert "holds a finished run" in capsys.readouterr().err


def unmeasured(run):
    "What `model_config.yaml` says of a run, without what the clock and the memory said."
    told = described(run).model_dump(mode="json")
    del told["performance_benchmarks"]["inference_time_ms"], told["performance_benchmarks"]["memory_usage_mb"]
    del told["deployment"]["recommended_cache_size_mb"]
    return told


def test_same_seed_same_sums(finished, canary_dataset, tmp_path):
    shutil.copytree(canary_dataset, tmp_path / "moved")
    options = ["-p", "config", config_file(tmp_path), "-p", "data_path", tmp_path / "moved", "-p", "model_type", "all"]
    done = papermill(tmp_path, *options, "-p", "output_dir", "again")
    assert done.returncode == 0, done.stderr[-3000:]
    first, again = (open_bundle(find_bundle(o)) for o in (finished, tmp_path / "again"))
    assert first.version == again.version and first.sums.keys() == again.sums.keys()
    assert {o for o in first.sums if first.sums[o] != again.sums[o]} <= {"model_config.yaml"}
    assert unmeasured(finished) == unmeasured(tmp_path / "again")
    assert "except `model_config.yaml`" in first.read("MODEL_CARD.md").decode()


def test_bundle_of_a_run_passes_every_check(finished):
    assert [o.problem for o in verify_bundle(finished) if o.problem] == []


def test_misspelt_parameter_fails_before_any_work(tmp_path):
    done = papermill(tmp_path, "-p", "data_pth", "somewhere")
    assert done.returncode == 1 and "no parameter data_pth" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["out.ipynb"]


@pytest.mark.parametrize("option, value, message", [
    ("--data-path", "nowhere", "no folder labeled_columns"),
    ("--config", "nowhere.yaml", "no config file"),
])
def test_refusals_reach_the_user(option, value, message, tmp_path):
    command = [BIN / "datacloak-train", option, value, "--output-dir", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and message in done.stderr
    assert (tmp_path / "run" / "train.ipynb").is_file() and left_no_model(tmp_path)


def test_failing_run_keeps_cells_to_itself(canary_dataset, tmp_path):
    data = shutil.copytree(canary_dataset, tmp_path / "data")
    next((data / "labeled_columns" / "numeric").glob("*.csv")).write_text(f"header\n{CANARY},{CANARY}\n")
    done = papermill(tmp_path, "-p", "data_path", data, "-p", "output_dir", "run")
    assert done.returncode == 1 and "unreadable file" in done.stderr and CANARY not in done.stdout + done.stderr
    shutil.rmtree(data)
    assert files_holding(tmp_path) == [] and left_no_model(tmp_path)


@pytest.fixture(scope="module")
def leaky_dataset(canary_dataset, tmp_path_factory):
    "A dataset with a test side of its own: its columns alone are real, and one repeats what can be learnt from."
    data = shutil.copytree(canary_dataset, tmp_path_factory.mktemp("leaky") / "data")
    for folder in (data / "labeled_columns").iterdir():
        (data / "test" / folder.name).mkdir(parents=True)
        for path in sorted(folder.glob("*.csv"))[:6]:
            for file in (path, path.with_suffix(".json")): shutil.move(file, data / "test" / folder.name)
    first = next((data / "labeled_columns" / "numeric").glob("*.csv"))
    details = json.loads(first.with_suffix(".json").read_text()) | dict(id="again", table="again")
    shutil.copy(first, data / "test" / "numeric" / "again.csv")
    (data / "test" / "numeric" / "again.json").write_text(json.dumps(details))
    for path in (data / "test").rglob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(source="elsewhere")))
    return data


def test_errors_of_the_data_stop_the_run(leaky_dataset, tmp_path):
    options = ["-p", "data_path", leaky_dataset, "-p", "config", config_file(tmp_path), "-p", "output_dir", "run"]
    done = papermill(tmp_path, *options)
    assert done.returncode == 1 and "accept duplicates to go on all the same" in done.stderr
    found = json.loads((tmp_path / "run" / "quality.json").read_text())
    assert [(o["gate"], o["ids"], o["accepted"]) for o in found if o["severity"] == "error"] == [
        ("duplicates", ["again"], False)]
    assert files_holding(tmp_path) == [] and left_no_model(tmp_path)


def test_accepted_errors_are_recorded(leaky_dataset, tmp_path):
    options = ["--config", config_file(tmp_path), "--data-path", leaky_dataset, "--output-dir", "run", "--model-type",
               "rf", "--accept", "duplicates, tables"]
    done = subprocess.run([BIN / "datacloak-train", *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "run"
    found = json.loads((run / "quality.json").read_text())
    assert [o["gate"] for o in found if o["accepted"]] == ["duplicates"] and "labels" in {o["gate"] for o in found}
    card = described(run).training_data
    assert [o.partition(":")[0] for o in card.overridden] == ["duplicates"]
    assert sum(o.columns for o in card.sources) == card.columns == 241
    assert load_config(run / "config.yaml").quality.accept == ["duplicates", "tables"]
    assert "error, accepted" in (run / "report.html").read_text("utf-8")
    assert files_holding(tmp_path) == []


def test_run_below_the_threshold_publishes_nothing(tiny_dataset, tmp_path):
    config = config_file(tmp_path, evaluation__min_accuracy_threshold=1.0)
    options = ["--config", config, "--data-path", tiny_dataset, "--output-dir", "run", "--model-type", "rf"]
    done = subprocess.run([BIN / "datacloak-train", *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "below evaluation.min_accuracy_threshold" in done.stderr
    assert (tmp_path / "run" / "metrics.json").is_file() and (tmp_path / "run" / "report.html").is_file()
    assert left_no_model(tmp_path)


def test_foreign_errors_are_shown_without_their_message(tmp_path):
    from nbclient import NotebookClient

    start = "from datacloak_nb.runs import keep_private\nkeep_private()"
    cells = [start, f"float('{CANARY}'.lower())", f"{{}}['{CANARY}'.lower()]"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(o) for o in cells])
    NotebookClient(book, kernel_name="python3", allow_errors=True).execute()
    outputs = [o for c in book.cells for o in c.outputs]
    assert [o.ename for o in outputs if o.output_type == "error"] == ["RunError", "RunError"]
    assert CANARY.lower() not in json.dumps(outputs) and "ValueError" in json.dumps(outputs)


def test_options_are_those_of_the_notebook():
    from papermill import inspect_notebook

    told = subprocess.run([BIN / "datacloak-train", "--help"], capture_output=True, text=True, check=True)
    options = {o.replace("-", "_") for o in re.findall(r"--([a-z-]+)", told.stdout)} - {"help"}
    assert options == set(inspect_notebook(str(pipeline_path("train"))))
