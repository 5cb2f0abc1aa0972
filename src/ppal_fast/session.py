"""Session: the loop on disk. What was asked and what was answered survives the process, at any instant.

A folder holds ``session.sqlite`` (settings, table, asked rows, answers), with a budget ``ledger.sqlite``, and what a
line has kept for the expert (``kept.sqlite``). Every step is one durable transaction, made before its effect is shown:
rows are stored before ``ask`` hands them out, answers before the model sees them. Opening replays the stored steps; a
private model is read back from the ledger by its name, so that nothing is released or spent twice.
"""

from __future__ import annotations

import io
import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import __version__, _validate
from .errors import InputError, SessionError
from .kept import KeptItem, kept_items, require_session
from .loop import PPAL, Labels, RoundRecord, Rows
from .privacy import Ledger
from .table import Schema, Table

FORMAT = 1
_TABLES = (
    "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE array (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE round (number INTEGER PRIMARY KEY, record TEXT)",  # record: NULL until the round is closed
    "CREATE TABLE asked (row INTEGER PRIMARY KEY, round INTEGER NOT NULL, position INTEGER NOT NULL)",
    "CREATE TABLE answer (row INTEGER PRIMARY KEY REFERENCES asked (row), label TEXT NOT NULL)",
)


class Session:
    """A durable PPAL. ``Session(path)`` opens; ``Session.create(path, X, ...)`` makes one.

    Parameters
    ----------
    path   folder of the session. One process holds it at a time; a second one is refused with SessionError.

    Attributes
    ----------
    ppal   the live loop      ids   (n,) names of the rows, or None      meta   dict kept for the caller
    """

    def __init__(self, path: str | Path) -> None:
        self.path = require_session(path)
        file = self.path / "session.sqlite"
        self.ledger: Ledger | None = None
        self._n_stored = 0
        self._db = _open(file)
        try:
            self._load()
        except sqlite3.DatabaseError as error:
            self.close()
            raise SessionError(f"{file} is damaged or was never finished ({error})") from None
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls,
        path: str | Path,
        X: Any,
        y: Any = None,
        *,
        ids: Sequence[Any] | None = None,
        owners: ArrayLike | None = None,
        meta: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Session:
        """Make a session for the pool X (n, d), initial labels y, and PPAL's own arguments as keywords.

        With ``epsilon`` (and ``delta``, ``unit``) the folder gets a ledger of its own. Learner and strategy are given
        by name, since objects cannot be stored. ``meta`` holds JSON values for the caller. Raises SessionError where a
        session already is, and InputError before any file exists.
        """
        for name in ("learner", "strategy"):
            if not isinstance(settings.get(name, "auto"), str):
                raise InputError(f"{name} was {settings[name]!r}; a session stores names alone")
        if settings.get("ledger") is not None:
            raise InputError("ledger was given; a session keeps its own: give epsilon, delta and unit")
        settings = _settled(settings)
        trial = PPAL(**settings)
        trial._begin(X, y, owners)
        table = trial.table_
        if ids is not None and len(ids) != len(table):
            raise InputError(f"ids has {len(ids)} entries for {len(table)} rows; one a row is expected")
        folder = Path(path)
        values = {
            "format": FORMAT,
            "version": __version__,
            "settings": settings,
            "schema": [table.schema.names, table.schema.levels],
            "labels": trial._labels.tolist(),
            "ids": None if ids is None else [_plain(v) for v in ids],
            "meta": meta or {},
        }
        arrays = {"table": table.values, "bounds": table.schema.bounds, "owners": trial.owners_}
        file = folder / "session.sqlite"
        folder.mkdir(parents=True, exist_ok=True)
        with _connection(file) as db:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise SessionError(f"{folder} holds a session already; open it, or name another folder")
            with _transaction(db):
                for statement in _TABLES:
                    db.execute(statement)
                db.executemany("INSERT INTO setting VALUES (?, ?)", [(n, json.dumps(v)) for n, v in values.items()])
                packed = [(n, _pack(a)) for n, a in arrays.items() if a is not None]
                db.executemany("INSERT INTO array VALUES (?, ?)", packed)
        return cls(folder)

    def ask(self, n: int | None = None) -> Rows:
        """Rows to label next, stored before they are returned; while a round is open, its open rows."""
        before = self.ppal.round_
        rows = self.ppal.ask(n)
        if self.ppal.round_ > before:
            with _transaction(self._db) as db:
                db.execute("INSERT INTO round (number) VALUES (?)", (self.ppal.round_,))
                asked = [(int(row), self.ppal.round_, i) for i, row in enumerate(rows)]
                db.executemany("INSERT INTO asked VALUES (?, ?, ?)", asked)
                self._store_records()
        return rows

    def tell(self, indices: ArrayLike, labels: Labels) -> Session:
        """Answers for asked rows, all or a part, stored before the model sees them. Bad ones change nothing."""
        rows, answers = self.ppal.check_answers(indices, labels)
        with _transaction(self._db) as db:
            pairs = [(int(row), json.dumps(_plain(label))) for row, label in zip(rows, answers, strict=True)]
            db.executemany("INSERT INTO answer VALUES (?, ?)", pairs)
        self.ppal.tell(rows, answers)
        with _transaction(self._db):
            self._store_records()
        return self

    def finish(self) -> Session:
        """Learn from what was told, releasing now what the plan kept for the end."""
        self.ppal.finish()
        return self

    def kept(self) -> list[KeptItem]:
        """Items that a running line has kept here for the expert. They are no rows of the pool."""
        return kept_items(self.path)

    def close(self) -> None:
        """Let go of the files; everything is on disk already."""
        self._db.close()
        if self.ledger is not None:
            self.ledger.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _load(self) -> None:
        setting = {name: json.loads(value) for name, value in self._db.execute("SELECT name, value FROM setting")}
        if setting["format"] > FORMAT:
            raise SessionError(
                f"{self.path} was made by ppal_fast {setting['version']}, which is newer than {__version__}; update"
            )
        array = {name: _unpack(value) for name, value in self._db.execute("SELECT name, value FROM array")}
        names, levels = setting["schema"]
        schema = Schema(tuple(names), tuple(None if v is None else tuple(v) for v in levels))
        if "bounds" in array:
            schema = schema.with_bounds(array["bounds"])
        self.ids, self.meta = setting["ids"], setting["meta"]
        options = setting["settings"]
        if options.get("epsilon") is not None:
            terms = {name: options[name] for name in ("epsilon", "delta", "unit")}
            self.ledger = Ledger(self.path / "ledger.sqlite", **terms)
        self.ppal = PPAL(**options, ledger=self.ledger)
        self.ppal._begin(Table(array["table"], schema), setting["labels"], array.get("owners"))
        rounds, records = self._stored_rounds()
        answers = {row: json.loads(label) for row, label in self._db.execute("SELECT row, label FROM answer")}
        self.ppal._replay(rounds, answers, records)
        with _transaction(self._db):
            self._store_records()

    def _stored_rounds(self) -> tuple[list[Rows], list[RoundRecord]]:
        """The rows of each round, and the records of the closed ones."""
        asked: dict[int, list[int]] = {}
        for number, row in self._db.execute("SELECT round, row FROM asked ORDER BY round, position"):
            asked.setdefault(number, []).append(row)
        rounds, records = [], []
        for number, record in self._db.execute("SELECT number, record FROM round ORDER BY number"):
            if number:
                rounds.append(np.array(asked.get(number, []), dtype=np.intp))
            if record is not None:
                told = json.loads(record)
                rows = np.array(told["asked"], dtype=np.intp)
                scores = np.array(told["scores"], dtype=np.float64)
                labels = np.array(told["labels"])
                records.append(RoundRecord(number, rows, labels, told["epsilon_spent"], scores, told["seconds"]))
        return rounds, records

    def _store_records(self) -> None:
        """Write the records of rounds that were closed since the last call."""
        for record in self.ppal.history_[self._n_stored :]:
            told = {
                "asked": record.asked.tolist(),
                "labels": record.labels.tolist(),
                "epsilon_spent": record.epsilon_spent,
                "scores": [None if np.isnan(s) else s for s in record.scores.tolist()],
                "seconds": record.seconds,
            }
            self._db.execute("INSERT OR REPLACE INTO round VALUES (?, ?)", (record.round, json.dumps(told)))
        self._n_stored = len(self.ppal.history_)


