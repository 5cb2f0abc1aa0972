"""AutoClassifier: the learner behind "auto". With a ledger the class means; without one, those or a forest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..kernels.trees import Forest, grow, vote
from ..table import Table
from ._base import Labelled, Learner
from .class_mean import ClassMeanClassifier, sum_and_decode
from .factor_analysis import FactorAnalysis
from .gaussian_mixture import GaussianMixture
from .latent import fit_latent, refined
from .representation import (
    FEWEST_ROWS,
    ClustersAndFactors,
    FactorScores,
    PoolMap,
    Representation,
    learn_representation,
)

Float = NDArray[np.float64]

N_TREES = 100
N_FOLDS, TREES_A_FOLD = 5, 40
POWERS = (1.0, 1.5, 2.0, 3.0)  # of the forest's votes: a mean of many trees is timid beside the class means
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the forest in the class probabilities
UNIFORM = 0.03  # of a forest's vote, spread evenly: no class is impossible
FEWEST_LABELS = 20  # below, the choice is not worth its labels: the class means


@dataclass(frozen=True)
class FilledPool(PoolMap):
    """The map for the class means and, once a forest wants them, the pool's cells with none missing."""

    learned: Representation
    pool: Table = field(repr=False)
    seed: Any

    @property
    def representation_(self) -> Representation:
        return self.learned

    @cached_property
    def fill(self) -> FactorAnalysis | GaussianMixture | None:
        """The model that fills missing cells: the map's own factors, or else the better of factors and clusters; None
        where none is missing."""
        Z = self.learned.cells(self.pool.values)
        if len(Z) < FEWEST_ROWS or not np.isnan(Z).any():
            return None
        encoder = self.learned.encoder
        if isinstance(encoder, ClustersAndFactors):
            return encoder.factors.model
        if isinstance(encoder, FactorScores):
            return encoder.model
        rng = _validate.random_generator(self.seed)
        best = fit_latent(Z, rng).best
        return None if best is None else refined(Z, best, rng)

    def phi(self, table: Table) -> Float:
        """Rows in the map, (n, D); those of the pool itself are known."""
        return self.learned.reference if table.values is self.pool.values else self.learned.transform(table)

    def features(self, table: Table) -> NDArray[np.float32]:
        """Filled cells beside the last block of phi: nothing is missing."""
        return self._of_pool if table.values is self.pool.values else self._features(table)

    @cached_property
    def _of_pool(self) -> NDArray[np.float32]:
        return self._features(self.pool)

    def _features(self, table: Table) -> NDArray[np.float32]:
        Z = self.learned.cells(table.values)
        filled = np.nan_to_num(Z) if self.fill is None else self.fill.fill(Z)
        blocks = self.learned.whitening.blocks
        last = blocks == blocks.max()  # shares of clusters beside factors would only hide the cells from the trees
        return np.column_stack([filled, self.phi(table)[:, last]]).astype(np.float32)


