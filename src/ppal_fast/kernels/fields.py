"""The local-field engine under every QUBO heuristic: h = J s + b, kept up to date as spins flip.

A model is (couplings, indptr, indices): ``couplings`` holds C = 2 J, either dense (n, n) with an empty ``indptr`` and
``indices``, or the (nnz,) weights of a symmetric CSR matrix, or the bits of bits.py with their two values in
``indices``. The energy is E = b's + s'Js/2 with s in {-1, +1}^n; flipping spin i changes it by -2 s_i h_i. The branches
on ``couplings.ndim`` are decided when Numba compiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._accepts import BLOCK as BLOCK  # of every caller too
from ._jit import jit
from .bits import add_bit_row, add_bit_rows

Array = NDArray[Any]

# infinities are never made here (masked values are +-HUGE), so they need not be assumed away
FAST = {"nnan", "nsz", "arcp", "contract", "afn", "reassoc"}
HUGE = np.float32(3e38)
PANEL = 256  # of spins whose flips reach the other fields together; a multiple of BLOCK


@jit()
def uniform(state: Array) -> Any:
    """Next float32 in [0, 1); state (1,) uint64. SplitMix64 (Steele, Lea, Flood 2014): any seed is good."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float32(z >> np.uint64(40)) * np.float32(1.0 / 16777216.0)


@jit()
def below(state: Array, n: int) -> int:
    """Next whole number in 0 .. n - 1 (n < 2^24)."""
    return min(int(uniform(state) * np.float32(n)), n - 1)


@jit(fastmath=FAST)
def add_piece(couplings: Array, indices: Array, h: Array, i: int, up: bool, first: int, last: int) -> None:
    """The dense add_row for the fields from ``first``, a multiple of BLOCK, to ``last`` - 1 alone."""
    if couplings.ndim == 3:
        add_bit_row(couplings, indices, h, i, up, first, last)
    else:
        row = couplings[i, first:last]
        piece = h[first:last]
        if up:
            for j in range(piece.shape[0]):
                piece[j] += row[j]
        else:
            for j in range(piece.shape[0]):
                piece[j] -= row[j]


@jit(fastmath=FAST)
def add_pieces(
    couplings: Array, indices: Array, h: Array, flipped: Array, s: Array, first: int, last: int
) -> None:
    """add_piece of the spins ``flipped``, now as in s; four rows at a time, so that h is read and written once for
    them, or up to 15 where they are bits."""
    if couplings.ndim == 3:
        add_bit_rows(couplings, indices, h, flipped, s, first, last)
    else:
        piece = h[first:last]
        fours = flipped.shape[0] // 4 * 4
        for k in range(0, fours, 4):
            i, j, p, q = flipped[k], flipped[k + 1], flipped[k + 2], flipped[k + 3]
            a, b = couplings[i, first:last], couplings[j, first:last]
            c, d = couplings[p, first:last], couplings[q, first:last]
            e, f, u, v = h.dtype.type(s[i]), h.dtype.type(s[j]), h.dtype.type(s[p]), h.dtype.type(s[q])
            for m in range(piece.shape[0]):
                piece[m] += (e * h.dtype.type(a[m]) + f * h.dtype.type(b[m])
                             + u * h.dtype.type(c[m]) + v * h.dtype.type(d[m]))
        for k in range(fours, flipped.shape[0]):
            add_piece(couplings, indices, h, flipped[k], s[flipped[k]] > 0, first, last)


@jit(fastmath=FAST)
def add_row(couplings: Array, indptr: Array, indices: Array, h: Array, i: int, up: bool) -> None:
    """h += C_i if spin i went up, h -= C_i if it went down. Cost: one row."""
    if couplings.ndim != 1:
        add_piece(couplings, indices, h, i, up, 0, h.shape[0])
    elif up:
        for p in range(indptr[i], indptr[i + 1]):
            h[indices[p]] += couplings[p]
    else:
        for p in range(indptr[i], indptr[i + 1]):
            h[indices[p]] -= couplings[p]


@jit(fastmath=FAST)
def add_rows(couplings: Array, indptr: Array, indices: Array, h: Array, flipped: Array, s: Array) -> None:
    """h after the spins ``flipped`` turned to what they are in s."""
    if couplings.ndim != 1:
        add_pieces(couplings, indices, h, flipped, s, 0, h.shape[0])
    else:
        for i in flipped:
            add_row(couplings, indptr, indices, h, i, s[i] > 0)


