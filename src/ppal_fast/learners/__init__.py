"""Classifiers for tables with missing cells, with and without privacy."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from .. import _validate
from ._base import Learner
from .auto import AutoClassifier
from .class_mean import ClassMeanClassifier
from .drift import DecayedMeans, ElasticLogistic
from .forest import RandomTreesClassifier
from .logistic import LogisticClassifier
from .mixture import MixtureClassifier
from .representation import Representation, learn_representation

__all__ = [
    "AutoClassifier", "ClassMeanClassifier", "DecayedMeans", "ElasticLogistic", "Learner", "LogisticClassifier",
    "MixtureClassifier", "RandomTreesClassifier", "Representation", "learn_representation", "resolve",
]

LEARNERS: dict[str, type[Learner]] = {
    "auto": AutoClassifier,
    "class-mean": ClassMeanClassifier,
    "mixture": MixtureClassifier,
    "random-trees": RandomTreesClassifier,
    "logistic": LogisticClassifier,
}


def resolve(learner: Any) -> Any:
    """A new learner: by name ("auto", "class-mean", ...), or an unfitted copy of a given classifier."""
    if hasattr(learner, "fit") and hasattr(learner, "get_params") and not isinstance(learner, type):
        return clone(learner)
    _validate.one_of(LEARNERS, learner=learner)
    return LEARNERS[learner]()
