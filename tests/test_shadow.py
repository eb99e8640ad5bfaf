"""Shadow: whatever a challenger does, the answers are the champion's, in time; what it said is in the log."""

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import CANARY, files_holding

from datacloak_nb.config import load_config
from datacloak_nb.deploy.export import to_onnx
from datacloak_nb.evaluation.paired import compare_answers
from datacloak_nb.features.extract import extract
from datacloak_nb.labels import LABELS
from datacloak_nb.models.forest import fit_forest
from datacloak_nb.monitoring import shadow as room
from datacloak_nb.monitoring.log import open_log
from datacloak_nb.monitoring.shadow import Shadow, ShadowError, assigned, compare_shadow, paired_answers
from datacloak_nb.predict import read_classifier


@pytest.fixture(scope="module")
def features(tiny_columns):
    return extract([o.column for o in tiny_columns])


@pytest.fixture(scope="module")
def truth(tiny_columns):
    return np.array([LABELS.index(o.label) for o in tiny_columns])


@pytest.fixture(scope="module")
def pair(features, truth):
    "Two real models: one saw few columns and errs, one saw all."
    export, shown = load_config().export, np.arange(len(truth)) % 32 < 8
    made = {"1.2.0": fit_forest(features[shown], truth[shown], LABELS, dict(n_estimators=2, max_leaf_nodes=8)),
            "1.3.0": fit_forest(features, truth, LABELS, dict(n_estimators=10))}
    return [read_classifier(to_onnx(model, version, export)) for version, model in made.items()]


@pytest.fixture
def log(tmp_path):
    with open_log(tmp_path / "log.db") as opened:
        yield opened


class Harmful:
    "A challenger that does what it is told to."
    classes, version, abstain_below = LABELS, "9.9.9", .6

    def __init__(self, act):
        self.probabilities = act


def leave(X):
    raise SystemExit(3)


def fail(X):
    return 1 / 0


HARM = dict(fails=fail, leaves=leave, none=lambda X: None, nan=lambda X: np.full((len(X), 8), np.nan),
            narrow=lambda X: np.zeros((len(X), 7)), short=lambda X: np.zeros((1, 8)), text=lambda X: CANARY)


# In the shadow


def test_the_answer_is_the_champions_and_both_are_in_the_log(pair, features, log):
    champion, challenger = pair
    both = Shadow(champion, challenger, log)
    assert (both.probabilities(features) == champion.probabilities(features)).all()
    both.close()
    answers, classes = paired_answers(log, "1.2.0", "1.3.0")
    one, other = (o.probabilities(features).argmax(1) for o in pair)
    answers = answers.loc[log.keys(features)]
    assert [classes.index(o) for o in answers.champion] == one.tolist()
    assert [classes.index(o) for o in answers.challenger] == other.tolist()
    assert both.tally() == dict(asked=len(one), disagreed=(one != other).sum()) and (one != other).any()
    times = [log.window(model_version=o).rows.time.unique().tolist() for o in ("1.2.0", "1.3.0")]
    assert times[0] == times[1] and len(times[0]) == 1


def test_a_table_is_answered_as_by_the_champion_with_its_features_made_once(pair, log, monkeypatch):
    frame = pd.DataFrame(dict(a=[f"{CANARY} was here {i}" for i in range(30)], b=range(30), c=["yes", "no"] * 15))
    frame = frame.rename(columns=dict(b=f"{CANARY} header"))
    champion, challenger = pair
    expected, made = champion.classify(frame), []
    whole = room.Classifier.classify.__globals__["extract_frame"]
    monkeypatch.setitem(room.Classifier.classify.__globals__, "extract_frame", lambda o: made.append(1) or whole(o))
    both = Shadow(champion, challenger, log)
    pd.testing.assert_frame_equal(both.classify(frame), expected)
    both.close()
    assert made == [1] and both.tally()["asked"] == 3 and len(both.classify(pd.DataFrame())) == 0
    log.flush()
    assert files_holding(log.engine.url.database.rpartition("/")[0]) == []


@pytest.mark.parametrize("share", [0., 1.])
@pytest.mark.parametrize("act", HARM.values(), ids=HARM)
def test_a_challenger_that_fails_harms_nobody(pair, features, log, caplog, act, share):
    champion = pair[0]
    both = Shadow(champion, Harmful(act), log, share)
    for _ in range(3):
        assert (both.probabilities(features[:50]) == champion.probabilities(features[:50])).all()
    both.close()
    assert both.tally() == dict(asked=150, failed=150) and CANARY not in caplog.text
    assert len(log.window(model_version="1.2.0")) == 150 and len(log.window(model_version="9.9.9")) == 0


