"""What the models reach on tables from packages that they have never seen.

Usage: python benchmarks/packages.py

Five folds over the default data, each leaving out whole source packages; made columns are only learnt from. Prints for
the configured forest and boosting, and for their mean: accuracy, accuracy with a defensible second label counted as
right, macro-F1, and the figures of text: precision and recall of text_long, and the share of other columns taken for text.
"""
import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from datacloak_nb.config import load_config
from datacloak_nb.corpus import default_data
from datacloak_nb.dataset import load_dataset
from datacloak_nb.features.extract import extract
from datacloak_nb.labels import TEXT_LABELS
from datacloak_nb.models.base import ALL_CORES, each_fold, macro_f1, row_weights
from datacloak_nb.models.boosting import fit_boosting
from datacloak_nb.models.forest import fit_forest
from datacloak_nb.splits import table_groups

FITS = {"forest": (fit_forest, 1), "boosting": (fit_boosting, ALL_CORES)}


def settings():
    """Settings of each model, as the default configuration has them."""
    models = load_config().models
    forest, boosting = models.random_forest.model_dump(), models.gradient_boosting.model_dump()
    forest |= dict(split="random", max_depth=None, n_estimators=300, max_features=.2)
    return {"forest": {k: v for k, v in forest.items() if k != "search"},
            "boosting": {k: v for k, v in boosting.items() if k != "search"}}


def line(name, y, alt, p, classes):
    """One line of figures."""
    found, text = p.argmax(1), [classes.index(o) for o in TEXT_LABELS]
    other, long = ~np.isin(y, text), classes.index("text_long")
    right = found == y
    return (f"{name:>9}: accuracy {right.mean():.4f}, with second labels {(right | (found == alt)).mean():.4f}, "
            f"macro-F1 {macro_f1(y, p):.4f}; text_long precision {(y[found == long] == long).mean():.4f}, "
            f"recall {(found[y == long] == long).mean():.4f}, others taken for text {np.isin(found[other], text).mean():.4f}")


def main() -> None:
    """Fit, ask, print."""
    dataset = load_dataset(default_data())
    columns, classes, y, exponent = dataset.columns, dataset.classes, dataset.targets(), load_config().training.table_weight
    X, groups = extract([o.column for o in columns]), table_groups(columns)
    alt = np.array([classes.index(o.alt) if o.alt in classes else -1 for o in columns])
    real, made = (np.flatnonzero([(o.source == "synthetic") == k for o in columns]) for k in (False, True))
    packages = np.array([columns[i].source for i in real])
    folds = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(real, y[real], packages))
    answers = {}
    for name, (fit, jobs) in FITS.items():
        def work(fold, fit=fit, params=settings()[name]):
            rows = np.concatenate([real[fold[0]], made])
            model = fit(X[rows], y[rows], classes, params, 0, row_weights(y[rows], groups[rows], exponent))
            return model.raw_proba(X[real[fold[1]]])

        answers[name] = p = np.zeros((len(real), len(classes)), np.float32)
        for (_, held), answer in zip(folds, each_fold(work, folds, jobs)): p[held] = answer
    answers["mean"] = sum(answers.values()) / len(answers)
    for name, p in answers.items(): print(line(name, y[real], alt[real], p, classes))


if __name__ == "__main__":
    main()
