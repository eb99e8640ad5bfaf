"""Whoever writes to a store is killed, is first or second, or finds the disk full: nothing is lost."""

import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from stores import DONE, STEPS, add, at_once, begin, count_lines, files, go_on, kill_at, problems

from datacloak_nb.deploy.bundle import BundleError, open_bundle, seal
from datacloak_nb.places import Folder, PlaceError
from datacloak_nb.store import CURRENT, Store, StoreConflict, StoreError, main


pytestmark = pytest.mark.usefixtures("unverified")


@pytest.fixture
def memory():
    "A folder in memory, if there is one: flushing a real disk takes most of the time, and kills do not depend on it."
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)


@pytest.fixture
def begun(bundles, memory):
    return begin(memory / "begun", bundles)


# ---- killed

@pytest.mark.parametrize("step, kills", [("add", 110), ("promote", 80), ("rollback", 60)])
def test_a_writer_may_be_killed_at_any_line(begun, bundles, memory, step, kills):
    before, act, bundle = files(begun), STEPS[step], bundles["1.3.0"]
    fresh = lambda name: Store(shutil.copytree(begun.place.root, memory / name))
    lines, outcomes = count_lines(act, fresh("counted").place.root, bundle), Counter()
    assert lines > kills
    for i in range(kills):
        store = fresh(str(i))
        kill_at(1 + i * (lines - 1) // (kills - 1), act, store.place.root, bundle)
        store = Store(store.place.root)
        pointer = json.loads((store.place.root / CURRENT).read_bytes())["version"]
        done = DONE[step](store)
        outcomes[done, pointer == store.current] += 1
        assert done or store.current == "1.1.0"
        assert before.items() <= files(store).items(), "nothing is lost"
        assert [open_bundle(store.fetch(o)).version for o in store.versions()] == store.versions()
        go_on(store, step, bundle, done)
    wanted = {(False, True), (True, True)} | ({(True, False)} if step != "add" else set())
    assert outcomes.keys() == wanted, "killed before the record, after the pointer, and in between"


def test_leftovers_of_an_add_are_not_seen_and_then_removed(begun, bundles, memory):
    other = shutil.copytree(bundles["1.3.0"], memory / bundles["1.3.0"].name)
    (other / "network_v1.3.0.onnx").write_bytes(b"of another run")
    lines = count_lines(add, shutil.copytree(begun.place.root, memory / "counted"), seal(other))
    kill_at(lines // 2, add, begun.place.root, other)
    left = begun.place.list("versions/1.3.0")
    assert left and "1.3.0" not in begun.versions() and problems(begun) == []
    with pytest.raises(StoreError, match="no version 1.3.0"):
        begun.promote("1.3.0", "better", "as if it were there")
    add(begun, bundles["1.3.0"])
    kept = begun.place.list("versions/1.3.0")
    assert len(kept) == 3 and not set(kept) & set(left)
    assert open_bundle(begun.fetch("1.3.0")).read("network_v1.3.0.onnx") == b"1.3.0" * 2000


# ---- at once

def test_of_two_promoters_one_wins(begun, bundles, memory):
    for i in range(20):
        store = Store(shutil.copytree(begun.place.root, memory / str(i)))
        promote = partial(store.promote, rule="better", reason="than 1.1.0", expected="1.1.0")
        found = at_once([partial(promote, o) for o in ("1.0.0", "1.2.0")])
        assert sorted(found) == [store.current, "StoreConflict"]
        assert len(store.ledger()) == 6 and problems(store) == []


def test_all_are_added_that_come_at_once(bundles, memory):
    found = at_once([partial(add, Store(memory / "s"), o) for o in bundles.values()])
    store = Store(memory / "s")
    assert found == list(bundles) == store.versions() and problems(store) == []
    assert [o.number for o in store.ledger()] == [1, 2, 3, 4]


def test_of_two_bundles_of_a_version_one_is_added_whole(bundles, memory):
    for i in range(10):
        store, others = Store(memory / f"s{i}"), []
        for run in range(2):
            others.append(shutil.copytree(bundles["1.0.0"], memory / f"{i}-{run}" / bundles["1.0.0"].name))
            (others[-1] / "network_v1.0.0.onnx").write_bytes(f"of run {run}".encode())
            seal(others[-1])
        found = at_once([partial(add, store, o) for o in others])
        assert sorted(found) == ["1.0.0", "StoreConflict"] and problems(store) == []
        kept = open_bundle(store.fetch("1.0.0")).read("network_v1.0.0.onnx")
        assert kept == f"of run {found.index('1.0.0')}".encode()


def test_readers_see_a_whole_store_while_others_write(begun):
    def write(version):
        store = Store(begun.place.root)
        for _ in range(15):
            try:
                store.promote(version, "by turns", "or not")
            except StoreError:
                continue
        return store.added(version)

    def read():
        for _ in range(100):
            store = Store(begun.place.root)
            assert open_bundle(store.fetch(store.current)).version in ("1.0.0", "1.1.0", "1.2.0")
        return store.added("1.0.0")

    found = at_once([partial(write, "1.0.0"), partial(write, "1.2.0"), read])
    assert found == ["1.0.0", "1.2.0", "1.0.0"] and len(begun.ledger()) > 6 and problems(begun) == []


# ---- full

@pytest.fixture
def small_disk(memory):
    "A disk of 1 MB."
    folder = memory / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("no disk may be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.filterwarnings("ignore:current stays behind")
@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_loses_nothing(begun, bundles, small_disk, step):
    outcomes = set()
    for pages in range(16):
        root = shutil.copytree(begun.place.root, small_disk / "store")
        store, filler = Store(root), small_disk / "filler"
        before, page = files(store), os.statvfs(small_disk).f_frsize
        filler.write_bytes(b"\0" * (os.statvfs(small_disk).f_bavail - pages) * page)
        try:
            STEPS[step](store, bundles["1.3.0"])
        except PlaceError as e:
            assert "No space left on device" in str(e)
        done = DONE[step](Store(root))
        assert before.items() <= files(Store(root)).items()
        assert done or Store(root).current == "1.1.0"
        filler.unlink()
        go_on(store, step, bundles["1.3.0"], done)
        outcomes.add(done)
        shutil.rmtree(root)
    assert outcomes == {False, True}


@pytest.mark.parametrize("step", STEPS)
def test_a_file_that_cannot_be_written_whole_is_not_written(begun, bundles, step):
    before, act = files(begun), partial(STEPS[step], begun, bundles["1.3.0"])

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
        return act()

    assert at_once([limited]) == ["PlaceError"]
    new = files(begun).items() - before.items()
    assert all(name.startswith("evidence/") for name, _ in new) and problems(begun) == []
    go_on(begun, step, bundles["1.3.0"], done=False)


def test_a_pointer_that_cannot_be_moved_is_moved_by_the_next_write(begun, monkeypatch):
    replace = Folder.replace
    def full(place, name, data, tag):
        raise PlaceError("no space left")
    monkeypatch.setattr(Folder, "replace", full)
    with pytest.warns(UserWarning, match="current stays behind until the next write: no space left"):
        begun.promote("1.2.0", "better", "by 0.03")
    assert begun.current == "1.2.0" and [o.name for o in problems(begun)] == ["current"]
    monkeypatch.setattr(Folder, "replace", replace)
    with pytest.raises(StoreError, match="in use already"):
        begun.promote("1.2.0", "better", "once more")
    begun.rollback("a regression")
    assert begun.current == "1.1.0" and problems(begun) == []


# ---- what is refused

def test_a_bundle_that_does_not_verify_is_not_added(bundles, memory, monkeypatch):
    monkeypatch.undo() # verify after all
    store = Store(memory)
    with pytest.raises(BundleError, match="no model_config.yaml in"):
        add(store, bundles["1.0.0"])
    assert store.place.list() == []


def test_a_version_is_not_used_again_after_it_was_deleted(begun, bundles):
    shutil.rmtree(begun.place.root / "versions" / "1.2.0")
    with pytest.raises(StoreConflict, match="version 1.2.0 was added before"):
        add(Store(begun.place.root), bundles["1.2.0"])
    with pytest.raises(PlaceError, match="no versions/1.2.0/"):
        begun.promote("1.2.0", "better", "it is gone")
    assert begun.current == "1.1.0" and [o.name for o in problems(begun)] == ["versions"]


def change(name, edit):
    "A fault: edit a file of the store."
    def plant(root):
        path = next(root.glob(name))
        path.write_bytes(edit(path.read_bytes()))
    return plant


FAULTS = {
    "model": (change("versions/1.0.0/*/*/network*", lambda o: o[:-1]), "versions", "is not what was added"),
    "later": (lambda o: (next(o.glob("versions/1.0.0/*/*")) / "a").touch(), "versions", "a was put into version 1.0.0"),
    "evidence": (change("evidence/*", lambda o: o + b"!"), "evidence", "is not what was added"),
    "lost evidence": (lambda o: shutil.rmtree(o / "evidence"), "evidence", "no evidence/"),
    "record": (change("ledger/000004.json", lambda o: o.replace(b"first", b"best")), "ledger", "000005.json does not"),
    "last record": (lambda o: (o / "ledger/000005.json").unlink(), "current", "records were removed"),
    "middle record": (lambda o: (o / "ledger/000002.json").unlink(), "ledger", "000002.json is missing"),
    "pointer": (change("current", lambda o: o.replace(b"1.1.0", b"1.0.0")), "current", "names 1.0.0, the ledger 1.1.0"),
    "place": (change("ledger/000005.json", lambda o: o.replace(b"1.1.0", b"/etc/a")), "ledger", "string_pattern_mis")}


@pytest.mark.parametrize("plant, where, message", FAULTS.values(), ids=FAULTS)
def test_planted_faults_are_named(begun, capsys, plant, where, message):
    root = begun.place.root
    assert main(["verify", "--store", str(root)]) == 0
    plant(root)
    assert main(["verify", "--store", str(root)]) == 1
    assert message in capsys.readouterr().err
    assert problems(begun)[0].name == where


# ---- the command

def test_the_command_tells_and_does(begun, monkeypatch, capsys):
    monkeypatch.setenv("DATACLOAK_STORE", str(begun.place.root))
    assert main(["promote", "1.2.0", "--rule", "by hand", "--reason", "[bold]new", "--expected", "1.0.0"]) == 1
    assert "1.1.0 is in use, expected 1.0.0" in capsys.readouterr().err
    assert main(["promote", "1.2.0", "--rule", "by hand", "--reason", "[bold]new", "--expected", "1.1.0"]) == 0
    assert main(["rollback", "--reason", "a regression", "--to", "1.0.0"]) == 0
    assert begun.current == "1.0.0" and begun.ledger()[-1].previous == "1.2.0"
    assert main(["show", "1.2.0"]) == 0
    assert '"reason": "[bold]new"' in capsys.readouterr().out
    assert main(["list"]) == 0
    assert [o for o in capsys.readouterr().out.splitlines() if "1.0.0" in o and "│ in use" in o]


def test_without_a_store_the_command_asks_for_one(monkeypatch, capsys):
    monkeypatch.delenv("DATACLOAK_STORE", raising=False)
    with pytest.raises(SystemExit, match="2"):
        main(["list"])
    assert "name it with --store or DATACLOAK_STORE" in capsys.readouterr().err
