"""What a query strategy sees, what it promises, and the two ways of turning scores into rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels.selection import top_rows
from ..table import Schema, Table

Float = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Context:
    """What a strategy may look at.

    X (n, d)        float64, NaN for a missing cell;  observed (n, d)
    candidates      numbers of the rows that may be asked;  labelled: those that were, with class codes y
    learner         fitted, or before the first fit None or a learner's label-free map (its ``representation_``)
    n, rng          how many rows to ask; coins, never privacy noise
    schema          public facts of the columns
    representation  (n, D) rows in the learner's label-free map, where features are public and there is one
    released        released or public numbers by name: "noise" (of the coming release: deviation over clip norm; for
                    design), "n_classes" (for design), "score_histogram" (counts on SCORE_EDGES; for threshold)
    """

    X: Float
    observed: NDArray[np.bool_]
    candidates: Indices
    labelled: Indices
    y: NDArray[np.intp]
    learner: Any
    n: int
    rng: np.random.Generator
    schema: Schema | None = None
    representation: Float | None = None
    released: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> Table | Float:
        """X as learners read it: with its schema, so that codes stay the categories that they stand for."""
        return self.X if self.schema is None else Table(self.X, self.schema)

    @property
    def has_model(self) -> bool:
        return hasattr(self.learner, "predict_proba")

    @property
    def batch(self) -> int:
        """Rows to ask, where fewer candidates are left all of them."""
        return min(self.n, len(self.candidates))


@dataclass(frozen=True)
class Strategy:
    """A query rule and what it costs in privacy.

    select       context -> distinct candidates, at most context.n
    stability    what the removal of one record does to the choice of the OTHERS:
                 "top-k"       at most one other changes, the learner being released
                 "joint"       no claim
                 "item-local"  none changes, in the form ``select_item_local(context, rate)``: each record by its own
                               coin, a share ``rate`` of the candidates on average. It is the only form allowed under
                               unit record and owner; the rule's ``select`` fills a batch of n and carries no claim.
    needs_model  cannot choose before the first fit
    uses_labels  reads y or X's labelled rows through a refit, not only the released learner
    summary      one sentence: what is asked, and what that costs under units label, record and owner
    """

    name: str
    select: Callable[[Context], Indices]
    stability: Literal["item-local", "top-k", "joint"]
    needs_model: bool
    uses_labels: bool
    summary: str
    select_item_local: Callable[[Context, float], Indices] | None = None

    def __post_init__(self) -> None:
        if (self.stability == "item-local") != (self.select_item_local is not None):
            raise InputError(
                f"strategy {self.name!r} was declared {self.stability}; item-local is expected exactly where "
                "select_item_local is given"
            )


def item_local(uniforms: Float, probability: Float) -> Indices:
    """Records whose own coin u_i (n,) falls below their probability q_i (n,): the only rule with stability 1."""
    return np.flatnonzero(uniforms < probability)


def ask_by_coin(context: Context, probability: Float) -> Indices:
    """Each candidate with its probability (n,), by a coin that every record of the public roster has, asked or not."""
    eligible = np.zeros(len(context.X), dtype=bool)
    eligible[context.candidates] = True
    return item_local(context.rng.random(len(context.X)), np.where(eligible, probability, 0.0))


def ask_top(context: Context, score: Float, n: int | None = None) -> Indices:
    """The n candidates of highest score (n,), equals in the order of coins that belong to the records."""
    coins = context.rng.random(len(score))
    return top_rows(score, coins, context.candidates, context.n if n is None else n)


def fill_batch(context: Context, rows: Indices) -> Indices:
    """The first n of the rows, and random candidates where they are fewer."""
    missing = context.batch - len(rows)
    if missing <= 0:
        return rows[: context.n]
    rest = np.setdiff1d(context.candidates, rows)
    return np.concatenate([rows, context.rng.choice(rest, missing, replace=False)])
