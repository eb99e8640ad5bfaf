"""Retraining through its command: promoted, kept, tried and failed, and what each leaves in the store."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import CANARY, files_holding, plant

from datacloak_nb.config import load_config, save_config
from datacloak_nb.dataset import Dataset, load_dataset, save_dataset
from datacloak_nb.deploy.bundle import gather, open_bundle, seal
from datacloak_nb.deploy.card import make_config, write_config
from datacloak_nb.deploy.export import to_onnx
from datacloak_nb.deploy.golden import write_golden
from datacloak_nb.deploy.spec import write_spec
from datacloak_nb.deploy.variants import Variant
from datacloak_nb.evaluation.metrics import evaluate, save_metrics
from datacloak_nb.features.extract import extract
from datacloak_nb.models.forest import fit_forest
from datacloak_nb.predict import find_bundle, read_classifier
from datacloak_nb.retraining import FrozenSet, carry_out, combine, main, read_decision
from datacloak_nb.splits import split_dataset, split_manifest, table_groups
from datacloak_nb.store import Store, StoreConflict

WEAK = "0.0.1"
TINY = dict(
    models__model_type="rf", models__random_forest__n_estimators=40, models__random_forest__search__strategy="none",
    evaluation__cross_validation_folds=2, evaluation__min_accuracy_threshold=0.3, export__gates__min_gain=0.0,
    retraining__least_tables=10)


def config_file(folder, **changes):
    "A config that trains in seconds and decides on few tables."
    return save_config(load_config(**TINY | changes), folder / "tiny.yaml")


def weak_bundle(dataset, split, folder):
    "A bundle of one small tree, which has learnt from the training side."
    X, y = extract([o.column for o in dataset.columns]), dataset.targets()
    tree = fit_forest(X[split.train], y[split.train], dataset.classes, dict(n_estimators=1, max_depth=2))
    (folder / "forest.onnx").write_bytes(to_onnx(tree, WEAK, load_config().export))
    bundle = gather(folder, WEAK, "forest")
    file, = bundle.iterdir()
    model = read_classifier(file.read_bytes(), file.name)
    test = evaluate(y[split.test], model.probabilities(X[split.test]), dataset.classes)
    proof = SimpleNamespace(file=file.name, min_onnx_runtime=None, newest_onnx_runtime="1.32.0")
    measured = {file.name: Variant(kind="rf", name=file.name, bytes=1, ms_1=0.01, memory_mb=1)}
    write_config(make_config(measured, WEAK, 0.3, test, [proof]), bundle / "model_config.yaml")
    save_metrics(dict(rf=test), bundle / "metrics.json")
    write_spec(bundle / "feature_spec.json")
    write_golden(bundle / "golden_vectors.jsonl", {file.name: model})
    return seal(bundle)


@pytest.fixture(scope="module")
def world(canary_dataset, tmp_path_factory):
    "Old data, a store whose champion is weak, and new data with canaries, of which one column is a frozen one again."
    from datacloak_nb.synthetic import make_columns

    folder = tmp_path_factory.mktemp("world")
    dataset, settings = load_dataset(canary_dataset), load_config(**TINY)
    split = split_dataset(dataset, settings)
    manifest = split_manifest(dataset, split, [], settings.training.random_seed)
    store = Store(folder / "store")
    store.add(weak_bundle(dataset, split, folder), "weekly", {"splits.json": json.dumps(manifest).encode()})
    store.promote(WEAK, "first", "nothing was in use", None)
    new = [replace(o, id=f"new-{o.id}", table=f"new-{o.table}") for o in make_columns(120, seed=8)]
    new = [o if i % 3 else plant(o, f"{CANARY}{i}") for i, o in enumerate(new)]
    new.append(replace(dataset.columns[split.test[0]], id="again", table="new-again"))
    save_dataset(Dataset(new, metadata=dataset.metadata), folder / "new", "csv")
    return SimpleNamespace(folder=folder, old=canary_dataset, new=folder / "new", store=folder / "store")


def retrain(world, folder, *options, store=None, **changes):
    "Run the command; its exit code and the folder of the run."
    argv = ["--new-data", world.new, "--store", store or world.store, "--data-path", world.old,
            "--config", config_file(folder, **changes), "--output-dir", folder / "run", *options]
    return main([str(o) for o in argv]), folder / "run"


def listing(folder):
    "{path: bytes} of all files."
    return {o.relative_to(folder): o.read_bytes() for o in sorted(folder.rglob("*")) if o.is_file()}


@pytest.fixture(scope="module")
def promoted(world, tmp_path_factory):
    "A run whose challenger takes the place of the weak champion, in a copy of the store."
    folder = tmp_path_factory.mktemp("promoted")
    store = shutil.copytree(world.store, folder / "store")
    code, run = retrain(world, folder, store=store)
    assert code == 0, (run / "decision.json").read_text()
    return SimpleNamespace(run=run, store=Store(store), folder=folder)


@pytest.fixture(scope="module")
def dry(world, tmp_path_factory):
    "The same as a dry run that asks for more than can be gained."
    folder, before = tmp_path_factory.mktemp("dry"), listing(world.store)
    code, run = retrain(world, folder, "--dry-run", retraining__min_gain=0.95)
    assert code == 3 and listing(world.store) == before
    return SimpleNamespace(run=run, folder=folder)


def test_better_challenger_is_promoted(promoted):
    store, decision = promoted.store, read_decision(promoted.run / "decision.json")
    assert decision.promote and decision.rule == "gain" and all(o.passed for o in decision.checks)
    assert (decision.champion, store.current) == (WEAK, decision.challenger)
    record = store.ledger()[-1]
    assert (record.action, record.rule, record.previous, record.reason) == ("promote", "gain", WEAK, decision.reason)
    assert record.metrics["accuracy"]["difference"] >= 0.01
    assert json.loads(store.evidence(store.current, "decision.json")) == json.loads(decision.model_dump_json())


def test_champion_and_challenger_answer_for_the_same_columns(promoted, world):
    frozen = FrozenSet(**json.loads(promoted.store.evidence(promoted.store.current, "frozen.json")))
    split = json.loads(promoted.store.evidence(WEAK, "splits.json"))
    assert list(frozen.ids) == [o["id"] for o in split["columns"] if o["side"] == "test"]
    rows = json.loads((promoted.run / "challenger" / "splits.json").read_text())["columns"]
    assert [o["id"] for o in rows if o["side"] == "test"] == list(frozen.ids)
    decision = read_decision(promoted.run / "decision.json")
    assert decision.frozen.columns == len(frozen.ids) and decision.newest.columns > 0


def test_nothing_frozen_and_nothing_held_back_is_learnt_from(promoted, world):
    frozen = FrozenSet(**json.loads((promoted.run / "frozen.json").read_text()))
    old, new = load_dataset(world.old), load_dataset(world.new, whole=False)
    learnt = {o["id"] for o in json.loads((promoted.run / "challenger" / "splits.json").read_text())["columns"]
              if o["side"] in ("train", "validation")}
    columns = old.columns + new.columns
    groups, ids = table_groups(columns), np.array([o.id for o in columns])
    assert not set(groups[np.isin(ids, frozen.ids)]) & set(groups[np.isin(ids, list(learnt))])
    combined = combine([old, new], frozen, load_config(promoted.run / "config.yaml"))
    assert not {o.id for o in combined.newest} & learnt and "again" in combined.left_out["touch the frozen set"]
    assert "again" not in learnt and json.loads((promoted.run / "left_out.json").read_text()) == combined.left_out


def test_report_says_why(promoted):
    page = (promoted.run / "report.html").read_text("utf-8")
    decision = read_decision(promoted.run / "decision.json")
    for said in (decision.reason, "challenger wrong", "low end of the gain", "Left out of the new and the old columns"):
        assert said in page
    assert page.count("data:image/png") >= 2
    assert (promoted.run / "challenger" / "report.html").is_file()


def test_disagreements_are_ids_and_classes(promoted, world):
    header, *lines = (promoted.run / "disagreements.csv").read_text().splitlines()
    assert header == "id,truth,champion,challenger,set"
    known = {o.id for o in load_dataset(world.old).columns + load_dataset(world.new, whole=False).columns}
    assert lines and {o.split(",")[0] for o in lines} <= known


def test_no_new_cell_in_anything_written(promoted, dry):
    assert files_holding(promoted.folder) == files_holding(dry.folder) == []


def test_dry_run_decides_and_says_so(dry):
    decision = read_decision(dry.run / "decision.json")
    assert not decision.promote and decision.reason.startswith(f"{WEAK} stays: gain in macro-F1 is")
    assert "The store is as it was" in (dry.run / "report.html").read_text("utf-8")


def test_same_data_same_challenger_and_same_figures(promoted, dry):
    one, other = (open_bundle(find_bundle(o.run / "challenger")) for o in (promoted, dry))
    assert one.version == other.version
    differing = {o for o in one.sums.keys() | other.sums.keys() if one.sums.get(o) != other.sums.get(o)}
    assert differing <= {"model_config.yaml"}  # which holds what the clock said
    one, other = (read_decision(o.run / "decision.json") for o in (promoted, dry))
    assert (one.frozen, one.newest) == (other.frozen, other.newest)
    assert (promoted.run / "disagreements.csv").read_bytes() == (dry.run / "disagreements.csv").read_bytes()


def test_kept_champion_and_kept_evidence(world, dry, tmp_path):
    store = Store(shutil.copytree(world.store, tmp_path / "store"))
    decision = read_decision(dry.run / "decision.json")
    carry_out(store, find_bundle(dry.run / "challenger"), decision, {"frozen.json": b"{}"}, dict(learnt=1))
    assert store.current == WEAK and decision.challenger in store.versions()
    assert store.ledger()[-1].reason == decision.reason
    assert store.evidence(decision.challenger, "frozen.json") == b"{}"


def test_a_decision_about_another_champion_promotes_nothing(promoted, tmp_path):
    store = Store(shutil.copytree(promoted.store.place.root, tmp_path / "store"))
    decision = read_decision(promoted.run / "decision.json")
    store.rollback("a regression")
    late = decision.model_copy(update=dict(champion="0.0.2"))
    with pytest.raises(StoreConflict, match="decide anew"):
        carry_out(store, find_bundle(promoted.run / "challenger"), late, {}, {})
    assert store.current == WEAK


def test_broken_new_data_change_nothing(world, tmp_path, capfd):
    data = shutil.copytree(world.new, tmp_path / "data")
    next((data / "labeled_columns" / "numeric").glob("*.csv")).write_text(f"header\n{CANARY},{CANARY}\n")
    before = listing(world.store)
    code, run = retrain(SimpleNamespace(new=data, old=world.old, store=world.store), tmp_path)
    said = capfd.readouterr()
    assert code == 1 and "unreadable file" in said.err and CANARY not in said.out + said.err
    assert listing(world.store) == before and (run / "report.html").is_file()
    shutil.rmtree(data)
    assert files_holding(tmp_path) == []


def test_changed_frozen_columns_are_refused(world, promoted, tmp_path, capfd):
    old = load_dataset(world.old)
    frozen = split_dataset(old, load_config(**TINY)).test[0]
    changed = [plant(o, "other") if i == frozen else o for i, o in enumerate(old.columns)]
    save_dataset(Dataset(changed, metadata=old.metadata), tmp_path / "old")
    changed = SimpleNamespace(new=world.new, old=tmp_path / "old")
    code, _ = retrain(changed, tmp_path, store=promoted.store.place.root)
    assert code == 1 and "frozen columns are not what they were" in capfd.readouterr().err


def test_what_cannot_work_is_refused_before_a_kernel_starts(promoted, world, tmp_path, capsys):
    assert retrain(world, promoted.folder)[0] == 2
    assert "holds a retraining" in capsys.readouterr().err
    assert retrain(world, tmp_path, "--signing-key", "")[0] == 2
    with pytest.raises(SystemExit, match="2"):
        main(["--new-data", "somewhere"])


def test_options_are_those_of_the_notebook(capsys):
    from papermill import inspect_notebook

    from datacloak_nb.runs import pipeline_path

    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    options = {o.replace("-", "_") for o in re.findall(r"--([a-z-]+)", capsys.readouterr().out)}
    assert options - {"help", "new_data", "dry_"} == set(inspect_notebook(str(pipeline_path("retrain"))))