@jit(fastmath=FAST)
def start(
    couplings: Array, indptr: Array, indices: Array, h_up: Array, b: Array, s: Array, h: Array
) -> float:
    """h = J s + b from the fields ``h_up`` of s = (1, ..., 1); returns E = s'(h + b) / 2, exact for integers.

    Cost: one row for each spin that is down.
    """
    n = s.shape[0]
    for j in range(n):
        h[j] = h_up[j]
    down, count = np.empty(n, np.int32), 0
    for i in range(n):
        if s[i] < 0:
            down[count] = i
            count += 1
    add_rows(couplings, indptr, indices, h, down[:count], s)
    return energy_of(b, s, h)


@jit(fastmath=FAST)
def energy_of(b: Array, s: Array, h: Array) -> float:
    """E = s'(h + b) / 2. Of fields in int16, up to 2^15 of them add up in int32, three times faster than in float64."""
    twice = 0.0
    if h.itemsize == 2 and h.shape[0] <= 2**15:
        total: Any = np.int32(0)
        for j in range(s.shape[0]):
            total = np.int32(total + np.int32(s[j]) * (np.int32(h[j]) + np.int32(b[j])))
        twice = float(total)
    else:
        for j in range(s.shape[0]):
            twice += float(s[j]) * (float(h[j]) + float(b[j]))
    return 0.5 * twice


@jit(fastmath=FAST)
def descend(couplings: Array, indptr: Array, indices: Array, s: Array, h: Array) -> float:
    """Flip improving spins in turn until none is left; returns the change of the energy (<= 0).

    Bounded at 1000 sweeps, which only rounding (never exact integers) could reach.
    """
    change = 0.0
    for _ in range(1000):
        improved = False
        for i in range(s.shape[0]):
            gain = float(s[i]) * float(h[i])
            if gain > 0:
                change -= 2.0 * gain
                s[i] = -s[i]
                add_row(couplings, indptr, indices, h, i, s[i] > 0)
                improved = True
        if not improved:
            break
    return change


@jit()
def largest(entries: Array) -> float:
    """The largest magnitude of (m,) float64 entries, NaN if one of them is: as bits, magnitudes are ordered like whole
    numbers, infinity above them and NaN above that. One pass at the speed of memory."""
    bits, top, found = entries.view(np.uint64), np.uint64(0), np.empty(1, np.uint64)
    for i in range(bits.shape[0]):
        top = max(top, bits[i] & np.uint64(0x7FFFFFFFFFFFFFFF))
    found[0] = top
    return float(found.view(np.float64)[0])


@jit()
def ising_of(Q: Array, J: Array, b: Array, C: Array, h_up: Array) -> tuple[float, float]:
    """J = W, b = 2 d + W 1 of 4 x'Qx, scaled to a largest magnitude of 1; C = 2 J, h_up = J 1 + b.

    J and b may be padded. Returns the row rms and the largest absolute row sum.
    """
    n = Q.shape[0]
    scale = 1e-300
    for i in range(n):
        for j in range(n):
            scale = max(scale, abs(Q[i, j]))
    squares, norm = 0.0, 0.0
    for i in range(n):
        row_sum, row_abs = 0.0, 0.0
        for j in range(n):
            w = (Q[i, j] / scale + Q[j, i] / scale) if i != j else 0.0
            J[i, j] = np.float32(w)
            C[i, j] = np.float32(2.0 * w)
            row_sum += w
            row_abs += abs(w)
            squares += w * w
        field = 2.0 * Q[i, i] / scale + row_sum
        b[i] = np.float32(field)
        h_up[i] = np.float32(field + row_sum)
        squares += field * field
        norm = max(norm, row_abs)
    rms = np.sqrt(squares / n)
    return (rms if rms > 0.0 else 1.0), norm


@jit()
def symmetrise(Q: Array, W: Array, d: Array) -> None:
    """W = Q + Q' with zero diagonal, d = diag Q; in tiles, so that both triangles stay in cache."""
    n = Q.shape[0]
    for first in range(0, n, BLOCK):
        last = min(n, first + BLOCK)
        for left in range(0, first + 1, BLOCK):
            for i in range(first, last):
                for j in range(left, min(left + BLOCK, i)):
                    W[i, j] = W[j, i] = Q[i, j] + Q[j, i]
    for i in range(n):
        W[i, i] = 0.0
        d[i] = Q[i, i]


@jit()
def is_symmetric(J: Array) -> bool:
    """J equals its transpose; in tiles, each turned over in cache and then compared row by row."""
    n = J.shape[0]
    turned = np.empty((BLOCK, BLOCK), J.dtype)
    for first in range(0, n, BLOCK):
        height = min(BLOCK, n - first)
        for left in range(0, first + 1, BLOCK):
            width = min(BLOCK, n - left)
            for j in range(width):
                row = J[left + j, first:first + height]
                for i in range(height):
                    turned[i, j] = row[i]
            differ = 0
            for i in range(height):
                row, other = J[first + i, left:left + width], turned[i, :width]
                for j in range(width):
                    differ += row[j] != other[j]
            if differ:
                return False
    return True


