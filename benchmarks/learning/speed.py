"""`python -m benchmarks.learning.speed [--cache DIR]`: one query of 20 rows from 10,000 x 50, and a whole round.

For an otherwise idle machine. scikit-activeml gets the same complete table and the same fitted logistic regression, so
that rules alone are compared, each with the nearest that it has; what the regression itself takes is measured alone
and shown beside, for no rule can be faster. The page shows what was measured last.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

N_ROWS, N_LABELLED, N_ASKED = 10_000, 100, 20
REPEATS, MOST_SECONDS = 7, 4.0  # of one contestant, after a first call that compiles
UNCERTAINTY = "UncertaintySampling"
NEAREST = {  # our rule: theirs, and its options
    "random": ("RandomSampling", {}), "entropy": (UNCERTAINTY, {"method": "entropy"}),
    "margin": (UNCERTAINTY, {"method": "margin_sampling"}), "committee": ("QueryByCommittee", {}),
    "badge": ("Badge", {}), "qubo": ("Badge", {}), "auto": ("Badge", {}), "typical": ("TypiClust", {}),
}
ROUNDS = (("no privacy", None, "label"), ("unit label", 1.0, "label"), ("unit record", 1.0, "record"))


def main() -> None:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    from .runs import CACHE

    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.speed")
    parser.add_argument("--cache", type=Path, default=CACHE)
    folder: Path = parser.parse_args().cache
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speed.json").write_text(json.dumps({"queries": _queries(), "rounds": _rounds()}))
    print(section(folder))


def section(folder: Path) -> str:
    path = folder / "speed.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    queries = []
    for rule, ours, model, theirs in found["queries"]:
        peer = "- | - | - | -"
        if theirs:
            bare = (theirs - model) / (ours - model)
            peer = f"{NEAREST[rule][0]} | {theirs:.1f} | {theirs / ours:.0f} | {bare:.0f}"
        queries.append(f"| {rule} | {ours:.2f} | {model:.2f} | {peer} |")
    rounds = [f"| {what} | {first:.0f} | {later:.0f} |" for what, first, later in found["rounds"]]
    return (
        f"## Time: {N_ASKED} rows from {N_ROWS:,} x 50, milliseconds on one core\n"
        f"Medians of {REPEATS}, {N_LABELLED} labels. A query: complete table, the same columns and fitted logistic\n"
        "regression for both; goal 20 ms, and 25 times scikit-activeml. Model: what scikit-learn takes of both times\n"
        "for the probabilities, measured alone (`committee`: with five refits); last column: the ratio without it.\n\n"
        "| rule | ours | model | scikit-activeml's | its time | ratio | without model |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(queries)
        + "\n\nA round of `PPAL` (fit, score, choose 20; under privacy with its release), 80 % of the cells missing.\n"
        "The first one learns the map; goal for the others 100 ms.\n\n| | first | later |\n| --- | --- | --- |\n"
        + "\n".join(rounds) + "\n"
    )


def _queries() -> list[tuple[str, float, float, float | None]]:
    """Rule, milliseconds of ours, of these the model's, and of scikit-activeml's nearest."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from ppal_fast.query import STRATEGIES, Context, scored

    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, 50))
    y = (X[:, 0] + X[:, 1] > rng.normal(size=N_ROWS)).astype(float)
    labelled = np.arange(N_LABELLED)
    learner = LogisticRegression().fit(X[labelled], y[labelled])

    def committee() -> None:
        for _ in range(scored.MEMBERS):
            LogisticRegression().fit(X[labelled], y[labelled]).predict_proba(X)

    predicted, refitted = _milliseconds(lambda: learner.predict_proba(X)), _milliseconds(committee)
    model = {"random": 0.0, "typical": 0.0, "design": 0.0, "committee": refitted}

    def ours(rule: str) -> Callable[[], Any]:
        context = Context(
            X=X, observed=np.ones(X.shape, dtype=bool), representation=X, candidates=np.arange(N_LABELLED, N_ROWS),
            labelled=labelled, y=y[labelled].astype(np.intp), learner=learner, n=N_ASKED, rng=rng,
        )
        return lambda: STRATEGIES[rule].select(context)

    def theirs(rule: str) -> Callable[[], Any] | None:
        if rule not in NEAREST or find_spec("skactiveml") is None:
            return None
        from skactiveml import pool
        from skactiveml.classifier import SklearnClassifier

        name, options = NEAREST[rule]
        known = np.where(np.arange(N_ROWS) < N_LABELLED, y, np.nan)
        query = getattr(pool, name)(random_state=0, **options)
        model = SklearnClassifier(LogisticRegression(), classes=[0.0, 1.0]).fit(X, known)
        if name == "QueryByCommittee":
            more: dict[str, Any] = {"ensemble": [model] * 5}
        else:
            more = {"clf": model, "fit_clf": False} if name in (UNCERTAINTY, "Badge") else {}
        return lambda: query.query(X, known, batch_size=N_ASKED, **more)

    found = []
    for rule in STRATEGIES:
        peer = theirs(rule)
        mine, its = _milliseconds(ours(rule)), None if peer is None else _milliseconds(peer)
        found.append((rule, mine, model.get(rule, predicted), its))
    return found


def _rounds() -> list[tuple[str, float, float]]:
    """Seconds of the loop's own records: from asking to learned, the expert's time left out."""
    from ppal_fast import PPAL, Ledger, simulate

    drawn = simulate.drives(n_rows=N_ROWS, random_state=0)
    found = []
    for what, epsilon, unit in ROUNDS:
        for _ in range(2):  # the first time compiles
            ledger = epsilon and Ledger(":memory:", epsilon=epsilon, delta=1e-5, unit=unit)  # type: ignore[arg-type]
            loop = PPAL(
                strategy="auto" if epsilon is None else "threshold",  # follows a model: a release in each round
                n_per_round=N_ASKED, n_rounds=9, ledger=ledger or None, classes=[0, 1], random_state=0,
            )
            loop.run(drawn.table, lambda rows: drawn.y[rows])
        seconds = [1000 * record.seconds for record in loop.history_]
        found.append((what, seconds[0], median(seconds[1:])))
    return found


def _milliseconds(call: Callable[[], Any]) -> float:
    call()
    times: list[float] = []
    while len(times) < REPEATS and (len(times) < 2 or sum(times) < MOST_SECONDS):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return 1000 * median(times)


if __name__ == "__main__":
    main()
