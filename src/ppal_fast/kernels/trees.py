"""Extremely randomised trees for a few hundred labelled rows: grown and voted in a few milliseconds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._jit import jit
from .fields import below, uniform

Array = NDArray[Any]

LEAF = -1
ROWS_AT_ONCE = 64  # rows walk down a tree together: their steps do not wait for each other


class Forest(NamedTuple):
    """Nodes of all trees, one after the other; tree t starts at roots[t].

    column (N,) split column or LEAF; threshold (N,); next (N,): the left child, whose sibling follows it, or for a leaf
    its row in shares (L, K), the class shares of the labelled rows in it.
    """

    roots: Array
    column: Array
    threshold: Array
    next: Array
    shares: Array


@jit()
def grow(columns: Array, y: Array, n_trees: int, n_classes: int, n_tried: int, state: Array) -> Forest:
    """Trees on columns X' (p, n) and classes y (n,), each on all rows.

    A node draws columns until ``n_tried`` of them vary, splits each at one threshold uniform over the node's range, and
    keeps the split of least Gini impurity; a node of one class or without a varying column is a leaf.
    state (1,) uint64. Cost: trees x depth x n x n_tried.
    Source: Geurts, Ernst, Wehenkel 2006 (doi:10.1007/s10994-006-6226-1).
    """
    p, n = columns.shape
    most = n_trees * (2 * n - 1)
    column, threshold = np.empty(most, np.int32), np.empty(most, np.float32)
    following, shares = np.empty(most, np.int32), np.empty((n_trees * n, n_classes), np.float32)
    roots = np.empty(n_trees, np.int32)
    rows, order = np.arange(n, dtype=np.int32), np.arange(p)
    pending = np.empty((n + 1, 3), np.int32)  # node, first row, row after the last
    here, left = np.empty(n_classes), np.empty(n_classes)
    n_nodes = n_leaves = 0
    for t in range(n_trees):
        roots[t] = n_nodes
        pending[0, 0], pending[0, 1], pending[0, 2] = n_nodes, 0, n
        n_nodes, n_pending = n_nodes + 1, 1
        while n_pending:
            n_pending -= 1
            node, start, stop = pending[n_pending]
            here[:] = 0
            for r in range(start, stop):
                here[y[rows[r]]] += 1
            best, cut = LEAF, np.float32(0)
            if here.max() < stop - start:
                best, cut = _best_split(columns, y, rows[start:stop], here, left, order, n_tried, state)
            column[node], threshold[node] = best, cut
            if best == LEAF:
                following[node] = n_leaves
                shares[n_leaves] = here / (stop - start)
                n_leaves += 1
                continue
            middle = _partition(rows, start, stop, columns[best], cut)
            following[node] = n_nodes
            pending[n_pending, 0], pending[n_pending, 1], pending[n_pending, 2] = n_nodes, start, middle
            n_pending += 1
            pending[n_pending, 0], pending[n_pending, 1], pending[n_pending, 2] = n_nodes + 1, middle, stop
            n_pending += 1
            n_nodes += 2
    return Forest(
        roots, column[:n_nodes].copy(), threshold[:n_nodes].copy(), following[:n_nodes].copy(),
        shares[:n_leaves].copy(),
    )


@jit()
def _best_split(
    columns: Array, y: Array, rows: Array, here: Array, left: Array, order: Array, n_tried: int, state: Array
) -> tuple[int, Any]:
    """Column and threshold of the purest of n_tried random splits, or LEAF where no column varies."""
    best, cut, best_score = LEAF, np.float32(0), -1.0
    total = len(rows)
    n_drawn = n_varying = 0
    while n_varying < n_tried and n_drawn < len(order):
        k = n_drawn + below(state, len(order) - n_drawn)
        j = order[k]
        order[k], order[n_drawn] = order[n_drawn], j
        n_drawn += 1
        cells = columns[j]
        low = high = cells[rows[0]]
        for r in rows:
            low, high = min(low, cells[r]), max(high, cells[r])
        if high <= low:
            continue
        n_varying += 1
        split = low + (high - low) * uniform(state)
        if split >= high:
            split = low
        left[:] = 0
        for r in rows:
            if cells[r] <= split:
                left[y[r]] += 1
        n_left = left.sum()
        score = 0.0
        for c in range(len(here)):
            score += left[c] ** 2 / n_left + (here[c] - left[c]) ** 2 / (total - n_left)
        if score > best_score:
            best, cut, best_score = j, split, score
    return best, cut


@jit()
def _partition(rows: Array, start: int, stop: int, cells: Array, cut: Any) -> int:
    """Rows with a cell up to the cut first; returns where the others begin."""
    while start < stop:
        if cells[rows[start]] <= cut:
            start += 1
        else:
            stop -= 1
            rows[start], rows[stop] = rows[stop], rows[start]
    return start


@jit()
def vote(X: Array, forest: Forest) -> Array:
    """Mean over the trees of the shares in the leaf that each row of X (m, p) float32 falls into: (m, K) float64.

    Cost: m x trees x depth.
    """
    roots, column, threshold, following, shares = forest
    votes = np.zeros((len(X), shares.shape[1]))
    node, walking = np.empty(ROWS_AT_ONCE, np.int32), np.empty(ROWS_AT_ONCE, np.int32)
    for first in range(0, len(X), ROWS_AT_ONCE):
        n = min(ROWS_AT_ONCE, len(X) - first)
        for root in roots:
            for i in range(n):
                node[i] = root
                walking[i] = i
            n_walking = n
            while n_walking:
                kept = 0
                for w in range(n_walking):
                    i = walking[w]
                    a = node[i]
                    j = column[a]
                    if j == LEAF:
                        for c in range(shares.shape[1]):
                            votes[first + i, c] += shares[following[a], c]
                    else:
                        node[i] = following[a] + (X[first + i, j] > threshold[a])
                        walking[kept] = i
                        kept += 1
                n_walking = kept
    return votes / len(roots)
