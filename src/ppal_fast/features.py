"""QUBOFeatureSelector: k columns that say much about y and little twice, chosen jointly instead of one by one.

Measures use pairwise-observed cells: a pair of columns (or a column and y) is judged by the rows that have both, and
what few rows could show by chance is taken off.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from . import _validate
from .errors import DataWarning, InputError
from .qubo import solve_qubo
from .table import Table

Float = NDArray[np.float64]
MOST_BINS = 10
ROWS_PER_CELL = 5  # expected count that a cell of the contingency table should have, the usual rule for chi-square
PROOF_SECONDS = 10.0


class QUBOFeatureSelector(SelectorMixin, BaseEstimator):
    """Maximise sum_i relevance_i s_i - redundancy_weight sum_{i != j} redundancy_ij s_i s_j with sum(s) = k.

    n_features_to_select  k; all columns where there are no more than that
    relevance             "mutual_info", a callable (X, y) -> (d,), or an array (d,)  [X float64, y as it was given]
    redundancy            "correlation" (within classes: what two columns owe to y alone is no redundancy), a callable
                          (X) -> (d, d), or an array (d, d)
    prove                 branch and bound for about 10 seconds at most: proven_optimal_ tells whether it came to an end

    After ``fit``: support_ (d,) bool; objective_; proven_optimal_; ranking_ (k,) what the objective loses when the
    chosen feature is dropped, in the order of ``get_support(indices=True)``; relevance_ (d,); redundancy_ (d, d).
    Empty and constant columns are chosen only when there are not enough others, with a DataWarning.
    """

    def __init__(
        self, n_features_to_select: int = 15, *, relevance: str | Callable[..., Any] | ArrayLike = "mutual_info",
        redundancy: str | Callable[..., Any] | ArrayLike = "correlation", redundancy_weight: float = 0.5,
        prove: bool = False, random_state: Any = None,
    ) -> None:
        self.n_features_to_select = n_features_to_select
        self.relevance = relevance
        self.redundancy = redundancy
        self.redundancy_weight = redundancy_weight
        self.prove = prove
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> QUBOFeatureSelector:
        """X (n, d), NaN for a missing cell; y (n,) classes of any type, or measurements. Raises InputError."""
        _validate.integer(1, n_features_to_select=self.n_features_to_select)
        _validate.non_negative(redundancy_weight=self.redundancy_weight)
        rows = self._rows(X)
        labels, classes = _classes(y, len(rows))
        d = rows.shape[1]
        relevances = {"mutual_info": lambda X, _: mutual_information(X, classes)}
        redundancies = {"correlation": partial(correlation, y=classes)}
        self.relevance_ = _measured(self.relevance, "relevance", relevances, (rows, labels), (d,))
        self.redundancy_ = _measured(self.redundancy, "redundancy", redundancies, (rows,), (d, d))
        likeness = 0.5 * float(self.redundancy_weight) * (self.redundancy_ + self.redundancy_.T)
        np.fill_diagonal(likeness, 0.0)
        candidates = self._candidates(rows)
        k = min(self.n_features_to_select, len(candidates))
        Q = likeness[np.ix_(candidates, candidates)] - np.diag(self.relevance_[candidates])
        found = solve_qubo(
            Q, cardinality=k, prove=self.prove, time_limit=PROOF_SECONDS if self.prove else None,
            n_replicas=6, random_state=self.random_state,
        )
        self.support_ = np.zeros(d, dtype=bool)
        self.support_[candidates[found.x == 1]] = True
        chosen = np.flatnonzero(self.support_)
        self.objective_ = -found.energy
        self.proven_optimal_ = found.proven_optimal
        self.ranking_ = self.relevance_[chosen] - 2.0 * likeness[np.ix_(chosen, chosen)].sum(axis=1)
        return self

    def _rows(self, X: Any) -> Float:
        try:
            if isinstance(X, Table):
                X = X.values
            if _validate.columns_of(X) is not None:
                validate_data(self, X, skip_check_array=True)
                return _validate.table(X)
            return validate_data(
                self, X, dtype=np.float64, order="C", ensure_all_finite="allow-nan", ensure_min_samples=2
            )
        except ValueError as error:
            raise error if isinstance(error, InputError) else InputError(str(error)) from None

    def _candidates(self, rows: Float) -> NDArray[np.intp]:
        """Columns that vary; all of them where too few do."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of columns without any observed cell
            varies = np.nanmax(rows, axis=0) > np.nanmin(rows, axis=0)
        if varies.sum() >= self.n_features_to_select:
            return np.flatnonzero(varies)
        if not varies.all() and varies.size > self.n_features_to_select:
            warnings.warn(
                f"only {varies.sum()} of {varies.size} columns vary; constant or empty ones make up the "
                f"{self.n_features_to_select} asked for",
                DataWarning, stacklevel=3,
            )
            # in front the columns that vary, then as few others as are needed
            filler = np.flatnonzero(~varies)[: self.n_features_to_select - int(varies.sum())]
            return np.sort(np.concatenate([np.flatnonzero(varies), filler]))
        return np.arange(varies.size)

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self, "support_")
        return self.support_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        return tags


