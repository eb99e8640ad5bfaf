"""Steps of a store, and processes that take them at once or are killed at any line of them."""

import os
import signal
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

import datacloak_nb.places
from datacloak_nb.columns import DataCloakError
from datacloak_nb.store import CURRENT, Store, StoreError, verify_store

PACKAGE = Path(datacloak_nb.places.__file__).parent
WATCHED = {str(PACKAGE / name) for name in ("files.py", "places.py", "store.py")}


def _trace_lines(seen):
    "Call `seen` before each line that is executed in the watched modules."
    def trace(frame, event, arg):
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            seen()
        return trace
    sys.settrace(trace)


def _exit_code(function):
    "How a process ends that calls `function`: 0, or minus the number of the signal."
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def opened(place):
    "A store whose connection is made, so that only what comes next is traced."
    store = Store(place)
    store.place.tag(CURRENT)
    return store


def count_lines(function, place, *args):
    "How many lines of the watched modules a call executes that gets the store at a place first."
    read, write = os.pipe()

    def counted():
        store, lines = opened(place), []
        _trace_lines(lambda: lines.append(None))
        function(store, *args)
        sys.settrace(None)
        os.write(write, str(len(lines)).encode())

    assert _exit_code(counted) == 0
    with os.fdopen(read, "rb") as found:
        os.close(write)
        return int(found.read())


def kill_at(line, function, place, *args):
    "Call `function` in a process that is killed with signal 9 before its `line`-th line."
    left = iter(range(line - 1, -1, -1))

    def killed():
        store = opened(place)
        _trace_lines(lambda: next(left) or os.kill(os.getpid(), signal.SIGKILL))
        function(store, *args)

    assert _exit_code(killed) == -signal.SIGKILL


def at_once(calls):
    "What calls return, or the names of their errors, that are made at the same moment in a process each."
    context = get_context("fork")
    start, answers = context.Barrier(len(calls)), context.SimpleQueue()

    def call(i):
        start.wait()
        try:
            answers.put((i, calls[i]().version))
        except DataCloakError as e:
            answers.put((i, type(e).__name__))

    processes = [context.Process(target=call, args=(i,)) for i in range(len(calls))]
    for o in processes:
        o.start()
    found = dict(answers.get() for _ in processes)
    for o in processes:
        o.join()
    return [found[i] for i in range(len(calls))]


# ---- steps

def add(store, bundle, **fields):
    return store.add(bundle, "weekly run", metrics=dict(accuracy=0.9), **fields)


def begin(place, bundles):
    "A store with three versions, of which two were in use."
    store = Store(place)
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        add(store, bundles[version], evidence={"report": version.encode()})
    store.promote("1.0.0", "first", "nothing is in use")
    store.promote("1.1.0", "better", "by 0.02")
    return store


def files(store):
    "{name: bytes} of all files of a store but the pointer."
    return {name: store.place.read(name) for name in store.place.list() if name != CURRENT}


def problems(store):
    return [o for o in verify_store(str(store.place)) if o.problem]


STEPS = dict(
    add=lambda store, bundle: add(store, bundle, evidence={"report": b"new"}, data=dict(columns=3)),
    promote=lambda store, bundle: store.promote("1.2.0", "better", "by 0.03", evidence={"report": b"both"}),
    rollback=lambda store, bundle: store.rollback("a regression"))
DONE = dict(add=lambda store: "1.3.0" in store.versions(), promote=lambda store: store.current == "1.2.0",
            rollback=lambda store: store.current == "1.0.0")


def go_on(store, step, bundle, done):
    "After a kill or a full disk: the step itself, if it was not done, and the next one work."
    if not done:
        STEPS[step](store, bundle)
    elif step == "promote":
        with pytest.raises(StoreError, match="in use already"):
            STEPS[step](store, bundle)
    assert DONE[step](store) and store.evidence("1.0.0", "report") == b"1.0.0"
    store.promote("1.2.0" if store.current == "1.0.0" else "1.0.0", "by hand", "what comes next works")
    assert problems(store) == []
