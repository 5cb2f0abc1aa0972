"""`python -m benchmarks.private_density`: the error of PrivateDensity against epsilon, rows and features, drawn.

Writes docs/images/private_density.png and prints the numbers. Each point is the mean over DRAWS ledgers of the median
over 300 queries of |log ratio to the exact density|. Rows and queries are standard normal and seeded; the noise is not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.common import dense_table
from ppal_fast import KernelDensity, Ledger, PrivateDensity

DRAWS, QUERIES, DELTA = 5, 300, 1e-5
BANDWIDTH_OF_COLUMNS = {2: 0.5, 5: 0.7}
EPSILON, ROWS, FEATURES = 1.0, 3_000, 1_024  # what is held while another one varies
EPSILONS = (0.1, 0.2, 0.5, 1.0, 2.0, 8.0)
ROW_COUNTS = (300, 1_000, 3_000, 10_000, 30_000)
FEATURE_COUNTS = (64, 256, 1_024, 4_096)
IMAGE = Path(__file__).resolve().parents[1] / "docs" / "images" / "private_density.png"


def error(n_columns: int, epsilon: float = EPSILON, n_rows: int = ROWS, n_features: int = FEATURES) -> float:
    rows, queries = dense_table(n_rows, n_columns), dense_table(QUERIES, n_columns, seed=1)
    bandwidth = BANDWIDTH_OF_COLUMNS[n_columns]
    exact = KernelDensity(bandwidth).fit(rows).score_samples(queries)
    errors = []
    for seed in range(100, 100 + DRAWS):  # not those of the tables: frequencies must not be the rows themselves
        with Ledger(":memory:", epsilon=epsilon, delta=DELTA, unit="record") as ledger:
            model = PrivateDensity(bandwidth, n_features=n_features, random_state=seed).fit(rows, ledger=ledger)
        errors.append(float(np.median(np.abs(model.score_samples(queries) - exact))))
    return float(np.mean(errors))


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
    sweeps = (("epsilon", EPSILONS), ("n_rows", ROW_COUNTS), ("n_features", FEATURE_COUNTS))
    titles = (
        f"{ROWS:,} rows, m = {FEATURES:,}",
        f"epsilon {EPSILON:g}, m = {FEATURES:,}",
        f"epsilon {EPSILON:g}, {ROWS:,} rows",
    )
    labels = ("epsilon (delta 1e-5)", "rows", "m, the number of frequencies")
    for panel, (argument, values), title, label in zip(panels, sweeps, titles, labels, strict=True):
        for n_columns, bandwidth in BANDWIDTH_OF_COLUMNS.items():
            found = [error(n_columns, **{argument: value}) for value in values]
            points = ", ".join(f"{value:g}: {e:.3f}" for value, e in zip(values, found, strict=True))
            print(f"{n_columns} columns, {argument}  {points}")
            panel.loglog(values, found, "o-", label=f"{n_columns} columns, bandwidth {bandwidth}")
        panel.set(title=title, xlabel=label)
        panel.grid(True, which="both", alpha=0.3)
    panels[0].set_ylabel("median |log error|")
    panels[0].legend()
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGE, dpi=110)
    print(f"wrote {IMAGE}")


if __name__ == "__main__":
    main()
