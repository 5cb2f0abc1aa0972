"""Which rows to ask next: query strategies, each with what one record can do to the choice of the others.

A strategy is a function from a ``Context`` to row numbers. Its stability decides where it may be used under privacy
(``require_sound``): with unit label any rule is free that reads features and released state alone; with unit record or
owner only an item-local rule, in which each record is asked or not by its own coin, leaves every sum's sensitivity at
one record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _validate
from ..errors import InputError, PrivacyError
from . import scored, unlabelled
from .context import Context, Indices, Strategy, item_local
from .scored import SCORE_EDGES, histogram_rows
from .unlabelled import cold_start

__all__ = [
    "SCORE_EDGES", "STRATEGIES", "Context", "Strategy", "cold_start", "histogram_rows", "item_local", "require_sound",
    "resolve",
]

_FREE = "free under unit label, refused under record and owner"
STRATEGIES: dict[str, Strategy] = {
    s.name: s
    for s in (
        Strategy(
            "auto", scored.auto, "joint", False, False,
            f"Typical points until two classes are known, then diverse rows of small margin; {_FREE}.",
        ),
        Strategy(
            "random", scored.random, "item-local", False, False,
            "Every row alike; free under unit label, and under record and owner each record by its own coin.",
            scored.random_item_local,
        ),
        Strategy(
            "entropy", scored.entropy, "top-k", True, False,
            f"Most uncertain rows, weighted by the share of observed cells; {_FREE}.",
        ),
        Strategy(
            "margin", scored.margin, "top-k", True, False,
            f"Smallest gap between the two likeliest classes, weighted by the share of observed cells; {_FREE}.",
        ),
        Strategy(
            "committee", scored.committee, "joint", True, True,
            "Rows on which five refits on bootstraps disagree; reads unreleased labels: refused under every unit.",
        ),
        Strategy(
            "density", scored.density, "joint", True, False,
            f"Uncertain rows where the pool is dense and labels are scarce; {_FREE}.",
        ),
        Strategy(
            "badge", scored.badge, "joint", True, False,
            f"Diverse rows of large gradient; {_FREE}.",
        ),
        Strategy(
            "qubo", scored.qubo, "joint", True, False,
            f"The batch of smallest margins and least pairwise similarity, by QUBO; {_FREE}.",
        ),
        Strategy(
            "threshold", scored.threshold, "item-local", True, False,
            "Rows above a cut-off of uncertainty; free under unit label; under record and owner each record by its own "
            "coin, and the histogram that places the cut-off is charged each round.",
            scored.threshold_item_local,
        ),
        Strategy(
            "design", unlabelled.design, "joint", False, False,
            f"The rows that a linear decoder learns most from, chosen without labels; {_FREE}.",
        ),
        Strategy(
            "typical", cold_start, "joint", False, False,
            f"The middle rows of clusters of the well-observed rows; {_FREE}.",
        ),
    )
}


def resolve(strategy: str | Strategy | Callable[[Context], Any]) -> Strategy:
    """The named strategy, the given one, or one around a callable, whose answers are checked and nothing is assumed."""
    if isinstance(strategy, Strategy):
        return strategy
    if isinstance(strategy, str):
        _validate.one_of(STRATEGIES, strategy=strategy)
        return STRATEGIES[strategy]
    if not callable(strategy):
        raise InputError(f"strategy was {strategy!r}; one of {', '.join(STRATEGIES)} or a callable is expected")
    name = getattr(strategy, "__name__", type(strategy).__name__)
    return Strategy(
        name, _Checked(strategy, name), "joint", needs_model=False, uses_labels=True,
        summary="A rule of your own; nothing is known of it, so it is refused under every privacy unit.",
    )


def require_sound(strategy: Strategy, unit: str) -> None:
    """Raise PrivacyError where the rule would break a contract under this privacy unit; nothing is computed."""
    _validate.one_of(("label", "record", "owner"), unit=unit)
    if unit == "label" and strategy.uses_labels:
        sound = ", ".join(s.name for s in STRATEGIES.values() if not s.uses_labels)
        raise PrivacyError(
            f"strategy {strategy.name!r} may read labels that were not released; under unit label choose one of {sound}"
        )
    if unit != "label" and strategy.select_item_local is None:
        sound = " or ".join(s.name for s in STRATEGIES.values() if s.select_item_local)
        raise PrivacyError(
            f"strategy {strategy.name!r} is {strategy.stability}: one {unit} would steer the choice of others; under "
            f"unit {unit} choose {sound}"
        )


class _Checked:
    """A user's rule, its answer checked."""

    def __init__(self, rule: Callable[[Context], Any], name: str) -> None:
        self.rule, self.name = rule, name

    def __call__(self, context: Context) -> Indices:
        answer = np.asarray(self.rule(context))
        if answer.ndim != 1 or (len(answer) and answer.dtype.kind not in "iu"):
            raise InputError(
                f"strategy {self.name!r} returned shape {answer.shape} of type {answer.dtype}; a sequence of row "
                "numbers is expected"
            )
        rows = answer.astype(np.intp)
        odd = np.setdiff1d(rows, context.candidates)
        if len(odd):
            raise InputError(f"strategy {self.name!r} returned row {odd[0]}, which is not among the candidates")
        if len(np.unique(rows)) < len(rows) or len(rows) > context.n:
            raise InputError(
                f"strategy {self.name!r} returned {len(rows)} rows; at most {context.n} distinct rows are expected"
            )
        return rows
