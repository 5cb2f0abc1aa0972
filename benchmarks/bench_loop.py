"""The loop on a simulated line of drives, 50 columns, 80 % missing: one round, and accuracy at 200 labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppal_fast import PPAL, simulate

N_INITIAL = 20
STRATEGIES = ("auto", "random", "entropy", "margin", "committee", "density", "badge", "qubo", "threshold", "design")


def _drives(n_rows: int) -> tuple[Any, Any]:
    """The table, and its labels with all but the first N_INITIAL of a fixed draw hidden."""
    table = simulate.drives(n_rows=n_rows, random_state=0)
    known = np.full(n_rows, -1)
    rows = np.random.default_rng(0).choice(n_rows, N_INITIAL, replace=False)
    known[rows] = table.y[rows]
    return table, known


class Round:
    """From 20 labels: learn, choose 20 rows, take their labels, learn again."""

    params = ([1_000, 10_000, 100_000], ["auto", "random", "entropy", "qubo"])
    param_names = ("rows", "strategy")
    timeout = 600

    def setup(self, n_rows: int, strategy: str) -> None:
        self.table, self.known = _drives(n_rows)
        self.time_round(n_rows, strategy)  # compiles

    def time_round(self, n_rows: int, strategy: str) -> None:
        loop = PPAL(strategy=strategy, random_state=0).start(self.table.X, self.known)
        rows = loop.ask()
        loop.tell(rows, self.table.y[rows])

    peakmem_round = time_round


class Strategy:
    """How far below the ceiling each strategy ends with 200 labels, in per cent, over three random states."""

    params = (STRATEGIES,)
    param_names = ("strategy",)
    timeout = 600
    unit = "% below ceiling"

    def setup(self, strategy: str) -> None:
        self.table, self.known = _drives(10_000)

    def track_gap(self, strategy: str) -> float:
        gaps = []
        for seed in range(3):
            loop = PPAL(strategy=strategy, n_rounds=9, random_state=seed)
            loop.run(self.table.X, lambda rows: self.table.y[rows], self.known)
            gaps.append(self.table.ceiling - (loop.predict(self.table.X) == self.table.y).mean())
        return 100 * float(np.mean(gaps))


class Learner:
    """How far below the ceiling each learner is with 200 random labels, in per cent, without privacy."""

    params = (["auto", "class-mean", "mixture", "random-trees", "logistic"], ["label", "structured"])
    param_names = ("learner", "observed")
    unit = "% below ceiling"

    def track_gap(self, learner: str, observed: str) -> float:
        from ppal_fast import learners

        table = simulate.drives(observed, random_state=0)
        rows = np.random.default_rng(0).choice(len(table), 200, replace=False)
        model = learners.resolve(learner).fit(table.X[rows], table.y[rows], X_pool=table.X)
        return 100 * float(table.ceiling - (model.predict(table.X) == table.y).mean())
