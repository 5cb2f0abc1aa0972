"""What every search shares: a clock that says when to stop, a pool of the best states, and threads that take runs."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SLICE = 0.5e-3  # seconds of kernel time between two looks at the clock, the target and Python's signals


@dataclass
class Clock:
    """When to stop: at a deadline, once the target is met, or when someone asked."""

    time_limit: float | None
    started: float = field(default_factory=time.perf_counter)
    stopped: bool = False

    def over(self) -> bool:
        return self.stopped or (self.time_limit is not None and self.elapsed() >= self.time_limit)

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def slices(self, total: int) -> Iterator[tuple[int, int]]:
        """(first, last) pieces of ``total`` steps, each of about SLICE seconds, until the clock is over."""
        done, size = 0, 1
        while done < total and not self.over():
            began = time.perf_counter()
            yield done, min(total, done + size)
            done = min(total, done + size)
            size = 2 * size if time.perf_counter() - began < SLICE else max(1, size // 2)


class Pool:
    """The ``size`` best distinct states, ordered by energy and then by content; safe to use from threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.Lock()
        self.found: dict[bytes, float] = {}

    def offer(self, energy: float, state: Array) -> None:
        with self.lock:
            self.found[state.tobytes()] = energy
            if len(self.found) > 4 * self.size + 16:
                self.found = dict(self._best())

    def _best(self) -> list[tuple[bytes, float]]:
        return heapq.nsmallest(self.size, self.found.items(), key=lambda item: (item[1], item[0]))

    def unexplored(self) -> Iterator[tuple[Array, float]]:
        """Each of the best states once, with the energy that a neighbour must beat to be among them.

        Ends when all the best have been explored, or after four times their number.
        """
        explored: set[bytes] = set()
        while len(explored) < 4 * self.size and self.size > 1:
            best = self._best()
            fresh = [s for s, _ in best if s not in explored]
            if not fresh:
                return
            explored.add(fresh[0])
            yield np.frombuffer(fresh[0], np.int8), best[-1][1] if len(best) == self.size else np.inf

    def states(self) -> tuple[Array, Array]:
        """(m, n) int8 and (m,) energies, best first."""
        best = self._best()
        return np.array([np.frombuffer(s, np.int8) for s, _ in best]), np.array([e for _, e in best])


def run_all(jobs: Iterator[Callable[[], None]], clock: Clock, n_jobs: int) -> None:
    """Take jobs in order until none is left or the clock is over; the first job is always done.

    Ctrl-C stops the threads at their next slice and is raised here.
    """
    if n_jobs == 1:
        for job in jobs:
            job()
            if clock.over():
                break
        return
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            job()
            if clock.over():
                return

    with ThreadPoolExecutor(n_jobs) as threads:
        futures = [threads.submit(work) for _ in range(n_jobs)]
        try:
            while wait(futures, timeout=0.1).not_done:
                pass
        finally:
            clock.stopped = clock.stopped or any(not f.done() for f in futures)
        for future in futures:
            future.result()
