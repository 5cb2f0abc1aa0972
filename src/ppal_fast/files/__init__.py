"""Tables in files: CSV (plain or .gz) and Parquet into a Table, and rows for a labeller out again as CSV.

Cells become numbers, ISO dates become days since 1970-01-01, text with few levels becomes a category. Whatever
cannot be read is refused in one sentence that names the file, the column and the row; rows are counted from 1
below the header. Needs pyarrow (extra [tables]).
"""

from __future__ import annotations

import contextlib
import csv
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import DataWarning, InputError
from ..table import Schema, Table
from ._columns import EPOCH, KINDS, ColumnRule, feature, log_scale, text_of, texts_of
from ._read import columns_of, refuse

__all__ = [
    "ColumnRule", "TableFile", "check_writable_folder", "read_answers", "read_schema", "read_table", "write_rows",
]

ROW = "row"  # the id column where the table has none: the row's number


@dataclass(frozen=True)
class TableFile:
    """A table read from a file, with the columns that are not features set apart.

    table    the features
    ids      one text per row: the id column, or the row's number from 1
    labels   (n,) texts with None where the file has no label; None where no label column was named
    owners   (n,) texts, or None
    kinds    of each feature: number, count (on the scale of ColumnRule), date (days since 1970-01-01), category
    classes  the public classes of the label, where the schema lists them
    """

    path: Path
    table: Table
    ids: tuple[str, ...]
    id_name: str
    labels: NDArray[np.object_] | None
    owners: NDArray[np.object_] | None
    kinds: dict[str, str]
    classes: tuple[str, ...] | None


def read_table(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    id: str | None = None,
    owner: str | None = None,
    ignore: Sequence[str] = (),
    rules: Mapping[str, ColumnRule] | None = None,
) -> TableFile:
    """Read a CSV or Parquet file of at least two rows.

    Raises InputError in one sentence for whatever the file holds that it should not. Columns and rows without an
    observed cell are kept, with a DataWarning. ``rules`` (see read_schema) fixes kinds, ranges and levels.
    """
    path = Path(path)
    rules = dict(rules or {})
    columns = columns_of(path)
    for role, names in {"label": [label], "id": [id], "owner": [owner], "ignore": ignore, "schema": rules}.items():
        for name in names:
            if name is not None and name not in columns:
                refuse(path, f"has no column {name!r}{_validate.nearest(name, list(columns))}; {role} names it")
    n_rows = len(next(iter(columns.values())))
    if n_rows < 2:
        refuse(path, f"has {'no rows' if n_rows == 0 else 'one row'} below its header; at least 2 are expected")

    features = [name for name in columns if name not in {label, id, owner, *ignore}]
    if not features:
        refuse(path, "has no feature columns left beside label, id, owner and ignored columns")
    read = {name: feature(path, name, columns[name], rules.get(name)) for name in features}
    values = np.ascontiguousarray(np.column_stack([cells for cells, _, _ in read.values()]))
    schema = Schema(tuple(features), tuple(levels for _, levels, _ in read.values()))
    _warn_of_empty(path, values, features)
    return TableFile(
        path=path,
        table=Table(values, _with_bounds(path, schema, rules)),
        ids=tuple(str(i + 1) for i in range(n_rows)) if id is None else _unique_ids(path, id, columns[id]),
        id_name=id if id is not None else ROW,
        labels=None if label is None else texts_of(columns[label]),
        owners=None if owner is None else _complete(path, owner, columns[owner]),
        kinds={name: kind for name, (_, _, kind) in read.items()},
        classes=rules[label].levels if label in rules else None,
    )


def read_schema(path: str | os.PathLike[str]) -> dict[str, ColumnRule]:
    """Public facts about columns from a CSV with the header column,kind,low,high[,levels].

    kind is number, count, date or category; low and high are numbers, or ISO dates; levels are separated by ``|``.
    """
    path = Path(path)
    columns = {name: texts_of(cells) for name, cells in columns_of(path).items()}
    for name in ("column", "kind", "low", "high"):
        if name not in columns:
            refuse(path, f"has no column {name!r}; a schema has the header column,kind,low,high,levels")
    n_rows = len(columns["column"])
    levels = columns.get("levels", np.full(n_rows, None, dtype=object))
    rules: dict[str, ColumnRule] = {}
    for row in range(n_rows):
        name, kind = columns["column"][row], columns["kind"][row]
        if name is None or name in rules:
            refuse(path, f"{'names no column' if name is None else f'names {name!r} twice'} in row {row + 1}")
        if kind not in KINDS:
            refuse(path, f"has the kind {kind!r} for {name!r}; one of {', '.join(KINDS)} is expected")
        low, high = (_limit(path, name, kind, columns[side][row]) for side in ("low", "high"))
        if (low is None) != (high is None) or (low is not None and high is not None and low >= high):
            refuse(path, f"has no range for {name!r} with low below high; give both or neither")
        listed = levels[row]
        rules[name] = ColumnRule(kind, low, high, tuple(text_of(t) for t in listed.split("|")) if listed else None)
    return rules


