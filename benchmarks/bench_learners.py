"""Learners: the map of a pool, a fit on a given map, private fits, and accuracy against known ceilings."""

from __future__ import annotations

import numpy as np

from ppal_fast import Ledger, simulate
from ppal_fast.learners import resolve
from ppal_fast.privacy import mu_of_epsilon

N_LABELS = 200
N_TEST = 4_000
TABLES = {
    "class_shift(2)": lambda n, seed: simulate.class_shift(2, n, seed),
    "drives(label)": lambda n, seed: simulate.drives("label", n, 2, seed),
    "drives(structured)": lambda n, seed: simulate.drives("structured", n, 2, seed),
}


class PoolMap:
    """Learning the label-free map of a pool of 50 columns, 80 % of them missing: once a session."""

    params = (["class-mean", "auto"], list(TABLES), [1_000, 10_000, 50_000])
    param_names = ("learner", "table", "rows")
    timeout = 300

    def setup(self, learner: str, table: str, rows: int) -> None:
        self.X = TABLES[table](rows, 0).X
        self.learner = resolve(learner).set_params(random_state=0)

    def time_map_pool(self, learner: str, table: str, rows: int) -> None:
        self.learner.map_pool(self.X)

    def peakmem_map_pool(self, learner: str, table: str, rows: int) -> None:
        self.learner.map_pool(self.X)


class Round:
    """What a round costs once the pool is mapped: a fit on 200 labels, and the probabilities of 10,000 rows."""

    params = (["class-mean", "auto", "mixture", "random-trees", "logistic"], list(TABLES))
    param_names = ("learner", "table")

    def setup(self, learner: str, table: str) -> None:
        drawn = TABLES[table](10_000, 0)
        self.X, self.y = drawn.X, drawn.y
        self.learner = resolve(learner).set_params(random_state=0)
        self.pool = self.learner.map_pool(self.X)
        self.time_fit(learner, table)

    def time_fit(self, learner: str, table: str) -> None:
        self.learner.fit(self.X[:N_LABELS], self.y[:N_LABELS], X_pool=self.pool)

    def time_predict_proba(self, learner: str, table: str) -> None:
        self.learner.predict_proba(self.X)


class PrivatePool:
    """A fit under unit record, whose pool of 50 columns is released as noisy moments."""

    params = (["class_shift(2)", "drives(label)"], [1_000, 10_000])
    param_names = ("table", "rows")

    def setup(self, table: str, rows: int) -> None:
        drawn = TABLES[table](rows, 0)
        self.pool, self.y = drawn.table, drawn.y

    def time_fit(self, table: str, rows: int) -> None:
        learner = resolve("class-mean").set_params(random_state=0, classes=[0, 1])
        with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="record") as ledger:
            learner.fit(self.pool.take(slice(N_LABELS)), self.y[:N_LABELS], X_pool=self.pool, ledger=ledger)


class Accuracy:
    """How far accuracy from 200 random labels stays below the ceiling, mean over 5 draws of the table."""

    params = (
        list(TABLES),
        ["auto", "class-mean", "label 0.5", "label 1", "label 2", "record 1", "logistic", "mixture", "random-trees"],
    )
    param_names = ("table", "learner")
    timeout = 300
    n_draws = 5

    def track_gap_to_ceiling(self, table: str, learner: str) -> float:
        name, _, epsilon = learner.partition(" ")
        private = name in ("label", "record")
        gaps = []
        for seed in range(100, 100 + self.n_draws):
            drawn = TABLES[table](10_000 + N_TEST, seed)
            pool = drawn.table.take(slice(10_000))
            rows = np.random.default_rng(seed).choice(10_000, N_LABELS, replace=False)
            options = {"ledger": SeededNoise(name, float(epsilon), seed)} if private else {}
            estimator = resolve("class-mean" if private else name).set_params(random_state=0, classes=[0, 1])
            estimator.fit(pool.take(rows), drawn.y[rows], X_pool=pool, **options)
            right = estimator.predict(drawn.table.take(slice(10_000, None))) == drawn.y[10_000:]
            gaps.append(drawn.ceiling - right.mean())
        return float(np.mean(gaps))


class SeededNoise:
    """A ledger's door with reproducible float noise: it measures accuracy and protects nobody."""

    delta, relation = 1e-5, "zero-out"

    def __init__(self, unit: str, epsilon: float, seed: int) -> None:
        self.unit, self.epsilon, self.rng = unit, epsilon, np.random.default_rng(seed)

    def remaining(self) -> float:
        return self.epsilon

    def remaining_mu(self) -> float:
        return mu_of_epsilon(self.epsilon, self.delta)

    def history(self) -> list[object]:
        return []

    def release_sum(self, rows: np.ndarray, *, clip: float, sigma: float, name: str, owners: object = None):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        clipped = rows * np.minimum(1, clip / np.maximum(norms, 1e-12))
        return clipped.sum(axis=0) + sigma * clip * self.rng.standard_normal(rows.shape[1])
