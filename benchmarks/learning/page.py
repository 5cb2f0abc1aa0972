"""The results as a page: goals, rules against random, all tables, peers, conformance; losses beside wins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import conformance, drift, plan, speed, tables
from .peers import PEERS
from .runs import Method, Outcome, Store
from .statistics import holm, labels_to_reach, paired

WORTH_NAMING = 0.005  # of area below random: a loss is listed in bold


def write(store: Store, n_seeds: int, docs: Path, peers: Sequence[str], cache: Path) -> None:
    seeds = range(plan.FIRST_SEED, plan.FIRST_SEED + n_seeds)
    wide = range(seeds.start, seeds.start + plan.SMALL_FACTOR * n_seeds)
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    curves(store, seeds, images / "learning_curves.png")
    parts = [
        "# Learning benchmark\n\n"
        "Written by `make learning-bench`; do not edit. Accuracy on rows that no method could ask about. Every\n"
        "number is a mean over paired draws of table, mask and split (at most "
        f"{n_seeds} seeds from {plan.FIRST_SEED}, {plan.SMALL_FACTOR}\n"
        "times as many where test rows are few; n: how many ran). Settings were chosen on other seeds. Private\n"
        "figures: delta 1e-5, relation zero-out unless it says replace-one. `name@50` is a table with half of its\n"
        "cells hidden at random. Area: mean accuracy over the rounds, the first with the first batch alone. `auto`\n"
        "chooses its first batch too, `random` draws it.\n",
        _goals(store, seeds), _auto_against_random(store, wide), _rules(store, seeds), _designs(store, seeds),
        _khan(store, wide), _peers(store, seeds, peers), conformance.section(store),
        drift.section(store, range(drift.FIRST_SEED, drift.FIRST_SEED + n_seeds), images / "drift.png"),
        speed.section(cache),
        "![Learning curves](images/learning_curves.png)\n",
    ]
    (docs / "learning_benchmark.md").write_text("\n".join(part for part in parts if part))


def _last(outcomes: Sequence[Outcome]) -> float:
    return float(np.mean([o.accuracy[-1] for o in outcomes]))


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(map(str, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return f"**{text}**" if value < -WORTH_NAMING else text


def _goals(store: Store, seeds: range) -> str:
    rows = []
    for goal in plan.GOALS:
        outcomes = [row[0] for row in store.paired(goal.table, [goal.method], seeds)]
        if not outcomes:
            continue
        reached = [
            o.accuracy[-1] if goal.labels is None else o.accuracy[o.labels.index(goal.labels)] for o in outcomes
        ]
        mean, error = np.mean(reached), np.std(reached) / np.sqrt(max(len(reached) - 1, 1))
        verdict = "yes" if mean >= goal.at_least else "**no**"
        rows.append((
            goal.table, goal.what, f"{goal.at_least:g}", f"{mean:.3f} ± {error:.3f}", verdict, len(reached),
        ))
    return "## Goals\nMean ± one standard error.\n\n" + _table(("table", "", "goal", "measured", "reached", "n"), rows)


def _auto_against_random(store: Store, seeds: range) -> str:
    rows, gains, tests = [], {}, {}
    for table in tables.names():
        pairs = store.paired(table, [plan.RANDOM, plan.AUTO], seeds)
        if len(pairs) > 1:
            gains[table] = paired([b.area - a.area for a, b in pairs])
            tests[table] = pairs
    adjusted = dict(zip(gains, holm([g.p for g in gains.values()]), strict=True))
    for table, gain in gains.items():
        of_random, of_auto = zip(*tests[table], strict=True)
        labels = np.array(of_random[0].labels, dtype=float)
        need = labels_to_reach(labels, np.mean([o.accuracy for o in of_auto], axis=0), _last(of_random))
        ceiling = store.paired(table, [Method(rule="ceiling")], seeds)
        known = [row[0].accuracy[0] for row in ceiling]
        balanced = np.mean([o.balanced[-1] for o in of_auto]) - np.mean([o.balanced[-1] for o in of_random])
        gap = float(np.mean(known)) - _last(of_random) if known else float("nan")
        closed = f"{(_last(of_auto) - _last(of_random)) / gap:+.0%}" if gap > 0.002 else "-"
        rows.append((
            table, gain.n, f"{np.mean(known):.3f}" if known else "-", f"{_last(of_random):.3f}",
            f"{_last(of_auto):.3f}", closed, _signed(float(balanced)), _signed(gain.mean),
            f"{gain.low:+.3f} .. {gain.high:+.3f}", f"{adjusted[table]:.2g}",
            f"{need:.0f} of {labels[-1]:.0f}" if np.isfinite(need) else f"> {labels[-1]:.0f}",
        ))
    masked = [g.mean for t, g in gains.items() if "@" in t or t in tables.SIMULATED]
    if not masked:
        return ""
    summary = (
        f"Mean gain in area over the {len(masked)} tables with missing cells: {np.mean(masked):+.4f}; "
        f"lowest {min(masked):+.4f}; below -.005: {sum(g < -WORTH_NAMING for g in masked)} of them.\n\n"
    )
    return (
        "## The automatic learner: `auto` rows against random rows, no privacy\n"
        "Labels: how many `auto` needs for random's final accuracy. Closed: share of random's final gap to the\n"
        "ceiling. p: Wilcoxon's signed-rank test on areas, Holm over all tables. Losses of more than .005 are bold.\n\n"
        + summary
        + _table(
            ("table", "n", "ceiling", "random", "auto", "closed", "balanced", "area", "95 %", "p", "labels"), rows
        )
    )


def _rules(store: Store, seeds: range) -> str:
    methods = [Method(rule=rule) for rule in plan.RULES]
    rows, total = [], []
    for table in plan.ALL_RULES:
        if pairs := store.paired(table, methods, seeds):
            areas = np.array([[o.area for o in row] for row in pairs])
            gain = (areas - areas[:, :1]).mean(axis=0)
            total.append(areas.mean(axis=0))
            rows.append((table, len(pairs), f"{areas[:, 0].mean():.3f}", *map(_signed, gain[1:])))
    if not rows:
        return ""
    from scipy.stats import rankdata

    ranks = np.mean([rankdata(-areas) for areas in total], axis=0)
    critical = 2.949 * np.sqrt(len(methods) * (len(methods) + 1) / (6 * len(total)))  # Nemenyi, 7 methods, 5 %
    rows.append(("mean rank", "", *(f"{r:.1f}" for r in ranks)))
    return (
        "## Rules, same learner: gain in area over random rows\n"
        f"Ranks that differ by less than {critical:.1f} are not told apart (Nemenyi, 5 %).\n\n"
        + _table(("table", "n", *plan.RULES), rows)
    )


def _designs(store: Store, seeds: range) -> str:
    rows = []
    for table in plan.DESIGNED:
        cells: list[Any] = [table]
        for epsilon in (0.5, 1):
            pairs = store.paired(
                table, [plan.replace_one("random", epsilon), plan.replace_one("design", epsilon)], seeds
            )
            if not pairs:
                break
            gain = paired([b.accuracy[-1] - a.accuracy[-1] for a, b in pairs])
            cells += [f"{_last([a for a, _ in pairs]):.3f}", f"{_last([b for _, b in pairs]):.3f}", _signed(gain.mean)]
            cells += [f"{gain.low:+.3f} .. {gain.high:+.3f}"]
        else:
            rows.append(cells)
    head = ("table", "random, eps .5", "design", "gain", "95 %", "random, eps 1", "design", "gain", "95 %")
    return "## Design against random rows, unit label, replace-one, 200 labels\n\n" + _table(head, rows) if rows else ""


def _khan(store: Store, seeds: range) -> str:
    pairs = store.paired("khan", [plan.RANDOM, plan.AUTO], seeds)
    if not pairs:
        return ""
    rows = []
    for name, of in zip(("random", "auto"), zip(*pairs, strict=True), strict=True):
        failed = np.mean([o.classes_met[0] < o.classes for o in of])
        rows.append((name, f"{np.mean([o.accuracy[0] for o in of]):.3f}", f"{_last(of):.3f}", f"{failed:.0%}"))
    gain = paired([b.accuracy[-1] - a.accuracy[-1] for a, b in pairs])
    return (
        "## Khan: 55 samples, 2,308 genes, 10 + 3 x 3 labels\n"
        f"Gain at the end {gain.mean:+.3f} ({gain.low:+.3f} .. {gain.high:+.3f}, n = {gain.n}; goal +.07). "
        "Cold-start failure: a class without a label after the first 10 (goal: 8 %).\n\n"
        + _table(("rows", "10 labels", "19 labels", "cold-start failures"), rows)
    )


def _peers(store: Store, seeds: range, peers: Sequence[str]) -> str:
    methods = {
        "ours, auto": plan.AUTO, "ours, random": plan.RANDOM, "forest, random": Method("forest", "random"),
        "forest, least certain": Method("forest", "own"),
        **{peer: Method(peer, "own") for peer in peers if peer != "forest"},
    }
    seeds, rows = seeds[: plan.PEER_SEEDS], []
    for table in plan.WITH_PEERS:
        cells: list[Any] = [table]
        found = [[row[0] for row in store.paired(table, [method], seeds)] for method in methods.values()]
        cells += [f"{_last(o):.3f} ({np.mean([x.area for x in o]):.3f})" if o else "-" for o in found]
        reach = "-"
        if found[0] and found[2]:
            labels = np.array(found[0][0].labels, dtype=float)
            need = labels_to_reach(labels, np.mean([o.accuracy for o in found[0]], axis=0), _last(found[2]))
            reach = f"{need:.0f}" if np.isfinite(need) else f"> {labels[-1]:.0f}"
        rows.append([*cells, reach])
    return (
        f"## Beside others, no privacy: final accuracy (area) on the same {plan.PEER_SEEDS} seeds\n"
        "All peers learn with scikit-learn's random forest; the articles' pipeline is the forest with the least\n"
        "certain rows. Labels: how many `auto` needs for the final accuracy of the forest on random rows.\n"
        "Missing cells: "
        + "; ".join(f"{name}: {PEERS[name].note}" for name in peers) + ".\n\n"
        + _table(("table", *methods, "labels"), rows)
    )


def curves(store: Store, seeds: range, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = ("class_shift(2)", "drives(label)", "drives(structured)", "latent_factors", "steel@50", "cwru@50")
    methods = {"auto": plan.AUTO, "random": plan.RANDOM, "forest, zero fill": Method("forest", "random")}
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.5), constrained_layout=True)
    for axis, table in zip(axes.flat, shown, strict=True):
        for name, method in methods.items():
            outcomes = [row[0] for row in store.paired(table, [method], seeds)]
            if not outcomes:
                continue
            accuracy = np.array([o.accuracy for o in outcomes])
            error = accuracy.std(axis=0) / np.sqrt(max(len(accuracy) - 1, 1))
            axis.errorbar(outcomes[0].labels, accuracy.mean(axis=0), error, label=f"{name} (n = {len(outcomes)})")
        ceiling = [row[0].accuracy[0] for row in store.paired(table, [Method(rule="ceiling")], seeds)]
        if ceiling:
            axis.axhline(float(np.mean(ceiling)), color="0.6", linestyle="--", linewidth=1)
        axis.set(title=table, xlabel="labels", ylabel="accuracy")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
