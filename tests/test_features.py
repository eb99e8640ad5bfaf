"""The 376 features: frozen names, golden values, portable patterns, and what a vector may depend on."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import re2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datacloak_nb.columns import Column, Profile, columns_from_frame, sample_column, sample_series
from datacloak_nb.features.batch import Batch
from datacloak_nb.features.extract import extract, extract_frame
from datacloak_nb.features.names import VERSION, feature_hash, feature_names, features
from datacloak_nb.features.patterns import match_cells

GOLDEN = Path(__file__).with_name("golden_features.json")

#: Made-up columns of every type, in several scripts, and the odd ones.
COLUMNS = [
    Column("review", ["The room was clean. We will come back!", None, "It is not for me.", "Is it? Yes, it is."]),
    Column("感想", ["とても良かったです。また来ます。", "料理は冷たかった。", ""]),
    Column("تعليق", ["هذا المنتج جيد جدا ولكن السعر مرتفع", "لم يعجبني"]),
    Column("customerName", ["Grace Hopper", "Alan Turing", "Tu Youyou"]),
    Column("price_eur", ["€ 12,50", "€ 1.200,00", "-", "€ 7,-"], Profile(1000, 10, 400, 57.5, 12.25, 0.0, 1200.0)),
    Column("lat", ["51.5007", "-33.8688", "40.7128"]),
    Column("Datum", ["31.12.1999", "01.01.2000", "n/a"]),
    Column("status", ["open", "closed", "open", "open", "closed"]),
    Column("id", [str(i) for i in range(1, 1201)]),
    Column("uuid", ["6f1ed002-ab5e-4f6a-9d38-cb2b1c1b1f5a", "0b9c4c5e-8f6e-4d53-9a53-0e6d7b0d3c11"]),
    Column("is_active", ["ja", "nein", "ja", None]),
    Column("", ['{"a": 1}', "[1, 2, 3]"]),
    Column("Unnamed: 0", []),
    Column("x", [None, "", "NA"]),
    Column("😀", ["\x00\ufffd", "e\u0301", "😀" * 2000]),
    Column("n", ["1e308", "-1e308", "5e-324", "-0", "9" * 400]),
]


def test_names_and_hash_are_frozen():
    assert VERSION == "1.0" and len(feature_names()) == len(set(feature_names())) == 376
    frozen = json.loads(GOLDEN.read_text("utf-8"))["hash"]
    assert feature_hash() == frozen, "a feature changed: models of version 1.0 break"


def test_golden_values():
    golden = json.loads(GOLDEN.read_text("utf-8"))["vectors"]
    np.testing.assert_allclose(extract(COLUMNS), np.array(golden, np.float32), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("feature", [o for o in features() if o.pattern], ids=lambda o: o.name)
def test_every_pattern_is_re2(feature):
    re2.compile(feature.pattern)


def test_alone_among_others_and_twice():
    together = extract(COLUMNS)
    np.testing.assert_array_equal(together, extract(COLUMNS))
    np.testing.assert_array_equal(together, np.concatenate([extract([o]) for o in COLUMNS]))
    np.testing.assert_array_equal(together[::-1], extract(COLUMNS[::-1]))


def test_storage_does_not_matter():
    frame = pd.DataFrame({"n": [1.0, None, 3.0], "flag": [True, False, None],
                          "day": pd.to_datetime(["2024-01-31", None, "1999-12-31"]),
                          "kind": pd.Categorical(["a", "b", "a"])})
    text = pd.DataFrame({"n": ["1", None, "3"], "flag": ["true", "false", None],
                         "day": ["2024-01-31", None, "1999-12-31"], "kind": ["a", "b", "a"]})
    np.testing.assert_array_equal(extract_frame(frame), extract_frame(text))
    np.testing.assert_array_equal(extract_frame(frame), extract(columns_from_frame(frame)))


def test_ten_million_rows_cost_a_sample():
    long = sample_series(pd.Series(np.arange(10_000_000) % 977, name="n"))
    assert len(long.cells) == 500 and long.profile == Profile(10_000_000, 0, 977)
    assert long.cells[0].as_py() == "0" and long.cells[-1].as_py() == str(9_999_999 % 977)


seen = [str(o) for c in COLUMNS for o in c.cells.to_pylist()[:4]]
cell = st.one_of(st.none(), st.text(max_size=40), st.integers().map(str), st.floats().map(str), st.dates().map(str),
                 st.emails(), st.uuids().map(str), st.sampled_from(seen))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.lists(cell, max_size=30))
def test_any_column_gives_finite_numbers(header, cells):
    vector = extract([Column(header, cells)])
    assert vector.shape == (1, 376) and vector.dtype == np.float32 and np.isfinite(vector).all()


alphabet = st.text(alphabet="0159.,:;-–/ %$€kKſaAÄя日年。()[]{}<>=@#'\"_|+xX\n²°", max_size=14)
glued = st.tuples(alphabet, cell.filter(bool), alphabet).map("".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(cell, alphabet, glued), min_size=1, max_size=60))
def test_cheap_tests_change_no_answer(cells):
    batch = Batch([sample_column(Column("c", cells))])
    quick, slow = match_cells(batch), match_cells(batch, spare=False)
    for name, found in slow.items():
        np.testing.assert_array_equal(quick[name], found, err_msg=name)


def like(pattern):
    "Texts that match a pattern, and near misses where Python's `re` and RE2 differ."
    for name, one in {"Lu": "A", "L": "é", "Sc": "€", "Zs": "\u00a0"}.items():
        pattern = pattern.replace(rf"\p{{{name}}}", one)
    return st.from_regex(re.sub(r"\\x\{(\w+)\}", lambda m: chr(int(m[1], 16)), pattern)).filter(bool)


@pytest.mark.parametrize("feature", [o for o in features() if o.only_if], ids=lambda o: o.name)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_cheap_test_rejects_what_its_pattern_matches(feature, data):
    cells = data.draw(st.lists(like(feature.pattern), min_size=12, max_size=12))
    batch = Batch([sample_column(Column("c", cells))])
    quick, slow = match_cells(batch), match_cells(batch, spare=False)
    for name, found in slow.items():
        np.testing.assert_array_equal(quick[name], found, err_msg=name)


def test_importing_the_extractor_stays_light():
    code = ("import datacloak_nb.features.extract, sys; "
            "print([m for m in ('tensorflow', 'sklearn', 'matplotlib') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":  # python tests/test_features.py: write the golden values anew, for a new version
    vectors = [[float(f"{o:.7g}") for o in row] for row in extract(COLUMNS)]
    GOLDEN.write_text(json.dumps(dict(version=VERSION, hash=feature_hash(), vectors=vectors)) + "\n", encoding="utf-8")