def read_answers(path: str | os.PathLike[str], *, id: str, label: str) -> dict[str, str]:
    """The filled sheet of a labeller: id -> label, without the rows that were left empty.

    Raises InputError where an id is missing or given twice.
    """
    path = Path(path)
    columns = columns_of(path)
    for name in (id, label):
        if name not in columns:
            refuse(path, f"has no column {name!r}{_validate.nearest(name, list(columns))}; the sheet must keep it")
    ids = _unique_ids(path, id, columns[id])
    return {i: answer for i, answer in zip(ids, texts_of(columns[label]), strict=True) if answer is not None}


def write_rows(
    path: str | os.PathLike[str],
    table: Table,
    rows: Iterable[int],
    *,
    ids: Sequence[str],
    id_name: str,
    label: str,
    kinds: Mapping[str, str],
) -> None:
    """Write rows for a labeller: the id, an empty label column, then the features as they were in the file.

    ``kinds`` is that of the TableFile; numbers have 12 digits at most.
    """
    names, levels = table.schema.names, table.schema.levels
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([id_name, label, *names])
        for row in rows:
            cells = [
                _shown(value, known, kinds[name])
                for value, known, name in zip(table.values[row], levels, names, strict=True)
            ]
            writer.writerow([ids[row], "", *cells])


def check_writable_folder(path: str | os.PathLike[str], *, name: str = "out") -> Path:
    """Write a megabyte there and remove it, so that a full or read-only disk shows before the work starts."""
    folder = Path(path)
    probe = folder / ".ppal_fast_probe"
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * (1 << 20))
    except OSError as error:
        raise InputError(f"{name} was {str(folder)!r}, which cannot be written ({error.strerror}); "
                         "choose a folder with free space") from None
    finally:
        with contextlib.suppress(OSError):  # the parent is a file, or the disk is read-only: nothing was written
            probe.unlink(missing_ok=True)
            for place in made:
                place.rmdir()
    return folder


def _unique_ids(path: Path, name: str, cells: Any) -> tuple[str, ...]:
    ids = _complete(path, name, cells)
    first: dict[str, int] = {}
    for row, value in enumerate(ids):
        if value in first:
            refuse(path, f"has the id {value!r} in rows {first[value] + 1} and {row + 1}; every row needs its own id")
        first[value] = row
    return tuple(first)


def _complete(path: Path, name: str, cells: Any) -> NDArray[np.object_]:
    texts = texts_of(cells)
    row = next((i for i, text in enumerate(texts) if text is None), None)
    if row is not None:
        refuse(path, f"has an empty cell in column {name!r}, row {row + 1}; every row needs one")
    return texts


def _with_bounds(path: Path, schema: Schema, rules: Mapping[str, ColumnRule]) -> Schema:
    """Public ranges if the rules give them for every numeric column; categories range over their codes."""
    ranges = []
    for name, levels in zip(schema.names, schema.levels, strict=True):
        rule = rules.get(name)
        if levels is not None:
            ranges.append((0.0, max(1.0, len(levels) - 1.0)))
        elif rule is not None and rule.low is not None and rule.high is not None:
            ranges.append((rule.low, rule.high))
    return schema.with_bounds(ranges) if len(ranges) == len(schema.names) else schema


def _limit(path: Path, name: str, kind: str, text: str | None) -> float | None:
    if text is None or kind == "category":
        return None
    try:
        limit = (datetime.fromisoformat(text) - EPOCH) / timedelta(days=1) if kind == "date" else float(text)
    except ValueError:
        limit = np.nan
    if not np.isfinite(limit):
        refuse(path, f"has the limit {text!r} for {name!r}; a finite {kind} is expected")
    return float(log_scale(limit) if kind == "count" else limit)


def _warn_of_empty(path: Path, values: NDArray[np.float64], names: list[str]) -> None:
    observed = ~np.isnan(values)
    empty = [names[j] for j in np.flatnonzero(~observed.any(axis=0))]
    if empty:
        listed = ", ".join(empty[:3]) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        warnings.warn(f"{path}: no cell is observed in {listed}; kept, but nothing can be learned there",
                      DataWarning, stacklevel=3)
    bare = np.flatnonzero(~observed.any(axis=1))
    if bare.size:
        warnings.warn(f"{path}: rows without an observed cell: {bare.size}, the first is row {bare[0] + 1}; kept",
                      DataWarning, stacklevel=3)


def _shown(value: float, levels: tuple[Any, ...] | None, kind: str) -> str:
    if np.isnan(value):
        return ""
    if levels is not None:
        return str(levels[int(value)])
    if kind == "date":
        moment = EPOCH + timedelta(days=float(value))
        return moment.date().isoformat() if moment.time() == datetime.min.time() else moment.isoformat()
    if kind == "count":
        value = np.sign(value) * np.expm1(abs(value))
    return f"{value:.12g}" if abs(value) < 1e12 or not float(value).is_integer() else str(int(value))
