"""Hundreds of simulated weeks: nothing alarms where nothing has changed, and a fall of ten points does.

Tables differ in difficulty and in what their columns look like, so the columns of a table are alike. The model is
calibrated: an answer is right as often as it says.
"""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from datacloak_nb.config import load_config
from datacloak_nb.features.names import feature_hash
from datacloak_nb.labels import LABELS
from datacloak_nb.monitoring.drift import DRIFT, INSUFFICIENT, STEADY, check_drift, check_window
from datacloak_nb.monitoring.log import Window, open_log
from datacloak_nb.monitoring.reference import (
    CONFIDENCE_BINS, Reference, confidence_codes, make_reference, mean_variance, spreads)

SETTINGS = load_config().monitoring
SINCE, UNTIL = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 8, tzinfo=UTC)
FEATURES, BINS, EDGES = 376, 5, np.float32([-.7, 0, .7])
HARDER = 1.25 # by which the accuracy falls by ten points


class World:
    "Where columns come from."
    def __init__(self, largest, seed): self.largest, self.rng = largest, np.random.default_rng(seed)

    def columns(self, n, harder=0., moved=0., share=1., features=True):
        "(confidence, right, class, codes, place) of about `n` columns; a share of the tables is harder or has moved."
        sizes = self.rng.integers(1, self.largest + 1, 2 * n // (self.largest + 1))
        place = np.repeat(np.arange(len(sizes)), sizes)
        odd = (self.rng.random(len(sizes)) < share)[place]
        alike = self.rng.normal(size=(len(sizes), 2))[place] + 1.2 * self.rng.normal(size=(len(place), 2))
        confidence = .2 + .8 / (1 + np.exp(alike[:, 0] - 3 + harder * odd))
        x = self.rng.standard_normal((len(sizes), FEATURES * features), np.float32)[place]
        if self.largest > 1: x += self.rng.standard_normal(x.shape, np.float32)
        x[:, :40] += np.float32(moved * odd[:, None])
        codes = 1 + sum((x > o).astype(np.uint8) for o in EDGES)
        kind = np.searchsorted(np.linspace(-2, 2, 7), alike[:, 1])
        return confidence, self.rng.random(len(place)) < confidence, kind, codes, place

    def reference(self, n=2000):
        confidence, right, kind, codes, place = self.columns(n)
        answers = np.stack([kind, confidence_codes(confidence), right], axis=1)
        predicted, sure, correct = spreads(answers, place, [8, CONFIDENCE_BINS, 2])
        return Reference(
            model_version="1.2.0", feature_hash=feature_hash(), classes=LABELS, n=len(place), tables=place.max() + 1,
            predicted=predicted, confidence=sure, mean_confidence=confidence.mean(), right=right.sum(),
            confidence_error=mean_variance(confidence, place)**.5, accuracy_design=correct.design,
            edges=((-.7, 0, .7),) * FEATURES, features=spreads(codes.astype(int), place, [BINS] * FEATURES))

    def check(self, reference, n, labelled=0, **drift):
        confidence, right, kind, codes, place = self.columns(n, **drift)
        said = np.take(LABELS, kind)
        truth = np.where(np.arange(len(place)) < labelled, np.where(right, said, "another"), None)
        rows = pd.DataFrame(dict(batch=place, prediction=said, confidence=confidence, truth=truth))
        return check_window(Window(rows, LABELS, None, codes), reference, SETTINGS, SINCE, UNTIL)


@pytest.fixture(scope="module", params=[15, 1], ids=["tables", "single columns"])
def world(request):
    world = World(request.param, 1)
    return world, [world.reference() for _ in range(10)]


def test_undrifted_weeks_do_not_alarm(world):
    world, references = world
    weeks = 500 if world.largest > 1 else 200 # those take longer, and hold fewer surprises
    found = [world.check(references[i % 10], 560, labelled=300).answer for i in range(weeks)]
    assert found.count(DRIFT) <= .01 * weeks and found.count(INSUFFICIENT) == 0


@pytest.mark.parametrize("largest", [15, 1])
def test_undrifted_weeks_of_all_sizes_do_not_alarm(largest):
    world = World(largest, 2)
    references = [world.reference(1000) for _ in range(10)]
    for n, labelled in (120, 110), (1500, 1000):
        found = [world.check(references[i % 10], n, labelled, features=False) for i in range(500)]
        assert sum(o.answer == DRIFT for o in found) <= 5


def test_ten_points_are_caught_with_1000_labels(world):
    world, references = world
    found = [world.check(references[i % 10], 1100, labelled=1000, features=False, harder=HARDER) for i in range(200)]
    assert 1 - np.mean([o.accuracy.accuracy for o in found]) == pytest.approx(.18, abs=.02)
    assert sum(o.accuracy.answer == DRIFT for o in found) >= 190


def test_ten_points_are_caught_in_5000_without_labels(world):
    world, references = world
    found = [world.check(references[i % 10], 5000, features=False, harder=HARDER) for i in range(200)]
    assert sum(o.answer == DRIFT for o in found) >= 190
    assert {o.accuracy.answer for o in found} == {INSUFFICIENT}


def test_columns_of_another_kind_are_caught_though_the_model_is_sure(world):
    world, references = world
    found = [world.check(references[i % 10], 5000, moved=4., share=.4) for i in range(10)]
    assert all(o.answer == DRIFT and o.estimate.answer == STEADY for o in found)
    drifted = np.array([[o.drifted for o in report.features] for report in found])
    assert drifted[:, :40].mean() > .9 and not drifted[:, 40:].any()


def test_what_the_model_does_not_notice_needs_labels(world):
    world, references = world
    confidence, right, kind, codes, place = world.columns(5000)
    said, right = np.take(LABELS, kind), right & (world.rng.random(len(right)) > .12)
    rows = pd.DataFrame(dict(batch=place, prediction=said, confidence=confidence, truth=None))
    window = Window(rows, LABELS, None, codes)
    assert check_window(window, references[0], SETTINGS, SINCE, UNTIL).answer == STEADY
    rows["truth"] = np.where(np.arange(len(place)) < 1000, np.where(right, said, "another"), None)
    assert check_window(window, references[0], SETTINGS, SINCE, UNTIL).answer == DRIFT


def test_improvement_never_alarms(world):
    world, references = world
    for labelled in 0, 1000:
        found = [world.check(references[i % 10], 3000, labelled, features=False, harder=-2.) for i in range(100)]
        assert {o.answer for o in found} == {STEADY}


def test_labels_outrank_what_has_only_moved(world):
    world, references = world
    report = world.check(references[0], 3000, labelled=2500, moved=4., share=.4)
    assert report.answer == STEADY and "of the features moved" in report.notes[0] and report.reasons == ()


def test_too_little_is_an_answer_of_its_own():
    world = World(15, 3)
    reference = world.reference()
    assert world.check(reference, 90, labelled=90, harder=9.).answer == INSUFFICIENT
    assert world.check(reference, 400, harder=9., moved=3.).answer == INSUFFICIENT
    assert world.check(reference, 600, harder=9.).answer == DRIFT
    confidence, _, kind, codes, place = world.columns(2000, harder=9.)
    rows = pd.DataFrame(dict(batch=place % 10, prediction=np.take(LABELS, kind), confidence=confidence, truth=None))
    report = check_window(Window(rows, LABELS, None, codes), reference, SETTINGS, SINCE, UNTIL)
    assert report.answer == INSUFFICIENT and "of 10 tables" in report.reasons[0]


def test_from_a_log(tmp_path):
    rng = np.random.default_rng(0)
    X, p, table = rng.normal(size=(2000, FEATURES)), rng.dirichlet(np.full(8, .1), 2000), np.arange(2000) // 10
    y = np.array([rng.choice(8, p=o / o.sum()) for o in p])
    reference = make_reference(X[:1000], p[:1000], y[:1000], LABELS, table[:1000], "1.2.0")
    with open_log(tmp_path / "log.db") as log:
        for rows in np.split(np.arange(1000, 2000), 100):
            keys = log.add(X[rows], p[rows], LABELS, "1.2.0", reference, datetime(2026, 6, 3, tzinfo=UTC))
            log.label(keys[:5], np.take(LABELS, y[rows[:5]]))
            log.add(X[rows] + 2, p[rows], LABELS, "1.2.0", reference, datetime(2026, 7, 3, tzinfo=UTC))
        report = check_drift(log, reference, now=UNTIL)
        assert (report.answer, report.n, report.accuracy.labelled) == (STEADY, 1000, 500)
        later = check_drift(log, reference, now=datetime(2026, 7, 6, tzinfo=UTC))
        assert (later.answer, later.drifted, later.accuracy.labelled) == (DRIFT, 1, 0)
        assert check_drift(log, reference.model_copy(update=dict(model_version="2")), now=UNTIL).answer == INSUFFICIENT
