"""The specification covers every feature, its examples hold, and golden vectors notice what they should."""
import json
import re

import numpy as np
import pytest

from datacloak_nb.columns import sample_column, spread
from datacloak_nb.deploy.golden import (
    GoldenError,
    differing,
    golden_columns,
    read_golden,
    tolerances,
    write_golden,
)
from datacloak_nb.deploy.spec import feature_spec, feature_terms, write_spec
from datacloak_nb.features.batch import CLASSES, Batch, class_table
from datacloak_nb.features.extract import extract
from datacloak_nb.features.header import split_header
from datacloak_nb.features.names import feature_hash, feature_names, features
from datacloak_nb.features.patterns import match_cells
from datacloak_nb.labels import LABELS
from datacloak_nb.synthetic import languages

MASK = 2**64 - 1


class Model:
    "Answers that tell which column was asked."

    def probabilities(self, X):
        return np.stack([X[:, 0], 1 - X[:, 0]], 1).astype(np.float32)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return json.loads(write_spec(tmp_path_factory.mktemp("spec") / "feature_spec.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def golden_path(tmp_path_factory):
    return write_golden(tmp_path_factory.mktemp("golden") / "golden_vectors.jsonl", {"model.onnx": Model()})


@pytest.fixture(scope="module")
def golden(golden_path):
    return list(read_golden(golden_path))


def hash_by_the_words(items):
    "The hash as the specification tells it, one number after the other."
    h = sum((v + 1) * pow(0x9E3779B97F4A7C15, i, 2**64) for i, v in enumerate(items)) & MASK
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & MASK
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ h >> 33


def test_every_feature_is_specified(spec):
    assert [o["name"] for o in spec["features"]] == list(feature_names())
    assert [o["index"] for o in spec["features"]] == list(range(376))
    assert all(o["definition"] and o["dtype"] == "float32" for o in spec["features"])
    assert {o["family"] for o in spec["features"]} == set(spec["tolerances"]) and len(spec["tolerances"]) == 8
    assert spec["about"]["feature_hash"] == feature_hash()
    asked = {o["name"]: o["pattern"] for o in spec["features"] if "pattern" in o}
    assert asked == {o.name: o.pattern for o in features() if o.pattern}
    assert {o.get("over") for o in spec["features"]} == {None, "header", "split header", "cells"}


def test_classes_split_the_code_points(spec):
    found = np.zeros(0x30000, int)
    for name, ranges in spec["tables"]["classes"].items():
        for first, last in ranges:
            assert not found[first:last + 1].any(), "two classes share a code point"
            found[first:last + 1] = CLASSES.index(name)
    np.testing.assert_array_equal(found, class_table())


def test_what_the_words_refer_to_exists(spec):
    words = json.dumps(feature_terms()) + json.dumps([o.definition for o in features()])
    for part, name in set(re.findall(r"\b(tables|parameters)\.(\w+)", words)):
        assert name in spec[part], f"{part}.{name} is not in the specification"


@pytest.mark.parametrize("feature", [o for o in features() if o.pattern], ids=lambda o: o.name)
def test_patterns_use_the_stated_dialect(feature):
    "What the section `patterns` does not name may not occur."
    body = re.sub(r"\\[^A-Za-z0-9]", "x", feature.pattern.removeprefix("(?i)")) # escaped characters say nothing
    assert set(re.findall(r"\\(?:[pPx]\{\w+\}|.)", body)) <= {
        r"\b", r"\s", r"\t", r"\w", r"\p{L}", r"\p{Lu}", r"\p{Sc}", r"\p{Zs}", r"\x{2212}", r"\x{00a0}", r"\x{202f}"}
    plain = re.sub(r"\[[^\]]*\]", "x", body)
    assert set(re.findall(r"\(\?.", plain)) <= {"(?:"}, "a group of another kind"
    assert not re.search(r"[*+?}][?+]", plain), "a lazy or possessive repetition"


def test_examples_hold_by_the_words(spec):
    for o in spec["examples"]["hash"]:
        h = hash_by_the_words(o["items"])
        assert o["hash"] == f"{h:016x}" and o["bucket_24"] == h % 24 and o["bucket_48"] == h % 48
        assert o["top_12_bits"] == h >> 52
    for o in spec["examples"]["sampling"]:
        places = [i * (o["present"] - 1) // 499 for i in range(500)]
        assert o["first"] == places[:3] and o["last"] == places[-3:] and list(spread(o["present"])) == places
    assert spec["examples"]["numbers"]["1.234,5"] == 1234.5 and spec["examples"]["numbers"]["free"] is None
    assert spec["examples"]["numbers"]["(1,200.50)"] == -1200.5


def test_texts_of_stored_values(spec):
    texts = spec["examples"]["text"]
    assert texts["timestamps"] == ["2024-02-29", "2024-02-29 10:30:00", "2024-02-29 10:30:00.500"]
    assert all(bytes.fromhex(o).decode("utf-8", "replace") == text for o, text in texts["bytes"].items())
    floats = {value: text for value, text in texts["floats"]}
    assert all(float(text) == value for value, text in floats.items())
    assert floats[3.0] == "3" and floats[0.0] == "0" and floats[9999999999.5] == "9999999999.5"
    assert floats[12345678901.5] == "12345678901.5" and floats[2.5e-7] == "2.5e-7" and floats[1e-6] == "0.000001"


@pytest.mark.parametrize("header, words", [
    ("orderDate", "order date"), ("HTTPStatus2", "http status 2"), ("Größe [cm]", "größe cm"), ("% change", "% change"),
    ("ΟΔΟΣ", "οδοσ"), ("İd", "İd"), ("नाम", "नाम"), ("a1b2", "a 1b 2"), ("x²", "x²")])
def test_split_headers(spec, header, words):
    assert split_header(header) == words
    assert spec["examples"]["split_header"].get(header, words) == words


def test_specification_is_the_same_at_every_call(spec, tmp_path):
    again = write_spec(tmp_path / "feature_spec.json").read_text("utf-8")
    assert json.loads(again) == spec == json.loads(json.dumps(feature_spec()))
    assert write_spec(tmp_path / "again.json").read_text("utf-8") == again


def test_golden_columns_cover_labels_languages_and_edges(golden):
    assert len(golden) >= 300 and len({o.id for o in golden}) == len(golden)
    tags = {tag for o in golden for tag in o.tags}
    assert {*LABELS, *languages()} <= tags
    cells = [c for o in golden for c in o.cells if c]
    assert max(len(o.cells) for o in golden) == 10_000 and min(len(o.cells) for o in golden) == 0
    assert max(map(len, cells)) >= 5000
    for wanted in ("\ufffd", "\n", "\u0000", "\u0301", "\U0001f600", "\u0627", "\u05d0", "-0", "1e308",
                   "5e-324", "\u212a"):
        assert any(wanted in c for c in cells), f"no cell with U+{ord(wanted[0]):04X}"
    assert any(o.profile and o.profile.mean is not None for o in golden)


def test_every_feature_takes_several_values(golden):
    X = np.stack([o.features for o in golden])
    still = [name for name, x in zip(feature_names(), X.T) if len(np.unique(x)) < 2]
    assert not still, "make a golden column for which these differ"


def test_every_kind_matches_its_pattern(golden):
    places = {name: i for i, name in enumerate(feature_names())}
    shares = {o.tags[1]: o.features[places[f"pattern_{o.tags[1]}"]] for o in golden if o.tags[0] == "kinds"}
    assert len(shares) == 80 and not [k for k, share in shares.items() if not 0 < share < 1]


def test_cheap_tests_change_no_answer_of_a_golden_column(golden):
    batch = Batch([sample_column(o.column) for o in golden])
    quick, slow = match_cells(batch), match_cells(batch, spare=False)
    assert not [name for name in slow if not np.array_equal(quick[name], slow[name])]


def test_golden_file_round_trips(golden, golden_path, tmp_path):
    columns = golden_columns()
    np.testing.assert_array_equal(np.stack([o.features for o in golden]), extract([o.column for o in golden]))
    for o, record in zip(columns, golden, strict=True):
        assert (o.id, o.tags, o.header, o.cells, o.profile) == (
            record.id, record.tags, record.header, record.cells, record.profile)
        assert record.probabilities["model.onnx"].tolist() == Model().probabilities(record.features[None])[0].tolist()
    data = golden_path.read_bytes()
    assert data.isascii() and data.count(b"\n") == len(golden)
    assert write_golden(tmp_path / "again.jsonl", {"model.onnx": Model()}).read_bytes() == data


@pytest.mark.parametrize("place", [0, 5, 77, 150, 233, 300, 375])
def test_a_changed_vector_is_noticed(golden, spec, place):
    for o in golden[::40]:
        changed = o.features.copy()
        changed[place] += np.float32(2e-5 * (1 + abs(changed[place])))
        assert differing(o.features, changed, spec) == [feature_names()[place]]
        changed[place] = np.nan
        assert differing(o.features, changed) == [feature_names()[place]]
        assert differing(o.features, o.features * np.float32(1 + 1e-6)) == []


def test_tolerances_come_from_the_specification(golden, spec):
    assert tolerances() == tolerances(spec)
    loose = {**spec, "tolerances": {k: dict(absolute=9, relative=9) for k in spec["tolerances"]}}
    assert differing(golden[0].features, golden[0].features + 5, loose) == []
    assert len(differing(golden[0].features, golden[0].features + 5)) == 376


@pytest.mark.parametrize("spoil", [
    lambda line: line[: len(line) // 2] + "\n", lambda line: "[]\n", lambda line: line.replace('"tags"', '"tag"'),
    lambda line: line.replace('"features":[', '"features":[1.0,'), lambda line: "\n"])
def test_a_spoilt_line_is_named(golden_path, tmp_path, spoil):
    lines = golden_path.read_text("ascii").splitlines(keepends=True)[:6]
    (tmp_path / "spoilt.jsonl").write_text("".join([*lines[:3], spoil(lines[3]), *lines[4:]]))
    with pytest.raises(GoldenError, match="line 4 holds no golden vector"):
        list(read_golden(tmp_path / "spoilt.jsonl"))
