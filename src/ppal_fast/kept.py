"""Items of a running line that are kept for the expert: ``kept.sqlite`` in a session's folder.

A session itself is one process's alone, and its pool is fixed; a line runs for months and sees items that no pool
held. So its items lie beside the session: the line writes while the expert's commands read.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any, NamedTuple

from .errors import SessionError

FILE = "kept.sqlite"


class KeptItem(NamedTuple):
    """An item for the expert: its id, its observed cells by column, and the decision that asked for it."""

    item: str | int
    cells: dict[str, Any]
    decision: dict[str, Any]


class KeptItems:
    """Where a line keeps what the expert should label. Many threads may share it.

    folder   of a session; SessionError where none is
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = require_session(folder)
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        try:
            self._db = sqlite3.connect(self.folder / FILE, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")  # the expert reads while the line writes
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS kept "
                "(number INTEGER PRIMARY KEY, item TEXT NOT NULL UNIQUE, cells TEXT NOT NULL, decision TEXT NOT NULL)"
            )
        except sqlite3.Error as error:
            self.close()
            raise SessionError(f"{self.folder / FILE} cannot be written ({error})") from None

    def keep(self, item: str | int, cells: dict[str, Any], decision: dict[str, Any]) -> None:
        """Store the item durably before returning; an id that is there already stays as it is."""
        row = json.dumps(item), json.dumps(cells), json.dumps(decision)
        try:
            with self._lock:
                assert self._db is not None
                self._db.execute("INSERT OR IGNORE INTO kept (item, cells, decision) VALUES (?, ?, ?)", row)
        except sqlite3.Error as error:
            raise SessionError(f"item {item!r} could not be kept in {self.folder / FILE} ({error})") from None

    def close(self) -> None:
        if self._db is not None:
            self._db.close()


def kept_items(folder: str | Path) -> list[KeptItem]:
    """What a line has kept in the session's folder, in the order of keeping; a line may be writing meanwhile."""
    file = require_session(folder) / FILE
    if not file.is_file():
        return []
    try:
        db = sqlite3.connect(file)
        try:
            rows = db.execute("SELECT item, cells, decision FROM kept ORDER BY number").fetchall()
        finally:
            db.close()
    except sqlite3.Error as error:
        raise SessionError(f"{file} cannot be read ({error})") from None
    return [KeptItem(*map(json.loads, row)) for row in rows]


def require_session(folder: str | Path) -> Path:
    """The folder, if a session is in it."""
    if not (Path(folder) / "session.sqlite").is_file():
        raise SessionError(f"{folder} is not a session: it has no session.sqlite; Session.create makes one")
    return Path(folder)
