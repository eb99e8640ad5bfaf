"""Smaller and faster models: how they are made, what is measured of them, and which of them are shipped."""

import gzip
import json
import shutil
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import files_holding
from sklearn.datasets import make_classification

from datacloak_nb.config import load_config, save_config
from datacloak_nb.deploy import optimize, quantize, validate, variants
from datacloak_nb.deploy.export import to_onnx
from datacloak_nb.models.blend import BlendModel
from datacloak_nb.models.boosting import fit_boosting
from datacloak_nb.models.forest import fit_forest
from datacloak_nb.models.network import fit_network
from datacloak_nb.runs import pipeline_path

BIN = Path(sysconfig.get_path("scripts"))
NAMES = "a", "b", "c"
SETTINGS = load_config(training=dict(epochs=2), models=dict(neural_network=dict(hidden_layers=[64, 32, 16])))
EXPORT = SETTINGS.export
LOSSLESS = EXPORT.gates.model_copy(update=dict(max_f1_loss=0.0, min_agreement=1.0))
LAX = EXPORT.gates.model_copy(update=dict(max_f1_loss=1.0, min_agreement=0.0))


@pytest.fixture(scope="module")
def rows():
    X, y = make_classification(400, 20, n_informative=10, n_redundant=0, n_classes=3, random_state=0)
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def models(rows):
    forest = replace(fit_forest(*rows, NAMES, dict(n_estimators=20)), temperature=0.7)
    boosting = fit_boosting(*rows, NAMES, dict(max_iter=8))
    network = replace(fit_network(*rows, *rows, NAMES, SETTINGS)[0], temperature=1.4)
    members = forest, boosting, network
    return dict(rf=forest, gb=boosting, nn=network, blend=BlendModel(members, (0.25, 0.5, 0.25), NAMES, 1.3))


@pytest.fixture(scope="module")
def exported(models):
    return {kind: to_onnx(model, "1.2.3", EXPORT) for kind, model in models.items()}


@pytest.fixture
def path(exported, tmp_path):
    "The file of the network, alone in a folder."
    (tmp_path / "network.onnx").write_bytes(exported["nn"])
    return tmp_path / "network.onnx"


# Quantization

@pytest.mark.parametrize("kind", ["nn", "blend"])
@pytest.mark.parametrize("level, kept", [("int8", 0.6), ("int8_static", 0.75), ("int16", 0.75), ("float16", 0.75)])
def test_a_quantized_model_runs_is_smaller_and_agrees(exported, rows, kind, level, kept):
    data = quantize.quantize(exported[kind], level, rows[0])
    trees = sum(len(exported[o]) for o in ("rf", "gb")) if kind == "blend" else 0
    assert len(data) - trees < kept * (len(exported[kind]) - trees)
    (label, p), (new_label, new_p) = (validate.ask(validate.open_session(o), rows[0]) for o in (exported[kind], data))
    assert (label == new_label).mean() >= 0.95 and np.abs(p - new_p).max() < 0.1


@pytest.mark.parametrize("level", quantize.LEVELS)
def test_a_quantized_model_keeps_format_operators_and_metadata(exported, rows, level):
    data = quantize.quantize(exported["nn"], level, rows[0])
    one, other = (onnx.ModelProto.FromString(o) for o in (exported["nn"], data))
    assert other.ir_version <= 9 and list(other.opset_import) == list(one.opset_import)
    assert {o.domain for o in other.graph.node} == {""} and list(other.metadata_props) == list(one.metadata_props)
    assert quantize.quantize(exported["nn"], level, rows[0]) == data


@pytest.mark.parametrize("kind", ["rf", "gb"])
def test_trees_have_nothing_to_quantize(exported, rows, tmp_path, kind):
    with pytest.raises(quantize.QuantizationError, match="nothing to quantize"):
        quantize.quantize(exported[kind], "int8")
    (tmp_path / "trees.onnx").write_bytes(exported[kind])
    made = variants.quantized_variants(tmp_path / "trees.onnx", ["int8", "int16"], rows[0])
    base, none = variants.compare_variants(tmp_path / "trees.onnx", made, *rows, LAX)
    assert (none.shipped, none.bytes, none.file) == (False, None, None) and "no weight matrices" in none.reason
    assert base.shipped and [o.name for o in tmp_path.iterdir()] == ["trees.onnx"]


