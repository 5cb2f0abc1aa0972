"""AutoClassifier: the learner behind "auto". With a ledger the class means; without one, those or a forest."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import KFold

from .. import _validate
from ..table import Table
from ._base import Codes, Labelled, Learner
from .class_mean import ClassMeanClassifier, sum_and_decode
from .factor_analysis import FactorAnalysis
from .gaussian_mixture import GaussianMixture
from .representation import FEWEST_ROWS, PoolMap, Representation, best_latent, learn_representation

Float = NDArray[np.float64]

N_TREES = 100
N_FOLDS = 5
SHARES = (0.0, 0.5, 1.0)  # of the forest in the class probabilities
UNIFORM = 0.03  # of a forest's vote, spread evenly: no class is impossible
FEWEST_LABELS = 20  # below, the choice is not worth its labels: the class means


@dataclass(frozen=True)
class FilledPool(PoolMap):
    """The map for the class means, and a model that fills missing cells for the forest."""

    learned: Representation
    fill: FactorAnalysis | GaussianMixture | None

    @property
    def representation_(self) -> Representation:
        return self.learned

    def features(self, table: Table) -> Float:
        """Filled cells beside phi, (n, p + D): nothing is missing."""
        Z = self.learned.cells(table.values)
        filled = np.nan_to_num(Z) if self.fill is None else self.fill.fill(Z)
        return np.column_stack([filled, self.learned.transform(table)])


class AutoClassifier(Learner):
    """What ``learner="auto"`` means.

    With a ledger: ClassMeanClassifier. Without one: its class probabilities, those of extremely randomised trees on
    filled cells and phi, or their mean, whichever has the least log-loss on held-out labelled rows (5 folds for the
    class means, out-of-bag rows for the trees). Neither looks at anything but X, y and the pool.

    Attributes: ``class_mean_``, ``representation_``, ``forest_`` (None where it has no part), ``forest_share_``,
    ``privacy_``.
    """

    def map_pool(self, X_pool: Any) -> FilledPool:
        """The label-free part of the fit, for ``fit(..., X_pool=...)``: learn it once, fit every round."""
        representation = learn_representation(
            X_pool, categorical_features=self.categorical_features, random_state=self.random_state
        )
        Z = representation.cells(Table.of(X_pool, schema=representation.schema).values)
        fill = None
        if len(Z) >= FEWEST_ROWS and np.isnan(Z).any():
            fill, _ = best_latent(Z, _validate.random_generator(self.random_state))
        return FilledPool(representation.schema, representation, fill)

    def _fit(self, labelled: Labelled) -> None:
        self.class_mean_ = ClassMeanClassifier(**self.get_params())
        self.forest_, self.forest_share_ = None, 0.0
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
        seed = int(_validate.random_generator(self.random_state).integers(2**31))
        features = self.pool_map_.features(labelled.table)
        forest = ExtraTreesClassifier(N_TREES, bootstrap=True, oob_score=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a row that no tree left out: its share is NaN, handled below
            forest.fit(features, codes)
        of_forest = _all_classes(np.nan_to_num(forest.oob_decision_function_), forest.classes_, n_classes)
        of_means = np.empty_like(of_forest)
        representation = self.pool_map_.learned
        phi = representation.transform(labelled.table)
        for train, test in KFold(N_FOLDS, shuffle=True, random_state=seed).split(phi):
            scores, _ = sum_and_decode(representation, phi[train], codes[train], n_classes, None)
            of_means[test] = scores.probabilities(phi[test])

        def loss(share: float) -> float:
            mixed = share * of_forest + (1 - share) * of_means
            return -float(np.log(np.maximum(mixed[np.arange(len(codes)), codes], 1e-6)).sum())

        self.forest_share_ = min(SHARES, key=loss)
        if self.forest_share_:
            self.forest_ = ExtraTreesClassifier(N_TREES, random_state=seed).fit(features, codes)

    def _probabilities(self, table: Table) -> Float:
        means = self.class_mean_._probabilities(table)
        if self.forest_ is None:
            return means
        assert self.pool_map_ is not None
        trees = self.forest_.predict_proba(self.pool_map_.features(table))
        trees = _all_classes(trees, self.forest_.classes_, means.shape[1])
        return self.forest_share_ * trees + (1 - self.forest_share_) * means


def _all_classes(shares: Float, seen: Codes, n_classes: int) -> Float:
    """Votes on the classes seen -> probabilities of all classes, none of them 0."""
    whole = np.zeros((len(shares), n_classes))
    whole[:, seen] = shares
    return (1 - UNIFORM) * whole + (1 - (1 - UNIFORM) * whole.sum(axis=1, keepdims=True)) / n_classes
