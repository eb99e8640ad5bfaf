"""Export and validation of every kind of model."""
import json
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from sklearn.datasets import make_classification

from datacloak_nb.config import load_config
from datacloak_nb.deploy import export, validate
from datacloak_nb.features.names import VERSION, feature_hash
from datacloak_nb.models.blend import BlendModel
from datacloak_nb.models.boosting import fit_boosting
from datacloak_nb.models.forest import fit_forest
from datacloak_nb.models.network import fit_network

FEATURES = 20


def options(**changes):
    return load_config(export=changes).export


def data(classes=3):
    X, y = make_classification(400, FEATURES, n_informative=10, n_redundant=0, n_classes=classes, random_state=0)
    return X.astype(np.float32), y


def train(kind, classes=3):
    (X, y), names = data(classes), tuple(f"class {i}" for i in range(classes))
    if kind == "rf":
        return fit_forest(X, y, names, dict(n_estimators=20, min_samples_leaf=2))
    if kind == "gb":
        return replace(fit_boosting(X, y, names, dict(max_iter=8)), temperature=0.8)
    if kind == "blend":
        members = tuple(train(o, classes) for o in ("rf", "gb", "nn"))
        return BlendModel(members, (0.25, 0.5, 0.25), names, temperature=1.3)
    config = load_config(training=dict(epochs=2), models=dict(neural_network=dict(hidden_layers=[64, 32, 16])))
    return fit_network(X, y, X, y, names, config)[0]


@pytest.fixture(scope="module", params=["rf", "gb", "nn", "blend"])
def model(request):
    return train(request.param)


@pytest.fixture(scope="module")
def network():
    return train("nn")


@pytest.fixture(scope="module")
def forest():
    return train("rf")


@pytest.fixture(scope="module")
def X():
    return data()[0]


@dataclass
class Shifted:
    "A model whose export does not match: `native` is exported, the probabilities are others."
    model: object
    shift: float
    swap: bool = False

    def __getattr__(self, name):
        return getattr(self.model, name)

    def predict_proba(self, X):
        p = self.model.predict_proba(X)
        return p[:, ::-1] if self.swap else p + self.shift


def onnx_model(model, **changes):
    return export.to_onnx(model, "1.2.3", options(**changes))


# ---- the file

@pytest.mark.parametrize("opset", [14, 15, 17])
@pytest.mark.parametrize("optimize", [True, False])
def test_interface_and_format(model, opset, optimize):
    content = onnx_model(model, onnx_opset_version=opset, optimize_for_inference=optimize)
    proto = onnx.ModelProto.FromString(content)
    assert proto.ir_version <= 9
    opsets = {o.domain: o.version for o in proto.opset_import}
    assert opsets.pop("") == opset and opsets in ({}, {"ai.onnx.ml": 3})
    session = validate.open_session(content)
    assert [(o.name, o.type, o.shape) for o in session.get_inputs()] == [("features", "tensor(float)", ["N", FEATURES])]
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("label", "tensor(int64)", ["N"]), ("probabilities", "tensor(float)", ["N", 3])]


@pytest.mark.parametrize("rows", [1, 2, 17])
def test_any_number_of_rows(model, X, rows):
    label, p = validate.ask(validate.open_session(onnx_model(model)), X[:rows])
    assert (label.dtype, label.shape, p.dtype, p.shape) == (np.int64, (rows,), np.float32, (rows, 3))
    assert np.array_equal(label, p.argmax(1)) and p.sum(1) == pytest.approx(1, abs=1e-5)


def test_metadata(model):
    meta = validate.open_session(onnx_model(model)).get_modelmeta().custom_metadata_map
    assert json.loads(meta.pop("classes")) == list(model.classes)
    made_for = dict(feature_version=VERSION, feature_hash=feature_hash())
    assert meta == dict(model_version="1.2.3", model_kind=model.kind, abstain_below="0.6", **made_for)


def test_the_same_model_gives_the_same_bytes(model):
    assert onnx_model(model) == onnx_model(model)


@pytest.mark.parametrize("kind", ["rf", "gb", "nn", "blend"])
@pytest.mark.parametrize("classes", [2, 8])
def test_other_numbers_of_classes(kind, classes):
    trained = train(kind, classes)
    proof = validate.validate(onnx_model(trained), trained, data(classes)[0], n=1000)
    assert proof.random.largest_difference <= 1e-6


def test_rows_on_a_threshold_of_boosting_take_the_right_way(X):
    boosting = train("gb")
    nodes = np.concatenate([tree.nodes for stage in boosting.native._predictors for tree in stage])
    inner = nodes[nodes["is_leaf"] == 0]
    near = np.float32(inner["num_threshold"])
    rows = np.repeat(X[:1], 3 * len(inner), axis=0)
    for k, value in enumerate([near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))]):
        rows[k * len(inner) + np.arange(len(inner)), inner["feature_idx"]] = value
    _, p = validate.ask(validate.open_session(onnx_model(boosting)), rows)
    assert np.abs(p - boosting.predict_proba(rows)).max() <= 1e-6


def test_rows_on_a_threshold_take_the_right_way(forest, X):
    tree = forest.native.estimators_[0].tree_
    inner = np.flatnonzero(tree.feature >= 0)
    near = np.float32(tree.threshold[inner])
    rows = np.repeat(X[:1], 3 * len(inner), axis=0)
    for k, value in enumerate([near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))]):
        rows[k * len(inner) + np.arange(len(inner)), tree.feature[inner]] = value
    _, p = validate.ask(validate.open_session(onnx_model(forest)), rows)
    assert np.abs(p - forest.predict_proba(rows)).max() <= 1e-6


