"""The door: clip each unit on an integer grid, sum, add the rounded Gaussian on the public mask.

Released       total * gamma, total = sum_u k_u + round(N(0, S^2)) on the mask, 0 elsewhere
Unit           as the ledger says; relation as the ledger says
Sensitivity    K * stability (twice that for replace-one) grid units, K = floor(clip / gamma), checked in integers
Guarantee      mu-GDP with mu = sensitivity / S, plus 2**-320 of numerical delta a coordinate
Source         contracts 1 to 4 (docs/privacy/private_sum.md); attacked by tests/test_privacy_audit.py
Only privacy/ledger.py calls `release`: nothing here writes a ledger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError
from . import units
from .accounting import UNIT
from .randomness import NoiseStream
from .units import Rows, SparseRows

# K <= 2**24 keeps squares of a block in int64 (kernels/clipping.py allows 2**26); with S <= 2**28 float64 decides
# all but one sample in 300,000. Truncation moves a sum of n units by at most n 2**-23 clip norms, n 2**-27 deviations.
BOUND_BITS = 24
DEVIATION_BITS = 28
MOST_NOISE = 2.0**20  # in clip norms: beyond it a contribution would vanish on the grid
SMALLEST_CLIP, LARGEST_CLIP = 2.0**-900, 2.0**900

Float = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """The integers of one release, from public numbers alone.

    gamma       grid step, a power of two
    bound       K, the clip norm in grid units
    deviation   S, the noise standard deviation in grid units
    units       its charge: mu^2 in units of 2**-40, rounded up
    """

    gamma: float
    bound: int
    deviation: float
    units: int


def grid(
    clip: float, sigma: float, times: int, *, squares: int = 1, deviation_bits: int = DEVIATION_BITS
) -> Grid:
    """The grid for clip norm ``clip`` and noise of ``sigma`` sensitivities, a sensitivity being ``times`` clips.

    squares: where one contribution enters several noisy sums with whole weights, the sum of their squares; the
    sensitivity of these sums together is then ``times`` sqrt(squares) clips, and ``deviation`` is the noise of each.
    """
    _validate.positive(clip=clip, sigma=sigma)
    if not SMALLEST_CLIP <= clip <= LARGEST_CLIP:
        raise InputError(f"clip was {clip!r}; a number from {SMALLEST_CLIP:.0e} to {LARGEST_CLIP:.0e} is expected")
    if sigma * times > MOST_NOISE:
        raise InputError(
            f"sigma={sigma!r} asks for noise of {sigma * times:.3g} clip norms, in which a contribution would vanish; "
            f"at most {MOST_NOISE:.0f} are expected"
        )
    root = Fraction(1) if squares == 1 else Fraction(math.isqrt(squares << 64) + 1, 2**32)  # at or above sqrt(squares)
    exact_clip, exact_deviation = Fraction(clip), Fraction(clip) * times * Fraction(sigma) * root
    step = max(exact_clip / 2**BOUND_BITS, exact_deviation / 2**deviation_bits)
    mantissa, exponent = math.frexp(float(step))
    gamma = Fraction(2) ** (exponent - (mantissa == 0.5))  # the least power of two that is not below the step
    bound = math.floor(exact_clip / gamma)
    deviation = math.nextafter(float(exact_deviation / gamma), math.inf)
    units = math.ceil((bound * times / Fraction(deviation)) ** 2 * squares / Fraction(UNIT))
    return Grid(gamma=float(gamma), bound=bound, deviation=deviation, units=units)


def width(rows: Any) -> int:
    """d of rows (n, d)."""
    try:
        shape = np.shape(rows)
    except ValueError:
        raise InputError("rows has rows of different lengths; (n, d) numbers are expected") from None
    if len(shape) != 2 or shape[1] < 1:
        raise InputError(f"rows has shape {shape}; (n, d) with d of at least 1 is expected")
    return int(shape[1])


def checked_rows(rows: Any, mask: NDArray[np.bool_], weights: Any = None) -> Rows:
    """The masked-in columns, row i times weights[i]: float64 (n, m) contiguous, or SparseRows of scipy sparse rows.

    Columns outside the mask are not read, and sparse rows are never made dense. NaN and infinity are refused: a
    missing cell has to become a number by a public rule before it is summed.
    """
    factors = None if weights is None else checked_weights(weights, np.shape(rows)[0])
    if hasattr(rows, "tocsr"):
        return _checked_sparse(rows.tocsr(), mask, factors)
    if isinstance(rows, np.ma.MaskedArray):  # whose hidden cells np.asarray would uncover
        rows = np.ma.filled(rows.astype(np.float64), np.nan)
    table = np.asarray(rows)
    picked = _numbers(table if mask.all() else table[:, mask])
    if factors is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            picked = picked * factors[:, None]
    finite = np.isfinite(picked)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise _not_finite(row, np.flatnonzero(mask)[column])
    return picked


def _checked_sparse(rows: Any, mask: NDArray[np.bool_], factors: Float | None) -> SparseRows:
    """CSR rows without the columns outside the mask; what is left is renumbered."""
    units.check_columns(rows)
    columns = rows.indices.astype(np.intp)
    distinct = bool(rows.has_canonical_format)
    lengths, values = np.diff(rows.indptr).astype(np.intp), rows.data
    of_entry = np.repeat(np.arange(len(lengths)), lengths)
    if not mask.all():
        kept = mask[columns]
        of_entry, values = of_entry[kept], values[kept]
        lengths = np.bincount(of_entry, minlength=len(lengths))
        columns = (np.cumsum(mask) - 1)[columns[kept]]
    numbers = _numbers(values)
    if factors is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            numbers = numbers * factors[of_entry]
    finite = np.isfinite(numbers)
    if not finite.all():
        first = int(np.argmin(finite))
        raise _not_finite(of_entry[first], np.flatnonzero(mask)[columns[first]])
    starts = np.zeros(len(lengths) + 1, dtype=np.intp)
    np.cumsum(lengths, out=starts[1:])
    return SparseRows(starts, columns, numbers, int(mask.sum()), distinct)


def checked_weights(weights: Any, n: int) -> Float:
    """(n,) finite numbers."""
    factors = _numbers(weights)
    if factors.shape != (n,) or not np.isfinite(factors).all():
        raise InputError(f"weights has shape {factors.shape}; ({n},) finite numbers are expected, one a row")
    return factors


def _not_finite(row: Any, column: Any) -> InputError:
    return InputError(
        f"rows has a NaN or infinite entry (row {row}, column {column}); "
        "finite numbers are expected: fill missing cells by a public rule"
    )


def _numbers(picked: Any) -> Float:
    kind = np.asarray(picked).dtype
    try:
        if kind.kind not in "biufO":
            raise TypeError(f"dtype {kind}")
        return np.ascontiguousarray(picked, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"rows could not be read as numbers ({error}); finite numbers are expected") from None


def integer_sum(rows: Rows, starts: NDArray[np.intp], at: Grid) -> Int64:
    """The exact sum over units of their clipped, truncated contributions in grid units, (m,) int64."""
    from ..kernels import clipping

    if (len(starts) - 1) * at.bound + 64.0 * at.deviation >= 2.0**62:
        raise InputError(f"rows has {len(starts) - 1} units; their sum would overflow the grid")
    clip, per_unit = at.bound * at.gamma, 1.0 / at.gamma
    if isinstance(rows, SparseRows):
        total = np.zeros(rows.width, dtype=np.int64)
        clipping.sparse_integer_clip_sum(starts, rows.columns, rows.values, clip, per_unit, at.bound, total)
    else:
        total = np.zeros(rows.shape[1], dtype=np.int64)
        clipping.integer_clip_sum(rows, starts, clip, per_unit, at.bound, total)
    return total


def release(
    rows: Rows, starts: NDArray[np.intp], mask: NDArray[np.bool_], at: Grid, stream: NoiseStream
) -> Float:
    """The released vector, (d,) float64, a multiple of gamma; rows and starts as from units.by_unit."""
    total = integer_sum(rows, starts, at)
    total += stream.rounded_gaussian(len(total), at.deviation)
    released = np.zeros(len(mask))
    released[mask] = total * at.gamma
    return released
