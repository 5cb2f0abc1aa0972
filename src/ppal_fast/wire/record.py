"""AnswerRecord: which items were answered and with what, so that none is answered twice and none is lost on its way.

A file of lines: a decision when it is made, and the item's id alone once its receiver has confirmed it. A line is
handed to the operating system before the decision may leave, so the record survives the death of the process at any
instant, but not a loss of power, after which its last seconds may be missing. It is bounded: after ``capacity`` answers
a new file is begun, the one before is kept, older ones go.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from ..errors import SessionError
from .items import Item

CAPACITY = 50_000


class AnswerRecord:
    """At least the last ``capacity`` answered ids, at most twice as many. The Belt calls it from one thread at a time.

    folder       of ``answered.log`` and ``answered.old.log``; None keeps the record in memory alone. SessionError where
                 another line has it, or the files are damaged.
    unconfirmed  item -> decision as it left, of those whose receiver has not confirmed it
    """

    def __init__(self, folder: str | Path | None = None, *, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.unconfirmed: dict[Item, bytes] = {}
        self._newer: dict[Item, bytes | None] = {}  # None while the item is in work
        self._older: dict[Item, bytes | None] = {}
        self._lock = self._log = -1
        if folder is not None:
            self._path, self._old = Path(folder) / "answered.log", Path(folder) / "answered.old.log"
            self._hold(Path(folder) / "answered.lock")
            self._older, self._newer = self._read(self._old), self._read(self._path)
            self._log = _appending(self._path)

    def claim(self, item: Item) -> bool:
        """Take the item for answering; False where that was done before."""
        if item in self._newer or item in self._older:
            return False
        if len(self._newer) >= self.capacity:
            self._turn_over()
        self._newer[item] = None
        return True

    def decision(self, item: Item) -> bytes | None:
        """What a claimed item was answered with, if it was by now."""
        return self._newer.get(item) or self._older.get(item)

    def release(self, item: Item) -> None:
        """Give back a claim that came to no answer."""
        self._newer.pop(item, None)
        self._older.pop(item, None)

    def answered(self, item: Item, decision: bytes) -> None:
        """Write the decision down; from here on it may leave."""
        self._write(decision)
        self._newer[item] = self.unconfirmed[item] = decision

    def confirmed(self, item: Item) -> None:
        """Its receiver has the decision: it need not be sent again."""
        if self.unconfirmed.pop(item, None) is not None:
            self._write(json.dumps(item).encode())

    def close(self) -> None:
        for number in (self._log, self._lock):
            if number >= 0:
                os.close(number)
        self._lock = self._log = -1

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def _hold(self, path: Path) -> None:
        self._lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise SessionError(f"another line uses {path.parent}; stop it, or name another session") from None

    def _read(self, path: Path) -> dict[Item, bytes | None]:
        """The answers that the file holds; a last line that was cut short by a full disk never left, and is dropped."""
        if not path.exists():
            return {}
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            os.truncate(path, end)
        answers: dict[Item, bytes | None] = {}
        try:
            for line in whole[:end].splitlines():
                told = json.loads(line)
                if isinstance(told, dict):
                    answers[told["item"]] = self.unconfirmed[told["item"]] = line
                else:
                    self.unconfirmed.pop(told, None)
        except (ValueError, KeyError, TypeError):
            self.close()
            raise SessionError(
                f"{path} is damaged; move it away to go on, after which items that it held could be answered again"
            ) from None
        return answers

    def _turn_over(self) -> None:
        """Begin a new file with the decisions that are still on their way."""
        if self._log >= 0:
            os.close(self._log)
            os.replace(self._path, self._old)
            self._log = _appending(self._path)
            for decision in self.unconfirmed.values():
                self._write(decision)
        self._newer, self._older = dict(self.unconfirmed), self._newer

    def _write(self, line: bytes) -> None:
        if self._log < 0:
            return
        line += b"\n"
        try:
            written = os.write(self._log, line)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            if written == len(line):
                return
            os.ftruncate(self._log, os.lseek(self._log, 0, os.SEEK_END) - written)
            reason = "no space left on device"
        raise SessionError(f"{self._path} cannot be written ({reason}); the item is not answered")


def _appending(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
