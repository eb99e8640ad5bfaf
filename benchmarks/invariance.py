"""How often the answer for a column stays when its rows are doubled, shuffled, or cut to the first 10,000.

Usage: python benchmarks/invariance.py RUN [columns]

Asks the model of a run about real columns of the default data and prints the share of equal answers; 0.99 is wanted.
They have 2,000 rows at most, so for the cut 20,000 are drawn from each first.
"""
import sys

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from datacloak_nb.columns import Column
from datacloak_nb.corpus import default_data
from datacloak_nb.dataset import load_dataset
from datacloak_nb.features.extract import extract
from datacloak_nb.predict import load_classifier
from datacloak_nb.synthetic import SYNTHETIC


def rows(n, length=20_000):
    """Positions of `length` rows drawn from `n`, the same at every call."""
    return pa.array(np.random.default_rng(0).integers(0, n, length))


CHANGES = {  # before and after
    "doubled": (lambda o: o, lambda o: pa.concat_arrays([o, o])),
    "shuffled": (lambda o: o, lambda o: o.take(pa.array(np.random.default_rng(0).permutation(len(o))))),
    "cut to the first 10,000": (lambda o: o.take(rows(len(o))), lambda o: o.take(rows(len(o))[:10_000])),
}


def answers(classifier, columns, change):
    """Class index of each column after a change of its cells."""
    chunks = (columns[i:i + 50] for i in range(0, len(columns), 50))
    made = ([Column(o.header, change(o.cells)) for o in chunk] for chunk in chunks)
    return np.concatenate([classifier.probabilities(extract(o)).argmax(1) for o in made])


def main(run: str, n: int = 1500) -> None:
    """Print one line a change."""
    classifier, rng = load_classifier(run), np.random.default_rng(0)
    real = [o.column for o in load_dataset(default_data()).columns if o.source != SYNTHETIC and len(o.column)]
    columns = [real[i] for i in rng.permutation(len(real))[:n]]
    for name, (before, after) in tqdm(CHANGES.items()):
        same = answers(classifier, columns, before) == answers(classifier, columns, after)
        tqdm.write(f"{name}: {same.mean():.4f} of {n} answers stay")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
