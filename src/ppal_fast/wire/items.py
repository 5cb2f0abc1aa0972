"""Messages of the wire: an item as JSON becomes cells of the model; a decision becomes JSON.

    item      {"item": "s1", "cells": {"maker": "WDC", "size": 3.5}}, or "cells": ["WDC", 3.5, null] in the model's
              order; "again": true asks for the decision that was made before, where it did not arrive
    decision  {"item": "s1", "label": "high", "probability": 0.93, "uncertainty": 0.2, "query": false, "model": "5c1f"}
    error     {"item": "s1", "error": "one sentence"}; the item is null where none could be read
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError
from ..line import LineScorer

Item = str | int
LONGEST_ID = 200
MOST_BYTES = 1 << 18  # of one message: 50 columns take 2 kB


def read_item(message: bytes) -> tuple[Item, Any, bool]:
    """The id, the cells as they were told, and whether the item asks again."""
    if len(message) > MOST_BYTES:
        raise InputError(f"the message has {len(message):,} bytes; at most {MOST_BYTES:,} are expected")
    try:
        told = json.loads(message)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise InputError(f"the message is not JSON ({error}): {_shown(message)}") from None
    if not isinstance(told, dict) or "item" not in told:
        raise InputError(f'the message was {_shown(told)}; an object with "item" and "cells" is expected')
    item = told["item"]
    if not _is_id(item):
        raise InputError(f"item was {_shown(item)}; 1 to {LONGEST_ID} characters or a whole number are expected")
    return item, told.get("cells"), told.get("again") is True


class CellReader:
    """Reads the cells of one model's items: names to positions, categories to codes."""

    def __init__(self, scorer: LineScorer) -> None:
        schema = scorer.schema
        self.names = schema.names
        self._columns = {
            name: (j, None if levels is None else {level: float(code) for code, level in enumerate(levels)})
            for j, (name, levels) in enumerate(zip(schema.names, schema.levels, strict=True))
        }

    def read(self, told: Any) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """The item (d,), NaN where missing, and the observed ones by column as they were told."""
        if isinstance(told, list) and len(told) == len(self.names):
            told = dict(zip(self.names, told, strict=True))
        elif not isinstance(told, dict):
            raise InputError(
                f"cells was {_shown(told)}; an object of column and value, or an array of {len(self.names)} values "
                "with null for a missing one, is expected"
            )
        x = [math.nan] * len(self.names)
        observed = {}
        for name, value in told.items():
            if name not in self._columns:
                near = _validate.nearest(name, self.names)
                raise InputError(f"cells has column {_shown(name)}, which the model does not have{near}")
            if value is None or value != value:
                continue
            position, codes = self._columns[name]
            x[position] = _number(name, value) if codes is None else _code(name, value, codes)
            observed[name] = value
        return np.array(x), observed


def _number(name: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise InputError(f"column {name!r} was {_shown(value)}; a finite number, or null where it is missing, is expected")


def _code(name: str, value: Any, codes: dict[Any, float]) -> float:
    """The category's code; one that the model has not met is a missing cell, as it is in a table."""
    if isinstance(value, list | dict):
        raise InputError(f"column {name!r} was {_shown(value)}; a category, or null where it is missing, is expected")
    return codes.get(value, math.nan)


def packed(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def _is_id(item: Any) -> bool:
    if isinstance(item, str):
        return 0 < len(item) <= LONGEST_ID
    return isinstance(item, int) and not isinstance(item, bool) and abs(item) < 1 << 63


def _shown(value: Any) -> str:
    """The value as it came, short enough for a sentence."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
