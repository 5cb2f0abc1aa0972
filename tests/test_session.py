"""The durable session: killed at every statement and reopened, nothing that was asked or answered is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ppal_fast import Session, session
from ppal_fast.errors import InputError, SessionError

SETTINGS = {"n_per_round": 3, "n_rounds": 3, "strategy": "entropy", "learner": "class-mean", "random_state": 5}


def small_table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 60)
    X = rng.standard_normal((60, 5)) + 2 * y[:, None]
    X[rng.random(X.shape) < 0.3] = np.nan
    return X, y


def live(folder: Path, **settings) -> Session:
    """All rounds from wherever the folder stands, as a program would that is started again and again."""
    X, y = small_table()
    if session_exists(folder):
        s = Session(folder)
    else:
        initial = [int(v) if i < 6 else None for i, v in enumerate(y)]
        s = Session.create(folder, X, initial, ids=[f"drive-{i}" for i in range(60)], **{**SETTINGS, **settings})
    while s.ppal.round_ < 3 or s.ppal._open:
        rows = s.ask()
        if len(rows):
            s.tell(rows[:2], y[rows[:2]])
    return s


def session_exists(folder: Path) -> bool:
    try:
        Session(folder).close()
    except SessionError:
        return False
    return True


def state(s: Session) -> tuple:
    """Everything a user could see, but the clock."""
    history = [
        (r.round, r.asked.tolist(), r.labels.tolist(), np.nan_to_num(r.scores).round(9).tolist())
        for r in s.ppal.history_
    ]
    probabilities = s.ppal.predict_proba(small_table()[0]).round(9).tolist()
    return s.ppal._asked_in.tolist(), s.ppal._labels.tolist(), s.ppal.round_, s.ids, history, probabilities


PRIVATE = {"epsilon": 4.0, "unit": "label", "classes": [0, 1]}


@pytest.mark.parametrize("settings", [{}, PRIVATE], ids=["plain", "private"])
def test_killed_at_every_statement_and_reopened(tmp_path: Path, settings: dict) -> None:
    with live(tmp_path / "whole", **settings) as whole:
        expected = state(whole)
    for kill_at in range(1, 1000):
        folder = tmp_path / f"killed-{kill_at}"
        child = os.fork()
        if child == 0:  # one life of the program, ended by SIGKILL at its kill_at-th statement
            _kill_after(kill_at)
            live(folder, **settings).close()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        with live(folder, **settings) as survived:
            got = state(survived)
            n_releases = len(survived.ledger.history()) if settings else 0
        if settings:  # other noise, other questions: the number of rows, rounds and releases is what must agree
            assert n_releases == 4
            assert [len(r[1]) for r in got[4]] == [6, 3, 3, 3]
            assert got[2:4] == expected[2:4]
        else:
            assert got == expected
    assert kill_at > 40


def _kill_after(n: int) -> None:
    """SIGKILL this process when the session's file sees its n-th statement."""
    count = 0
    opened = session._open

    def traced(file: Path) -> sqlite3.Connection:
        db = opened(file)

        def step(_: str) -> None:
            nonlocal count
            count += 1
            if count >= n:
                os.kill(os.getpid(), signal.SIGKILL)

        db.set_trace_callback(step)
        return db

    session._open = traced


def test_reopening_gives_the_same_open_rows_and_the_same_next_ones(tmp_path: Path) -> None:
    X, y = small_table()
    with Session.create(tmp_path / "s", X, meta={"table": "drives.csv"}, **SETTINGS) as s:
        first = s.ask()
        s.tell(first[:1], y[first[:1]])
    with Session(tmp_path / "s") as s:
        assert s.meta == {"table": "drives.csv"}
        np.testing.assert_array_equal(s.ask(), first[1:])
        s.tell(first[1:], y[first[1:]])
        second = s.ask()
        assert len(second) == 3 and not set(second) & set(first)
    with Session(tmp_path / "s") as s:
        np.testing.assert_array_equal(s.ask(), second)


