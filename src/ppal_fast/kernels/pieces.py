"""What is kept of a change of many spins at once: each connected piece of it that does not raise the energy.

Two states of a sparse problem differ in patches. Patches that no coupling joins add to the energy one by one, so the
best choice among all 2^patches mixtures is made in one pass. It serves both a reheat, whose gains anywhere are
kept and whose losses elsewhere are not, and two good states of different origin.
Source: the partition crossover of Whitley, Hains, Howe 2009; Houdayer 1999 flips such patches between replicas.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import jit
from .fields import add_row

Array = NDArray[Any]


@jit()
def keep_pieces(couplings: Array, indptr: Array, indices: Array, s: Array, h: Array, other: Array) -> float:
    """s takes from ``other`` each connected piece of the spins in which they differ that does not raise E; the change.

    CSR couplings; h the fields of s. Pieces that leave E as it is are taken too: plateaus are crossed. Cost: n, and
    three rows per spin that differs.
    """
    n = s.shape[0]
    piece, met = np.empty(n, np.int32), np.zeros(n, np.bool_)
    change = 0.0
    for seed in range(n):
        if met[seed] or s[seed] == other[seed]:
            continue
        met[seed] = True
        piece[0] = seed
        size, at, rise = 1, 0, 0.0
        while at < size:
            i = piece[at]
            at += 1
            rise -= 2.0 * float(s[i]) * float(h[i])
            for p in range(indptr[i], indptr[i + 1]):
                j = indices[p]
                if s[j] != other[j]:
                    # both ends of a coupling inside the piece turn: couplings hold 2 J and each pair comes twice
                    rise += float(couplings[p]) * float(s[i]) * float(s[j])
                    if not met[j]:
                        met[j] = True
                        piece[size] = j
                        size += 1
        if rise <= 0.0:
            change += rise
            for i in piece[:size]:
                s[i] = -s[i]
                add_row(couplings, indptr, indices, h, i, s[i] > 0)
    return change
