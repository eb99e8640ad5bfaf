"""A bundle that was changed in any way is refused: by its sums, by what is in it, or by the answers it gives."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from datacloak_nb.columns import DataCloakError
from datacloak_nb.config import load_config
from datacloak_nb.deploy.bundle import MAX_BYTES, SIGNATURE, SUMS, BundleError, gather, open_bundle, seal
from datacloak_nb.deploy.card import make_config, write_card, write_config
from datacloak_nb.deploy.export import to_onnx
from datacloak_nb.deploy.golden import golden_columns, write_golden
from datacloak_nb.deploy.quantize import to_int8
from datacloak_nb.deploy.runtimes import RuntimeMissing, prove_runtimes, runtime_python
from datacloak_nb.deploy.spec import write_spec
from datacloak_nb.deploy.validate import TOLERANCE
from datacloak_nb.deploy.variants import Variant
from datacloak_nb.evaluation.calibration import abstain_curve
from datacloak_nb.evaluation.metrics import evaluate, save_metrics
from datacloak_nb.features.extract import extract
from datacloak_nb.labels import LABELS
from datacloak_nb.models.boosting import fit_boosting
from datacloak_nb.models.forest import fit_forest
from datacloak_nb.models.network import fit_network
from datacloak_nb.predict import load_classifier, read_classifier
from datacloak_nb.verify import check_answers, main, open_models, read_records, verify_bundle

VERSION = "1.2.3"
NAME = f"column_classifier_v{VERSION}"
PICKED, BOOSTING, NETWORK = f"{NAME}.onnx", f"boosting_v{VERSION}.onnx", f"network_v{VERSION}.onnx"
INT8 = f"network_v{VERSION}_int8.onnx"


@pytest.fixture(scope="module")
def learnt():
    "Features and classes of the made golden columns."
    made = [o for o in golden_columns() if o.tags[0] == "made"]
    return extract([o.column for o in made]), np.array([LABELS.index(o.tags[1]) for o in made])


@pytest.fixture(scope="module")
def exported(learnt):
    "The bytes of small models of three kinds by version."
    X, y = learnt
    tiny = load_config(training=dict(epochs=3), models=dict(neural_network=dict(hidden_layers=[16, 8])))
    models = dict(forest=fit_forest(X, y, LABELS, dict(n_estimators=5)),
                  boosting=fit_boosting(X, y, LABELS, dict(max_iter=5)),
                  network=fit_network(X, y, X, y, LABELS, tiny)[0])
    found = {v: {k: to_onnx(o, v, tiny.export) for k, o in models.items()} for v in (VERSION, "1.2.2")}
    for files in found.values():
        files["network_int8"] = to_int8(files["network"])
    return found


@pytest.fixture(scope="module")
def published(learnt, exported, tmp_path_factory):
    "A whole bundle; tests change copies of it."
    folder, (X, y) = tmp_path_factory.mktemp("published"), learnt
    for name, data in exported[VERSION].items():
        (folder / f"{name}.onnx").write_bytes(data)
    bundle = gather(folder, VERSION, "forest")
    models = {o.name: read_classifier(o.read_bytes(), o.name) for o in bundle.glob("*.onnx")}
    p = models[PICKED].probabilities(X)
    proofs = [SimpleNamespace(file=o, min_onnx_runtime=None, newest_onnx_runtime="1.32.0") for o in models]
    test = evaluate(y, p)
    kinds = dict(column="rf", boosting="gb", network="nn")
    measured = {o: Variant(kind=kinds[o.split("_")[0]], name=o, bytes=(bundle / o).stat().st_size, ms_1=1, memory_mb=1)
                for o in models}
    config = make_config(measured, VERSION, 0.9, test, proofs)
    write_config(config, bundle / "model_config.yaml")
    write_card(bundle, config, measured, test, abstain_curve(y, p), {})
    save_metrics(dict(rf=test), bundle / "metrics.json")
    write_spec(bundle / "feature_spec.json")
    write_golden(bundle / "golden_vectors.jsonl", models)
    return seal(bundle)


@pytest.fixture
def bundle(published, tmp_path):
    return shutil.copytree(published, tmp_path / NAME)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    "Two pairs of elliptic keys as PEM files."
    from cryptography.hazmat.primitives import serialization as pem
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        key, plain = ec.generate_private_key(ec.SECP256R1()), pem.NoEncryption()
        (folder / f"{name}.pem").write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, plain))
        public = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


def test_a_whole_bundle_passes(bundle, capsys):
    assert main([str(bundle)]) == 0
    assert capsys.readouterr().out.count("good") == 10
    done = subprocess.run(["sha256sum", "--check", SUMS], cwd=bundle, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": OK") == len(list(bundle.iterdir())) - 1


# ---- planted faults

def change(name, old, new):
    "A fault: replace bytes in a file."
    def plant(bundle):
        data = (bundle / name).read_bytes()
        assert old in data
        (bundle / name).write_bytes(data.replace(old, new, 1))
    return plant


def first_golden(edit):
    "A fault: edit the first golden vector."
    def plant(bundle):
        path = bundle / "golden_vectors.jsonl"
        first, rest = path.read_text("ascii").split("\n", 1)
        found = json.loads(first)
        edit(found)
        path.write_text(json.dumps(found) + "\n" + rest)
    return plant


def class_order(bundle):
    "A fault: the models name their classes in another order, and so does the description."
    turned = [LABELS[1], LABELS[0], *LABELS[2:]]
    for path in bundle.glob("*.onnx"):
        proto = onnx.load(path)
        meta = {o.key: o.value for o in proto.metadata_props} | dict(classes=json.dumps(turned))
        onnx.helper.set_model_props(proto, meta)
        onnx.save(proto, path)


def files_exchanged(bundle):
    "A fault: the description calls one model by the name of another."
    path = bundle / "model_config.yaml"
    text = path.read_text().replace(f" onnx: {PICKED}", f" onnx: {BOOSTING}")
    path.write_text(text.replace(f" boosting: {BOOSTING}", f" boosting: {PICKED}"))


RESEALED = {
    "spec": (change("feature_spec.json", b'"sample_cells": 500', b'"sample_cells": 501'), "feature_spec.json differs"),
    "spec cut": (change("feature_spec.json", b"{", b""), "feature_spec.json is no JSON"),
    "pattern": (change("feature_spec.json", b'"pattern": "', b'"pattern": "x'), r"feature_spec.json differs .*pattern"),
    "golden feature": (first_golden(lambda o: o["features"].__setitem__(7, 9e9)), "edge-empty: feature .* is not what"),
    "golden answer": (first_golden(lambda o: o["probabilities"][NETWORK].__setitem__(0, 0.5)), f"{NETWORK} answers"),
    "golden answers": (first_golden(lambda o: o["probabilities"].pop(INT8)), "edge-empty: expected the answers of"),
    "golden cells": (first_golden(lambda o: o.update(cells=["a", "b"])), "edge-empty: feature .* is not what"),
    "golden list": (first_golden(lambda o: o.update(probabilities=[])), "line 1 holds no golden vector"),
    "golden id": (first_golden(lambda o: o.update(id="x")), "other columns than this library: 0"),
    "golden line": (change("golden_vectors.jsonl", b"{", b""), "line 1 holds no golden vector"),
    "class order": (class_order, "model_config.yaml differ in classes"),
    "version": (change("model_config.yaml", b"version: 1.2.3", b"version: 1.2.2"), "version differs"),
    "files": (change("model_config.yaml", b"boosting_v1.2.3.onnx: n", b"a.onnx: n"), "min_onnx_runtime differs"),
    "files exchanged": (files_exchanged, "model_files differs"),
    "kind": (change("model_config.yaml", b"kind: rf", b"kind: gb"), "metrics.json has no figures"),
    "figures": (change("model_config.yaml", b"accuracy_test_set: 0", b"accuracy_test_set: 1"), "give other figures"),
    "no YAML": (change("model_config.yaml", b"model_files:", b"model_files: ["), "model_config.yaml is broken"),
    "no metrics": (lambda o: (o / "metrics.json").write_text("[]"), "not a readable metrics file"),
    "no picked model": (lambda o: (o / "column_classifier_v1.2.3.onnx").unlink(), "holds no column_classifier_v"),
    "hiding name": (lambda o: (o / BOOSTING).rename(o / "boosting_int8_v1.2.3.onnx"), "holds boosting_int8_v1.2.3"),
    "no spec": (lambda o: (o / "feature_spec.json").unlink(), "no feature_spec.json in"),
}
UNSEALED = {
    "extra file": (lambda o: (o / "more.onnx").touch(), "holds more.onnx, which SHA256SUMS does not name"),
    "extra folder": (lambda o: (o / "more").mkdir(), "holds more, which SHA256SUMS does not name"),
    "missing file": (lambda o: (o / BOOSTING).unlink(), f"lacks {BOOSTING}"),
    "card": (lambda o: (o / "MODEL_CARD.md").write_text("!"), "MODEL_CARD.md is not the file that was published"),
    "link": (lambda o: ((o / BOOSTING).rename(o.parent / "b"), (o / BOOSTING).symlink_to("../b")), "is no plain file"),
    "huge": (lambda o: open(o / BOOSTING, "r+b").truncate(MAX_BYTES + 1), "at most 268,435,456 are read"),
    "other place": (change(SUMS, b"  MODEL_CARD.md", b"  ../MODEL_CARD.md"), "SHA256SUMS is broken in line 1"),
    "named twice": (lambda o: (o / SUMS).write_text((o / SUMS).read_text() * 2), "names a file twice"),
    "no sums": (lambda o: (o / SUMS).unlink(), "SHA256SUMS is missing"),
}


@pytest.mark.parametrize("plant, message, sealed", [
    *(pytest.param(*o, True, id=k) for k, o in RESEALED.items()),
    *(pytest.param(*o, False, id=k) for k, o in UNSEALED.items())])
def test_planted_faults_are_named(bundle, plant, message, sealed, capsys):
    plant(bundle)
    if sealed:
        seal(bundle)
    assert main([str(bundle)]) == 1
    said = capsys.readouterr()
    assert said.out.count("failed") == 1
    assert re.search(message, said.err), said.err


@pytest.mark.parametrize("name, message", [
    ("column_classifier_v1.2.4", "expected models of version 1.2.4; was it renamed"),
    ("model", "expected models of version model"),
    ("column_classifier_v1.2", "expected models of version 1.2; was it renamed")])
def test_a_renamed_bundle_is_refused(bundle, name, message):
    moved = bundle.rename(bundle.with_name(name))
    with pytest.raises(BundleError, match=message):
        load_classifier(moved)
    assert message in verify_bundle(moved)[-1].problem


# ---- mutations

def cut(data, rng, others):
    return data[:rng.integers(0, len(data))]


def flip(data, rng, others):
    "One to three bits turned."
    found = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(0, len(found), rng.integers(1, 4))
    found[places] ^= np.uint8(1) << rng.integers(0, 8, len(places), np.uint8)
    return found.tobytes()


def swap(data, rng, others):
    "Another model of this version, or any of another."
    return others[rng.integers(len(others))]


PLACES = "../weights.bin", "{cwd}/weights.bin", "weights.bin", "{cwd}/../weights.bin", "*/_ORT_MEM_ADDR_/*"


def outside(data, rng, others):
    "One tensor of the network is kept in a file, which exists, outside of the model."
    proto = onnx.ModelProto.FromString(data)
    tensors = [o for o in proto.graph.initializer if len(o.raw_data) > 64]
    tensor = tensors[rng.integers(len(tensors))]
    Path("weights.bin").write_bytes(tensor.raw_data)
    Path("../weights.bin").write_bytes(tensor.raw_data)
    place = PLACES[rng.integers(len(PLACES))].format(cwd=Path.cwd())
    where = dict(location=place, offset="0", length=str(len(tensor.raw_data)))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in where.items():
        tensor.external_data.add(key=key, value=value)
    return proto.SerializeToString()


def mutations(exported, n=280):
    "(how, file, bytes) of seeded mutants that differ from the file."
    names = {PICKED: "forest", BOOSTING: "boosting", NETWORK: "network", INT8: "network_int8"}
    rng = np.random.default_rng(4)
    for i in range(n):
        how = (cut, flip, flip, swap, outside)[i % 5]
        file = (NETWORK, INT8)[i % 2] if how is outside else list(names)[rng.integers(4)]
        data = exported[VERSION][names[file]]
        others = [o for files in exported.values() for o in files.values() if o != data]
        yield how.__name__, file, how(data, rng, others)


def verdict(bundle, file, records):
    "Who refuses a bundle: 'load', 'answers', or nobody."
    try:
        load_classifier(bundle, file.removesuffix(".onnx").replace(f"_v{VERSION}", ""))
    except DataCloakError as e:
        assert file in str(e), "the message names the file"
        return "load"
    try:
        check_answers(records, open_models(open_bundle(bundle)))
    except DataCloakError:
        return "answers"
    return "nobody"


def test_mutated_models_are_refused(published, exported, keys, tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    bundle, records = shutil.copytree(published, tmp_path / NAME), read_records(open_bundle(published))
    seal(bundle, keys / "ours.pem")
    X = np.stack([o.features for o in records])
    by_sums, by_more = Counter(), Counter()
    for how, file, data in mutations(exported):
        original = (bundle / file).read_bytes()
        sums = (bundle / SUMS).read_bytes()
        (bundle / file).write_bytes(data)
        by_sums[how, verdict(bundle, file, records)] += 1
        seal(bundle)
        by_more[how, found := verdict(bundle, file, records)] += 1
        if found == "nobody":
            gap = np.abs(read_classifier(data).probabilities(X) - read_classifier(original).probabilities(X)).max()
            assert how == "flip" and gap <= TOLERANCE
            with pytest.raises(BundleError, match="model.sig does not hold"):
                open_bundle(bundle, keys / "ours.pub")
        (bundle / file).write_bytes(original)
        (bundle / SUMS).write_bytes(sums)
    print(dict(by_sums), dict(by_more), sep="\n")
    assert sum(by_sums.values()) == sum(by_more.values()) >= 200
    assert {who for _, who in by_sums} == {"load"}
    assert all(by_more[how, "nobody"] == 0 for how in ("cut", "swap", "outside"))
    assert 0 < by_more["flip", "nobody"] < by_more["flip", "load"] + by_more["flip", "answers"]
    open_bundle(bundle, keys / "ours.pub")


# ---- signatures

def test_signed_and_checked(bundle, keys, capsys):
    seal(bundle, keys / "ours.pem")
    assert load_classifier(bundle, public_key=keys / "ours.pub").version == VERSION
    assert main([str(bundle), "--public-key", str(keys / "ours.pub")]) == 0 and "signed" in capsys.readouterr().out
    assert load_classifier(bundle).version == VERSION


@pytest.mark.parametrize("plant, key, message", [
    (lambda o: (o / SIGNATURE).unlink(), "ours.pub", "model.sig is missing"),
    (lambda o: (o / SIGNATURE).write_text("{}"), "ours.pub", "model.sig does not hold"),
    (lambda o: (o / SIGNATURE).write_bytes(b""), "ours.pub", "model.sig does not hold"),
    (lambda o: (seal(o), None), "theirs.pub", "model.sig does not hold"),
    (lambda o: ((o / "MODEL_CARD.md").write_text("?"), seal(o)), "ours.pub", "model.sig does not hold"),
    (lambda o: None, "nobody.pub", "no public key nobody.pub"),
    (lambda o: None, "ours.pem", "model.sig does not hold"),
    (lambda o: None, "", "no public key"),
])
def test_a_signature_that_does_not_hold_is_refused(bundle, keys, plant, key, message):
    seal(bundle, keys / "ours.pem")
    plant(bundle)
    key = keys / key if key else ""
    with pytest.raises(BundleError, match=message):
        load_classifier(bundle, public_key=key)
    assert message in verify_bundle(bundle, key)[-1].problem


def test_without_the_package_nothing_is_signed_or_trusted(bundle, keys, monkeypatch):
    seal(bundle, keys / "ours.pem")
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for work in (lambda: seal(bundle, keys / "ours.pem"), lambda: open_bundle(bundle, keys / "ours.pub")):
        with pytest.raises(BundleError, match="need the extra `signing`"):
            work()


# ---- runtimes

def test_the_oldest_runtime_answers_alike(published, learnt, tmp_path):
    oldest = load_config().export.oldest_onnx_runtime
    try:
        runtime_python(oldest)
    except RuntimeMissing as e:
        pytest.skip(str(e))
    proto = onnx.load(published / PICKED)
    proto.ir_version = 10
    onnx.save(proto, tmp_path / "newer.onnx")
    *proofs, newer = prove_runtimes([*sorted(published.glob("*.onnx")), tmp_path / "newer.onnx"], learnt[0], oldest)
    assert len(proofs) == 4 and {o.min_onnx_runtime for o in proofs} == {oldest}
    assert all(o.largest_difference <= TOLERANCE for o in proofs)
    assert (newer.min_onnx_runtime, newer.note) == (newer.newest_onnx_runtime, f"{oldest} does not run it")


def test_no_registry_no_claim(published, learnt, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    proof, = prove_runtimes([published / PICKED], learnt[0], "1.15.0", tmp_path)
    assert proof.min_onnx_runtime is None and proof.note == "onnxruntime 1.15.0 was not at hand"


@pytest.mark.parametrize("spoil", [
    lambda home: home.parent.parent.write_text("no folder"),
    lambda home: ((home / "bin").mkdir(parents=True), (home / "bin" / "python").symlink_to("gone"))],
    ids=["no folder", "without its Python"])
def test_a_cache_that_is_no_use_ends_no_run(published, learnt, tmp_path, monkeypatch, spoil):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    spoil(tmp_path / "cache" / "runtimes" / f"onnxruntime-1.15.0-{python}")
    proof, = prove_runtimes([published / PICKED], learnt[0], "1.15.0", tmp_path / "cache")
    assert proof.min_onnx_runtime is None and proof.note == "onnxruntime 1.15.0 was not at hand"
