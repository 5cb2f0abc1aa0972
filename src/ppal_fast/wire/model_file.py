"""ModelFile: the model of a running line, read again whenever its file changes."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import PPALError
from ..line import LineScorer


class ModelFile:
    """A file made by ``LineScorer.save``.

    queries_per_hour  target of the query rule, whatever model is read from it; None for what the file says
    ledger            file of the ledger that a privately learned model must be in
    """

    def __init__(
        self, path: str | Path, *, queries_per_hour: float | None = None, ledger: Path | None = None
    ) -> None:
        self.path = Path(path)
        self.queries_per_hour, self.ledger = queries_per_hour, ledger
        self._loaded: tuple[int, int, int] | None = None
        self._refused: tuple[int, int, int] | None = None

    def load(self) -> LineScorer:
        """The model that the file holds. Raises InputError where it is none, PrivacyError where it may not be used."""
        now = self._look()
        scorer = LineScorer.load(self.path, ledger=self.ledger, queries_per_hour=self.queries_per_hour)
        self._loaded = now
        return scorer

    def newer(self) -> LineScorer | str | None:
        """The model, where the file changed since it was last read; None where nothing did. A file that cannot be used,
        half written perhaps, is tried again at every call, and the sentence about it is returned at the first."""
        now = self._look()
        if now is None or now == self._loaded:
            return None
        try:
            return self.load()
        except (PPALError, OSError) as error:
            first, self._refused = now != self._refused, now
            return str(error) if first else None

    def _look(self) -> tuple[int, int, int] | None:
        """What changes with the file; None while it is gone, as it may be for a moment when it is replaced."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
