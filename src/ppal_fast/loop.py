"""PPAL: choose rows to label, ask, learn under a privacy budget. One readable method per step of a round.

    start -> [ask -> tell -> learn] x n_rounds -> finish

With a ledger every number that the model is made of leaves through the ledger's one door. How often it leaves is
decided before the first label is read: strategies that look at no model get one release at the end, the others one
after each round, so that the plan itself carries no private information.
"""

from __future__ import annotations

import inspect
import math
import secrets
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from . import _validate, learners, query
from ._labels import as_objects, initial_labels, known, owner_names
from .errors import InputError, InterruptedReleaseWarning, PPALError, PrivacyError, PublicAssumptionWarning
from .privacy import Ledger, accounting
from .table import Table

Rows = NDArray[np.intp]
Labels = Sequence[Any] | NDArray[Any]
Oracle = Callable[[Rows], Labels]

PLAN_MARGIN = 1 - 1e-6  # the ledger rounds charges up and its cap down: leave it that much room
HISTOGRAM_SHARE = 0.1  # of mu^2, where a strategy needs a released histogram of scores to place its threshold
NEVER = np.iinfo(np.int64).max  # the round in which a row was asked that was not asked yet


@dataclass(frozen=True)
class RoundRecord:
    """What one round asked and learned. Inside the trust boundary: under units record and owner the ids are private.

    round          0 for the initial labels, then 1, 2, ...
    asked          (m,) rows, in the order in which they were asked
    labels         (m,) their labels
    epsilon_spent  by the ledger when the round was closed; None without a ledger
    scores         (m,) entropy of the model in force about each row when it was asked; NaN before the first model
    seconds        from asking to learned, the expert's time left out
    """

    round: int
    asked: Rows
    labels: NDArray[Any]
    epsilon_spent: float | None
    scores: NDArray[np.float64]
    seconds: float


