"""The rule of retraining, by simulation: it promotes what is better, and noise hardly ever."""

import numpy as np
import pytest

from datacloak_nb.config import load_config
from datacloak_nb.evaluation.paired import compare_answers, simulate_answers
from datacloak_nb.retraining import decide, promotion_rate


def test_equal_models_are_not_promoted():
    assert promotion_rate(load_config(), (0.945, 0.945), trials=300) <= 0.01


def test_a_model_better_by_three_points_is_promoted():
    assert promotion_rate(load_config(), (0.945, 0.975), trials=300) >= 0.9


def test_the_simulated_gain_is_three_points_in_both_figures():
    rng, found = np.random.default_rng(1), []
    for _ in range(100):
        y, pair, tables = simulate_answers(rng, (0.945, 0.975))
        overall = compare_answers(y, *pair, tables, draws=100).overall
        found.append([overall[o].difference for o in ("accuracy", "macro_f1")])
    assert np.mean(found, 0) == pytest.approx([0.03, 0.03], abs=0.005)


def test_columns_on_which_either_model_alone_is_right():
    alone = [(o.mcnemar.only_a, o.mcnemar.only_b) for o in (
        compare_answers(y, *pair, tables, draws=100) for y, pair, tables in map(
            simulate_answers, map(np.random.default_rng, range(20))))]
    assert all(20 <= n <= 140 for pair in alone for n in pair)


@pytest.mark.parametrize("tables, promoted", [(99, False), (100, True)])
def test_too_few_tables_promote_nothing(tables, promoted):
    y, (a, _), groups = simulate_answers(np.random.default_rng(0), columns=600, tables=tables)
    comparison = compare_answers(y, a, y, groups)
    assert decide(comparison, load_config(retraining__rule="gain"), "1", "2").promote == promoted


def test_rates_hold_where_the_text_classes_are_absent():
    y, pair, groups = simulate_answers(np.random.default_rng(0), (0.9, 0.97))
    rows = y > 1
    pair = [np.maximum(o[rows], 2) - 2 for o in pair]
    comparison = compare_answers(y[rows] - 2, *pair, groups[rows], tuple("abcdef"))
    assert comparison.overall["text_false_positive_rate"].difference in (0, None)
    assert decide(comparison, load_config(), "1", "2").promote
