"""Branch and bound for min sum_i d_i x_i + sum_{i<j} W_ij x_i x_j with sum(x) = k: proofs for n up to about 50.

The bound shares every W_ij between its two variables, L_ij + L_ji = W_ij, and lets every chosen variable pick its own
k - 1 partners: a relaxation that is exact for none and cheap for all. The shares are improved by subgradient steps at
the root (Caprara, Pisinger, Toth 1999, for the quadratic knapsack problem) and kept below it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import jit

Array = NDArray[Any]
NO_VALUE = 1e300
OUT = 1e299  # gradients above it are NO_VALUE plus a few couplings


@jit()
def share(
    W: Array, d: Array, k: int, upper: float, steps: int, trial: Array, L: Array, reduced: Array, progress: Array
) -> bool:
    """Improve the shares L (n, n), ``trial`` being those of the next step; True when there is nothing left to gain.

    progress (3,) float64: best lower bound met, step length, steps without a gain; reduced (n,): d_i + its best
    partners at that bound. Cost: ``steps`` times n choices of k - 1 among n.
    """
    n = W.shape[0]
    picks, x = np.empty((n, n), np.int8), np.empty(n, np.int8)
    value, lowest = np.empty(n), np.empty(n)
    for _ in range(steps):
        for i in range(n):
            trial[i, i] = NO_VALUE  # no variable is its own partner
            value[i] = d[i] + _pick_lowest(trial[i], k - 1, lowest, picks[i])
        bound = _pick_lowest(value, k, lowest, x)
        if bound > progress[0] + 1e-9 * abs(progress[0]):
            progress[0], progress[2] = bound, 0
            L[:] = trial
            reduced[:] = value
        else:
            progress[2] += 1
            if progress[2] == 10:
                progress[1], progress[2] = 0.5 * progress[1], 0
        squares = 0.0
        for i in range(n):
            for j in range(i):
                squares += float(x[i] * picks[i, j] - x[j] * picks[j, i]) ** 2
        if squares == 0.0 or upper <= progress[0]:
            return True
        step = progress[1] * (upper - bound) / squares
        for i in range(n):
            for j in range(i):
                change = step * float(x[i] * picks[i, j] - x[j] * picks[j, i])
                trial[i, j] += change
                trial[j, i] -= change
    return False


@jit()
def _pick_lowest(values: Array, count: int, lowest: Array, picked: Array) -> float:
    """Sum of the ``count`` lowest values, which ``picked`` flags; lowest (n,) is scratch."""
    if count == 0:
        picked[:] = 0
        return 0.0
    total, highest = _sum_lowest(values, values.shape[0], count, lowest)
    ties = 0
    for q in range(count):
        ties += lowest[q] == highest
    for j in range(values.shape[0]):
        picked[j] = values[j] < highest
        if values[j] == highest and ties > 0:
            picked[j] = 1
            ties -= 1
    return total


@jit()
def _sum_lowest(values: Array, m: int, count: int, lowest: Array) -> tuple[float, float]:
    """Sum and largest of the ``count`` lowest of values[:m]; insertion into a sorted list, for dozens of values."""
    filled = 0
    for j in range(m):
        v = values[j]
        if filled == count:
            if v >= lowest[count - 1]:
                continue
            p = count - 1
        else:
            p = filled
            filled += 1
        while p > 0 and lowest[p - 1] > v:
            lowest[p] = lowest[p - 1]
            p -= 1
        lowest[p] = v
    total = 0.0
    for p in range(count):
        total += lowest[p]
    return total, lowest[count - 1]


@jit()
def partner_sums(L: Array, k: int, stride: int) -> Array:
    """(levels, n, k): sum of the r lowest L_ij over j >= level, j != i, for r < k; level = stride x first index.

    Memory: n^2 k / stride floats.
    """
    n = L.shape[0]
    sums = np.full(((n - 1) // stride + 1, n, k), NO_VALUE)
    for a in range(sums.shape[0]):
        level = a * stride
        for i in range(n):
            row = L[i, level:].copy()
            if i >= level:
                row[i - level] = NO_VALUE
            row = np.sort(row)
            sums[a, i, 0] = 0.0
            for r in range(1, min(k, row.shape[0] + 1)):
                if row[r - 1] >= NO_VALUE:
                    break
                sums[a, i, r] = sums[a, i, r - 1] + row[r - 1]
    return sums


@jit()
def branch(
    W: Array, d: Array, k: int, sums: Array, stride: int, twin: Array, tolerance: float, nodes: int,
    best_f: Array, best: Array, g: Array, f: Array, count: Array, bound: Array, tried: Array, level: int,
) -> int:
    """Depth first, include before exclude, for at most ``nodes`` nodes; returns the level to go on from, or -1.

    State, all carried between calls: g (n + 1, n) gradients, f, count, bound, tried (n + 1,) of the path.
    twin (n,): an earlier variable with the same d and W, or -1; of twins the first are chosen first.
    best_f (1,), best (n,) int8 take the incumbent. A branch is cut when its bound >= best_f - tolerance.
    While unfinished, the minimum is at least the lowest ``bound`` of the levels on the path with tried < 2.
    """
    n = W.shape[0]
    scratch, lowest_values = np.empty(n), np.empty(n)
    for _ in range(nodes):
        if level < 0:
            return -1
        if tried[level] == 2:
            level -= 1
            continue
        include = tried[level] == 0
        tried[level] += 1
        after = level + 1
        chosen = count[level] + (1 if include else 0)
        value = f[level] + (g[level, level] if include else 0.0)
        left = k - chosen
        if include and (g[level, level] >= OUT or (twin[level] >= 0 and tried[twin[level]] == 2)):
            continue
        if n - after < left or bound[level] >= best_f[0] - tolerance:
            continue
        path = tried[level]  # the incumbent below reads inclusion from tried == 1
        if left <= 1:
            last = -1
            lowest = 0.0
            if left == 1:
                lowest = NO_VALUE
                for j in range(after, n):
                    gradient = g[level, j] + (W[level, j] if include else 0.0)
                    if gradient < lowest:  # of twins the first, as it should be
                        lowest, last = gradient, j
            if value + lowest < best_f[0] - tolerance:
                best_f[0] = value + lowest
                for j in range(n):
                    best[j] = 1 if (j < level and tried[j] == 1) or (j == level and path == 1) or j == last else 0
            continue
        table = sums[after // stride]
        for j in range(after, n):
            g[after, j] = g[level, j] + (W[level, j] if include else 0.0)
            scratch[j - after] = g[after, j] + table[j, left - 1]
        limit, highest = _sum_lowest(scratch, n - after, left, lowest_values)
        limit += value
        if limit < best_f[0] - tolerance:
            for j in range(after, n):  # who raises the bound to the best by joining stays out of everything below
                if scratch[j - after] > highest and limit - highest + scratch[j - after] >= best_f[0] - tolerance:
                    g[after, j] = NO_VALUE
            level = after
            f[level], count[level], bound[level], tried[level] = value, chosen, limit, 0
    return level
