"""Ablations: packages stay unseen, SMOTE stays within a fit, and the pipeline runs through papermill."""

import json
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import files_holding, plant
from sklearn.datasets import make_classification
from sklearn.model_selection import StratifiedKFold

from datacloak_nb.config import load_config, save_config
from datacloak_nb.evaluation import ablation
from datacloak_nb.models import base, boosting, forest, network
from datacloak_nb.models.base import ModelError, training_rows
from datacloak_nb.runs import pipeline_path
from datacloak_nb.splits import SplitError
from datacloak_nb.training import train, training_weights

BIN = Path(sysconfig.get_path("scripts"))
KINDS = "text", "number", "date"
SMALL = dict(random_forest=dict(n_estimators=10, search=dict(strategy="none")),
             gradient_boosting=dict(max_iter=4, search=dict(strategy="none")),
             neural_network=dict(hidden_layers=[8]))


@pytest.fixture(scope="module")
def toy():
    "Features and unequal classes."
    X, y = make_classification(240, 10, n_informative=6, n_redundant=0, n_classes=3, weights=[0.6, 0.3], random_state=0)
    return X.astype(np.float32), y


@pytest.fixture
def oversampled(monkeypatch):
    "A list that grows by the rows that every use of SMOTE is given."
    seen, smote = [], base.smote
    monkeypatch.setattr(base, "smote", lambda X, *args: seen.append(X) or smote(X, *args))
    monkeypatch.setattr(base, "ALL_CORES", 1)
    return seen


def config(imbalance="smote", **changes):
    return load_config(training=dict(epochs=2, imbalance=imbalance), models=SMALL, **changes)


# SMOTE

def test_made_rows_lie_between_rows_of_their_class(toy):
    X, y = toy
    more, labels, weights = training_rows(X, y, KINDS, np.ones(240), "smote")
    assert np.array_equal(more[:240], X) and np.array_equal(labels[:240], y)
    assert len(set(np.bincount(labels))) == 1 and np.bincount(labels, weights) == pytest.approx(len(labels) / 3)
    for k in range(3):
        made, given = more[240:][labels[240:] == k], X[y == k]
        assert (made >= given.min(0) - 1e-4).all() and (made <= given.max(0) + 1e-4).all()


@pytest.mark.parametrize("imbalance", ["weights", "none"])
def test_other_ways_leave_the_rows_alone(imbalance, toy):
    X, y = toy
    assert all(np.array_equal(a, b) for a, b in zip(training_rows(X, y, KINDS, np.ones(240), imbalance),
                                                    (X, y, np.ones(240))))


def test_weights_follow_the_way_that_is_named(toy):
    y = toy[1]
    weights = {o: np.bincount(y, training_weights(y, None, config(o))) for o in ("weights", "none")}
    assert np.ptp(weights["weights"]) < np.ptp(weights["none"]) and weights["none"] == pytest.approx(np.bincount(y))


def test_too_few_rows_of_a_class_are_refused(toy):
    X, y = toy
    rows = np.concatenate([np.flatnonzero(y < 2), np.flatnonzero(y == 2)[:5]])
    with pytest.raises(ModelError, match=r"needs 6 training rows a class, got date \(5\): .*training.imbalance"):
        forest.fit_forest(X[rows], y[rows], KINDS, dict(n_estimators=2), imbalance="smote")
    assert forest.fit_forest(X[rows], y[rows], KINDS, dict(n_estimators=2), imbalance="none").classes == KINDS


def test_no_scored_row_reaches_smote(toy, oversampled, monkeypatch):
    from types import SimpleNamespace
    monkeypatch.setattr(boosting, "ALL_CORES", 1), monkeypatch.setattr("datacloak_nb.training.ALL_CORES", 1)
    X, y = toy
    split = SimpleNamespace(train=np.arange(180), validation=np.arange(180, 240))
    folds = list(StratifiedKFold(2).split(X[:180], y[:180]))
    train(X, y, folds, split, KINDS, config())
    sides = [X[:180], *(X[:180][fit] for fit, _ in folds)]
    # each of the three kinds once: all of training, and the fit side of each fold (the two tree kinds in their search)
    assert [sum(np.array_equal(rows, side) for rows in oversampled) for side in sides] == [3, 3, 3]
    assert len(oversampled) == 9


def test_every_kind_is_fitted_on_more_rows_by_smote(toy, oversampled):
    X, y = toy
    forest.fit_forest(X, y, KINDS, dict(n_estimators=2), imbalance="smote")
    boosting.fit_boosting(X, y, KINDS, dict(max_iter=2), imbalance="smote")
    model, history = network.fit_network(X[:180], y[:180], X[180:], y[180:], KINDS, config())
    network.refit_network(X, y, KINDS, config(), [0.001])
    assert [len(o) for o in oversampled] == [240, 240, 180, 240]


def test_unknown_ways_are_refused():
    from datacloak_nb.config import ConfigError
    with pytest.raises(ConfigError, match="training.imbalance.*'undersample'"):
        load_config(training__imbalance="undersample")


# Unseen packages

