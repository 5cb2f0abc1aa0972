"""ClassMeanClassifier: one sum of mapped rows per class, and a decoder that knows how noisy it is.

The representation does the work: a label-free map phi into a few dimensions (representation.py), one private sum
V = sum (e_y - 1/K) phi' (the only thing that sees labels), and its decoding (decoder.py) as free post-processing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _validate
from ..table import Table
from ._base import NOT_PRIVATE, Labelled, Learner, privacy_sentence
from .decoder import Design, decode, simplex_basis
from .private_map import release_representation
from .representation import CONSTANT, KINDS, Representation, learn_representation

Float = NDArray[np.float64]

COUNT_WEIGHT = 0.15  # of the coordinate that counts labelled rows where their number is private


class ClassMeanClassifier(Learner):
    """The default learner, with or without privacy.

    Parameters
    ----------
    representation : "auto", "products", "factors", "mixture" or "columns": see ``learn_representation``.
        Where features are private "auto" chooses between products and factors from released coverages.
    Others as in ``Learner``.

    Under unit label the pool, the features and the number of labelled rows are public; the sum takes every row at full
    length, a_i = phi_i / |phi_i|, and the decoder uses the rows behind it. Sensitivity sqrt(1 - 1/K).

    Under unit record and owner the pool is released as noisy moments first (private_map.py) and the labelled sum with a
    coordinate that counts the rows; without X_pool the columns themselves are used, on their public ranges.

    Attributes
    ----------
    representation_ : the Representation used;  scores_ : weights (K, D) on phi;  privacy_ : what holds.

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
        pool, ledger = labelled.pool, labelled.ledger
        if not isinstance(pool, Representation):
            pool = self.map_pool(labelled.table if pool is None else pool)
        self.representation_ = pool
        phi = pool.transform(labelled.table)
        pull = np.ones(len(phi)) if ledger is None else 1 / np.sqrt((phi * phi).sum(axis=1))
        rows = _outer(simplex_basis(len(labelled.classes))[labelled.codes], phi * pull[:, None])
        noise = 0.0
        if ledger is None:
            total = rows.sum(axis=0)
            self.privacy_ = NOT_PRIVATE
        else:
            clip, sigma = np.sqrt(1 - 1 / len(labelled.classes)), 1 / labelled.mu
            total = ledger.release_sum(rows, clip=clip, sigma=sigma, name=f"{labelled.name}/labels")
            noise = sigma * sensitivity(ledger, clip)
            self.privacy_ = privacy_sentence(ledger, labelled.mu, 1)
        V = total.reshape(len(labelled.classes) - 1, -1)
        self.scores_ = decode(V, Design(phi, pull, pull * pull), noise, block_energy(pool.reference))

    def _fit_private_features(self, labelled: Labelled) -> None:
        ledger = labelled.ledger
        assert ledger is not None
        n_classes = len(labelled.classes)
        owners = labelled.owners if isinstance(labelled.owners, tuple) else (labelled.owners, None)
        self.representation_, mu, n_releases = release_representation(
            labelled, self.representation, owners[1], _validate.random_generator(self.random_state)
        )
        phi = self.representation_.transform(labelled.table)
        rows = np.column_stack([
            _outer(simplex_basis(n_classes)[labelled.codes], phi), np.full(len(phi), COUNT_WEIGHT),
        ])
        clip, sigma = np.sqrt(1 - 1 / n_classes + COUNT_WEIGHT**2), 1 / mu
        total = ledger.release_sum(rows, clip=clip, sigma=sigma, owners=owners[0], name=f"{labelled.name}/labels")
        noise = sigma * sensitivity(ledger, clip)
        reference = self.representation_.reference
        n_labelled = max(total[-1] / COUNT_WEIGHT, 2.0 * n_classes)
        share = np.full(len(reference), n_labelled / len(reference))
        V = total[:-1].reshape(n_classes - 1, -1)
        self.scores_ = decode(V, Design(reference, share, share), noise, block_energy(reference))
        self.privacy_ = privacy_sentence(ledger, labelled.mu, n_releases + 1)

    def _probabilities(self, table: Table) -> Float:
        return self.scores_.probabilities(self.representation_.transform(table))


def _outer(coordinates: Float, phi: Float) -> Float:
    """Row i: h_i (x) phi_i, flattened, (n, (K-1) D); its norm is the product of the norms."""
    return (coordinates[:, :, None] * phi[:, None, :]).reshape(len(phi), -1)


def block_energy(reference: Float) -> Float:
    """Mean square over the pool of the constant, and of all other coordinates together, (D,)."""
    constant = CONSTANT**2 / (1 + CONSTANT**2)
    others = max(float((reference[:, 1:] ** 2).sum(axis=1).mean()), 1e-9)
    return np.r_[constant, np.full(reference.shape[1] - 1, others)]


def sensitivity(ledger: Any, clip: float) -> float:
    """Sensitivity of a sum of vectors of norm at most ``clip`` under the ledger's relation."""
    return clip if ledger.relation == "zero-out" else 2 * clip
