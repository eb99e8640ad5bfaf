"""Time all features of a mixed table beside `DataFrame.describe(include="all")`, on one core.

Usage: python benchmarks/features.py [rows]

Prints both times and their ratio; the budget is 1.5.
"""
import os
import sys

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS"):
    os.environ[name] = "1" # before numpy and pyarrow start their pools

import statistics
import string
import time
import warnings

import numpy as np
import pandas as pd

from datacloak_nb.features.extract import extract_frame

BUDGET = 1.5
WORDS = ("the of quick brown fox market price hotel room clean staff friendly very good bad but arrived late broken "
         "item quality great value would recommend again never service food cold").split()


def mixed_table(rows: int, seed: int = 0) -> pd.DataFrame:
    """72 columns of every common kind, one cell in twenty missing."""
    r = np.random.default_rng(seed)
    days = lambda: pd.Timestamp("2010-01-01") + pd.to_timedelta(r.integers(0, 5000, rows), unit="D")
    sentence = lambda: " ".join(r.choice(WORDS, r.integers(5, 25))).capitalize() + "."
    makers = {
        "measure": (4, lambda i: r.normal(100, 50, rows)),
        "price": (8, lambda i: r.lognormal(3, 1, rows).round(2)),
        "count": (12, lambda i: r.integers(0, 10 ** (i % 5 + 1), rows)),
        "id": (4, lambda i: np.arange(rows) + i),
        "category": (12, lambda i: r.choice([f"group {c}" for c in string.ascii_lowercase[:3 + 2 * i]], rows)),
        "flag": (6, lambda i: r.random(rows) < .3),
        "created": (3, lambda i: pd.Timestamp("2020-01-01") + pd.to_timedelta(r.integers(0, 10**8, rows), unit="s")),
        "date": (7, lambda i: days().strftime("%d/%m/%Y")),
        "sku": (5, lambda i: [f"AB-{x:06d}" for x in r.integers(0, 10**6, rows)]),
        "name": (6, lambda i: [" ".join(w.capitalize() for w in r.choice(WORDS, 2)) for _ in range(rows)]),
        "comment": (5, lambda i: [sentence() for _ in range(rows)]),
    }
    table = pd.DataFrame({f"{kind}_{i}": make(i) for kind, (n, make) in makers.items() for i in range(n)})
    return table.mask(r.random(table.shape) < .05)


def median_of(task, repeats: int = 9) -> float:
    """Median seconds of some repeats, after one that does not count."""
    task()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(rows: int = 7000) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    warnings.simplefilter("ignore")
    table = mixed_table(rows)
    describe = median_of(lambda: table.describe(include="all"))
    extract = median_of(lambda: extract_frame(table))
    print(f"{rows:,} rows x {table.shape[1]} columns: describe {describe * 1e3:.1f} ms, "
          f"376 features {extract * 1e3:.1f} ms, ratio {extract / describe:.2f} (budget {BUDGET})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
