"""The durable book beneath the ledger: an append-only list of entries in SQLite, chained by hashes.

Entry i carries hash_i = SHA-256(hash_(i-1), kind, body, value). Every transaction first reads what others appended,
checks it against the chain, and finds a changed, deleted or rolled-back entry. The chain has no key: somebody who
rewrites the whole file is found only by a witness, a head written down elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, LedgerError

APPLICATION = 0x5050414C  # "PPAL"
FORMAT = 1
WAIT = 30.0  # seconds for another writer to finish

_SCHEMA = """
CREATE TABLE entry (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL, value BLOB, hash BLOB NOT NULL);
"""


@dataclass(frozen=True)
class Entry:
    """seq from 0; kind "open", "reserve" or "commit"; body: plain JSON values. Values are read on demand."""

    seq: int
    kind: str
    body: Mapping[str, Any]


class Book:
    """One open file (or ":memory:") with its terms: those of entry 0 must equal ``terms``.

    `writing` is a transaction that one writer among all threads and processes holds; `reading` sees a whole state.
    `entries` is what has been read and verified so far.
    """

    def __init__(self, path: str | os.PathLike[str], terms: Mapping[str, Any]) -> None:
        self._in_memory = path == ":memory:"
        self.path = ":memory:" if self._in_memory else _checked_path(path)
        self.entries: list[Entry] = []
        self._head = b""
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._files: list[tuple[int, int]] = []  # the file and its write-ahead log, once open
        if not self._in_memory:
            self._create_if_absent(terms)
        with self._as_ledger_error():
            self._connection = sqlite3.connect(
                self.path if self._in_memory else f"{Path(self.path).resolve().as_uri()}?mode=rw",
                uri=not self._in_memory, timeout=WAIT, isolation_level=None, check_same_thread=False,
            )
        try:
            with self._as_ledger_error():
                if self._in_memory:
                    _found(self._connection, terms)
                self._check_kind_of_file()
                # With a write-ahead log, FULL syncs the log at each COMMIT: durable when it returns, one sync each.
                self._connection.execute("PRAGMA synchronous=FULL")
            with self.writing():  # also finds a file that cannot be written
                self._check_terms(terms)
            self._files = self._identity()
        except BaseException:
            self._connection.close()
            raise

    @property
    def head(self) -> str:
        """Number and hash of the last entry: "12:9f86d0..."."""
        return f"{len(self.entries) - 1}:{self._head.hex()}"

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        with self._transaction("BEGIN"):
            yield

    def append(self, kind: str, body: Mapping[str, Any], value: bytes | None = None) -> None:
        """Inside `writing`; in `entries` from the next transaction on."""
        _insert(self._connection, len(self.entries), self._head, kind, _canonical(body), value)

    def value(self, seq: int) -> bytes | None:
        """Inside a transaction."""
        row = self._connection.execute("SELECT value FROM entry WHERE seq = ?", (seq,)).fetchone()
        stored: bytes | None = row[0]
        return stored

    def check_witness(self, witness: str) -> None:
        """Raise LedgerError unless the file still contains the entry that ``witness`` names."""
        number, _, digest = str(witness).partition(":")
        if not number.isdecimal() or len(digest) != 64:
            raise InputError(f"witness was {witness!r}; a head as ledger.head gives it is expected")
        with self.reading():
            row = self._connection.execute("SELECT hash FROM entry WHERE seq = ?", (int(number),)).fetchone()
        if row is None or row[0].hex() != digest.lower():
            raise LedgerError(f"{self.path} is older than its witness or not its continuation; restore the newer file")

    def close(self) -> None:
        with self._lock:
            if self._process == os.getpid():  # a forked child must not touch its parent's connection
                self._connection.close()
                self._files = []  # SQLite takes its log away; the next call is to hear that the ledger was closed

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._lock, self._as_ledger_error():
            if self._process != os.getpid():
                raise LedgerError(f"{self.path} was opened before a fork; open it again in the child process")
            if self._files and self._identity() != self._files:
                raise LedgerError(f"{self.path} was deleted or replaced while open; restore it and open it again")
            self._connection.execute(begin)
            try:
                self._catch_up()
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _catch_up(self) -> None:
        known = len(self.entries)
        if known:
            row = self._connection.execute("SELECT hash FROM entry WHERE seq = ?", (known - 1,)).fetchone()
            if row is None or row[0] != self._head:
                raise LedgerError(f"{self.path} went back in time or was changed while open; restore the newer file")
        rows = self._connection.execute(
            "SELECT seq, kind, body, value, hash FROM entry WHERE seq >= ? ORDER BY seq", (known,)
        )
        for expected, (seq, kind, body, value, digest) in enumerate(rows, start=known):
            if seq != expected or digest != _hash(self._head, kind, body, value):
                raise LedgerError(f"{self.path} was changed by hand: entry {expected} breaks the chain of hashes")
            self.entries.append(Entry(seq, kind, json.loads(body)))
            self._head = digest

    def _check_kind_of_file(self) -> None:
        if not self._in_memory and not os.access(self.path, os.W_OK):  # SQLite would open it, and refuse to spend
            raise LedgerError(f"{self.path} is read-only; a spent budget could not be written down")
        application = self._connection.execute("PRAGMA application_id").fetchone()[0]
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION:
            raise LedgerError(f"{self.path} is not a ledger; give the path of a ledger or of a file to be created")
        if version > FORMAT:
            raise LedgerError(
                f"{self.path} was made by a newer version (format {version}, this one reads {FORMAT}); "
                "upgrade ppal_fast"
            )
        damage = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if damage != "ok":
            raise LedgerError(f"{self.path} is damaged ({damage}); restore it from a copy and check its witness")

    def _check_terms(self, terms: Mapping[str, Any]) -> None:
        if not self.entries or self.entries[0].kind != "open":
            raise LedgerError(f"{self.path} was changed by hand: its opening entry is gone")
        found = self.entries[0].body
        for key in sorted(terms.keys() | found.keys()):
            if found.get(key) != terms.get(key):
                raise LedgerError(
                    f"{key} was {terms.get(key)!r} but {self.path} was opened with {found.get(key)!r}; "
                    "a ledger keeps the terms that it was made with"
                )

    def _identity(self) -> list[tuple[int, int]]:
        """Device and inode of the file and of its log; an empty list in memory."""
        found = []
        for name in [] if self._in_memory else [self.path, self.path + "-wal"]:
            try:
                status = os.stat(name)
                found.append((status.st_dev, status.st_ino))
            except OSError:
                found.append((-1, -1))
        return found

    def _create_if_absent(self, terms: Mapping[str, Any]) -> None:
        """A new file appears whole or not at all: written aside, synced, then linked under its name."""
        path = Path(self.path)
        if path.exists():
            if not path.is_file():
                kind = "folder" if path.is_dir() else "device"
                raise LedgerError(f"{self.path} is a {kind}; the path of a file is expected")
            if path.stat().st_size == 0:
                raise LedgerError(f"{self.path} is empty, which no ledger is; restore it, or delete it to start anew")
            return
        try:
            handle, aside = tempfile.mkstemp(prefix=path.name + ".", suffix=".new", dir=path.parent)
            os.close(handle)
        except OSError as error:
            raise LedgerError(
                f"{self.path} cannot be created ({error.strerror}); a writable folder is expected"
            ) from None
        try:
            with self._as_ledger_error(), contextlib.closing(sqlite3.connect(aside, isolation_level=None)) as new:
                if new.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
                    raise LedgerError(f"{self.path} is not on a local disk; a ledger cannot be kept there safely")
                _found(new, terms)
            _sync(aside)
            with contextlib.suppress(FileExistsError):  # another process was first: its terms are checked next
                os.link(aside, path)
            _sync(path.parent)
        except OSError as error:
            raise LedgerError(f"{self.path} cannot be created ({error.strerror})") from None
        finally:
            os.unlink(aside)

    @contextlib.contextmanager
    def _as_ledger_error(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: {_advice(error)}") from error


def _checked_path(path: Any) -> str:
    """Absolute, so that a change of the working directory does not lose the file."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str) or not os.fspath(path):
        raise InputError(f"path was {path!r}; the path of a file, or ':memory:', is expected")
    if "\0" in os.fspath(path):
        raise InputError(f"path was {path!r}; a path without a zero character is expected")
    return os.path.abspath(path)


