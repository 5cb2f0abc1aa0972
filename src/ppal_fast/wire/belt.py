"""Belt: one message in, at most one reply out, whatever carries them.

    read the item -> is it new? -> decide -> keep it for the expert, where asked -> write the answer down -> reply

Each step is done before the next: a decision that says ``query`` leaves after its item is on disk, and every decision
leaves after it was written down. An adapter sends the reply, and calls ``confirm`` when its receiver has it; what was
not confirmed when a life ended is in ``unconfirmed`` of the next one, to be sent again as it was, byte for byte.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

from .. import _validate
from ..errors import InputError
from ..kept import KeptItems, require_session
from ..line import LineScorer
from .items import CellReader, Item, packed, read_item
from .record import CAPACITY, AnswerRecord


class Reply(NamedTuple):
    """What becomes of a message.

    item     its id; None where none could be read
    message  the decision or the error, to be sent; None where the item was answered before, and did not ask again
    error    True where the message could not be answered, and says why
    """

    item: Item | None
    message: bytes | None
    error: bool = False


class _Model(NamedTuple):
    """All that belongs to one model, taken together in one step, so that no decision mixes two."""

    scorer: LineScorer
    cells: CellReader
    model_id: str


class Belt:
    """Answers items with a scorer, each one once; what asks again gets the same bytes. Many threads may share it.

    session   folder of a Session: items to label are kept there, and the record of what was answered. None: decisions
              still say ``query``, nothing is kept, and the record lasts as long as the process.
    capacity  answered ids that are remembered, at least
    counts    how many messages were decided, asked, repeated and refused in this life
    """

    def __init__(self, scorer: LineScorer, session: str | Path | None = None, *, capacity: int = CAPACITY) -> None:
        _validate.integer(1, capacity=capacity)
        self.counts = {"decided": 0, "asked": 0, "repeated": 0, "refused": 0}
        self._begin(scorer)
        self._lock = threading.Lock()
        folder = None if session is None else require_session(session)
        self._record = AnswerRecord(folder, capacity=capacity)
        try:
            self._kept = None if folder is None else KeptItems(folder)
        except BaseException:
            self._record.close()
            raise

    @property
    def model_id(self) -> str:
        """Of the model that decides now."""
        return self._model.model_id

    def swap(self, scorer: LineScorer) -> None:
        """Decide with another model from the next item on, at the pace so far (``LineScorer.take_pace``); items in work
        keep the one that they began with."""
        scorer.take_pace(self._model.scorer)
        self._begin(scorer)

    def _begin(self, scorer: LineScorer) -> None:
        self._model = _Model(scorer, CellReader(scorer), scorer.model_id)

    def answer(self, message: bytes) -> Reply:
        """The reply to one message. Raises SessionError where the disk fails: nothing was answered then."""
        item: Item | None = None
        model = self._model
        try:
            item, cells, again = read_item(message)
            x, observed = model.cells.read(cells)
        except InputError as error:
            return self._refused(item, error)
        with self._lock:
            if not self._record.claim(item):
                self.counts["repeated"] += 1
                return Reply(item, self._record.decision(item) if again else None)
        try:
            decision = model.scorer.decide(x)
            told = {
                "item": item, "label": decision.label, "probability": decision.probability,
                "uncertainty": decision.uncertainty, "query": decision.query, "model": model.model_id,
            }
            if decision.query and self._kept is not None:
                self._kept.keep(item, observed, told)
            reply = packed(told)
            with self._lock:
                self._record.answered(item, reply)
                self.counts["decided"] += 1
                self.counts["asked"] += bool(decision.query)
        except BaseException as error:
            with self._lock:
                self._record.release(item)
            if isinstance(error, InputError):
                return self._refused(item, error)
            raise
        return Reply(item, reply)

    def confirm(self, item: Item) -> None:
        """The receiver has the decision on this item."""
        with self._lock:
            self._record.confirmed(item)

    @property
    def unconfirmed(self) -> dict[Item, bytes]:
        """The decisions, as they left, that no receiver has confirmed, in the order in which they were made."""
        with self._lock:
            return dict(self._record.unconfirmed)

    def close(self) -> None:
        """Let go of the files; what they hold is on disk already."""
        self._record.close()
        if self._kept is not None:
            self._kept.close()

    def __enter__(self) -> Belt:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _refused(self, item: Item | None, error: InputError) -> Reply:
        with self._lock:
            self.counts["refused"] += 1
        return Reply(item, packed({"item": item, "error": str(error)}), error=True)
