"""The two models and their training, on toy data."""
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.model_selection import StratifiedKFold

from datacloak_nb.columns import DataCloakError
from datacloak_nb.config import load_config
from datacloak_nb.models import base, boosting, forest, network, search
from datacloak_nb.training import train

KINDS = "text", "number", "date"


def toy(rows=240, features=10, classes=3, seed=0):
    X, y = make_classification(rows, features, n_informative=6, n_redundant=0, n_classes=classes, random_state=seed)
    return X.astype(np.float32), y


def folds_of(X, y, n=3):
    return list(StratifiedKFold(n, shuffle=True, random_state=0).split(X, y))


def config(model_type="all", epochs=8, max_forest_mb=30, **search):
    search = dict(draws=3, grid=dict(n_estimators=[5, 10, 20])) | search
    return load_config(
        training=dict(epochs=epochs), export=dict(max_forest_mb=max_forest_mb),
        models=dict(model_type=model_type, random_forest=dict(n_estimators=10, search=search),
                    gradient_boosting=dict(max_iter=5, search=dict(strategy="none")),
                    neural_network=dict(hidden_layers=[16, 8])))


@pytest.fixture
def fits(monkeypatch):
    "A list that grows by the settings of every forest fitted."
    seen, fit = [], forest.fit_forest
    monkeypatch.setattr(forest, "fit_forest", lambda *args: seen.append(args[3]) or fit(*args))
    return seen


def interrupt_after(n):
    def progress(stage, done, total):
        if done == n:
            raise KeyboardInterrupt
    return progress


def search_forest(X, y, config, work_dir=None, progress=None, folds=None):
    space, limit = forest.forest_space(config), config.export.max_forest_mb
    return search.run_search(X, y, folds or folds_of(X, y), KINDS, space, limit, None, work_dir, progress)


# Forest

def test_same_seed_same_forest():
    X, y = toy()
    a, b, other = (forest.fit_forest(X, y, KINDS, dict(n_estimators=12), seed) for seed in (3, 3, 4))
    assert np.array_equal(a.predict_proba(X), b.predict_proba(X))
    assert not np.array_equal(a.predict_proba(X), other.predict_proba(X))


def test_prefixes_equal_smaller_forests():
    X, y = toy()
    answers = forest.prefix_probabilities(forest.fit_forest(X, y, KINDS, dict(n_estimators=25)), X, [1, 7, 25])
    for size, answer in answers.items():
        alone = forest.fit_forest(X, y, KINDS, dict(n_estimators=size)).native
        assert np.array_equal(answer, alone.predict_proba(X))


@pytest.mark.parametrize("features, classes", [(6, 2), (10, 3), (40, 5)])
def test_any_number_of_features_and_classes(features, classes):
    X, y = toy(features=features, classes=classes)
    model = forest.fit_forest(X, y, tuple("abcde"[:classes]), dict(n_estimators=5))
    answer = model.predict_proba(X)
    assert answer.shape == (len(X), classes) and answer.dtype == np.float32
    assert model.kind == "rf" and model.classes == tuple("abcde"[:classes])


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_size_estimate_holds(classes):
    from skl2onnx import to_onnx
    X, y = toy(600, 20, classes)
    model = forest.fit_forest(X, y, tuple(map(str, range(classes))), dict(n_estimators=40))
    written = len(to_onnx(model.native, X[:1], options={"zipmap": False}, target_opset=14).SerializeToString())
    assert search.megabytes(model.nodes, classes if classes > 2 else 1) == pytest.approx(written / 1e6, rel=0.1)


def test_interrupted_search_resumes(tmp_path, fits):
    X, y = toy()
    with pytest.raises(KeyboardInterrupt):
        search_forest(X, y, config(), tmp_path, interrupt_after(5))
    assert len(fits) == 5  # one candidate of three folds, and two folds of the next
    resumed = search_forest(X, y, config(), tmp_path)
    assert len(fits) == 5 + 6
    again = search_forest(X, y, config(), tmp_path)
    assert len(fits) == 5 + 6
    straight = search_forest(X, y, config())
    assert np.array_equal(straight.fold_scores, resumed.fold_scores)
    assert straight.table.equals(resumed.table) and straight.table.equals(again.table)
    assert again.answers is None and [o.shape for o in straight.answers] == [(len(o), 3) for _, o in folds_of(X, y)]


def test_more_draws_keep_the_finished_ones(tmp_path, fits):
    X, y = toy()
    search_forest(X, y, config(draws=2), tmp_path)
    search_forest(X, y, config(draws=4), tmp_path)
    assert len(fits) == 4 * 3


