"""Scores for rows, from class probabilities and from what is observed: the higher, the sooner to be asked.

Every function is a formula over arrays, without state. Which rows follow from the scores, and what that costs in
privacy, is said in ``query``. A row of probabilities that holds a NaN counts as uniform: nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validate
from .errors import InputError

Float = NDArray[np.float64]


def entropy(P: ArrayLike) -> Float:
    """Shannon entropy of each row of class probabilities P (n, K), in nats: (n,), from 0 to log K."""
    return _entropy(_probabilities(P, "P"))


def margin(P: ArrayLike) -> Float:
    """1 - (largest - second largest probability) of each row of P (n, K): (n,), from 0 to 1.

    With one class only there is nothing to confuse it with, and the score is 0.
    Source: Scheffer, Decomain, Wrobel 2001 (doi:10.1007/3-540-44816-0_31).
    """
    P = _probabilities(P, "P")
    if P.shape[1] == 1:
        return np.zeros(len(P))
    first, second = np.maximum(P[:, 0], P[:, 1]), np.minimum(P[:, 0], P[:, 1])
    for p in P.T[2:]:
        second = np.maximum(second, np.minimum(first, p))
        first = np.maximum(first, p)
    return np.asarray(1.0 - (first - second))


def committee(members: Sequence[ArrayLike]) -> Float:
    """Jensen-Shannon divergence of the members' class probabilities, each (n, K), in nats: (n,), at least 0.

    Entropy of the mean minus mean entropy: what the members disagree on, not what they all find uncertain. With
    members drawn from a posterior it is the mutual information of label and model (BALD, arXiv:1112.5745).
    """
    if isinstance(members, np.ndarray) and members.ndim != 3:
        raise InputError(f"members has {members.ndim} dimensions; a sequence of tables of probabilities is expected")
    tables = [_probabilities(P, f"members[{m}]") for m, P in enumerate(members)]
    if not tables:
        raise InputError("members was empty; the probabilities of at least one member are expected")
    for m, P in enumerate(tables):
        if P.shape != tables[0].shape:
            raise InputError(f"members[{m}] has shape {P.shape}; {tables[0].shape}, as members[0], is expected")
    mean = sum(tables[1:], tables[0]) / len(tables)
    mean_entropy = sum((_entropy(P) for P in tables[1:]), _entropy(tables[0])) / len(tables)
    return np.maximum(_entropy(mean) - mean_entropy, 0.0)


def observed_weight(observed: ArrayLike) -> Float:
    """Share of the d cells of each row that are observed (n, d) -> (n,), from 0 to 1.

    A row that shows nothing has the largest entropy and teaches nothing: multiply a score by this weight. It reads
    each row alone, so it keeps an item-local rule item-local.
    """
    mask = np.asarray(observed)
    if mask.ndim != 2 or mask.dtype != np.bool_ or mask.shape[1] == 0:
        raise InputError(
            f"observed has shape {mask.shape} and type {mask.dtype}; a boolean table (rows, columns) is expected"
        )
    return np.einsum("ij->i", mask, dtype=np.int32) / mask.shape[1]  # several times faster than mean(axis=1)


def density_aware(score: ArrayLike, log_ratio: ArrayLike) -> Float:
    """Score (n,) times a factor from 1/2 to 3/2 that grows with the rank of the log density ratio (n,).

    The ratio of pool to labelled density must leave the row itself out; ranks keep the product bounded where the
    ratio itself overflows. Equal ratios share their mean rank; infinities are ranked; NaN gets the factor 1.
    """
    score = _column(score, "score")
    ratio = _column(log_ratio, "log_ratio")
    if len(score) != len(ratio):
        raise InputError(f"log_ratio has {len(ratio)} entries; {len(score)}, as score, is expected")
    known = ~np.isnan(ratio)
    factor = np.ones(len(ratio))
    factor[known] = 0.5 + _mean_rank(ratio[known])
    return np.asarray(score * factor)


def badge_embedding(P: ArrayLike, phi: ArrayLike) -> Float:
    """Gradient of the last layer's cross-entropy at the likeliest label: (n, K), (n, D) -> (n, K * D).

    (p - e_argmax) outer phi, flattened by class. Its length is uncertainty times |phi|, its direction is what the
    label would teach. A NaN of phi is a missing cell and becomes 0. Source: Ash et al. 2020 (arXiv:1906.03671), eq. 1.
    """
    P = _probabilities(P, "P")
    phi = _validate.table(phi, name="phi")
    if len(phi) != len(P):
        raise InputError(f"phi has {len(phi)} rows; {len(P)}, as P, is expected")
    phi = np.nan_to_num(phi)
    return np.asarray((badge_residual(P)[:, :, None] * phi[:, None, :]).reshape(len(P), -1))


def badge_residual(P: ArrayLike) -> Float:
    """p - e_argmax of each row of P (n, K): the class factor of the gradient embedding."""
    residual = _probabilities(P, "P").copy()
    if len(residual):
        residual[np.arange(len(residual)), residual.argmax(axis=1)] -= 1.0
    return residual


def _entropy(P: Float) -> Float:
    return np.asarray(-np.einsum("ij,ij->i", P, np.log(np.maximum(P, np.finfo(float).tiny))) + 0.0)


def _mean_rank(values: Float) -> Float:
    """Rank in [0, 1] of each value, equal values sharing their mean; 1/2 where there is one value only."""
    if len(values) < 2:
        return np.full(len(values), 0.5)
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count) - 1.0
    return np.asarray((last - 0.5 * (count - 1))[group] / (len(values) - 1))


def _probabilities(P: Any, name: str) -> Float:
    """P as float64 (n, K) with rows summing to 1; a row with a NaN becomes uniform."""
    P = _validate.table(P, name=name)
    if P.shape[1] == 0:
        raise InputError(f"{name} has no columns; one per class is expected")
    total = P @ np.ones(P.shape[1])
    unknown = np.isnan(total)
    if (P < 0).any() or not (unknown | (np.abs(total - 1.0) < 1e-6)).all():
        raise InputError(f"{name} has rows that are not probabilities; entries >= 0 that sum to 1 are expected")
    if unknown.any():
        P = P.copy()
        P[unknown] = 1.0 / P.shape[1]
    return P


def _column(value: ArrayLike, name: str) -> Float:
    try:
        array = np.ascontiguousarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} could not be read as numbers ({error}); one number per row is expected") from None
    if array.ndim != 1:
        raise InputError(f"{name} has shape {array.shape}; one number per row is expected")
    return array
