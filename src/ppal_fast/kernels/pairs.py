"""Moves of two coupled spins at once: past penalties that a single flip would have to climb, as those of one label for
each node, and where the sums of a few large fields leave no room for a whole flip, as with low rank.

Flipping i and j adds -2 (s_i h_i + s_j h_j - C_ij s_i s_j) to the energy, couplings C = 2 J.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._extremes import larger
from ._jit import jit
from .fields import BLOCK, FAST, HUGE, add_row, below

Array = NDArray[Any]


@jit(fastmath=FAST)
def sweep_pairs(
    couplings: Array, indptr: Array, indices: Array, s: Array, h: Array, energy: Array, rng: Array, limits: Array
) -> None:
    """A Metropolis test of every spin together with a random neighbour whose flip makes its own easier; CSR couplings.

    limits as in ``local_search.anneal``, entered at a random place for every block. Cost: a coupling a spin.
    """
    at, random = 0, np.uint64(0)
    for i in range(s.shape[0]):
        if i % BLOCK == 0:
            at, random = below(rng, limits.shape[0] - BLOCK), rng[0]
        random = random * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)  # Knuth's MMIX
        degree = indptr[i + 1] - indptr[i]
        if degree == 0:
            continue
        p = indptr[i] + np.int64((random >> np.uint64(33)) * np.uint64(degree) >> np.uint64(31))
        j = int(np.int64(indices[p]))
        joined = couplings[p] * h.dtype.type(s[i] * s[j])
        gain = h.dtype.type(s[i]) * h[i] + h.dtype.type(s[j]) * h[j] - joined
        if joined < 0 and gain >= limits[at + i % BLOCK]:
            energy[0] -= 2.0 * float(gain)
            for k in (i, j):
                s[k] = -s[k]
                add_row(couplings, indptr, indices, h, k, s[k] > 0)


@jit(fastmath=FAST)
def descend_pairs(couplings: Array, s: Array, h: Array, first: int, last: int) -> float:
    """Flip each of the spins ``first`` to ``last`` - 1 with its best partner where both together lower E; the change.

    Dense (n, n) couplings. Cost: a row a spin, and two rows a move.
    """
    none = np.empty(0, np.int32)
    change = 0.0
    for i in range(first, last):
        row, mine = couplings[i], np.float32(s[i])
        top = -HUGE  # the best partner's s_j h_j - C_ij s_i s_j
        for j in range(s.shape[0]):
            top = larger(top, np.float32(s[j]) * (np.float32(h[j]) - mine * np.float32(row[j])))
        if mine * np.float32(h[i]) + top <= 0:
            continue
        for j in range(s.shape[0]):
            gain = float(s[i]) * float(h[i]) + float(s[j]) * float(h[j]) - float(row[j]) * float(s[i] * s[j])
            if j != i and gain > 0 and np.float32(s[j]) * (np.float32(h[j]) - mine * np.float32(row[j])) == top:
                change -= 2.0 * gain
                for k in (i, j):
                    s[k] = -s[k]
                    add_row(couplings, none, none, h, k, s[k] > 0)
                break
    return change
