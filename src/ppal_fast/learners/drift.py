"""Learning from quarter to quarter where the relation of cells and labels changes: old labels count for less.

Two forms on one label-free map: class means of decayed sums, privately as one stream of running sums; and logistic
regression whose weights are held near the old ones as far as old labels had determined them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from .. import _validate
from ..errors import InputError, PrivacyError
from ._base import NOT_PRIVATE
from .class_mean import decoded, outer
from .decoder import Design, Scores, simplex_basis
from .logistic import PRIVATE_ENERGY, prior_variance
from .representation import PoolMap

if TYPE_CHECKING:
    from ..privacy import Ledger

Float = NDArray[np.float64]

FORGOTTEN = 0.01  # weight from which a quarter's rows are dropped


class _OnMap:
    """A map of public rows, and the classes."""

    def __init__(self, pool_map: PoolMap, classes: Sequence[Any]) -> None:
        self.representation_ = pool_map.representation_
        self.classes_ = np.unique(np.asarray(classes))
        if len(self.classes_) < 2:
            raise InputError(f"classes was {list(classes)!r}; at least two are expected")

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each row, (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> Float:
        """Class probabilities (n, K), columns in the order of classes_."""
        return self._probabilities(self.representation_.transform(X))

    def _probabilities(self, phi: Float) -> Float:
        raise NotImplementedError

    def _read(self, X: Any, y: ArrayLike) -> tuple[Float, NDArray[np.intp]]:
        phi, labels = self.representation_.transform(X), np.asarray(y)
        if labels.shape != (len(phi),):
            raise InputError(f"y has shape {labels.shape}; ({len(phi)},), a label for each row of X, is expected")
        codes = np.minimum(np.searchsorted(self.classes_, labels), len(self.classes_) - 1)
        unknown = labels[self.classes_[codes] != labels]
        if len(unknown):
            first, known = unknown.tolist()[0], self.classes_.tolist()
            raise InputError(f"y has the label {first!r}, which is not among classes={known}")
        return phi, codes


class DecayedMeans(_OnMap):
    """Class means whose sums are multiplied by ``decay`` before each quarter's labels are added.

    Parameters
    ----------
    pool_map : what ``map_pool`` or ``learn_representation`` made of public rows.
    classes : all class labels, public.
    decay : above 0, at most 1 (nothing is forgotten).
    ledger, epsilon, horizon, name : with a ledger of unit label, the decayed sums leave as one stream that is charged
        once, with ``epsilon`` (None: all that remains); ``horizon`` as in ``Ledger.stream``. A row takes part in one
        quarter.

    Attributes: ``scores_`` after the first ``update``; ``privacy_``, one sentence that states what holds.
    """

    def __init__(
        self, pool_map: PoolMap, classes: Sequence[Any], *, decay: float = 0.7, ledger: Ledger | None = None,
        epsilon: float | None = None, horizon: int | None = None, name: str = "decayed-means",
    ) -> None:
        super().__init__(pool_map, classes)
        _validate.positive(decay=decay)
        if decay > 1:
            raise InputError(f"decay was {decay!r}; a number above 0 and at most 1 is expected")
        n_classes, n_dimensions = len(self.classes_), self.representation_.n_dimensions
        self.decay = float(decay)
        self.privacy_ = NOT_PRIVATE
        self._stream = None
        if ledger is not None:
            if ledger.unit != "label":
                raise PrivacyError(
                    f"the map was learned from raw rows, which unit {ledger.unit!r} protects; unit 'label' is expected"
                )
            clip = float(np.sqrt(1 - 1 / n_classes))
            self._stream = ledger.stream(
                (n_classes - 1) * n_dimensions, clip=clip, horizon=horizon, decay=self.decay,
                epsilon=ledger.remaining() if epsilon is None else epsilon, name=name,
            )
            self.privacy_ = (
                f"private: one stream of decayed sums, unit label, relation {ledger.relation}, delta={ledger.delta:g}; "
                "features, pool and the number of labelled rows are public"
            )
        self._phi, self._weight = np.empty((0, n_dimensions)), np.empty(0)
        self._total = np.zeros((n_classes - 1) * n_dimensions)
        self._n_quarters = 0

    def update(self, X: Any, y: ArrayLike, *, ids: Any = None) -> Self:
        """Take the labels y of a quarter's rows X (n, d); n = 0 is a quarter without labels.

        ids (n,), with a ledger: who the rows are, so that none takes part twice.
        """
        phi, codes = self._read(X, y)
        pull = np.ones(len(phi)) if self._stream is None else 1 / np.sqrt((phi * phi).sum(axis=1))
        rows = outer(simplex_basis(len(self.classes_))[codes], phi * pull[:, None])
        noise = 0.0
        if self._stream is None:
            self._total = self.decay * self._total + rows.sum(axis=0)
        else:
            if ids is None:
                raise InputError("ids was not given; with a ledger the identity of every row is expected")
            self._total = self._stream.release(rows, ids)
        self._n_quarters += 1
        if self._stream is not None:
            noise = float(self._stream.deviations(self._n_quarters)[-1])
        kept = self._weight * self.decay > FORGOTTEN
        self._phi = np.vstack([self._phi[kept], phi])
        self._weight = np.r_[self._weight[kept] * self.decay, pull]
        if len(self._phi):
            design = Design(self._phi, self._weight, self._weight**2)
            V = self._total.reshape(len(self.classes_) - 1, -1)
            self.scores_: Scores = decoded(V, design, noise, self.representation_)
        return self

    def _probabilities(self, phi: Float) -> Float:
        if not hasattr(self, "scores_"):
            return np.full((len(phi), len(self.classes_)), 1 / len(self.classes_))
        return self.scores_.probabilities(phi)


class ElasticLogistic(_OnMap):
    """Logistic regression by elastic weight consolidation; not private.

    Each quarter's weights are the most probable ones under a Gaussian around the old weights, whose precision is the
    diagonal of the Fisher information of all earlier quarters, multiplied by ``elasticity`` a quarter.
    Source: Kirkpatrick et al. 2017 (arXiv:1612.00796), eq. 3; the running precision of Schwarz et al. 2018
    (arXiv:1805.06370), section 3.2.

    elasticity : 1 holds on to everything, 0 to nothing but the last weights' place under the first prior.
    """

    def __init__(self, pool_map: PoolMap, classes: Sequence[Any], *, elasticity: float = 0.5) -> None:
        super().__init__(pool_map, classes)
        _validate.non_negative(elasticity=elasticity)
        self.elasticity = float(elasticity)
        self._basis = simplex_basis(len(self.classes_))
        self._floor = 1 / prior_variance(PRIVATE_ENERGY, self.representation_.block_energy)
        self._fisher = np.zeros((len(self.classes_) - 1, len(self._floor)))
        self.weights_ = np.zeros_like(self._fisher)
        self.privacy_ = NOT_PRIVATE

    def update(self, X: Any, y: ArrayLike) -> Self:
        """Take the labels y of a quarter's rows X (n, d)."""
        phi, codes = self._read(X, y)
        target, old = self._basis[codes], self.weights_
        scale = 1 / np.sqrt(self._fisher + self._floor)

        def objective(flat: Float) -> tuple[float, Float]:
            u = flat.reshape(old.shape)
            logs = log_softmax(phi @ (old + scale * u).T @ self._basis.T, axis=1)
            gradient = scale * ((np.exp(logs) @ self._basis - target).T @ phi) + u
            return 0.5 * float(flat @ flat) - float(logs[np.arange(len(codes)), codes].sum()), gradient.ravel()

        found: Float = minimize(
            objective, np.zeros(old.size), jac=True, method="L-BFGS-B", options={"maxiter": 200}
        ).x
        self.weights_ = old + scale * found.reshape(old.shape)
        P = self._probabilities(phi)
        variance = P @ self._basis**2 - (P @ self._basis) ** 2  # of each class coordinate, (n, K-1)
        self._fisher = self.elasticity * self._fisher + variance.T @ phi**2
        return self

    def _probabilities(self, phi: Float) -> Float:
        return softmax(phi @ self.weights_.T @ self._basis.T, axis=1)
