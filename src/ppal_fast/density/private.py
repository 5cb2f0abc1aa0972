"""PrivateDensity: a Gaussian kernel density read off one private sum of random features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .. import _validate
from ..table import Schema
from . import bandwidth as rules
from . import edge

if TYPE_CHECKING:
    from ..privacy import Ledger

Float = NDArray[np.float64]

FEATURES_AT_ONCE = 1 << 18  # rows times frequencies that are evaluated at a time: some ten megabytes


class PrivateDensity(BaseEstimator):
    """Gaussian kernel density whose only look at the rows is one private sum; post-processing after that.

    Released    sum over rows of phi(y) = (cos w_k'y, sin w_k'y)_k / sqrt(m) in 2m coordinates; w_k ~ N(0, 1 / h^2) is
                drawn from random_state without looking at the rows
    Unit        that of the ledger; a removed unit contributes the zero vector
    Sensitivity C = 1 a row: cos^2 + sin^2 = 1, so |phi(y)| = 1 for a complete row. A missing cell is replaced by its
                mean over the public range [a, b]: E exp(i w u) = exp(i w (a+b)/2) sinc(w (b-a)/2) for uniform u, a
                factor of modulus at most 1, so |phi(y)| <= 1 for every row
    Guarantee   that of Ledger.release_sum for one release; number of rows, bandwidth, bounds and w are public
    Attack      tests/test_density.py: norms over extreme and missing cells; the zeroed unit

    bandwidth    public standard deviation of the kernel: a number or (d,)
    n_features   m, the number of frequencies
    bounds       public (low, high) of all columns, or (d, 2); values are clipped to them
    Source: Rahimi and Recht (2007), Random Features for Large-Scale Kernel Machines; Hall, Rinaldo and Wasserman
    (2013), Differential Privacy for Functions and Functional Data (why it is a sum).
    """

    def __init__(
        self, bandwidth: Any, *, n_features: int = 256, bounds: Any = (-4.0, 4.0), random_state: Any = None
    ) -> None:
        self.bandwidth = bandwidth
        self.n_features = n_features
        self.bounds = bounds
        self.random_state = random_state

    def fit(
        self, X: Any, *, ledger: Ledger, epsilon: float | None = None, owners: Any = None, name: str | None = None
    ) -> Self:
        """Spend epsilon of the ledger (None: all that remains) on one sum over the rows of X (n, d).

        owners   owner of each row, for unit "owner"
        name     the request's id in the ledger: the same name returns the stored sum. None: a new one

        Attributes: bandwidth_, bounds_, frequencies_ (m, d), sum_ (2m,), noise_deviation_ (of each coordinate of the
        sum), n_rows_, privacy_ (one sentence). Raises InputError, BudgetExceeded before anything is computed.
        """
        _validate.integer(1, n_features=self.n_features)
        rows = edge.read(self, X, reset=True, may_be_empty=True)
        d = rows.shape[1]
        self.bandwidth_ = rules.given(self.bandwidth, d)
        columns = Schema(tuple(edge.column_names(self)), (None,) * d)
        self.bounds_: Float = np.asarray(columns.with_bounds(self.bounds).bounds)
        rng = _validate.random_generator(self.random_state)
        self.frequencies_ = rng.standard_normal((self.n_features, d)) / self.bandwidth_
        self.n_rows_ = len(rows)
        known = {release.name for release in ledger.history()}
        request = name or next(r for r in map("density-{}".format, range(len(known) + 1)) if r not in known)
        budget = ledger.remaining() if epsilon is None else epsilon
        self.sum_ = ledger.release_sum(self._features(rows), clip=1.0, epsilon=budget, owners=owners, name=request)
        (release,) = (r for r in ledger.history() if r.name == request)
        sensitivity = 2.0 if ledger.relation == "replace-one" else 1.0
        self.noise_deviation_ = release.sigma * sensitivity
        self.privacy_ = (
            f"one sum of random features (release {request!r}): epsilon {budget:.4g} at delta {ledger.delta:g}, "
            f"unit {ledger.unit}, relation {ledger.relation}; number of rows, bandwidth and bounds are public"
        )
        return self

    def score_samples(self, X: Any) -> Float:
        """Natural logarithm of the estimated density at each row of X, (n,); missing cells are integrated out.

        The estimate is a noisy mean of cosines and can be negative: it is raised to what one row at its own centre, or
        one standard deviation of the noise, whichever is more, would give.
        """
        check_is_fitted(self)
        queries = edge.read(self, X, reset=False)
        mean_kernel = np.empty(len(queries))
        step = max(1, FEATURES_AT_ONCE // self.n_features)
        for first in range(0, len(queries), step):
            part = slice(first, first + step)
            mean_kernel[part] = self._features(queries[part]) @ self.sum_ / max(1, self.n_rows_)
        lowest = max(1.0, self.noise_deviation_) / max(1, self.n_rows_)
        # a missing cell is integrated over its range: its width times the mean over the range, which _features takes
        width = self.bounds_[:, 1] - self.bounds_[:, 0]
        peak = -np.log(self.bandwidth_ * np.sqrt(2 * np.pi))
        missing = np.isnan(queries)
        factors = np.where(missing, peak + np.log(width), peak).sum(axis=1)
        log_density: Float = np.log(np.maximum(mean_kernel, lowest)) + factors
        log_density[missing.all(axis=1)] = 0.0
        return log_density

    def _features(self, X: Float) -> Float:
        """(n, 2m), of norm at most 1: the cell's phase, or the mean over the public range of a missing one."""
        low, high = self.bounds_[:, 0], self.bounds_[:, 1]
        missing = np.isnan(X)
        cells = np.where(missing, (low + high) / 2, np.clip(X, low, high))
        phase = cells @ self.frequencies_.T
        modulus = np.full_like(phase, 1 / np.sqrt(self.n_features))
        for j in np.flatnonzero(missing.any(axis=0)):
            shrink = np.sinc(self.frequencies_[:, j] * (high[j] - low[j]) / (2 * np.pi))
            modulus[missing[:, j]] *= shrink
        return np.hstack([modulus * np.cos(phase), modulus * np.sin(phase)])

    def __sklearn_tags__(self) -> Any:
        return edge.allow_nan(super().__sklearn_tags__())
