"""ClassMeanClassifier: one sum of mapped rows per class, and a decoder that knows how noisy it is.

The representation does the work: a label-free map phi into a few dimensions (representation.py), one private sum
V = sum (e_y - 1/K) phi' (the only thing that sees labels), and its decoding (decoder.py) as free post-processing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from .. import _validate
from ..table import Table
from ._base import NOT_PRIVATE, Codes, Labelled, Learner
from .decoder import Design, Scores, decode, simplex_basis
from .private_map import release_representation
from .purse import Purse
from .representation import KINDS, PoolMap, Representation, learn_representation

Float = NDArray[np.float64]

COUNT_WEIGHT = 0.15  # of the coordinate that counts labelled rows where their number is private
N_FOLDS, FEWEST_HELD_OUT = 5, 50  # of labelled rows: fewer say too little of how sharp the probabilities should be
POWER_DEVIATION = 0.35  # of the logarithm of that power, expected beforehand


class ClassMeanClassifier(Learner):
    """The default learner, with or without privacy.

    Parameters
    ----------
    representation : "auto", "products", "factors", "mixture", "both", "trees" or "columns": see
        ``learn_representation``.
        Where features are private "auto" chooses between products and factors from released coverages.
    Others as in ``Learner``.

    Under unit label the pool, the features and the number of labelled rows are public; the sum takes every row at full
    length, a_i = phi_i / |phi_i|, and the decoder uses the rows behind it. Sensitivity sqrt(1 - 1/K), under replace-one
    sqrt 2.

    Under unit record and owner the pool is released as noisy moments first (private_map.py) and the labelled sum with a
    coordinate that counts the rows; without X_pool the columns themselves are used, on their public ranges.

    Attributes
    ----------
    representation_ : the Representation used;  scores_ : weights (K, D) on phi;  privacy_ : what holds.
    power_ : to which class probabilities were raised, by cross-validation; 1 for two classes and with a ledger.

    ``learner.fit(X, y, X_pool=learner.map_pool(pool))``: the map depends on the pool alone, so a loop learns it once.
    """

    def __init__(
        self,
        representation: str = "auto",
        *,
        categorical_features: Sequence[int | str] | None = None,
        bounds: ArrayLike | None = None,
        classes: Sequence[Any] | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            categorical_features=categorical_features, bounds=bounds, classes=classes, random_state=random_state
        )
        self.representation = representation

    def map_pool(self, X_pool: Any) -> Representation:
        """The label-free map of a pool of public rows, for ``fit(..., X_pool=...)``: learn it once, fit every round."""
        return learn_representation(
            X_pool, self.representation, categorical_features=self.categorical_features, random_state=self.random_state
        )

    def _fit(self, labelled: Labelled) -> None:
        _validate.one_of(KINDS, representation=self.representation)
        if labelled.features_public:
            self._fit_public_features(labelled)
        else:
            self._fit_private_features(labelled)

    def _fit_public_features(self, labelled: Labelled) -> None:
        pool, purse = labelled.pool, labelled.purse
        if isinstance(pool, PoolMap):
            self.representation_ = pool.representation_
        else:
            self.representation_ = self.map_pool(labelled.table if pool is None else pool)
        phi = self.representation_.transform(labelled.table)
        self.scores_, self.privacy_ = sum_and_decode(
            self.representation_, phi, labelled.codes, len(labelled.classes), purse
        )
        self.power_ = 1.0
        if purse is None:
            rng = np.random.default_rng(int(_validate.random_generator(self.random_state).integers(2**31)))
            self.power_ = held_out_power(self.representation_, phi, labelled.codes, len(labelled.classes), rng)
            self.scores_ = self.scores_.sharpened(self.power_)

    def _fit_private_features(self, labelled: Labelled) -> None:
        purse = labelled.purse
        assert purse is not None
        n_classes, self.power_ = len(labelled.classes), 1.0
        rng = _validate.random_generator(self.random_state)
        self.representation_ = release_representation(labelled, self.representation, rng)
        phi = self.representation_.transform(labelled.table)
        rows = np.column_stack([
            outer(simplex_basis(n_classes)[labelled.codes], phi), np.full(len(phi), COUNT_WEIGHT),
        ])
        clip = np.sqrt(1 - 1 / n_classes + COUNT_WEIGHT**2)
        total, noise = purse.release_sum(rows, clip=clip, owners=labelled.owners, name="labels")
        reference = self.representation_.reference
        n_labelled = max(total[-1] / COUNT_WEIGHT, 2.0 * n_classes)
        share = np.full(len(reference), n_labelled / len(reference))
        V = total[:-1].reshape(n_classes - 1, -1)
        self.scores_ = decoded(V, Design(reference, share, share), noise, self.representation_)
        self.privacy_ = purse.sentence()

    def _probabilities(self, table: Table) -> Float:
        return self.scores_.probabilities(self.representation_.transform(table))


def sum_and_decode(
    representation: Representation, phi: Float, codes: Codes, n_classes: int, purse: Purse | None
) -> tuple[Scores, str]:
    """The one sum over rows with public features, its decoding, and the sentence on what was spent for it."""
    pull = np.ones(len(phi)) if purse is None else 1 / np.sqrt((phi * phi).sum(axis=1))
    rows, basis = phi * pull[:, None], simplex_basis(n_classes)
    if purse is None:
        V, noise, privacy = basis[codes].T @ rows, 0.0, NOT_PRIVATE
    else:
        V, noise = purse.release_label_sum(rows, basis, codes, name="labels")
        privacy = purse.sentence()
    return decoded(V, Design(phi, pull, pull * pull), noise, representation), privacy


def held_out_power(
    representation: Representation, phi: Float, codes: Codes, n_classes: int, rng: np.random.Generator
) -> float:
    """The power of the probabilities of three or more classes with the least log-loss on held-out rows; no privacy.

    The search shrinks the logits of all directions alike, which leaves many classes timid; two are near enough.
    Source: Guo, Pleiss, Sun, Weinberger 2017 (temperature scaling), by cross-validation and with a prior around 1.
    """
    if len(codes) < FEWEST_HELD_OUT or n_classes == 2:
        return 1.0
    fold, logits = rng.permutation(len(codes)) % N_FOLDS, np.empty((len(codes), n_classes))
    for f in range(N_FOLDS):
        rest, held = fold != f, fold == f
        scores, _ = sum_and_decode(representation, phi[rest], codes[rest], n_classes, None)
        logits[held] = phi[held] @ scores.weights.T

    def loss(log_power: float) -> float:
        log_probability = log_softmax(np.exp(log_power) * logits, axis=1)[np.arange(len(codes)), codes]
        return float(0.5 * (log_power / POWER_DEVIATION) ** 2 - log_probability.sum())

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded", options={"xatol": 0.01}).x))


def decoded(V: Float, design: Design, noise: float, representation: Representation) -> Scores:
    """``decode`` with the prior of the map."""
    return decode(V, design, noise, representation.prior)


def outer(coordinates: Float, phi: Float) -> Float:
    """Row i: h_i (x) phi_i, flattened, (n, (K-1) D); its norm is the product of the norms."""
    return (coordinates[:, :, None] * phi[:, None, :]).reshape(len(phi), coordinates.shape[1] * phi.shape[1])
