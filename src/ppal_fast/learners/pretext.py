"""What the pool's other columns tell about a map: the prior that a label is expected to follow.

Each column is taken for a pretended label and regressed on the map's coordinates, the map made without it:

    z_ij = w_j' a_i + e_ij,   w_j ~ N(0, T),   e_ij ~ N(0, s_j),

and T is what the columns have in common: the directions that matter for whatever else is known of a row. Labels are
not looked at.
Source: empirical Bayes for random coefficients, Laird, Ware 1982 (doi:10.2307/2529876), by EM.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

FEWEST_CELLS = 20  # of a column that is looked at
MOST_COLUMNS = 64  # those observed most
START_SHARE = 0.3  # of a column's variance, explained evenly by all coordinates: where EM starts
FLOOR_SHARE = 0.1  # of one more column, which counts beside the others: no direction is ever ruled out
N_STEPS = 10
LEAST_NOISE = 0.02  # s_j of a standardised column
N_FOLDS, MOST_ROWS = 4, 4000  # cells are hidden a quarter at a time, on a part of the pool


def common_covariance(A: Float, Z: Float) -> Float | None:
    """T (D, D) from centred coordinates A (n, D) and standardised cells Z (n, p), NaN = missing; None where there are
    no columns to look at, or nothing to look at them through.

    Cost: p (n D^2 + N_STEPS D^3).
    """
    seen = ~np.isnan(Z)
    counts = seen.sum(axis=0)
    columns = [j for j in np.argsort(-counts, kind="stable")[:MOST_COLUMNS] if counts[j] >= FEWEST_CELLS]
    if not columns or not A.any():
        return None
    even = np.eye(A.shape[1]) / (A * A).sum(axis=1).mean()
    grams, crosses, squares = [], [], []
    for j in columns:
        a, z = A[seen[:, j]], Z[seen[:, j], j]
        a, z = a - a.mean(axis=0), z - z.mean()
        grams.append(a.T @ a)
        crosses.append(a.T @ z)
        squares.append(z @ z)
    G, g, total, n = np.stack(grams), np.stack(crosses), np.array(squares), counts[columns]
    T, noise = START_SHARE * even, np.maximum(total / n, LEAST_NOISE)
    for _ in range(N_STEPS):
        covariance = np.linalg.inv(np.linalg.inv(T) + G / noise[:, None, None])
        w = np.einsum("jab,jb->ja", covariance, g) / noise[:, None]
        second = w[:, :, None] * w[:, None, :] + covariance
        T = (second.sum(axis=0) + FLOOR_SHARE * even) / (len(columns) + 1)
        residual = total - 2 * (w * g).sum(axis=1) + (second * G).sum(axis=(1, 2))
        noise = np.maximum(residual / n, LEAST_NOISE)
    return np.asarray(T)


def hidden_covariance(mapped: Callable[[Float], Float], Z: Float, rng: np.random.Generator) -> Float | None:
    """T (D, D) where all columns of Z (n, p) have a part in the map: each cell is looked at from its row without it.

    mapped   cells (m, p), NaN = missing -> coordinates (m, D)
    """
    rows = Z[rng.permutation(len(Z))[:MOST_ROWS]]
    hidden = rng.integers(0, N_FOLDS, rows.shape) == np.arange(N_FOLDS)[:, None, None]
    A = np.concatenate([mapped(np.where(fold, np.nan, rows)) for fold in hidden])
    return common_covariance(A - A.mean(axis=0), np.where(hidden, rows, np.nan).reshape(-1, rows.shape[1]))
