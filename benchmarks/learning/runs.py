"""One run: a method buys labels on one draw of one table and is judged after every round; results are kept by seed."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import ppal_fast
from ppal_fast import PPAL, Ledger
from ppal_fast.learners import AutoClassifier
from ppal_fast.learners.auto import FilledPool

from . import tables
from .peers import PEERS

DELTA = 1e-5
CACHE = Path.home() / ".cache" / "ppal_fast" / "learning"  # results, by code version; never in the repository
SOURCES = (  # results depend on them
    "learners", "query", "acquisition.py", "kernels/posterior.py", "kernels/trees.py", "kernels/selection.py",
)


@dataclass(frozen=True)
class Method:
    """A learner and a rule; with epsilon one private model, judged at the end alone.

    labels   of the private loop in all, or None: as the table says
    """

    learner: str = "auto"
    rule: str = "auto"
    epsilon: float | None = None
    unit: str = "label"
    relation: str = "zero-out"
    labels: int | None = None

    @property
    def name(self) -> str:
        private = "" if self.epsilon is None else f", {self.unit} {self.relation} eps {self.epsilon:g}"
        return f"{self.learner}, {self.rule}{private}{'' if self.labels is None else f', {self.labels} labels'}"


@dataclass(frozen=True)
class Outcome:
    """After each round: labels bought, accuracy and balanced accuracy on other rows, classes met; and all classes."""

    labels: tuple[int, ...]
    accuracy: tuple[float, ...]
    balanced: tuple[float, ...]
    classes_met: tuple[int, ...]
    classes: int

    @property
    def area(self) -> float:
        """Mean accuracy over the rounds: they are evenly spaced after the first."""
        return float(np.mean(self.accuracy))


class OneMap(AutoClassifier):
    """Maps a pool once for all methods of a draw: the map sees no label, and its seed is the draw's."""

    mapped: ClassVar[tuple[Any, FilledPool] | None] = None

    def map_pool(self, X_pool: Any) -> FilledPool:
        if OneMap.mapped is None or OneMap.mapped[0] is not X_pool.values:
            OneMap.mapped = X_pool.values, super().map_pool(X_pool)
        return OneMap.mapped[1]


@lru_cache(maxsize=1)
def _drawn(table: str, seed: int) -> tables.Task:
    return tables.draw(table, seed)


def run(table: str, method: Method, seed: int) -> Outcome:
    if table.startswith("conformance/"):
        from . import conformance

        return conformance.run(table, method, seed)
    if table == "drift":
        from . import drift

        return drift.run(method, seed)
    task = _drawn(table, seed)
    if method.rule == "ceiling":
        assert task.ceiling is not None
        value = task.ceiling()
        return Outcome((0,), (value,), (value,), (0,), len(task.classes))
    rows: list[tuple[int, float, float, int]] = []

    def judge(loop: PPAL) -> None:
        right = loop.predict(task.test) == task.y_test
        of_class = [right[task.y_test == c].mean() for c in np.unique(task.y_test)]
        known = [label for label in loop.labels_ if label is not None]
        rows.append((len(known), float(right.mean()), float(np.mean(of_class)), len(set(known))))

    first, per_round, n_rounds = task.first, task.per_round, task.n_rounds
    ledger = None
    if method.epsilon is not None:
        n_labels = method.labels or first + per_round * n_rounds
        per_round, n_rounds = n_labels, 1  # one release: the rounds of a rule that looks at no label are all one
        ledger = Ledger(
            ":memory:", epsilon=method.epsilon, delta=DELTA, unit=method.unit, relation=method.relation,  # type: ignore[arg-type]
        )
    peer = PEERS.get(method.learner)
    learner: Any = OneMap() if method.learner == "auto" else method.learner if peer is None else peer.learner(seed)
    strategy: Any = method.rule if peer is None or method.rule == "random" else peer.strategy(seed)
    loop = PPAL(
        learner, strategy, n_per_round=per_round, n_rounds=n_rounds, ledger=ledger,
        classes=None if peer else task.classes, random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one class so far
        loop.start(task.pool)
        if ledger is None:
            _answer(loop, task, first)
            judge(loop)
        for _ in range(n_rounds):
            _answer(loop, task, None)
            if ledger is None:
                judge(loop)
        if ledger is not None:
            judge(loop.finish())
    labels, accuracy, balanced, met = zip(*rows, strict=True)
    return Outcome(labels, accuracy, balanced, met, len(task.classes))


def _answer(loop: PPAL, task: tables.Task, n: int | None) -> None:
    rows = loop.ask(n)
    loop.tell(rows, task.y[rows].tolist())


# --- kept results -----------------------------------------------------------------------------------------------


def code_version() -> str:
    """Of everything that a result depends on: another version of the learners starts a folder of its own."""
    package = Path(ppal_fast.__file__).parent
    files = [f for source in SOURCES for f in sorted((package / source).rglob("*.py")) or [package / source]]
    files += [Path(__file__), Path(tables.__file__)]
    return sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]


@dataclass(frozen=True)
class Store:
    """Outcomes in ``folder``, a file for each table, method and seed."""

    folder: Path

    def _path(self, table: str, method: Method, seed: int) -> Path:
        return self.folder / table / method.name / f"{seed}.json"

    def get(self, table: str, method: Method, seed: int) -> Outcome | None:
        path = self._path(table, method, seed)
        if not path.exists():
            return None
        stored = json.loads(path.read_text())
        return Outcome(**{key: tuple(v) if isinstance(v, list) else v for key, v in stored.items()})

    def put(self, table: str, method: Method, seed: int, outcome: Outcome) -> None:
        path = self._path(table, method, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(outcome.__dict__))
        partial.replace(path)

    def paired(self, table: str, methods: Sequence[Method], seeds: Iterable[int]) -> list[tuple[Outcome, ...]]:
        """The outcomes of each seed for which every one of the methods has run."""
        rows = [tuple(self.get(table, m, s) for m in methods) for s in seeds]
        return [tuple(o for o in row if o is not None) for row in rows if None not in row]


Work = tuple[str, Method, int]


def run_all(work: list[Work], store: Store, n_workers: int, say: Callable[[str], None]) -> None:
    """Everything that is not there yet, in the order given, so that an interrupted run has whole seeds to show."""
    groups: dict[tuple[str, int], list[Method]] = {}  # of one draw: its methods share the pool and its map
    for table, method, seed in work:
        if store.get(table, method, seed) is None:
            groups.setdefault((table, seed), []).append(method)
    if not groups:
        return
    say(f"{sum(map(len, groups.values()))} of {len(work)} runs to do, on {len(groups)} draws")
    started = time.time()
    for done, ((table, seed), outcomes) in enumerate(_outcomes(groups, n_workers), 1):
        for method, outcome in outcomes:
            store.put(table, method, seed, outcome)
        if done % 100 == 0:
            say(f"{done} of {len(groups)} draws after {time.time() - started:.0f} s")


Group = tuple[tuple[str, int], list[tuple[Method, Outcome]]]


def _run_group(table: str, seed: int, methods: list[Method]) -> Group:
    return (table, seed), [(method, run(table, method, seed)) for method in methods]


def _outcomes(groups: dict[tuple[str, int], list[Method]], n_workers: int) -> Iterator[Group]:
    if n_workers == 1:
        yield from (_run_group(*draw, methods) for draw, methods in groups.items())
        return
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_run_group, *draw, methods) for draw, methods in groups.items()]):
            yield future.result()
