"""Rows of the pool: standardised, the highest scores, k-means and its seeding, and the greedy I-optimal design."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._jit import jit

Float = NDArray[np.float64]
Single = NDArray[np.float32]
REORDER = {"reassoc", "contract"}  # sums of finite products may be taken in any order: the error stays of order ulp


@jit()
def standardise(X: Float, observed: NDArray[np.bool_], clip: float) -> Float:
    """Columns of X (n, d) centred and scaled on their observed cells, clipped at +-clip; 0 where missing or constant.

    observed (n, d), their cells finite; C-contiguous. Three passes: cost n d.
    """
    n, d = X.shape
    count, mean, scale = np.zeros(d), np.zeros(d), np.zeros(d)
    for i in range(n):
        for j in range(d):
            count[j] += observed[i, j]
            mean[j] += X[i, j] if observed[i, j] else 0.0
    count = np.maximum(count, 1.0)
    mean /= count
    for i in range(n):
        for j in range(d):
            cell = X[i, j] - mean[j] if observed[i, j] else 0.0
            scale[j] += cell * cell
    scale = np.sqrt(scale / count)
    scale = np.where(scale > 1e-12 * (1.0 + np.abs(mean)), scale, np.inf)
    Z = np.empty((n, d))
    for i in range(n):
        for j in range(d):
            cell = (X[i, j] - mean[j]) / scale[j] if observed[i, j] else 0.0
            Z[i, j] = min(max(cell, -clip), clip)
    return Z


@jit()
def top_rows(score: Float, coins: Float, rows: NDArray[np.intp], k: int) -> NDArray[np.intp]:
    """The k of ``rows`` with the highest score, best first; of equal scores the lower coin goes first.

    score, coins (n,) without NaN, rows (m,) numbers below n. A heap of the best so far, its worst at the root: one
    pass, m + k log k log(m / k) steps on rows in random order.
    """
    k = min(k, len(rows))
    heap = rows[:k].copy()
    if k == 0:
        return heap
    for parent in range(k // 2 - 1, -1, -1):
        _sift(heap, parent, k, score, coins)
    for i in rows[k:]:
        if _behind(heap[0], i, score, coins):
            heap[0] = i
            _sift(heap, 0, k, score, coins)
    for end in range(k - 1, 0, -1):
        heap[0], heap[end] = heap[end], heap[0]
        _sift(heap, 0, end, score, coins)
    return heap


@jit()
def _sift(heap: NDArray[np.intp], parent: int, size: int, score: Float, coins: Float) -> None:
    """Move the row at ``parent`` down until both rows below it are better."""
    row = heap[parent]
    while 2 * parent + 1 < size:
        child = 2 * parent + 1
        if child + 1 < size and _behind(heap[child + 1], heap[child], score, coins):
            child += 1
        if not _behind(heap[child], row, score, coins):
            break
        heap[parent] = heap[child]
        parent = child
    heap[parent] = row


@jit()
def _behind(i: int, j: int, score: Float, coins: Float) -> bool:
    return score[i] < score[j] or (score[i] == score[j] and coins[i] > coins[j])


@jit(fastmath=REORDER)
def spread(factor: Float, phi: Float, uniforms: Float) -> NDArray[np.intp]:
    """k-means++ seeding on the rows g_i = factor_i outer phi_i, without forming them.

    |g_i - g_j|^2 = |f_i|^2 |p_i|^2 + |f_j|^2 |p_j|^2 - 2 (f_i.f_j)(p_i.p_j); the first row is the longest, the next is
    drawn with probability proportional to the squared distance from the nearest row drawn so far.
    factor (n, K), phi (n, D) C-contiguous; uniforms (k,) in [0, 1), k <= n. Returns at most k distinct row numbers:
    fewer when every row left coincides with a drawn one. Cost k n K, and D for each row that may have come nearer.
    Source: Arthur, Vassilvitskii 2007, section 2.2; Ash et al. 2020 (arXiv:1906.03671), algorithm 1.
    """
    n, n_classes = factor.shape
    width = phi.shape[1]
    k = len(uniforms)
    factors = factor.T.copy()  # class by class, for loops over rows
    norm, length, along = np.empty(n), np.zeros(n), np.empty(n)  # |p_i|, |g_i|^2, f_i.f_current
    nearest = np.full(n, np.inf)
    near, product = np.empty(n + 1, np.intp), np.empty(n + 1)
    chosen = np.empty(k, np.intp)
    for c in range(n_classes):
        for i in range(n):
            length[i] += factors[c, i] * factors[c, i]
    for i in range(n):
        p = 0.0
        for j in range(width):
            p += phi[i, j] * phi[i, j]
        norm[i] = np.sqrt(p)
        length[i] *= p
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
        along[:] = 0.0
        for c in range(n_classes):
            for i in range(n):
                along[i] += factors[c, i] * factor[current, c]
        n_near = 0  # rows that may have come nearer: by Cauchy-Schwarz no others
        for i in range(n):
            near[n_near] = i
            n_near += length[i] + length[current] - 2.0 * abs(along[i]) * norm[i] * norm[current] < nearest[i]
        near[n_near] = current
        for m in range(0, n_near, 2):  # two rows share each load of the current one
            i, other = near[m], near[m + 1]
            p, q = 0.0, 0.0
            for j in range(width):
                p += phi[i, j] * phi[current, j]
                q += phi[other, j] * phi[current, j]
            product[m], product[m + 1] = p, q
        for m in range(n_near):
            i = near[m]
            distance = length[i] + length[current] - 2.0 * along[i] * product[m]
            if distance <= 1e-12 * length[current]:  # the same row up to rounding
                distance = 0.0
            nearest[i] = min(nearest[i], distance)
        nearest[current] = 0.0
    return chosen


@jit()
def assign(points: Float, products: Float, squares: Float) -> tuple[NDArray[np.intp], Float, Float, Float]:
    """One step of Lloyd: argmin_c |z_c|^2 - 2 z_c.p_i for each point i, and the sum and the number of each cluster's.

    points (n, D), products z_c.p_i (k, n), squares |z_c|^2 (k,), C-contiguous. Returns the cluster (n,), the first
    among equals, that least value (n,), sums (k, D) and sizes (k,). Cost n (k + D).
    """
    n, width = points.shape
    k = len(squares)
    cluster = np.zeros(n, np.intp)
    least = np.full(n, np.inf)
    for c in range(k):
        for i in range(n):
            value = squares[c] - 2.0 * products[c, i]
            nearer = value < least[i]
            least[i] = value if nearer else least[i]
            cluster[i] = c if nearer else cluster[i]
    sums = np.zeros((k, width))
    size = np.zeros(k)
    for i in range(n):
        for j in range(width):
            sums[cluster[i], j] += points[i, j]
        size[cluster[i]] += 1.0
    return cluster, least, sums, size


def best_quadratic(
    unit: Float, single: Single, length: Float, linear: Float, curvature: Float, free: NDArray[np.bool_]
) -> int:
    """The free row with the largest |p| a'La - a'Qa: the next row of a greedy design.

    unit a (n, D) of norm at most 1, single the same in float32, length |p| (n,), linear L and curvature Q (D, D)
    symmetric, free (n,); C-contiguous. One product in float32 leaves the rows that its rounding cannot tell from the
    best, float64 decides between these. Returns a row number, the first among equals, or -1 when no row is free.
    Cost n D^2.
    """
    scale = max(float(np.linalg.norm(linear)), 1e-300), max(float(np.linalg.norm(curvature)), 1e-300)
    both = np.hstack([linear / scale[0], curvature / scale[1]]).astype(np.float32)
    return _best_quadratic(unit, single, single @ both, length, linear, curvature, scale, free)


@jit(fastmath=REORDER)
def _best_quadratic(
    unit: Float, single: Single, products: Single, length: Float, linear: Float, curvature: Float,
    scale: tuple[float, float], free: NDArray[np.bool_],
) -> int:
    """``best_quadratic`` from products [a'L, a'Q] (n, 2 D), each matrix over its Frobenius norm."""
    n, width = unit.shape
    rounding = (4 * width + 20) * 2.0**-24  # twice the bound of two sums of D products and three roundings each
    highest = np.empty(n)
    least = -np.inf
    for i in range(n):
        along, bend = np.float32(0.0), np.float32(0.0)
        for a in range(width):
            along += products[i, a] * single[i, a]
            bend += products[i, width + a] * single[i, a]
        score = length[i] * scale[0] * along - scale[1] * bend
        doubt = rounding * (length[i] * scale[0] + scale[1])
        highest[i] = score + doubt
        if free[i] and score - doubt > least:
            least = score - doubt
    best, best_score = -1, -np.inf
    for i in range(n):
        if not free[i] or highest[i] < least:
            continue
        score = 0.0
        for a in range(width):
            part = 0.5 * (length[i] * linear[a, a] - curvature[a, a]) * unit[i, a]
            for b in range(a):
                part += (length[i] * linear[a, b] - curvature[a, b]) * unit[i, b]
            score += part * unit[i, a]
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
    length = np.linalg.norm(phi, axis=1)
    unit = phi / np.maximum(length, 1e-12)[:, None]
    single = unit.astype(np.float32)
    average_m, average_n = unit.T @ phi, unit.T @ unit
    average_m, average_n = average_m * (average_rows / len(phi)), average_n * (average_rows / len(phi))
    M, N = _moments(start)
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
        curvature = label_variance * (linear @ inverse_m.T)
        i = best_quadratic(unit, single, length, linear + linear.T, curvature, free)
        chosen[t] = i
        free[i] = False
        M += np.outer(unit[i], phi[i])
        N += np.outer(unit[i], unit[i])
    return chosen


def explained_share(
    phi: Float, moment: Float, prior: Float, *, label_variance: float, noise: float
) -> float:
    """1 - tr(C P) / tr(C T): the share of the decoder's prior energy that labels on these rows are expected to explain.

    phi (m, D) rows of the design, moment C (D, D), prior T (D,); notation of ``design_rows``.
    """
    M, N = _moments(phi)
    covariance = label_variance * N + noise**2 * np.eye(len(prior))
    posterior = np.linalg.inv(np.diag(1.0 / prior) + M.T @ np.linalg.solve(covariance, M))
    return float(1.0 - np.trace(moment @ posterior) / (np.diag(moment) @ prior))


def _moments(phi: Float) -> tuple[Float, Float]:
    """sum a p' and sum a a' of rows p and their unit columns a = p / |p|."""
    unit = phi / np.maximum(np.linalg.norm(phi, axis=1, keepdims=True), 1e-12)
    return unit.T @ phi, unit.T @ unit
