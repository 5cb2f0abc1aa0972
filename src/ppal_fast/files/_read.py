"""The bytes of a CSV or Parquet file into named pyarrow columns, or one sentence that says what is wrong with them."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path
from typing import Any, NoReturn

from ..errors import InputError

# what spreadsheets, R and pandas write for a missing cell
MISSING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>", "?"]


def columns_of(path: Path) -> dict[str, Any]:
    """Name -> pyarrow array, texts stripped and missing cells null."""
    _require_pyarrow()
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is not there; name a CSV or Parquet file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name a readable CSV or Parquet file") from None
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            refuse(path, "breaks off or is damaged inside its compressed data; copy the file again")
    table = _read_parquet(path, raw) if raw[:4] == b"PAR1" else _read_csv(path, raw)
    return {str(name): table.column(j).combine_chunks() for j, name in enumerate(table.column_names)}


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        raise InputError('reading tables from files needs pyarrow: pip install "ppal_fast[tables]"') from None


def _read_parquet(path: Path, raw: bytes) -> Any:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pa.parquet.read_table(io.BytesIO(raw))
    except (pa.ArrowException, OSError) as error:
        refuse(path, f"is not a complete Parquet file ({str(error).splitlines()[0]})")
    _check_names(path, [str(name) for name in table.column_names])
    return table


def _read_csv(path: Path, raw: bytes) -> Any:
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.csv

    if b"\0" in raw:
        refuse(path, "is a binary file; CSV (plain or .gz) or Parquet is expected")
    if not raw.strip():
        refuse(path, "is empty; a header and at least 2 rows are expected")
    try:
        first = raw.removeprefix(b"\xef\xbb\xbf").splitlines()[0].decode()
    except UnicodeDecodeError:
        refuse(path, "is not UTF-8 text; save it as UTF-8 CSV")
    separator = max(",;\t", key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=separator))]
    _check_names(path, names)
    ragged: list[Any] = []

    def remember(row: Any) -> str:
        ragged.append(row)
        return "skip"

    try:
        table = pa.csv.read_csv(
            io.BytesIO(raw),
            # one thread: only then does pyarrow know the number of a bad row
            read_options=pa.csv.ReadOptions(use_threads=False, column_names=names, skip_rows=1, block_size=1 << 24),
            parse_options=pa.csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, ignore_empty_lines=len(names) > 1,
                invalid_row_handler=remember,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=MISSING, strings_can_be_null=True
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError) as error:
        if "utf" in str(error).lower():
            refuse(path, "is not UTF-8 text; save it as UTF-8 CSV")
        if len(raw.splitlines()) == 1:
            return pa.table({name: pa.array([], pa.string()) for name in names})
        refuse(path, f"cannot be read as CSV ({str(error).splitlines()[0]})")
    if ragged:
        row = ragged[0]
        cut = len(ragged) == 1 and raw.rstrip(b"\r\n").endswith(row.text.encode().rstrip(b"\r\n"))
        what = "the file was cut in the middle of this row; copy it again" if cut else "mend the row"
        number = f"row {row.number - 1}" if row.number is not None else "a row"
        refuse(path, f"has {row.actual_columns} fields in {number}, the header has {row.expected_columns}: {what}")
    trimmed = [pa.compute.utf8_trim_whitespace(column) for column in table.columns]
    return pa.table(trimmed, names=names)


def _check_names(path: Path, names: list[str]) -> None:
    if not names:
        refuse(path, "has no columns; a table is expected")
    if "" in names:
        refuse(path, f"has no name for column {names.index('') + 1}; name it in the header (and --ignore or --id it)")
    twice = next((name for j, name in enumerate(names) if name in names[:j]), None)
    if twice is not None:
        refuse(path, f"has two columns named {twice!r}; every column needs a name of its own")


def refuse(path: Path, sentence: str) -> NoReturn:
    raise InputError(f"{path} {sentence}")