def test_packages_and_their_copies_stay_unseen():
    rng = np.random.default_rng(0)
    y, packages = rng.integers(0, 3, 300), np.repeat(np.arange(10), 30)
    tables = np.where(rng.random(300) < 0.1, 999, np.arange(300) // 5)  # one group reaches into every package
    folds = ablation.unseen_folds(y, packages, tables, np.arange(30, 300), 3, 0)
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(30, 300))
    for fit, held in folds:
        assert not set(packages[fit]) & set(packages[held]) and not set(tables[fit]) & set(tables[held])
    with pytest.raises(SplitError, match="for 3 folds"):
        ablation.unseen_folds(y, packages * 0, tables * 0, np.arange(300), 3, 0)


def test_scored_rows_come_back_in_order(toy):
    X, y = toy

    def fit(X, y, weights):
        class Echo:
            raw_proba = staticmethod(lambda X: X[:, :3])
        return Echo

    folds = [(np.arange(120), np.arange(239, 119, -1)), (np.arange(120, 240), np.arange(119, -1, -1))]
    answer = ablation.ask(fit, X, y, np.arange(240), folds, config("none"))[ablation.AS_IS]
    assert np.array_equal(answer, X[:, :3])


def test_intervals_tell_luck_from_harm():
    rng = np.random.default_rng(0)
    y, packages = rng.integers(0, 3, 600), np.arange(600) // 30
    good, same, poor = (np.eye(3)[np.where(rng.random(600) < share, y, (y + 1) % 3)] for share in (0.9, 0.9, 0.6))
    table = ablation.differences(y, dict(good=good, same=same, poor=poor), packages, "good")
    assert table.low["same"] < 0 < table.high["same"] and table.high["poor"] < 0
    assert table.difference["poor"] == pytest.approx(base.macro_f1(y, poor) - base.macro_f1(y, good))


# Features

def test_members_of_a_group_correlate_by_the_limit(toy):
    X, noise = toy[0], np.random.default_rng(0).normal(size=toy[0].shape)
    X = np.hstack([X, -X ** 3, X + noise, np.ones((240, 1))])
    rho = ablation.rank_correlation(X)
    for limit in (0.5, 0.9):
        group = ablation.correlated_groups(rho, limit)
        assert all(rho[np.ix_(group == k, group == k)].min() >= limit - 1e-9 for k in set(group))
    assert np.array_equal(group[:10], group[10:20]) and (group == group[-1]).sum() == 1
    assert sorted(np.concatenate(list(ablation.family_columns().values()))) == list(range(376))


# The pipeline

@pytest.fixture(scope="module")
def mixed_dataset(tiny_columns, tmp_path_factory):
    "Columns that claim to come from four packages, a quarter of them synthetic, some with canaries."
    from datacloak_nb.dataset import Dataset, save_dataset

    tables = sorted({o.table for o in tiny_columns})
    sources = dict(zip(tables, np.random.default_rng(0).choice(["one", "two", "three", "synthetic"], len(tables))))
    columns = [replace(o, source=str(sources[o.table])) for o in tiny_columns]
    columns = [o if i % 3 else plant(o) for i, o in enumerate(columns)]
    return save_dataset(Dataset(columns), tmp_path_factory.mktemp("mixed") / "data", "csv")


def papermill(folder, name="ablate", **parameters):
    command = [BIN / "papermill", pipeline_path(name), folder / "out.ipynb", "-k", "python3", "--no-progress-bar"]
    command += [o for k, v in parameters.items() for o in ("-p", k, v)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_pipeline_compares_everything_and_shows_no_cell(mixed_dataset, tmp_path):
    path = save_config(config("weights", evaluation=dict(cross_validation_folds=2)), tmp_path / "tiny.yaml")
    done = papermill(tmp_path, data_path=mixed_dataset, config=path, output_dir=tmp_path / "run")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "run" / "ablation.json").read_text())
    assert set(report["synthetic"]["boosting"]) == {"real alone", "with synthetic", "synthetic alone"}
    assert set(report["imbalance"]["forest"]) == {"none", "weights 0.5", "weights 1", "SMOTE"}
    assert all(set(o) == {ablation.AS_IS, *ablation.family_columns()} for o in report["families"].values())
    assert report["packages"] == 3 and report["folds"] == 2 and report["rows"] > 100
    assert {p.stem for p in (tmp_path / "run" / "plots").iterdir()} == {
        "synthetic", "imbalance", "families_left_out", "families_shuffled", "correlation"}
    assert files_holding(tmp_path) == []


def test_report_of_training_says_what_synthetic_columns_bring(mixed_dataset, tmp_path):
    lax = dict(cross_validation_folds=2, min_accuracy_threshold=0.0)
    path = save_config(config("weights", evaluation=lax), tmp_path / "tiny.yaml")
    given = dict(data_path=mixed_dataset, config=path, output_dir=tmp_path / "run", model_type="gb")
    done = papermill(tmp_path, "train", **given)
    assert done.returncode == 0, done.stderr[-3000:]
    shown = (tmp_path / "out.ipynb").read_text("utf-8")
    assert "gb learnt from" in shown and all(o in shown for o in ("real alone  ", "synthetic alone  "))


def test_misspelt_parameter_is_refused(tmp_path):
    done = papermill(tmp_path, data_pth="somewhere")
    assert done.returncode == 1 and "no parameter data_pth" in done.stderr
