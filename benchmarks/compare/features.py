"""`python -m benchmarks.compare.features DATA`: columns chosen by ppal_fast, SelectKBest, mRMR and forward selection.

Each choice is made on a few labelled rows and judged on the others: by how many informative columns it holds where they
are known, and by a forest behind it. Rivals that know no missing cells get the column's mean. Ten seeds; mean and
standard error. DATA is a folder with steel_plates, secom_wafer and khan_srbct; without it only simulated tables run.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest, SequentialFeatureSelector, f_classif
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB

from ppal_fast import QUBOFeatureSelector, simulate

Array = NDArray[Any]
SEEDS = 10
SCREENED = 40  # columns of the highest F that forward selection tries: a fit for each column and step
TABLES = {"steel_plates": ("fault", 8, 300), "secom_wafer": ("y", 10, 0.5), "khan_srbct": ("y", 10, 0.75)}


def main(folder: str | None) -> None:
    print(f"{'table':26}{'chosen by':22}{'informative':>16}{'accuracy (AUC: secom)':>24}{'seconds':>10}")
    for labelled in (200, 1_000):
        table = simulate.class_shift(random_state=0)
        _contest(f"class_shift, {labelled} labels", table.X, table.y, 14, labelled, informative=14)
    for name, (label, k, labelled) in TABLES.items() if folder else ():
        frame = pd.read_csv(Path(str(folder)) / name / f"{name}.csv.gz")
        y = np.unique(frame[label], return_inverse=True)[1]
        X = frame.drop(columns=label).select_dtypes("number").to_numpy(np.float64)
        _contest(f"{name}, {k} of {X.shape[1]}", X, y, k, labelled)


def _contest(title: str, X: Array, y: Array, k: int, labelled: float, informative: int | None = None) -> None:
    for name, choose in CHOICES.items():
        hits, scores, seconds = [], [], []
        for train, test, seed in _splits(X, y, labelled):
            start = time.perf_counter()
            chosen = choose(X[train], y[train], k, seed)
            seconds.append(time.perf_counter() - start)
            hits.append(np.sum(chosen < (informative or 0)))
            scores.append(_score(_filled(X, train)[:, chosen], y, train, test, seed))
        known = f"{np.mean(hits):10.1f} of {k}" if informative else ""
        error = np.std(scores) / np.sqrt(len(scores) - 1)
        judged = f"{np.mean(scores):14.3f} +- {error:.3f}{np.median(seconds):12.3f}"
        print(f"{title:26}{name:22}{known:>16}{judged}", flush=True)


def _splits(X: Array, y: Array, labelled: float) -> Iterator[tuple[Array, Array, int]]:
    for seed in range(SEEDS):
        train, test = train_test_split(np.arange(len(y)), train_size=labelled, stratify=y, random_state=seed)
        yield train, test, seed


def _filled(X: Array, train: Array) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a column without any observed cell
        mean = np.nan_to_num(np.nanmean(X[train], axis=0))
    return np.where(np.isnan(X), mean, X)


def _score(X: Array, y: Array, train: Array, test: Array, seed: int) -> float:
    forest = RandomForestClassifier(100, class_weight="balanced", random_state=seed).fit(X[train], y[train])
    if len(forest.classes_) == 2 and min(np.mean(y), 1 - np.mean(y)) < 0.1:
        return float(roc_auc_score(y[test], forest.predict_proba(X[test])[:, 1]))
    return float(accuracy_score(y[test], forest.predict(X[test])))


def _everything(X: Array) -> Array:
    return _filled(X, np.arange(len(X)))


def _qubo(X: Array, y: Array, k: int, seed: int) -> Array:
    return np.flatnonzero(QUBOFeatureSelector(k, random_state=seed).fit(X, y).support_)


def _k_best(X: Array, y: Array, k: int, seed: int) -> Array:
    return np.flatnonzero(SelectKBest(f_classif, k=k).fit(_everything(X), y).get_support())


def _mrmr(X: Array, y: Array, k: int, seed: int) -> Array:
    from mrmr import mrmr_classif

    frame = pd.DataFrame(_everything(X), columns=[str(j) for j in range(X.shape[1])])
    varies = frame.columns[frame.std() > 0]
    chosen = mrmr_classif(frame[varies], pd.Series(y), K=k, n_jobs=1, show_progress=False)
    return np.array([int(j) for j in chosen])


def _forward(X: Array, y: Array, k: int, seed: int) -> Array:
    screened = _k_best(X, y, min(SCREENED, X.shape[1]), seed)
    search = SequentialFeatureSelector(GaussianNB(), n_features_to_select=k, cv=3)
    return screened[search.fit(_everything(X)[:, screened], y).get_support()]


CHOICES: dict[str, Callable[[Array, Array, int, int], Array]] = {
    "QUBOFeatureSelector": _qubo, "SelectKBest (F)": _k_best, "mRMR (mrmr_selection)": _mrmr,
    "forward (naive Bayes)": _forward,
    "all columns": lambda X, y, k, seed: np.arange(X.shape[1]),
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1] if len(sys.argv) > 1 else None)
