"""Quality gates: each finds what it is there for and keeps silent otherwise, and none lets a cell out."""

import json
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from conftest import CANARY, files_holding, plant

from datacloak_nb.columns import Column
from datacloak_nb.config import ConfigError, load_config, save_config
from datacloak_nb.dataset import Dataset, LabelledColumn, Metadata, Source, load_dataset, save_dataset
from datacloak_nb.quality import (
    QualityError, check_quality, findings_table, label_findings, raise_errors, save_findings)
from datacloak_nb.runs import pipeline_path
from datacloak_nb.splits import SplitError, split_dataset

LAX = dict(minimum_columns=dict(text_long=12, unknown=12), largest_source=.5)
SOURCES = [Source(name=f"p{i}", domain=f"d{i}") for i in range(3)]
ABOUT = Metadata(classes=("text_long", "unknown"), counts=dict(text_long=12, unknown=12), sources=SOURCES)


def column(i, label="text_long", header="h", **more):
    "A column of its own table; one of three sources and of two languages."
    cells = [f"{CANARY} sentence {k} of column {i}" for k in range(30 + i)]
    made = LabelledColumn(f"c{i}", label, f"t{i}", f"p{i % 3}", Column(header, cells), language=("en", "pl")[i % 2])
    return replace(made, **more)


def with_cells(cells, i=12, **more):
    return column(i, **more, column=Column("h", cells))


