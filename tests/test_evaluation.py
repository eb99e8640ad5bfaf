"""Figures against scikit-learn, intervals, calibration, metrics.json and the pictures."""
import json
import re
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from sklearn import metrics as sk

from datacloak_nb.columns import DataCloakError
from datacloak_nb.evaluation import plots
from datacloak_nb.evaluation.calibration import EvaluationError, calibrate
from datacloak_nb.evaluation.metrics import (
    BelowThreshold,
    bootstrap_confusion,
    compare,
    count_confusion,
    enforce_minimum,
    evaluate,
    load_metrics,
    overall_scores,
    save_metrics,
)
from datacloak_nb.labels import LABELS

matplotlib.use("Agg")


def answers(n=300, classes=8, seed=0, absent=(), sharpness=3.0):
    "Labels without the absent classes, and probabilities that favour the truth."
    rng = np.random.default_rng(seed)
    y = rng.choice([i for i in range(classes) if i not in absent], n)
    logits = rng.normal(size=(n, classes)) + sharpness * np.eye(classes)[y]
    p = np.exp(logits)
    return y, p / p.sum(1, keepdims=True)


def names(n):
    return tuple(f"class {i}" for i in range(n))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes, absent", [(2, ()), (3, (1,)), (8, ()), (8, (0, 6, 7)), (8, tuple(range(1, 8)))])
def test_figures_agree_with_scikit_learn(seed, classes, absent):
    y, p = answers(60, classes, seed, absent, sharpness=1.0)
    found = evaluate(y, p, names(classes))
    rows = dict(y_true=y, y_pred=p.argmax(1), zero_division=0)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(**rows, labels=np.unique(y), average="macro")
    assert (found.macro_precision, found.macro_recall, found.macro_f1) == pytest.approx((precision, recall, f1))
    assert found.accuracy == pytest.approx(sk.accuracy_score(y, p.argmax(1)))
    assert np.array_equal(found.confusion, sk.confusion_matrix(y, p.argmax(1), labels=range(classes)))
    each = sk.precision_recall_fscore_support(**rows, labels=range(classes))
    for i, one in enumerate(found.per_class.values()):
        assert (one.precision or 0, one.recall or 0, one.f1 or 0, one.support) == pytest.approx([o[i] for o in each])


def test_an_absent_class_has_no_scores_and_an_unanswered_one_no_precision():
    y, p = np.array([0, 0, 1]), np.eye(3)[[0, 0, 2]]
    one = evaluate(y, p, names(3)).per_class
    assert (one["class 2"].recall, one["class 2"].f1, one["class 2"].precision) == (None, None, 0)
    assert (one["class 1"].recall, one["class 1"].f1, one["class 1"].precision) == (0, 0, None)
    assert evaluate(y, p, names(3)).classes_present == 2


def test_text_figures_are_about_the_text_classes():
    y = np.array([0, 1, 2, 3, 4, 4])
    found = evaluate(y, np.eye(8)[[0, 0, 0, 3, 1, 4]])
    assert found.text_precision == {"text_long": pytest.approx(1 / 3), "text_short": 0}
    assert found.text_false_positive_rate == pytest.approx(2 / 4)
    assert evaluate(y, np.eye(8)[y], text_classes=["numeric"]).text_precision == {"numeric": 1}
    assert evaluate([0, 1], np.eye(8)[[0, 1]]).text_false_positive_rate is None


def test_rates_divide_each_row_and_pairs_are_sorted():
    found = evaluate([0, 0, 0, 0, 1], np.eye(3)[[0, 1, 1, 2, 0]], names(3))
    assert found.confusion_rates == ((0.25, 0.5, 0.25), (1, 0, 0), (0, 0, 0))
    assert [(o.true, o.predicted, o.n, o.share) for o in found.confused] == [
        ("class 0", "class 1", 2, 0.5), ("class 0", "class 2", 1, 0.25), ("class 1", "class 0", 1, 1)]


