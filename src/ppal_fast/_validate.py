"""Checks at the public edge: each names the argument, what it was and what is expected.

Below the edge code trusts its arguments. Importing this module imports numpy alone.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

Float = NDArray[np.float64]


def positive(**arguments: float) -> None:
    """Each argument is a finite number above zero: ``positive(clip=clip)``."""
    for name, value in arguments.items():
        if not _is_number(value) or not math.isfinite(value) or value <= 0:
            raise InputError(f"{name} was {value!r}; a finite number above 0 is expected")


def non_negative(**arguments: float) -> None:
    for name, value in arguments.items():
        if not _is_number(value) or not math.isfinite(value) or value < 0:
            raise InputError(f"{name} was {value!r}; a finite number of at least 0 is expected")


def fraction(**arguments: float) -> None:
    """Each argument lies strictly between 0 and 1."""
    for name, value in arguments.items():
        if not _is_number(value) or not 0 < value < 1:
            raise InputError(f"{name} was {value!r}; a number strictly between 0 and 1 is expected")


def integer(minimum: int, maximum: int | None = None, **arguments: int) -> None:
    """Each argument is a whole number in [minimum, maximum]: ``integer(1, n_jobs=n_jobs)``."""
    for name, value in arguments.items():
        good = isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= minimum
        if not good or (maximum is not None and value > maximum):
            span = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
            raise InputError(f"{name} was {value!r}; a whole number {span} is expected")


def one_of(choices: Iterable[str], **arguments: Any) -> None:
    """Each argument is one of ``choices``; the nearest one is offered."""
    names = list(choices)
    for name, value in arguments.items():
        if not (isinstance(value, str) and value in names):
            raise InputError(f"{name} was {value!r}; expected one of {', '.join(names)}{nearest(value, names)}")


def nearest(value: Any, names: Sequence[str]) -> str:
    """' (did you mean ...?)', or nothing where no name is near."""
    found = difflib.get_close_matches(str(value), list(names), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def vector(value: Any, *, name: str, length: int | None = None) -> Float:
    """A finite one-dimensional float64 array."""
    try:
        array = np.ascontiguousarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} could not be read as numbers ({error}); a sequence of numbers is expected") from None
    if array.ndim != 1 or (length is not None and len(array) != length):
        expected = "one dimension" if length is None else f"shape ({length},)"
        raise InputError(f"{name} has shape {array.shape}; {expected} is expected")
    if not np.isfinite(array).all():
        raise InputError(f"{name} has NaN or infinite entries; finite numbers are expected")
    return array


def random_generator(random_state: Any) -> np.random.Generator:
    """None, an int, a Generator or a RandomState. Never the source of privacy noise."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(0, 2**31 - 1, size=4))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError):
        raise InputError(
            f"random_state was {random_state!r}; None, an int of at least 0, a Generator or a RandomState is expected"
        ) from None


def table(X: Any, *, name: str = "X", n_columns: int | None = None, allow_missing: bool = True) -> Float:
    """A table as a C-contiguous float64 array (n, d); NaN is a missing cell, infinity is refused.

    numpy arrays, pandas and polars frames and pyarrow tables are taken; a column that holds text is named.
    The input is never changed and may share its memory with the result.
    """
    named = columns_of(X)
    array = _from_array(X, name) if named is None else _from_columns(named, name)
    if n_columns is not None and array.shape[1] != n_columns:
        raise InputError(f"{name} has {array.shape[1]} columns; {n_columns} are expected")
    if np.isinf(array).any():
        row, column = np.argwhere(np.isinf(array))[0]
        raise InputError(f"{name} has an infinite value in row {row}, column {column}; use NaN for a missing cell")
    if not allow_missing and np.isnan(array).any():
        raise InputError(f"{name} has missing cells; a complete table is expected")
    return array


def columns_of(X: Any) -> dict[str, Any] | None:
    """Name -> column for a pandas or polars frame or a pyarrow table; None for anything else."""
    if hasattr(X, "column_names") and hasattr(X, "column"):  # pyarrow
        return {str(n): X.column(i).to_pandas() for i, n in enumerate(X.column_names)}
    if hasattr(X, "columns") and hasattr(X, "dtypes") and hasattr(X, "shape") and len(X.shape) == 2:
        return {str(c): X.iloc[:, i] if hasattr(X, "iloc") else X[c] for i, c in enumerate(X.columns)}
    return None


def column_numbers(column: Any, *, name: str) -> Float:
    """One column as float64 with NaN for missing; raises on text, naming the column and the first such cell."""
    try:
        return np.asarray(column.to_numpy(), dtype=np.float64)
    except (TypeError, ValueError):
        pass
    cells = list(column)
    numbers_ = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            numbers_[i] = np.nan if is_missing(cell) else float(cell)
        except (TypeError, ValueError):
            raise InputError(
                f"column {name!r} has {cell!r} in row {i}; a number or a missing cell is expected"
            ) from None
    return numbers_


def is_missing(cell: Any) -> bool:
    """None, NaN, NaT and pandas.NA are missing; -1 is missing only where labels are read."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, float | np.floating) and math.isnan(cell)


def _from_columns(columns: dict[str, Any], name: str) -> Float:
    if not columns:
        raise InputError(f"{name} has no columns; at least one is expected")
    return np.ascontiguousarray(np.column_stack([column_numbers(c, name=n) for n, c in columns.items()]))


def _from_array(X: Any, name: str) -> Float:
    try:
        array = np.asarray(X)
        if array.dtype.kind == "c":
            raise TypeError("complex numbers")
        array = np.ascontiguousarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} could not be read as a table of numbers ({error})") from None
    if array.ndim != 2:
        raise InputError(f"{name} has {array.ndim} dimensions; a table of rows and columns is expected")
    return array


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
