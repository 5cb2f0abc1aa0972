"""Log densities under a product Gaussian kernel: scikit-learn, scipy, numpy, jax, pykeops.

The error is the largest over 200 queries against a float64 log-sum-exp written out in the obvious way. A single query
is asked 100 times in a row, as a sorting line would: one call of microseconds would only time a cold cache.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import Float, dense_table, sparse_table
from benchmarks.compare.contest import Contestant, compete

BANDWIDTH = 0.5
CHECKED = 200


def main() -> None:
    _complete(2_000, 10_000, 15)
    _complete(2_000, 10_000, 50)
    _complete(10_000, 200, 15)
    _complete(1, 10_000, 15, calls=100)
    _missing_cells(2_000, 10_000, 15)
    _few_dimensions(4_000, 50_000, 15)


def _complete(n_queries: int, n_rows: int, n_columns: int, calls: int = 1) -> None:
    rows, queries = dense_table(n_rows, n_columns, seed=0), dense_table(n_queries, n_columns, seed=1)
    exact = _log_density(queries[:CHECKED], rows)
    peers: list[tuple[str, Callable[[], Callable[[], Any]], tuple[str, ...]]] = [
        ("ppal_fast, double", lambda: _ours(queries, rows, "double"), ()),
        ("ppal_fast, single", lambda: _ours(queries, rows, "single"), ()),
        ("scikit-learn kd_tree", lambda: _scikit_learn(queries, rows, "kd_tree"), ()),
        ("scikit-learn ball_tree", lambda: _scikit_learn(queries, rows, "ball_tree"), ()),
        ("scipy gaussian_kde", lambda: _scipy(queries, rows), ()),
        ("numpy GEMM", lambda: _numpy(queries, rows), ()),
        ("jax, double", lambda: _jax(queries, rows, "float64"), ("jax",)),
        ("jax, single", lambda: _jax(queries, rows, "float32"), ("jax",)),
        ("pykeops, single", lambda: _pykeops(queries, rows), ("pykeops",)),
    ]
    compete(
        f"density: {n_queries:,} queries, {n_rows:,} rows, {n_columns} columns" + f", {calls} calls" * (calls > 1),
        [Contestant(name, _repeated(prepare, calls), needs) for name, prepare, needs in peers],
        {"largest error": lambda found: float(np.abs(np.asarray(found)[:CHECKED] - exact).max())},
    )


def _repeated(prepare: Callable[[], Callable[[], Any]], calls: int) -> Callable[[], Callable[[], Any]]:
    def prepared() -> Callable[[], Any]:
        run = prepare()
        return lambda: [run() for _ in range(calls)][-1]

    return prepared


def _few_dimensions(n_queries: int, n_rows: int, n_columns: int) -> None:
    """Rows near a surface of two dimensions: where trees and a relative tolerance gain."""
    table = _near_a_surface(n_rows + n_queries, n_columns)
    rows, queries = table[:n_rows], table[n_rows:]
    exact = _log_density(queries[:CHECKED], rows)
    compete(
        f"density near a surface: {n_queries:,} queries, {n_rows:,} rows, {n_columns} columns, relative tolerance 1e-6",
        [
            Contestant("ppal_fast, rtol=1e-6", lambda: _ours(queries, rows, "double", rtol=1e-6)),
            Contestant("ppal_fast, exact", lambda: _ours(queries, rows, "double")),
            Contestant("scikit-learn ball_tree", lambda: _scikit_learn(queries, rows, "ball_tree", rtol=1e-6)),
        ],
        {"largest error": lambda found: float(np.abs(np.asarray(found)[:CHECKED] - exact).max())},
    )


def _near_a_surface(n: int, n_columns: int) -> Float:
    """(n, d) rows around the image of a plane under random sines, some bandwidths wide."""
    rng = np.random.default_rng(2)
    directions = rng.standard_normal((2, n_columns))
    surface: Float = 4 * np.sin(rng.standard_normal((n, 2)) @ directions) + 0.2 * rng.standard_normal((n, n_columns))
    return surface


def _missing_cells(n_queries: int, n_rows: int, n_columns: int) -> None:
    rows, queries = sparse_table(n_rows, n_columns, seed=0), sparse_table(n_queries, n_columns, seed=1)
    in_numpy = _numpy_missing(queries, rows)()
    compete(
        f"density, 80 % missing: {n_queries:,} queries, {n_rows:,} rows, {n_columns} columns (no peer takes NaN)",
        [
            Contestant("ppal_fast, double", lambda: _ours(queries, rows, "double")),
            Contestant("the formula in numpy", lambda: _numpy_missing(queries, rows)),
        ],
        {"off from numpy": lambda found: float(np.abs(found - in_numpy).max())},
    )


def _log_density(queries: Float, rows: Float) -> Float:
    """log p(x) = logsumexp_i log N(x; y_i, h^2) - log n, differences first."""
    found = np.empty(len(queries))
    for i, x in enumerate(queries):
        z = -0.5 * (((x - rows) / BANDWIDTH) ** 2).sum(axis=1)
        found[i] = z.max() + np.log(np.exp(z - z.max()).sum())
    return found + _log_constant(rows)


def _log_constant(rows: Float) -> float:
    n, d = rows.shape
    return float(-np.log(n) - d * np.log(BANDWIDTH * np.sqrt(2 * np.pi)))


def _ours(queries: Float, rows: Float, precision: str, rtol: float = 0.0) -> Callable[[], Any]:
    from ppal_fast import KernelDensity

    model = KernelDensity(BANDWIDTH, precision=precision, rtol=rtol).fit(rows)
    return lambda: model.score_samples(queries)


def _scikit_learn(queries: Float, rows: Float, algorithm: str, rtol: float = 0.0) -> Callable[[], Any]:
    from sklearn.neighbors import KernelDensity

    model = KernelDensity(bandwidth=BANDWIDTH, algorithm=algorithm, rtol=rtol).fit(rows)
    return lambda: model.score_samples(queries)


def _scipy(queries: Float, rows: Float) -> Callable[[], Any]:
    from scipy.stats import gaussian_kde

    model = gaussian_kde(rows.T)
    # scipy takes the shape of its kernel from the covariance of the rows; give it the diagonal one of this contest
    model.cho_cov = BANDWIDTH * np.eye(rows.shape[1])
    model.log_det = 2 * np.log(np.diag(model.cho_cov * np.sqrt(2 * np.pi))).sum()
    return lambda: model.logpdf(queries.T)


def _numpy(queries: Float, rows: Float) -> Callable[[], Any]:
    x, y = queries / BANDWIDTH, np.ascontiguousarray(rows.T / BANDWIDTH)
    half_y = 0.5 * (y * y).sum(axis=0)

    def run(size: int) -> Float:
        found = np.empty(len(x))
        for start in range(0, len(x), size):
            block = x[start : start + size]
            z = block @ y
            z -= half_y
            top = z.max(axis=1, keepdims=True)
            z -= top
            np.exp(z, out=z)
            found[start : start + size] = np.log(z.sum(axis=1)) + top[:, 0] - 0.5 * (block * block).sum(axis=1)
        return found + _log_constant(rows)

    sizes = (4, 16, 64, 256)
    quickest = min(sizes, key=lambda size: min(timeit.repeat(lambda: run(size), number=1, repeat=3)))
    return lambda: run(quickest)


def _jax(queries: Float, rows: Float, dtype: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    constant = _log_constant(rows)

    @jax.jit
    def density(x: Any, y: Any) -> Any:
        z = x @ y.T - 0.5 * (y * y).sum(1) - 0.5 * (x * x).sum(1)[:, None]
        return jax.scipy.special.logsumexp(z, axis=1) + constant

    x, y = jnp.asarray(queries / BANDWIDTH, dtype=dtype), jnp.asarray(rows / BANDWIDTH, dtype=dtype)
    return lambda: density(x, y).block_until_ready()


def _pykeops(queries: Float, rows: Float) -> Callable[[], Any]:
    from pykeops.numpy import LazyTensor

    x = LazyTensor((queries / BANDWIDTH).astype(np.float32)[:, None, :])
    y = LazyTensor((rows / BANDWIDTH).astype(np.float32)[None, :, :])
    z = -((x - y) ** 2).sum(-1) / 2
    return lambda: z.logsumexp(axis=1).ravel() + _log_constant(rows)


def _numpy_missing(queries: Float, rows: Float) -> Callable[[], Any]:
    """The formula of docs/density.md as three matrix products over observed cells."""
    seen_y = ~np.isnan(rows)
    y = np.where(seen_y, rows / BANDWIDTH, 0.0)
    constant = -np.log(BANDWIDTH * np.sqrt(2 * np.pi))

    def run() -> Float:
        seen_x = ~np.isnan(queries)
        x = np.where(seen_x, queries / BANDWIDTH, 0.0)
        alone = np.zeros_like(x)  # log p_j(x_j): the one-dimensional density of each column
        for j in range(x.shape[1]):
            column = y[seen_y[:, j], j]
            for start in range(0, len(x), 200):
                z = -0.5 * (x[start : start + 200, j, None] - column) ** 2
                alone[start : start + 200, j] = np.log(np.exp(z).sum(axis=1) / len(column)) + constant
        alone[~seen_x] = 0.0
        own = np.where(seen_x, constant - 0.5 * x * x - alone, 0.0)
        z = own @ seen_y.T + x @ y.T - 0.5 * seen_x @ (y * y).T + alone.sum(axis=1)[:, None]
        top = z.max(axis=1, keepdims=True)
        found: Float = np.log(np.exp(z - top).mean(axis=1)) + top[:, 0]
        return found

    return run
