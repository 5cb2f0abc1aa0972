"""What is run, and which goals it is held to. Settings were chosen on the seeds of SETTINGS, never used here."""

from __future__ import annotations

from dataclasses import dataclass

from . import tables
from .runs import Method, Work

FIRST_SEED = 3000
SETTINGS = (range(200, 208), range(1000, 1030), range(2000, 2120), range(5000, 8000))
RULES = ("random", "auto", "margin", "entropy", "badge", "qubo", "density")
RANDOM, AUTO = Method(rule="random"), Method(rule="auto")
ALL_RULES = (*tables.SIMULATED, "steel@50", "steel@80", "cwru@50", "cwru@80", "backblaze@50", "backblaze@80")
WITH_PEERS = (
    "class_shift(2)", "drives(label)", "drives(structured)", "steel@50", "cwru@50",
    "steel", "cwru", "vehicle", "phoneme", "clean1", "wdbc",  # complete
)
SWEEP_SEEDS = 10  # of the complete tables that no goal names, and the other rules
PEER_SEEDS = 6  # of the table beside others
SMALL_FACTOR = 4  # as many times the seeds for `auto` against `random` on small tables, whose test rows are few


def replace_one(rule: str, epsilon: float) -> Method:
    return Method(rule=rule, epsilon=epsilon, relation="replace-one")


DESIGNED = (
    "cwru@50", "backblaze@50", "drives(structured)", "drives(label)", "steel@50", "latent_factors", "class_shift(2)",
)
PRIVATE: tuple[tuple[str, Method], ...] = (
    *(("class_shift(2)", Method(rule="auto", epsilon=e)) for e in (0.5, 1)),
    *((t, Method(rule="random", epsilon=1, unit="record")) for t in ("class_shift(2)", "drives(label)")),
    ("class_shift(2)", Method(rule="auto", epsilon=0.5, labels=30)),
    *(("drives(label)", Method(rule=r, epsilon=e)) for e in (0.5, 1, 2) for r in ("auto", "random")),
    *(("drives(structured)", Method(rule=r, epsilon=e)) for e in (0.5, 1) for r in ("auto", "random")),
    *((table, replace_one(rule, e)) for table in DESIGNED for e in (0.5, 1) for rule in ("design", "random")),
    ("cwru@50", Method("class-mean", "random", epsilon=2)),
)


def work(n_seeds: int, peers: list[str]) -> list[Work]:
    """Every run of a full benchmark: first what the goals need, then the rules, peers and remaining tables."""
    seeds = range(FIRST_SEED, FIRST_SEED + n_seeds)
    few = seeds[:SWEEP_SEEDS]
    named = {*tables.SIMULATED, *tables.REAL}
    held_to = [table for table in tables.names() if "@" in table or table in named]
    found: list[Work] = []
    for seed in seeds:
        found += [(table, method, seed) for table in held_to for method in (RANDOM, AUTO)]
        found += [(table, Method(rule="ceiling"), seed) for table in tables.SIMULATED]
        found += [(table, method, seed) for table, method in PRIVATE]
    more = range(seeds.stop, FIRST_SEED + SMALL_FACTOR * n_seeds)
    small = [table for table in held_to if table.partition("@")[0] in tables.SMALL]
    found += [(table, method, seed) for seed in more for table in small for method in (RANDOM, AUTO)]
    found += [(t, Method("forest", rule), seed) for seed in few for t in WITH_PEERS for rule in ("random", "own")]
    found += [(t, method, seed) for seed in few for t in tables.names() for method in (RANDOM, AUTO)]
    found += [(t, Method(rule=rule), seed) for seed in few for t in ALL_RULES for rule in RULES]
    found += [(t, Method(peer, "own"), seed) for seed in few[:PEER_SEEDS] for t in WITH_PEERS for peer in peers]
    known = set(tables.names())
    return [item for item in dict.fromkeys(found) if item[0] in known]


@dataclass(frozen=True)
class Goal:
    """Mean accuracy after ``labels`` labels (None: at the end), to be at least ``at_least``."""

    what: str
    table: str
    method: Method
    at_least: float
    labels: int | None = None


GOALS = (
    Goal("no privacy, 60 labels", "class_shift(2)", AUTO, 0.88, 60),
    Goal("no privacy, 200 labels", "drives(label)", AUTO, 0.90),
    Goal("unit label, eps .5, 200 labels", "class_shift(2)", Method(rule="auto", epsilon=0.5), 0.885),
    Goal("unit record, eps 1, 200 labels", "class_shift(2)", Method(rule="random", epsilon=1, unit="record"), 0.875),
    Goal("unit label, eps .5, 30 labels", "class_shift(2)", Method(rule="auto", epsilon=0.5, labels=30), 0.885),
    *(
        Goal(f"unit label, eps {e:g}, 200 labels", "drives(label)", Method(rule="auto", epsilon=e), least)
        for e, least in ((0.5, 0.80), (1, 0.84), (2, 0.86))
    ),
    *(
        Goal(f"unit label, eps {e:g}, 200 labels", "drives(structured)", Method(rule="auto", epsilon=e), least)
        for e, least in ((0.5, 0.70), (1, 0.74))
    ),
    Goal("unit record, eps 1, 200 labels", "drives(label)", Method(rule="random", epsilon=1, unit="record"), 0.81),
    *(
        Goal(f"design, replace-one, eps {e:g}, 200 labels", table, replace_one("design", e), least)
        for table, both in (
            ("cwru@50", (0.45, 0.57)), ("backblaze@50", (0.74, 0.78)), ("drives(structured)", (0.675, 0.725)),
        )
        for e, least in zip((0.5, 1), both, strict=True)
    ),
    Goal("no privacy, 200 labels", "cwru@50", AUTO, 0.80),
    Goal("unit label, eps 2, 200 labels", "cwru@50", Method("class-mean", "random", epsilon=2), 0.66),
)
