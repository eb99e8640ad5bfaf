"""What MLflow shows of a store, in a database of its own."""

import pytest
from stores import begin

from datacloak_nb.deploy.bundle import open_bundle
from datacloak_nb.store import export_mlflow, main

pytestmark = pytest.mark.usefixtures("unverified")
mlflow = pytest.importorskip("mlflow")
NAME = "datacloak-column-classifier"


@pytest.fixture
def tracked(tmp_path, monkeypatch):
    "(URI of a new database, its client); artifacts stay below `tmp_path`."
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return uri, mlflow.MlflowClient(uri, uri)


def test_versions_become_runs_and_the_one_in_use_is_the_champion(bundles, tmp_path, tracked):
    (uri, client), store = tracked, begin(tmp_path / "store", bundles)
    assert export_mlflow(store, uri) == ["1.0.0", "1.1.0", "1.2.0"]
    champion = client.get_model_version_by_alias(NAME, "champion")
    assert champion.tags == {"version": "1.1.0", "reason": "weekly run"}
    assert client.get_run(champion.run_id).data.metrics == {"accuracy": 0.9}
    folder = tmp_path / bundles["1.1.0"].name
    client.download_artifacts(champion.run_id, "bundle", tmp_path)
    assert open_bundle((tmp_path / "bundle").rename(folder)).version == "1.1.0"


def test_exporting_again_adds_what_is_new_and_moves_the_champion(bundles, tmp_path, tracked, capsys):
    (uri, client), store = tracked, begin(tmp_path / "store", bundles)
    export_mlflow(store, uri)
    store.add(bundles["1.3.0"], "weekly run", metrics=dict(accuracy=0.95))
    store.rollback("a regression")
    command = ["export-mlflow", "--tracking-uri", uri, "--store", str(tmp_path / "store")]
    assert main(command) == 0 and capsys.readouterr().out == "new in MLflow: 1.3.0\n"
    assert main(command) == 0 and capsys.readouterr().out == "new in MLflow: none\n"
    assert client.get_model_version_by_alias(NAME, "champion").tags["version"] == "1.0.0"
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 4


def test_what_mlflow_refuses_is_told(bundles, tmp_path, capsys):
    store = begin(tmp_path / "store", bundles)
    assert main(["export-mlflow", "--tracking-uri", "ftp://nowhere", "--store", str(store.place)]) == 1
    assert "datacloak-models: MLflow refuses" in capsys.readouterr().err
