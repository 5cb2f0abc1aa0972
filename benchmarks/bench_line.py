"""The line scorer: latency of one item, throughput of a belt, and the distance from the learner's own probabilities."""

from __future__ import annotations

import numpy as np

from ppal_fast import LineScorer, simulate
from ppal_fast.learners import ClassMeanClassifier, MixtureClassifier

LEARNERS = {
    "products": lambda: ClassMeanClassifier("products"),
    "factors": lambda: ClassMeanClassifier("factors"),
    "mixture": lambda: ClassMeanClassifier("mixture"),
    "columns": lambda: ClassMeanClassifier("columns"),
    "naive-bayes": MixtureClassifier,
}


class Item:
    """A 50-column item with 80 % of its cells missing, models learned from 200 labels and 3,000 rows."""

    params = (list(LEARNERS),)
    param_names = ("model",)

    def setup(self, model: str) -> None:
        drawn = simulate.drives(n_rows=3_000, random_state=0)
        self.learner = LEARNERS[model]()
        self.learner.fit(drawn.table.take(np.arange(200)), drawn.y[:200], X_pool=drawn.table)
        self.scorer = LineScorer(self.learner, drawn.schema, threshold=0.1)
        assert self.scorer.compiled
        self.table, self.item = drawn.table, drawn.X[7].copy()
        self.belt = np.tile(drawn.X, (10, 1))
        self.scorer.decide_many(self.belt)

    def time_decide(self, model: str) -> None:
        self.scorer.decide(self.item)

    def time_decide_30_000(self, model: str) -> None:
        self.scorer.decide_many(self.belt)

    def peakmem_decide_30_000(self, model: str) -> None:
        self.scorer.decide_many(self.belt)

    def track_max_difference(self, model: str) -> float:
        P = self.learner.predict_proba(self.table)
        return float(np.abs(self.scorer.predict_proba(self.table.values) - P).max())
