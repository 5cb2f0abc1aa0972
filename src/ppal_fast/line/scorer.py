"""LineScorer: a model file at work. ppal_fast/line.h decides; here items are read and answers named."""

from __future__ import annotations

import ctypes
import os
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError
from ..kernels._line import Scorer, decide_address
from ..table import Schema, Table
from . import image as images
from .released import require_ledger

if TYPE_CHECKING:
    from ..privacy import Ledger

Float = NDArray[np.float64]

VERDICT = np.dtype([
    ("label", "i8"), ("probability", "f8"), ("uncertainty", "f8"), ("log_density_ratio", "f8"), ("unusual", "f8"),
    ("query", "i8"),
])  # ppal_line_verdict


class Decision(NamedTuple):
    """What is decided about an item; of ``decide_many``, arrays (n,).

    label              the most probable class
    probability        of that class
    uncertainty        entropy over its largest value, times the share of observed cells: 0 to 1
    query              whether the item should be kept for the expert
    log_density_ratio  log density of the item's cells under the released model less that among the labelled rows: the
                       higher, the less the labels tell of such items. None where the file has no labelled rows
    """

    label: Any
    probability: Any
    uncertainty: Any
    query: Any
    log_density_ratio: Any = None


class Drift(NamedTuple):
    """Whether the stream has left what was learned. It looks at unreleased items: not private, to be kept local.

    n_items    watched since the start or ``reset_drift``; items without a cell are not
    unusual    share of them beyond the most unusual hundredth of the reference; NaN before the first item
    evidence   against "nothing has changed": a CUSUM of e-values, see docs/line.md
    alarm_at   the item at which it first reached 10^8, or None
    drifted    alarm_at is not None
    """

    n_items: int
    unusual: float
    evidence: float
    alarm_at: int | None
    drifted: bool