def _found(connection: sqlite3.Connection, terms: Mapping[str, Any]) -> None:
    """Tables and entry 0 of a new book."""
    connection.execute("BEGIN")
    connection.execute(f"PRAGMA application_id={APPLICATION}")
    connection.execute(f"PRAGMA user_version={FORMAT}")
    connection.execute(_SCHEMA)
    _insert(connection, 0, b"", "open", _canonical(terms), None)
    connection.execute("COMMIT")


def _insert(
    connection: sqlite3.Connection, seq: int, head: bytes, kind: str, body: str, value: bytes | None
) -> None:
    connection.execute(
        "INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (seq, kind, body, value, _hash(head, kind, body, value))
    )


def _hash(head: bytes, kind: str, body: str, value: bytes | None) -> bytes:
    digest = hashlib.sha256(head)
    for part in (kind.encode(), body.encode(), b"-" if value is None else b"+" + value):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def _sync(path: str | Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _advice(error: sqlite3.Error) -> str:
    text = str(error)
    for sign, advice in {
        "locked": f"another process has held the ledger for {WAIT:.0f} seconds; let it finish or stop it",
        "readonly": "the ledger or its folder is read-only; a spent budget could not be written down",
        "not a database": "the file is not a ledger",
        "malformed": "the file is damaged; restore it from a copy and check its witness",
        "full": "the disk is full; nothing that was not written has been released",
        "unable to open": "the file cannot be opened; check its folder and its permissions",
        "closed database": "the ledger was closed; open it again",
    }.items():
        if sign in text:
            return f"{advice} ({text})"
    return text
