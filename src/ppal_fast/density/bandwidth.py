"""Bandwidths: given ones checked, and the rules on the observed cells of each column."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import DataWarning, InputError
from ..kernels import _density
from . import edge

Float = NDArray[np.float64]

RULES = ("scott", "silverman", "likelihood")
SMALLEST = 1e-290  # below it, 1 / h overflows
LIKELIHOOD_GRID = 2.0 ** np.arange(-4, 2.25, 0.25)  # multiples of Scott's bandwidth, as many as the kernel takes
LIKELIHOOD_ROWS = 2000  # rows, evenly spaced, on which the leave-one-out likelihood is compared


def given(bandwidth: Any, d: int) -> Float:
    """A number or (d,) numbers."""
    if isinstance(bandwidth, str):
        raise InputError(f"bandwidth was {bandwidth!r}; a number above 0, or one for each column, is expected")
    if np.ndim(bandwidth) == 0:
        _validate.positive(bandwidth=bandwidth)
        bandwidth = np.full(d, float(bandwidth))
    values = _validate.vector(bandwidth, name="bandwidth", length=d)
    if (values < SMALLEST).any():
        raise InputError(
            f"bandwidth has an entry of {values.min():g}; numbers above 0, at least {SMALLEST:g}, are expected"
        )
    return values.copy()


def resolve(
    bandwidth: Any, rows: Float, weights: Float | None, names: list[str], make: Callable[..., Any]
) -> Float:
    if not isinstance(bandwidth, str):
        return given(bandwidth, rows.shape[1])
    _validate.one_of(RULES, bandwidth=bandwidth)
    d = rows.shape[1]
    deviation, count = _spread(rows, weights, names)
    size = count * (d + 2) / 4 if bandwidth == "silverman" else count
    rule = deviation * np.maximum(size, 1) ** (-1 / (d + 4))
    return _likeliest(rule, rows, weights, make) if bandwidth == "likelihood" else rule


def _spread(rows: Float, weights: Float | None, names: list[str]) -> tuple[Float, Float]:
    """(d,) standard deviation of the observed cells and their effective number (sum w)^2 / sum w^2.

    A column that does not vary beyond rounding gets deviation 1, as in scikit-learn's StandardScaler: its cells carry
    no scale of their own. Both it and a column without cells are named in a DataWarning.
    """
    deviation, count = np.ones(rows.shape[1]), np.zeros(rows.shape[1])
    constant, empty = [], []
    for j, name in enumerate(names):
        present = ~np.isnan(rows[:, j]) if weights is None else ~np.isnan(rows[:, j]) & (weights > 0)
        cells, w = rows[present, j], np.ones(int(present.sum())) if weights is None else weights[present]
        if not len(cells):
            empty.append(name)
            continue
        count[j] = w.sum() ** 2 / (w @ w)
        largest = np.abs(cells).max()
        scaled = cells / largest if largest > 0 else cells  # squares of 1e300 must not overflow
        mean = w @ scaled / w.sum()
        variance = w @ (scaled - mean) ** 2 / w.sum() * count[j] / max(count[j] - 1, 1e-9)
        sigma = np.sqrt(variance)
        if len(cells) == 1 or sigma <= 8 * np.finfo(float).eps or sigma * largest < 1e10 * SMALLEST:
            constant.append(name)
        else:
            deviation[j] = sigma * largest
    if constant:
        warnings.warn(
            f"{', '.join(constant)} does not vary among the observed cells; its standard deviation is taken as 1",
            DataWarning, stacklevel=5,
        )
    if empty:
        warnings.warn(f"{', '.join(empty)} has no observed cell and is left out", DataWarning, stacklevel=5)
    return deviation, count


def _likeliest(scott: Float, rows: Float, weights: Float | None, make: Callable[..., Any]) -> Float:
    """The multiple of Scott's bandwidth under which rows are likeliest given all the others."""
    present = np.arange(len(rows)) if weights is None else np.flatnonzero(weights > 0)
    if len(present) < 2:
        return scott
    asked = present[np.unique(np.linspace(0, len(present) - 1, LIKELIHOOD_ROWS).astype(np.intp))].astype(np.intp)
    share = np.ones(len(asked)) if weights is None else weights[asked]
    queries = np.ascontiguousarray(rows[asked])
    likelihood = np.zeros(len(LIKELIHOOD_GRID))
    if np.isnan(rows).any():  # every bandwidth has densities p_j of its own: little could be shared
        for i, factor in enumerate(LIKELIHOOD_GRID):
            kernel, found = edge.fitted_kernel(make, rows, scott * factor, weights), np.empty(len(asked))
            score = partial(_score_left_out, kernel, queries, found, asked)
            edge.in_pieces(score, len(asked), len(rows), 1)
            likelihood[i] = share @ found
    else:
        kernel = edge.fitted_kernel(_density.Double, rows, scott * LIKELIHOOD_GRID[-1], weights)
        step = edge.FEWEST_QUERIES_PER_CALL * 4
        for first in range(0, len(asked), step):  # a signal is heard between two steps
            part = slice(first, first + step)
            likelihood += kernel.likelihood_grid(queries[part], asked[part], share[part])[::-1]
    best = int(np.argmax(likelihood))
    if best == 0:
        warnings.warn(
            f"the leave-one-out likelihood still rises at {LIKELIHOOD_GRID[0]:g} times Scott's bandwidth, which is "
            "taken; rows that repeat do this: remove them or give a bandwidth",
            DataWarning, stacklevel=5,
        )
    chosen: Float = scott * LIKELIHOOD_GRID[best]
    return chosen


def _score_left_out(
    kernel: Any, queries: Float, out: Float, left_out: NDArray[np.intp], part: slice, threads: int
) -> None:
    kernel.log_density(queries[part], out[part], left_out[part], threads)