@jit()
def _exchange(a: Any, b: Any, shift: Any, mask: Any) -> tuple[Any, Any]:
    """The parts of a above and of b below ``shift`` change places."""
    moved = ((a >> shift) ^ b) & mask
    return a ^ (moved << shift), b ^ moved


@jit()
def is_symmetric_bytes(C: Array) -> bool:
    """``is_symmetric`` of int8 with n in multiples of 8: squares of 8 by 8 bytes turned over in registers, seven times
    faster. Source: Warren, Hacker's Delight, section 7-3."""
    words = C.view(np.uint64)
    one, two, four = np.uint64(8), np.uint64(16), np.uint64(32)
    ones, twos, fours = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF), np.uint64(0x00000000FFFFFFFF)
    for k in range(words.shape[1]):
        differ = np.uint64(0)
        for q in range(k + 1):
            at = 8 * k
            a, b, c, d = words[at, q], words[at + 1, q], words[at + 2, q], words[at + 3, q]
            e, f, g, h = words[at + 4, q], words[at + 5, q], words[at + 6, q], words[at + 7, q]
            (a, b), (c, d) = _exchange(a, b, one, ones), _exchange(c, d, one, ones)
            (e, f), (g, h) = _exchange(e, f, one, ones), _exchange(g, h, one, ones)
            (a, c), (b, d) = _exchange(a, c, two, twos), _exchange(b, d, two, twos)
            (e, g), (f, h) = _exchange(e, g, two, twos), _exchange(f, h, two, twos)
            (a, e), (b, f) = _exchange(a, e, four, fours), _exchange(b, f, four, fours)
            (c, g), (d, h) = _exchange(c, g, four, fours), _exchange(d, h, four, fours)
            at = 8 * q
            differ |= (a ^ words[at, k]) | (b ^ words[at + 1, k]) | (c ^ words[at + 2, k]) | (d ^ words[at + 3, k])
            differ |= (e ^ words[at + 4, k]) | (f ^ words[at + 5, k]) | (g ^ words[at + 6, k]) | (h ^ words[at + 7, k])
        if differ:
            return False
    return True


@jit(fastmath=FAST)
def pack_small_whole(J: Array, sums: Array, sizes: Array, squares: Array, C: Array) -> int:
    """C (n, n) int8 = 2 J where all of J is whole, from -63 to 63; row sums of J, |J|, J^2. Returns the number of
    entries that are not zero, or -1 (C is then unfinished): for NaN too. One pass over J, int8 or float64."""
    nonzeros = 0
    least, most = J.dtype.type(-63), J.dtype.type(63)
    for i in range(J.shape[0]):
        row, packed = J[i], C[i]
        broken = np.uint8(0)
        for j in range(row.shape[0]):
            v = np.int8(row[j])
            inside = (row[j] >= least) & (row[j] <= most)
            broken = np.uint8(broken | np.uint8((J.dtype.type(v) != row[j]) | (not inside)))
            packed[j] = np.int8(v << 1)
        if broken:
            return -1
        total: Any = np.int32(0)
        size, square, filled = total, total, total
        for j in range(row.shape[0]):
            w = np.int32(packed[j])
            total += w
            size += abs(w)
            square += w * w
            filled += np.int32(w != 0)
        sums[i], sizes[i], squares[i] = total / 2, size / 2, square / 4
        nonzeros += filled
    return nonzeros


@jit(fastmath=FAST)
def survey(J: Array, sums: Array, sizes: Array, squares: Array, multiplier: float) -> tuple[float, int, int]:
    """Row sums of J, |J| and (multiplier J)^2; returns (largest |J|, nonzeros, fractions in multiplier J)."""
    largest, nonzeros, broken = 0.0, 0, 0
    for i in range(J.shape[0]):
        total, size, square, top = 0.0, 0.0, 0.0, 0.0
        filled, fractions = 0, 0
        row = J[i]
        for j in range(row.shape[0]):
            v = row[j]
            total += v
            size += abs(v)
            square += (v * multiplier) ** 2
            top = max(top, abs(v))
            filled += v != 0.0
            fractions += np.rint(v * multiplier) != v * multiplier
        sums[i], sizes[i], squares[i] = total, size, square
        largest = max(largest, top)
        nonzeros += filled
        broken += fractions
    return largest, nonzeros, broken


@jit(fastmath=FAST)
def pack(J: Array, factor: float, out: Array) -> None:
    """out = factor J in the type of ``out``; whole products when that is an integer type."""
    for i in range(J.shape[0]):
        row, packed = J[i], out[i]
        for j in range(row.shape[0]):
            packed[j] = row[j] * factor
