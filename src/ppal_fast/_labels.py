"""Labels and owners as people hand them over: lists, arrays or columns, with missing ones in several spellings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validate
from .errors import InputError


def as_objects(labels: Any) -> NDArray[Any]:
    """(n,) object array of plain Python values; a frame's column or a numpy array loses its scalar types."""
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def known(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) True where there is a label."""
    return np.array([not _validate.is_missing(v) for v in labels], dtype=bool)


def initial_labels(y: Any, n: int, classes: Sequence[Any] | None) -> NDArray[Any]:
    """None where unknown: None, NaN, and -1 among numbers unless ``classes`` says that -1 is a class."""
    if y is None:
        return as_objects([None] * n)
    labels = as_objects(y)
    if len(labels) != n:
        raise InputError(f"y has {len(labels)} entries for {n} rows; one a row is expected, None where unknown")
    there = known(labels)
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in labels[there])
    minus_one_is_missing = numeric and (classes is None or -1 not in list(classes))
    for i, value in enumerate(labels):
        if not there[i] or (minus_one_is_missing and value == -1):
            labels[i] = None
        elif isinstance(value, float) and value.is_integer():  # NaN for missing made floats of whole-number classes
            labels[i] = int(value)
    return labels


def owner_names(owners: ArrayLike | None, n: int) -> NDArray[Any]:
    """(n,) the owner of each row."""
    if owners is None:
        raise InputError("owners was not given; unit 'owner' needs the owner of each row")
    array = np.asarray(owners)
    if array.shape != (n,):
        raise InputError(f"owners has shape {array.shape}; ({n},) is expected, the owner of each row")
    return array