def test_a_challenger_that_hangs_holds_nobody_up(pair, features, log):
    champion, free = pair[0], threading.Event()
    both = Shadow(champion, Harmful(lambda X: free.wait(30)), log, waiting=2)
    both.probabilities(features[:1])
    begun = time.monotonic()
    for _ in range(20):
        assert (both.probabilities(features[:10]) == champion.probabilities(features[:10])).all()
    assert time.monotonic() - begun < 3 and both.tally()["skipped"] >= 170
    assert len(log.window(model_version="1.2.0")) == 201
    begun = time.monotonic()
    both.close(.2)
    assert time.monotonic() - begun < 1
    free.set()


def test_a_share_waits_for_the_budget_and_no_longer(pair, features, log):
    champion, free = pair[0], threading.Event()
    both = Shadow(champion, Harmful(lambda X: free.wait(30)), log, share=1., budget=.2)
    begun = time.monotonic()
    assert (both.probabilities(features) == champion.probabilities(features)).all()
    assert .2 <= time.monotonic() - begun < 2 and "served" not in both.tally()
    free.set()


def _hang(folder, champion, X):
    with open_log(folder / "other.db") as log:
        Shadow(champion, Harmful(lambda X: time.sleep(60)), log).probabilities(X)
    raise SystemExit(7)


def test_a_process_can_end_while_its_challenger_hangs(tmp_path, features):
    class Quick(Harmful):
        version = "1.0.0"

    champion = Quick(lambda X: np.full((len(X), 8), .125, np.float32))
    process = multiprocessing.get_context("fork").Process(target=_hang, args=(tmp_path, champion, features[:5]))
    process.start()
    process.join(20)
    code = process.exitcode
    if code is None:
        os.kill(process.pid, signal.SIGKILL)
    assert code == 7


def test_a_log_that_cannot_be_written_spoils_no_answer(pair, features, log, caplog):
    both = Shadow(*pair, log, share=1., budget=20)
    with sqlite3.connect(log.engine.url.database) as c:
        c.execute("DROP TABLE datacloak_predictions")
    assert (both.probabilities(features) == pair[1].probabilities(features)).all()
    both.close()
    assert both.tally()["unlogged"] == 2 * len(features) and "are not logged" in caplog.text


def test_threads_share_it(pair, features, log):
    both, wrong = Shadow(*pair, log, waiting=100), []

    def ask():
        for part in np.split(features, 8):
            wrong.append((both.probabilities(part) != pair[0].probabilities(part)).any())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for o in threads:
        o.start()
    for o in threads:
        o.join()
    both.close()
    assert len(wrong) == 32 and not any(wrong) and both.tally()["asked"] == 4 * len(features)
    assert [len(log.window(model_version=o)) for o in ("1.2.0", "1.3.0")] == [4 * len(features)] * 2


# With a share


def test_each_column_gets_the_answer_of_the_model_that_it_was_dealt_to(pair, features, log):
    both = Shadow(*pair, log, share=.3, budget=20)
    taken = assigned(log.keys(features), "1.3.0", .3)
    expected = np.where(taken[:, None], pair[1].probabilities(features), pair[0].probabilities(features))
    for _ in range(2):
        assert (both.probabilities(features) == expected).all()
    both.close()
    assert both.tally()["served"] == 2 * taken.sum() and 0 < taken.mean() < .6
    order = np.random.default_rng(0).permutation(len(features))
    assert (assigned(log.keys(features[order]), "1.3.0", .3) == taken[order]).all()


def test_who_has_it_at_a_small_share_has_it_at_a_larger_one(features, log):
    keys = log.keys(features)
    small, large = assigned(keys, "1.3.0", .1), assigned(keys, "1.3.0", .5)
    assert not (small & ~large).any() and large.sum() > small.sum()


# Comparing


def test_the_comparison_is_the_paired_one_over_batches(pair, features, truth, log):
    both, tables = Shadow(*pair, log, waiting=100), np.arange(len(features)) // 12
    for table in np.unique(tables):
        both.probabilities(features[tables == table])
    both.close()
    with pytest.raises(ShadowError, match="^0 labelled columns"):
        compare_shadow(log, "1.2.0", "1.3.0")
    keys = log.keys(features)
    unique = [i for i, k in enumerate(keys) if k not in keys[i + 1:]]
    log.label(keys, [LABELS[i] for i in truth])
    found = compare_shadow(log, "1.2.0", "1.3.0", draws=300)
    one, other = (o.probabilities(features)[unique].argmax(1) for o in pair)
    right = np.array([LABELS.index(o) for o in paired_answers(log, "1.2.0", "1.3.0")[0].truth])
    assert found == compare_answers(right, one, other, tables[unique], draws=300)
    assert found.overall["accuracy"].difference > 0 and found.overall["accuracy"].low > 0


def test_models_that_do_not_belong_together_are_refused(pair, log):
    for wrong in (pair[0], replace(pair[1], classes=LABELS[::-1])):
        with pytest.raises(ShadowError):
            Shadow(pair[0], wrong, log)
