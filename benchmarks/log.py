"""How many predictions a second the prediction log takes, and how fast it gives them back.

Usage: python benchmarks/log.py [rows] [rows a batch]

Logs 376 features a prediction with their codes, in batches, to a new SQLite file; beside it a bare `executemany` of
sqlite3 writes the same rows to the same tables under the same settings. Prints the rate of both, their ratio, and the
time of a window of all rows. Then eight processes write to one file at once.
"""
import sqlite3
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from datacloak_nb.labels import LABELS
from datacloak_nb.monitoring.log import open_log

FEATURES, WRITERS = 376, 8


class Codes:
    """A reference that takes no time: what it takes to find codes is not the log's."""

    def codes(self, X): return np.ones(X.shape, np.uint8)


def made(rows):
    """Features and probabilities."""
    rng = np.random.default_rng(0)
    return rng.random((rows, FEATURES), np.float32), rng.dirichlet(np.ones(len(LABELS)), rows).astype(np.float32)


def write(path, X, p, size):
    """Log everything; how long it took, in seconds."""
    with open_log(path) as log:
        began = time.perf_counter()
        for i in range(0, len(X), size): log.add(X[i:i + size], p[i:i + size], LABELS, "1.2.0", Codes())
        return time.perf_counter() - began


def bare(source, path, size):
    """Write the rows of a log to another one by sqlite3 alone; how long it took, in seconds."""
    open_log(path).close()
    with sqlite3.connect(source) as c: rows = c.execute("SELECT * FROM datacloak_predictions").fetchall()
    insert = f"INSERT INTO datacloak_predictions VALUES ({', '.join('?' * len(rows[0]))})"
    c = sqlite3.connect(path)
    for setting in ("synchronous=FULL", "cache_size=-65536", "wal_autocheckpoint=8000"): c.execute(f"PRAGMA {setting}")
    began = time.perf_counter()
    for i in range(0, len(rows), size):
        with c: c.executemany(insert, rows[i:i + size])
    return time.perf_counter() - began


def window(path):
    """How long it takes to read all of it, in seconds."""
    with open_log(path) as log:
        began = time.perf_counter()
        log.window()
        return time.perf_counter() - began


def one_of_many(task):
    """Log a share from a process of its own."""
    path, rows, size = task
    return write(path, *made(rows), size)


def main(rows=100_000, size=1000) -> None:
    """Measure and print."""
    folder = Path(tempfile.mkdtemp())
    took = write(folder / "log.db", *made(rows), size)
    least = bare(folder / "log.db", folder / "bare.db", size)
    print(f"one process:     {rows / took:,.0f} predictions a second in batches of {size:,}")
    print(f"sqlite3 alone:   {rows / least:,.0f}, {took / least:.2f} times as fast")
    print(f"window:          {rows:,} in {window(folder / 'log.db'):.2f} s")
    with get_context("spawn").Pool(WRITERS) as pool:
        slowest = max(pool.map(one_of_many, [(folder / "many.db", rows // WRITERS, size)] * WRITERS, 1))
    with open_log(folder / "many.db") as log: assert len(log.window()) == rows // WRITERS * WRITERS
    print(f"{WRITERS} processes:     {rows / slowest:,.0f} together")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
