"""Kernel densities: time per size and kind of table, memory, and the error against a float64 log-sum-exp."""

from __future__ import annotations

import numpy as np

from benchmarks.common import Float, dense_table, sparse_table
from ppal_fast import DensityRatio, KernelDensity, Ledger, PrivateDensity
from ppal_fast.kernels import reference

BANDWIDTH = 0.5
QUERIES = 1_000


class CompleteRows:
    """1,000 queries against tables without missing cells."""

    params = (["double", "single"], [15, 50], [200, 1_000, 10_000, 100_000])
    param_names = ("precision", "columns", "references")

    def setup(self, precision: str, columns: int, references: int) -> None:
        self.model = KernelDensity(BANDWIDTH, precision=precision).fit(dense_table(references, columns))
        self.queries = dense_table(QUERIES, columns, seed=1)

    def time_score(self, precision: str, columns: int, references: int) -> None:
        self.model.score_samples(self.queries)

    def track_max_error(self, precision: str, columns: int, references: int) -> float:
        return _error(self.model, self.queries)


class Workloads:
    """The sizes that docs/density.md speaks of, queries x references."""

    params = (["double", "single"], ["10,000 x 200", "10,000 x 10,000", "10,000 x 10,000, 50 columns"])
    param_names = ("precision", "workload")

    def setup(self, precision: str, workload: str) -> None:
        columns = 50 if "50 columns" in workload else 15
        references = 200 if workload.endswith("x 200") else 10_000
        self.model = KernelDensity(BANDWIDTH, precision=precision).fit(dense_table(references, columns))
        self.queries = dense_table(10_000, columns, seed=1)

    def time_score(self, precision: str, workload: str) -> None:
        self.model.score_samples(self.queries)


class Large:
    """100,000 x 100,000, 15 columns, on all processors: seconds, so it runs once."""

    params = ([0.0, 0.8],)
    param_names = ("missing",)
    timeout, number, repeat, warmup_time = 300, 1, 1, 0.0

    def setup(self, missing: float) -> None:
        self.model = KernelDensity(BANDWIDTH, n_jobs=-1).fit(sparse_table(100_000, 15, missing))
        self.queries = sparse_table(100_000, 15, missing, seed=1)

    def time_score(self, missing: float) -> None:
        self.model.score_samples(self.queries)


class Pruning:
    """A relative tolerance where it pays, near a surface of two dimensions, and where it must cost nothing."""

    params = ([0.0, 1e-6], ["surface", "all directions"])
    param_names = ("rtol", "rows")

    def setup(self, rtol: float, rows: str) -> None:
        table = dense_table(24_000)
        if rows == "surface":
            table = 10 * np.sin(dense_table(24_000, 2, seed=3) @ dense_table(2, 15, seed=2)) + 0.2 * table
        self.model, self.queries = KernelDensity(BANDWIDTH, rtol=rtol).fit(table[:20_000]), table[20_000:]

    def time_score(self, rtol: float, rows: str) -> None:
        self.model.score_samples(self.queries)

    def track_max_error(self, rtol: float, rows: str) -> float:
        return _error(self.model, self.queries)


class MissingCells:
    """1,000 queries against tables with missing cells, 15 columns."""

    params = (["double", "single"], [0.2, 0.8], [1_000, 10_000, 100_000])
    param_names = ("precision", "missing", "references")

    def setup(self, precision: str, missing: float, references: int) -> None:
        self.model = KernelDensity(BANDWIDTH, precision=precision).fit(sparse_table(references, 15, missing))
        self.queries = sparse_table(QUERIES, 15, missing, seed=1)

    def time_score(self, precision: str, missing: float, references: int) -> None:
        self.model.score_samples(self.queries)

    def track_max_error(self, precision: str, missing: float, references: int) -> float:
        return _error(self.model, self.queries)


class OneQuery:
    """The latency inside a line: one row, as the Python caller sees it."""

    params = (["double", "single"], [1_000, 10_000, 100_000])
    param_names = ("precision", "references")

    def setup(self, precision: str, references: int) -> None:
        self.model = KernelDensity(BANDWIDTH, precision=precision).fit(dense_table(references))
        self.query = dense_table(1, seed=1)

    def time_score(self, precision: str, references: int) -> None:
        self.model.score_samples(self.query)


class Tails:
    """Rows so far from every reference that the careful kernel takes all of them."""

    params = ([1_000, 10_000],)
    param_names = ("references",)

    def setup(self, references: int) -> None:
        self.model = KernelDensity(BANDWIDTH).fit(dense_table(references))
        self.queries = dense_table(QUERIES, seed=1) + 50.0

    def time_score(self, references: int) -> None:
        self.model.score_samples(self.queries)

    def track_max_error(self, references: int) -> float:
        return _error(self.model, self.queries)


class Fitting:
    params = ([1_000, 10_000, 100_000],)
    param_names = ("rows",)

    def setup(self, rows: int) -> None:
        self.dense, self.sparse = dense_table(rows), sparse_table(rows)

    def time_fit(self, rows: int) -> None:
        KernelDensity().fit(self.dense)

    def time_fit_missing(self, rows: int) -> None:
        KernelDensity().fit(self.sparse)

    def time_likelihood_bandwidth(self, rows: int) -> None:
        KernelDensity("likelihood").fit(self.dense[:10_000])


class Ratio:
    """A pool scored against itself and 200 labelled rows, as an acquisition rule does."""

    params = ([1_000, 10_000],)
    param_names = ("pool",)

    def setup(self, pool: int) -> None:
        self.pool = dense_table(pool)
        self.model = DensityRatio(BANDWIDTH).fit(self.pool, dense_table(200, seed=1))

    def time_log_ratio_leaving_one_out(self, pool: int) -> None:
        self.model.log_ratio(self.pool, leave_one_out=True)


class Memory:
    """Peak memory of the process: it must grow with the rows, never with rows times queries."""

    params = ([10_000, 30_000, 100_000], [0.0, 0.8])
    param_names = ("rows_and_queries", "missing")
    timeout = 300

    def setup(self, rows: int, missing: float) -> None:
        self.rows, self.queries = sparse_table(rows, 15, missing), sparse_table(rows, 15, missing, seed=1)

    def peakmem_score(self, rows: int, missing: float) -> None:
        KernelDensity(BANDWIDTH, n_jobs=-1).fit(self.rows).score_samples(self.queries)


class Private:
    """One release; its noise is never seeded, so no quality is tracked here."""

    params = ([1_000, 10_000, 100_000],)
    param_names = ("rows",)

    def setup(self, rows: int) -> None:
        self.rows, self.queries = dense_table(rows, 2), dense_table(QUERIES, 2, seed=1)
        self.fitted = self._fit()

    def time_fit(self, rows: int) -> None:
        self._fit()

    def time_score(self, rows: int) -> None:
        self.fitted.score_samples(self.queries)

    def _fit(self) -> PrivateDensity:
        with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="record") as ledger:
            return PrivateDensity(BANDWIDTH, random_state=0).fit(self.rows, ledger=ledger)


def _error(model: KernelDensity, queries: Float) -> float:
    """Largest error over the first 20 queries, rounded up to a power of two: what another build may differ by."""
    some = queries[:20]
    exact = reference.log_density(model._kernel.references, model.bandwidth_, some)
    error = float(np.abs(model.score_samples(some) - exact).max())
    return float(2.0 ** np.ceil(np.log2(max(error, 1e-16))))
