"""The loop on 50 columns, 80 % of the cells missing: one round, and accuracy at 60 and at 200 labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppal_fast import PPAL, simulate

N_INITIAL = 20


class Round:
    """From 20 labels: learn, choose 20 rows, take their labels, learn again."""

    params = ([1_000, 10_000, 100_000], ["auto", "random", "entropy", "qubo"])
    param_names = ("rows", "strategy")
    timeout = 600

    def setup(self, n_rows: int, strategy: str) -> None:
        self.table = simulate.drives(n_rows=n_rows, random_state=0)
        self.known = _known(self.table)
        self.time_round(n_rows, strategy)  # compiles

    def time_round(self, n_rows: int, strategy: str) -> None:
        loop = PPAL(strategy=strategy, random_state=0).start(self.table.table, self.known)
        rows = loop.ask()
        loop.tell(rows, self.table.y[rows])

    peakmem_round = time_round


class Accuracy:
    """How far below the ceiling the loop ends, in per cent, mean over three draws of each table; without privacy."""

    params = (["drives", "class_shift"], [60, 200])
    param_names = ("table", "labels")
    timeout = 600

    def track_gap(self, table: str, n_labels: int) -> float:
        gaps = []
        for seed in range(3):
            drawn = getattr(simulate, table)(random_state=seed)
            loop = PPAL(n_rounds=(n_labels - N_INITIAL) // 20, random_state=seed)
            loop.run(drawn.table, lambda rows, drawn=drawn: drawn.y[rows], _known(drawn))
            gaps.append(drawn.ceiling - (loop.predict(drawn.table) == drawn.y).mean())
        return 100 * float(np.mean(gaps))


def _known(table: Any) -> Any:
    """(n,) labels with all but N_INITIAL of a fixed draw hidden."""
    known = np.full(len(table), -1)
    rows = np.random.default_rng(0).choice(len(table), N_INITIAL, replace=False)
    known[rows] = table.y[rows]
    return known
