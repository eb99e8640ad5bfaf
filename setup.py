"""Build the package. Every setting stands in settings.ini: edit there, not here."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="])
config.read("settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

# The pipelines are run by path, so an installed package carries them as `datacloak_nb/pipelines/`.
pipelines = sorted(p.name for p in Path("nbs").glob("[a-z]*.ipynb") if p.stem != "index")

extras = {name: cfg[f"{name}_requirements"].split() for name in ("signing", "s3", "mlflow")}

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 3 - Alpha",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        "Programming Language :: Python :: 3.11",
    ],
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require=extras | {"dev": [*cfg["dev_requirements"].split(), *sum(extras.values(), [])]},
    packages=[*find_packages(include=["datacloak_nb*"]), "datacloak_nb.data", "datacloak_nb.migrations",
              "datacloak_nb.pipelines"],
    package_dir={"datacloak_nb.pipelines": "nbs"},
    package_data={"datacloak_nb.data": ["**"], "datacloak_nb.migrations": ["**"], "datacloak_nb.pipelines": pipelines},
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],
    },
    zip_safe=False,
)
