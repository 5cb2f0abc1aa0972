"""Tables: what is read from arrays and frames, what is missing, and the sentence for what cannot be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ppal_fast import Schema, Table
from ppal_fast.errors import InputError

CELLS = {"age": [1.0, None, 3.0], "hours": [10, 20, 30], "maker": ["WDC", None, "Seagate"]}
EXPECTED = np.array([[1, 10, 1], [np.nan, 20, np.nan], [3, 30, 0]])


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "pyarrow"])
def test_frames_become_numbers_and_codes(make) -> None:
    table = Table.of(make(CELLS))
    np.testing.assert_array_equal(table.values, EXPECTED)
    assert table.schema.names == ("age", "hours", "maker")
    assert table.schema.levels == (None, None, ("Seagate", "WDC"))
    np.testing.assert_array_equal(table.schema.categorical, [2])
    np.testing.assert_array_equal(table.observed, ~np.isnan(EXPECTED))


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "category", "bool", "string", "float32", "int8"])
def test_pandas_column_types(dtype) -> None:
    frame = pd.DataFrame({"a": pd.array([1, 0, 1], dtype="int64").astype(dtype)})
    table = Table.of(frame)
    assert table.values.dtype == np.float64 and table.values.shape == (3, 1)
    assert len(np.unique(table.values)) == 2


def test_missing_of_every_kind() -> None:
    frame = pd.DataFrame(
        {"a": pd.array([1.5, pd.NA], dtype="Float64"), "b": [None, "x"], "c": [np.nan, 2.0]}, index=[7, 9]
    )
    assert np.isnan(Table.of(frame).values).tolist() == [[False, True, True], [True, False, False]]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(3, 2),
        np.arange(6, dtype=np.float32).reshape(3, 2),
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.arange(6.0).reshape(3, 2)[::-1],
        [[0, 1], [2, 3], [4, None]],
    ],
    ids=["int", "float32", "fortran", "strided", "reversed", "list"],
)
def test_arrays_of_every_layout(array) -> None:
    table = Table.of(array)
    assert table.values.flags.c_contiguous and table.values.dtype == np.float64
    np.testing.assert_array_equal(table.values, np.asarray(array, dtype=float))


def test_the_input_is_not_changed_even_if_it_is_read_only() -> None:
    X = np.array([[3.0, 1.0], [5.0, 2.0]])
    X.setflags(write=False)
    table = Table.of(X, categorical=[0])
    np.testing.assert_array_equal(X, [[3, 1], [5, 2]])
    np.testing.assert_array_equal(table.values, [[0, 1], [1, 2]])
    assert table.schema.levels == ((3.0, 5.0), None)


def test_a_schema_reads_further_rows_alike() -> None:
    schema = Table.of(pd.DataFrame(CELLS)).schema
    later = pd.DataFrame({"maker": ["Seagate", "Toshiba"], "hours": [1, 2], "age": [0.5, 0.5], "extra": ["a", "b"]})
    np.testing.assert_array_equal(Table.of(later, schema=schema).values, [[0.5, 1, 0], [0.5, 2, np.nan]])
    # an array cannot hold texts: it holds the codes, and a code that is none is missing
    np.testing.assert_array_equal(Table.of(np.array([[1, 2, 1], [1, 2, 5]]), schema=schema).values,
                                  [[1, 2, 1], [1, 2, np.nan]])
    # levels that are numbers are looked up as such
    numbers = Table.of([[3.0, 0], [5.0, 0]], categorical=[0]).schema
    np.testing.assert_array_equal(Table.of([[5.0, 1], [4.0, 1]], schema=numbers).values, [[1, 1], [np.nan, 1]])


def test_bounds_are_for_one_or_each_column() -> None:
    schema = Schema(("a", "b"), (None, None))
    np.testing.assert_array_equal(schema.with_bounds((-1, 1)).bounds, [[-1, 1], [-1, 1]])
    np.testing.assert_array_equal(schema.with_bounds([(0, 1), (2, 3)]).bounds, [[0, 1], [2, 3]])
    for wrong in ((1, -1), [(0, 1)] * 3, (0, np.inf), "wide"):
        with pytest.raises(InputError, match="bounds"):
            schema.with_bounds(wrong)


def test_take_keeps_order_and_schema() -> None:
    table = Table.of(pd.DataFrame(CELLS))
    np.testing.assert_array_equal(table.take([2, 0]).values, EXPECTED[[2, 0]])
    assert table.take([0]).schema is table.schema and len(table.take([])) == 0


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (pd.DataFrame({"smart_5": [1, 2, "broken", 4]}), r"'smart_5' has 'broken' in row 2"),
        (pd.DataFrame({"serial": [f"Z{i}X" for i in range(99)]}), r"'serial' has 99 distinct texts.*id"),
        (pd.DataFrame({"a": [1.0, np.inf]}), r"infinite value in row 1, column 'a'"),
        (np.array([[1.0, -np.inf]]), r"infinite value in row 0, column 1"),
        (np.arange(3.0), r"1 dimensions"),
        (np.zeros((2, 2, 2)), r"3 dimensions"),
        (np.array([["a", "b"]]), r"table of numbers"),
        (np.array([[1 + 2j]]), r"complex"),
        (pd.DataFrame(), r"no columns"),
        ("table.csv", r"X "),
        (None, r"X "),
    ],
)
def test_what_cannot_be_read_is_named(X, says) -> None:
    with pytest.raises(InputError, match=says):
        Table.of(X)


def test_columns_that_do_not_fit_the_schema_are_named() -> None:
    schema = Table.of(pd.DataFrame(CELLS)).schema
    with pytest.raises(InputError, match=r"no column 'hours' \(did you mean 'hour'\?\)"):
        Table.of(pd.DataFrame({"age": [1], "hour": [1], "maker": ["WDC"]}), schema=schema)
    with pytest.raises(InputError, match="2 columns; 3 are expected"):
        Table.of(np.zeros((1, 2)), schema=schema)
    with pytest.raises(InputError, match="categorical names 'markr'"):
        Table.of(pd.DataFrame(CELLS), categorical=["markr"])
    with pytest.raises(InputError, match="from 0 to 1"):
        Table.of(np.zeros((1, 2)), categorical=[2])
