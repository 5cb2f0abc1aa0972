"""demo: the whole loop on simulated lines of returned drives, with and without privacy, beside other methods."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, query, report, simulate
from ..files import check_writable_folder
from ..loop import PPAL
from .about import usable_threads
from .results import chosen_columns

N_DRIVES = 10_000
N_INITIAL = N_PER_ROUND = 20
N_LABELS = 200
CHECKPOINTS = (60, 100, 200)
EPSILON, DELTA, UNIT = 1.0, 1e-5, "label"


@dataclass(frozen=True)
class Method:
    """One line of the comparison: PPAL with this learner, strategy and budget."""

    name: str
    learner: str
    strategy: str
    epsilon: float | None = None
    note: str = ""


METHODS = (
    Method("ppal_fast", "auto", "auto"),
    Method("ppal_fast, ε = 1", "auto", "auto", EPSILON, "one release; each point is a loop that ends there"),
    Method("random rows", "auto", "random", None, "same learner"),
    Method("entropy", "auto", "entropy", None, "same learner"),
    Method("random rows, ε = 1", "auto", "random", EPSILON, "same learner; each point is a loop that ends there"),
    Method("random forest", "forest", "uncertainty", None, "as in the articles: missing cells 0, uncertainty sampling"),
)


@dataclass(frozen=True)
class Outcome:
    """What one method reached on one line; history and features of the whole loop, for the report.

    ceiling   of the line, from the first method alone (it is the same for all, and takes time); NaN from the others
    """

    method: int
    seed: int
    n_labels: tuple[int, ...]
    accuracy: tuple[float, ...]
    ceiling: float
    history: list[Any]
    privacy: str
    features: list[tuple[str, float]]


def run_demo(out: Path, n_seeds: int) -> None:
    from rich.progress import Progress

    check_writable_folder(out)
    started = time.perf_counter()
    work = [(method, seed) for seed in range(n_seeds) for method in range(len(METHODS))]
    outcomes: list[Outcome] = []
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(f"{n_seeds} lines of {N_DRIVES:,} drives, {len(METHODS)} methods", total=len(work))
        for outcome in _all(work):
            outcomes.append(outcome)
            progress.advance(task)
    page = _page(sorted(outcomes, key=lambda o: o.seed), n_seeds)
    _print(page)
    picture = report.LearningCurveDisplay(page.curves, ceiling=page.ceiling)
    out.mkdir(parents=True, exist_ok=True)
    for suffix in ("png", "svg"):
        report.save_picture(picture, out / f"learning_curves.{suffix}")
    print(f"{report.write_report(out / 'report.html', page)} written, {time.perf_counter() - started:.0f} s in all")


def run_method(number: int, seed: int) -> Outcome:
    """One method on one line: the same pool, initial labels and test drives for all methods of a seed."""
    method = METHODS[number]
    pool = simulate.drives(observed="label", n_rows=N_DRIVES, random_state=seed)
    test = simulate.drives(observed="label", n_rows=N_DRIVES, random_state=10_000 + seed)
    first = np.random.default_rng(seed).choice(N_DRIVES, N_INITIAL, replace=False)
    y = np.full(N_DRIVES, -1)
    y[first] = pool.y[first]
    n_labels: list[int] = []
    accuracy: list[float] = []

    def score(loop: PPAL) -> None:
        n_labels.append(sum(len(record.asked) for record in loop.history_))
        accuracy.append(float((loop.predict(test.table) == test.y).mean()))

    for end in CHECKPOINTS if method.epsilon else (N_LABELS,):  # a private model leaves once, at the end
        loop = PPAL(
            ZeroFillForest() if method.learner == "forest" else method.learner,
            most_uncertain if method.strategy == "uncertainty" else method.strategy,
            n_per_round=N_PER_ROUND, n_rounds=(end - N_INITIAL) // N_PER_ROUND,
            epsilon=method.epsilon, delta=DELTA, unit=UNIT, classes=[0, 1], random_state=seed,
        ).start(pool.table, y)
        for _ in range(loop.n_rounds):
            if method.epsilon is None:
                score(loop)
            rows = loop.ask()
            loop.tell(rows, pool.y[rows].tolist())
        score(loop.finish())
    features = chosen_columns(loop.table_, loop.labels_) if number == 0 and seed == 0 else []
    history = loop.history_ if seed == 0 else []
    ceiling = test.ceiling if number == 0 else float("nan")
    return Outcome(number, seed, tuple(n_labels), tuple(accuracy), ceiling, history, loop.privacy_, features)


# --- the articles' pipeline -------------------------------------------------------------------------------------


def most_uncertain(context: query.Context) -> Any:
    """Uncertainty sampling as the articles have it: the least certain rows, whatever is observed of them."""
    if context.learner is None:
        return context.candidates[: context.n]
    certainty = context.learner.predict_proba(context.X[context.candidates]).max(axis=1)
    return context.candidates[np.argsort(certainty, kind="stable")[: context.n]]


class ZeroFillForest:
    """scikit-learn's random forest on zero-filled cells."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {}

    def fit(self, X: Any, y: Any, **_: Any) -> ZeroFillForest:
        from sklearn.ensemble import RandomForestClassifier

        self.forest = RandomForestClassifier(100, random_state=0).fit(_filled(X), y)
        self.classes_ = self.forest.classes_
        return self

    def predict(self, X: Any) -> Any:
        return self.forest.predict(_filled(X))

    def predict_proba(self, X: Any) -> Any:
        return self.forest.predict_proba(_filled(X))


