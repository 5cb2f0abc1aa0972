"""Sums of labels over public rows: sum_i x_i (x) t_(y_i), with a sensitivity that is computed and not declared.

Released       gamma (round(2^-s sum_i X_i (x) T_(y_i)) + round(N(0, S^2))), X and T the public rows and the public
               targets of the classes as whole numbers
Unit           label: rows and targets are public, so no clip is needed; relation as the ledger says
Sensitivity    L = 2^-s max_i |X_i| max |T_a - T_b| + (sqrt(d m) if s > 0), in whole numbers and rounded up; the maximum
               is over pairs of classes under replace-one, and under both relations over classes against nothing
Guarantee      mu-GDP with mu = L / S <= 1 / sigma, plus 2**-320 of numerical delta a coordinate
Source         docs/privacy/label_sums.md; attacked by tests/test_privacy_label_sums.py
For K centred one-hot targets replace-one costs sqrt 2, where twice the clip would be 2 sqrt(1 - 1/K).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _validate
from ..errors import InputError
from . import sums, units
from .accounting import UNIT
from .randomness import NoiseStream

MECHANISM = "label sum, rounded Gaussian, 1"  # part of every fingerprint; raise it when released bytes change meaning
TABLE_BITS = 20  # of the largest entry of rows and of targets; products of both leave room for 2**21 rows in int64
SENSITIVITY_BITS = 30
DEVIATION_BITS = 34  # of S: one sample in 5,000 is decided in high precision
SMALLEST, LARGEST = 2.0**-400, 2.0**400  # of the largest entry, so that products of steps are ordinary floats

Float = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class PublicTables:
    """The rows (n, d) and the targets (K, m) as whole multiples of steps that are powers of two."""

    rows: Int64
    targets: Int64
    step: float  # of a product

    @classmethod
    def of(cls, rows: ArrayLike, targets: ArrayLike) -> PublicTables:
        whole_rows, row_step = _whole(rows, "rows")
        whole_targets, target_step = _whole(targets, "targets")
        if not len(whole_targets):
            raise InputError("targets has 0 rows; the vector of at least one class is expected")
        return cls(whole_rows, whole_targets, row_step * target_step)

    def squared_sensitivity(self, relation: str) -> int:
        """Of the exact sum, in steps: over all rows, and all classes or pairs of classes."""
        gram = self.targets @ self.targets.T
        squares = np.diag(gram)
        widest = int(squares.max())
        if relation == "replace-one":
            widest = max(widest, int((squares[:, None] + squares - 2 * gram).max()))
        return widest * int((self.rows * self.rows).sum(axis=1).max(initial=0))

    def digest(self) -> str:
        digest = hashlib.sha256(f"{self.rows.shape} {self.targets.shape} {self.step!r}".encode())
        for table in (self.rows, self.targets):
            digest.update(table.astype("<i8").tobytes())
        return digest.hexdigest()

    def sum(self, codes: Int64) -> Int64:
        """sum_i T_(y_i) (x) X_i, (m, d), exactly; a code of -1 contributes nothing."""
        by_class = np.stack([self.rows[codes == k].sum(axis=0) for k in range(len(self.targets))])
        total: Int64 = self.targets.T @ by_class
        return total


@dataclass(frozen=True)
class LabelGrid:
    """The integers of one release, from public numbers alone.

    shift        s: the exact sum is rounded to multiples of 2^s steps, each of which is gamma
    sensitivity  L, and deviation S, in multiples of gamma
    units        its charge: mu^2 in units of 2**-40, rounded up
    """

    gamma: float
    shift: int
    sensitivity: int
    deviation: float
    units: int


def grid(tables: PublicTables, sigma: float, relation: str) -> LabelGrid:
    """The grid for noise of ``sigma`` sensitivities."""
    if sigma > sums.MOST_NOISE:
        raise InputError(f"sigma was {sigma!r}; at most {sums.MOST_NOISE:.0f} is expected: a label would vanish in it")
    exact = _root_above(tables.squared_sensitivity(relation))
    wide = max(Fraction(exact, 2**SENSITIVITY_BITS), exact * Fraction(sigma) / 2**DEVIATION_BITS)
    shift = max(0, (math.ceil(wide) - 1).bit_length())  # the least s with 2^s >= wide
    entries = tables.rows.shape[1] * tables.targets.shape[1]
    sensitivity = max(1, -(-exact // 2**shift) + (_root_above(entries) if shift else 0))
    deviation = math.nextafter(float(sensitivity * Fraction(sigma)), math.inf)
    largest = [int(np.abs(table).max(initial=0)) for table in (tables.rows, tables.targets)]
    if len(tables.rows) * largest[0] * largest[1] >= 2**61:
        raise InputError(f"rows has {len(tables.rows)} rows; their sum would overflow the grid")
    return LabelGrid(
        gamma=tables.step * 2.0**shift, shift=shift, sensitivity=sensitivity, deviation=deviation,
        units=math.ceil((sensitivity / Fraction(deviation)) ** 2 / Fraction(UNIT)),
    )


def noise_deviation(rows: ArrayLike, targets: ArrayLike, *, sigma: float, relation: str) -> float:
    """The standard deviation of the noise of a release with these public arguments, in the units of the sum."""
    _validate.positive(sigma=sigma)
    _validate.one_of(units.RELATIONS, relation=relation)
    at = grid(PublicTables.of(rows, targets), sigma, relation)
    return at.deviation * at.gamma


def checked_codes(codes: Any, n: int, n_classes: int) -> Int64:
    """(n,) class codes 0 .. n_classes - 1, or -1."""
    numbers = np.asarray(codes)
    if numbers.shape != (n,) or (n and numbers.dtype.kind not in "iu"):
        raise InputError(
            f"codes has shape {numbers.shape} and dtype {numbers.dtype}; ({n},) whole numbers are expected, one a row"
        )
    if n and not -1 <= numbers.min() <= numbers.max() < n_classes:
        raise InputError(f"codes has numbers from {numbers.min()} to {numbers.max()}; -1 to {n_classes - 1} expected")
    return numbers.astype(np.int64)


def release(tables: PublicTables, codes: Int64, at: LabelGrid, stream: NoiseStream) -> Float:
    """The released sum, flattened (m d,), a multiple of gamma."""
    total = tables.sum(codes).ravel()
    if at.shift:
        total = (total + (1 << at.shift - 1)) >> at.shift
    return np.asarray((total + stream.rounded_gaussian(len(total), at.deviation)) * at.gamma)


def _whole(table: ArrayLike, name: str) -> tuple[Int64, float]:
    """A finite table rounded to whole multiples of a power of two, of TABLE_BITS bits at most."""
    numbers = np.asarray(table, dtype=np.float64) if np.asarray(table).dtype.kind in "biuf" else np.empty(0)
    if numbers.ndim != 2 or numbers.shape[1] < 1 or not np.isfinite(numbers).all():
        raise InputError(f"{name} has shape {np.shape(table)}; a table of finite numbers with a column is expected")
    if numbers.shape[1] > 2**20:
        raise InputError(f"{name} has {numbers.shape[1]} columns; at most {2**20} are expected")
    largest = float(np.abs(numbers).max(initial=0.0))
    if largest == 0.0:
        return np.zeros(numbers.shape, dtype=np.int64), 1.0
    if not SMALLEST <= largest <= LARGEST:
        raise InputError(f"{name} has entries up to {largest!r}; {SMALLEST:.0e} to {LARGEST:.0e} are expected")
    exponent = math.frexp(largest)[1] - TABLE_BITS
    return np.rint(np.ldexp(numbers, -exponent)).astype(np.int64), math.ldexp(1.0, exponent)


def _root_above(square: int) -> int:
    """ceil(sqrt(square))."""
    root = math.isqrt(square)
    return root + (root * root < square)
