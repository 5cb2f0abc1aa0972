"""Building a model file: compile the learner, look at what may be looked at, state what was released."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _validate
from .._labels import known
from ..errors import InputError, PrivacyError
from ..kernels._line import Scorer
from ..table import Schema, Table
from . import image as images
from .compiled import cells_of, parts_of
from .reference import drift_bins, labelled_density, rate_steps, synthetic_items
from .released import statement

TOP_SHARE = 0.1  # of the pool, asked on a line like the pool where its scores are public
UNRELEASED_THRESHOLD = 0.1  # where they are not: half of the most for an item of which a fifth is observed

RATIO = "log density of an item's cells under the model less that among the {} labelled rows, whose features are public"
NOT_ASKED = "no density ratio: density=False"
NO_ROWS = "no density ratio: no labelled rows were given"
NOT_PUBLIC = "no density ratio: unit {!r} protects the labelled rows, and none of them may be in the file"


def image_of_ppal(
    ppal: Any, *, queries_per_hour: float | None, density: bool, threshold: float | None
) -> bytes:
    """The model in force of a PPAL. Under unit record and owner the file holds released numbers alone."""
    learner, table, ledger = ppal._fitted(), ppal.table_, ppal.ledger_
    public = ledger is None or ledger.unit == "label"
    rows = np.flatnonzero(known(ppal.labels_))
    sentence = NOT_PUBLIC.format(ledger.unit) if ledger is not None and not public else NOT_ASKED
    return _image(
        learner, table.schema, threshold=threshold, queries_per_hour=queries_per_hour, pool=table if public else None,
        labelled=table.take(rows) if public and density else None, no_density=sentence,
        privacy=statement(getattr(learner, "privacy_", ppal.privacy_), ledger, f"{ppal._name}/"), public=public,
    )


def image_of(
    learner: Any, schema: Schema, *, threshold: float, queries_per_hour: float | None, pool: Table | None,
    labelled: Table | None,
) -> bytes:
    sentence = getattr(learner, "privacy_", "")
    if not sentence.startswith("not private"):
        raise PrivacyError(
            f"the learner is {sentence or 'of unknown origin'}; a private model's file names its ledger's releases: "
            "use LineScorer.from_ppal"
        )
    return _image(
        learner, schema, threshold=threshold, queries_per_hour=queries_per_hour, pool=pool, labelled=labelled,
        no_density=NO_ROWS, privacy=statement(sentence, None, ""), public=True,
    )


def _image(
    learner: Any, schema: Schema, *, threshold: float | None, queries_per_hour: float | None, pool: Table | None,
    labelled: Table | None, no_density: str, privacy: dict[str, Any], public: bool,
) -> bytes:
    if threshold is not None:
        _validate.non_negative(threshold=threshold)
    if queries_per_hour is not None:
        _validate.positive(queries_per_hour=queries_per_hour)
    d = len(schema.names)
    parts = {"n_columns": d, "cell_of": np.full(d, -1)} | parts_of(learner)
    cells = cells_of(learner)
    text = {
        "classes": [_plain(c) for c in learner.classes_.tolist()], "class_type": learner.classes_.dtype.str,
        "names": list(schema.names),
        "levels": [None if known is None else [_plain(level) for level in known] for known in schema.levels],
        "privacy": privacy, "density": no_density, "queries_per_hour": queries_per_hour,
    }
    if cells is not None and labelled is not None and len(labelled) and cells.width:
        parts |= labelled_density(cells, labelled.values)
        text["density"] = RATIO.format(len(labelled))
    scores, reference = np.empty(0), None if public else synthetic_items(learner, schema)
    if pool is not None:
        reference = pool.values
    if reference is not None and len(reference):
        found = _scored(images.packed(parts, text), reference)
        scores = found["uncertainty"]
        if not np.isnan(found["unusual"]).all():
            parts |= drift_bins(found["unusual"], counted=pool is not None)
    if threshold is None:
        threshold = float(np.quantile(scores, 1 - TOP_SHARE)) if public and len(scores) else UNRELEASED_THRESHOLD
    parts |= {"threshold": threshold, **rate_steps(scores)}
    parts |= {"queries_per_hour": queries_per_hour or 0.0, "feedback": int(public)}
    return images.packed(parts, text)


def _scored(image: bytes, values: Any) -> Any:
    from .scorer import VERDICT

    found = np.empty(len(values), VERDICT)
    Scorer(image, (), tuple, None, 0).decide_many(values, found, None, False)
    return found


def _plain(value: Any) -> Any:
    """A class or level as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is not None and not isinstance(value, str | bool | int | float):
        raise InputError(f"the class or level {value!r} cannot be written to a file; text or a number is expected")
    return value