def test_a_private_model_is_read_back_not_released_again(tmp_path: Path) -> None:
    X, y = small_table()
    settings = {**SETTINGS, "n_rounds": 1, "strategy": "random", "epsilon": 2.0, "unit": "label", "classes": [0, 1]}
    with Session.create(tmp_path / "s", X, **settings) as s:
        s.tell(s.ask(), y[s.ask()])
        before, spent = s.ppal.predict_proba(X), s.ledger.spent()
    with Session(tmp_path / "s") as s:
        np.testing.assert_array_equal(s.ppal.predict_proba(X), before)
        assert s.ledger.spent() == spent
        assert len(s.ledger.history()) == 1


def test_a_second_opening_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    X, y = small_table()
    with Session.create(tmp_path / "s", X, **SETTINGS) as s:
        with pytest.raises(SessionError, match="open elsewhere"):
            Session(tmp_path / "s")
        child = os.fork()
        if child == 0:
            try:
                Session(tmp_path / "s")
            except SessionError:
                os._exit(7)
            os._exit(0)
        assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 7
        rows = s.ask()
        s.tell(rows, y[rows])
        assert len(s.ppal.history_) == 1


def test_frames_keep_their_categories(tmp_path: Path) -> None:
    X, y = small_table()
    frame = pd.DataFrame(X, columns=list("abcde")).assign(maker=pd.Categorical(np.where(y, "Seagate", "WDC")))
    with Session.create(tmp_path / "s", frame, ids=range(60), **SETTINGS):
        pass
    with Session(tmp_path / "s") as s:
        assert s.ppal.table_.schema.levels[-1] == ("Seagate", "WDC")
        assert s.ids == list(range(60))
        rows = s.ask()
        s.tell(rows, ["good"] * len(rows))
        assert list(s.ppal.predict(frame.head(2))) == ["good", "good"]


def test_bad_answers_store_nothing(tmp_path: Path) -> None:
    X, _ = small_table()
    with Session.create(tmp_path / "s", X, **SETTINGS) as s:
        rows = s.ask()
        for wrong in (
            lambda: s.tell([999], [1]),
            lambda: s.tell([rows[0], rows[0]], [1, 1]),
            lambda: s.tell(rows, [1]),
        ):
            with pytest.raises(InputError):
                wrong()
    with Session(tmp_path / "s") as s:
        np.testing.assert_array_equal(s.ask(), rows)


def test_files_that_are_not_sessions(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="not a session"):
        Session(tmp_path)
    (tmp_path / "session.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(SessionError, match="session"):
        Session(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "session.sqlite").touch()
    with pytest.raises(SessionError, match="never finished"):
        Session(tmp_path / "empty")
    X, _ = small_table()
    Session.create(tmp_path / "empty", X, **SETTINGS).close()  # an unfinished one may be made anew
    with pytest.raises(SessionError, match="already"):
        Session.create(tmp_path / "empty", X, **SETTINGS)


def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    X, _ = small_table()
    Session.create(tmp_path / "s", X, **SETTINGS).close()
    file = tmp_path / "s" / "session.sqlite"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(SessionError, match="session"):
        Session(tmp_path / "s")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"n_per_rond": 3}, "n_per_round"),
        ({"strategy": lambda c: c.candidates}, "strategy"),
        ({"ids": [1, 2]}, "ids"),
        ({"n_per_round": 0}, "n_per_round"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"strategy": "entropi"}, "entropy"),
        ({"learner": "class-men"}, "class-mean"),
        ({"strategy": "margin", "epsilon": 1.0, "unit": "record"}, "record"),
    ],
)
def test_wrong_settings_are_said_before_a_file_exists(tmp_path: Path, wrong: dict, says: str) -> None:
    X, _ = small_table()
    with pytest.raises(Exception, match=says):
        Session.create(tmp_path / "s", X, **{**SETTINGS, **wrong})
    assert not (tmp_path / "s").exists()
