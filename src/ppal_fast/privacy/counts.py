"""Counts through the door: histograms and their quantiles, tables of errors, and the groups that have enough members.

A record counts in one cell: its row is one-hot, clip norm 1, so one release of any number of cells costs one charge.
Under unit owner the counts of an owner's records are clipped together to norm 1. Source: docs/privacy/counts.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _validate
from ..errors import InputError
from .units import PublicMask

if TYPE_CHECKING:
    from .ledger import Ledger

Float = NDArray[np.float64]


def release_counts(
    ledger: Ledger, cells: ArrayLike, n_cells: int, *, name: str, epsilon: float | None = None,
    sigma: float | None = None, owners: Any = None,
) -> Float:
    """(n_cells,) noisy number of records in each cell.

    cells   (n,) whole numbers from 0 to n_cells - 1, or -1 for a record that counts nowhere; n_cells is public
    epsilon, sigma, owners, name as for Ledger.release_sum. Every cell carries the same noise, empty ones included.
    """
    from scipy import sparse

    _validate.integer(1, n_cells=n_cells)
    codes = np.asarray(cells)
    if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
        raise InputError(f"cells has shape {codes.shape} and dtype {codes.dtype}; (n,) whole numbers are expected")
    codes = codes.astype(np.intp)
    if codes.size and not -1 <= codes.min() <= codes.max() < n_cells:
        raise InputError(f"cells has numbers from {codes.min()} to {codes.max()}; -1 to {n_cells - 1} are expected")
    counted = codes >= 0
    starts = np.concatenate([[0], np.cumsum(counted)])
    one_hot = sparse.csr_array((np.ones(starts[-1]), codes[counted], starts), shape=(len(codes), n_cells))
    return ledger.release_sum(one_hot, clip=1.0, epsilon=epsilon, sigma=sigma, owners=owners, name=name)


def histogram(
    ledger: Ledger, values: ArrayLike, edges: ArrayLike, *, name: str, epsilon: float | None = None,
    sigma: float | None = None, owners: Any = None,
) -> Float:
    """(m,) noisy counts between m + 1 public, increasing edges; values beyond them count in the outer cells.

    values (n,); a NaN counts nowhere. Edges read off the values would not be public.
    """
    bounds, numbers = _edges(edges), np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise InputError(f"values has shape {numbers.shape}; (n,) is expected")
    cells = np.clip(np.searchsorted(bounds, numbers, side="right") - 1, 0, len(bounds) - 2)
    return release_counts(
        ledger, np.where(np.isnan(numbers), -1, cells), len(bounds) - 1, name=name, epsilon=epsilon, sigma=sigma,
        owners=owners,
    )


def quantiles(counts: ArrayLike, edges: ArrayLike, shares: ArrayLike) -> Float:
    """Values below which the given shares of a released histogram lie: post-processing, free.

    Negative counts are pooled with their neighbours (isotonic regression of the running sum); linear inside a cell.
    """
    from sklearn.isotonic import isotonic_regression

    bounds, released, wanted = _edges(edges), np.asarray(counts, dtype=np.float64), np.asarray(shares, np.float64)
    if released.shape != (len(bounds) - 1,):
        raise InputError(f"counts has shape {released.shape}; ({len(bounds) - 1},) is expected, one between two edges")
    if not ((wanted >= 0.0) & (wanted <= 1.0)).all():
        raise InputError(f"shares was {shares!r}; numbers from 0 to 1 are expected")
    running = isotonic_regression(np.concatenate([[0.0], np.cumsum(released)]))
    running = running - running[0]
    if running[-1] <= 0.0:  # all noise: no cell is likelier than another
        running = np.linspace(0.0, 1.0, len(bounds))
    rising = np.concatenate([[True], np.diff(running) > 0.0])
    return np.interp(wanted * running[-1], running[rising], bounds[rising])


def confusion(
    ledger: Ledger, truth: Sequence[Any], predicted: Sequence[Any], classes: Sequence[Any], *, name: str,
    epsilon: float | None = None, sigma: float | None = None, owners: Any = None,
) -> Float:
    """(K, K) noisy number of records of class i that were predicted as class j, for a public list of K classes.

    Accuracy, recall and precision are quotients of its sums: post-processing. The records must be independent of the
    model or have paid for it in the same ledger.
    """
    code = {c: i for i, c in enumerate(classes)}
    if not code or len(code) != len(classes):
        raise InputError(f"classes was {list(classes)!r}; at least one class, each once, is expected")
    if len(truth) != len(predicted):
        raise InputError(f"truth has length {len(truth)} and predicted {len(predicted)}; equal lengths are expected")
    for label in (*truth, *predicted):
        if label not in code:
            raise InputError(f"label {label!r} is not among the classes {list(classes)!r}")
    k = len(code)
    cells = np.array([code[t] * k + code[p] for t, p in zip(truth, predicted, strict=True)], dtype=np.intp)
    return release_counts(ledger, cells, k * k, name=name, epsilon=epsilon, sigma=sigma, owners=owners).reshape(k, k)


def surviving_groups(
    ledger: Ledger, groups: ArrayLike, n_groups: int, *, threshold: float, name: str, epsilon: float | None = None,
    sigma: float | None = None, owners: Any = None,
) -> PublicMask:
    """The groups of a public universe whose noisy count is at least ``threshold``: a mask that may be made public.

    groups (n,) group of each record, 0 .. n_groups - 1, or -1. All groups are counted, empty ones too, so that no
    group's presence shows; which of them survive is post-processing. With noise deviation s, an empty group survives
    with probability Phi(-threshold / s). For groups that nobody can list: partitions.select_partitions.
    """
    _validate.non_negative(threshold=threshold)
    counts = release_counts(ledger, groups, n_groups, name=name, epsilon=epsilon, sigma=sigma, owners=owners)
    return PublicMask(counts >= threshold, f"noisy counts of release {name!r} of at least {threshold:g}")


def _edges(edges: ArrayLike) -> Float:
    bounds = np.asarray(edges, dtype=np.float64)
    if bounds.ndim != 1 or len(bounds) < 2 or not np.isfinite(bounds).all() or not (np.diff(bounds) > 0).all():
        raise InputError("edges must be at least two finite numbers in increasing order")
    return bounds
