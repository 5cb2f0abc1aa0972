"""Factor analysis of a table with missing cells, by EM over the observed cells alone.

    z = W f + e,   f ~ N(0, I_q),   e_j ~ N(0, psi_j);   a missing cell has no term in the likelihood.

Source: Rubin, Thayer 1982 (EM for factor analysis, doi:10.1007/BF02293851); missing cells as in
Little, Rubin, Statistical Analysis with Missing Data, section 11.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernels.posterior import posterior

Float = NDArray[np.float64]

LOADING_RIDGE = 2.0  # prior precision of a loading, in rows: a column seen a few times keeps a small loading
NOISE_PRIOR = 5.0  # prior rows with unit residual variance
NOISE_RANGE = (0.05, 2.0)  # of psi, for standardised columns
WIDEST_SPECTRAL = 400  # columns up to which the start is the pairwise covariance; its cost grows as the cube


@dataclass(frozen=True)
class FactorAnalysis:
    """loadings W (p, q) and noise variances psi (p,) of standardised columns."""

    loadings: Float
    noise: Float

    @property
    def n_factors(self) -> int:
        return self.loadings.shape[1]

    def scores(self, Z: Float) -> Float:
        """Posterior mean of the factors given the observed cells, (n, q); zero for a row with none."""
        return posterior(*self._natural(*_cells(Z)))[0]

    def fill(self, Z: Float) -> Float:
        """Z (n, p) with its missing cells replaced by their posterior mean."""
        return np.where(np.isnan(Z), self.scores(Z) @ self.loadings.T, Z)

    def log_likelihood(self, Z: Float) -> Float:
        """Log density of the observed cells of each row, (n,)."""
        filled, observed = _cells(Z)
        precision, b = self._natural(filled, observed)
        mean, _, log_determinant = posterior(precision, b)
        log_determinant += observed @ np.log(2 * np.pi * self.noise)
        return -0.5 * (log_determinant + (filled * filled) @ (1 / self.noise) - (b * mean).sum(axis=1))

    def _natural(self, filled: Float, observed: Float) -> tuple[Float, Float]:
        """Posterior precision of the factors, lower triangle (n, q (q + 1) / 2), and precision times mean (n, q)."""
        weighted = self.loadings / self.noise[:, None]
        i, j = np.tril_indices(self.n_factors)
        precision = observed @ (self.loadings[:, i] * weighted[:, j])
        precision[:, i == j] += 1.0
        return precision, filled @ weighted


def fit_factors(Z: Float, n_factors: int, *, n_steps: int, start: FactorAnalysis | None = None) -> FactorAnalysis:
    """EM on standardised cells Z (n, p), NaN = missing; ``start`` continues an earlier fit.

    Cost: n_steps * n * (p q^2 + q^3).
    """
    filled, observed = _cells(Z)
    model = start or _spectral_start(filled, observed, n_factors)
    counts, squares = observed.sum(axis=0), (filled * filled).sum(axis=0)
    i, j = np.tril_indices(model.n_factors)
    per_column = np.empty((Z.shape[1], model.n_factors, model.n_factors))
    for _ in range(n_steps):
        mean, second, _ = posterior(*model._natural(filled, observed))
        per_column[:, i, j] = per_column[:, j, i] = observed.T @ second
        cross = filled.T @ mean
        ridge = LOADING_RIDGE * np.eye(model.n_factors)
        loadings = np.linalg.solve(per_column + ridge, cross[:, :, None])[:, :, 0]
        quadratic = np.einsum("pi,pij,pj->p", loadings, per_column, loadings)
        residual = squares - 2 * (loadings * cross).sum(axis=1) + quadratic
        noise = np.clip((residual + NOISE_PRIOR) / (counts + NOISE_PRIOR), *NOISE_RANGE)
        model = FactorAnalysis(np.asarray(loadings, dtype=np.float64), noise)
    return model


def _cells(Z: Float) -> tuple[Float, Float]:
    """Cells with 0 for the missing ones, and 1 for each observed one: (n, p) both."""
    missing = np.isnan(Z)
    return np.where(missing, 0.0, Z), (~missing).astype(np.float64)


def _spectral_start(filled: Float, observed: Float, n_factors: int) -> FactorAnalysis:
    """Leading eigenvectors of the covariance over pairwise-observed cells (wide tables: of zero-filled cells)."""
    p = filled.shape[1]
    if p <= WIDEST_SPECTRAL:
        covariance = (filled.T @ filled) / np.maximum(observed.T @ observed, 20)
        np.fill_diagonal(covariance, 0)
        values, vectors = np.linalg.eigh(covariance)
        top, directions = values[::-1][:n_factors], vectors[:, ::-1][:, :n_factors]
    else:
        singular, right = np.linalg.svd(filled[:1000], full_matrices=False)[1:]
        top, directions = singular[:n_factors] ** 2 / len(filled[:1000]), right[:n_factors].T
    return FactorAnalysis(directions * np.sqrt(np.maximum(top, 0.05)), np.full(p, 0.8))
