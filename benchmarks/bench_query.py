"""Query strategies: time of one query of 20 by pool size, and what the rows were worth."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppal_fast import simulate
from ppal_fast.learners import ClassMeanClassifier
from ppal_fast.query import STRATEGIES, Context

LABELLED = 100


class Probabilities:
    """A learner whose answer is known: what is measured is the rule, not the learner."""

    def __init__(self, P: np.ndarray) -> None:
        self.P, self.classes_ = P, np.arange(P.shape[1])

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.P


class Rule:
    """One query of 20 rows from n x 50, 80 % missing, with 100 rows labelled."""

    params = ([s for s in STRATEGIES if s != "committee"], [1_000, 10_000, 100_000])
    param_names = ("strategy", "rows")
    timeout = 300

    def setup(self, strategy: str, rows: int) -> None:
        drawn = simulate.drives(n_rows=rows, random_state=0)
        labelled = np.arange(LABELLED)
        P = drawn.bayes_probability
        self.rule = STRATEGIES[strategy]
        self.context = Context(
            X=drawn.X, observed=~np.isnan(drawn.X), candidates=np.arange(LABELLED, rows), labelled=labelled,
            y=drawn.y[labelled], learner=Probabilities(P), n=20, rng=np.random.default_rng(0), schema=drawn.schema,
        )
        self.rule.select(self.context)

    def time_select(self, strategy: str, rows: int) -> None:
        self.rule.select(self.context)

    def peakmem_select(self, strategy: str, rows: int) -> None:
        self.rule.select(self.context)


class Curve:
    """1 - mean accuracy of the class-mean learner while a rule asks 20 rows a round up to 200; 5 seeds, no privacy."""

    params = (["random", "auto", "entropy", "margin", "qubo", "density", "typical"], ["class_shift", "drives"])
    param_names = ("strategy", "table")
    timeout = 600

    def track_mean_error(self, strategy: str, table: str) -> float:
        drawn = (getattr(simulate, table)(n_rows=3_000, random_state=seed) for seed in range(5))
        return float(np.mean([1 - _curve(strategy, one) for one in drawn]))


def _curve(strategy: str, drawn: Any) -> float:
    mapped = ClassMeanClassifier().map_pool(drawn.table)
    rng = np.random.default_rng(1)
    asked = rng.choice(len(drawn.X), 20, replace=False)
    scores = []
    while True:
        learner = ClassMeanClassifier().fit(drawn.table.take(asked), drawn.y[asked], X_pool=mapped)
        scores.append((learner.predict(drawn.table) == drawn.y).mean())
        if len(asked) >= 200:
            return float(np.mean(scores))
        context = Context(
            X=drawn.X, observed=~np.isnan(drawn.X), candidates=np.setdiff1d(np.arange(len(drawn.X)), asked),
            labelled=asked, y=drawn.y[asked], learner=learner, n=20, rng=rng, schema=drawn.schema,
            representation=mapped.reference,
        )
        asked = np.concatenate([asked, STRATEGIES[strategy].select(context)])
