"""KernelDensity and DensityRatio: exact Gaussian kernel densities of tables with missing cells."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import check_is_fitted

from .. import _validate
from ..errors import InputError
from . import bandwidth as rules
from . import edge

Float = NDArray[np.float64]


class KernelDensity(DensityMixin, BaseEstimator):
    """Gaussian kernel density with exact tails, for tables with missing cells.

    bandwidth   standard deviation of the kernel, in units of the columns: a number, one for each column (d,), or a rule
                on the observed cells of each column: "scott" sigma_j n_j^(-1/(d+4)), "silverman" sigma_j
                (n_j (d+2)/4)^(-1/(d+4)), "likelihood" the multiple of Scott's with the best leave-one-out likelihood
    precision   "double": log densities are right to 1e-9 against a float64 log-sum-exp, tails included.
                "single": float32 sums, two to four times faster; see docs/density.md for the error
    n_jobs      threads, -1 for all processors; the result does not depend on it
    rtol        0: exact. In (0, 1): log densities may be too low by at most this, where a probe of a few queries says
                that passing over far references is quicker: on rows near a surface of few dimensions

    Attributes: bandwidth_ (d,), n_features_in_, feature_names_in_. Source: Scott (2015), Multivariate Density
    Estimation, section 6.3 (rules); Duin (1976), doi:10.1109/TC.1976.1674577 (leave-one-out likelihood).
    """

    def __init__(
        self, bandwidth: Any = "scott", *, precision: str = "double", n_jobs: int = 1, rtol: float = 0.0
    ) -> None:
        self.bandwidth = bandwidth
        self.precision = precision
        self.n_jobs = n_jobs
        self.rtol = rtol

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Keep the rows of X (n, d), weighted by sample_weight (n,) (not negative, not all zero; None: equally).

        Warns (DataWarning) of columns that are constant or empty. Raises InputError.
        """
        make = edge.kernel_of(self.precision)
        edge.threads(self.n_jobs)
        if self.rtol != 0:
            _validate.fraction(rtol=self.rtol)
        rows = edge.read(self, X, reset=True)
        weights = edge.weights(sample_weight, len(rows))
        self.bandwidth_ = rules.resolve(self.bandwidth, rows, weights, edge.column_names(self), make)
        self._make_kernel(rows, weights)
        return self

    def score_samples(self, X: Any) -> Float:
        """Natural logarithm of the density at each row of X, (n,)."""
        if not hasattr(self, "_kernel"):  # asked first because check_is_fitted takes as long as 2,000 references
            check_is_fitted(self)
        return edge.log_density(self._kernel, edge.read(self, X, reset=False), self.n_jobs, self.rtol)

    def score(self, X: Any, y: Any = None) -> float:
        """Sum of the log densities of the rows of X."""
        return float(self.score_samples(X).sum())

    def sample(self, n: int = 1, random_state: Any = None) -> Float:
        """Draw n complete rows from the density, (n, d); NaN in a column that no reference has."""
        check_is_fitted(self)
        _validate.integer(0, n=n)
        rng = _validate.random_generator(random_state)
        rows: Float = self._kernel.references
        weights = np.ones(len(rows)) if self._weights is None else self._weights
        drawn: Float = rows[_draw(weights, n, rng)]
        for j in range(drawn.shape[1]):
            missing = np.isnan(drawn[:, j])
            present = np.flatnonzero(~np.isnan(rows[:, j]) & (weights > 0))
            if missing.any() and len(present):
                own = present[_draw(weights[present], int(missing.sum()), rng)]
                drawn[missing, j] = rows[own, j]
        drawn += rng.standard_normal(drawn.shape) * self.bandwidth_
        return drawn

    def _make_kernel(self, rows: Float, weights: Float | None) -> None:
        """The kernel holds the only copy of the rows; weights are relative to the largest."""
        make = edge.kernel_of(self.precision)
        self._kernel = edge.fitted_kernel(make, rows, self.bandwidth_, weights, prunable=self.rtol > 0)
        self._weights = weights

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if kernel := state.pop("_kernel", None):
            state["_rows"] = kernel.references
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows = state.pop("_rows", None)
        super().__setstate__(state)
        if rows is not None:
            self._make_kernel(rows, self._weights)

    def __sklearn_tags__(self) -> Any:
        return edge.allow_nan(super().__sklearn_tags__())


class DensityRatio(BaseEstimator):
    """Logarithm of the ratio of two Gaussian kernel densities under one common bandwidth.

    Parameters as of KernelDensity; a bandwidth rule is applied to the set with more rows. Attribute: bandwidth_ (d,).
    """

    def __init__(self, bandwidth: Any = "scott", *, precision: str = "double", n_jobs: int = 1) -> None:
        self.bandwidth = bandwidth
        self.precision = precision
        self.n_jobs = n_jobs

    def fit(self, X_numerator: Any, X_denominator: Any) -> Self:
        """Keep the rows of both sets, (n, d) and (m, d). Raises InputError."""
        make = edge.kernel_of(self.precision)
        edge.threads(self.n_jobs)
        above = edge.read(self, X_numerator, reset=True, name="X_numerator")
        below = edge.read(self, X_denominator, reset=False, name="X_denominator", fewest=1)
        more = above if len(above) > len(below) else below
        self.bandwidth_ = rules.resolve(self.bandwidth, more, None, edge.column_names(self), make)
        self._make_kernels(above, below)
        return self

    def log_ratio(self, X: Any, *, leave_one_out: bool = False) -> Float:
        """log p_numerator - log p_denominator at each row of X, (n,).

        leave_one_out   row i of X is row i of X_numerator and is left out of its own numerator
        """
        if not hasattr(self, "_above"):
            check_is_fitted(self)
        queries = edge.read(self, X, reset=False)
        left_out = None
        n = len(self._above.references)
        if leave_one_out:
            if len(queries) != n or n < 2:
                raise InputError(
                    f"X has {len(queries)} rows and X_numerator had {n}; with leave_one_out=True the same rows, "
                    "at least 2, are expected"
                )
            left_out = np.arange(n, dtype=np.intp)
        out = np.empty(len(queries))  # NaN where both vanish in float64, some 1e150 bandwidths away

        def score(part: slice, threads: int) -> None:
            own = None if left_out is None else left_out[part]
            self._above.log_ratio(self._below, queries[part], out[part], own, threads)

        edge.in_pieces(score, len(queries), n + len(self._below.references), self.n_jobs)
        return out

    def _make_kernels(self, above: Float, below: Float) -> None:
        make = edge.kernel_of(self.precision)
        self._above = edge.fitted_kernel(make, above, self.bandwidth_, None, "X_numerator")
        self._below = edge.fitted_kernel(make, below, self.bandwidth_, None, "X_denominator", like=self._above)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for name in ("_above", "_below"):
            if name in state:
                state[name] = state[name].references
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        above, below = state.pop("_above", None), state.pop("_below", None)
        super().__setstate__(state)
        if above is not None:
            self._make_kernels(above, below)

    def __sklearn_tags__(self) -> Any:
        return edge.allow_nan(super().__sklearn_tags__())


def _draw(weights: Float, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """n positions, each with probability proportional to its weight."""
    return rng.choice(len(weights), size=n, p=weights / weights.sum())