def test_parts_are_scored_apart_and_empty_ones_left_out():
    y, p = answers()
    real = np.arange(300) < 100
    found = evaluate(y, p, parts=dict(real=real, synthetic=~real, none=real & ~real))
    assert list(found.parts) == ["real", "synthetic"]
    alone = evaluate(y[real], p[real])
    for figure in ("n", "accuracy", "macro_f1", "text_false_positive_rate"):
        assert getattr(found.parts["real"], figure) == getattr(alone, figure)


def test_intervals_hold_the_value_and_widen_with_whole_tables():
    y, p = answers(sharpness=2.0)
    rows = evaluate(y, p)
    for name, (low, high) in rows.intervals.items():
        assert low <= getattr(rows, name) <= high, name
    right = p.argmax(1) == y
    tables = np.argsort(np.argsort(right, kind="stable")) // 30  # right answers share their tables
    low, high = evaluate(y, p, groups=tables).intervals["accuracy"]
    assert high - low > 2 * (rows.intervals["accuracy"][1] - rows.intervals["accuracy"][0])
    assert evaluate(y, p, groups=tables) == evaluate(y, p, groups=tables.astype(str))


def test_no_mistake_is_not_taken_for_infallible():
    y = np.arange(40) % 8
    few, many = (evaluate(y, np.eye(8)[y], groups=np.arange(40) % n) for n in (3, 40))
    for name, value in dict(accuracy=1, macro_f1=1, text_false_positive_rate=0).items():
        widths = [np.ptp(o.intervals[name]) for o in (few, many)]
        assert widths[0] > widths[1] > 0 and value in few.intervals[name]
    assert few.per_class["numeric"].f1_interval[0] < 0.6


def test_a_bootstrap_draw_adds_up_whole_tables():
    y, p = answers(40, 3)
    drawn = bootstrap_confusion(count_confusion(y, p.argmax(1), 3, np.repeat(range(4), 10)), draws=50)
    assert (drawn.sum((1, 2)) == 40).all()
    assert overall_scores(drawn)["accuracy"].std() > 0


def test_calibration_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]])
    found = calibrate([0, 1, 1, 1], p)
    assert [(o.n, o.accuracy) for o in found.bins] == [(2, 1), (2, 0.5)]
    assert found.ece == pytest.approx((2 * 0.3 + 2 * 0.4) / 4)
    assert found.overconfidence == pytest.approx(0.8 - 0.75)


def test_cross_validation_is_carried_along():
    found = evaluate(*answers(), folds=[0.8, 0.9]).cross_validation
    assert (found.mean, found.deviation) == pytest.approx((0.85, np.std([0.8, 0.9], ddof=1)))


@pytest.mark.parametrize("change, message", [
    (dict(y_true=[0, 1]), "labels (2,), probabilities (300, 8)"),
    (dict(classes=LABELS[:3]), "expected (rows,), (rows, 3)"),
    (dict(y_true=np.full(300, 8)), "labels run from 8 to 8: expected 0 to 7"),
    (dict(probabilities=np.full((300, 8), np.nan)), "no NaN"),
    (dict(probabilities=np.ones((300, 8))), "add up to 1"),
    (dict(text_classes=("prose",)), "['prose'] are not among the classes"),
    (dict(parts={"real": [True]}), "real: shape (1,)"),
    (dict(groups=["a"]), "groups: shape (1,)"),
    (dict(y_true=[], probabilities=np.ones((0, 8))), "no rows to evaluate"),
])
def test_what_does_not_fit_is_refused(change, message):
    y, p = answers()
    with pytest.raises(EvaluationError, match=re.escape(message)):
        evaluate(**dict(y_true=y, probabilities=p) | change)


def test_metrics_json_round_trips(tmp_path):
    one = evaluate(*answers(absent=(3,)), parts=dict(all=np.ones(300, bool)), folds=[0.5, 0.6])
    path = save_metrics(dict(rf=one, nn=evaluate(*answers(seed=1))), tmp_path / "deep" / "metrics.json")
    assert load_metrics(path)["rf"] == one
    assert [o.name for o in path.parent.iterdir()] == ["metrics.json"]
    assert json.loads(path.read_text())["models"]["rf"]["per_class"]["datetime"]["f1"] is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": "1", "models": {"rf": {"n": 1}}}', "\x00"])