def mutual_information(X: Float, y: NDArray[np.intp]) -> Float:
    """(d,) mutual information of each column with the class codes y, in nats, over the rows that have the column.

    Plug-in on quantile bins (at most MOST_BINS, fewer for few rows; the values themselves where they are few) less the
    first-order bias (rows - 1)(columns - 1) / 2n of the occupied table (Miller 1955), and at least 0.
    """
    found = np.zeros(X.shape[1])
    for j in range(X.shape[1]):
        seen = ~np.isnan(X[:, j])
        if np.count_nonzero(seen) < 2:
            continue
        codes = np.unique(y[seen], return_inverse=True)[1]
        n_classes = codes.max() + 1
        bins = _quantile_bins(X[seen, j], n_classes)
        table = np.bincount(bins * n_classes + codes, minlength=(bins.max() + 1) * n_classes)
        table = table.reshape(-1, n_classes)
        table = table[table.sum(axis=1) > 0]
        n = len(codes)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = table * n / (table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True))
            plug_in = np.where(table > 0, table * np.log(ratio), 0.0).sum() / n
        found[j] = max(0.0, plug_in - (table.shape[0] - 1) * (n_classes - 1) / (2 * n))
    return found


def correlation(X: Float, y: NDArray[np.intp] | None = None) -> Float:
    """(d, d) absolute Pearson correlation over the rows that have both columns; zero diagonal.

    With y (codes) each column is first centred within every class: two columns that depend on y alone, as under naive
    Bayes, complete each other, while a copy stays a copy.

    Fisher's z = artanh |r| is lowered by sqrt(2 log P) / sqrt(n_ij - 2 - classes), P the number of pairs: the height
    that pure chance reaches among P pairs (Donoho, Johnstone 1994), at least two standard errors. A pair seen in few
    rows thereby counts as unrelated.
    Cost: four products of depth n.
    """
    d = X.shape[1]
    n_classes = 1
    if y is not None:
        X, n_classes = _within_classes(X, y), int(y.max()) + 1
    seen = (~np.isnan(X)).astype(np.float64)
    count = np.maximum(seen.sum(axis=0), 1.0)
    filled = np.where(seen > 0, X, 0.0)
    largest = np.abs(filled).max(axis=0, initial=0.0)
    filled /= np.where(largest > 0, largest, 1.0)  # squares of any scale are then finite
    filled = np.where(seen > 0, filled - filled.sum(axis=0) / count, 0.0)  # centred for the sake of rounding
    spread = np.sqrt(np.square(filled).sum(axis=0) / count)
    filled /= np.where(spread > 0, spread, 1.0)
    n = seen.T @ seen
    pairs = np.maximum(n, 1.0)
    sums = filled.T @ seen  # [i, j]: sum of column i over the rows that have j
    squares = np.square(filled).T @ seen
    variance = np.maximum(squares / pairs - np.square(sums / pairs), 0.0)
    covariance = (filled.T @ filled) / pairs - sums * sums.T / pairs**2
    scale = np.sqrt(variance * variance.T)
    r = np.divide(np.abs(covariance), scale, out=np.zeros((d, d)), where=scale > 1e-10)
    z = np.arctanh(np.minimum(r, 1.0 - 1e-12))
    errors = max(2.0, np.sqrt(2.0 * np.log(max(d * (d - 1) / 2, 1.0))))
    chance = errors / np.sqrt(np.maximum(n - 2.0 - n_classes, 1e-3))
    shrunk = np.tanh(np.maximum(z - chance, 0.0))
    np.fill_diagonal(shrunk, 0.0)
    return shrunk


def _within_classes(X: Float, y: NDArray[np.intp]) -> Float:
    """X less the mean of its class in every column."""
    centred = X.copy()
    for c in range(int(y.max()) + 1):
        block = X[y == c]
        count = np.maximum((~np.isnan(block)).sum(axis=0), 1)
        centred[y == c] -= np.nansum(block, axis=0) / count
    return centred


def _quantile_bins(values: Float, n_classes: int) -> NDArray[np.intp]:
    distinct, codes = np.unique(values, return_inverse=True)
    n_bins = int(np.clip(len(values) // (ROWS_PER_CELL * n_classes), 2, MOST_BINS))
    if len(distinct) <= n_bins:
        return codes
    edges = np.quantile(values, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(np.unique(edges), values, side="left")


def _classes(y: Any, n: int) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """y as an array (n,), and codes of its classes, or of quantile bins where y is a measurement."""
    if y is None:
        raise InputError("QUBOFeatureSelector requires y to be passed, but the target y is None")
    try:
        labels = column_or_1d(y, warn=True)
        check_consistent_length(labels, np.empty(n))
        if any(_validate.is_missing(label) for label in labels.tolist()):
            raise InputError("y has missing labels (NaN or None); a label for every row is expected")
        kind = type_of_target(labels, input_name="y")
    except ValueError as error:
        raise error if isinstance(error, InputError) else InputError(str(error)) from None
    if kind == "continuous":
        return labels, _quantile_bins(_validate.vector(labels, name="y"), 2)
    return labels, np.unique(labels, return_inverse=True)[1]


def _measured(
    measure: Any, name: str, known: Mapping[str, Callable[..., Float]], arguments: tuple[Any, ...],
    shape: tuple[int, ...],
) -> Float:
    """A named measure, a callable or an array, as finite float64 of the given shape."""
    if isinstance(measure, str):
        _validate.one_of(known, **{name: measure})
        return known[measure](*arguments)
    try:
        values = np.array(measure(*arguments) if callable(measure) else measure, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} could not be read as numbers ({error}); shape {shape} is expected") from None
    if values.shape != shape or not np.isfinite(values).all():
        raise InputError(f"{name} has shape {values.shape} or entries that are not finite; finite {shape} is expected")
    return values
