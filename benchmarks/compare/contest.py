"""One contest: the same job done by ppal_fast and by each peer, in one process, run interleaved.

Every round runs each contestant once, starting with another one each time, so that a slow minute of the machine
hits all of them; the median over rounds is compared. The first, unmeasured run of each compiles and fills caches.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ROUNDS = 7
SECONDS = 20.0  # a contestant that has used this much sits out the rounds that remain


@dataclass(frozen=True)
class Contestant:
    """``prepare`` imports and sets up, and returns the function that is timed; ``needs`` are import names."""

    name: str
    prepare: Callable[[], Callable[[], Any]]
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def compete(title: str, contestants: list[Contestant], quality: dict[str, Callable[[Any], float]]) -> None:
    """Run the contest and print its table. The first contestant is ppal_fast; ratios are its rivals' time over its own.

    ``quality`` maps a column to a function of a contestant's result; lower is better in every such column.
    """
    runs, results, excuses = _prepare(contestants)
    times = _interleave(runs)
    ours = statistics.median(times[contestants[0].name]) if contestants[0].name in times else float("nan")
    print(f"\n{title}\n  {'':34}{'median':>12}{'ratio':>10}" + "".join(f"{column:>16}" for column in quality))
    for contestant in contestants:
        name = contestant.name
        if name in excuses:
            print(f"  {name:34}{excuses[name]}")
            continue
        median = statistics.median(times[name])
        columns = "".join(f"{measure(results[name]):16.6g}" for measure in quality.values())
        print(f"  {name:34}{_duration(median):>12}{median / ours:>10.2f}{columns}")


def _prepare(
    contestants: list[Contestant],
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any], dict[str, str]]:
    """The timed functions, the results of their first run, and why the others do not take part."""
    runs: dict[str, Callable[[], Any]] = {}
    results: dict[str, Any] = {}
    excuses: dict[str, str] = {}
    for contestant in contestants:
        if missing := contestant.missing():
            excuses[contestant.name] = f"absent ({', '.join(missing)} is not installed)"
            continue
        try:
            run = contestant.prepare()
            results[contestant.name] = run()
        except Exception as error:  # a peer that cannot do the job is a line of the table, not the end of it
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            excuses[contestant.name] = f"failed: {reason[:80]}"
            continue
        runs[contestant.name] = run
    return runs, results, excuses


def _interleave(runs: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(ROUNDS):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if sum(times[name]) < SECONDS:
                start = time.perf_counter()
                runs[name]()
                times[name].append(time.perf_counter() - start)
    return times


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"
