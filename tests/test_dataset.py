"""Datasets on disk: what comes back is what was written, and what cannot be read is refused by name."""

import json
from dataclasses import replace

import pytest
from conftest import CANARY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datacloak_nb.columns import Column, Profile
from datacloak_nb.config import load_config
from datacloak_nb.dataset import Dataset, DatasetError, LabelledColumn, Metadata, load_dataset, save_dataset
from datacloak_nb.quality import QualityError, check_quality, raise_errors

KINDS = "even", "odd"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def columns_of(cells, header="h", n=1):
    return [LabelledColumn(f"c{i}", KINDS[i % 2], f"t{i}", "made", Column(header, cells)) for i in range(2 * n)]


def saved(folder, storage="csv", columns=None, **changes):
    "A small dataset folder."
    dataset = Dataset(columns or columns_of(["a", None, "NA"]), metadata=Metadata(classes=KINDS))
    return save_dataset(replace(dataset, **changes), folder, storage)


@pytest.mark.parametrize("storage", ["csv", "jsonl", "parquet"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.none() | TEXT, max_size=8), header=TEXT)
def test_any_text_comes_back(storage, cells, header, tmp_path_factory):
    columns = columns_of(cells, header)
    loaded = load_dataset(saved(tmp_path_factory.mktemp("any") / "data", storage, columns))
    assert {o.id: (o.column.header, o.column.cells.to_pylist(), o.table) for o in loaded.train} == {
        o.id: (o.column.header, o.column.cells.to_pylist(), o.table) for o in columns}


@pytest.mark.parametrize("storage", ["csv", "jsonl", "parquet"])
def test_profile_and_other_sides_come_back(storage, tmp_path):
    facts = Profile(10**7, 3, 17, mean=1.5, min=-1e300, max=1e-300)
    column = Column("x", ["NA", "", "a\r\nb", "é"], facts)
    one = replace(columns_of([])[0], id="v", table="other", column=column, alt="odd")
    loaded = load_dataset(saved(tmp_path / "data", storage, validation=[one]))
    assert loaded.validation == [one] and loaded.test is None and loaded.metadata.counts == dict(even=1, odd=1)


def test_all_forms_mix(tmp_path):
    folder = saved(tmp_path / "data", "parquet")
    (folder / "labeled_columns" / "odd" / "orders__amount.csv").write_text("amount\n1\n\n2\n")
    (folder / "labeled_columns" / "odd" / "orders__note.jsonl").write_text('{"header": "note"}\n"NA"\nnull\n')
    made = {o.id: o for o in load_dataset(folder).train if o.table == "orders"}
    assert made["orders__amount"].column.cells.to_pylist() == ["1", None, "2"]
    assert made["orders__note"].column.cells.to_pylist() == ["NA", None]


def spoil(folder, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name, text, message", [
    ("labeled_columns/prime/a.csv", "h\n1\n", "unknown label labeled_columns/prime; expected even, odd"),
    ("labeled_columns/odd/bad.csv", f"h\n{CANARY},{CANARY}\n", "unreadable file labeled_columns/odd/bad.csv"),
    ("labeled_columns/odd/bad.jsonl", f'{{"header": ""}}\n"{CANARY}\n', "unreadable file labeled_columns/odd/bad"),
    ("labeled_columns/odd/bad.parquet", CANARY, "unreadable file labeled_columns/odd/bad.parquet"),
    ("metadata.json", "{", "broken metadata.json"),
    ("metadata.json", json.dumps(dict(schema_version="9")), "broken metadata.json at schema_version"),
    ("validation/odd/c1.csv", "h\n1\n", "1 ids stand for two columns, such as 'c1'"),
])
def test_bad_input_is_refused_by_name(name, text, message, tmp_path):
    folder = saved(tmp_path / "data", "parquet")
    spoil(folder, name, text)
    with pytest.raises(DatasetError) as refused:
        load_dataset(folder)
    assert message in str(refused.value) and CANARY not in str(refused.value)


def test_a_missing_folder_and_an_empty_class_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="no folder labeled_columns in"):
        load_dataset(tmp_path)
    folder = saved(tmp_path / "data")
    for path in (folder / "labeled_columns" / "even").iterdir(): path.unlink()
    with pytest.raises(DatasetError, match="no columns of even"):
        load_dataset(folder)


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_nothing_half_written_is_left(storage, tmp_path, monkeypatch):
    monkeypatch.setattr("datacloak_nb.dataset._write_label", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        saved(tmp_path / "data", storage)
    assert list(tmp_path.iterdir()) == []


def test_few_columns_warn_and_too_few_for_the_folds_refuse():
    config = load_config(evaluation__cross_validation_folds=2)
    few = Dataset(columns_of(["a"], n=3), metadata=Metadata(classes=KINDS))
    assert "error" not in {o.severity for o in check_quality(few, config)}
    none = check_quality(Dataset(columns_of(["a"]), metadata=Metadata(classes=("text_long",))), config)
    assert any("text_long: 0 columns, 5000 fewer than the 5000 wanted" in o.message for o in none)
    with pytest.raises(QualityError, match="even: 1 columns for 2 folds; .*odd: 1 columns for 2 folds"):
        raise_errors(check_quality(Dataset(columns_of(["a"]), metadata=Metadata(classes=KINDS)), config))
