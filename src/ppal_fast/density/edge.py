"""The public edge of the densities: tables and options in, checked arrays and a fitted kernel out."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from .. import _validate
from ..errors import InputError
from ..kernels import _density
from ..table import Table

Float = NDArray[np.float64]

PAIRS_PER_CALL = 4_000_000  # a few milliseconds between two looks at pending signals
MOST_QUERIES_PER_CALL, FEWEST_QUERIES_PER_CALL = 1020, 12  # multiples of every register block (4 and 6 queries)
UNSPLIT_QUERIES = 96  # few queries stay together: the kernel splits the references instead
PIECES = 16  # that more queries are split into at least
ORDERED_QUERIES = 65_532  # that are put in order at a time for pruning: a tenth of a second


def allow_nan(tags: Any) -> Any:
    tags.input_tags.allow_nan = True
    return tags


def kernel_of(precision: str) -> Callable[..., Any]:
    _validate.one_of(("double", "single"), precision=precision)
    return _density.Double if precision == "double" else _density.Single


def threads(n_jobs: int) -> int:
    if type(n_jobs) is int and n_jobs == 1:  # spares one row half a microsecond
        return 1
    if n_jobs == -1:
        return os.cpu_count() or 1
    _validate.integer(1, n_jobs=n_jobs)
    return int(n_jobs)


def read(
    estimator: Any, X: Any, *, reset: bool, name: str = "X", fewest: int | None = None, may_be_empty: bool = False
) -> Float:
    """X as (n, d) float64, C-contiguous and aligned, NaN where missing; sets or checks the columns of the estimator."""
    if reset and not may_be_empty:
        fewest = 1
    plain = type(X) is np.ndarray and X.dtype == np.float64 and X.flags.c_contiguous and X.flags.aligned and X.ndim == 2
    known = not reset and "feature_names_in_" not in vars(estimator)
    if plain and known and X.shape[1] == estimator.n_features_in_:  # spares the microseconds of validate_data
        rows: Float = X
    else:
        rows = _converted(estimator, X.values if isinstance(X, Table) else X, reset, name, fewest or 0)
    if not _density.all_finite(rows):
        if np.isinf(rows).any():
            row, column = np.argwhere(np.isinf(rows))[0]
            raise InputError(f"{name} has an infinite value in row {row}, column {column}; use NaN for a missing cell")
        if fewest and np.isnan(rows).all():
            raise InputError(f"{name} has no observed cell; at least one is expected")
    if len(rows) < (fewest or 0):
        raise InputError(f"{name} has 0 rows; at least 1 is expected")
    return rows


def _converted(estimator: Any, X: Any, reset: bool, name: str, fewest: int) -> Float:
    try:
        if _validate.columns_of(X) is not None:
            validate_data(estimator, X, reset=reset, skip_check_array=True)
            rows = _validate.table(X, name=name)
        else:
            rows = validate_data(
                estimator, X, reset=reset, dtype=np.float64, order="C", ensure_all_finite=False,
                ensure_min_samples=fewest,
            )
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        said = str(error)
        if said.startswith(("Complex", "Expected 2D")):
            said = said.splitlines()[0].rstrip(":")  # the whole table follows
        said = re.sub(r"\bX has\b", f"{name} has", said, count=1)  # its name for any table
        raise InputError(said if said.startswith(name) else f"{name}: {said}") from None
    return np.require(rows, np.float64, ["C", "A"])


def weights(sample_weight: Any, n: int) -> Float | None:
    if sample_weight is None:
        return None
    weights = _validate.vector(sample_weight, name="sample_weight", length=n)
    if (weights < 0).any():
        raise InputError(f"sample_weight has {weights.min():g}; weights of at least 0 are expected")
    if not weights.any():
        raise InputError("sample_weight is zero for every row; at least one positive weight is expected")
    relative: Float = weights / weights.max()
    return relative


def column_names(estimator: Any) -> list[str]:
    names = getattr(estimator, "feature_names_in_", None)
    return [f"column {j}" if names is None else f"column {names[j]!r}" for j in range(estimator.n_features_in_)]


def fitted_kernel(
    make: Callable[..., Any], rows: Float, bandwidth: Float, weights: Float | None, name: str = "X", **options: Any
) -> Any:
    with np.errstate(over="ignore"):
        for j in range(rows.shape[1]):
            largest = np.abs(rows[:, j]).max(initial=0.0, where=~np.isnan(rows[:, j]))
            if not np.isfinite(4 * largest / bandwidth[j]):
                raise InputError(
                    f"{name} has {largest:g} in column {j}, too far from zero for a bandwidth of {bandwidth[j]:g}: "
                    "their quotient is beyond float64; a larger bandwidth is expected"
                )
    return make(rows, bandwidth, weights, **options)


def log_density(kernel: Any, queries: Float, n_jobs: int, rtol: float = 0.0) -> Float:
    """(m,) log densities; with rtol > 0 far references are passed over where a probe says that it pays."""
    out = np.empty(len(queries))
    if len(queries) <= FEWEST_QUERIES_PER_CALL:  # the latency of a single row counts
        kernel.log_density(queries, out, None, threads(n_jobs))
        return out
    step = ORDERED_QUERIES if rtol else max(1, len(queries))
    for first in range(0, len(queries), step):
        some, found = queries[first : first + step], out[first : first + step]
        order = kernel.pruning_order(some, rtol) if rtol else None
        if order is None:
            _log_density(kernel, some, found, n_jobs, 0.0)
        else:
            ordered = np.empty(len(some))
            _log_density(kernel, some[order], ordered, n_jobs, rtol)
            found[order] = ordered
    return out


def _log_density(kernel: Any, queries: Float, out: Float, n_jobs: int, rtol: float) -> None:
    in_pieces(
        lambda part, threads: kernel.log_density(queries[part], out[part], None, threads, rtol),
        len(queries), len(kernel.references), n_jobs,
    )


def in_pieces(score: Callable[[slice, int], None], n_queries: int, n_references: int, n_jobs: int) -> None:
    """score(piece, threads) for pieces that depend on the sizes alone, so that the result does not depend on n_jobs.

    The pieces are shared out among the threads, or run one by one where there are fewer of them; a signal is heard
    between two pieces.
    """
    workers = threads(n_jobs)
    affordable = max(FEWEST_QUERIES_PER_CALL, PAIRS_PER_CALL // n_references // 12 * 12)
    share = -(-n_queries // (12 * PIECES)) * 12
    step = min(MOST_QUERIES_PER_CALL, affordable, max(UNSPLIT_QUERIES, share))
    pieces = [slice(first, first + step) for first in range(0, n_queries, step)]
    if 1 < workers <= len(pieces):
        _share_out(score, pieces, workers)
    else:
        for piece in pieces:
            score(piece, workers)


def _share_out(score: Callable[[slice, int], None], pieces: list[slice], workers: int) -> None:
    """Each thread takes the next piece until none is left; an exception, or a signal at any moment, leaves none."""
    pending = deque(pieces)

    def work() -> None:
        while pending:
            try:
                piece = pending.popleft()
            except IndexError:  # another thread took the last one
                return
            score(piece, 1)

    with ThreadPoolExecutor(workers) as pool:
        try:
            for task in [pool.submit(work) for _ in range(workers)]:
                task.result()
        except BaseException:
            pending.clear()
            raise
