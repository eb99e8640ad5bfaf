"""Made columns are the same everywhere, and are what their label says."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from datacloak_nb.columns import Column
from datacloak_nb.features.extract import extract
from datacloak_nb.labels import LABELS
from datacloak_nb.models.forest import fit_forest
from datacloak_nb.synthetic import RECIPES, Draw, _brief, languages, make_column, make_columns

DIGEST = """
import hashlib
from datacloak_nb.synthetic import make_columns
cells = [(o.column.header, o.column.cells.to_pylist()) for o in make_columns(80, 7)]
print(hashlib.sha256(repr(cells).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def forest():
    "A small forest that has seen made columns only."
    made = make_columns(1600, 5)
    y = np.array([LABELS.index(o.label) for o in made])
    params = dict(split="random", n_estimators=60, max_features=0.2)
    return fit_forest(extract([o.column for o in made]), y, LABELS, params)


def test_the_same_in_any_process():
    made = {subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True,
                           env=os.environ | dict(PYTHONHASHSEED=seed, TZ=zone)).stdout
            for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))}
    here = [(o.column.header, o.column.cells.to_pylist()) for o in make_columns(80, 7)]
    assert made == {hashlib.sha256(repr(here).encode()).hexdigest() + "\n"}


def test_a_column_does_not_depend_on_how_many_are_made():
    few, many = make_columns(10, 3), make_columns(40, 3)
    assert [o.column.cells for o in few] == [o.column.cells for o in many[:10]]


@pytest.mark.parametrize("label", LABELS)
def test_columns_keep_their_promise(label):
    columns = [make_column(label, [11, i], str(i)) for i in range(60)]
    assert len({o.language for o in columns}) > 12 and {(o.label, o.source) for o in columns} == {(label, "synthetic")}
    facts = [o.column.facts for o in columns]
    if label == "boolean": assert all(1 <= o.distinct <= 6 for o in facts)
    if label == "categorical": assert all(o.distinct <= max(o.rows / 2, 5) for o in facts)
    if label != "unknown": assert all(o.distinct > 1 or o.missing for o in facts)
    assert len(RECIPES[label]) >= 5


def test_short_remarks_lie_just_above_the_line_of_the_guide():
    columns = [_brief(Draw(np.random.default_rng(i), "pl")) for i in range(60)]
    words = np.array([np.median([len(o.split()) for o in cells]) for cells in columns])
    characters = np.array([np.median([len(o) for o in cells]) for cells in columns])
    unspaced = words < 4
    assert .4 < unspaced.mean() < .8 and (8 <= words[~unspaced]).all() and (words < 13).all()
    assert (15 <= characters[unspaced]).all() and (characters[unspaced] < 36).all()


@pytest.mark.parametrize("spoken", [("en", "zh", "ar", "ru"), ("de", "ja", "hi", "es"), ("fr", "ko", "he", "pl")])
def test_columns_of_several_languages_are_read(spoken, forest):
    voices, rng = [languages()[o] for o in spoken], np.random.default_rng(0)
    rows = [voices[i % len(voices)] for i in range(60)]
    draws = [Draw(np.random.default_rng(i), spoken[i % len(spoken)]) for i in range(60)]
    columns = dict(text_long=[rng.choice(o["sentences"]) for o in rows],
                   boolean=[rng.choice(o["truths"][0]) for o in rows], text_short=[o.fake.name() for o in draws])
    found = forest.predict_proba(extract([Column("q7", cells) for cells in columns.values()])).argmax(1)
    assert [LABELS[o] for o in found] == list(columns)