def test_an_unknown_level_is_refused(exported):
    with pytest.raises(quantize.QuantizationError, match="'int4': expected int8 or"):
        quantize.quantize(exported["nn"], "int4")


# Fewer and smaller trees

@pytest.mark.parametrize("kind, ways", [
    ("rf", {"first", "ccp"}), ("gb", {"first"}), ("blend", {"first"}), ("nn", set())])
def test_trees_are_cut_and_pruned(models, exported, rows, kind, ways):
    made = optimize.tree_variants(models[kind], "1.2.3", EXPORT)
    assert {o.partition("_")[0] for o in made} == ways and len(made) == len(ways) * len(EXPORT.tree_shares)
    for name, data in made.items():
        assert len(data) < (0.75 if name.endswith("67") else 0.65) * len(exported[kind])
        assert validate.ask(validate.open_session(data), rows[0])[1].shape == (400, 3)


def test_cutting_leaves_the_model_as_it_is(models, exported):
    for kind in ("rf", "gb", "blend"):
        optimize.tree_variants(models[kind], "1.2.3", EXPORT)
        assert to_onnx(models[kind], "1.2.3", EXPORT) == exported[kind]


def test_pruned_trees_answer_as_their_export(models, rows):
    pruned = optimize.prune_trees(models["rf"], 0.4)
    assert pruned.nodes <= 0.4 * models["rf"].nodes
    proof = validate.validate(to_onnx(pruned, "1.2.3", EXPORT), pruned, rows[0], n=1000)
    assert proof.random.largest_difference <= 1e-6


# Zeros and students

@pytest.mark.parametrize("target", [0.5, 0.8])
def test_zeros_reach_the_exported_weights(models, rows, target):
    before = models["nn"].predict_proba(rows[0])
    pruned, tuned = (optimize.fine_tune(models["nn"], (*rows, None), SETTINGS, o) for o in (target, 0))
    sparse, dense = (to_onnx(o, "1.2.3", EXPORT) for o in (pruned, tuned))
    *hidden, output = optimize.sparsity(optimize.require_sparsity(sparse, target))
    assert hidden == pytest.approx([target] * 3, abs=0.01) and output == 0 and max(optimize.sparsity(dense)) == 0
    assert len(sparse) == len(dense) and len(gzip.compress(sparse)) < 0.8 * len(gzip.compress(dense))
    assert np.array_equal(before, models["nn"].predict_proba(rows[0])) and pruned.temperature == 1.4
    with pytest.raises(optimize.OptimizeError, match=f"expected {target:.0%}"):
        optimize.require_sparsity(dense, target)


def test_a_student_is_small_and_the_same_every_time(models, rows):
    rates = [0.005] * 20
    one, other = (optimize.distil(models["rf"], (*rows, None), SETTINGS, rates, 0.5, 1.2) for _ in range(2))
    assert np.array_equal(one.predict_proba(rows[0]), other.predict_proba(rows[0]))
    assert [o.units for o in one.native.layers if hasattr(o, "units")] == [32, 16, 8, 3] and one.temperature == 1.2
    agreed = one.predict_proba(rows[0]).argmax(1) == models["rf"].predict_proba(rows[0]).argmax(1)
    assert agreed.mean() > 0.8


# The gates

def test_what_pays_is_written_and_what_does_not_leaves_no_file(path, exported, rows):
    int8 = quantize.quantize(exported["nn"], "int8")
    path.with_name("network_same.onnx").write_bytes(b"of an earlier run")
    made = dict(int8=int8, same=exported["nn"], other=exported["gb"], broken=int8[:-20])
    gates = LAX.model_copy(update=dict(min_agreement=0.95, min_gain=0.4))
    found = {o.name: o for o in variants.compare_variants(path, made, *rows, gates)}
    assert {name: o.shipped for name, o in found.items()} == dict(
        float32=True, int8=True, same=False, other=False, broken=False)
    assert {o.name for o in path.parent.iterdir()} == {"network.onnx", "network_int8.onnx"}
    assert "worth it from 40%" in found["same"].reason and "of the labels stay" in found["other"].reason
    assert "refuses the model" in found["broken"].reason and found["broken"].macro_f1 is None
    assert path.with_name("network_int8.onnx").read_bytes() == int8 and found["int8"].file == "network_int8.onnx"


