"""LogisticClassifier: multinomial logistic regression on the mapped rows; privately by clipped gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.model_selection import KFold

from .. import _validate
from ..errors import InputError
from ..table import Table
from ._base import NOT_PRIVATE, Codes, Labelled, Learner
from .class_mean import COUNT_WEIGHT, outer
from .decoder import simplex_basis
from .private_map import release_representation
from .purse import Purse
from .representation import KINDS, PoolMap, Representation, learn_representation

Float = NDArray[np.float64]

ENERGIES = (0.03, 0.1, 0.3, 1.0, 3.0)  # prior variance of the logits over the pool, in units of LOGIT_SCALE^2
LOGIT_SCALE = 4.0  # d logit / d probability at 1/2
CONSTANT_ENERGY = 0.1  # the same for the constant coordinate
PRIVATE_ENERGY = 0.3
N_FOLDS = 5
STEP = 0.7  # of a Newton step with the curvature p (1 - p) = CURVATURE everywhere
CURVATURE = 0.2


class LogisticClassifier(Learner):
    """Multinomial logistic regression on a label-free map of the rows.

    Parameters
    ----------
    representation : as for ClassMeanClassifier.
    n_steps : gradient steps under privacy, each one release.
    sampling_rate : below 1, with a ledger of unit record or owner: chance of each record (owner) to be drawn in a step,
        as in DP-SGD. Needs the extra [accounting] and a ledger with delta_aside. At equal privacy its steps are a
        little noisier than those over all records: it is there to be compared.
    Others as in ``Learner``.

    Without a ledger: a Gaussian prior on the weights, its scale by cross-validated log-loss. With one: ``n_steps`` sums
    of gradients (p - e_y) (x) phi, each clipped to norm 1, with equal shares of mu^2 and public step sizes; the average
    of the later half is kept. At a few hundred labels ClassMeanClassifier needs one sum where this needs n_steps.

    Attributes: ``representation_``, ``weights_`` (K, D), ``privacy_``.
    """

    def __init__(
        self,
        representation: str = "auto",
        n_steps: int = 6,
        *,
        sampling_rate: float = 1.0,
        categorical_features: Sequence[int | str] | None = None,
        bounds: ArrayLike | None = None,
        classes: Sequence[Any] | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            categorical_features=categorical_features, bounds=bounds, classes=classes, random_state=random_state
        )
        self.representation = representation
        self.n_steps = n_steps
        self.sampling_rate = sampling_rate

    def map_pool(self, X_pool: Any) -> Representation:
        """The label-free map of a pool of public rows, for ``fit(..., X_pool=...)``: learn it once, fit every round."""
        return learn_representation(
            X_pool, self.representation, categorical_features=self.categorical_features, random_state=self.random_state
        )

    def _fit(self, labelled: Labelled) -> None:
        _validate.one_of(KINDS, representation=self.representation)
        _validate.integer(1, n_steps=self.n_steps)
        if self.sampling_rate != 1.0:
            _validate.fraction(sampling_rate=self.sampling_rate)
            if labelled.features_public:
                raise InputError(
                    f"sampling_rate was {self.sampling_rate!r}; 1 is expected without a ledger and under unit 'label'"
                )
        rng = _validate.random_generator(self.random_state)
        if not labelled.features_public:
            self.representation_ = release_representation(labelled, self.representation, rng)
        elif isinstance(labelled.pool, PoolMap):
            self.representation_ = labelled.pool.representation_
        else:
            self.representation_ = self.map_pool(labelled.table if labelled.pool is None else labelled.pool)
        phi = self.representation_.transform(labelled.table)
        energy = self.representation_.block_energy
        if labelled.purse is None:
            weights = _cross_validated(phi, labelled.codes, len(labelled.classes), energy, rng)
            self.privacy_ = NOT_PRIVATE
        else:
            weights = self._descend(labelled, phi, energy)
            self.privacy_ = labelled.purse.sentence()
        self.weights_ = simplex_basis(len(labelled.classes)) @ weights

    def _descend(self, labelled: Labelled, phi: Float, energy: Float) -> Float:
        """Noisy gradient descent; (K-1, D) weights in the coordinates of the centred simplex."""
        purse, n_classes = labelled.purse, len(labelled.classes)
        assert purse is not None
        basis = simplex_basis(n_classes)
        clip = float(np.sqrt(1 + COUNT_WEIGHT**2))
        release = self._release(purse, basis.shape[1] * phi.shape[1] + 1, clip, labelled.owners)
        weights = np.zeros((n_classes - 1, phi.shape[1]))
        later, counted = [], 0.0
        curvature = CURVATURE * energy / np.r_[1, np.full(phi.shape[1] - 1, max(phi.shape[1] - 1, 1))]
        for t in range(self.n_steps):
            residual = (softmax(phi @ weights.T @ basis.T, axis=1) - np.eye(n_classes)[labelled.codes]) @ basis
            total = release(np.column_stack([outer(residual, phi), np.full(len(phi), COUNT_WEIGHT)]), t + 1)
            counted += total[-1] / COUNT_WEIGHT
            n = len(phi) if labelled.features_public else max(counted / (t + 1), 2.0 * n_classes)
            decay = 1 / (n * prior_variance(PRIVATE_ENERGY, energy))
            gradient = total[:-1].reshape(weights.shape) / n + decay * weights
            weights = weights - STEP * gradient / (curvature + decay)
            if t >= self.n_steps // 2:
                later.append(weights)
        return np.mean(later, axis=0)

    def _release(self, purse: Purse, d: int, clip: float, owners: Any) -> Callable[[Float, int], Float]:
        """What turns the gradients (n, d) of step 1, 2, ... into an estimate of their sum."""
        if self.sampling_rate < 1:
            steps = purse.subsampled_sums(d, clip=clip, rate=self.sampling_rate, n_steps=self.n_steps, name="steps")
            return lambda rows, _: steps.release(rows, owners=owners) / self.sampling_rate
        share = purse.units_left / purse.units / self.n_steps
        return lambda rows, step: purse.release_sum(rows, clip=clip, share=share, owners=owners, name=f"step-{step}")[0]

    def _probabilities(self, table: Table) -> Float:
        return softmax(self.representation_.transform(table) @ self.weights_.T, axis=1)


def prior_variance(level: float, energy: Float) -> Float:
    """Prior variance of each weight (D,)."""
    return LOGIT_SCALE**2 * np.r_[CONSTANT_ENERGY, np.full(len(energy) - 1, level)] / energy


def _cross_validated(phi: Float, codes: Codes, n_classes: int, energy: Float, rng: np.random.Generator) -> Float:
    """Weights (K-1, D) at the prior scale with the least log-loss on held-out rows."""
    if len(phi) < 2 * N_FOLDS:
        return _maximum_a_posteriori(phi, codes, n_classes, prior_variance(PRIVATE_ENERGY, energy))
    folds = list(KFold(N_FOLDS, shuffle=True, random_state=int(rng.integers(2**31))).split(phi))

    def loss(level: float) -> float:
        total = 0.0
        for train, test in folds:
            weights = _maximum_a_posteriori(phi[train], codes[train], n_classes, prior_variance(level, energy))
            logs = log_softmax(phi[test] @ weights.T @ simplex_basis(n_classes).T, axis=1)
            total -= float(logs[np.arange(len(test)), codes[test]].sum())
        return total

    return _maximum_a_posteriori(phi, codes, n_classes, prior_variance(min(ENERGIES, key=loss), energy))


def _maximum_a_posteriori(phi: Float, codes: Codes, n_classes: int, prior: Float) -> Float:
    """L-BFGS on weights scaled by their prior deviation, (K-1, D)."""
    basis = simplex_basis(n_classes)
    scaled = phi * np.sqrt(prior)
    target = basis[codes]

    def objective(flat: Float) -> tuple[float, Float]:
        w = flat.reshape(n_classes - 1, -1)
        logs = log_softmax(scaled @ w.T @ basis.T, axis=1)
        gradient = (np.exp(logs) @ basis - target).T @ scaled + w
        return 0.5 * float(flat @ flat) - float(logs[np.arange(len(codes)), codes].sum()), gradient.ravel()

    start = np.zeros((n_classes - 1) * phi.shape[1])
    found: Float = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return found.reshape(n_classes - 1, -1) * np.sqrt(prior)