class AutoClassifier(Learner):
    """What ``learner="auto"`` means.

    With a ledger: ClassMeanClassifier. Without one: its class probabilities, those of extremely randomised trees on
    filled cells and phi, or a mean of the two, whichever has the least squared error on held-out labelled rows (five
    folds); the same rows say by which power the trees' votes are sharpened. Neither looks at anything but X, y and the
    pool.

    Attributes: ``class_mean_``, ``representation_``, ``forest_`` (None where it has no part), ``forest_share_``,
    ``forest_power_``, ``privacy_``.
    """

    def map_pool(self, X_pool: Any) -> FilledPool:
        """The label-free part of the fit, for ``fit(..., X_pool=...)``: learn it once, fit every round."""
        representation = learn_representation(
            X_pool, categorical_features=self.categorical_features, random_state=self.random_state
        )
        pool = Table.of(X_pool, schema=representation.schema)
        return FilledPool(representation.schema, representation, pool, self.random_state)

    def _fit(self, labelled: Labelled) -> None:
        self.class_mean_ = ClassMeanClassifier(**self.get_params())
        self.forest_: Forest | None = None
        self.forest_share_, self.forest_power_ = 0.0, 1.0
        pool = labelled.pool
        if labelled.purse is None and not isinstance(pool, FilledPool):
            pool = self.map_pool(labelled.table if pool is None else pool)
        self.pool_map_ = pool if isinstance(pool, FilledPool) else None
        representation = pool.learned if isinstance(pool, FilledPool) else pool
        self.class_mean_._fit(replace(labelled, pool=representation))
        self.representation_ = self.class_mean_.representation_
        self.privacy_ = self.class_mean_.privacy_
        if labelled.purse is None and len(labelled.table) >= FEWEST_LABELS:
            self._weigh_forest(labelled)

    def _weigh_forest(self, labelled: Labelled) -> None:
        assert self.pool_map_ is not None
        codes, n_classes = labelled.codes, len(labelled.classes)
        rng = np.random.default_rng(int(_validate.random_generator(self.random_state).integers(2**31)))
        features, phi = self.pool_map_.features(labelled.table), self.pool_map_.phi(labelled.table)
        n = len(codes)
        kept = rng.permutation(n) % N_FOLDS != np.arange(N_FOLDS)[:, None]
        votes = _open_minded(_grow(features, codes, np.repeat(kept, TREES_A_FOLD, axis=0), n_classes, rng)[1])
        of_means = np.empty_like(votes)
        for rows in kept:
            scores, _ = sum_and_decode(self.pool_map_.learned, phi[rows], codes[rows], n_classes, None)
            of_means[~rows] = scores.probabilities(phi[~rows])

        def loss(power: float, share: float) -> float:
            error = share * _sharpened(votes, power) + (1 - share) * of_means
            error[np.arange(n), codes] -= 1
            return float((error * error).sum())

        self.forest_power_ = min(POWERS, key=lambda power: loss(power, 1.0))
        self.forest_share_ = min(SHARES, key=lambda share: loss(self.forest_power_, share))
        if self.forest_share_:
            self.forest_, _ = _grow(features, codes, np.ones((N_TREES, n), dtype=bool), n_classes, rng)

    def _probabilities(self, table: Table) -> Float:
        if self.pool_map_ is None:
            return self.class_mean_._probabilities(table)
        means = self.class_mean_.scores_.probabilities(self.pool_map_.phi(table))
        if self.forest_ is None:
            return means
        trees = _sharpened(_open_minded(vote(self.pool_map_.features(table), self.forest_)), self.forest_power_)
        return self.forest_share_ * trees + (1 - self.forest_share_) * means


def _grow(
    features: NDArray[np.float32], codes: NDArray[np.intp], kept: NDArray[np.bool_], n_classes: int,
    rng: np.random.Generator,
) -> tuple[Forest, Float]:
    """A tree for each row of ``kept`` (T, n), grown on the rows kept, trying the root of the number of columns at each
    node; and the votes (n, K) of the trees without the row."""
    n_tried = max(1, int(np.sqrt(features.shape[1])))
    state = rng.integers(0, 2**63, size=1).astype(np.uint64)
    return grow(np.ascontiguousarray(features.T), codes, kept.astype(np.float32), n_classes, n_tried, state)


def _sharpened(P: Float, power: float) -> Float:
    """Probabilities (n, K) to this power, as probabilities."""
    raised = P**power
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _open_minded(votes: Float) -> Float:
    """Votes (n, K) -> probabilities, none of them 0; a row without votes gets equal ones."""
    total = votes.sum(axis=1, keepdims=True)
    shares = votes / np.maximum(total, 1e-12)
    return (1 - UNIFORM) * shares + (1 - (1 - UNIFORM) * shares.sum(axis=1, keepdims=True)) / votes.shape[1]
