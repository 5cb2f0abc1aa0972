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
N_THINNED = 4  # copies of each held-out row, thinned to what rows of the pool show
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
    def gappy(self) -> bool:
        """Whether any cell of the pool is missing."""
        return bool(np.isnan(self.pool.values).any())

    def thinned(self, table: Table, rng: np.random.Generator) -> Table:
        """The rows with cells hidden until each shows no more of them than a row drawn from the pool, those that it
        shows last."""
        observed = table.observed
        like = ~np.isnan(self.pool.values[rng.integers(0, len(self.pool), len(table))])
        preference = np.where(observed, like + rng.random(observed.shape), -1.0)
        rank = np.argsort(np.argsort(-preference, axis=1), axis=1)
        kept = observed & (rank < like.sum(axis=1, keepdims=True))
        return Table(np.where(kept, table.values, np.nan), table.schema)

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
    folds); the same rows say by which power the trees' votes are sharpened. Rows chosen for their labels show more
    cells than others do, so held-out rows are first thinned to what the pool's rows show. Neither looks at anything
    but X, y and the pool.

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
        row = np.tile(np.arange(n), N_THINNED if self.pool_map_.gappy else 1)
        shown = self.pool_map_.thinned(labelled.table.take(row), rng)
        features_shown, phi_shown, truth = self.pool_map_.features(shown), self.pool_map_.phi(shown), codes[row]
        votes, of_means = np.empty((len(row), n_classes)), np.empty((len(row), n_classes))
        fold = rng.permutation(n) % N_FOLDS
        for f in range(N_FOLDS):
            rest, held = fold != f, fold[row] == f
            forest = _grow(features[rest], codes[rest], TREES_A_FOLD, n_classes, rng)
            votes[held] = _open_minded(vote(features_shown[held], forest))
            scores, _ = sum_and_decode(self.pool_map_.learned, phi[rest], codes[rest], n_classes, None)
            of_means[held] = scores.sharpened(self.class_mean_.power_).probabilities(phi_shown[held])

        def loss(power: float, share: float) -> float:
            error = share * _sharpened(votes, power) + (1 - share) * of_means
            error[np.arange(len(row)), truth] -= 1
            return float((error * error).sum())

        self.forest_power_ = min(POWERS, key=lambda power: loss(power, 1.0))
        self.forest_share_ = min(SHARES, key=lambda share: loss(self.forest_power_, share))
        if self.forest_share_:
            self.forest_ = _grow(features, codes, N_TREES, n_classes, rng)

    def _probabilities(self, table: Table) -> Float:
        if self.pool_map_ is None:
            return self.class_mean_._probabilities(table)
        means = self.class_mean_.scores_.probabilities(self.pool_map_.phi(table))
        if self.forest_ is None:
            return means
        trees = _sharpened(_open_minded(vote(self.pool_map_.features(table), self.forest_)), self.forest_power_)
        return self.forest_share_ * trees + (1 - self.forest_share_) * means


def _grow(
    features: NDArray[np.float32], codes: NDArray[np.intp], n_trees: int, n_classes: int, rng: np.random.Generator
) -> Forest:
    """Trees on all rows, each node trying the root of the number of columns."""
    n_tried = max(1, int(np.sqrt(features.shape[1])))
    state = rng.integers(0, 2**63, size=1).astype(np.uint64)
    return grow(np.ascontiguousarray(features.T), codes, n_trees, n_classes, n_tried, state)


def _sharpened(P: Float, power: float) -> Float:
    """Probabilities (n, K) to this power, as probabilities."""
    raised = P**power
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _open_minded(votes: Float) -> Float:
    """Votes (n, K) -> probabilities, none of them 0; a row without votes gets equal ones."""
    total = votes.sum(axis=1, keepdims=True)
    shares = votes / np.maximum(total, 1e-12)
    return (1 - UNIFORM) * shares + (1 - (1 - UNIFORM) * shares.sum(axis=1, keepdims=True)) / votes.shape[1]
