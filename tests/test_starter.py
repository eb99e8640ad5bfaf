"""The model that comes with the package is small, whole and of free columns; one pipeline makes it again."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from datacloak_nb.config import load_config, save_config
from datacloak_nb.corpus import read_sources
from datacloak_nb.dataset import Dataset, Metadata, Source, save_dataset
from datacloak_nb.deploy.bundle import PICKED, open_bundle
from datacloak_nb.deploy.card import parse_config
from datacloak_nb.predict import find_bundle
from datacloak_nb.runs import run_pipeline, start_run
from datacloak_nb.scanning.scan import classify
from datacloak_nb.starter import LARGEST, StarterError, is_permissive, keep_starter, starter_folder
from datacloak_nb.verify import verify_bundle


def contents(folder):
    "{name: bytes} of the files of a folder."
    return {str(o.relative_to(folder)): o.read_bytes() for o in sorted(folder.rglob("*")) if o.is_file()}


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(find_bundle(starter_folder()))


def test_it_is_small_and_every_check_holds(bundle):
    assert len(bundle.read(bundle.models[PICKED])) <= LARGEST
    assert [o.problem for o in verify_bundle(bundle.folder) if o.problem] == []


def test_its_card_names_free_sources_alone(bundle):
    named = {o.package for o in parse_config(bundle.read("model_config.yaml")).training_data.sources} - {"synthetic"}
    licences = {o.package: o.licence for o in read_sources().itertuples()}
    assert len(named) > 100 and all(is_permissive(licences[o.partition("/")[0]]) for o in named)
    assert "GPL" not in bundle.read("MODEL_CARD.md").decode()


@pytest.fixture(scope="module")
def made(tiny_columns, tmp_path_factory):
    "A run of the pipeline on columns of which every sixth is not free, and the place of its bundle."
    folder = tmp_path_factory.mktemp("starter")
    columns = [replace(o, source="open" if i % 6 else "closed") for i, o in enumerate(tiny_columns)]
    sources = Source(name="open", licence="MIT"), Source(name="closed", licence="GPL-3.0")
    data = save_dataset(Dataset(columns, metadata=Metadata(sources=sources)), folder / "data")
    tiny = dict(models__model_type="gb", models__gradient_boosting__max_iter=5, data__augmentation=False,
                models__gradient_boosting__search__strategy="none", evaluation__min_accuracy_threshold=0.1,
                evaluation__cross_validation_folds=2, export__oldest_onnx_runtime="", export__tree_shares=[])
    config, run = save_config(load_config(**tiny), folder / "tiny.yaml"), start_run(folder / "run")
    assert run_pipeline("starter", run, data_path=str(data), config=str(config), package_dir=str(folder / "package"))
    return run, folder / "package"


def test_the_pipeline_learns_from_free_columns_and_puts_the_bundle_in_its_place(made, tiny_columns):
    run, place = made
    used = {o["id"] for o in json.loads((run / "train" / "splits.json").read_text())["columns"]}
    assert used == {o.id for i, o in enumerate(tiny_columns) if i % 6}
    trained = find_bundle(run / "train")
    assert contents(place / trained.name) == contents(trained) and "GPL-3.0" in (run / "report.html").read_text("utf-8")


def test_what_is_too_large_or_damaged_leaves_the_place_as_it_was(made, tmp_path, monkeypatch):
    run, place = made
    before = contents(place)
    monkeypatch.setattr("datacloak_nb.starter.LARGEST", 1000)
    with pytest.raises(StarterError, match="expected at most 1,000"): keep_starter(run / "train", place)
    monkeypatch.undo()
    trained = find_bundle(run / "train")
    (trained / "reference.json").write_bytes(b"{}")
    with pytest.raises(Exception, match="reference.json"): keep_starter(run / "train", place)
    assert contents(place) == before and [o.name for o in place.parent.iterdir() if o.name.startswith(".")] == []


def test_the_first_scan_prints_what_the_readme_says(tmp_path):
    root = Path(__file__).parents[1]
    commands, said = re.findall(r"```(?:sh|text)\n(.*?)```", (root / "README.md").read_text("utf-8"), re.S)[:2]
    commands = commands.replace("make install\n", "").replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    told = subprocess.run(["bash", "-ec", commands], cwd=tmp_path, env=os.environ | dict(COLUMNS="100", TERM="dumb"),
                          capture_output=True, text=True, check=True).stdout
    assert [o.rstrip() for o in told.strip().splitlines()] == said.strip().splitlines()


MIXED = dict(
    text_long=["The room was clean, but the heating did not work.", "La habitación era pequeña y daba a la calle.",
               "Das Frühstück war sehr gut und das Personal freundlich.", "部屋はとても清潔で、スタッフも親切でした。",
               "服务很好，但是房间有点小，晚上也有点吵。", "Le petit déjeuner était froid et le service lent.",
               "الغرفة كانت نظيفة والموظفون لطفاء جدا.", "Номер был чистым, но завтрак нам не понравился.",
               "객실은 깨끗했지만 밤에 너무 시끄러웠습니다.", "A cama era confortável e a vista, maravilhosa."],
    text_short=["Anna Müller", "田中 太郎", "Jean Dupont", "Иван Петров", "محمد علي", "María García", "김민수",
                "Olga Nowak", "John Smith", "Zoë Jansen"],
    datetime=["12 mars 2021", "3. Januar 2020", "2022年5月1日", "5 de mayo de 2019", "March 3, 2018", "1 июня 2020 г.",
              "7 ottobre 2017", "2019-02-11", "14 lutego 2016", "9 de abril de 2021"])


def test_a_column_may_mix_languages():
    headers = dict(text_long="comment", text_short="name", datetime="released")
    said = classify(pd.DataFrame(MIXED).rename(columns=headers))
    assert list(said.type) == list(MIXED) and said.sentiment.tolist() == pytest.approx([0.9, 0.1, 0.04], abs=0.1)
