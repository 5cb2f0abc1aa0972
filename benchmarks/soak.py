"""A soak of the line: a million items through four threads while its model is exchanged, at full speed and paced.

    python -m benchmarks.soak [--items N] [--rate ITEMS_PER_SECOND --seconds S]

Counts what must be zero: items without a decision, with two, and with a decision that is not its model's own. Prints
latencies, memory over time, and queries against their target. Ends with status 1 if a count is not 0.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppal_fast import PPAL, LineScorer, Session, simulate
from ppal_fast.wire import Belt

N_THREADS, N_BODIES = 4, 1_000
REPEATED = 100  # one item in so many comes twice
SWAP_EVERY = 5.0  # seconds
EDGES = np.array([5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, np.inf])  # microseconds


class Models(NamedTuple):
    """Two model files of one table, 1,000 items of it as JSON, and what each model decides on them."""

    files: list[Path]
    queries_per_hour: float
    X: np.ndarray
    bodies: list[str]
    expected: dict[str, list[float]]


def models(folder: Path, queries_per_hour: float) -> Models:
    drawn = simulate.drives(n_rows=3_000, random_state=0)
    files, expected = [], {}
    X, schema = np.ascontiguousarray(drawn.X[:N_BODIES]), drawn.schema
    for first in (0, 200):
        y = np.full(3_000, -1)
        y[first : first + 200] = drawn.y[first : first + 200]
        loop = PPAL("class-mean", n_rounds=1, random_state=0).start(drawn.table, y)
        rows = loop.ask(2)
        loop.tell(rows, drawn.y[rows])
        scorer = LineScorer.from_ppal(loop, queries_per_hour=queries_per_hour)
        files.append(folder / f"model-{first}")
        scorer.save(files[-1])
        expected[scorer.model_id] = [scorer.decide(x).probability for x in X]
    assert len(expected) == 2
    bodies = [
        json.dumps({
            name: value if levels is None else levels[int(value)]
            for name, levels, value in zip(schema.names, schema.levels, row, strict=True) if value == value
        })
        for row in X.tolist()
    ]
    return Models(files, queries_per_hour, X, bodies, expected)


class Tally:
    """What one thread saw."""

    def __init__(self) -> None:
        self.histogram = np.zeros(len(EDGES), dtype=np.int64)
        self.sample = np.zeros(200_000)  # latencies for the percentiles: a ring
        self.n = self.mixed = self.asked = 0
        self.worst = 0.0

    def add(self, seconds: float) -> None:
        self.histogram[np.searchsorted(EDGES, seconds * 1e6)] += 1
        self.sample[self.n % len(self.sample)] = seconds
        self.n += 1
        self.worst = max(self.worst, seconds)


def through_belt(belt: Belt, m: Models, answered: bytearray, tally: Tally, items: range, rate: float | None) -> None:
    start = time.perf_counter()
    for k, item in enumerate(items):
        if rate is not None and (early := start + k / rate - time.perf_counter()) > 0:
            time.sleep(early)
        message = f'{{"item":{item},"cells":{m.bodies[item % N_BODIES]}}}'.encode()
        for _ in range(2 if item % REPEATED == 0 else 1):
            before = time.perf_counter()
            reply = belt.answer(message)
            tally.add(time.perf_counter() - before)
            if reply.message is not None:
                answered[item] += 1
                told = json.loads(reply.message)
                tally.mixed += told["item"] != item or told["probability"] != m.expected[told["model"]][item % N_BODIES]
                tally.asked += told["query"]
                belt.confirm(item)


def through_scorer(line: list[LineScorer], m: Models, answered: bytearray, tally: Tally, items: range) -> None:
    for item in items:
        scorer = line[0]
        before = time.perf_counter()
        decision = scorer.decide(m.X[item % N_BODIES])
        tally.add(time.perf_counter() - before)
        answered[item] += 1
        tally.mixed += decision.probability != m.expected[scorer.model_id][item % N_BODIES]
        tally.asked += decision.query


def soak(name: str, m: Models, n: int, work: Callable[..., None], swap: Callable[[LineScorer], None]) -> bool:
    """Four threads over n items, a model read from its file every few seconds; a part of the table."""
    answered = bytearray(n)
    tallies = [Tally() for _ in range(N_THREADS)]
    threads = [
        threading.Thread(target=work, args=(answered, tallies[t], range(t, n, N_THREADS))) for t in range(N_THREADS)
    ]
    start, swaps, memory = time.perf_counter(), 0, []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.5)
        memory.append(resident())
        if time.perf_counter() - start > (swaps + 1) * SWAP_EVERY:
            swaps += 1
            swap(LineScorer.load(m.files[swaps % 2]))
    seconds = time.perf_counter() - start
    counts = np.frombuffer(answered, dtype=np.uint8)
    lost, doubled = int((counts == 0).sum()), int((counts > 1).sum())
    mixed = sum(t.mixed for t in tallies)
    latencies = np.concatenate([t.sample[: t.n] for t in tallies]) * 1e6
    p50, p99, p999 = np.percentile(latencies, [50, 99, 99.9])
    third = max(len(memory) // 3, 1)
    print(f"\n{name}: {n:,} items in {seconds:.1f} s, {n / seconds:,.0f} a second, {N_THREADS} threads, {swaps} swaps")
    print(f"  lost {lost}, doubled {doubled}, mixed {mixed}")
    worst = max(t.worst for t in tallies) * 1e6
    print(f"  latency us: p50 {p50:.1f}, p99 {p99:.1f}, p99.9 {p999:.1f}, most {worst:,.0f}")
    middle, late = max(memory[third : 2 * third], default=0.0), max(memory[-third:])
    print(f"  memory MB, most: {middle:.1f} in the middle third, {late:.1f} in the last")
    asked = sum(t.asked for t in tallies)
    hourly = f"{3600 * asked / seconds:,.0f} an hour; target {m.queries_per_hour:,.0f}"
    print(f"  queries: {asked} in {seconds:.0f} s, {hourly}")
    total = np.sum([t.histogram for t in tallies], axis=0)
    below = [f"<{edge:g}: {count:,}" for edge, count in zip(EDGES, total.tolist(), strict=True) if count]
    print("  histogram us  " + "  ".join(below), flush=True)
    return lost + doubled + mixed == 0


def resident() -> float:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=1_000.0, help="items a second of the paced run")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the paced run")
    parser.add_argument("--queries-per-hour", type=float, default=3_600.0)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return 0 if run(Path(folder), told) else 1


def run(folder: Path, told: argparse.Namespace) -> bool:
    m = models(folder, told.queries_per_hour)
    line = [LineScorer.load(m.files[0])]

    def exchange(scorer: LineScorer) -> None:
        scorer.take_pace(line[0])
        line[0] = scorer

    good = soak("decide, full speed", m, told.items, lambda *rest: through_scorer(line, m, *rest), exchange)
    n_paced = int(told.rate * told.seconds)
    for name, n, rate in (("belt, full speed", told.items, None), ("belt, paced", n_paced, told.rate / N_THREADS)):
        path = folder / name
        Session.create(path, m.X, learner="class-mean").close()
        with Belt(LineScorer.load(m.files[0]), path) as belt:
            good &= soak(name, m, n, lambda *rest, belt=belt, rate=rate: through_belt(belt, m, *rest, rate), belt.swap)
            kept = len(Session(path).kept())
            print(f"  kept for the expert: {kept} of {belt.counts['asked']} asked", flush=True)
            good &= kept == belt.counts["asked"]
    return good


if __name__ == "__main__":
    raise SystemExit(main())