@pytest.mark.parametrize("change, shipped, why", [
    (dict(bytes=800, f1_loss=0.005, same_labels=0.99), True, "saves 20% of the bytes"),
    (dict(bytes=801), False, "worth it from 20% on"),
    (dict(ms_1_best=0.8), True, "saves 20% of the time for 1 row"),
    (dict(ms_1000_best=10.0), True, "saves 50% of the time for 1,000 rows"),
    (dict(bytes=100, f1_loss=0.0051), False, "macro-F1 falls by 0.0051"),
    (dict(bytes=100, same_labels=0.9899), False, "of the labels stay"),
    (dict(bytes_gzip=1, ms_1=0.1, ms_1000_p99=1.0), False, "worth it from 20% on"),
])
def test_gates(change, shipped, why):
    base = variants.Variant(kind="nn", name="float32", bytes=1000, bytes_gzip=900, ms_1_best=1.0,
                            ms_1000_best=20.0, f1_loss=0.0, same_labels=1.0)
    found, reason = variants.verdict(base.model_copy(update=change), base, EXPORT.gates)
    assert found is shipped and why in reason


def test_every_figure_is_measured(path, exported, rows):
    made = dict(int16=quantize.quantize(exported["nn"], "int16"))
    base, int16 = variants.compare_variants(path, made, *rows, LOSSLESS)
    assert all(value is not None for o in (base, int16) for value in o.model_dump().values())
    assert (base.same_labels, base.largest_difference, base.f1_loss) == (1, 0, 0)
    assert int16.f1_loss == base.macro_f1 - int16.macro_f1 and int16.ece_difference == int16.ece - base.ece
    assert int16.bytes == path.with_name(int16.file).stat().st_size > int16.bytes_gzip
    assert all(0 < o.ms_1_best <= o.ms_1 <= o.ms_1_p99 and o.memory_mb > 0 for o in (base, int16))
    assert all(o.ms_1_best < o.ms_1000_best <= o.ms_1000 <= o.ms_1000_p99 for o in (base, int16))


def test_a_larger_model_takes_more_memory(tmp_path):
    from onnx import helper, numpy_helper

    def peak(width):
        weights = numpy_helper.from_array(np.ones((20, width), np.float32), "weights")
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["features", "weights"], ["out"])], "g",
            [helper.make_tensor_value_info("features", 1, ["N", 20])],
            [helper.make_tensor_value_info("out", 1, ["N", width])], [weights])
        file = tmp_path / f"{width}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7), file)
        return variants.peak_memory(file)

    assert peak(500_000) > peak(10) + 30


def test_table_and_picture_show_every_variant(path, exported, rows, tmp_path):
    import matplotlib.pyplot as plt

    made = {level: quantize.quantize(exported["nn"], level, rows[0]) for level in quantize.LEVELS}
    found = variants.compare_variants(path, made | dict(none="nothing to do"), *rows, LAX)
    table = variants.variant_table(found)
    assert list(table.variant) == ["float32", *quantize.LEVELS, "none"] and table.model.unique().tolist() == ["network"]
    figure = variants.pareto_figure(found)
    for ax in figure.axes:
        assert {o.get_text() for o in ax.texts} >= {"network", *(f"network {o}" for o in quantize.LEVELS)}
        assert ax.get_title(loc="left")
    _, ax = plt.subplots()
    assert variants.plot_pareto(found, "ms_1", ax) is ax
    plt.close("all")
    assert variants.load_variants(variants.save_variants(found, tmp_path / "variants.json")) == found


# The pipelines

TINY = dict(
    training__epochs=3, models__random_forest__n_estimators=20, models__neural_network__hidden_layers=[16, 8],
    models__random_forest__search__strategy="none", models__gradient_boosting__max_iter=5,
    models__gradient_boosting__search__strategy="none", evaluation__cross_validation_folds=2,
    evaluation__min_accuracy_threshold=0.0, export__pruning__epochs=1, export__gates__min_agreement=0.0,
    export__gates__max_f1_loss=1.0)