def test_a_broken_metrics_file_is_refused(tmp_path, text):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match="metrics.json is not a readable metrics file"):
        load_metrics(path)


def test_a_missing_metrics_file_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="FileNotFoundError"):
        load_metrics(tmp_path / "metrics.json")


def test_the_floor_is_enforced():
    found = evaluate(*answers())
    enforce_minimum(found, found.accuracy)
    with pytest.raises(BelowThreshold, match=r"below evaluation.min_accuracy_threshold 1"):
        enforce_minimum(found, 1)
    assert issubclass(BelowThreshold, DataCloakError)


def test_models_side_by_side():
    table = compare(dict(rf=evaluate(*answers(), folds=[0.5]), nn=evaluate(*answers(seed=1))))
    assert list(table.index) == ["rf", "nn"] and table.cv_mean.isna().tolist() == [False, True]


# ---- pictures

PLOTS = {
    "counts": plots.plot_confusion,
    "rates": lambda o, ax=None: plots.plot_confusion(o, rates=True, ax=ax),
    "reliability": plots.plot_reliability,
    "classes": plots.plot_classes,
    "parts": plots.plot_parts,
    "coverage": plots.plot_coverage,
    "models": lambda o, ax=None: plots.plot_models(dict(rf=o, nn=o), ax=ax),
    "one model": lambda o, ax=None: plots.plot_models(dict(rf=o), ax=ax),
}
EVALUATIONS = {
    "usual": lambda: evaluate(*answers(), parts=dict(real=np.arange(300) < 100)),
    "absent classes": lambda: evaluate(*answers(absent=(0, 5)), parts=dict(real=np.arange(300) < 1)),
    "no mistake": lambda: evaluate(*answers(sharpness=50), parts=dict(real=np.arange(300) < 100)),
    "two classes": lambda: evaluate(*answers(classes=2), names(2), parts=dict(real=np.arange(300) < 100)),
}


@pytest.fixture
def figure():
    import matplotlib.pyplot as plt
    yield plt.figure(figsize=(5, 4))
    plt.close("all")


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize("case", EVALUATIONS)
def test_every_plot_draws_on_the_axes_it_is_given_and_has_a_title(figure, plot, case):
    ax = figure.add_subplot()
    assert PLOTS[plot](EVALUATIONS[case](), ax=ax) is ax
    assert ax.get_title(loc="left")
    figure.canvas.draw()


def test_a_plot_makes_its_own_axes(figure):
    assert plots.plot_classes(EVALUATIONS["usual"]()).figure is not figure


def test_titles_name_the_finding(figure):
    found = evaluate([4] * 10 + [0], np.eye(8)[[1] * 3 + [4] * 7 + [0]])
    title = plots.plot_confusion(found).get_title(loc="left")
    assert " ".join(title.split()) == "Columns: categorical is taken for text_short 3 times"


def test_the_theme_leaves_settings_as_they_were():
    before = dict(matplotlib.rcParams)
    with plots.theme():
        assert dict(matplotlib.rcParams) != before
    assert dict(matplotlib.rcParams) == before


def test_figures_are_saved_the_same_every_time(tmp_path, figure):
    contents = []
    for name in ("a", "b"):
        drawn = plots.confusion_figure(EVALUATIONS["usual"]())
        paths = plots.save_figure(drawn, tmp_path / name, "confusion")
        contents.append({kind: path.read_bytes() for kind, path in paths.items()})
    assert contents[0] == contents[1]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["confusion.png", "confusion.svg"]
    svg = contents[0]["svg"].decode()
    assert "<dc:date>" not in svg and "http://matplotlib.org" not in svg


def test_evaluation_needs_neither_tensorflow_nor_scikit_learn(tmp_path):
    code = ("import sys, datacloak_nb.evaluation.plots as p, datacloak_nb.evaluation.metrics as m\n"
            "m.evaluate([0, 1], [[.9, .1], [.2, .8]], ('a', 'b'))\n"
            "print(sorted({'tensorflow', 'sklearn', 'matplotlib'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"


