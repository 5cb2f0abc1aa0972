"""MixtureClassifier: semi-supervised EM, one Gaussian per class, over the observed cells of labelled and other rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.model_selection import KFold

from .. import _validate
from ..errors import PrivacyError
from ..table import Table
from ._base import NOT_PRIVATE, Codes, Labelled, Learner
from .cells import learn_cells
from .gaussian_mixture import GaussianMixture, maximise

Float = NDArray[np.float64]

POOL_WEIGHTS = (0.0, 0.1, 1.0)  # of an unlabelled row beside a labelled one; chosen by cross-validation
N_STEPS, N_STEPS_IN_CHOICE = 20, 8
POOL_ROWS_IN_CHOICE = 2000
N_FOLDS = 4


class MixtureClassifier(Learner):
    """Naive Bayes with one shared variance per column, sharpened by the unlabelled pool (EM).

    Strong where classes are clusters (class_shift: close to the ceiling from 60 labels), weak where they are not.
    There is no private form: with a ledger ``fit`` refuses and names ClassMeanClassifier.

    Attributes: ``mixture_`` with one component per class;  ``pool_weight_`` as cross-validated (Nigam et al. 2000).
    """

    def _fit(self, labelled: Labelled) -> None:
        if labelled.purse is not None:
            raise PrivacyError("MixtureClassifier has no private form; use ClassMeanClassifier with this ledger")
        table, n_classes = labelled.table, len(labelled.classes)
        pool = labelled.pool_rows()
        self.cells_ = learn_cells(pool, detect=self.categorical_features is None)
        Z = self.cells_(table.values)
        unlabelled = np.empty((0, Z.shape[1])) if labelled.pool is None else self.cells_(pool.values)
        rng = _validate.random_generator(self.random_state)
        self.pool_weight_ = self._choose_weight(Z, labelled.codes, n_classes, unlabelled, rng)
        self.mixture_ = _fit_classes(Z, labelled.codes, n_classes, unlabelled, self.pool_weight_, N_STEPS)
        self.privacy_ = NOT_PRIVATE

    def _choose_weight(
        self, Z: Float, codes: Codes, n_classes: int, unlabelled: Float, rng: np.random.Generator
    ) -> float:
        if not len(unlabelled):
            return 0.0
        if len(Z) < 2 * N_FOLDS:
            return 1.0
        some = unlabelled[rng.permutation(len(unlabelled))[:POOL_ROWS_IN_CHOICE]]
        folds = list(KFold(N_FOLDS, shuffle=True, random_state=int(rng.integers(2**31))).split(Z))

        def loss(weight: float) -> float:
            total = 0.0
            for train, test in folds:
                model = _fit_classes(Z[train], codes[train], n_classes, some, weight, N_STEPS_IN_CHOICE)
                share = softmax(model.log_joint(Z[test]), axis=1)[np.arange(len(test)), codes[test]]
                total -= float(np.log(np.maximum(share, 1e-4)).sum())
            return total

        return min(POOL_WEIGHTS, key=loss)

    def _probabilities(self, table: Table) -> Float:
        return softmax(self.mixture_.log_joint(self.cells_(table.values)), axis=1)


def _fit_classes(
    Z: Float, codes: Codes, n_classes: int, unlabelled: Float, weight: float, n_steps: int
) -> GaussianMixture:
    """EM with the labelled rows' components fixed and the others' weighted by ``weight``."""
    fixed = np.eye(n_classes)[codes]
    filled, observed = np.nan_to_num(Z), (~np.isnan(Z)).astype(np.float64)
    model = maximise(filled, observed, fixed)
    if not weight or not len(unlabelled):
        return model
    both = np.vstack([filled, np.nan_to_num(unlabelled)])
    seen = np.vstack([observed, (~np.isnan(unlabelled)).astype(np.float64)])
    amount = np.r_[np.ones(len(Z)), np.full(len(unlabelled), weight)]
    for _ in range(n_steps):
        shares = np.vstack([fixed, model.responsibilities(unlabelled)])
        model = maximise(both, seen, shares, amount)
    return model
