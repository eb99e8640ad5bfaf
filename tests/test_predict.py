"""A stored model answers for tables, without what it took to train it."""
import json
import subprocess
import sys

import numpy as np
import onnx
import pandas as pd
import pytest

from datacloak_nb.columns import DataCloakError
from datacloak_nb.config import load_config
from datacloak_nb.deploy.bundle import gather, seal
from datacloak_nb.deploy.export import to_onnx
from datacloak_nb.features.extract import extract_frame
from datacloak_nb.features.names import feature_hash
from datacloak_nb.labels import LABELS
from datacloak_nb.models.forest import fit_forest
from datacloak_nb.predict import ClassifierError, load_classifier


def table(n=20):
    return pd.DataFrame(dict(comment=["It came late, and nobody told me why it did."] * n, price=np.arange(n) / 7))


@pytest.fixture(scope="module")
def content():
    X, y = np.tile(extract_frame(table()), (8, 1)), np.tile(np.arange(8), 2)
    X = X + np.random.default_rng(0).normal(0, 0.1, X.shape).astype(np.float32)
    return to_onnx(fit_forest(X, y, LABELS, dict(n_estimators=10)), "1.2.3", load_config().export)


@pytest.fixture
def run(content, tmp_path):
    models = tmp_path / "run" / "models"
    models.mkdir(parents=True)
    for name in ("network", "forest"):
        (models / f"{name}.onnx").write_bytes(content)
    bundle = gather(models, "1.2.3", "network")
    about = dict(version="1.2.3", kind="rf", classes=list(LABELS), features=dict(hash=feature_hash()))
    (bundle / "model_config.yaml").write_text(json.dumps(dict(model_metadata=about)))
    seal(bundle)
    return tmp_path / "run"


def rewrite(run, **changes):
    "Change the metadata of the stored model, and the sums; None removes an entry."
    path = model_path(run)
    proto = onnx.load(path)
    meta = {o.key: o.value for o in proto.metadata_props} | changes
    onnx.helper.set_model_props(proto, {k: v for k, v in meta.items() if v is not None})
    onnx.save(proto, path)
    seal(path.parent)


def model_path(run):
    return run / "models" / "column_classifier_v1.2.3" / "column_classifier_v1.2.3.onnx"


