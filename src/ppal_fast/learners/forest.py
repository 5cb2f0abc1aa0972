"""RandomTreesClassifier: totally random trees over public ranges; all that sees labels is one sum of leaf counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _validate
from ..table import Table
from ._base import NOT_PRIVATE, Labelled, Learner
from .cells import Cells, learn_cells
from .class_mean import outer
from .decoder import simplex_basis
from .private_map import PUBLIC_LIMIT, public_cells

Float = NDArray[np.float64]

DEPTH, PRIVATE_DEPTH = 6, 3
ROWS_AT_ONCE = 1000
PRIOR_ROWS = 1.0  # rows at the overall class shares that every leaf starts with


@dataclass(frozen=True)
class SplitTrees:
    """Complete binary trees whose splits send a missing cell both ways.

    column, threshold, right (m, 2^depth - 1): inner nodes in breadth-first order; ``right`` is the share of a missing
    cell that goes right.
    """

    column: NDArray[np.intp]
    threshold: Float
    right: Float

    @property
    def n_leaves(self) -> int:
        """Of all trees together."""
        return self.column.shape[0] * (self.column.shape[1] + 1)

    def leaf_shares(self, Z: Float) -> Float:
        """Z (n, p), NaN = missing -> shares of each leaf (n, m 2^depth): non-negative, summing to 1 in each tree."""
        n_trees, n_nodes = self.column.shape
        shares = np.empty((len(Z), self.n_leaves))
        if not Z.shape[1]:  # no usable column: every split is open
            Z = np.full((len(Z), 1), np.nan)
        for start in range(0, len(Z), ROWS_AT_ONCE):
            rows = Z[start:start + ROWS_AT_ONCE]
            cells = rows[:, self.column]
            go = np.where(np.isnan(cells), self.right, cells > self.threshold)
            share = np.ones((len(rows), n_trees, 1))
            first = 0
            while first < n_nodes:
                level = go[:, :, first:first + share.shape[2]]
                first += share.shape[2]
                share = np.stack([share * (1 - level), share * level], axis=3).reshape(len(rows), n_trees, -1)
            shares[start:start + len(rows)] = share.reshape(len(rows), -1)
        return shares


class RandomTreesClassifier(Learner):
    """Leaf counts of totally random trees, with or without privacy.

    Parameters
    ----------
    n_trees : number of trees. Under privacy it does not matter: noise grows as its root and averages out as its root.
    depth : of the trees; None: 6 without a ledger, 3 with one.
    Others as in ``Learner``.

    Splits see no label. Where features are public a threshold lies between two values of the pool; else it is uniform
    over the public range. A missing cell goes both ways, with the pool's shares (public features) or by halves.
    One release: under unit label the K-1 class coordinates of every leaf, sensitivity at most sqrt(m (1 - 1/K)); under
    unit record or owner the counts of every class and leaf, sensitivity sqrt(m).

    Attributes: ``trees_``, ``leaf_probabilities_`` (K, leaves), ``privacy_``.
    """

    def __init__(
        self,
        n_trees: int = 50,
        depth: int | None = None,
        *,
        categorical_features: Sequence[int | str] | None = None,
        bounds: ArrayLike | None = None,
        classes: Sequence[Any] | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            categorical_features=categorical_features, bounds=bounds, classes=classes, random_state=random_state
        )
        self.n_trees = n_trees
        self.depth = depth

    def _fit(self, labelled: Labelled) -> None:
        purse, table, n_classes = labelled.purse, labelled.table, len(labelled.classes)
        depth = self.depth if self.depth is not None else DEPTH if purse is None else PRIVATE_DEPTH
        _validate.integer(1, n_trees=self.n_trees)
        _validate.integer(1, 12, depth=depth)
        rng = _validate.random_generator(self.random_state)
        if labelled.features_public:
            pool = labelled.pool_rows()
            self.cells_ = learn_cells(pool, detect=self.categorical_features is None)
            self.trees_ = _grow_on_pool(self.cells_(pool.values), self.n_trees, depth, rng)
        else:
            self.cells_ = public_cells(table.schema)
            self.trees_ = _grow_on_ranges(self.cells_, self.n_trees, depth, rng)
        shares = self.trees_.leaf_shares(self.cells_(table.values))
        noise = 0.0
        if labelled.features_public:
            basis = simplex_basis(n_classes)
            if purse is None:
                total = basis[labelled.codes].T @ shares
            else:
                total, noise = purse.release_label_sum(shares, basis, labelled.codes, name="leaves")
            counts = basis @ total + shares.sum(axis=0) / n_classes
        else:
            assert purse is not None
            coordinates = outer(np.eye(n_classes)[labelled.codes], shares)
            total, noise = purse.release_sum(
                coordinates, clip=np.sqrt(self.n_trees), owners=labelled.owners, name="leaves"
            )
            counts = total.reshape(n_classes, -1)
        self.leaf_probabilities_ = _leaf_probabilities(counts, noise, self.n_trees)
        self.privacy_ = NOT_PRIVATE if purse is None else purse.sentence()

    def _probabilities(self, table: Table) -> Float:
        return self.trees_.leaf_shares(self.cells_(table.values)) @ self.leaf_probabilities_.T / self.n_trees


def _leaf_probabilities(counts: Float, noise: float, n_trees: int) -> Float:
    """Class shares in every leaf (K, leaves), shrunk to the overall shares by as many rows as the noise is worth."""
    n_classes = len(counts)
    overall = np.maximum(counts.sum(axis=1) / n_trees, 0) + PRIOR_ROWS / n_classes
    overall /= overall.sum()
    weight = PRIOR_ROWS + noise
    raised = np.maximum(counts, 0) + weight * overall[:, None]
    return raised / raised.sum(axis=0)


def _grow_on_pool(Z: Float, n_trees: int, depth: int, rng: np.random.Generator) -> SplitTrees:
    """Thresholds uniform between two observed values of the column; missing cells go as the pool's observed ones do."""
    shape = (n_trees, 2**depth - 1)
    if not Z.shape[1]:
        return SplitTrees(np.zeros(shape, dtype=np.intp), np.zeros(shape), np.full(shape, 0.5))
    column = rng.integers(0, Z.shape[1], shape)
    threshold, right = np.zeros(shape), np.zeros(shape)
    for j in range(Z.shape[1]):
        here = column == j
        seen = np.sort(Z[~np.isnan(Z[:, j]), j])
        low, high = seen[rng.integers(0, len(seen), (2, int(here.sum())))]
        threshold[here] = low + rng.random(len(low)) * (high - low)
        right[here] = 1 - np.searchsorted(seen, threshold[here], side="right") / len(seen)
    return SplitTrees(column, threshold, right)


def _grow_on_ranges(cells: Cells, n_trees: int, depth: int, rng: np.random.Generator) -> SplitTrees:
    """Thresholds uniform over the public range; the indicator of a category is split between its two values."""
    shape = (n_trees, 2**depth - 1)
    column = rng.integers(0, max(cells.width, 1), shape)
    threshold = rng.uniform(-PUBLIC_LIMIT, PUBLIC_LIMIT, shape)
    threshold[column >= len(cells.numeric)] = 0.0
    return SplitTrees(column, threshold, np.full(shape, 0.5))