def papermill(folder, name, **parameters):
    command = [BIN / "papermill", pipeline_path(name), folder / f"{name}.ipynb", "-k", "python3", "--no-progress-bar"]
    command += [o for k, v in parameters.items() for o in ("-p", k, v)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def trained(canary_dataset, tmp_path_factory):
    "A finished run on columns with canaries."
    folder = tmp_path_factory.mktemp("trained")
    config = save_config(load_config(**TINY), folder / "tiny.yaml")
    done = papermill(folder, "train", data_path=canary_dataset, config=config, output_dir=folder / "run")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


def test_training_reports_variants_and_leaves_what_optimize_needs(trained):
    found = variants.load_variants(trained / "variants.json")
    assert {o.kind for o in found if o.name == "float32" and o.shipped} == {"rf", "gb", "nn", "blend"}
    assert {o.name for o in found if o.kind == "nn"} == {"float32", *EXPORT.quantization_levels}
    assert {o.name for o in found if o.kind == "rf"} == {
        "float32", *(f"{way}_{100 * o:.0f}" for way in ("first", "ccp") for o in EXPORT.tree_shares), "quantized"}
    assert {o.name for o in (trained / "work").iterdir()} >= {"models.json", "network.npz"}
    assert not [o for o in trained.rglob("*") if o.suffix in (".pkl", ".joblib", ".pickle")]
    assert (trained / "plots" / "pareto.png").is_file()


def test_optimize_tries_everything_and_shows_no_cell(trained, canary_dataset, tmp_path):
    done = papermill(tmp_path, "optimize", run_path=trained, data_path=canary_dataset, output_dir=tmp_path / "run",
                     target_sparsity="0.6", leaves="2, 3")
    assert done.returncode == 0, done.stderr[-3000:]
    found = variants.load_variants(tmp_path / "run" / "variants.json")
    tried = {kind: {o.name for o in found if o.kind == kind} for kind in ("rf", "gb", "nn", "blend")}
    assert tried["nn"] == {"float32", *quantize.LEVELS, "tuned", "pruned", "tuned_int8", "pruned_int8"}
    assert tried["blend"] >= {"student", "small_student_int8", "first_50_int8", "float16"}
    assert tried["rf"] >= {"leaves_2", "leaves_3", "ccp_50"} and tried["gb"] >= {"leaves_10", "leaves_15", "first_50"}
    left = {o.name for o in (tmp_path / "run" / "variants").iterdir()}
    assert left == {o.file for o in found if o.shipped} and files_holding(tmp_path) == []
    assert "Zeros among the exported weights" in (tmp_path / "optimize.ipynb").read_text("utf-8")


@pytest.mark.parametrize("given, message", [
    (dict(run_path="nowhere"), "no models.json of a finished training"),
    (dict(run_pth="nowhere"), "no parameter run_pth"),
])
def test_optimize_refuses_before_any_work(given, message, tmp_path):
    done = papermill(tmp_path, "optimize", **given)
    assert done.returncode == 1 and message in done.stderr
    assert [o.name for o in tmp_path.iterdir()] == ["optimize.ipynb"]


def test_optimize_refuses_other_columns(trained, canary_dataset, tmp_path):
    data = shutil.copytree(canary_dataset, tmp_path / "data")
    first = next((data / "labeled_columns" / "numeric").glob("*.csv"))
    for file in (first, first.with_suffix(".json")): file.unlink()
    done = papermill(tmp_path, "optimize", run_path=trained, data_path=data, output_dir=tmp_path / "run")
    assert done.returncode == 1 and "was trained on other columns" in done.stderr


def test_optimize_refuses_a_damaged_training(trained, canary_dataset, tmp_path):
    damaged = shutil.copytree(trained, tmp_path / "damaged")
    recipes = json.loads((damaged / "work" / "models.json").read_text())
    recipes["rf"]["params"]["n_estimators"] = 1
    (damaged / "work" / "models.json").write_text(json.dumps(recipes))
    done = papermill(tmp_path, "optimize", run_path=damaged, data_path=canary_dataset, output_dir=tmp_path / "run")
    assert done.returncode == 1 and "differ from its metrics in" in done.stderr
