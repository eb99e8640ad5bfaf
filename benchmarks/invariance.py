"""How often the answer for a column stays when its rows are doubled or shuffled.

Usage: python benchmarks/invariance.py RUN [columns]

Asks the model of a run about columns of the default data and prints the share of equal answers; 0.99 is wanted.
"""
import sys

import numpy as np
import pyarrow as pa

from datacloak_nb.columns import Column
from datacloak_nb.corpus import build_corpus, cache_folder
from datacloak_nb.features.extract import extract
from datacloak_nb.predict import load_classifier


def answers(classifier, columns, change):
    """Class index of each column after a change of its cells."""
    return classifier.probabilities(extract([Column(o.header, change(o.cells)) for o in columns])).argmax(1)


def main(run: str, n: int = 1500) -> None:
    """Print one line a change."""
    classifier, corpus, rng = load_classifier(run), build_corpus(cache_folder()), np.random.default_rng(0)
    columns = [corpus[i].column for i in rng.permutation(len(corpus))[:n]]
    plain = answers(classifier, columns, lambda cells: cells)
    for name, change in {"doubled": lambda cells: pa.concat_arrays([cells, cells]),
                         "shuffled": lambda cells: cells.take(pa.array(rng.permutation(len(cells))))}.items():
        print(f"{name}: {(answers(classifier, columns, change) == plain).mean():.4f} of {n} answers stay")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
