"""Whom a guarantee protects: the unit, the neighbouring relation, and the rows that belong to one unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError

UNITS = {
    "label": "the label of one record; its features are taken as public",
    "record": "the features and the label of one record",
    "owner": "all records of one owner, clipped together",
}
RELATIONS = {
    "zero-out": "one unit's contribution is replaced by nothing (the zero vector in every sum)",
    "replace-one": "one unit's contribution is replaced by any other",
}
# Sensitivity of a sum in clip norms, and of mu of the one relation against the other.
SENSITIVITY = {"zero-out": 1, "replace-one": 2}

Float = NDArray[np.float64]


class PublicMask:
    """The coordinates that a release may touch, with the reason why knowing them betrays nobody.

    mask     (d,) boolean; noise is added wherever it is True, also where nobody contributed
    source   one sentence: "declared before collection", "survivors of the noisy counts of release 'cells'"
    A mask computed from private rows is not public: release noisy counts first and threshold those.
    """

    __slots__ = ("mask", "source")

    def __init__(self, mask: Any, source: str) -> None:
        array = np.asarray(mask)
        if array.dtype != np.bool_ or array.ndim != 1:
            raise InputError(
                f"mask has dtype {array.dtype} and shape {array.shape}; a one-dimensional boolean array is expected"
            )
        if not isinstance(source, str) or not source.strip():
            raise InputError(f"source was {source!r}; a sentence that says why the mask is public is expected")
        self.mask: NDArray[np.bool_] = array.copy()
        self.mask.setflags(write=False)
        self.source = source.strip()

    def __len__(self) -> int:
        return len(self.mask)

    def __repr__(self) -> str:
        return f"PublicMask({int(self.mask.sum())} of {len(self.mask)} coordinates, source={self.source!r})"


def checked_mask(mask: Any, length: int, *, of: str = "columns") -> NDArray[np.bool_]:
    """The boolean array of a PublicMask of the right length; None stands for all True."""
    if mask is None:
        return np.ones(length, dtype=np.bool_)
    if not isinstance(mask, PublicMask):
        raise InputError(
            f"mask was a {type(mask).__name__}; PublicMask(mask, source), which says why it is public, is expected"
        )
    if len(mask) != length:
        raise InputError(f"mask has length {len(mask)}; {length}, the number of {of}, is expected")
    return mask.mask


def check_columns(rows: Any) -> None:
    """Refuse a scipy CSR matrix with column numbers out of range: kernels trust them."""
    if rows.indices.size and not 0 <= rows.indices.min() <= rows.indices.max() < rows.shape[1]:
        raise InputError(f"rows has column numbers outside 0 .. {rows.shape[1] - 1}; a valid sparse matrix is expected")


@dataclass(frozen=True)
class SparseRows:
    """Rows of which only some entries are stored; row i owns entries starts[i] .. starts[i + 1] - 1.

    starts (n + 1,) and columns (e,) intp, values (e,) float64; width: number of columns
    distinct: in each row the columns are sorted and none stands twice
    """

    starts: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: Float
    width: int
    distinct: bool

    def __len__(self) -> int:
        return len(self.starts) - 1


Rows = Float | SparseRows


def by_unit(rows: Rows, owners: Any, unit: str) -> tuple[Rows, NDArray[np.intp]]:
    """Rows (of SparseRows: entries) sorted so that each unit's stand together, and where each unit starts.

    owners   (n,) anything hashable to equality, exactly for unit "owner"
    starts   (units + 1,); its last entry is the number of rows (entries)
    """
    codes = unit_codes(owners, len(rows), unit)
    alone = unit != "owner"
    n_units = int(codes.max(initial=-1)) + 1
    if isinstance(rows, SparseRows):
        grouped = rows if alone and rows.distinct else _grouped(rows, codes, n_units)
        return grouped, grouped.starts
    if alone:
        return rows, np.arange(n_units + 1, dtype=np.intp)
    order = np.argsort(codes, kind="stable")
    return np.ascontiguousarray(rows[order]), _starts(codes, n_units)


def unit_codes(owners: Any, n: int, unit: str) -> NDArray[np.intp]:
    """(n,) the unit that each row belongs to, 0, 1, ... in the order of appearance."""
    if unit != "owner":
        if owners is not None:
            raise InputError(f"owners were given but the ledger's unit is {unit!r}; open it with unit='owner'")
        return np.arange(n, dtype=np.intp)
    if owners is None:
        raise InputError("owners is missing; the ledger's unit is 'owner', so the owner of each row is expected")
    names = list(owners)
    if len(names) != n:
        raise InputError(f"owners has length {len(names)}; {n}, the number of rows, is expected")
    missing = next((i for i, name in enumerate(names) if _validate.is_missing(name)), None)
    if missing is not None:
        raise InputError(f"owners has a missing entry in row {missing}; the owner of every row is expected")
    code: dict[Any, int] = {}
    try:
        return np.array([code.setdefault(name, len(code)) for name in names], dtype=np.intp)
    except TypeError as error:
        raise InputError(f"owners has an entry that cannot be one ({error}); texts or numbers are expected") from None


def _grouped(rows: SparseRows, codes: NDArray[np.intp], n_units: int) -> SparseRows:
    """Entries by unit, then column, then value: what is added of a column depends on its values alone."""
    of_entry = np.repeat(codes, np.diff(rows.starts))
    order = np.lexsort((rows.values, rows.columns, of_entry))
    return SparseRows(_starts(of_entry, n_units), rows.columns[order], rows.values[order], rows.width, False)


def _starts(codes: NDArray[np.intp], n_units: int) -> NDArray[np.intp]:
    starts = np.zeros(n_units + 1, dtype=np.intp)
    np.cumsum(np.bincount(codes, minlength=n_units), out=starts[1:])
    return starts
