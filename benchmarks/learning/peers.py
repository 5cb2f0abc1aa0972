"""Other people's learners and rules on the same pools; they refuse missing cells, which are filled with zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppal_fast import query

N_TREES = 100


@dataclass(frozen=True)
class Peer:
    learner: Callable[[int], Any]
    strategy: Callable[[int], Callable[[query.Context], NDArray[np.intp]]]
    package: str


class ZeroFilled:
    """A scikit-learn classifier on standardised columns with 0 for a missing cell."""

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"classifier": self.classifier}

    def fit(self, X: NDArray[np.float64], y: Any) -> ZeroFilled:
        from sklearn.base import clone

        self.fitted = clone(self.classifier).fit(np.nan_to_num(X), y)
        self.classes_ = self.fitted.classes_
        return self

    def predict(self, X: NDArray[np.float64]) -> Any:
        return self.fitted.predict(np.nan_to_num(X))

    def predict_proba(self, X: NDArray[np.float64]) -> Any:
        return self.fitted.predict_proba(np.nan_to_num(X))

    def __sklearn_clone__(self) -> ZeroFilled:
        return ZeroFilled(self.classifier)


def _forest(seed: int) -> ZeroFilled:
    from sklearn.ensemble import RandomForestClassifier

    return ZeroFilled(RandomForestClassifier(N_TREES, random_state=seed))


def _least_certain(seed: int) -> Callable[[query.Context], NDArray[np.intp]]:
    """Uncertainty sampling as the articles have it: whatever is observed of a row."""

    def rule(context: query.Context) -> NDArray[np.intp]:
        if not context.has_model:
            return context.rng.permutation(context.candidates)[: context.n]
        certainty = context.learner.predict_proba(context.X[context.candidates]).max(axis=1)
        return context.candidates[np.argsort(certainty, kind="stable")[: context.n]]

    return rule


def _skactiveml(seed: int) -> Callable[[query.Context], NDArray[np.intp]]:
    """scikit-activeml's margin sampling."""

    def rule(context: query.Context) -> NDArray[np.intp]:
        from skactiveml.classifier import SklearnClassifier
        from skactiveml.pool import UncertaintySampling
        from sklearn.ensemble import RandomForestClassifier

        if not context.has_model:
            return context.rng.permutation(context.candidates)[: context.n]
        y = np.full(len(context.X), np.nan)
        y[context.labelled] = context.y
        classifier = SklearnClassifier(
            RandomForestClassifier(N_TREES, random_state=seed), classes=np.unique(context.y), random_state=seed
        )
        rows = UncertaintySampling(method="margin_sampling", random_state=seed).query(
            np.nan_to_num(context.X), y, classifier, candidates=context.candidates, batch_size=context.batch
        )
        return np.asarray(rows, dtype=np.intp)

    return rule


def _modal(seed: int) -> Callable[[query.Context], NDArray[np.intp]]:
    """modAL's entropy sampling."""

    def rule(context: query.Context) -> NDArray[np.intp]:
        from modAL.uncertainty import entropy_sampling

        if not context.has_model:
            return context.rng.permutation(context.candidates)[: context.n]
        chosen = entropy_sampling(context.learner, context.X[context.candidates], n_instances=context.batch)
        return context.candidates[np.asarray(chosen[0] if isinstance(chosen, tuple) else chosen)]

    return rule


PEERS = {
    "forest": Peer(_forest, _least_certain, "sklearn"),
    "scikit-activeml": Peer(_forest, _skactiveml, "skactiveml"),
    "modAL": Peer(_forest, _modal, "modAL"),
}


def installed() -> list[str]:
    return [name for name, peer in PEERS.items() if find_spec(peer.package) is not None]