def test_a_slim_forest_is_smaller_and_answers_the_same(forest, X):
    slim, full = onnx_model(forest), onnx_model(forest, optimize_for_inference=False)
    assert len(slim) < 0.8 * len(full)
    for a, b in zip(*(validate.ask(validate.open_session(o), X) for o in (slim, full)), strict=True):
        assert np.array_equal(a, b)


def test_a_leaf_of_weight_zero_stays_for_old_runtimes():
    graph = export.convert_trees(train("gb"), options().onnx_opset_version).graph

    def written(name):
        return next(o for o in graph.node[0].attribute if o.name == name)

    def leaves():
        return set(zip(written("class_treeids").ints, written("class_nodeids").ints, strict=True))

    written("class_weights").floats[:5], before = [0.0] * 5, leaves()
    export.slim_trees(graph)
    assert leaves() == before


def test_normalization_is_folded_away(network):
    def operators(content):
        return [node.op_type for node in onnx.ModelProto.FromString(content).graph.node]

    folded, full = operators(onnx_model(network)), operators(onnx_model(network, optimize_for_inference=False))
    assert folded.count("Mul") == full.count("Mul") - 2
    assert folded.count("MatMul") == full.count("MatMul") == 4


def test_a_network_without_normalization_is_left_alone(X):
    config = load_config(training=dict(epochs=1), models=dict(neural_network=dict(
        hidden_layers=[8], batch_normalization=False)), data=dict(normalization="none"))
    plain, _ = fit_network(X, data()[1], X, data()[1], ("a", "b", "c"), config)
    assert validate.validate(onnx_model(plain), plain, X, n=100).test.largest_difference <= 1e-6


def test_a_large_forest_is_refused(forest, network):
    with pytest.raises(export.ExportError, match="export.max_forest_mb allows 0.01"):
        onnx_model(forest, max_forest_mb=0.01)
    assert onnx_model(network, max_forest_mb=0.01)


def test_a_forest_that_misses_a_class_is_refused(X):
    from sklearn.ensemble import RandomForestClassifier
    native = RandomForestClassifier(5).fit(X, 2 * (data()[1] > 0))
    other = replace(train("rf"), native=native)
    with pytest.raises(export.ExportError, match=r"know classes .*: expected 0 to 2"):
        onnx_model(other)


def test_a_format_that_old_runtimes_do_not_read_is_refused(forest):
    with pytest.raises(export.ExportError, match="lower export.onnx_opset_version"):
        export.set_versions(export.convert_trees(forest, 14), 21)


# ---- the proof

def test_a_faithful_export_is_written(model, X, tmp_path):
    proof = validate.export_model(model, tmp_path / "models" / "m.onnx", X, "1.2.3", options())
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["m.onnx"]
    assert proof.bytes == (tmp_path / "models" / "m.onnx").stat().st_size
    assert (proof.kind, proof.test.rows, proof.random.rows) == (model.kind, len(X), 10_000)
    assert max(proof.test.largest_difference, proof.random.largest_difference) <= 1e-5
    assert validate.validate(tmp_path / "models" / "m.onnx", model, X) == proof


@pytest.mark.parametrize("shift, swap", [(2e-5, False), (np.nan, False), (0, True)])
def test_an_unfaithful_export_leaves_no_file(model, X, tmp_path, shift, swap):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"of an earlier run")
    with pytest.raises(validate.ValidationFailed, match="on test rows"):
        validate.export_model(Shifted(model, shift, swap), path, X, "1.2.3", options())
    assert list(tmp_path.iterdir()) == []


def test_an_error_on_random_rows_alone_is_found(model, X):
    class Odd(Shifted):
        def predict_proba(self, rows):
            return self.model.predict_proba(rows) + (len(rows) == 10_000) * 1e-3

    with pytest.raises(validate.ValidationFailed, match="on random rows"):
        validate.validate(onnx_model(model), Odd(model, 0), X)


def test_labels_may_differ_at_ties_only():
    native = np.array([[0.5, 0.5 - 1e-5, 1e-5], [0.6, 0.4, 0]], np.float32)
    assert validate.compare_answers(native, np.array([1, 0]), native).labels_differ == 0
    assert validate.compare_answers(native, np.array([1, 1]), native).labels_differ == 1
    with pytest.raises(validate.ValidationFailed, match="1 labels of 2 differ"):
        validate.check_agreement("test rows", validate.compare_answers(native, np.array([1, 1]), native))


def test_another_models_metadata_are_refused(model, X):
    with pytest.raises(validate.ValidationFailed, match="wrong in classes"):
        validate.validate(onnx_model(model), replace(model, classes=("a", "b", "c")), X)


def test_random_rows_stay_in_range_and_repeat(X):
    rows = validate.random_rows(X, 1001, seed=3)
    assert rows.shape == (1001, FEATURES) and rows.dtype == np.float32
    assert (rows >= X.min(0)).all() and (rows <= X.max(0)).all()
    assert np.array_equal(rows, validate.random_rows(X, 1001, seed=3))
    assert not np.array_equal(rows, validate.random_rows(X, 1001, seed=4))
    assert np.isin(rows[-100:, 0], X[:, 0]).all()
