"""A stream whose two largest makers swap suppliers half-way: what is forgotten, and how fast the learners recover."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppal_fast import Ledger, simulate
from ppal_fast.learners import DecayedMeans, ElasticLogistic, Representation, learn_representation

from .runs import DELTA, Method, Outcome, Store, Work

QUARTERS, SWITCH, ROWS, LABELLED = 12, 6, 2000, 60
FIRST_SEED = 3200  # those from 2000 to 2300 were looked at before
EPSILON = 2.0


def _private(pool_map: Representation) -> DecayedMeans:
    ledger = Ledger(":memory:", epsilon=EPSILON, delta=DELTA, unit="label")
    return DecayedMeans(pool_map, [0, 1], decay=0.7, ledger=ledger)


LEARNERS: dict[str, Callable[[Representation], Any]] = {
    "sums of all labels": lambda m: DecayedMeans(m, [0, 1], decay=1.0),
    "sums, decay .7": lambda m: DecayedMeans(m, [0, 1], decay=0.7),
    "sums, decay .3": lambda m: DecayedMeans(m, [0, 1], decay=0.3),
    "elastic weights, 1": lambda m: ElasticLogistic(m, [0, 1], elasticity=1.0),
    "elastic weights, .5": lambda m: ElasticLogistic(m, [0, 1], elasticity=0.5),
    f"sums, decay .7, eps {EPSILON:g}": _private,
}


def work(n_seeds: int) -> list[Work]:
    seeds = range(FIRST_SEED, FIRST_SEED + n_seeds)
    return [("drift", Method(name, "random"), seed) for seed in seeds for name in LEARNERS]


def run(method: Method, seed: int) -> Outcome:
    """Accuracy on each quarter's other rows (accuracy), and on the first quarter's (balanced), after its labels."""
    quarters = simulate.supplier_switch(QUARTERS, ROWS, SWITCH, random_state=seed)
    learner = LEARNERS[method.learner](learn_representation(quarters[0].table, random_state=seed))
    now, first = [], []
    for q, table in enumerate(quarters):
        labelled, rest = table.table.take(slice(LABELLED)), table.table.take(slice(LABELLED, None))
        more = {"ids": [(q, i) for i in range(LABELLED)]} if "eps" in method.learner else {}
        learner.update(labelled, table.y[:LABELLED], **more)
        now.append(float((learner.predict(rest) == table.y[LABELLED:]).mean()))
        first.append(float((learner.predict(quarters[0].table) == quarters[0].y).mean()))
    labels = tuple(LABELLED * (q + 1) for q in range(QUARTERS))
    return Outcome(labels, tuple(now), tuple(first), (2,) * QUARTERS, 2)


def section(store: Store, seeds: range, image: Path) -> str:
    found: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], int]] = {}
    for name in LEARNERS:
        outcomes = [row[0] for row in store.paired("drift", [Method(name, "random")], seeds)]
        if outcomes:
            now = np.mean([o.accuracy for o in outcomes], axis=0)
            found[name] = (now, np.mean([o.balanced for o in outcomes], axis=0), len(outcomes))
    if not found:
        return ""
    _plot(found, image)
    rows = []
    for name, (now, first, n) in found.items():
        back = np.flatnonzero(now[SWITCH:] >= now[SWITCH - 1] - 0.03)
        quarters = str(back[0] + 1) if len(back) else f"> {QUARTERS - SWITCH}"
        rows.append(
            f"| {name} | {n} | {now[SWITCH - 1]:.3f} | {now[SWITCH]:.3f} | {now[-1]:.3f} | {quarters} "
            f"| {first[-1] - first[SWITCH - 1]:+.3f} |"
        )
    return (
        f"## Drift: {QUARTERS} quarters of {LABELLED} random labels; two makers swap suppliers after quarter {SWITCH}\n"
        "Accuracy on the quarter's other drives. Recovered: quarters until within .03 of the level before. Forgotten:\n"
        "what the switch costs on drives of the first quarter. The private stream is one charge for all quarters.\n\n"
        "| learner | n | before | after one quarter | at the end | recovered after | forgotten |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows) + f"\n\n![Drift](images/{image.name})\n"
    )


def _plot(found: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], int]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, constrained_layout=True)
    for name, (now, first, _) in found.items():
        axes[0].plot(range(1, QUARTERS + 1), now, label=name)
        axes[1].plot(range(1, QUARTERS + 1), first, label=name)
    for axis, title in zip(axes, ("the quarter's own drives", "drives of the first quarter"), strict=True):
        axis.axvline(SWITCH + 0.5, color="0.6", linestyle="--", linewidth=1)
        axis.set(title=title, xlabel="quarter")
    axes[0].set_ylabel("accuracy")
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
