"""Classifiers for tables with missing cells, with and without privacy."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from .. import _validate
from ._base import Learner
from .class_mean import ClassMeanClassifier
from .representation import Representation, learn_representation

__all__ = ["ClassMeanClassifier", "Learner", "Representation", "learn_representation", "resolve"]

LEARNERS: dict[str, type[Learner]] = {
    "auto": ClassMeanClassifier,
    "class-mean": ClassMeanClassifier,
}


def resolve(learner: Any) -> Any:
    """A new learner: by name ("auto", "class-mean", ...), or a copy of a given classifier."""
    if hasattr(learner, "fit") and hasattr(learner, "get_params"):
        return clone(learner)
    _validate.one_of(LEARNERS, learner=learner)
    return LEARNERS[learner]()
