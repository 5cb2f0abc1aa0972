"""QUBO and Ising problems made ready for the kernels: symmetric, scaled to small integers where that is exact.

Everything becomes E(s) = b's + s'Js/2 with s in {-1, +1}^n; the caller's energy is unit * E + offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .. import _validate
from ..errors import InputError
from ..kernels import bifurcation, bits, fields
from ..kernels.multispin import MOST_BONDS

Array = NDArray[Any]
DENSITY_OF_CSR = 0.1  # below it rows of indices beat whole rows, measured at n = 500 to 2000
LEAST_OF_BITS = 128  # a row of bits is looked at in 512s
NO_INDEX = np.empty(0, np.int32)


@dataclass(frozen=True)
class Model:
    """couplings hold 2 J (see kernels/fields.py); matrix and linear are the problem itself, for exact ends."""

    couplings: Array
    indptr: Array
    indices: Array  # of the CSR rows, or the two values of couplings of one bit
    h_up: Array  # J 1 + b
    b: Array
    unit: float
    offset: float
    exact: bool  # energies are integers below 2^53: what the kernels track is exact
    row_rms: float  # root mean square over i of |(J_i, b_i)|_2: the scale of the fields of random spins
    row_low: float  # the same norm of the weakest rows that are not empty: their 5 % quantile
    norm: float  # largest absolute row sum of J: bounds the spectral radius
    matrix: Any  # symmetric, zero diagonal, dense or CSR
    linear: Array
    binary: bool  # x in {0, 1} with f = linear'x + x'matrix x/2; else s in {-1, 1} with the same form

    @property
    def n(self) -> int:
        return len(self.b)

    @cached_property
    def radius(self) -> float:
        """Spectral radius of J: a power iteration, a tenth added for what it missed, at most the largest row sum."""
        v = np.random.default_rng(0).standard_normal(self.n)
        reached = 0.0
        matrix = self.matrix if self.matrix.dtype == np.float64 else self.matrix.astype(np.float64)
        for _ in range(12):
            v = matrix @ (v / (np.linalg.norm(v) or 1.0))
            reached = float(np.linalg.norm(v))
        return min(self.norm, 1.1 * reached * (0.25 if self.binary else 1.0) / self.unit)

    @cached_property
    def lanes(self) -> tuple[Array, Array, Array, Array]:
        """(J, indptr, indices, b) in float32 for the lane kernels; dense ones are padded."""
        weights, b = self.couplings.astype(np.float32) / 2, self.b.astype(np.float32)
        if weights.ndim == 3:
            weights = (self.matrix * (1.0 / np.abs(self.matrix).max())).astype(np.float32)
        pad = -self.n % bifurcation.PAD if weights.ndim == 2 else 0
        if pad:
            weights, b = np.pad(weights, (0, pad)), np.pad(b, (0, pad))
        return weights, self.indptr, self.indices, b

    @cached_property
    def bonds(self) -> tuple[Array, Array] | None:
        """(bonds, indptr) of kernels/multispin.py, or None where a spin would have too many: a coupling of weight w is
        w bonds, a bias is bonds to spin n, which is up."""
        if self.couplings.ndim != 1 or not self.exact:
            return None
        J = sparse.csr_array((self.couplings / 2, self.indices, self.indptr), (self.n, self.n))
        both = sparse.csr_array(sparse.hstack([J, sparse.csr_array(self.b[:, None])]))
        weights = np.abs(both.data).astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(weights)])[both.indptr]
        if np.diff(ends).max() > MOST_BONDS or ends[-1] == 0:
            return None
        return np.repeat(2 * both.indices + (both.data < 0), weights).astype(np.int32), ends.astype(np.int32)

    def start(self, s: Array) -> tuple[Array, float]:
        """Local fields and energy E of a state."""
        h = np.empty_like(self.h_up)
        return h, fields.start(self.couplings, self.indptr, self.indices, self.h_up, self.b, s, h)

    def values(self, s: Array) -> Array:
        """The state in the caller's alphabet, int8."""
        return ((s + 1) // 2).astype(np.int8) if self.binary else s.astype(np.int8)

    def energy(self, s: Array) -> float:
        """The caller's energy of a state: exact integers, or float64 sums over the caller's own entries."""
        if self.exact:
            return float(self.unit * self.start(s)[1] + self.offset)
        v = self.values(s).astype(np.float64)
        return float(self.linear @ v + 0.5 * (v @ (self.matrix @ v)))

    def polish(self, s: Array) -> Array:
        """One-flip descent in float64, for couplings that the kernels hold rounded."""
        if self.exact:
            return s
        v = self.values(s).astype(np.float64)
        low_plus_high = 1.0 if self.binary else 0.0
        h = self.linear + self.matrix @ v
        s = s.copy()
        for _ in range(100):  # passes, which only rounding could reach
            improving = np.flatnonzero((low_plus_high - 2.0 * v) * h < 0)
            for i in improving.tolist():
                step = low_plus_high - 2.0 * v[i]
                if step * h[i] < 0:
                    self.add_row(h, i, step)
                    v[i] += step
                    s[i] = -s[i]
            if not len(improving):
                break
        return s

    def add_row(self, h: Array, i: int, step: float) -> None:
        """h += step times row i of ``matrix``."""
        if sparse.issparse(self.matrix):
            row = slice(self.matrix.indptr[i], self.matrix.indptr[i + 1])
            h[self.matrix.indices[row]] += step * self.matrix.data[row]
        else:
            h += step * self.matrix[i]

    def changes(self, s: Array) -> Array:
        """(n,) what flipping each variable adds to the caller's energy."""
        v = self.values(s).astype(np.float64)
        return ((1.0 if self.binary else 0.0) - 2.0 * v) * (self.linear + self.matrix @ v)


def square(matrix: Any, *, name: str) -> Any:
    """A finite square matrix as float64: a C-contiguous array or CSR. Raises InputError."""
    if sparse.issparse(matrix):
        if matrix.dtype.kind in "cO":
            raise InputError(f"{name} has dtype {matrix.dtype}; real numbers are expected")
        found = sparse.csr_array(matrix).astype(np.float64)
        found.sum_duplicates()
        entries = found.data
    else:
        try:
            found = np.asarray(matrix)
            if found.dtype.kind not in "biuf":
                raise TypeError(f"dtype {found.dtype}")
            found = np.ascontiguousarray(found, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} could not be read as a matrix of real numbers ({error})") from None
        entries = found
    if found.ndim != 2 or found.shape[0] != found.shape[1] or found.shape[0] == 0:
        raise InputError(f"{name} has shape {found.shape}; a square matrix of at least one row is expected")
    top = fields.largest(entries.ravel())
    if not np.isfinite(top):
        raise InputError(f"{name} has NaN or infinite entries; finite numbers are expected")
    if top > 1e307 / found.shape[0] ** 2:
        raise InputError(f"{name} has entries as large as {top:.3g}, whose energies overflow; scale {name} down")
    return found


def from_qubo(Q: Any) -> Model:
    """Model of x'Qx, Q validated by ``square``."""
    if sparse.issparse(Q):
        linear = np.ascontiguousarray(Q.diagonal(), dtype=np.float64)
        matrix = sparse.csr_array(Q + Q.T - sparse.diags_array(2.0 * linear))
        matrix.eliminate_zeros()
    else:
        matrix, linear = np.empty_like(Q), np.empty(len(Q))
        fields.symmetrise(Q, matrix, linear)
    # 4 x'Qx with x = (1 + s)/2: J = W, b = 2 d + W 1, offset = sum_{i<j} W_ij + 2 sum d
    return _model(matrix, linear, True)


def from_ising(J: Any, h: Any) -> Model:
    """Model of h's + s'Js/2. Raises InputError for a J that is not symmetric or has a diagonal."""
    quick = _small_whole(J, h)
    if quick is not None:
        return quick
    matrix = square(J, name="J")
    linear = np.zeros(matrix.shape[0]) if h is None else _validate.vector(h, name="h", length=matrix.shape[0])
    if np.any(matrix.diagonal()):
        raise InputError("J has a nonzero diagonal; s_i^2 = 1, so a zero diagonal is expected")
    if not ((matrix != matrix.T).nnz == 0 if sparse.issparse(matrix) else fields.is_symmetric(matrix)):
        raise InputError("J is not symmetric; a symmetric J is expected, for instance (J + J.T) / 2")
    if sparse.issparse(matrix):
        matrix.eliminate_zeros()
    return _model(matrix, linear, False)


def _small_whole(J: Any, h: Any) -> Model | None:
    """The model of a dense J of two values, or of whole numbers up to 63, read once, without a float64 copy; or None.

    None also stands for anything that may be wrong with J: the long way finds out what it is.
    """
    if not (isinstance(J, np.ndarray) and J.ndim == 2 and J.shape[0] == J.shape[1] > 1 and J.flags.carray
            and J.dtype in (np.float64, np.int8)):
        return None
    n = len(J)
    linear = np.zeros(n) if h is None else _validate.vector(h, name="h", length=n)
    of_bits = _two_valued(J, linear, False)
    if of_bits is not None:
        return of_bits
    couplings = np.empty((n, n), np.int8)
    sums, sizes, squares = np.empty(n), np.empty(n), np.empty(n)
    nonzeros = fields.pack_small_whole(J, sums, sizes, squares, couplings)
    is_symmetric = fields.is_symmetric_bytes if n % 8 == 0 else fields.is_symmetric
    if nonzeros < DENSITY_OF_CSR * n**2 or couplings.diagonal().any() or not is_symmetric(couplings):
        return None
    largest_field = float(np.max(sizes + np.abs(linear)))
    if largest_field > 32767 or not _whole(linear) or _common_factor(couplings, 2.0 * linear, 1.0, least=2.0) != 2.0:
        return None
    squares += np.square(linear)
    return Model(
        couplings=couplings, indptr=NO_INDEX, indices=NO_INDEX, h_up=(sums + linear).astype(np.int16),
        b=linear.astype(np.int16), unit=1.0, offset=0.0, exact=True, row_rms=float(np.sqrt(squares.mean())),
        row_low=_low(squares), norm=float(sizes.max()), matrix=J, linear=linear, binary=False,
    )


def _two_valued(J: Array, linear: Array, binary: bool) -> Model | None:
    """The model of a dense J whose pairs are all c or -c, or all c or 0, one bit each; or None, also where it is not
    symmetric, has a diagonal, or its fields do not fit int16."""
    n = len(J)
    if n < LEAST_OF_BITS or n >= 2**15:
        return None
    values = np.unique(J[0, 1:])
    unit = float(np.abs(values).max())
    if len(values) != 2 or not 0.0 < unit < np.inf or any(abs(v) not in (0.0, unit) for v in values.tolist()):
        return None
    couplings, counts = np.empty((n, -(-n // bits.CHUNK), bits.WORDS), np.uint64), np.empty(n, np.int64)
    if not (bits.pack_bits(J, values[0], values[1], couplings, counts) and bits.are_symmetric(couplings)):
        return None
    low, high = np.rint(values / unit)
    sums, squares = low * (n - 1 - counts) + high * counts, low**2 * (n - 1 - counts) + high**2 * counts
    b = (2.0 * linear if binary else linear) / unit + (sums if binary else 0.0)
    if squares.sum() < DENSITY_OF_CSR * n**2 or not _whole(b) or np.max(squares + np.abs(b)) > 32767:
        return None
    if not np.array_equal((b - sums) * unit / 2.0 if binary else b * unit, linear):
        return None
    norm, squares = float(squares.max()), squares + np.square(b)
    return Model(
        couplings=couplings, indptr=NO_INDEX, indices=np.array([2 * low, 2 * high], np.int32),
        h_up=(sums + b).astype(np.int16), b=b.astype(np.int16), unit=0.25 * unit if binary else unit,
        offset=float(0.125 * unit * sums.sum() + 0.5 * linear.sum()) if binary else 0.0, exact=True,
        row_rms=float(np.sqrt(squares.mean())), row_low=_low(squares), norm=norm, matrix=J, linear=linear,
        binary=binary,
    )


def _low(squares: Array) -> float:
    """The 5 % quantile of the row norms that are not zero."""
    norms = np.sqrt(squares[squares > 0.0])
    place = len(norms) // 20
    return float(np.partition(norms, place)[place]) if len(norms) else 1.0


def _model(matrix: Any, linear: Array, binary: bool) -> Model:
    """Scale (J, b) and choose the narrowest type that holds couplings and fields."""
    n = len(linear)
    J = matrix
    if sparse.issparse(J) and J.nnz > DENSITY_OF_CSR * n**2:
        J = J.toarray()
    of_bits = None if sparse.issparse(J) else _two_valued(J, linear, binary)
    if of_bits is not None:
        return of_bits
    sums, sizes, squares = np.empty(n), np.empty(n), np.empty(n)

    def survey(multiplier: float) -> tuple[float, int, int]:
        if not sparse.issparse(J):
            return fields.survey(J, sums, sizes, squares, multiplier)
        scaled = J * multiplier
        with np.errstate(over="ignore"):
            sums[:], sizes[:], squares[:] = (np.asarray(M.sum(axis=1)).ravel() for M in (J, abs(J), scaled * scaled))
        scaled = scaled.data
        return float(np.max(np.abs(J.data), initial=0.0)), J.nnz, int(np.count_nonzero(scaled != np.rint(scaled)))

    largest, nonzeros, broken = survey(1.0)
    unit, offset = (0.25, 0.125 * sums.sum() + 0.5 * linear.sum()) if binary else (1.0, 0.0)
    b = 2.0 * linear + sums if binary else linear
    if not sparse.issparse(J) and nonzeros < DENSITY_OF_CSR * n**2:
        J = sparse.csr_array(J)
    top = max(largest, float(np.max(np.abs(b))))
    multiplier = 1.0
    while multiplier < 64.0 and top < 2**40 and (broken or not _whole(b * multiplier)):
        multiplier *= 2.0
        broken = survey(multiplier)[2]
    exact = top < 2**40 and not broken and _whole(b * multiplier)
    surveyed = multiplier
    if exact:
        multiplier /= _common_factor(J.data if sparse.issparse(J) else J, b, multiplier)
        squares *= (multiplier / surveyed) ** 2
    else:
        multiplier = 1.0 / max(top, 1e-300)
        survey(multiplier)
    largest_field = float(np.max(sizes + np.abs(b))) * multiplier
    exact = exact and largest_field * n < 2**52
    types: tuple[Any, Any] = (np.int16, np.int32)
    if sparse.issparse(J) or not exact or 2.0 * largest * multiplier > 32767 or largest_field >= 2**31:
        exact = exact and largest_field < 2**24
        types = (np.float32, np.float32)
    elif 2.0 * largest * multiplier <= 127 and largest_field <= 32767:
        types = (np.int8, np.int16)
    squares += np.square(b * multiplier)
    row_rms = float(np.sqrt(np.mean(squares))) or 1.0
    if sparse.issparse(J):
        couplings = (J.data * (2.0 * multiplier)).astype(np.float32)
    else:
        couplings = np.empty((n, n), types[0])
        fields.pack(J, 2.0 * multiplier, couplings)
    return Model(
        couplings=couplings,
        indptr=J.indptr.astype(np.int32) if sparse.issparse(J) else NO_INDEX,
        indices=J.indices.astype(np.int32) if sparse.issparse(J) else NO_INDEX,
        h_up=((sums + b) * multiplier).astype(types[1]), b=(b * multiplier).astype(types[1]),
        unit=unit / multiplier, offset=float(offset), exact=exact,
        row_rms=row_rms,
        row_low=_low(squares),
        norm=float(sizes.max() * multiplier) or 1.0,
        matrix=matrix, linear=linear, binary=binary,
    )


def _common_factor(entries: Array, b: Array, multiplier: float, least: float = 1.0) -> float:
    """Greatest common divisor of all entries times ``multiplier``; most meet ``least`` within a thousand entries."""
    for pieces in (entries.ravel()[:1000], entries):
        whole = np.concatenate([pieces.ravel(), b]) * multiplier
        factor = float(np.gcd.reduce(whole.astype(np.int64)))
        if factor == least:
            break
    return factor or 1.0


def _whole(values: Array) -> bool:
    return bool(np.array_equal(values, np.rint(values)))
