"""Exact descents over induced forests of a sparse problem: many spins turn at once, as no single flip could begin.

Spins that no cycle of couplings joins are optimised exactly, given all others, by passing messages from the leaves to
the roots and choices back. A tree or a chain is solved at once; in a grid half of the spins are in such a forest; of
variables that exclude each other two are, and change places.
Source: Hamze, de Freitas 2004 (arXiv:1207.4149); Selby 2014 (arXiv:1409.3934).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import jit
from .fields import add_row, below

Array = NDArray[Any]


@jit()
def grow_forest(indptr: Array, indices: Array, rng: Array, order: Array, edge: Array) -> int:
    """Grow a random induced forest of a CSR graph, from random roots by random spins that touch it once, until no more
    fit; returns its size.

    order (n,) int32 takes its spins, each after its parent; edge (n,) int32 the place in ``indices`` that names the
    parent of a spin, or -1 for a root. Cost: a row for each spin of it.
    """
    n = order.shape[0]
    touching, inserted = np.zeros(n, np.int32), np.zeros(n, np.bool_)  # how many of its neighbours are in
    ready = np.empty(n, np.int32)
    size, start = 0, below(rng, n)
    for k in range(n):
        root = (start + k) % n
        if inserted[root] or touching[root] > 0:
            continue
        ready[0], waiting = root, 1
        while waiting > 0:
            at = below(rng, waiting)
            i = ready[at]
            waiting -= 1
            ready[at] = ready[waiting]
            if touching[i] > 1:
                continue
            inserted[i] = True
            order[size], edge[i] = i, -1
            size += 1
            for p in range(indptr[i], indptr[i + 1]):
                j = indices[p]
                touching[j] += 1
                if inserted[j]:
                    edge[i] = p
                elif touching[j] == 1 and j != root:
                    ready[waiting] = j
                    waiting += 1
    return size


@jit()
def descend_forest(couplings: Array, indptr: Array, indices: Array, s: Array, h: Array, rng: Array) -> float:
    """Turn s into a state of lowest E among those that differ from it inside a random induced forest; the change.

    CSR couplings of 2 J; h the fields of s. Spins to which both ways are equal stay. Cost: two rows for each spin.
    """
    n = s.shape[0]
    order, edge = np.empty(n, np.int32), np.empty(n, np.int32)
    size = grow_forest(indptr, indices, rng, order, edge)
    inside = h.copy()  # what acts on a spin from outside the forest, then from the branches below it too
    half = h.dtype.type(0.5)
    for i in order[:size]:
        if edge[i] >= 0:
            parent, weight = indices[edge[i]], half * couplings[edge[i]]
            inside[i] -= weight * s[parent]
            inside[parent] -= weight * s[i]
    for i in order[:size][::-1]:
        if edge[i] >= 0:
            weight = half * couplings[edge[i]]
            inside[indices[edge[i]]] += half * (abs(inside[i] - weight) - abs(inside[i] + weight))
    change = 0.0
    for i in order[:size]:
        field = inside[i]
        if edge[i] >= 0:
            field += half * couplings[edge[i]] * s[indices[edge[i]]]
        if s[i] * field > 0:
            change -= 2.0 * float(s[i]) * float(h[i])
            s[i] = -s[i]
            add_row(couplings, indptr, indices, h, i, s[i] > 0)
    return change
