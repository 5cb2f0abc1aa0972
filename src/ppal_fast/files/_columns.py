"""One column of a file as numbers: measurements, counts, ISO dates as days, or the codes of a category."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..table import MOST_LEVELS
from ._read import refuse

KINDS = ("number", "count", "date", "category")
EPOCH = datetime(1970, 1, 1)
WHOLE = re.compile(r"[+-]?\d+\.0*")


@dataclass(frozen=True)
class ColumnRule:
    """What a schema file says about one column: its kind, its public range, its public levels.

    A "count" is a number with a heavy tail, learned from on the scale sign(x) log(1 + |x|); low and high are on it.
    """

    kind: str
    low: float | None = None
    high: float | None = None
    levels: tuple[str, ...] | None = None


def feature(
    path: Path, name: str, cells: Any, rule: ColumnRule | None
) -> tuple[NDArray[np.float64], tuple[str, ...] | None, str]:
    """One column as float64 with NaN for missing, its levels if it is a category, and its kind."""
    if rule is not None and rule.kind == "category":
        levels = rule.levels or find_levels(path, name, texts_of(cells))
        return codes_of(texts_of(cells), levels), levels, "category"
    numbers = numbers_of(cells) if rule is None or rule.kind in ("number", "count") else None
    if numbers is not None:
        if np.isinf(numbers).any():
            row = int(np.flatnonzero(np.isinf(numbers))[0])
            refuse(path, f"has an infinite value in column {name!r}, row {row + 1}; leave a missing cell empty")
        if rule is not None and rule.kind == "count":
            return log_scale(numbers), None, "count"
        return numbers, None, "number"
    days = days_of(cells) if rule is None or rule.kind == "date" else None
    if days is not None:
        return days, None, "date"
    texts = texts_of(cells)
    odd = _first_odd(texts, rule.kind if rule else "number")
    if rule is not None or _mostly_numbers(texts):
        what = "an ISO date (2024-03-31)" if rule is not None and rule.kind == "date" else "a number"
        refuse(path, f"has {texts[odd]!r} in column {name!r}, row {odd + 1}; {what} or an empty cell is expected")
    levels = find_levels(path, name, texts)
    return codes_of(texts, levels), levels, "category"


def log_scale(x: Any) -> Any:
    return np.sign(x) * np.log1p(np.abs(x))


def numbers_of(cells: Any) -> NDArray[np.float64] | None:
    import pyarrow as pa

    if pa.types.is_boolean(cells.type) or pa.types.is_dictionary(cells.type):
        return None
    try:
        numbers = cells.cast(pa.float64(), safe=pa.types.is_string(cells.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def days_of(cells: Any) -> NDArray[np.float64] | None:
    """Days since 1970-01-01 if every cell is an ISO date (with or without a time), else None."""
    import pyarrow as pa

    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        for zone in (None, "UTC"):
            try:
                cells = cells.cast(pa.timestamp("us", zone))
                break
            except pa.ArrowInvalid:
                continue
        else:
            return None
    if not (pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type)):
        return None
    microseconds = cells.cast(pa.timestamp("us")).cast(pa.int64())
    return np.array(microseconds.to_numpy(zero_copy_only=False), dtype=np.float64) / 86_400e6


def texts_of(cells: Any) -> NDArray[np.object_]:
    """(n,) texts with None for missing; a whole number is written without a point, so that 1.0 and 1 agree."""
    found = [None if _validate.is_missing(cell) else text_of(cell) for cell in cells.to_pylist()]
    return np.array(found, dtype=object)


def text_of(cell: Any) -> str:
    """1.0 becomes 1; nothing else changes (007 and the hash 0e12 are names, not numbers)."""
    text = str(cell).strip()
    return text[: text.index(".")] if WHOLE.fullmatch(text) else text


def _mostly_numbers(texts: NDArray[np.object_]) -> bool:
    """A column with at least as many numbers as words among its distinct texts was meant to be numeric."""
    seen = {text for text in texts if text is not None}
    numeric = sum(_is_number(text) for text in seen)
    return numeric > 0 and 2 * numeric >= len(seen)


def _first_odd(texts: NDArray[np.object_], kind: str) -> int:
    fits = _is_date if kind == "date" else _is_number
    return next((i for i, text in enumerate(texts) if text is not None and not fits(text)), 0)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def find_levels(path: Path, name: str, texts: NDArray[np.object_]) -> tuple[str, ...]:
    seen = {text for text in texts if text is not None}
    if len(seen) > MOST_LEVELS:
        refuse(
            path,
            f"has {len(seen)} distinct texts in column {name!r}, and at most {MOST_LEVELS} make a category; "
            f"if it names the rows use --id {name}, else --ignore {name}",
        )
    return tuple(sorted(seen))


def codes_of(texts: NDArray[np.object_], levels: tuple[str, ...]) -> NDArray[np.float64]:
    code = {level: float(k) for k, level in enumerate(levels)}
    return np.array([np.nan if text is None else code.get(text, np.nan) for text in texts], dtype=np.float64)
