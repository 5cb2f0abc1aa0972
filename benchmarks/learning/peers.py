"""Other people's learners and rules on the same pools, on their own terms.

The articles' pipeline fills missing cells with zeros and asks the least certain rows of a random forest.
scikit-activeml refuses a table with a missing cell ("Input contains NaN"): where there are some it gets column means.
modAL passes them on to its classifier, and scikit-learn's forest takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppal_fast import query

N_TREES = 100
Float = NDArray[np.float64]
Rule = Callable[[query.Context], NDArray[np.intp]]


@dataclass(frozen=True)
class Peer:
    """learner and strategy by seed; package: what has to be installed; note: what becomes of missing cells."""

    learner: Callable[[int], Any]
    strategy: Callable[[int], Rule]
    package: str
    note: str


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(N_TREES, random_state=seed)


def _filled_forest(**options: Any) -> Callable[[int], Any]:
    def learner(seed: int) -> Any:
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline

        return make_pipeline(SimpleImputer(keep_empty_features=True, **options), _forest(seed))

    return learner


def _least_certain(seed: int) -> Rule:
    """Uncertainty sampling as the articles have it: whatever is observed of a row."""

    def rule(context: query.Context) -> NDArray[np.intp]:
        certainty = context.learner.predict_proba(context.X[context.candidates]).max(axis=1)
        return context.candidates[np.argsort(certainty, kind="stable")[: context.n]]

    return _after_random(rule)


def _skactiveml(name: str, **options: Any) -> Callable[[int], Rule]:
    def strategy(seed: int) -> Rule:
        from skactiveml import pool
        from skactiveml.classifier import SklearnClassifier

        asked = getattr(pool, name)(random_state=seed, **options)

        def rule(context: query.Context) -> NDArray[np.intp]:
            X = context.X
            if not context.observed.all():
                known = np.maximum(context.observed.sum(axis=0), 1)
                X = np.where(context.observed, X, np.nansum(X, axis=0) / known)
            y = np.full(len(X), np.nan)
            y[context.labelled] = context.y
            model = SklearnClassifier(_forest(seed), classes=np.unique(context.y), random_state=seed)
            rows = asked.query(X, y, model, candidates=context.candidates, batch_size=context.batch)
            return np.asarray(rows, dtype=np.intp)

        return _after_random(rule)

    return strategy


def _modal(seed: int) -> Rule:
    """modAL's entropy sampling."""

    def rule(context: query.Context) -> NDArray[np.intp]:
        from modAL.uncertainty import entropy_sampling

        chosen = entropy_sampling(context.learner, context.X[context.candidates], n_instances=context.batch)
        return context.candidates[np.asarray(chosen[0] if isinstance(chosen, tuple) else chosen)]

    return _after_random(rule)


def _after_random(rule: Rule) -> Rule:
    """None of them has a rule for the first batch."""

    def whole(context: query.Context) -> NDArray[np.intp]:
        if context.has_model:
            return rule(context)
        return context.rng.permutation(context.candidates)[: context.n]

    return whole


_MEAN, _ZERO = _filled_forest(), _filled_forest(strategy="constant", fill_value=0.0)
PEERS = {
    "forest": Peer(_ZERO, _least_certain, "sklearn", "zeros"),
    "scikit-activeml, margin": Peer(
        _MEAN, _skactiveml("UncertaintySampling", method="margin_sampling"), "skactiveml", "refused: column means"
    ),
    "scikit-activeml, BADGE": Peer(_MEAN, _skactiveml("Badge"), "skactiveml", "refused: column means"),
    "modAL, entropy": Peer(_forest, _modal, "modAL", "left to the forest"),
}


def installed() -> list[str]:
    return [name for name, peer in PEERS.items() if find_spec(peer.package) is not None]
