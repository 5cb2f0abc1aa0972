"""Active learning on a simulated line of 10,000 drives, 80 % missing: scikit-activeml, modAL, scikit-learn.

The peers do not accept missing cells in their strategies: they get the table filled with zeros and learn with a random
forest, as the articles on the subject do. The gap is that of the last model's accuracy over all rows to the ceiling
of the table, in per cent, mean of N_TABLES tables. Nothing is private here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare.contest import Contestant, compete

N_ROWS, N_TABLES = 10_000, 3
N_INITIAL, N_PER_ROUND, N_ROUNDS = 20, 20, 9
Rows = NDArray[np.intp]
Round = Callable[[Any, Rows], Rows]  # table and labelled rows in, rows to label out


def main() -> None:
    from ppal_fast import simulate

    tables = [simulate.drives(n_rows=N_ROWS, random_state=seed) for seed in range(N_TABLES)]
    peers: list[tuple[str, Round, tuple[str, ...]]] = [
        ("scikit-learn forest, entropy", _scikit_learn_round, ()),
        ("scikit-activeml, entropy", _scikit_activeml_round, ("skactiveml",)),
        ("modAL, entropy", _modal_round, ("modAL",)),
    ]
    compete(
        f"one round: learn from {N_INITIAL} labels, choose {N_PER_ROUND} of {N_ROWS:,} rows",
        [Contestant(f"ppal_fast, {s}", lambda s=s: _our_round(tables[0], s)) for s in ("auto", "entropy", "qubo")]
        + [Contestant(n, lambda r=r: lambda: r(tables[0], _initial(tables[0])), needs) for n, r, needs in peers],
        {},
    )
    compete(
        f"the whole loop, {N_TABLES} times: {N_INITIAL} labels, {N_ROUNDS} rounds of {N_PER_ROUND}",
        [Contestant(f"ppal_fast, {s}", lambda s=s: lambda: _our_loops(tables, s)) for s in ("auto", "entropy")]
        + [Contestant(n, lambda r=r: lambda: [_loop(t, r) for t in tables], needs) for n, r, needs in peers],
        {"below ceiling %": lambda gaps: 100 * float(np.mean(gaps))},
    )


def _initial(table: Any) -> Rows:
    """The rows that are labelled at the start, the same for everyone."""
    return np.random.default_rng(0).choice(len(table), N_INITIAL, replace=False)


def _known(table: Any) -> NDArray[Any]:
    y = np.full(len(table), -1)
    y[_initial(table)] = table.y[_initial(table)]
    return y


def _gap(table: Any, model: Any, X: Any) -> float:
    return float(table.ceiling - (model.predict(X) == table.y).mean())


def _our_round(table: Any, strategy: str) -> Callable[[], Any]:
    from ppal_fast import PPAL

    return lambda: PPAL(strategy=strategy, n_per_round=N_PER_ROUND, random_state=0).start(table.X, _known(table)).ask()


def _our_loops(tables: list[Any], strategy: str) -> list[float]:
    from ppal_fast import PPAL

    gaps = []
    for table in tables:
        loop = PPAL(strategy=strategy, n_per_round=N_PER_ROUND, n_rounds=N_ROUNDS, random_state=0)
        loop.run(table.X, lambda rows, table=table: table.y[rows], _known(table))
        gaps.append(_gap(table, loop, table.X))
    return gaps


def _loop(table: Any, one_round: Round) -> float:
    labelled = _initial(table)
    for _ in range(N_ROUNDS):
        labelled = np.concatenate([labelled, one_round(table, labelled)])
    return _gap(table, _forest().fit(_filled(table)[labelled], table.y[labelled]), _filled(table))


def _filled(table: Any) -> Any:
    return np.nan_to_num(table.X)


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(random_state=0)


def _scikit_learn_round(table: Any, labelled: Rows) -> Rows:
    X, rest = _filled(table), np.setdiff1d(np.arange(len(table)), labelled)
    model = _forest().fit(X[labelled], table.y[labelled])
    p = model.predict_proba(X[rest])
    entropy = -np.sum(p * np.log(np.maximum(p, 1e-12)), axis=1)
    return rest[np.argsort(-entropy)[:N_PER_ROUND]]


def _scikit_activeml_round(table: Any, labelled: Rows) -> Rows:
    from skactiveml.classifier import SklearnClassifier
    from skactiveml.pool import UncertaintySampling

    y = np.full(len(table), np.nan)
    y[labelled] = table.y[labelled]
    model = SklearnClassifier(_forest(), classes=np.unique(table.y))
    query = UncertaintySampling(method="entropy", random_state=0)
    return query.query(_filled(table), y, clf=model, batch_size=N_PER_ROUND)


def _modal_round(table: Any, labelled: Rows) -> Rows:
    from modAL.models import ActiveLearner
    from modAL.uncertainty import entropy_sampling

    X, rest = _filled(table), np.setdiff1d(np.arange(len(table)), labelled)
    model = ActiveLearner(_forest(), entropy_sampling, X[labelled], table.y[labelled])
    chosen, _ = model.query(X[rest], n_instances=N_PER_ROUND)
    return rest[chosen]
