"""Paired comparisons over seeds: mean difference, bootstrap interval, Wilcoxon's signed-rank test, Holm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
N_BOOTSTRAP = 2000


@dataclass(frozen=True)
class Paired:
    """Mean difference, its 95 % bootstrap interval, the p-value, and how many pairs there were."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def paired(difference: Sequence[float]) -> Paired:
    from scipy.stats import wilcoxon

    values = np.asarray(difference, dtype=np.float64)
    draws = np.random.default_rng(0).integers(0, len(values), (N_BOOTSTRAP, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    p = float(wilcoxon(values).pvalue) if (values != 0).any() and len(values) > 1 else 1.0
    return Paired(float(values.mean()), float(low), float(high), p, len(values))


def holm(p: Sequence[float]) -> Float:
    """Adjusted p-values, family-wise over all of them (Holm 1979)."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    return adjusted


def labels_to_reach(labels: Float, accuracy: Float, goal: float) -> float:
    """Labels at which a mean learning curve first reaches ``goal``, by linear interpolation; infinite if never."""
    above = np.flatnonzero(accuracy >= goal)
    if not len(above):
        return float("inf")
    k = int(above[0])
    if k == 0:
        return float(labels[0])
    step = (goal - accuracy[k - 1]) / (accuracy[k] - accuracy[k - 1])
    return float(labels[k - 1] + step * (labels[k] - labels[k - 1]))
