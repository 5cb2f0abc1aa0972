"""Clip each unit's contribution: in integers, summed, for what is released; in floats, plus noise, for simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import jit
from .noise import BLOCKS, WORDS, Float, Int64, UInt32, chacha12, normals

_ATTEMPTS = 6


@jit()
def integer_clip_sum(
    rows: Float, starts: NDArray[np.intp], clip: float, per_unit: float, bound: int, total: Int64
) -> None:
    """total_j += sum over units of k_j, with k = trunc(clip(v) / gamma) toward zero and |k|_2 <= K in integers.

    rows (n, d) float64 contiguous, sorted by unit; unit u owns rows starts[u] .. starts[u + 1] - 1, added first;
    per_unit = 1 / gamma, a power of two; clip = K gamma with the bound K <= 2**26; total (d,) int64, changed.
    A unit with a NaN or an infinity, in a cell or in its sum, adds nothing. Cost: 3 to 5 passes over each row.
    Independent of the order of units and of the order of rows inside a unit. Source: contract 1.
    """
    d = rows.shape[1]
    k = np.empty(d)
    joint = np.empty(d)
    steps = np.empty((2, d))
    for u in range(starts.size - 1):
        first, last = starts[u], starts[u + 1]
        if last - first == 1:
            if quantise(rows[first], clip, per_unit, bound, k):
                for j in range(d):
                    total[j] += np.int64(k[j])
        elif last > first:
            reproducible_sum(rows[first:last], steps, joint)
            if quantise(joint, clip, per_unit, bound, k):
                for j in range(d):
                    total[j] += np.int64(k[j])


@jit()
def reproducible_sum(rows: Float, steps: Float, joint: Float) -> None:
    """joint_j = sum_i rows_ij, the same bits in every order of the rows, within n^2 2**-100 of the column's largest.

    rows (n, d); steps (2, d) scratch; joint (d,) out. Not finite where a cell is not, or is above 2**1021 / n.
    Each value is split into multiples of two powers of two that depend on the column's largest value alone, and the
    multiples are few enough that float64 adds them without rounding. Two passes over contiguous rows.
    Source: Demmel, Nguyen 2013 (doi:10.1109/ARITH.2013.9), with two levels.
    """
    n, d = rows.shape
    coarse, fine = steps[0], steps[1]
    second = np.empty(d)
    power = 1.0
    while power < n:
        power *= 2.0
    for j in range(d):
        coarse[j] = joint[j] = second[j] = 0.0
    for i in range(n):
        for j in range(d):
            a = abs(rows[i, j])
            coarse[j] = a if a > coarse[j] else coarse[j]
    for j in range(d):
        # P >= 2 n max|v|, a power of two: v + 1.5 P rounds v to a multiple of P 2**-52, and n of them stay below P.
        exponent = np.float64(4.0 * power * coarse[j]).view(np.int64) & np.int64(0x7FF0000000000000)
        at_least = np.int64(exponent).view(np.float64)
        coarse[j] = 1.5 * at_least
        fine[j] = 1.5 * (at_least * (power * 2.0**-51))  # what is left over is at most P 2**-53
    for i in range(n):
        for j in range(d):
            v = rows[i, j]
            high = (v + coarse[j]) - coarse[j]
            joint[j] += high
            second[j] += ((v - high) + fine[j]) - fine[j]
    for j in range(d):
        joint[j] += second[j]


@jit()
def sparse_integer_clip_sum(
    starts: NDArray[np.intp], columns: NDArray[np.intp], values: Float, clip: float, per_unit: float, bound: int,
    total: Int64,
) -> None:
    """integer_clip_sum of sparse units: unit u owns entries starts[u] .. starts[u + 1] - 1, sorted by column.

    columns (e,) intp below d and values (e,) float64; entries of one column of a unit are added in the order given.
    Cost: 3 passes over the entries; nothing of length d is touched but total. Absent entries contribute 0 exactly.
    """
    longest = 1
    for u in range(starts.size - 1):
        longest = max(longest, starts[u + 1] - starts[u])
    v = np.empty(longest)
    where = np.empty(longest, np.intp)
    k = np.empty(longest)
    for u in range(starts.size - 1):
        m = 0
        for e in range(starts[u], starts[u + 1]):
            if m > 0 and where[m - 1] == columns[e]:
                v[m - 1] += values[e]
            else:
                where[m] = columns[e]
                v[m] = values[e]
                m += 1
        if quantise(v[:m], clip, per_unit, bound, k[:m]):
            for i in range(m):
                total[where[i]] += np.int64(k[i])


@jit()
def quantise(v: Float, clip: float, per_unit: float, bound: int, k: Float) -> bool:
    """Write the clipped v on the grid, as whole numbers, to k (d,); False, k undefined, where v contributes nothing."""
    d = v.size
    squares = _squares(v)
    if 1e-290 < squares < 1e300:
        norm = math.sqrt(squares)
    else:  # the squares left the range of float64, or v is zero or not finite
        largest = 0.0
        for j in range(d):
            if not abs(v[j]) < np.inf:
                return False
            largest = max(largest, abs(v[j]))
        if largest == 0.0:
            return False
        squares = 0.0
        for j in range(d):
            squares += (v[j] / largest) ** 2
        norm = largest * math.sqrt(squares)
    scale = 1.0
    if norm > clip:
        scale = clip / norm
    shrink = 2.0**-40
    most = np.float64(bound) * np.float64(bound)
    for _ in range(_ATTEMPTS):
        if _to_grid(v, scale, per_unit, np.float64(bound) + 1.0, k) <= most:
            return True
        scale *= 1.0 - shrink
        shrink *= 2.0**6
    return False


@jit()
def _squares(v: Float) -> float:
    """Sum of squares in four sums, as one addition takes four cycles; the same four on every machine."""
    a0 = a1 = a2 = a3 = 0.0
    d = v.size - v.size % 4
    for j in range(0, d, 4):
        a0 += v[j] * v[j]
        a1 += v[j + 1] * v[j + 1]
        a2 += v[j + 2] * v[j + 2]
        a3 += v[j + 3] * v[j + 3]
    for j in range(d, v.size):
        a0 += v[j] * v[j]
    return (a0 + a1) + (a2 + a3)


@jit(fastmath={"contract", "reassoc"})
def _to_grid(v: Float, scale: float, per_unit: float, limit: float, k: Float) -> float:
    """k_j = trunc(v_j scale / gamma) within +-limit; returns their sum of squares.

    per_unit = 1 / gamma is a power of two and every square a whole number up to (2**26 + 1)**2, so that neither the
    order nor a fused product changes a bit while the sum is below 2**53, and a larger sum stays above 2**52 >= K^2.
    """
    squares = 0.0
    for j in range(v.size):
        # v * scale is at most the clip up to rounding, hence the product by a power of two is at most K + 1.
        whole = np.trunc(min(max(v[j] * scale * per_unit, -limit), limit))
        k[j] = whole
        squares += whole * whole
    return squares


@jit(fastmath={"contract", "reassoc"})
def masked_clip_noise(
    gradients: NDArray[Any], groups: NDArray[np.intp], clip: float, deviation: float, key: UInt32,
    nonce: np.uint64, first: int, out: NDArray[Any],
) -> bool:
    """out[g] = min(1, C / |gradients[g]|) gradients[g] + deviation N(0, 1) for g in groups; other rows untouched.

    gradients, out (G, P) float32 or float64 contiguous; groups (m,) intp; ``first`` is the position of groups[0]
    in the whole list, so that noise i of group number r is normal r * P + i whatever the threads.
    False if the norm of a group is not finite (a NaN, an infinity, an overflow): ``out`` is then of no use.
    Cost: one read and one write of m P numbers, and m P normals. Simulation only: floats leak.
    """
    p = gradients.shape[1]
    per = WORDS * 4 // gradients.itemsize
    words = np.empty(WORDS, np.uint32)
    noise = np.empty(per, gradients.dtype)
    position = first * p
    chunk = position // per
    skipped = position - chunk * per
    used = per
    for r in range(groups.size):
        gradient = gradients[groups[r]]
        noisy = out[groups[r]]
        squares = gradients.dtype.type(0)
        for j in range(p):
            squares += gradient[j] * gradient[j]
        norm = math.sqrt(squares)
        if not norm < np.inf:
            return False
        scale = gradients.dtype.type(clip / norm if norm > clip else 1.0)
        spread = gradients.dtype.type(deviation)
        j = 0
        while j < p:
            if used == per:
                chacha12(words, key, nonce, np.uint64(chunk * BLOCKS))
                normals(words, noise)
                chunk += 1
                used = skipped
                skipped = 0
            m = min(p - j, per - used)
            into, part, normal = noisy[j : j + m], gradient[j : j + m], noise[used : used + m]
            for i in range(m):
                into[i] = part[i] * scale + spread * normal[i]
            j += m
            used += m
    return True


@jit(fastmath={"contract", "reassoc"})
def sparse_clip_add(
    starts: NDArray[Any], columns: NDArray[Any], values: NDArray[Any], residuals: NDArray[Any],
    allowed: NDArray[np.bool_], clip: float, out: NDArray[Any],
) -> bool:
    """out_j += sum_i min(1, C / |g_i|) g_ij over the allowed columns, g_i = residual_i times the allowed part of row i.

    CSR rows (n, d) without duplicates: starts (n + 1,), columns, values; residuals (n,), out (d,) of values' dtype;
    allowed (d,); columns below d. False if a norm is not finite: ``out`` is then of no use.
    Cost: two passes over the entries. The norm of a linear model's gradient is |residual| |row|, hence no gradient is
    ever stored (Goodfellow 2015, arXiv:1510.01799). Simulation only: floats leak.
    """
    whole = True
    for a in allowed:
        whole &= a
    for i in range(starts.size - 1):
        first, last = np.int64(starts[i]), np.int64(starts[i + 1])
        squares = values.dtype.type(0)
        if whole:
            for e in range(first, last):
                squares += values[e] * values[e]
        else:
            for e in range(first, last):
                squares += values[e] * values[e] if allowed[columns[e]] else values.dtype.type(0)
        residual = np.float64(residuals[i])
        norm = abs(residual) * math.sqrt(squares)
        if not norm < np.inf:
            return False
        factor = values.dtype.type(residual * (clip / norm if norm > clip else 1.0))
        for e in range(first, last):
            j = np.uintp(columns[e])  # unsigned: no test for counting from the end
            if whole or allowed[j]:
                out[j] += factor * values[e]
    return True
