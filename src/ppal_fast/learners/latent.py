"""Which hidden structure the pool has: factors or clusters, by the density of cells hidden from each model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .factor_analysis import FactorAnalysis, fit_factors
from .gaussian_mixture import GaussianMixture, fit_mixture

Float = NDArray[np.float64]
Model = TypeVar("Model", bound=FactorAnalysis | GaussianMixture)

FACTORS, COMPONENTS = (1, 2, 4, 8), (2, 6, 12, 24)
HIDDEN, FITTED = 0.15, 0.6  # shares of the cells hidden and of the rows fitted
ROWS_FOR_CHOICE = 4000
CLUSTERED = 0.4  # share of the factors' gain from which clusters are worth a block of their own


@dataclass(frozen=True)
class Latent:
    """Models fitted on a part of the pool, each with its gain: the mean log density of a held-out row's hidden cells
    given the others, over that of columns that have nothing to do with each other."""

    factors: list[tuple[float, FactorAnalysis]]
    mixtures: list[tuple[float, GaussianMixture]]

    @property
    def best(self) -> FactorAnalysis | GaussianMixture | None:
        fitted: list[tuple[float, FactorAnalysis | GaussianMixture]] = [*self.factors, *self.mixtures]
        return max(fitted, key=by_gain)[1] if fitted else None

    @property
    def factors_to_clusters(self) -> float:
        """How much more the factors tell about hidden cells than clusters do: the ratio of the best gains."""
        of_factors, of_clusters = (max(0.0, *map(by_gain, models)) for models in (self.factors, self.mixtures))
        return of_factors / max(of_clusters, 1e-12)

    @property
    def clustered(self) -> bool:
        """More than two clusters tell about hidden cells, and not much less than factors do."""
        if not self.mixtures:
            return False
        gain, clusters = max(self.mixtures, key=by_gain)
        return len(clusters.weights) > 2 and gain > 0 and CLUSTERED * self.factors_to_clusters < 1


def by_gain(fitted: tuple[float, Any]) -> float:
    return fitted[0]


def fit_latent(Z: Float, rng: np.random.Generator, *, with_factors: bool = True, with_mixtures: bool = True) -> Latent:
    """Factors and mixtures of several sizes on standardised cells Z (n, p), NaN = missing."""
    chosen = rng.permutation(len(Z))[:ROWS_FOR_CHOICE]
    n_fitted = int(FITTED * len(chosen))
    hidden = np.where(rng.random((len(chosen), Z.shape[1])) < HIDDEN, np.nan, Z[chosen])
    fitted, held, held_all = hidden[:n_fitted], hidden[n_fitted:], Z[chosen[n_fitted:]]
    cells = held_all[np.isnan(held) & ~np.isnan(held_all)]
    independent = -0.5 * float((cells**2 + np.log(2 * np.pi)).sum()) / max(len(held), 1)

    def gain(model: FactorAnalysis | GaussianMixture) -> float:
        return float((model.log_likelihood(held_all) - model.log_likelihood(held)).mean()) - independent

    factors = [fit_factors(fitted, q, n_steps=12) for q in FACTORS if q < Z.shape[1] and with_factors]
    mixtures = [
        fit_mixture(fitted, k, rng, n_steps=25, n_starts=3 if k == 2 else 1)
        for k in COMPONENTS if 5 * k <= n_fitted and with_mixtures
    ]
    return Latent([(gain(model), model) for model in factors], [(gain(model), model) for model in mixtures])


def refined(Z: Float, model: Model, rng: np.random.Generator) -> Model:
    """Ten more steps of EM, on all rows."""
    if isinstance(model, FactorAnalysis):
        return cast(Model, fit_factors(Z, model.n_factors, n_steps=10, start=model))
    return cast(Model, fit_mixture(Z, len(model.weights), rng, n_steps=10, start=model))