class PPAL(BaseEstimator):
    """Privacy-preserving active learning on a table with missing cells.

    Parameters
    ----------
    learner       "auto", "class-mean", "mixture", "random-trees", "logistic", or a classifier that accepts NaN
    strategy      "auto", a name of ``query.STRATEGIES``, or a callable from a ``query.Context`` to rows
    n_per_round   rows asked in a round (their expected number where selection is item-local)
    n_rounds      rounds of ``run``; with a ledger also the number that the budget is planned for
    ledger        the privacy ledger; its unit, relation and delta hold. None with epsilon: one in memory is made
    epsilon       total budget of this loop; None: all that the ledger has left, or no privacy without a ledger
    delta, unit   of the ledger made here; unit "label", "record" or "owner"
    classes       public list of the classes; without it the names met in the labels are taken as public
    random_state  seeds queries and learners, never privacy noise

    Attributes
    ----------
    learner_   the model learned last      history_   one RoundRecord a closed round
    classes_   classes of that model       privacy_   one sentence: what is promised, or "not private"

    Under unit "record" or "owner" only item-local strategies are allowed (PRIVACY contract 6): each row flips its own
    coin, so the number of rows asked varies from round to round.

    Examples
    --------
    >>> from ppal_fast import PPAL, simulate
    >>> table = simulate.drives(n_rows=2000, random_state=0)
    >>> loop = PPAL(n_per_round=20, n_rounds=3, random_state=0)
    >>> loop = loop.run(table.X, oracle=lambda rows: table.y[rows])
    >>> loop.predict(table.X[:3]).shape
    (3,)
    """

    def __init__(
        self,
        learner: Any = "auto",
        strategy: Any = "auto",
        *,
        n_per_round: int = 20,
        n_rounds: int = 9,
        ledger: Ledger | None = None,
        epsilon: float | None = None,
        delta: float = 1e-5,
        unit: str = "record",
        classes: Sequence[Any] | None = None,
        random_state: Any = None,
    ) -> None:
        self.learner = learner
        self.strategy = strategy
        self.n_per_round = n_per_round
        self.n_rounds = n_rounds
        self.ledger = ledger
        self.epsilon = epsilon
        self.delta = delta
        self.unit = unit
        self.classes = classes
        self.random_state = random_state

    # ------------------------------------------------------------------ one step at a time

    def start(self, X: Any, y: Any = None, *, owners: ArrayLike | None = None) -> PPAL:
        """Take the pool X (n, d) and the initial labels y (n,), None / NaN / -1 where unknown. Returns self.

        owners (n,) names the owner of each row: needed under unit "owner", not looked at otherwise. Raises
        PrivacyError where the strategy is not allowed under the ledger's unit.
        """
        self._begin(X, y, owners)
        self._name = f"loop-{secrets.token_hex(4)}"  # a ledger may serve many loops: each asks under names of its own
        if len(self._batch):
            self._close_round()
        return self

    def ask(self, n: int | None = None) -> Rows:
        """Rows to label next; while a round is open, its rows that are still without an answer.

        Empty when no row is left. Raises InputError when n rows are asked for and fewer are left.
        """
        self._check_started()
        if self._open:
            return np.array(self._open, dtype=np.intp)
        candidates = np.flatnonzero(self._asked_in == NEVER)
        n = self._batch_size(n, len(self.table_) if self._item_local else len(candidates))
        if self._ledger is not None and self._round >= self.n_rounds:
            raise PrivacyError(f"the budget was planned for n_rounds={self.n_rounds} rounds, all of which are closed")
        started = time.perf_counter()
        rows = self._choose(candidates, n) if n else candidates
        if len(rows) or self._item_local:
            self._scores = self._entropy_of(rows)
            self._seconds = time.perf_counter() - started
            self._accept(rows)
        return rows

    def tell(self, indices: ArrayLike, labels: Labels) -> PPAL:
        """Answers for rows that were asked: all of them or a part; None leaves a row open. Returns self.

        Raises InputError, and takes nothing, when a row was not asked, is answered already or appears twice, or when a
        label is not among ``classes``. The round is closed, and the model learned, with its last answer.
        """
        rows, answers = self.check_answers(indices, labels)
        self._labels[rows] = answers
        answered = set(rows.tolist())
        self._open[:] = [row for row in self._open if row not in answered]
        if not self._open and len(rows):
            self._close_round()
        return self

    def check_answers(self, indices: ArrayLike, labels: Labels) -> tuple[Rows, NDArray[Any]]:
        """What ``tell`` would take, without taking it: rows and labels, the unanswered ones left out."""
        self._check_started()
        rows = np.asarray(indices)
        if rows.size and (rows.ndim != 1 or rows.dtype.kind not in "iu"):
            raise InputError("indices must be a sequence of row numbers")
        rows = rows.astype(np.intp)
        answers = as_objects(labels)
        if len(answers) != len(rows):
            raise InputError(f"labels has {len(answers)} answers for {len(rows)} rows; one answer a row is expected")
        values, counts = np.unique(rows, return_counts=True)
        if (counts > 1).any():
            raise InputError(f"row {values[counts > 1][0]} is answered twice; one answer a row is expected")
        open_rows = set(self._open)
        for row in rows.tolist():
            if row not in open_rows:
                asked = 0 <= row < len(self._labels) and self._asked_in[row] != NEVER
                why = "has its answer already" if asked else "was not asked"
                raise InputError(f"row {row} {why}; ask() lists the rows that wait for an answer")
        keep = known(answers)
        self._check_classes(answers[keep])
        return rows[keep], answers[keep]

    def finish(self) -> PPAL:
        """Learn from what was told, releasing now what the plan kept for the end. Returns self."""
        self._check_started()
        if not (self._item_local or known(self._labels).any()):
            raise PPALError("no row has a label yet; ask() and tell() before finish()")
        if not hasattr(self, "learner_") or (self._open and self._ledger is None):
            self._learn(self._round)
        return self

    # ------------------------------------------------------------------ all rounds at once

    def run(
        self,
        X: Any,
        oracle: Oracle,
        y: Any = None,
        *,
        owners: ArrayLike | None = None,
        callback: Callable[[PPAL], None] | None = None,
    ) -> PPAL:
        """start, n_rounds of ask and tell with ``oracle(rows) -> labels``, finish. ``callback(self)`` after each round.

        When the oracle fails or leaves rows open, the error passes through with everything told so far kept:
        go on with ask() and tell().
        """
        self.start(X, y, owners=owners)
        while self._round < self.n_rounds:
            rows = self.ask()
            if len(rows):
                self.tell(rows, oracle(rows))
            if self._open:
                raise PPALError(f"the oracle left {len(self._open)} of {len(rows)} rows open; ask() and tell() go on")
            if callback is not None:
                callback(self)
            if not (self._item_local or (self._asked_in == NEVER).any()):
                break
        return self.finish()

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) most probable class of each row."""
        return self._fitted().predict(self._readable(Table.of(X, schema=self.table_.schema)))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, K) probabilities in the order of ``classes_``."""
        return self._fitted().predict_proba(self._readable(Table.of(X, schema=self.table_.schema)))

    @property
    def classes_(self) -> NDArray[Any]:
        return self._fitted().classes_

    @property
    def labels_(self) -> NDArray[Any]:
        """(n,) what is known of each row: its label, or None."""
        self._check_started()
        return self._labels.copy()

    @property
    def ledger_(self) -> Ledger | None:
        """The ledger in force, given or made here."""
        self._check_started()
        return self._ledger

    @property
    def round_(self) -> int:
        """The round asked last; 0 before the first."""
        self._check_started()
        return self._round

    @property
    def privacy_(self) -> str:
        """One sentence that says what is promised about this loop."""
        self._check_started()
        if self._ledger is None:
            return "not private: learned without a ledger"
        return self._ledger.report()

    # ------------------------------------------------------------------ the steps of a round

    def _begin(self, X: Any, y: Any, owners: ArrayLike | None) -> None:
        """Check everything, then take the pool, the labels, the strategy and the plan of releases."""
        _validate.integer(1, n_per_round=self.n_per_round, n_rounds=self.n_rounds)
        table = Table.of(X)
        if len(table) == 0:
            raise InputError("X has 0 rows; a pool of at least one row is expected")
        labels = initial_labels(y, len(table), self.classes)
        self._check_classes(labels[known(labels)])
        ledger = self._open_ledger()
        strategy = query.resolve(self._strategy_name(ledger))
        learners.resolve(self.learner)
        if ledger is not None:
            query.require_sound(strategy, ledger.unit)
            if ledger.unit != "label" and len(table.schema.categorical) and not isinstance(X, Table):
                warnings.warn(
                    "the categories of X were read from its rows and are taken as public; give a Table with a schema",
                    PublicAssumptionWarning, stacklevel=4,
                )
        by_owner = ledger is not None and ledger.unit == "owner"
        owners_ = owner_names(owners, len(table)) if by_owner else None
        self.table_ = table
        self.owners_ = owners_
        self.history_: list[RoundRecord] = []
        self.__dict__.pop("learner_", None)
        self._entropy = _validate.random_generator(self.random_state).integers(0, 2**63, size=2).tolist()
        self._labels = labels
        self._asked_in = np.where(known(labels), 0, NEVER)
        self._strategy, self._ledger = strategy, ledger
        self._name = "loop"  # of its releases; a stored loop keeps this one, so that they are found again
        self._mu_planned = None if ledger is None else self._plan_mu(ledger)
        self._n_releases = self.n_rounds + int((self._asked_in == 0).any()) if strategy.needs_model else 1
        self._map: Any = None
        self._round = 0
        self._open: list[int] = []  # rows of the round that wait for an answer
        self._batch = np.flatnonzero(self._asked_in == 0)  # rows of the round, in the order in which they were asked
        self._scores = np.full(len(self._batch), np.nan)
        self._seconds = 0.0

    def _choose(self, candidates: Rows, n: int) -> Rows:
        learner = getattr(self, "learner_", None) or self._label_free_map()
        context = query.Context(
            X=self.table_.values,
            observed=self.table_.observed,
            schema=self.table_.schema,
            candidates=candidates,
            labelled=np.flatnonzero(known(self._labels)),
            y=self._codes() if self._ledger is None else np.empty(0, dtype=np.intp),  # unreleased labels steer nothing
            learner=learner,
            representation=self._represented(),
            n=n,
            rng=self._generator(self._round + 1),
            released=self._public_numbers(),
        )
        if self._item_local:
            if self._strategy.needs_model and context.learner is not None:
                context = replace(context, released=self._release_histogram(context))
            assert self._strategy.select_item_local is not None
            return self._strategy.select_item_local(context, self._asking_rate(n))
        if self._strategy.needs_model and context.learner is None:
            return query.cold_start(context)
        return self._strategy.select(context)

    def _release_histogram(self, context: query.Context) -> dict[str, Any]:
        """How many rows have which score: one private sum, from which the strategy places its threshold."""
        assert self._ledger is not None and self._mu_planned is not None
        name = f"{self._name}/scores-{self._round + 1}"
        if self._is_burned(name):
            return {}
        mu = self._mu_planned * math.sqrt(HISTOGRAM_SHARE / self.n_rounds)
        rows = query.histogram_rows(context)
        total = self._ledger.release_sum(rows, clip=1.0, sigma=1 / mu, owners=self.owners_, name=name)
        return {"score_histogram": total}

    def _is_burned(self, name: str) -> bool:
        """Paid for, but its process died before the value was written: it never left, and never will."""
        assert self._ledger is not None
        return any(r.state == "reserved" and f"{r.name}/".startswith(f"{name}/") for r in self._ledger.history())

    def _accept(self, rows: Rows) -> None:
        """Open the next round with these rows."""
        self._round += 1
        self._asked_in[rows] = self._round
        self._batch = rows
        self._open = rows.tolist()
        if not self._open:  # no coin fell on any row: the round is over, which only item-local rules can do
            self._close_round()

    def _close_round(self) -> None:
        started = time.perf_counter()
        if self._is_due(self._round):
            self._learn(self._round)
        rows = self._batch
        labels = np.array(self._labels[rows].tolist())
        spent = None if self._ledger is None else self._ledger.spent()[0]
        seconds = self._seconds + time.perf_counter() - started
        self.history_.append(RoundRecord(self._round, rows, labels, spent, self._scores, seconds))

    def _is_due(self, round_: int) -> bool:
        """Whether the plan has a model at the end of this round. Where the number of labels is private, the plan holds
        without any: that no row was asked must not show."""
        if not (self._asked_in <= round_).any() and not (self._item_local and round_):
            return False
        return self._ledger is None or self._strategy.needs_model or round_ >= self.n_rounds

    def _replay(self, rounds: Sequence[Rows], answers: dict[int, Any], records: Sequence[RoundRecord]) -> None:
        """Take over stored rounds, from ``_begin``: the state of having lived through them, only the model in force
        learned again. The last round may be open, or answered but without its record."""
        for row, label in answers.items():
            self._labels[row] = label
        for rows in rounds:
            self._round += 1
            self._asked_in[rows] = self._round
            self._batch = rows
        self._open = [row for row in self._batch.tolist() if row not in answers] if rounds else []
        self.history_ = list(records)
        recorded = bool(records) and records[-1].round == self._round
        in_force = self._round if recorded else self._round - 1
        if self._is_due(in_force):
            self._learn(in_force)
        if not recorded:
            self._scores = self._entropy_of(self._batch)
            if not self._open and (rounds or len(self._batch)):
                self._close_round()

    def _learn(self, round_: int) -> None:
        """Fit the learner on the labels of the rounds up to this one; with a ledger, one planned release."""
        release_name = f"{self._name}/round-{round_}"
        rows = np.flatnonzero(known(self._labels) & (self._asked_in <= round_))
        y = np.array(self._labels[rows].tolist())
        learner = self._new_learner()
        if not _is_own(learner):
            if self._ledger is not None:
                name = type(learner).__name__
                raise PrivacyError(f"learner {name} has no private form; use one of ppal_fast.learners")
            self.learner_ = learner.fit(self.table_.values[rows], y)
            return
        if self._ledger is not None and self._is_burned(release_name):
            warnings.warn(
                f"release {release_name!r} was interrupted; its budget is spent and there is no model of that round",
                InterruptedReleaseWarning, stacklevel=3,
            )
            return
        options: dict[str, Any] = {"X_pool": self._pool(learner)}
        if self._ledger is not None:
            epsilon = accounting.epsilon_of_mu(self._mu_of_model(), self._ledger.delta)
            options |= {"ledger": self._ledger, "epsilon": epsilon, "release_name": release_name}
            if self.owners_ is not None:
                options["owners"] = (self.owners_[rows], self.owners_)
        self.learner_ = learner.fit(self.table_.take(rows), y, **options)

    # ------------------------------------------------------------------ what the steps need

    def _new_learner(self) -> Any:
        """An unfitted learner with the public classes and a seed, where it has use for them."""
        learner = learners.resolve(self.learner)
        settings = learner.get_params()
        if self.classes is not None and "classes" in settings:
            learner.set_params(classes=self.classes)
        if "random_state" in settings and settings["random_state"] is None:
            learner.set_params(random_state=int(self._generator(0).integers(2**31)))
        return learner

    @property
    def _item_local(self) -> bool:
        return self._ledger is not None and self._ledger.unit != "label"

    def _asking_rate(self, n: int) -> float:
        """Public probability that a row not yet asked is asked in the coming round: n of the whole roster a round."""
        share = n / len(self.table_)
        return min(1.0, share / max(share, 1 - self._round * share))

    def _plan_mu(self, ledger: Ledger) -> float:
        epsilon = ledger.remaining() if self.epsilon is None else self.epsilon
        _validate.positive(epsilon=epsilon)
        return accounting.mu_of_epsilon(epsilon, ledger.delta) * PLAN_MARGIN

    def _label_free_map(self) -> Any:
        """What a strategy that needs no model may look through: the map learned from public features."""
        if self._strategy.needs_model or self._item_local:
            return None
        learner = self._new_learner()
        return self._pool(learner) if _is_own(learner) else None

    def _represented(self) -> NDArray[np.float64] | None:
        """The pool in the label-free map, where there is one and it was learned from every row."""
        learned = getattr(self._map, "representation_", None)
        return learned.reference if learned is not None and len(learned.reference) == len(self.table_) else None

    def _public_numbers(self) -> dict[str, Any]:
        """What ``design`` reads: how noisy the coming release will be, and the number of classes where it is public."""
        numbers: dict[str, Any] = {} if self.classes is None else {"n_classes": len(set(self.classes))}
        if self._ledger is not None:
            factor = 2.0 if self._ledger.relation == "replace-one" else 1.0
            if factor == 2.0 and self._ledger.unit == "label":  # labels are sqrt 2 apart; a clip is sqrt(1 - 1/K)
                factor = math.sqrt(2 / (1 - 1 / max(numbers.get("n_classes", 2), 2)))
            numbers["noise"] = factor / self._mu_of_model()
        return numbers

    def _mu_of_model(self) -> float:
        """The share of the planned mu that one release of the model may spend."""
        assert self._mu_planned is not None
        share = 1 - HISTOGRAM_SHARE if self._item_local and self._strategy.needs_model else 1.0
        return self._mu_planned * math.sqrt(share / self._n_releases)

    def _open_ledger(self) -> Ledger | None:
        if self.ledger is not None or self.epsilon is None:
            return self.ledger
        return Ledger(":memory:", epsilon=self.epsilon, delta=self.delta, unit=self.unit)

    def _strategy_name(self, ledger: Ledger | None) -> Any:
        if self.strategy != "auto" or ledger is None:
            return self.strategy
        return "design" if ledger.unit == "label" else "random"

    def _generator(self, round_: int) -> np.random.Generator:
        """A stream of its own for each round (0: the learners): a reopened loop draws what it drew before."""
        return np.random.default_rng([*self._entropy, round_])

    def _batch_size(self, n: int | None, n_left: int) -> int:
        if n is None:
            return min(self.n_per_round, n_left)
        _validate.integer(1, n=n)
        if n > n_left:
            raise InputError(f"n was {n}; only {n_left} rows are left to ask")
        return n

    def _codes(self) -> NDArray[np.intp]:
        y = self._labels[known(self._labels)].tolist()
        return np.unique(np.array(y), return_inverse=True)[1].astype(np.intp) if y else np.empty(0, dtype=np.intp)

    def _entropy_of(self, rows: Rows) -> NDArray[np.float64]:
        if not hasattr(self, "learner_") or not len(rows):
            return np.full(len(rows), np.nan)
        p = self.learner_.predict_proba(self._readable(self.table_.take(rows)))
        return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1)

    def _check_classes(self, labels: NDArray[Any]) -> None:
        if self.classes is None:
            return
        declared = list(self.classes)
        for label in labels.tolist():
            if label not in declared:
                near = _validate.nearest(label, [str(c) for c in declared])
                raise InputError(f"label {label!r} is not among the classes {declared}{near}")

    def _check_started(self) -> None:
        if not hasattr(self, "table_"):
            raise NotFittedError("this PPAL has no pool yet; call start(X) or run(X, oracle) first")

    def _fitted(self) -> Any:
        self._check_started()
        if not hasattr(self, "learner_"):
            private = "the private model leaves after the last round, if that release was not interrupted"
            reason = "no label was told yet" if self._ledger is None else private
            raise NotFittedError(f"there is no model yet: {reason}; finish() learns from what was told")
        return self.learner_

    def _readable(self, table: Table) -> Any:
        """The table as the learner takes it: other people's classifiers know arrays alone."""
        return table if _is_own(self.learner_) else table.values

    def _pool(self, learner: learners.Learner) -> Any:
        """The pool as the learner takes it: where features are public, the map learned from it once."""
        if self._item_local:
            return self.table_
        if self._map is None:
            self._map = learner.map_pool(self.table_)
        return self._map


def _is_own(learner: Any) -> bool:
    """Takes tables, a pool and a ledger: ours, or written like ours."""
    return {"X_pool", "ledger", "epsilon"} <= set(inspect.signature(learner.fit).parameters)
