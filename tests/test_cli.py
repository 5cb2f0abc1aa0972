"""The command line on good and bad input: what is written, what is said, and that a refusal changes nothing."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ppal_fast.cli import main

for name in ("typer", "rich", "pyarrow", "jinja2", "matplotlib"):
    pytest.importorskip(name)

N_ROWS = 60


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two classes that the columns tell apart; every third cell is missing; rows are named."""
    rng = np.random.default_rng(0)
    path = tmp_path / "drives.csv"
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["serial", "maker", "size", "speed", "owner", "grade"])
        for i in range(N_ROWS):
            high = i % 2
            cells = [("Ox", "Yak")[high], *np.round(rng.normal(2 * high, 1, 2), 3)]
            cells = ["" if rng.random() < 0.3 else cell for cell in cells]
            writer.writerow([f"s{i:02d}", *cells, f"firm{i % 4}", ("low", "high")[high]])
    return path


@pytest.fixture
def unlabelled(table: Path) -> Path:
    """The same table with the labels of its first six rows alone."""
    path = table.with_name("todo.csv")
    rows = list(csv.reader(table.open()))
    with open(path, "w", newline="") as stream:
        csv.writer(stream).writerows(row if i < 7 else [*row[:-1], ""] for i, row in enumerate(rows))
    return path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with status 2 and one line on standard error; that line."""

    def _refused(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(a) for a in arguments]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return _refused


def ok(*arguments: object) -> None:
    assert main([str(a) for a in arguments]) == 0


def truth(table: Path) -> dict[str, str]:
    return {row["serial"]: row["grade"] for row in csv.DictReader(table.open())}


def sheet_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def fill(path: Path, answers: dict[str, str], rows: slice = slice(None)) -> Path:
    """The sheet as a labeller returns it, with the given rows filled."""
    lines = sheet_rows(path)
    for line in lines[rows]:
        line["grade"] = answers[line["serial"]]
    filled = path.with_name("filled.csv")
    with open(filled, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return filled


def start(unlabelled: Path, out: Path, *more: object) -> Path:
    ok("run", unlabelled, "--label", "grade", "--id", "serial", "--ignore", "owner", "--budget", 10,
       "--per-round", 5, "--out", out, *more)
    return out / "to_label_01.csv"


# --- good input -------------------------------------------------------------------------------------------------


def test_simulate_plays_all_rounds(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ok("run", table, "--label", "grade", "--id", "serial", "--ignore", "owner", "--budget", 12, "--per-round", 5,
       "--simulate", "--out", tmp_path / "out")
    told = capsys.readouterr().out
    assert "not private" in told and "of 18 rows held out" in told
    curve = list(csv.reader((tmp_path / "out" / "accuracy.csv").open()))
    assert [row[0] for row in curve] == ["labels", "5", "10", "12"]
    predictions = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert len(predictions) == N_ROWS - 18
    answers = truth(table)
    assert np.mean([row["grade"] == answers[row["serial"]] for row in predictions]) > 0.75
    assert "Simulated" in (tmp_path / "out" / "report.html").read_text()


def test_simulate_gives_the_same_for_the_same_seed(table: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        ok("run", table, "--label", "grade", "--id", "serial", "--budget", 10, "--simulate", "--seed", 3,
           "--out", tmp_path / out)
    for name in ("accuracy.csv", "predictions.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_asking_and_telling_over_days(
    unlabelled: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, out = truth(table), tmp_path / "out"
    first = start(unlabelled, out)
    assert [*sheet_rows(first)[0]] == ["serial", "grade", "maker", "size", "speed"]
    asked = [row["serial"] for row in sheet_rows(first)]
    assert len(asked) == len(set(asked)) == 5 and not set(asked) & {f"s{i:02d}" for i in range(6)}

    ok("ask", out)  # a second day: the same open rows
    assert [row["serial"] for row in sheet_rows(first)] == asked
    ok("tell", out, fill(first, answers, slice(0, 2)))
    told = capsys.readouterr().out
    assert "2 answers stored; 2 of 10 labels bought" in told and "3 rows are still open" in told
    ok("tell", out, fill(first, answers))  # the whole sheet, the first two answers in it again
    assert "3 answers stored; 5 of 10 labels bought" in capsys.readouterr().out

    ok("ask", out)
    second = out / "to_label_02.csv"
    assert not {row["serial"] for row in sheet_rows(second)} & set(asked)
    ok("tell", out, fill(second, answers))
    assert "not private" in capsys.readouterr().out
    assert len(sheet_rows(out / "predictions.csv")) == N_ROWS
    (out / "report.html").unlink()
    ok("report", out)
    assert (out / "report.html").exists()


def test_private_labels(unlabelled: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    sheet = start(unlabelled, out, "--epsilon", 2, "--unit", "label")
    ok("tell", out, fill(sheet, truth(table)))
    ok("ask", out)
    ok("tell", out, fill(out / "to_label_02.csv", truth(table)))
    capsys.readouterr()
    ok("ledger", out)
    told = capsys.readouterr().out
    for fact in ("label", "zero-out", "1e-05"):
        assert fact in told
    ok("ledger", out, "--audit")
    audited = capsys.readouterr().out
    assert told.strip() in audited and "holds  presence" in audited and "BROKEN" not in audited
    page = (out / "report.html").read_text()
    assert "inside the trust boundary" in page and "Budget spent" in page and "Chosen columns" not in page


@pytest.mark.parametrize("unit", ["record", "owner"])
def test_private_records_with_public_ranges(table: Path, tmp_path: Path, unit: str) -> None:
    schema = tmp_path / "schema.csv"
    schema.write_text(
        "column,kind,low,high,levels\nmaker,category,,,Ox|Yak\nsize,number,-3,5,\nspeed,number,-3,5,\n"
        "grade,category,,,low|high\n"
    )
    owner = ["--owner", "owner"] if unit == "owner" else ["--ignore", "owner"]
    for seed in range(5):  # rows flip coins: some seeds ask more than the budget before the last round, some less
        out = tmp_path / f"out{seed}"
        ok("run", table, "--label", "grade", "--id", "serial", *owner, "--epsilon", 8, "--unit", unit, "--seed", seed,
           "--schema", schema, "--budget", 20, "--per-round", 6, "--simulate", "--out", out)
        assert (out / "predictions.csv").exists()


def test_help_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    ok()
    assert "Commands" in capsys.readouterr().out


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    ok("info")
    told = capsys.readouterr().out
    for fact in ("ppal_fast", "numba", "C++ kernels", "threads", "Numba cache", "extra [report]"):
        assert fact in told


# --- bad input --------------------------------------------------------------------------------------------------


def test_bad_options_of_run(refused: Callable[..., str], table: Path, tmp_path: Path) -> None:
    def run(*options: object) -> str:
        return refused("run", table, "--id", "serial", "--simulate", "--out", tmp_path / "out", *options)

    good = ("--label", "grade")
    assert "has no column 'grad' (did you mean 'grade'?)" in run("--label", "grad")
    assert "Missing option '--label'" in run()
    assert "--budget was 500; 42 rows are left to ask" in run(*good, "--budget", 500)
    assert "--budget" in run(*good, "--budget", 0)
    assert "--epsilon was given without --unit" in run(*good, "--epsilon", 1)
    assert "epsilon" in run(*good, "--epsilon", 0, "--unit", "label")
    assert "without --epsilon" in run(*good, "--unit", "label")
    assert "go together" in run(*good, "--epsilon", 1, "--unit", "owner")
    assert "--schema FILE" in run(*good, "--epsilon", 1, "--unit", "record")
    assert "did you mean 'entropy'?" in run(*good, "--strategy", "entrpy")
    assert "learner" in run(*good, "--learner", "mixtures")
    assert "unit" in run(*good, "--epsilon", 1, "--unit", "lable")
    assert not (tmp_path / "out" / "session.sqlite").exists()


def test_bad_tables(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"

    def run(content: str, *options: str) -> str:
        path.write_text(content)
        return refused("run", path, "--label", "y", "--simulate", "--out", tmp_path / "out", *options)

    assert "is empty" in run("")
    assert "one row" in run("x,y\n1,a\n")
    assert "needs at least 4 labels of 2 classes" in run("x,y\n" + "1,a\n2,a\n" * 9)
    assert "needs at least 4 labels of 2 classes" in run("x,y\n1,\n2,\n")
    assert "infinite value in column 'x', row 2" in run("x,y\n1,a\ninf,b\n")
    assert "'oops' in column 'x', row 3" in run("x,y\n1,a\n2,b\noops,b\n")
    assert "was cut" in run("x,z,y\n1,2,a\n2,3,b\n3,")
    assert "has a label in every row" in refused(
        "run", path.write_text("x,y\n1,a\n2,b\n") and path, "--label", "y", "--out", tmp_path / "out"
    )


def test_bad_answers_change_nothing(
    refused: Callable[..., str], unlabelled: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, answers = tmp_path / "out", truth(table)
    sheet = start(unlabelled, out)
    asked = [row["serial"] for row in sheet_rows(sheet)]
    other = next(name for name in answers if name > "s05" and name not in asked)
    bad = tmp_path / "bad.csv"

    def tell(*lines: str) -> str:
        bad.write_text("\n".join(["serial,grade", *lines]) + "\n")
        return refused("tell", out, bad)

    good = f"{asked[0]},high"
    assert f"'{other}', which was not asked" in tell(good, f"{other},low")
    assert "'s999', which is not in the table" in tell(good, "s999,low")
    assert f"the id '{asked[0]}' in rows 1 and 2" in tell(good, good)
    assert "no label in column 'grade'" in tell(f"{asked[0]},")
    assert "has no column 'serial'" in refused("tell", out, bad.write_text("x,grade\na,low\n") and bad)
    assert "is not there" in refused("tell", out, tmp_path / "nowhere.csv")
    ok("tell", out, fill(sheet, answers, slice(0, 1)))
    assert "1 answers stored" in capsys.readouterr().out, "a refused sheet was stored"
    wrong = {"low": "high", "high": "low"}[answers[asked[0]]]
    assert "cannot be changed" in tell(f"{asked[0]},{wrong}")
    assert "s00" in tell("s00,high")  # an initial label


def test_a_filled_sheet_is_not_written_over(
    refused: Callable[..., str], unlabelled: Path, table: Path, tmp_path: Path
) -> None:
    sheet = start(unlabelled, tmp_path / "out")
    sheet.write_text(fill(sheet, truth(table), slice(0, 1)).read_text())
    before = sheet.read_text()
    assert "holds answers already" in refused("ask", tmp_path / "out")
    assert sheet.read_text() == before
    sheet.write_text(before.replace(",", ";"))  # as a spreadsheet of another country saves it
    assert "holds answers already" in refused("ask", tmp_path / "out")
    ok("tell", tmp_path / "out", sheet)
    ok("ask", tmp_path / "out")  # its answers are stored: the sheet may go
    assert len(sheet_rows(sheet)) == 4


def test_sessions_that_cannot_be_used(refused: Callable[..., str], unlabelled: Path, tmp_path: Path) -> None:
    from ppal_fast import Session

    out = tmp_path / "out"
    assert "not a session" in refused("ask", out)
    start(unlabelled, out)
    assert "holds a session already" in refused("run", unlabelled, "--label", "grade", "--id", "serial", "--out", out)
    assert "no ledger" in refused("ledger", out)
    with Session(out):
        assert "open elsewhere" in refused("ask", out)
    (out / "session.sqlite").write_bytes(b"not a database at all" * 100)
    assert "out" in refused("report", out)


def test_a_finished_session_asks_no_more(
    refused: Callable[..., str], unlabelled: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        sheet = start(unlabelled, out) if number == 1 else out / "to_label_02.csv"
        if number == 2:
            ok("ask", out)
        ok("tell", out, fill(sheet, truth(table)))
    assert "has all its 10 labels" in refused("ask", out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(refused: Callable[..., str], table: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    out = tmp_path / "locked" / "out"
    assert "cannot be written" in refused("run", table, "--label", "grade", "--simulate", "--out", out)


def test_a_folder_that_is_a_file(refused: Callable[..., str], table: Path) -> None:
    assert "cannot be written" in refused("run", table, "--label", "grade", "--simulate", "--out", table / "out")


def test_unknown_commands_and_options(refused: Callable[..., str]) -> None:
    assert "learn" in refused("learn")
    assert "--lable" in refused("run", "t.csv", "--lable", "y")


@pytest.mark.parametrize("absent", ["typer", "rich"])
def test_without_the_extra(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    assert 'pip install "ppal_fast[cli]"' in refused("info")


def test_ctrl_c_leaves_the_session_intact(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted while it plays the expert, the folder opens again and nothing answered is lost."""
    from ppal_fast import PPAL, Session

    tell, calls = PPAL.tell, []

    def interrupted(self: PPAL, *answers: object) -> PPAL:
        calls.append(answers)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return tell(self, *answers)

    monkeypatch.setattr(PPAL, "tell", interrupted)
    command = ["run", table, "--label", "grade", "--id", "serial", "--per-round", 2, "--out", tmp_path / "out"]
    assert main([*map(str, command), "--simulate"]) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1
    monkeypatch.undo()
    with Session(tmp_path / "out") as session:
        assert sum(label is not None for label in session.ppal.labels_) == 6


def test_the_console_script_is_this_main() -> None:
    from importlib.metadata import entry_points

    scripts = entry_points(group="console_scripts", name="ppal-fast")
    if not scripts:
        pytest.skip("ppal_fast runs from its sources here; the script exists once it is installed")
    assert all(script.load() is main for script in scripts)
