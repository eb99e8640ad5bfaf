"""What the models reach on tables from packages that they have never seen.

Usage: python benchmarks/packages.py

Five folds over the default data, each leaving out whole source packages, bundles with all their parts; made columns are
only learnt from. Prints for
a forest, a boosting and their mean: accuracy, accuracy with a defensible second label counted as right, macro-F1,
precision and recall of text_long, and the share of other columns taken for text; the last three also for the answers
that are sure enough to be given as confident.
"""
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from datacloak_nb.config import load_config
from datacloak_nb.corpus import default_data
from datacloak_nb.dataset import load_dataset
from datacloak_nb.features.extract import extract
from datacloak_nb.labels import TEXT_LABELS
from datacloak_nb.models.base import ALL_CORES, each_fold, macro_f1
from datacloak_nb.models.boosting import fit_boosting
from datacloak_nb.models.forest import fit_forest
from datacloak_nb.splits import table_groups
from datacloak_nb.training import training_weights

CONFIG = load_config()
FOREST = CONFIG.models.random_forest.model_dump(exclude={"search"})
BOOSTING = CONFIG.models.gradient_boosting.model_dump(exclude={"search"})
FITS = {"forest": (fit_forest, FOREST, 1), "boosting": (fit_boosting, BOOSTING, ALL_CORES)}


def out_of_package(fit, params, jobs, data, folds, real, made):
    """Probabilities of the real columns, each by a model that knows nothing of its package."""
    X, y, groups, classes = data

    def work(fold):
        rows = np.concatenate([real[fold[0]], made])
        weights = training_weights(y[rows], groups[rows], CONFIG)
        return fit(X[rows], y[rows], classes, params, 0, weights).raw_proba(X[real[fold[1]]])

    p = np.zeros((len(real), len(classes)), np.float32)
    for (_, held), answer in zip(folds, each_fold(work, folds, jobs)): p[held] = answer
    return p


def figures(y, alt, p, classes):
    """What is printed of one model."""
    found, text, long = p.argmax(1), [classes.index(o) for o in TEXT_LABELS], classes.index("text_long")
    right, other, sure = found == y, ~np.isin(y, text), p.max(1) >= CONFIG.export.abstain_below
    table = {"accuracy": right.mean(), "with second labels": (right | (found == alt)).mean(),
             "macro-F1": macro_f1(y, p), "confident": sure.mean()}
    for name, given in (("all", np.full(len(y), True)), ("confident", sure)):
        said = given & (found == long)
        table |= {f"text_long precision, {name}": (y[said] == long).mean(),
                  f"text_long recall, {name}": said[y == long].mean(),
                  f"others taken for text, {name}": (given & np.isin(found, text))[other].mean()}
    return table


def main() -> None:
    """Fit, ask, print."""
    dataset = load_dataset(default_data())
    columns, classes, y = dataset.columns, dataset.classes, dataset.targets()
    data = extract([o.column for o in columns]), y, table_groups(columns), classes
    alt = np.array([classes.index(o.alt) if o.alt in classes else -1 for o in columns])
    real, made = (np.flatnonzero([(o.source == "synthetic") == k for o in columns]) for k in (False, True))
    packages = [columns[i].source.partition("/")[0] for i in real]
    folds = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(real, y[real], packages))
    answers = {name: out_of_package(*fit, data, folds, real, made) for name, fit in FITS.items()}
    answers["mean"] = sum(answers.values()) / len(answers)
    print(pd.DataFrame({name: figures(y[real], alt[real], p, classes) for name, p in answers.items()}).round(4))


if __name__ == "__main__":
    main()
