"""The README, read word for word: each command and each piece of Python runs, in its order and in one folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datacloak_nb.starter import starter_folder

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
ELSEWHERE = {               # what other tests run, or nobody can unattended
    r"\.venv/bin/papermill nbs/(generate|train)": "test_train trains on such a folder",
    r"datacloak-runs compare": "test_archive", r"jupyter lab": "test_explore", r"datacloak-retrain": "test_retrain",
    r"--public-key": "test_bundle"}


def lines(block):
    "The commands of a block that are run here."
    told = [o.partition("  #")[0] for o in block.splitlines() if o.startswith((".venv/", "export "))]
    return [o for o in told if not any(re.search(k, o) for k in ELSEWHERE)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A project with a table, a folder of tables, and a run that made the bundle of the package."
    folder = tmp_path_factory.mktemp("readme")
    for name in ("nbs", "datacloak_nb", "settings.ini"): (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    table = re.search(r"<<'END'\n(.*?)END\n", (ROOT / "README.md").read_text("utf-8"), re.S)[1]
    for place in ("", "data"):
        (folder / place).mkdir(exist_ok=True)
        (folder / place / "orders.csv").write_text(table, "utf-8")
    shutil.copytree(starter_folder(), folder / "runs" / "NAME" / "models")
    return folder


def test_the_readme_runs_word_for_word(folder):
    version = next((folder / "runs/NAME/models").iterdir()).name.partition("_v")[2]
    python, exports, ran = "truths = ['identifier', 'datetime', 'text_short', 'boolean', 'text_long']\n", "", 0
    for kind, block in BLOCKS:
        if kind == "python":
            python += block
            commands = [[sys.executable, "-c", python]]
        else:
            exports += "".join(o + "\n" for o in lines(block) if o.startswith("export"))
            commands = [["bash", "-ec", exports + o.replace("VERSION", version)] for o in lines(block)
                        if o.startswith(".venv")]
        for command in commands:
            told = subprocess.run(command, cwd=folder, env=os.environ | dict(PYTHONPATH=str(folder)),
                                  capture_output=True, text=True)
            assert told.returncode == 0, (command[-1], told.stderr[-1500:])
            ran += 1
    assert ran >= 12
    assert (folder / "orders.schema.json").is_file() and (folder / "runs/monitor.ipynb").is_file()