def _settled(settings: dict[str, Any]) -> dict[str, Any]:
    """PPAL's arguments as they are stored: JSON values, nothing left to chance at the next opening."""
    defaults = PPAL().get_params()
    unknown = set(settings) - set(defaults)
    if unknown:
        name = sorted(unknown)[0]
        raise InputError(f"{name!r} is not a setting of a session{_validate.nearest(name, list(defaults))}")
    settled = {name: value for name, value in {**defaults, **settings}.items() if name != "ledger"}
    if settled["classes"] is not None:
        settled["classes"] = [_plain(c) for c in settled["classes"]]
    seed = settled["random_state"]
    if not isinstance(seed, int | np.integer):
        seed = _validate.random_generator(seed).integers(2**63)
    return settled | {"random_state": int(seed)}


def _plain(value: Any) -> Any:
    """A label or id as JSON has it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _pack(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array.astype(str) if array.dtype == object else array, allow_pickle=False)
    return zlib.compress(buffer.getvalue(), level=1)


def _unpack(blob: bytes) -> NDArray[Any]:
    return np.load(io.BytesIO(zlib.decompress(blob)), allow_pickle=False)


@contextmanager
def _connection(file: Path) -> Iterator[sqlite3.Connection]:
    db = _open(file)
    try:
        yield db
    finally:
        db.close()


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of it durably, or nothing."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.execute("COMMIT")
    except sqlite3.Error as error:
        raise SessionError(f"the session could not be written ({error}); nothing of this step was stored") from error
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _open(file: Path) -> sqlite3.Connection:
    """A connection that holds the file alone until it is closed or its process dies."""
    db = sqlite3.connect(file, isolation_level=None, timeout=0, check_same_thread=False)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("COMMIT")
    except sqlite3.Error as error:
        db.close()
        if "locked" in str(error):
            raise SessionError(f"{file.parent} is open elsewhere; close it there first") from None
        raise SessionError(f"{file} cannot be opened as a session ({error})") from None
    return db
