"""A store in S3, on servers that the tests start: the same promises as on a disk."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from stores import DONE, STEPS, add, at_once, begin, count_lines, files, go_on, kill_at, problems

from datacloak_nb.deploy.bundle import open_bundle
from datacloak_nb.places import PlaceConflict, PlaceError, open_place
from datacloak_nb.store import CURRENT, Store, StoreError, main

pytestmark = pytest.mark.usefixtures("unverified")
SERVER = Path(__file__).with_name("s3_server.py")


def start_server(*how):
    "(process, its URL) of an S3 server that answers."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, SERVER, str(port), *how], stderr=subprocess.DEVNULL)
    for _ in range(600):
        with socket.socket() as caller:
            if not caller.connect_ex(("127.0.0.1", port)):
                return process, f"http://127.0.0.1:{port}"
        assert process.poll() is None, "the server ended"
        time.sleep(0.1)
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def servers():
    "{name: URL} of a server that keeps to conditions, and of one that drops them."
    started = dict(strict=start_server(), careless=start_server("careless"))
    yield {name: url for name, (_, url) in started.items()}
    for process, _ in started.values():
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def bucket(servers, monkeypatch, tmp_path):
    "The bucket `models` on the strict server, which the environment names, and a cache of its own."
    settings = dict(AWS_ENDPOINT_URL=servers["strict"], AWS_ACCESS_KEY_ID="user", AWS_SECRET_ACCESS_KEY="secret",
                    AWS_DEFAULT_REGION="us-east-1", DATACLOAK_CACHE=str(tmp_path / "cache"))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    open_place("s3://models").fs.call_s3("create_bucket", Bucket="models")


def url(tmp_path, name="store"):
    return f"s3://models/{tmp_path.name}/{name}"


def test_a_bucket_keeps_what_others_wrote(tmp_path):
    one, other = open_place(url(tmp_path)), open_place(url(tmp_path))
    one.create("a+b", b"1")
    one.create("a+b", b"1")
    with pytest.raises(PlaceConflict, match="a[+]b is in s3://models/.* already"):
        other.create("a+b", b"2")
    seen = one.tag("a+b")
    other.replace("a+b", b"3", seen)
    for tag in (seen, None):
        with pytest.raises(PlaceConflict, match="was changed"):
            one.replace("a+b", b"4", tag)
    assert (one.read("a+b"), one.list(), one.tag("b"), one.list("b")) == (b"3", ["a+b"], None, [])
    one.remove("a+b")
    assert other.list() == []


def test_what_is_added_can_be_fetched_and_is_checked(bundles, tmp_path):
    store = begin(url(tmp_path), bundles)
    fetched = store.fetch("1.0.0")
    assert tmp_path in fetched.parents and open_bundle(fetched).version == "1.0.0"
    (fetched / "network_v1.0.0.onnx").write_bytes(b"spoilt")
    assert open_bundle(store.fetch("1.0.0")).read("network_v1.0.0.onnx") == b"1.0.0" * 2000
    assert store.evidence("1.2.0", "report") == b"1.2.0"
    spoilt = next(o for o in store.place.list("versions/1.2.0") if "network" in o)
    store.place.replace(spoilt, b"spoilt", store.place.tag(spoilt))
    for use in (store.fetch, partial(store.promote, rule="better", reason="by 0.03")):
        with pytest.raises(StoreError, match="network_v1.2.0.onnx in s3://.* is not what was added"):
            use("1.2.0")
    assert [o.name for o in problems(store)] == ["versions"]


@pytest.mark.parametrize("step", STEPS)
def test_a_writer_may_be_killed_at_any_line(bundles, tmp_path, step, kills=6):
    def fresh(name):
        store = Store(url(tmp_path, name))
        store.place.fs.pipe({f"{store.place.root}/{o}": data for o, data in (before | pointer).items()})
        return store

    begun = begin(url(tmp_path, "begun"), bundles)
    before, pointer = files(begun), {CURRENT: begun.place.read(CURRENT)}
    act, bundle, outcomes = STEPS[step], bundles["1.3.0"], Counter()
    lines = count_lines(act, str(fresh("counted").place), bundle)
    for i in range(kills):
        store = fresh(i)
        kill_at(1 + i * (lines - 1) // (kills - 1), act, str(store.place), bundle)
        store = Store(str(store.place))
        done = DONE[step](store)
        outcomes[done] += 1
        assert done or store.current == "1.1.0"
        assert before.items() <= files(store).items(), "nothing is lost"
        assert json.loads(store.place.read(CURRENT))["version"] in ("1.1.0", store.current)
        go_on(store, step, bundle, done)
    assert set(outcomes) == {False, True}


def test_of_two_promoters_one_wins(bundles, tmp_path):
    def promote(place, version):
        return Store(place).promote(version, "better", "than 1.1.0", expected="1.1.0")

    for i in range(3):
        store = begin(url(tmp_path, i), bundles)
        found = at_once([partial(promote, str(store.place), o) for o in ("1.0.0", "1.2.0")])
        assert sorted(found) == [store.current, "StoreConflict"]
        assert len(store.ledger()) == 6 and problems(store) == []


def test_a_server_that_drops_conditions_is_refused(bundles, servers, tmp_path):
    store = Store(url(tmp_path), endpoint_url=servers["careless"])
    store.place.fs.call_s3("create_bucket", Bucket="models")
    with pytest.raises(PlaceError, match="s3://models/.* overwrites in spite of If-None-Match"):
        add(store, bundles["1.0.0"])
    assert store.versions() == []


def test_a_server_that_is_gone_is_told(tmp_path, monkeypatch):
    process, gone = start_server()
    process.kill()
    process.wait()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(PlaceError, match="cannot use ledger in s3://models"):
        Store(url(tmp_path), endpoint_url=gone).versions()


def test_the_command_takes_a_bucket(bundles, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATACLOAK_STORE", str(begin(url(tmp_path), bundles).place))
    assert main(["promote", "1.2.0", "--rule", "by hand", "--reason", "new"]) == 0
    assert main(["verify"]) == 0
    assert "3 versions, 9 files" in capsys.readouterr().out
    assert Store(os.environ["DATACLOAK_STORE"]).current == "1.2.0"