class LineScorer:
    """A released model, ready to decide items of d cells.

    An item is d numbers in the order of the pool's columns, NaN for a missing cell, a category by its code
    (``Table.values``); a frame or a Table goes to ``decide_many``. One scorer may serve many threads. Made by
    ``from_ppal``, ``from_learner`` or ``load``; a scorer can be pickled.

    classes_, feature_names, n_features_in_
    model_id          hexadecimal SHA-256 of the file's contents
    privacy_          one sentence: what the model's release promises, or that it is not private
    density_          one sentence: what the density ratio is, or why there is none
    threshold         uncertainty from which an item is a query where queries_per_hour is None
    queries_per_hour  target of the query rule, or None
    """

    def __init__(self, image: bytes, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``image`` is a checked file's bytes; ``clock`` gives seconds and paces the queries."""
        text = images.text_of(image)
        self._image, self._clock = image, clock
        self.classes_: NDArray[Any] = np.array(text["classes"], dtype=np.dtype(text["class_type"]))
        self.feature_names: tuple[str, ...] = tuple(text["names"])
        self.n_features_in_ = len(self.feature_names)
        levels = tuple(None if known is None else tuple(known) for known in text["levels"])
        self.schema = Schema(self.feature_names, levels)
        self.privacy_: str = text["privacy"]["sentence"]
        self.density_: str = text["density"]
        paced: float | None = text["queries_per_hour"]
        self.queries_per_hour = paced
        labels = tuple(self.classes_.tolist())
        self.kernel = Scorer(image, labels, Decision, None if paced is None else clock, secrets.randbits(64))
        self.model_id, self.threshold = self.kernel.id, self.kernel.threshold

    # Where a scorer comes from

    @classmethod
    def from_ppal(
        cls, ppal: Any, *, queries_per_hour: float | None = None, density: bool = True, threshold: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> LineScorer:
        """Compile the model of a ``PPAL`` that has learned one; post-processing, so it costs no privacy.

        queries_per_hour  target of the query rule; None: a fixed threshold
        density           also the log density ratio, where features are public (no ledger, or unit label)
        threshold         of uncertainty; None: what a tenth of the pool exceeds where features are public, else 0.1
        """
        from .build import image_of_ppal

        image = image_of_ppal(ppal, queries_per_hour=queries_per_hour, density=density, threshold=threshold)
        return cls(image, clock=clock)

    @classmethod
    def from_learner(
        cls, learner: Any, schema: Schema, *, threshold: float, queries_per_hour: float | None = None,
        pool: Table | None = None, labelled: Table | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> LineScorer:
        """Compile a learner fitted without a ledger; ``pool`` and ``labelled`` are the rows that it learned from."""
        from .build import image_of

        image = image_of(
            learner, schema, threshold=threshold, queries_per_hour=queries_per_hour, pool=pool, labelled=labelled
        )
        return cls(image, clock=clock)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, ledger: Ledger | str | os.PathLike[str] | None = None,
        queries_per_hour: float | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> LineScorer:
        """Read a file that ``save`` wrote. A private model needs the ledger that holds its releases, or its path.

        queries_per_hour  another target of the query rule than the file's; the model_id is then another one too

        Raises InputError for a file that is damaged, cut short or of another version, PrivacyError for a private model
        without a ledger, LedgerError where the ledger does not hold the releases as they were made.
        """
        image = images.read(path)
        require_ledger(images.text_of(image)["privacy"], ledger, str(path))
        if queries_per_hour is not None:
            _validate.positive(queries_per_hour=queries_per_hour)
            image = images.paced(image, queries_per_hour)
        return cls(image, clock=clock)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, all of it or nothing. Raises InputError where that cannot be done."""
        images.write(self._image, path)

    def __reduce__(self) -> Any:
        return _restored, (self._image, self._clock)

    # Decisions

    def decide(self, x: Any) -> Decision:
        """The decision on one item x (d,). Raises InputError on a wrong length, on text and on infinite values."""
        decision: Decision | None = self.kernel.decide(x) if type(x) is np.ndarray else None
        return self.kernel.decide(self._item(x)) if decision is None else decision

    def decide_many(self, X: Any) -> Decision:
        """The decisions on a belt or batch X (n, d): a Decision of arrays (n,).

        The same as one by one, but for queries_per_hour: a batch arrives at once, and shares one allowance.
        """
        return self._decision(self.verdicts(X))

    def predict_proba(self, X: Any) -> Float:
        """(n, K) class probabilities of the items, columns in the order of ``classes_``; asks and watches nothing."""
        values = self._items(X)
        P = np.empty((len(values), len(self.classes_)))
        self._fill(values, np.empty(len(values), VERDICT), P, watched=False)
        return P

    def verdicts(self, X: Any) -> NDArray[np.void]:
        """What ``decide_many`` names, as the C core wrote it: (n,) of VERDICT, labels as positions in classes_."""
        values = self._items(X)
        found = np.empty(len(values), VERDICT)
        self._fill(values, found, None, watched=True)
        return found

    def take_pace(self, other: LineScorer) -> None:
        """Go on with the query allowance of the scorer that this one replaces; one clock must serve both.

        A scorer under unit record or owner takes none from one that charges what was asked, and begins with nothing:
        its queries may not depend on the items before (docs/line.md).
        """
        self.kernel.take_pace(other.kernel)

    # Drift

    def drift(self) -> Drift:
        """Whether the items decided so far are like those that the model learned from."""
        n, unusual, evidence, alarm_at = self.kernel.drift()
        return Drift(n, unusual / n if n else float("nan"), evidence, alarm_at or None, alarm_at > 0)

    def reset_drift(self) -> None:
        """Start watching anew, against the file's reference."""
        self.kernel.reset_drift()

    # For other languages

    @property
    def address(self) -> int:
        """Of the open model (a ppal_line), valid while this scorer lives: the first argument of ``ctypes_decide``."""
        return self.kernel.address

    @property
    def n_work(self) -> int:
        """Doubles of scratch that ``ctypes_decide`` needs, for each thread."""
        return self.kernel.n_work

    @property
    def ctypes_decide(self) -> Any:
        """ppal_line_decide(model, x, work, probabilities or None, verdict) -> status, five addresses; for Numba too."""
        return ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 5)(decide_address())

    # What is read and written

    def _fill(self, values: Float, found: NDArray[np.void], P: Float | None, *, watched: bool) -> None:
        infinite = self.kernel.decide_many(values, found, P, watched)
        if infinite >= 0:
            raise InputError(f"X has an infinite value in row {infinite}; use NaN for a missing cell")

    def _decision(self, found: NDArray[np.void]) -> Decision:
        ratio = np.ascontiguousarray(found["log_density_ratio"]) if self.kernel.has_density else None
        return Decision(
            self.classes_[found["label"]], np.ascontiguousarray(found["probability"]),
            np.ascontiguousarray(found["uncertainty"]), found["query"].astype(np.bool_), ratio,
        )

    def _items(self, X: Any) -> Float:
        if isinstance(X, Table) or _validate.columns_of(X) is not None:
            return Table.of(X, schema=self.schema).values
        return _validate.table(X, n_columns=self.n_features_in_)

    def _item(self, x: Any) -> Float:
        d = self.n_features_in_
        try:
            if isinstance(x, np.ma.MaskedArray):
                x = np.ma.filled(x.astype(np.float64), np.nan)
            if not (isinstance(x, np.ndarray) and x.dtype.kind in "fiub"):
                x = [np.nan if _validate.is_missing(v) else v for v in x]
                if any(isinstance(v, str | bytes | complex) for v in x):
                    raise TypeError("text")
            item = np.ascontiguousarray(x, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(
                f"x could not be read as numbers; {d} numbers are expected, NaN for a missing cell"
            ) from None
        if item.shape != (d,):
            raise InputError(f"x has shape {item.shape}; ({d},) is expected")
        if np.isinf(item).any():
            column = int(np.flatnonzero(np.isinf(item))[0])
            raise InputError(f"x has an infinite value in column {column}; use NaN for a missing cell")
        return item


def _restored(image: bytes, clock: Callable[[], float]) -> LineScorer:
    return LineScorer(image, clock=clock)
