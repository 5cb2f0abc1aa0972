"""Table: rows with missing cells and what is publicly known of their columns (names, categories, ranges).

Everything after this module sees float64 values with NaN for a missing cell and whole-number codes for
categories. The schema is public by declaration: nothing in it may be computed from private rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validate
from .errors import InputError

Float = NDArray[np.float64]
MOST_LEVELS = 64  # a text column with more distinct values is an identifier, not a category


@dataclass(frozen=True)
class Schema:
    """What is public about the columns.

    names    (d,) column names
    levels   (d,) None for a numeric column, else its categories in the order of their codes
    bounds   (d, 2) public lower and upper limits of the numeric columns, or None where none were declared
    """

    names: tuple[str, ...]
    levels: tuple[tuple[Any, ...] | None, ...]
    bounds: Float | None = field(default=None, compare=False)

    @property
    def categorical(self) -> NDArray[np.intp]:
        """Positions of the categorical columns."""
        return np.array([j for j, levels in enumerate(self.levels) if levels is not None], dtype=np.intp)

    def with_bounds(self, bounds: ArrayLike) -> Schema:
        """The same columns with public ranges: (d, 2), or one (low, high) for all."""
        try:
            limits = np.array(np.broadcast_to(np.asarray(bounds, dtype=np.float64), (len(self.names), 2)))
        except (TypeError, ValueError):
            raise InputError(f"bounds must be one (low, high) or {len(self.names)}, a pair for each column") from None
        if not np.isfinite(limits).all() or (limits[:, 0] >= limits[:, 1]).any():
            raise InputError("bounds must be finite (low, high) pairs with low below high")
        return replace(self, bounds=limits)


@dataclass(frozen=True)
class Table:
    """values (n, d) float64 with NaN for a missing cell; schema of its d columns."""

    values: Float
    schema: Schema

    @property
    def observed(self) -> NDArray[np.bool_]:
        """(n, d) True where a cell is there."""
        return ~np.isnan(self.values)

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(
        cls, X: Any, *, schema: Schema | None = None, categorical: Sequence[int | str] | None = None, name: str = "X"
    ) -> Table:
        """Read a numpy array, a pandas or polars frame, a pyarrow table or a Table.

        Text, boolean and category columns of a frame become categories. ``categorical`` names or numbers
        further columns whose values are codes. With ``schema`` the columns are read as that schema says, and an
        unknown category is a missing cell. Raises InputError naming the column that cannot be read.
        """
        if isinstance(X, Table):
            return X if schema is None or schema == X.schema else cls(_same_width(X.values, schema, name), schema)
        columns = _validate.columns_of(X)
        if columns is None:
            values = _validate.table(X, name=name)
            names = tuple(f"x{j}" for j in range(values.shape[1]))
            if schema is not None:
                values = _same_width(values, schema, name)
                # codes of declared categories stay codes; anything else in such a column is missing
                return cls(_encode(values, schema.levels), schema)
            levels = _code_levels(values, _positions(categorical, names))
            return cls(_encode(values, levels), Schema(names, levels))
        if schema is not None:
            missing = [n for n in schema.names if n not in columns]
            if missing:
                near = _validate.nearest(missing[0], list(columns))
                raise InputError(f"{name} has no column {missing[0]!r}{near}; it is in the schema")
            levels_of = dict(zip(schema.names, schema.levels, strict=True))
            values, _ = _read_columns({n: columns[n] for n in schema.names}, levels_of)
            return cls(_finite(values, schema.names, name), schema)
        forced = {list(columns)[j] for j in _positions(categorical, tuple(columns))}
        values, levels = _read_columns(columns, {n: () if n in forced else None for n in columns})
        return cls(_finite(values, tuple(columns), name), Schema(tuple(columns), levels))

    def take(self, rows: Any) -> Table:
        """The rows at these positions, or where a mask is True, under the same schema."""
        return Table(np.ascontiguousarray(self.values[rows]), self.schema)


def _same_width(values: Float, schema: Schema, name: str) -> Float:
    if values.shape[1] != len(schema.names):
        raise InputError(f"{name} has {values.shape[1]} columns; {len(schema.names)} are expected")
    return values


def _positions(categorical: Sequence[int | str] | None, names: tuple[str, ...]) -> list[int]:
    found = []
    for column in () if categorical is None else categorical:
        if isinstance(column, str):
            if column not in names:
                near = _validate.nearest(column, names)
                raise InputError(f"categorical names {column!r}, which is not a column{near}")
            found.append(names.index(column))
        else:
            _validate.integer(0, len(names) - 1, categorical=int(column))
            found.append(int(column))
    return found


def _code_levels(values: Float, positions: list[int]) -> tuple[tuple[Any, ...] | None, ...]:
    levels: list[tuple[Any, ...] | None] = [None] * values.shape[1]
    for j in positions:
        seen = np.unique(values[~np.isnan(values[:, j]), j])
        levels[j] = tuple(float(v) for v in seen)
    return tuple(levels)


def _encode(values: Float, levels: tuple[tuple[Any, ...] | None, ...]) -> Float:
    """Levels of the categorical columns as codes; where the levels are texts, an array holds the codes already."""
    out = values
    for j, known in enumerate(levels):
        if known is not None:
            if out is values:
                out = values.copy()
            numeric = all(isinstance(level, int | float) for level in known)
            out[:, j] = _lookup(values[:, j], known if numeric else tuple(map(float, range(len(known)))))
    return out


def _lookup(cells: Any, levels: tuple[Any, ...]) -> Float:
    """The code of each cell, NaN for a missing cell and for a level that the schema does not know."""
    code = {level: float(k) for k, level in enumerate(levels)}
    return np.array([np.nan if _validate.is_missing(c) else code.get(c, np.nan) for c in cells], dtype=np.float64)


def _read_columns(
    columns: dict[str, Any], wanted: dict[str, tuple[Any, ...] | None]
) -> tuple[Float, tuple[tuple[Any, ...] | None, ...]]:
    """Numbers where a column is numeric, codes where it is a category (levels () = to be found)."""
    read: list[Float] = []
    levels: list[tuple[Any, ...] | None] = []
    for name, column in columns.items():
        known = wanted[name]
        if known is None and not _is_text(column):
            read.append(_validate.column_numbers(column, name=name))
            levels.append(None)
            continue
        cells = [None if _validate.is_missing(c) else c for c in column]
        if not known:
            known = _find_levels(name, cells)
        read.append(_lookup(cells, known))
        levels.append(known)
    if not read:
        raise InputError("the table has no columns; at least one is expected")
    return np.ascontiguousarray(np.column_stack(read)), tuple(levels)


def _find_levels(name: str, cells: list[Any]) -> tuple[Any, ...]:
    seen = {c for c in cells if c is not None}
    numeric = [c for c in seen if _reads_as_number(c)]
    if len(seen) / 2 <= len(numeric) < len(seen):  # a numeric column with a few texts in it
        row, odd = next((i, c) for i, c in enumerate(cells) if c is not None and not _reads_as_number(c))
        raise InputError(f"column {name!r} has {odd!r} in row {row}; a number or a missing cell is expected")
    if len(seen) > MOST_LEVELS:
        raise InputError(
            f"column {name!r} has {len(seen)} distinct texts; at most {MOST_LEVELS} categories are expected: "
            "ignore the column or name it as the id"
        )
    return tuple(sorted(seen, key=str))


def _reads_as_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return not isinstance(cell, bool)


def _is_text(column: Any) -> bool:
    kind = str(getattr(column, "dtype", "")).lower()
    return any(word in kind for word in ("object", "str", "utf8", "categor", "enum", "bool"))


def _finite(values: Float, names: tuple[str, ...], name: str) -> Float:
    if np.isinf(values).any():
        row, j = np.argwhere(np.isinf(values))[0]
        raise InputError(f"{name} has an infinite value in row {row}, column {names[j]!r}; leave missing cells empty")
    return values