def test_other_data_is_another_study(tmp_path, fits):
    X, y = toy()
    search_forest(X, y, config(draws=1), tmp_path)
    search_forest(X + 1, y, config(draws=1), tmp_path)
    assert len(fits) == 2 * 3


def test_trees_are_never_fitted_twice(fits):
    X, y = toy()
    found = search_forest(X, y, config(strategy="none"))
    assert [params["n_estimators"] for params in fits] == [10] * 3 and len(found.table) == 1
    del fits[:]
    found = search_forest(X, y, config(draws=2))
    assert [params["n_estimators"] for params in fits] == [20] * 6 and len(found.table) == 2 * 3


def test_budgeted_candidates_are_distinct_and_cheap():
    plan = forest.forest_space(load_config(models=dict(random_forest=dict(search=dict(draws=30))))).plan
    assert plan[0] == dict(split="random", max_depth=None, min_samples_split=5, min_samples_leaf=1, max_features=0.3)
    assert len({tuple(c.values()) for c in plan}) == len(plan) == 30
    assert all(c["max_features"] for c in plan)


def test_full_features_when_asked():
    asked = load_config(models=dict(random_forest=dict(max_features=None)))
    plan = forest.forest_space(asked).plan
    assert [c["max_features"] for c in plan].count(None) == 1 and plan[0]["max_features"] is None


def test_choice_is_the_best_within_the_limit():
    scores = np.array([[0.90, 0.92, 0.94], [0.89, 0.93, 0.93], [0.80, 0.81, 0.83]])
    sizes = np.array([9.0, 4.0, 1.0])
    assert [search.choose(scores, sizes, limit) for limit in (30, 5, 2)] == [0, 1, 2]


def test_no_forest_within_the_limit_warns(caplog):
    assert search.choose(np.full((2, 3), 0.9), np.array([9.0, 4.0]), limit=2) == 1
    assert "exceeds 2 MB" in caplog.text


# Refusals

@pytest.mark.parametrize("change, message", [
    (lambda X, y: (X, y[1:]), "one row per label"),
    (lambda X, y: (X[:, 0], y), "one row per label"),
    (lambda X, y: (np.where(X > 1, np.inf, X), y), "NaN or infinite"),
    (lambda X, y: (X, y + 1), "from 1 to 3: expected 0 to 2"),
    (lambda X, y: (X[y != 1], y[y != 1]), "no rows of number"),
])
def test_unusable_data_is_refused(change, message):
    X, y = change(*toy())
    with pytest.raises(base.ModelError, match=message):
        forest.fit_forest(X, y, KINDS, dict(n_estimators=2))
    with pytest.raises(DataCloakError, match=message):
        network.fit_network(X, y, X, y, KINDS, config())


def test_class_missing_from_a_fold_is_named(fits):
    X, y = toy()
    folds = folds_of(X, y)
    folds[1] = np.flatnonzero(y != 2), np.flatnonzero(y == 2)
    with pytest.raises(base.ModelError, match="fold 2, training rows: no rows of date"):
        search_forest(X, y, config(), folds=folds)
    with pytest.raises(base.ModelError, match="fold 2"):
        train(X, y, folds, SimpleNamespace(train=np.arange(len(y)), validation=np.arange(9)), KINDS, config("nn"))
    assert not fits


def test_class_missing_from_held_out_rows_is_no_failure():
    assert base.macro_f1(np.array([0, 0, 1]), np.eye(3)[[0, 0, 1]]) == 1


# Boosting

def test_rounds_equal_smaller_boostings():
    X, y = toy()
    answers = boosting.staged_probabilities(boosting.fit_boosting(X, y, KINDS, dict(max_iter=8)), X, [2, 8])
    for rounds, answer in answers.items():
        assert np.array_equal(answer, boosting.fit_boosting(X, y, KINDS, dict(max_iter=rounds)).native.predict_proba(X))


# Weights and temperature

def test_a_large_table_counts_for_less():
    y, groups = np.arange(120) % 3, np.repeat([0, 1], [108, 12])
    weights = base.row_weights(y, groups, 0.5)
    assert weights[groups == 1] / weights[0] == pytest.approx(3)
    assert base.row_weights(y, groups, 0) == pytest.approx(1)
    assert np.bincount(y, weights) == pytest.approx(40)
    rare = np.repeat([0, 1], [90, 10])
    totals = [np.bincount(rare, base.row_weights(rare, balance=b)) for b in (0, 0.5, 1)]
    assert [a / b for a, b in totals] == pytest.approx([9, 3, 1])


