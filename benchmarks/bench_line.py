"""The line scorer: latency of one item, throughput of a belt, and the distance from the learner's own probabilities."""

from __future__ import annotations

import time

import numpy as np

from ppal_fast import LineScorer, simulate
from ppal_fast.learners import AutoClassifier, ClassMeanClassifier, MixtureClassifier, RandomTreesClassifier

LEARNERS = {
    "products": lambda: ClassMeanClassifier("products", random_state=0),
    "factors": lambda: ClassMeanClassifier("factors", random_state=0),
    "mixture": lambda: ClassMeanClassifier("mixture", random_state=0),
    "both": lambda: ClassMeanClassifier("both", random_state=0),
    "leaves": lambda: ClassMeanClassifier("trees", random_state=0),
    "columns": lambda: ClassMeanClassifier("columns", random_state=0),
    "naive-bayes": MixtureClassifier,
    "random-trees": lambda: RandomTreesClassifier(random_state=0),
    "random-trees-3": lambda: RandomTreesClassifier(depth=3, random_state=0),
    "forest": lambda: AutoClassifier(random_state=0),
    "products, density": lambda: ClassMeanClassifier("products", random_state=0),
}


class Item:
    """Items of 50 columns with 80 % of their cells missing, models learned from 200 labels and 3,000 rows."""

    params = (list(LEARNERS),)
    param_names = ("model",)

    def setup(self, model: str) -> None:
        drawn, fresh = (simulate.drives(n_rows=3_000, random_state=seed) for seed in (0, 1))
        labelled = drawn.table.take(np.arange(200))
        self.learner = LEARNERS[model]()
        self.learner.fit(labelled, drawn.y[:200], X_pool=drawn.table)
        self.scorer = LineScorer.from_learner(
            self.learner, drawn.schema, threshold=0.1, pool=drawn.table, labelled=labelled if "," in model else None
        )
        self.fresh, self.items, self.item = fresh.table, [row.copy() for row in fresh.X], fresh.X[7].copy()
        self.belt = np.tile(fresh.X, (10, 1))
        self.scorer.decide_many(self.belt)

    def time_decide(self, model: str) -> None:
        self.scorer.decide(self.item)

    def time_decide_30_000(self, model: str) -> None:
        self.scorer.decide_many(self.belt)

    def peakmem_decide_30_000(self, model: str) -> None:
        self.scorer.decide_many(self.belt)

    def track_max_difference(self, model: str) -> float:
        P = self.learner.predict_proba(self.fresh)
        return float(np.abs(self.scorer.predict_proba(self.fresh.values) - P).max())


def main() -> None:
    """`python -m benchmarks.bench_line`: p50 and p99 of one item from Python, each another one, and of a belt."""
    for model in LEARNERS:
        bench = Item()
        bench.setup(model)
        decide, clock, seconds = bench.scorer.decide, time.perf_counter, []
        for _ in range(3):
            for item in bench.items:
                start = clock()
                decide(item)
                seconds.append(clock() - start)
        belts = []
        for _ in range(5):
            start = clock()
            bench.scorer.decide_many(bench.belt)
            belts.append(clock() - start)
        p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e6
        print(f"{model:18} one item {p50:5.2f} / {p99:5.2f} us   belt {len(bench.belt) / min(belts) / 1e6:5.2f} M/s")


if __name__ == "__main__":
    main()
