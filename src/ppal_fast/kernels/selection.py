"""Searches over the rows of the pool: k-means++ on gradient embeddings, and the greedy I-optimal design."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._jit import jit

Float = NDArray[np.float64]
REORDER = {"reassoc", "contract"}  # sums of finite products may be taken in any order: the error stays of order ulp


@jit(fastmath=REORDER)
def spread(factor: Float, phi: Float, uniforms: Float) -> NDArray[np.intp]:
    """k-means++ seeding on the rows g_i = factor_i outer phi_i, without forming them.

    |g_i - g_j|^2 = |f_i|^2 |p_i|^2 + |f_j|^2 |p_j|^2 - 2 (f_i.f_j)(p_i.p_j); the first row is the longest, the next is
    drawn with probability proportional to the squared distance from the nearest row drawn so far.
    factor (n, K), phi (n, D) C-contiguous; uniforms (k,) in [0, 1), k <= n. Returns at most k distinct row numbers:
    fewer when every row left coincides with a drawn one. Cost k n (K + D).
    Source: Arthur, Vassilvitskii 2007, section 2.2; Ash et al. 2020 (arXiv:1906.03671), algorithm 1.
    """
    n, n_classes = factor.shape
    width = phi.shape[1]
    k = len(uniforms)
    length = np.empty(n)
    nearest = np.full(n, np.inf)
    chosen = np.empty(k, np.intp)
    for i in range(n):
        f = 0.0
        for c in range(n_classes):
            f += factor[i, c] * factor[i, c]
        p = 0.0
        for j in range(width):
            p += phi[i, j] * phi[i, j]
        length[i] = f * p
    current = 0
    for i in range(1, n):
        if length[i] > length[current]:
            current = i
    for t in range(k):
        if t > 0:
            total = 0.0
            for i in range(n):
                total += nearest[i]
            goal = uniforms[t] * total
            current = -1
            reached = 0.0
            for i in range(n):
                if nearest[i] > 0.0:
                    current = i
                    reached += nearest[i]
                    if reached > goal:
                        break
            if current < 0:
                return chosen[:t]
        chosen[t] = current
        for i in range(n):
            f = 0.0
            for c in range(n_classes):
                f += factor[i, c] * factor[current, c]
            p = 0.0
            for j in range(width):
                p += phi[i, j] * phi[current, j]
            distance = length[i] + length[current] - 2.0 * f * p
            if distance <= 1e-12 * length[current]:  # the same row up to rounding
                distance = 0.0
            if distance < nearest[i]:
                nearest[i] = distance
        nearest[current] = 0.0
    return chosen


@jit(fastmath=REORDER)
def best_quadratic(phi: Float, weight: Float, linear: Float, curvature: Float, free: NDArray[np.bool_]) -> int:
    """The free row with the largest w p'Lp - w^2 p'Qp: the next row of a greedy design.

    phi (n, D), weight (n,), linear and curvature (D, D) symmetric, free (n,); C-contiguous. Cost n D^2.
    Returns a row number, the first among equals, or -1 when no row is free.
    """
    n, width = phi.shape
    best, best_score = -1, -np.inf
    for i in range(n):
        if not free[i]:
            continue
        w = weight[i]
        score = 0.0
        for a in range(width):
            part = 0.5 * (linear[a, a] - w * curvature[a, a]) * phi[i, a]
            for b in range(a):
                part += (linear[a, b] - w * curvature[a, b]) * phi[i, b]
            score += part * phi[i, a]
        score *= w
        if score > best_score:
            best, best_score = i, score
    return best


def design_rows(
    phi: Float, moment: Float, prior: Float, start: Float, k: int, *, label_variance: float, noise: float
) -> NDArray[np.intp]:
    """Greedy I-optimal rows for a linear decoder that reads unit columns a_i = p_i / |p_i|.

    Each step takes the row along which tr(C P), P = (T^-1 + M' N^-1 M)^-1, falls fastest, with M = sum a_i p_i' and
    N = v sum a_i a_i' + noise^2 I scaled up to the whole design, as if 20 average rows had been asked before.
    phi (n, D) candidates, moment C (D, D) of the pool, prior T (D,), start (m, D) rows asked before; k rows of (n,).
    Cost k (n D^2 + D^3). Source: A-/I-optimal design, Pukelsheim 2006, chapter 9; the scaling is our own.
    """
    average_rows = 20.0
    weight = 1.0 / np.maximum(np.linalg.norm(phi, axis=1), 1e-12)
    average_m, average_n = _moments(phi, weight)
    average_m, average_n = average_m * (average_rows / len(phi)), average_n * (average_rows / len(phi))
    M, N = _moments(start, 1.0 / np.maximum(np.linalg.norm(start, axis=1), 1e-12))
    free = np.ones(len(phi), dtype=np.bool_)
    chosen = np.empty(k, dtype=np.intp)
    for t in range(k):
        scale = (len(start) + k) / (len(start) + t + average_rows)
        here = scale * (M + average_m)
        covariance = label_variance * scale * (N + average_n) + noise**2 * np.eye(len(prior))
        inverse_m = np.linalg.solve(covariance, here)
        posterior = np.linalg.inv(np.diag(1.0 / prior) + here.T @ inverse_m)
        reach = posterior @ moment @ posterior
        linear = inverse_m @ reach
        i = best_quadratic(
            phi, weight, linear + linear.T, label_variance * (linear @ inverse_m.T), free
        )
        chosen[t] = i
        free[i] = False
        outer = np.outer(phi[i], phi[i])
        M += weight[i] * outer
        N += weight[i] ** 2 * outer
    return chosen


def explained_share(
    phi: Float, moment: Float, prior: Float, *, label_variance: float, noise: float
) -> float:
    """1 - tr(C P) / tr(C T): the share of the decoder's prior energy that labels on these rows are expected to explain.

    phi (m, D) rows of the design, moment C (D, D), prior T (D,); notation of ``design_rows``.
    """
    M, N = _moments(phi, 1.0 / np.maximum(np.linalg.norm(phi, axis=1), 1e-12))
    covariance = label_variance * N + noise**2 * np.eye(len(prior))
    posterior = np.linalg.inv(np.diag(1.0 / prior) + M.T @ np.linalg.solve(covariance, M))
    return float(1.0 - np.trace(moment @ posterior) / (np.diag(moment) @ prior))


def _moments(phi: Float, weight: Float) -> tuple[Float, Float]:
    """sum w p p' and sum w^2 p p'."""
    return (phi.T * weight) @ phi, (phi.T * weight**2) @ phi