def _filled(X: Any) -> Any:
    return np.nan_to_num(getattr(X, "values", X))


# --- running and showing ----------------------------------------------------------------------------------------


def _all(work: list[tuple[int, int]]) -> Iterator[Outcome]:
    """Every outcome as it is ready, on all usable processors; one BLAS thread each."""
    n_workers = min(len(work), usable_threads())
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context("spawn")  # a fork would share the state of numba and of BLAS
    with ProcessPoolExecutor(n_workers, mp_context=context, initializer=_leave_ctrl_c_to_parent) as pool:
        try:
            futures = [pool.submit(run_method, *item) for item in work]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _leave_ctrl_c_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _page(outcomes: list[Outcome], n_seeds: int) -> report.Page:
    curves = []
    for number, method in enumerate(METHODS):
        mine = [o for o in outcomes if o.method == number]
        accuracy = np.array([o.accuracy for o in mine])
        curves.append(report.Curve(method.name, np.array(mine[0].n_labels), accuracy, method.note))
    first = {o.method: o for o in outcomes if o.seed == 0}
    private = first[1]
    pool = simulate.drives(observed="label", n_rows=N_DRIVES, random_state=0)
    return report.Page(
        title=f"Which of {N_DRIVES:,} returned drives hold magnets worth recovering?",
        lead=f"Simulated: 50 columns, {100 * np.isnan(pool.X).mean():.0f} % of the cells missing, {N_LABELS} labels "
             f"in all, {n_seeds} lines. The grade depends on maker, date and form factor; 3 % of the labels are noise.",
        privacy=f"The methods with ε = {EPSILON:g} are private, the others are not.\n{private.privacy}",
        private=True,
        settings={
            "rows": f"{N_DRIVES:,} drives to choose from and {N_DRIVES:,} others to score, for each line",
            "labels": f"{N_INITIAL} initial, at random; then {N_PER_ROUND} a round to {N_LABELS}",
            "privacy": f"epsilon {EPSILON:g}, delta {DELTA:g}, unit {UNIT}, relation zero-out",
            "lines": f"{n_seeds}, seeds 0 to {n_seeds - 1}", "ppal_fast": __version__,
        },
        curves=curves,
        ceiling=float(np.nanmean([o.ceiling for o in outcomes])),
        checkpoints=CHECKPOINTS,
        asked=report.asked_rounds(private.history, ~np.isnan(pool.X)),
        asked_note=f"The loop '{METHODS[1].name}' on the first line.",
        budget=report.BudgetDisplay.from_history(private.history, epsilon=EPSILON),
        features=first[0].features,
        features_note=f"Chosen by QUBOFeatureSelector from the {N_LABELS} labels of '{METHODS[0].name}' on the first "
                      "line, outside the ledger: mutual information, less redundancy.",
    )


def _print(page: report.Page) -> None:
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid(title=page.title, caption=f"ceiling {page.ceiling:.3f}; mean ± 95 % interval over lines")
    grid.add_column("method", no_wrap=True)
    for n in page.checkpoints:
        grid.add_column(f"{n} labels", justify="right", no_wrap=True)
    for name, _, cells in report.table_rows(page):
        grid.add_row(name, *(f"{mean:.3f} ± {half:.3f}" if half == half else f"{mean:.3f}" for mean, half in cells))
    Console().print(grid)
