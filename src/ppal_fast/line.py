"""LineScorer: a learned model embedded in a sorting line; one call decides one item.

Everything here is post-processing of a learned model: a model that was released privately costs nothing more. Models
of linear scores on label-free maps are compiled; any other learner is called as it is, correct and slower.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _validate, acquisition
from .errors import InputError
from .kernels._line import Scorer
from .learners.auto import AutoClassifier
from .learners.cells import CLIP, Cells
from .learners.class_mean import ClassMeanClassifier
from .learners.logistic import LogisticClassifier
from .learners.mixture import MixtureClassifier
from .learners.representation import (
    CONSTANT,
    Columns,
    FactorScores,
    Products,
    Representation,
    Responsibilities,
    Whitening,
)
from .table import Schema, Table

Float = NDArray[np.float64]

COLUMNS, FACTORS, MIXTURES, PRODUCTS = range(4)  # Encoder in kernels/_line.pxd
NUMBER_CLIP = 3.0  # of the numbers in products
TOP_SHARE = 0.1  # of the pool, asked on a line like the pool where its scores are public
UNRELEASED_THRESHOLD = 0.1  # where they are not: half of the most for an item of which a fifth is observed


class Decision(NamedTuple):
    """What is decided about an item; of ``decide_many``, arrays (n,).

    label        the most probable class
    probability  of that class
    uncertainty  entropy over its largest value, times the share of observed cells: 0 to 1, the score of ``threshold``
    query        whether the item should be kept for the expert: uncertainty >= the scorer's threshold
    """

    label: Any
    probability: Any
    uncertainty: Any
    query: Any


class LineScorer:
    """A learned model, ready to decide items of d cells.

    An item is d numbers in the order of the pool's columns, NaN for a missing cell, a category by its code
    (``Table.values``); a frame or a Table goes to ``decide_many``. One scorer may serve many threads.

    compiled   False where the learner is called instead
    kernel     the ``kernels._line.Scorer`` that other Cython code may call, or None
    threshold  public, or computed from public or released numbers alone: the query rule is item-local
    """

    def __init__(self, learner: Any, schema: Schema, *, threshold: float) -> None:
        _validate.non_negative(threshold=threshold)
        self.learner, self.schema, self.threshold = learner, schema, float(threshold)
        self.classes_ = learner.classes_
        parts = compiled_parts(learner, len(schema.names))
        labels = tuple(self.classes_.tolist())
        self.kernel = None if parts is None else Scorer(parts, self.threshold, labels, Decision)

    @classmethod
    def from_ppal(cls, ppal: Any, *, threshold: float | None = None) -> LineScorer:
        """Compile the model of a ``PPAL`` that has learned one.

        threshold=None: the score that a tenth of the pool exceeds where features are public (no ledger, or unit
        label); else 0.1, which looks at nothing.
        """
        learner, schema = ppal._fitted(), ppal.table_.schema
        if threshold is not None:
            return cls(learner, schema, threshold=threshold)
        ledger = ppal.ledger_
        if ledger is not None and ledger.unit != "label":
            return cls(learner, schema, threshold=UNRELEASED_THRESHOLD)
        scores = cls(learner, schema, threshold=0.0).decide_many(ppal.table_).uncertainty
        return cls(learner, schema, threshold=float(np.quantile(scores, 1 - TOP_SHARE)))

    @property
    def compiled(self) -> bool:
        return self.kernel is not None

    def decide(self, x: Any) -> Decision:
        """The decision on one item x (d,). Raises InputError on a wrong length, on text and on infinite values."""
        decision = None if self.kernel is None else self.kernel.decide(x)
        if decision is not None:
            return decision
        item = self._item(x)
        if self.kernel is not None:
            return self.kernel.decide(item)
        return Decision(*(array[0].item() for array in self.decide_many(item[None])))

    def decide_many(self, X: Any) -> Decision:
        """The decisions on a belt or batch X (n, d): a Decision of arrays (n,), the same as one by one."""
        return self._decided(X)[0]

    def predict_proba(self, X: Any) -> Float:
        """(n, K) class probabilities of the items, columns in the order of ``classes_``."""
        return self._decided(X)[1]

    def _decided(self, X: Any) -> tuple[Decision, Float]:
        values = self._items(X)
        n = len(values)
        if self.kernel is None:
            P = self.learner.predict_proba(Table(values, self.schema) if _reads_tables(self.learner) else values)
            score = acquisition.entropy(P) / np.log(max(P.shape[1], 2))
            uncertainty = np.clip(score, 0.0, 1.0) * acquisition.observed_weight(~np.isnan(values))
            best = P.argmax(axis=1)
            query = uncertainty >= self.threshold
            return Decision(self.classes_[best], P[np.arange(n), best], uncertainty, query), P
        P, label = np.empty((n, len(self.classes_))), np.empty(n, np.intp)
        probability, uncertainty, query = np.empty(n), np.empty(n), np.empty(n, np.uint8)
        infinite = self.kernel.decide_many(values, P, label, probability, uncertainty, query)
        if infinite >= 0:
            raise InputError(f"X has an infinite value in row {infinite}; use NaN for a missing cell")
        return Decision(self.classes_[label], probability, uncertainty, query.view(np.bool_)), P

    def _items(self, X: Any) -> Float:
        if isinstance(X, Table) or _validate.columns_of(X) is not None:
            return Table.of(X, schema=self.schema).values
        return _validate.table(X, n_columns=len(self.schema.names))

    def _item(self, x: Any) -> Float:
        d = len(self.schema.names)
        try:
            cells = [np.nan if _validate.is_missing(v) else v for v in x]
            if any(isinstance(v, str | bytes) for v in cells):
                raise TypeError("text")
            item = np.ascontiguousarray(cells, dtype=np.float64)
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


def compiled_parts(learner: Any, n_columns: int) -> dict[str, Any] | None:
    """The arrays of kernels/_line.pxd for a fitted learner; None where its model has no compiled form."""
    if isinstance(learner, AutoClassifier):
        if getattr(learner, "forest_", None) is not None:
            return None
        learner = getattr(learner, "class_mean_", learner)
    if len(learner.classes_) < 2:
        return None
    if isinstance(learner, MixtureClassifier):
        encoder = Responsibilities((learner.mixture_,))
        parts = _encoder_parts(encoder, learner.cells_.width)
        assert parts is not None
        none = np.empty(0)
        head = {"centre": none, "projection": none, "radius": 1.0, "constant": 0.0, "weights": none}
        return {"n_columns": n_columns, **_cell_parts(learner.cells_), **parts, **head}
    if isinstance(learner, ClassMeanClassifier):
        weights = learner.scores_.weights
    elif isinstance(learner, LogisticClassifier):
        weights = learner.weights_
    else:
        return None
    representation: Representation = learner.representation_
    parts = _encoder_parts(representation.encoder, representation.cells.width)
    whitening = representation.whitening
    if parts is None or not isinstance(whitening, Whitening) or not whitening.projection.shape[1]:
        return None
    head = {
        "centre": whitening.mean @ whitening.projection, "projection": _flat(whitening.projection),
        "radius": whitening.radius, "constant": CONSTANT, "weights": _flat(weights.T),
    }
    return {"n_columns": n_columns, **_cell_parts(representation.cells), **parts, **head}


def _cell_parts(cells: Cells) -> dict[str, Any]:
    interpolated = [cells.scores.get(j, (np.empty(0), np.empty(0))) for j in range(len(cells.numeric))]
    categories = cells.categories
    return {
        "numeric": cells.numeric.astype(np.intp), "mean": _flat(cells.mean), "scale": _flat(cells.scale), "clip": CLIP,
        "knot_start": _starts([len(knots) for knots, _ in interpolated]),
        "knots": _joined([knots for knots, _ in interpolated]),
        "knot_scores": _joined([scores for _, scores in interpolated]),
        "category": np.array([c.column for c in categories], dtype=np.intp),
        "level_start": _starts([len(c.levels) for c in categories]),
        "levels": _joined([c.levels for c in categories]), "frequency": _joined([c.frequency for c in categories]),
        "category_scale": np.array([c.scale for c in categories], dtype=np.float64),
    }


def _encoder_parts(encoder: Any, width: int) -> dict[str, Any] | None:
    """How cells (width,) become psi; what an encoder has no use for is empty."""
    real, whole = np.empty(0), np.empty(0, dtype=np.intp)
    parts: dict[str, Any] = {
        "encoder": COLUMNS, "n_latent": 0, "n_psi": width, "by_value": real, "by_presence": real, "base": real,
        "mixture_start": _starts([]), "loadings": real, "numbers": whole, "number_clip": NUMBER_CLIP,
        "product_category": whole,
    }
    if isinstance(encoder, Columns):
        return parts
    if isinstance(encoder, FactorScores):
        q = encoder.model.n_factors
        return parts | _factor_parts(encoder.model) | {"encoder": FACTORS, "n_psi": q}
    if isinstance(encoder, Responsibilities):
        scaled = np.concatenate([m.means / m.variance for m in encoder.models])
        means = np.concatenate([m.means for m in encoder.models])
        return parts | {
            "encoder": MIXTURES, "n_latent": len(means), "n_psi": len(means), "by_value": _flat(scaled.T),
            "by_presence": _flat(-0.5 * (means * scaled).T),
            "base": _joined([np.log(m.weights) for m in encoder.models]),
            "mixture_start": _starts([len(m.weights) for m in encoder.models]),
        }
    if isinstance(encoder, Products):
        filled = {} if encoder.model is None else _factor_parts(encoder.model)
        levels = sum(len(encoder.cells.categories[k].levels) for k in encoder.categories)
        return parts | filled | {
            "encoder": PRODUCTS, "n_psi": levels * (1 + len(encoder.numeric)),
            "numbers": encoder.numeric.astype(np.intp), "product_category": np.array(encoder.categories, dtype=np.intp),
        }
    return None


def _factor_parts(model: Any) -> dict[str, Any]:
    """Per cell: l / psi, the lower triangle of l l' / psi row by row, and l."""
    loadings = model.loadings
    weighted = loadings / model.noise[:, None]
    rows, columns = np.tril_indices(model.n_factors)
    return {
        "n_latent": model.n_factors, "by_value": _flat(weighted), "loadings": _flat(loadings),
        "by_presence": _flat(loadings[:, rows] * weighted[:, columns]),
    }


def _reads_tables(learner: Any) -> bool:
    return hasattr(learner, "map_pool")


def _flat(array: Float) -> Float:
    return np.ascontiguousarray(array, dtype=np.float64).ravel()


def _joined(arrays: list[Float]) -> Float:
    return np.concatenate([np.empty(0), *arrays]).astype(np.float64)


def _starts(lengths: list[int]) -> NDArray[np.intp]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)
