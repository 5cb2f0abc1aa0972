"""The slow, obvious twin of every kernel: the oracle of the tests. Written to be right, not fast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spread(factor: NDArray[np.float64], phi: NDArray[np.float64], uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
    """k-means++ seeding on the explicit rows factor_i outer phi_i: the longest row, then by squared distance."""
    rows = (factor[:, :, None] * phi[:, None, :]).reshape(len(phi), -1)
    chosen = [int(np.argmax((rows**2).sum(axis=1)))]
    for u in uniforms[1:]:
        squared = ((rows[:, None, :] - rows[None, chosen, :]) ** 2).sum(axis=2).min(axis=1)
        if not squared.any():
            break
        chosen.append(int(np.searchsorted(np.cumsum(squared), u * squared.sum(), side="right")))
    return np.array(chosen, dtype=np.intp)


def best_quadratic(
    phi: NDArray[np.float64], weight: NDArray[np.float64], linear: NDArray[np.float64],
    curvature: NDArray[np.float64], free: NDArray[np.bool_],
) -> int:
    """The free row with the largest w p'Lp - w^2 p'Qp, or -1."""
    best, best_score = -1, -np.inf
    for i in np.flatnonzero(free):
        p, w = phi[i], weight[i]
        score = w * p @ linear @ p - w**2 * p @ curvature @ p
        if score > best_score:
            best, best_score = int(i), score
    return best
