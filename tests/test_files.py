"""Tables in files: what is read, what is refused, and that a refusal names file, column and row in one sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from ppal_fast import files
from ppal_fast.errors import DataWarning, InputError

pa = pytest.importorskip("pyarrow")
GOOD = "id,size,made,maker,grade\na,1.5,2024-03-01,Ox,high\nb,,2024-03-02,Yak,\nc,3,,Ox,low\n"


@pytest.fixture
def write(tmp_path: Path):
    def _write(content: str | bytes, name: str = "t.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


def sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def check_good(read: files.TableFile) -> None:
    assert read.table.schema.names == ("size", "made", "maker")
    assert read.table.schema.levels == (None, None, ("Ox", "Yak"))
    assert read.kinds == {"size": "number", "made": "date", "maker": "category"}
    np.testing.assert_array_equal(
        read.table.values, [[1.5, 19783, 0], [np.nan, 19784, 1], [3, np.nan, 0]]
    )
    assert read.ids == ("a", "b", "c")
    assert read.labels is not None and read.labels.tolist() == ["high", None, "low"]


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode(),
        gzip.compress(GOOD.encode()),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode(),
        GOOD.replace("1.5", '" 1.5 "').encode(),
        GOOD.replace("b,,", "b,NA,").encode(),
    ],
    ids=["plain", "gzip", "byte-order mark", "CRLF", "semicolons", "tabs", "quotes", "NA"],
)
def test_the_same_table_in_many_dresses(write, content: bytes) -> None:
    check_good(files.read_table(write(content), label="grade", id="id"))


def test_parquet_reads_like_csv(tmp_path: Path) -> None:
    import datetime

    import pyarrow.parquet as pq

    columns = {
        "id": ["a", "b", "c"],
        "size": [1.5, None, 3.0],
        "made": [datetime.date(2024, 3, 1), datetime.date(2024, 3, 2), None],
        "maker": pa.array(["Ox", "Yak", "Ox"]).dictionary_encode(),
        "grade": ["high", None, "low"],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    check_good(files.read_table(tmp_path / "t.parquet", label="grade", id="id"))


def test_labels_and_ids_are_texts_that_survive_a_spreadsheet(write) -> None:
    read = files.read_table(write("id,x,y\n1.0,1,-1\n2.0,2,1.0\n0e12,3,007\n"), label="y", id="id")
    assert read.ids == ("1", "2", "0e12")
    assert read.labels.tolist() == ["-1", "1", "007"]


BAD = {
    "not there": (None, "is not there"),
    "nothing in it": ("", "is empty"),
    "header alone": ("id,x,grade\n", "has no rows"),
    "header without an end of line": ("id,x,grade", "has no rows"),
    "one row": ("id,x,grade\na,1,high\n", "has one row"),
    "no such label": ("id,x,grde\na,1,high\nb,2,low\n", "has no column 'grade' (did you mean 'grde'?)"),
    "cut in the middle of a row": (
        "id,x,grade\na,1,high\nb,2\n", "has 2 fields in row 2, the header has 3: the file was cut"
    ),
    "a long row": ("id,x,grade\na,1,high,9\nb,2,low\n", "has 4 fields in row 1, the header has 3: mend the row"),
    "text among numbers": (
        "id,x,grade\na,1,high\nb,two,low\nc,3,low\n", "has 'two' in column 'x', row 2; a number or an empty cell"
    ),
    "infinite": ("id,x,grade\na,1,high\nb,-inf,low\n", "has an infinite value in column 'x', row 2"),
    "two columns of one name": ("id,x,x,grade\na,1,1,high\nb,2,2,low\n", "has two columns named 'x'"),
    "a column without a name": ("id,,grade\na,1,high\nb,2,low\n", "has no name for column 2"),
    "an id twice": ("id,x,grade\na,1,high\na,2,low\n", "has the id 'a' in rows 1 and 2"),
    "an id missing": ("id,x,grade\na,1,high\n,2,low\n", "has an empty cell in column 'id', row 2"),
    "no features": ("id,grade\na,high\nb,low\n", "has no feature columns left"),
    "names of rows among the features": (
        "id,x,grade\n" + "".join(f"{i},name{i},high\n" for i in range(70)),
        "has 70 distinct texts in column 'x', and at most 64 make a category; if it names the rows use --id x",
    ),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\x00", "is a binary file"),
    "not UTF-8": ("id,x,grade\na,1,hoch\nb,2,m\u00e4ssig\n".encode("latin-1"), "is not UTF-8"),
    "header not UTF-8": ("id,x,gr\u00f6sse\na,1,2\n".encode("latin-1"), "is not UTF-8"),
    "half a gzip": (gzip.compress(GOOD.encode())[:40], "breaks off"),
    "half a Parquet": (b"PAR1\x15\x04", "is not a complete Parquet file"),
}


@pytest.mark.parametrize(("content", "problem"), BAD.values(), ids=BAD)
def test_bad_files_are_refused_in_one_sentence(write, tmp_path: Path, content, problem: str) -> None:
    path = tmp_path / "t.csv" if content is None else write(content)
    with pytest.raises(InputError) as error:
        files.read_table(path, label="grade", id="id")
    assert sentence(error).startswith(f"{path} ") and problem in sentence(error)


def test_a_folder_is_not_a_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        files.read_table(tmp_path)


def test_a_missing_extra_is_named(write, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = write(GOOD)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r'pip install "ppal_fast\[tables\]"'):
        files.read_table(path)


def test_empty_columns_and_rows_are_kept_with_a_warning(write) -> None:
    path = write("x,void,y\n1,,a\n,,b\n2,,a\n")
    with pytest.warns(DataWarning) as caught:
        read = files.read_table(path, label="y")
    told = [str(w.message) for w in caught]
    assert any("no cell is observed in void" in text for text in told)
    assert any("rows without an observed cell: 1, the first is row 2" in text for text in told)
    assert read.table.values.shape == (3, 2)


def test_a_schema_fixes_kinds_ranges_levels_and_classes(write) -> None:
    table = write("x,code,made,y\n1,7,2024-01-02,low\n2,8,2024-01-03,high\n")
    rules = files.read_schema(
        write(
            "column,kind,low,high,levels\nx,number,0,10,\ncode,category,,,7|8|9\n"
            "made,date,2024-01-01,2024-12-31,\ny,category,,,low|high\n",
            "schema.csv",
        )
    )
    read = files.read_table(table, label="y", rules=rules)
    assert read.classes == ("low", "high")
    assert read.table.schema.levels == (None, ("7", "8", "9"), None)
    np.testing.assert_array_equal(read.table.schema.bounds, [[0, 10], [0, 2], [19723, 20088]])
    np.testing.assert_array_equal(read.table.values[:, 1], [0, 1])


def test_counts_are_learned_on_a_logarithmic_scale_and_shown_as_they_were(write, tmp_path: Path) -> None:
    rules = files.read_schema(write("column,kind,low,high\nn,count,0,1e9\nx,number,0,9\n", "schema.csv"))
    read = files.read_table(write("n,x,y\n0,1,a\n222508045,1,b\n,1,a\n-7,1,b\n"), label="y", rules=rules)
    np.testing.assert_allclose(read.table.values[:, 0], [0, np.log(222508046), np.nan, -np.log(8)])
    np.testing.assert_allclose(read.table.schema.bounds, [[0, np.log1p(1e9)], [0, 9]])
    files.write_rows(tmp_path / "s.csv", read.table, range(4), ids=read.ids, id_name="row", label="y", kinds=read.kinds)
    assert [line.split(",")[2] for line in (tmp_path / "s.csv").read_text().split()[1:]] == ["0", "222508045", "", "-7"]


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ("name,kind\nx,number\n", "has no column 'column'"),
        ("column,kind,low,high\nx,float,0,1\n", "has the kind 'float' for 'x'"),
        ("column,kind,low,high\nx,number,2,1\n", "has no range for 'x' with low below high"),
        ("column,kind,low,high\nx,number,0,many\n", "has the limit 'many' for 'x'"),
        ("column,kind,low,high\nx,number,0,1\nx,number,0,1\n", "names 'x' twice"),
    ],
)
def test_bad_schemas_are_refused(write, schema: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        files.read_schema(write(schema))
    assert problem in sentence(error)


def test_rows_written_for_a_labeller_read_back_as_they_were(write, tmp_path: Path) -> None:
    read = files.read_table(write(GOOD), label="grade", id="id")
    sheet = tmp_path / "sheet.csv"
    files.write_rows(sheet, read.table, [2, 0], ids=read.ids, id_name="id", label="grade", kinds=read.kinds)
    assert sheet.read_text().splitlines() == [
        "id,grade,size,made,maker", "c,,3,,Ox", "a,,1.5,2024-03-01,Ox",
    ]
    sheet.write_text(sheet.read_text().replace("c,,", "c, high ,"))
    assert files.read_answers(sheet, id="id", label="grade") == {"c": "high"}


@pytest.mark.parametrize(
    ("sheet", "problem"),
    [
        ("id,grade\na,high\na,low\n", "has the id 'a' in rows 1 and 2"),
        ("key,grade\na,high\n", "has no column 'id'"),
    ],
)
def test_bad_sheets_are_refused(write, sheet: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        files.read_answers(write(sheet), id="id", label="grade")
    assert problem in sentence(error)


def test_an_unwritable_folder_shows_before_the_work(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        files.check_writable_folder(write("a file", "here") / "out")
    files.check_writable_folder(tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        files.check_writable_folder(tmp_path / "out")
    assert not (tmp_path / "out").exists()


REAL = {
    "steel_plates": ({"label": "fault"}, (1941, 27), 7),
    "backblaze_2013": (
        {"label": "manufacturer", "id": "serial_number", "ignore": ["failed_in_window"]}, (22892, 7), 5
    ),
    "secom_wafer": ({"label": "y"}, (1537, 590), 2),
    "cwru_bearing": ({"label": "fault"}, (2300, 9), 10),
    "khan_srbct": ({"label": "y", "ignore": ["split"]}, (83, 2308), 4),
}


@pytest.mark.parametrize("name", REAL)
def test_real_tables(data_folder: Path, name: str) -> None:
    options, shape, n_classes = REAL[name]
    read = files.read_table(data_folder / name / f"{name}.csv.gz", **options)
    assert read.table.values.shape == shape
    assert len(set(read.labels)) == n_classes and None not in read.labels