@pytest.mark.parametrize("temperature", [0.3, 1, 4])
def test_temperature_is_found_again_and_keeps_the_order(temperature):
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 3000)
    y = np.array([rng.choice(3, p=row) for row in p])
    askew = base.temper(p, 1 / temperature)
    assert base.fit_temperature(y, askew) == pytest.approx(temperature, rel=0.1)
    assert (base.temper(p, temperature).argmax(1) == p.argmax(1)).all()


# Network

def test_small_deviation_survives_scaling():
    X = np.random.default_rng(0).normal(1e4, [0.01, 1], (5000, 2))
    mean, variance = network.scaling(X)
    assert np.sqrt(variance) == pytest.approx([0.01, 1], rel=0.05) and mean == pytest.approx([1e4, 1e4])


def test_constant_feature_gets_unit_variance():
    _, variance = network.scaling(np.full((1001, 1), 0.1, np.float32))
    assert variance == [1]


def test_odd_features_give_finite_answers():
    X, y = toy()
    X = np.column_stack([X, X[:, 0] * 0.01, np.full(len(X), 0.1), np.exp(10 * X[:, 1])]).astype(np.float32)
    model, history = network.fit_network(X, y, X, y, KINDS, config())
    assert np.isfinite(model.predict_proba(X * 1e6)).all() and np.isfinite(history.to_numpy()).all()
    assert history.loss.iloc[-1] < history.loss.iloc[0]


def test_single_constant_feature():
    X, y = np.ones((60, 1), np.float32), np.arange(60) % 3
    model, _ = network.fit_network(X, y, X, y, KINDS, config(epochs=2))
    assert np.isfinite(model.predict_proba(X)).all()


def test_same_seed_same_network_and_best_weights(tmp_path):
    X, y = toy()
    (a, history), (b, _) = (network.fit_network(X[:160], y[:160], X[160:], y[160:], KINDS, config(), tmp_path)
                            for _ in range(2))
    assert np.array_equal(a.predict_proba(X), b.predict_proba(X))
    loss = a.native.evaluate(X[160:], network.one_hot(y[160:], len(KINDS)), verbose=0)[0]
    assert loss == pytest.approx(history.val_loss.min(), rel=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["network.keras"]


def test_default_layers_are_the_specified_ones():
    plan = network.layer_plan(load_config().models.neural_network)
    assert [(units, normalized, round(dropout, 3)) for units, normalized, dropout in plan] == [
        (512, True, 0.3), (256, True, 0.3), (128, True, 0.2), (64, False, 0.2)]


# Training

def test_training_reads_no_test_row_and_picks_on_validation(tmp_path):
    X, y = toy(360)
    X[300:], split = np.nan, SimpleNamespace(train=np.arange(240), validation=np.arange(240, 300))
    seen, folds = [], folds_of(X[:240], y[:240])
    trained = train(X, y, folds, split, KINDS, config(), tmp_path, lambda *args: seen.append(args))
    assert list(trained.models) == ["rf", "gb", "nn", "blend"] and trained.best == trained.scores.f1_macro.idxmax()
    assert {kind: len(scores) for kind, scores in trained.cv.items()} == dict(rf=3, gb=3, nn=3, blend=3)
    assert {stage for stage, *_ in seen} == {"forest search", "boosting search", "network", "nn on folds"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.keras", "search.db"]
    seen.clear() # the search is recalled, and its answers on the folds have to be made again
    again = train(X, y, folds, split, KINDS, config(), tmp_path, lambda *args: seen.append(args))
    assert {stage for stage, *_ in seen} == {"network", "rf on folds", "gb on folds", "nn on folds"}
    assert all(np.array_equal(again.out_of_fold[kind], trained.out_of_fold[kind]) for kind in ("rf", "gb"))


@pytest.mark.parametrize("kind", ["rf", "gb", "nn"])
def test_one_kind_alone(kind):
    X, y = toy(300)
    split = SimpleNamespace(train=np.arange(240), validation=np.arange(240, 300))
    trained = train(X, y, folds_of(X[:240], y[:240]), split, KINDS, config(kind), pick_on=np.arange(300) % 2 == 0)
    assert list(trained.models) == [kind] == [trained.best] and trained.scores.rows.tolist() == [30]


def test_importing_training_is_cheap():
    code = "import sys, datacloak_nb.training; print({'tensorflow', 'sklearn', 'optuna'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
