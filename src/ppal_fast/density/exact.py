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

    Attributes: bandwidth_ (d,), n_features_in_, feature_names_in_. Source: Scott (2015), Multivariate Density
    Estimation, section 6.3 (rules); Duin (1976), doi:10.1109/TC.1976.1674577 (leave-one-out likelihood).
    """

    def __init__(self, bandwidth: Any = "scott", *, precision: str = "double", n_jobs: int = 1) -> None:
        self.bandwidth = bandwidth
        self.precision = precision
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Keep the rows of X (n, d), weighted by sample_weight (n,) (not negative, not all zero; None: equally).

        Warns (DataWarning) of columns that are constant or empty. Raises InputError.
        """
        make = edge.kernel_of(self.precision)
        edge.threads(self.n_jobs)
        rows = edge.read(self, X, reset=True)
        weights = edge.weights(sample_weight, len(rows))
        self.bandwidth_ = rules.resolve(self.bandwidth, rows, weights, edge.column_names(self), make)
        self._rows, self._weights = rows.copy(), weights
        self._kernel = edge.fitted_kernel(make, rows, self.bandwidth_, weights)
        return self

    def score_samples(self, X: Any) -> Float:
        """Natural logarithm of the density at each row of X, (n,)."""
        check_is_fitted(self)
        return edge.log_density(self._kernel, edge.read(self, X, reset=False), len(self._rows), self.n_jobs)

    def score(self, X: Any, y: Any = None) -> float:
        """Sum of the log densities of the rows of X."""
        return float(self.score_samples(X).sum())

    def sample(self, n: int = 1, random_state: Any = None) -> Float:
        """Draw n complete rows from the density, (n, d); NaN in a column that no reference has."""
        check_is_fitted(self)
        _validate.integer(0, n=n)
        rng = _validate.random_generator(random_state)
        weights = np.ones(len(self._rows)) if self._weights is None else self._weights
        drawn: Float = self._rows[_draw(weights, n, rng)]
        for j in range(drawn.shape[1]):
            missing = np.isnan(drawn[:, j])
            present = np.flatnonzero(~np.isnan(self._rows[:, j]) & (weights > 0))
            if missing.any() and len(present):
                own = present[_draw(weights[present], int(missing.sum()), rng)]
                drawn[missing, j] = self._rows[own, j]
        drawn += rng.standard_normal(drawn.shape) * self.bandwidth_
        return drawn

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_kernel"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_rows" in state:
            make = edge.kernel_of(self.precision)
            self._kernel = edge.fitted_kernel(make, self._rows, self.bandwidth_, self._weights)

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
        self._above, self._below = above.copy(), below.copy()
        self._make_kernels()
        return self

    def log_ratio(self, X: Any, *, leave_one_out: bool = False) -> Float:
        """log p_numerator - log p_denominator at each row of X, (n,).

        leave_one_out   row i of X is row i of X_numerator and is left out of its own numerator
        """
        check_is_fitted(self)
        queries = edge.read(self, X, reset=False)
        left_out = None
        if leave_one_out:
            n = len(self._above)
            if len(queries) != n or n < 2:
                raise InputError(
                    f"X has {len(queries)} rows and X_numerator had {n}; with leave_one_out=True the same rows, "
                    "at least 2, are expected"
                )
            left_out = np.arange(n, dtype=np.intp)
        numerator = edge.log_density(self._kernel_above, queries, len(self._above), self.n_jobs, left_out)
        with np.errstate(invalid="ignore"):  # NaN where both vanish in float64, some 1e150 bandwidths away
            return numerator - edge.log_density(self._kernel_below, queries, len(self._below), self.n_jobs)

    def _make_kernels(self) -> None:
        make = edge.kernel_of(self.precision)
        self._kernel_above = edge.fitted_kernel(make, self._above, self.bandwidth_, None, "X_numerator")
        self._kernel_below = edge.fitted_kernel(make, self._below, self.bandwidth_, None, "X_denominator")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if not name.startswith("_kernel")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_above" in state:
            self._make_kernels()

    def __sklearn_tags__(self) -> Any:
        return edge.allow_nan(super().__sklearn_tags__())


def _draw(weights: Float, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """n positions, each with probability proportional to its weight."""
    return rng.choice(len(weights), size=n, p=weights / weights.sum())