COLUMNS = [column(i, ABOUT.classes[i // 12]) for i in range(24)]
SOUND = Dataset(COLUMNS, metadata=ABOUT)


def sides(*test, **changes):
    "The sound dataset with a test side of its own."
    return replace(SOUND, test=list(test), **changes)


def some(n, **more):
    "The sound dataset with the first `n` of its columns changed."
    return replace(SOUND, train=[replace(o, **more) for o in COLUMNS[:n]] + COLUMNS[n:])


def shortened(rows):
    return [replace(o, column=Column("h", o.column.cells[:rows(i)])) for i, o in enumerate(COLUMNS)]


REPEAT, NEARLY = COLUMNS[0].column, Column("h", COLUMNS[0].column.cells.to_pylist() + ["one more"])
FOUND = [
    ("error", "folds", replace(SOUND, train=COLUMNS[:12] + COLUMNS[20:])),
    ("error", "tables", sides(column(30, table="t1"))),
    ("error", "duplicates", sides(column(30, column=REPEAT))),
    ("error", "near-duplicates", sides(column(30, column=NEARLY))),
    ("error", "constant", some(1, column=Column("h", [None] * 30))),
    ("warning", "constant", some(1, column=Column("h", ["one"] * 30))),
    ("warning", "duplicates", some(2, column=REPEAT)),
    ("warning", "near-duplicates", replace(SOUND, train=[*COLUMNS, column(30, column=NEARLY)])),
    ("warning", "minimum", replace(SOUND, train=COLUMNS[1:])),
    ("warning", "balance", replace(SOUND, train=[*COLUMNS, *(column(i) for i in range(30, 43))])),
    ("warning", "diversity", some(12, source="p0")),
    ("warning", "diversity", some(12, language="en")),
    ("warning", "diversity", replace(SOUND, metadata=ABOUT.model_copy(
        update=dict(sources=[o.model_copy(update=dict(domain="d")) for o in SOURCES])))),
    ("warning", "unreadable", some(1, column=Column("h", [f"{CANARY} caf\ufffd {i}" for i in range(20)]))),
    ("warning", "sizes", replace(SOUND, train=shortened(lambda i: 5 + i % 2))),
    ("warning", "sizes", replace(SOUND, train=shortened(lambda i: 20))),
    ("warning", "metadata", replace(SOUND, metadata=ABOUT.model_copy(update=dict(counts=dict(text_long=11))))),
    ("note", "diversity", some(24, language="")),
]


def findings(dataset, **changes):
    return check_quality(dataset, load_config(quality=LAX | changes))


def test_a_sound_dataset_has_no_findings():
    assert findings(SOUND) == [] and findings(sides(column(30), column(31, "unknown"))) == []


@pytest.mark.parametrize("severity, gate, dataset", FOUND, ids=lambda o: o if isinstance(o, str) else "")
def test_each_gate_finds(severity, gate, dataset, tmp_path):
    found = findings(dataset)
    assert (severity, gate) in {(o.severity, o.gate) for o in found}
    ids = {o.id for o in dataset.columns} | {o.table for o in dataset.columns}
    assert all(o.count == len(o.ids) for o in found if o.ids) and {i for o in found for i in o.ids} <= ids
    saved = save_findings(found, tmp_path / "quality.json")
    assert [o["gate"] for o in json.loads(saved.read_text())] == [o.gate for o in found]
    (tmp_path / "table.html").write_text(findings_table(found, 99).to_html())
    assert files_holding(tmp_path) == []


@pytest.mark.parametrize("labelled, silent", [
    (with_cells(["x", None] * 20, label="boolean"), True),
    (with_cells(["x"] * 20, label="boolean"), False),
    (with_cells(["x"] * 20, label="categorical"), False),
    (with_cells(["x"] * 20, label="categorical", alt="unknown"), True),
    (with_cells(["x"] * 20, label="unknown"), True),
    (with_cells([None] * 20, label="unknown"), True),
])
def test_a_constant_column_is_unknown_or_a_mark(labelled, silent):
    dataset = Dataset([labelled], metadata=Metadata(classes=("boolean", "categorical", "unknown")))
    assert ("constant" not in {o.gate for o in findings(dataset)}) == silent


def test_classes_of_their_own_have_no_minimum_and_no_unknown():
    train = [column(i, ("sentence", "list")[i % 2]) for i in range(24)] + [with_cells([None] * 20, 40, label="list")]
    own = Dataset(train, metadata=ABOUT.model_copy(update=dict(classes=("sentence", "list"), counts={})))
    assert not {"minimum", "constant"} & {o.gate for o in check_quality(own, load_config())}


def test_made_columns_count_for_diversity_only_alone():
    made = [column(i + 40, ABOUT.classes[i % 2], source="synthetic") for i in range(12)]
    assert any("fewer than 3 sources: unknown 0" in o.message for o in findings(
        replace(SOUND, train=COLUMNS[:12] + made[1::2])))
    assert any("fewer than 3 sources: text_long 1, unknown 1" in o.message for o in findings(
        replace(SOUND, train=made)))


def test_labels_in_doubt_warn_below_the_wanted_accuracy():
    config = load_config()
    assert [o.severity for o in label_findings(["a"], .94, config)] == ["warning"]
    assert [(o.severity, o.ids) for o in label_findings(["a", "b"], .95, config)] == [("note", ("a", "b"))]
    assert label_findings([], .95, config) == []


def test_only_accepted_errors_are_passed_over():
    leaky, told = sides(column(30, table="t1"), column(31, "unknown")), dict(LAX, accept="tables")
    with pytest.raises(QualityError, match="1 tables stand on two sides.*; accept tables to go on"):
        raise_errors(findings(leaky), load_config())
    found = findings(leaky, accept="tables")
    assert [o.accepted for o in found if o.severity == "error"] == [True]
    raise_errors(found, load_config(quality=told))
    assert "error, accepted" in set(findings_table(found).severity)
    with pytest.raises(SplitError, match="on one side"):
        split_dataset(leaky, load_config(quality=LAX))
    assert len(split_dataset(leaky, load_config(quality=told)).test) == 2


@pytest.mark.parametrize("quality, message", [
    (dict(accept="folds"), "quality.accept.0: input should be"),
    (dict(accept="tables", overridable=["constant"]), "accept names tables"),
    (dict(class_ratio=.5), "quality.class_ratio"),
    (dict(minimum_columns=dict(unknown=-1)), "quality.minimum_columns.unknown"),
])
def test_what_cannot_be_accepted_is_refused(quality, message):
    with pytest.raises(ConfigError, match=message):
        load_config(quality=quality)


def test_too_few_columns_for_the_folds_cannot_be_accepted():
    with pytest.raises(QualityError) as refused:
        raise_errors(findings(replace(SOUND, train=COLUMNS[:12] + COLUMNS[20:])), load_config())
    assert "unknown: 4 columns for 5 folds" in str(refused.value) and "to go on" not in str(refused.value)


@pytest.fixture(scope="module")
def looked_at(tiny_columns, tmp_path_factory):
    "The page that generate.ipynb makes of a dataset with a column on two sides, and the folder that it writes."
    folder = tmp_path_factory.mktemp("looked")
    columns = [plant(o) for o in tiny_columns]
    data = save_dataset(Dataset(columns, test=[replace(columns[0], id="again")]), folder / "data")
    config = save_config(load_config(evaluation__cross_validation_folds=2, models__random_forest__n_estimators=20),
                         folder / "config.yaml")
    options = ["-p", "data_path", data, "-p", "config", config, "-p", "output_dir", folder / "copy"]
    papermill, page = Path(sysconfig.get_path("scripts")) / "papermill", folder / "out" / "page.ipynb"
    command = [papermill, pipeline_path("generate"), page, "-k", "python3", "--no-progress-bar", *options]
    (folder / "out").mkdir()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_generate_shows_and_saves_the_findings(looked_at):
    found = json.loads((looked_at / "copy" / "quality.json").read_text())
    assert [o["gate"] for o in found if o["severity"] == "error"] == ["tables", "duplicates"]
    assert [o["count"] == len(o["ids"]) for o in found if o["gate"] == "labels"] == [True]
    book = nbformat.read(looked_at / "out" / "page.ipynb", as_version=4)
    shown = json.dumps([o.get("data", {}) for c in book.cells if c.cell_type == "code" for o in c.outputs])
    assert "stand on two sides" in shown and "labels are right by this estimate" in shown and "2 errors" in shown
    assert len(load_dataset(looked_at / "copy").columns) == 241


def test_generate_shows_no_cell(looked_at):
    assert files_holding(looked_at / "out") == []
    assert CANARY not in (looked_at / "copy" / "quality.json").read_text("utf-8")
