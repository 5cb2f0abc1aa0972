"""Leaves of totally random trees grown without labels on a filled pool: a map that follows curved class borders.

Source: Geurts, Ernst, Wehenkel 2006 (extremely randomised trees, doi:10.1007/s10994-006-6226-1), grown to public
features only; the leaves' indicators are reduced by principal components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .factor_analysis import FactorAnalysis
from .gaussian_mixture import GaussianMixture

Float = NDArray[np.float64]
Index = NDArray[np.intp]

N_TREES, DEPTH = 40, 6
N_COMPONENTS = 60
ROWS_FOR_COMPONENTS = 1000
FEWEST_IN_LEAF = 5
ROUNDING = 1e-9  # of standardised cells: filled in other batches they differ by less, and a threshold may be a cell


@dataclass(frozen=True)
class Trees:
    """Complete binary trees: column and threshold (T, 2^depth - 1) of the inner nodes in breadth-first order."""

    column: Index
    threshold: Float

    def leaf(self, A: Float) -> Index:
        """Complete rows A (n, p) -> the leaf of each tree that they fall into, (n, T), in 0 .. 2^depth - 1."""
        n_trees, n_nodes = self.column.shape
        node = np.zeros((len(A), n_trees), dtype=np.intp)
        tree, row = np.arange(n_trees), np.arange(len(A))[:, None]
        for _ in range(int(np.log2(n_nodes + 1))):
            node = 2 * node + 1 + (A[row, self.column[tree, node]] > self.threshold[tree, node])
        return node - n_nodes


def grow(A: Float, rng: np.random.Generator, n_trees: int = N_TREES, depth: int = DEPTH) -> Trees:
    """A node splits a column drawn at random, uniformly between two of the rows that reached it."""
    n_nodes = 2**depth - 1
    column = rng.integers(0, A.shape[1], (n_trees, n_nodes))
    threshold = np.zeros((n_trees, n_nodes))
    for t in range(n_trees):
        members = {0: np.arange(len(A))}
        for node in range(n_nodes):
            here = members.pop(node)
            values = A[here, column[t, node]]
            if len(here) > 1:
                low, high = values[rng.integers(0, len(here), 2)]
                threshold[t, node] = low + rng.random() * (high - low) + ROUNDING
            right = values > threshold[t, node]
            members[2 * node + 1], members[2 * node + 2] = here[~right], here[right]
    return Trees(column, threshold)


@dataclass(frozen=True)
class LeafComponents:
    """Principal components of the leaves' indicators: projection (T, leaves, r); ``fill`` completes the rows."""

    fill: FactorAnalysis | GaussianMixture
    trees: Trees
    projection: Float

    def __call__(self, Z: Float) -> Float:
        leaf = self.trees.leaf(self.fill.fill(Z))
        psi = np.zeros((len(Z), self.projection.shape[2]))
        for t, table in enumerate(self.projection):
            psi += table[leaf[:, t]]
        return psi


def leaf_components(Z: Float, fill: FactorAnalysis | GaussianMixture, rng: np.random.Generator) -> LeafComponents:
    """Grow the trees on Z (n, p), NaN = missing, and find their components on at most 1000 of its rows."""
    A = fill.fill(Z)
    trees = grow(A, rng)
    n_trees, n_leaves = len(trees.column), trees.column.shape[1] + 1
    leaf = trees.leaf(A)
    flat = leaf + n_leaves * np.arange(n_trees)
    counts = np.bincount(flat.ravel(), minlength=n_trees * n_leaves)
    some = flat[rng.permutation(len(Z))[:ROWS_FOR_COMPONENTS]]
    indicators = np.zeros((len(some), n_trees * n_leaves))
    indicators[np.arange(len(some))[:, None], some] = 1
    indicators[:, counts <= FEWEST_IN_LEAF] = 0
    centred = indicators - indicators.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = np.flatnonzero(values > 1e-9 * max(values[-1], 1e-12))[-N_COMPONENTS:]
    projection = centred.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    return LeafComponents(fill, trees, projection.reshape(n_trees, n_leaves, -1))
