"""Cells: a table's columns on one scale, as the label-free maps take them.

Numeric columns are standardised on their observed cells and clipped, those with heavy tails or over many orders of
magnitude after a monotone map to normal scores; categories become blocks of centred indicator columns. A missing cell
stays NaN throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ..table import Schema, Table

Float = NDArray[np.float64]

CLIP = 4.0  # standard deviations
CATEGORY_WEIGHT = 0.6  # root mean square of an indicator column beside a numeric column's 1
RAREST = 1e-3  # least frequency of a category, so that its scale stays bounded
HEAVY_TAIL = 10.0  # kurtosis from which a column is mapped to normal scores (normal 3, exponential 9)
WIDE = 30.0  # where none is negative: ratio of the 95 % to the 5 % quantile of the positive ones that does the same
N_KNOTS = 100
FEWEST, MOST = 3, 12  # distinct whole numbers that make an undeclared column a category


@dataclass(frozen=True)
class Category:
    """Column ``column`` takes the values ``levels`` (L,) with frequencies ``frequency`` (L,) among observed cells."""

    column: int
    levels: Float
    frequency: Float

    @property
    def scale(self) -> float:
        return CATEGORY_WEIGHT / float(np.sqrt(self.frequency * (1 - self.frequency)).mean())

    def indicators(self, values: Float) -> Float:
        """(n, L) of 0 and 1; a missing or unknown category is a row of NaN."""
        block = (values[:, [self.column]] == self.levels).astype(np.float64)
        block[block.sum(axis=1) == 0] = np.nan
        return block


@dataclass(frozen=True)
class Cells:
    """Standardised cells: first the numeric columns, then one block per category.

    numeric     (p,) positions in the table;  mean, scale (p,), after the scores
    scores      position among the numeric columns -> increasing values and their normal scores, between which a cell
                is interpolated
    coverage    (d,) share of observed cells of every column of the table
    """

    numeric: NDArray[np.intp]
    mean: Float
    scale: Float
    categories: tuple[Category, ...]
    coverage: Float
    scores: dict[int, tuple[Float, Float]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return len(self.numeric) + sum(len(c.levels) for c in self.categories)

    def __call__(self, values: Float) -> Float:
        """values (n, d) -> (n, width), NaN where missing."""
        numbers = values[:, self.numeric]
        for j, (knots, scores) in self.scores.items():
            numbers[:, j] = np.interp(numbers[:, j], knots, scores)  # NaN stays NaN
        blocks = [np.clip((numbers - self.mean) / self.scale, -CLIP, CLIP)]
        blocks += [(c.indicators(values) - c.frequency) * c.scale for c in self.categories]
        return np.ascontiguousarray(np.column_stack(blocks))


def learn_cells(table: Table, *, detect: bool) -> Cells:
    """Means, scales and frequencies from the rows of ``table``: only where those rows are public.

    detect  also take an undeclared column of 3 to 12 distinct whole numbers for a category.
    A column that is constant or almost never observed is left out.
    """
    values, observed = table.values, table.observed
    n, d = values.shape
    enough = max(2, min(20, n // 10))
    declared = category_levels(table.schema)
    numeric, categories = [], []
    for j in range(d):
        seen = values[observed[:, j], j]
        if len(seen) < enough:
            continue
        levels = declared.get(j)
        if levels is None and detect:
            levels = _whole_number_levels(seen)
        if levels is None:
            if seen.std() > 1e-9 * max(1.0, float(np.abs(seen).max())):
                numeric.append(j)
        elif len(levels) > 1:
            frequency = (seen[:, None] == levels).mean(axis=0)
            categories.append(Category(j, levels, np.clip(frequency, RAREST, 1 - RAREST)))
    kept = np.array(numeric, dtype=np.intp)
    mean, scale = np.zeros(len(kept)), np.ones(len(kept))
    scores = {}
    for k, j in enumerate(numeric):
        seen = values[observed[:, j], j]
        if _skewed(seen):
            scores[k] = _normal_scores(seen)
            seen = np.interp(seen, *scores[k])
        mean[k], scale[k] = seen.mean(), seen.std()
    return Cells(kept, mean, scale, tuple(categories), observed.mean(axis=0), scores)


def _skewed(seen: Float) -> bool:
    """Whether a few values, or a few orders of magnitude, would stand for the whole column."""
    if (((seen - seen.mean()) / seen.std()) ** 4).mean() > HEAVY_TAIL:
        return True
    if seen.min() < 0:
        return False
    low, high = np.quantile(seen[seen > 0], (0.05, 0.95))
    return bool(high > WIDE * low)


def _normal_scores(seen: Float) -> tuple[Float, Float]:
    """Distinct quantiles and the normal scores of their mid-ranks."""
    seen = np.sort(seen)
    knots = np.unique(seen[np.linspace(0, len(seen) - 1, N_KNOTS).round().astype(np.intp)])
    rank = (np.searchsorted(seen, knots, side="left") + np.searchsorted(seen, knots, side="right")) / (2 * len(seen))
    return knots, ndtri(rank)


def category_levels(schema: Schema) -> dict[int, Float]:
    """Column -> the codes that its declared categories have in a table's values."""
    return {int(j): np.arange(len(schema.levels[j] or ()), dtype=np.float64) for j in schema.categorical}


def _whole_number_levels(seen: Float) -> Float | None:
    if (seen[: 4 * MOST] != np.round(seen[: 4 * MOST])).any():
        return None
    levels = np.unique(seen)
    whole = (levels == np.round(levels)).all()
    return levels if whole and FEWEST <= len(levels) <= MOST else None