def test_one_row_a_column(run):
    answer = load_classifier(run).classify(table())
    assert list(answer.columns) == ["column", "type", "confidence", *LABELS, "confident", "sentiment", "reason"]
    assert answer.column.tolist() == ["comment", "price"]
    assert answer[list(LABELS)].sum(axis=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert answer.type.tolist() == answer[list(LABELS)].idxmax(axis=1).tolist()
    assert answer.confidence.tolist() == answer[list(LABELS)].max(axis=1).tolist()


def test_run_models_and_bundle_are_the_same(run):
    a, *others = (load_classifier(o) for o in (run, str(run / "models"), model_path(run).parent))
    for b in others:
        assert (a.classes, a.kind, a.version) == (b.classes, b.kind, b.version) == (LABELS, "rf", "1.2.3")
        pd.testing.assert_frame_equal(a.classify(table()), b.classify(table()))


def test_another_model_by_name(run):
    assert load_classifier(run, "forest").kind == "rf"
    with pytest.raises(ClassifierError, match="no model blend in column_classifier_v1.2.3: it has column_.*, forest"):
        load_classifier(run, "blend")


def test_two_bundles_are_one_too_many(run):
    model_path(run).parent.with_name("column_classifier_v1.2.4").mkdir()
    with pytest.raises(ClassifierError, match="models holds 2 bundles: name one|run holds 2 bundles: name one"):
        load_classifier(run)


@pytest.mark.parametrize("frame", [
    pd.DataFrame(), pd.DataFrame(index=range(3)), table(0), pd.DataFrame([[1, 2]], columns=["a", "a"]),
    pd.DataFrame([[1, 2]], columns=[0, 1.5]),
    pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
    pd.DataFrame(dict(a=[None, None], b=[[1], {"k": 2}])),
    pd.DataFrame(dict(a=pd.Categorical(["x"]), b=pd.to_datetime(["2024-01-01"]), c=[b"\xff"])),
    pd.DataFrame(dict(a=[1, 2]), index=[5, 5]),
], ids=["empty", "no columns", "no rows", "twice", "odd headers", "multi-index", "objects", "dtypes", "index"])
def test_odd_tables(run, frame):
    answer = load_classifier(run).classify(frame)
    assert answer.column.tolist() == list(frame.columns)
    assert answer.index.tolist() == list(range(frame.shape[1]))
    assert set(answer.type) <= set(LABELS) and answer.notna().all(axis=None)


def test_a_column_is_judged_by_itself(run):
    classifier = load_classifier(run)
    together, alone = classifier.classify(table()), classifier.classify(table()[["price"]])
    pd.testing.assert_frame_equal(together.iloc[[1]].reset_index(drop=True), alone)


@pytest.mark.parametrize("changes, message", [
    (dict(feature_version="0.9"), r"376 features of version 0.9 .* computes 376 features of version 1.0"),
    (dict(feature_hash="0" * 64), r"features of version 1.0 \(00000000….*train it again"),
    (dict(classes=None), "names no classes and features"),
    (dict(classes=json.dumps(LABELS[::-1])), "model_config.yaml differ in classes"),
    (dict(classes=json.dumps(LABELS[1:])), "another interface: probabilities"),
    (dict(classes="7"), "names its classes or threshold wrongly"),
    (dict(abstain_below="much"), "names its classes or threshold wrongly"),
    (dict(model_version="1.2.4"), "model_config.yaml differ in version"),
    (dict(model_kind="nn"), "model_config.yaml differ in kind"),
])
def test_a_model_for_other_features_is_refused(run, changes, message):
    rewrite(run, **changes)
    with pytest.raises(ClassifierError, match=message):
        load_classifier(run)


@pytest.mark.parametrize("break_it, message", [
    (lambda path: path.unlink(), "lacks column_classifier_v1.2.3.onnx"),
    (lambda path: path.write_bytes(b"half a fi"), "is not the file that was published"),
    (lambda path: (path.write_bytes(b"half a fi"), seal(path.parent)), "v1.2.3.onnx cannot be loaded"),
    (lambda path: (path.parent / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
    (lambda path: path.parent.rename(path.parent.parent / "old"), "no bundle in run or its folder models"),
])
def test_a_folder_without_a_usable_model_is_refused(run, break_it, message):
    break_it(model_path(run))
    with pytest.raises(DataCloakError, match=message):
        load_classifier(run)


@pytest.mark.parametrize("config", [
    "", "model_metadata: {version: 1", "model_metadata: []", "model_metadata: {}",
    "model_metadata: {version: 2026-99-99}", "[" * 5000])
def test_a_broken_description_is_refused(run, config):
    bundle = model_path(run).parent
    (bundle / "model_config.yaml").write_text(config)
    seal(bundle)
    with pytest.raises(ClassifierError, match="model_config.yaml is broken"):
        load_classifier(run)


def test_a_model_that_fails_only_when_asked_is_named(run):
    proto = onnx.load(model_path(run))
    ids, = (o for node in proto.graph.node for o in node.attribute if o.name == "nodes_featureids")
    ids.ints[:] = [684] * len(ids.ints)
    onnx.save(proto, model_path(run))
    seal(model_path(run).parent)
    broken = load_classifier(run)
    with pytest.raises(ClassifierError, match="model 1.2.3 .rf. fails to answer, with .*; take another copy"):
        broken.classify(table())


def test_it_needs_neither_tensorflow_nor_scikit_learn(run):
    code = ("import sys, pandas as pd\n"
            "from datacloak_nb.predict import load_classifier\n"
            f"load_classifier({str(run)!r}).classify(pd.DataFrame(dict(a=[1, 2])))\n"
            "print(sorted({'tensorflow', 'tf_keras', 'sklearn', 'skl2onnx', 'onnx', 'matplotlib'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
