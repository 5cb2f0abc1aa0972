"""Gaussian mixtures with one shared diagonal variance, by EM over the observed cells alone.

    z_j | component k ~ N(m_kj, v_j),  independent over columns j;  a missing cell has no term in the likelihood.

With partly known components (labels) the same EM is the semi-supervised classifier of mixture.py.
Source: Dempster, Laird, Rubin 1977; Nigam et al. 2000 (doi:10.1023/A:1007692713085) for the labelled rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

MEAN_PRIOR = 2.0  # prior rows that pull a component's mean to the column's mean, 0
VARIANCE_PRIOR = 5.0  # prior rows with unit variance
VARIANCE_RANGE = (0.1, 2.0)  # for standardised columns


@dataclass(frozen=True)
class GaussianMixture:
    """means (k, p), shared variance (p,), weights (k,) of standardised columns."""

    means: Float
    variance: Float
    weights: Float

    def log_joint(self, Z: Float) -> Float:
        """log p(observed cells, component), (n, k); terms that all components share are left out."""
        return self._log_joint(np.nan_to_num(Z), (~np.isnan(Z)).astype(np.float64))

    def _log_joint(self, filled: Float, observed: Float) -> Float:
        scaled = self.means / self.variance
        logs = filled @ scaled.T
        logs -= 0.5 * (observed @ (self.means * scaled).T)
        logs += np.log(self.weights)
        return logs

    def responsibilities(self, Z: Float) -> Float:
        """p(component | observed cells), (n, k); the weights for a row with none."""
        return _normalised(self.log_joint(Z))[0]

    def fill(self, Z: Float) -> Float:
        """Z (n, p) with its missing cells replaced by their posterior mean."""
        return np.where(np.isnan(Z), self.responsibilities(Z) @ self.means, Z)

    def log_likelihood(self, Z: Float) -> Float:
        """Log density of the observed cells of each row, (n,)."""
        filled, observed = np.nan_to_num(Z), (~np.isnan(Z)).astype(np.float64)
        shared = observed @ np.log(2 * np.pi * self.variance) + (filled * filled) @ (1 / self.variance)
        return _normalised(self._log_joint(filled, observed))[1] - 0.5 * shared


def fit_mixture(
    Z: Float,
    n_components: int,
    rng: np.random.Generator,
    *,
    n_steps: int,
    n_starts: int = 1,
    start: GaussianMixture | None = None,
) -> GaussianMixture:
    """The most likely of ``n_starts`` EM runs on standardised cells Z (n, p), NaN = missing.

    ``start`` continues an earlier fit instead. Cost: n_starts * n_steps * n * p * n_components.
    """
    filled, observed = np.nan_to_num(Z), (~np.isnan(Z)).astype(np.float64)
    best: tuple[float, GaussianMixture] | None = None
    for _ in range(1 if start else n_starts):
        model = start or GaussianMixture(
            rng.normal(0, 0.5, (n_components, Z.shape[1])), np.ones(Z.shape[1]),
            np.full(n_components, 1 / n_components),
        )
        total = -np.inf
        for _ in range(n_steps):
            shares, logs = _normalised(model._log_joint(filled, observed))
            total = float(logs.sum())
            model = maximise(filled, observed, shares)
        if best is None or total > best[0]:
            best = (total, model)
    assert best is not None
    return best[1]


def maximise(filled: Float, observed: Float, shares: Float, amount: Float | None = None) -> GaussianMixture:
    """M step: zero-filled cells (n, p), what is observed (n, p), component shares (n, k), weights of rows (n,)."""
    if amount is not None:
        shares = shares * amount[:, None]
        squares, n_observed = amount @ (filled * filled), amount @ observed
    else:
        squares, n_observed = np.einsum("ij,ij->j", filled, filled), np.ones(len(observed)) @ observed
    counts = shares.T @ observed
    means = (shares.T @ filled) / (counts + MEAN_PRIOR)
    residual = squares - (counts * means * means).sum(axis=0)
    variance = np.clip((residual + VARIANCE_PRIOR) / (n_observed + VARIANCE_PRIOR), *VARIANCE_RANGE)
    weights = shares.mean(axis=0) + 1e-6
    return GaussianMixture(means, variance, weights / weights.sum())


def _normalised(logs: Float) -> tuple[Float, Float]:
    """Softmax over components (n, k) and its log normaliser (n,)."""
    top = np.ascontiguousarray(logs.T).max(axis=0)  # several times faster than along the short axis
    shares = np.exp(logs - top[:, None])
    total = shares @ np.ones(shares.shape[1])
    shares /= total[:, None]
    return shares, np.log(total) + top
