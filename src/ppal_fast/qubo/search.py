"""How a QUBO is searched: which driver runs how long, with which parameters, on which thread, and when to stop.

A search is a sequence of runs, each with its own seed. Their lengths 1 1 2 1 1 2 4 ... are those of a binary tree, the
children first: a run of length 2 l comes after two of length l, and annealing then goes on from what these two found.
So the states found do not depend on how many threads share the runs. Parameters come from the instance (size, row rms,
spectrum).
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import bifurcation, fields, local_search, multispin, pieces
from .model import Model
from .plan import COLD_REPLICAS, ELITE, HOT, HOT_REPLICAS, IN_VAIN, Run, are_side_by_side, fall, reheats, runs

Array = NDArray[Any]
RUNS = 32  # where neither their number nor a time limit is given
SLICE = 0.5e-3  # seconds of kernel time between two looks at the clock, the target and Python's signals
FORGET = 0.95  # of what reheats of a length gained, for each further one
Found = tuple[float, Array]


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


def annealing(model: Model, seed: int, sweeps: int, clock: Clock, target: float, parents: list[Array]) -> list[Found]:
    """A fall of the temperature, or reheats of the best state of the parents; on sparse couplings half of a fall's
    sweeps are reheats too. What kinds of reheat have gained most is tried most."""
    generator = np.random.default_rng(seed)
    s, h, energy, best, rng = _random_start(model, generator)
    if parents:
        kept = parents[0].copy()
        kept_h, kept_energy = model.start(kept)
        for image in (parents[1], -parents[1]) * 2:  # where the biases are zero, its mirror image is as good
            kept_energy = _keep(model, kept, kept_h, kept_energy, image)
    else:
        left = sweeps // 2 if model.couplings.ndim == 1 else 0
        _anneal(model, s, h, energy, best, rng, fall(model, HOT, sweeps - left), clock, target)
        sweeps = left
        kept, kept_h, kept_energy = best.copy(), *model.start(best)
    hots, lengths = reheats(model, sweeps)
    gained, spent = np.zeros(len(lengths)), np.zeros(len(lengths))
    while sweeps > 0 and kept_energy > target and not clock.over():
        which = int(np.argmax((gained + model.row_rms) / (spent + lengths)))
        s[:], h[:], energy[:], best[:] = kept, kept_h, kept_energy, kept
        temperatures = fall(model, hots[which] * generator.uniform(0.9, 1.1), min(int(lengths[which]), sweeps))
        _anneal(model, s, h, energy, best, rng, temperatures, clock, target)
        fields.descend(model.couplings, model.indptr, model.indices, s, h)
        before = kept_energy
        kept_energy = _keep(model, kept, kept_h, kept_energy, s)
        if energy[1] < kept_energy:
            kept_energy = _keep(model, kept, kept_h, kept_energy, best)
        sweeps -= len(temperatures)
        gained[which] = FORGET * gained[which] + before - kept_energy
        spent[which] = FORGET * spent[which] + len(temperatures)
    return _ends(model, kept, kept_h, np.full(2, kept_energy), kept)


def replicas(model: Model, seed: int, sweeps: int, clock: Clock, target: float, parents: list[Array]) -> list[Found]:
    """512 falls side by side, a bit each, in an eighth of the sweeps. The best of them are crossed with the best state,
    and reheated, each twice; again and again, half as long."""
    generator = np.random.default_rng(seed)
    assert model.bonds is not None  # the plan has asked
    bonds, indptr = model.bonds
    state: Array = generator.integers(0, 2**64, (model.n + 1, multispin.WORDS), dtype=np.uint64)
    state[-1] = ~np.uint64(0)  # biases are couplings to it
    rng = generator.integers(0, 2**63, 1, dtype=np.uint64)
    length, hot = max(4, sweeps // 8), HOT
    kept, images = np.empty(0, np.int8), [image for parent in parents for image in (parent, -parent)]
    while sweeps > 0:
        temperatures = fall(model, hot, length, COLD_REPLICAS)
        temperatures[-3:] = 0
        for first, last in clock.slices(length):
            multispin.anneal_replicas(bonds, indptr, state, rng, local_search.EXPONENTIALS, temperatures[first:last])
        elite = _elite(multispin.energies(bonds, indptr, state), state[:-1])
        if not len(kept):
            kept = elite[0].copy()
            kept_h, kept_energy = model.start(kept)
            for image in images:
                kept_energy = _keep(model, kept, kept_h, kept_energy, image)
        gains = losses = 0
        for image in elite:
            before = kept_energy
            for mirrored in (image, -image):
                kept_energy = _keep(model, kept, kept_h, kept_energy, mirrored)
            gains, losses = gains + (kept_energy < before), losses + (kept_energy == before)
            if losses > IN_VAIN * (1 + gains):
                break
        sweeps -= length
        if kept_energy <= target or clock.over():
            break
        elite[-1] = kept
        words = np.packbits(elite > 0, axis=0, bitorder="little").T.copy().view(np.uint64)
        state[:-1] = np.tile(words, multispin.REPLICAS // ELITE)
        length, hot = max(4, length // 2) if hot == HOT else length, HOT_REPLICAS * generator.uniform(0.9, 1.1)
    return _ends(model, kept, kept_h, np.full(2, kept_energy), kept)


def _elite(energies: Array, state: Array) -> Array:
    """(ELITE, n) int8: the best distinct replicas; where there are fewer, some come again."""
    words, found = np.ascontiguousarray(state.T), dict[bytes, Array]()
    for replica in np.argsort(energies, kind="stable"):
        spins = (words[replica // 64] >> np.uint64(replica % 64)).astype(np.int8) & np.int8(1)
        found.setdefault(spins.tobytes(), 2 * spins - 1)
        if len(found) == ELITE:
            break
    return np.array(list(found.values()))[np.arange(ELITE) % len(found)]


def _keep(model: Model, kept: Array, kept_h: Array, kept_energy: float, other: Array) -> float:
    """What is no worse in ``other`` is kept: piece by piece on sparse couplings, all or nothing on dense ones; the
    energy then."""
    if model.couplings.ndim == 1:
        return kept_energy + pieces.keep_pieces(model.couplings, model.indptr, model.indices, kept, kept_h, other)
    h, energy = model.start(other)
    if energy > kept_energy:
        return kept_energy
    kept[:], kept_h[:] = other, h
    return energy


def _anneal(
    model: Model, s: Array, h: Array, energy: Array, best: Array, rng: Array, temperatures: Array, clock: Clock,
    target: float,
) -> None:
    for first, last in clock.slices(len(temperatures)):
        local_search.anneal(
            model.couplings, model.indptr, model.indices, s, h, energy, best, rng, local_search.EXPONENTIALS,
            temperatures[first:last], target,
        )
        if energy[1] <= target:
            break


def tabu(model: Model, seed: int, flips: int, clock: Clock, target: float, _parents: list[Array]) -> list[Found]:
    """Tenure n/100 + 10 (n/4 at most) as Glover, Lu, Hao 2010; a jump after 5 n flips without a new best."""
    generator = np.random.default_rng(seed)
    s, h, energy, best, rng = _random_start(model, generator)
    n = model.n
    until, counters = np.zeros(n, np.int32), np.zeros(2, np.int64)
    for first, last in clock.slices(min(flips, 2**31 - 2**10)):
        local_search.tabu_search(
            model.couplings, model.indptr, model.indices, s, h, energy, best, rng, until, counters,
            last - first, min(n // 100 + 10, n // 4), 5 * n + 100, target,
        )
        if energy[1] <= target:
            break
    return _ends(model, s, h, energy, best)


def ballistic(model: Model, seed: int, steps: int, clock: Clock, target: float, _parents: list[Array]) -> list[Found]:
    """LANES replicas; their signs are looked at sixteen times on the way, and the best of every lane is kept."""
    generator = np.random.default_rng(seed)
    J, indptr, indices, b = model.lanes
    shape = (len(b), bifurcation.LANES)
    X, Y = (generator.uniform(-1, 1, shape).astype(np.float32) for _ in range(2))
    F, S, lowest = np.empty_like(X), np.empty_like(X), np.full(bifurcation.LANES, np.inf)
    best = np.where(X[: model.n].T >= 0, 1, -1).astype(np.int8)
    pump = np.linspace(0, 1, steps, dtype=np.float32)
    c, dt = _forces(model, float(bifurcation.SPREAD.max()))
    strengths = np.float32(c) * bifurcation.SPREAD
    look = max(1, steps // 16)
    for k in range(steps):  # a step is the slice: at n = 2000 it takes some milliseconds
        if clock.over() or lowest.min() <= target:
            break
        bifurcation.lanes(J, indptr, indices, b, X, Y, F, S, pump[k : k + 1], dt, strengths, False, 0.0, 0.0)
        if (k + 1) % look == 0 or k + 1 == steps:
            bifurcation.lane_energies(J, indptr, indices, b, X, F, S, lowest, best)
    found = []
    for state in best:
        h, _ = model.start(state)
        found += _ends(model, state, h, np.zeros(2), state)
    return found


def discrete(model: Model, seed: int, steps: int, clock: Clock, target: float, _parents: list[Array]) -> list[Found]:
    """One replica on the local fields."""
    generator = np.random.default_rng(seed)
    x, y = (generator.uniform(-0.1, 0.1, model.n).astype(np.float32) for _ in range(2))
    s = np.where(x >= 0, 1, -1).astype(np.int8)
    h, value = model.start(s)
    energy, best = np.array([value, value]), s.copy()
    pump = np.linspace(0, 1, steps, dtype=np.float32)
    c, dt = _forces(model, 1.0)
    for first, last in clock.slices(steps):
        bifurcation.discrete(
            model.couplings, model.indptr, model.indices, model.b, s, h, x, y, energy, best, pump[first:last], dt, c,
            target,
        )
        if energy[1] <= target:
            break
    return _ends(model, s, h, energy, best)


def _forces(model: Model, strongest: float) -> tuple[float, float]:
    """Coupling scale c = 0.5 / row rms as Goto et al. 2021, and the time step. The fastest mode of a ballistic replica
    has frequency sqrt(1 + c radius); dt times that must stay below 2 or the step diverges."""
    c = 0.5 / model.row_rms
    return c, min(1.0, 1.5 / float(np.sqrt(1.0 + strongest * c * model.radius)))


def _random_start(model: Model, generator: np.random.Generator) -> tuple[Array, Array, Array, Array, Array]:
    s = (2 * generator.integers(0, 2, model.n, dtype=np.int8) - 1).astype(np.int8)
    h, value = model.start(s)
    rng = generator.integers(0, 2**63, 1, dtype=np.uint64)
    return s, h, np.array([value, value]), s.copy(), rng


def _ends(model: Model, s: Array, h: Array, energy: Array, best: Array) -> list[Found]:
    """The last state and the best one seen, both polished."""
    ends = [s] if energy[0] <= energy[1] else [s, best]
    found = []
    for state in ends:
        if state is best:
            h, _ = model.start(state)
        fields.descend(model.couplings, model.indptr, model.indices, state, h)
        state = model.polish(state)
        found.append((model.energy(state), state))
    return found


Driver = Callable[[Model, int, int, Clock, float, list[Array]], list[Found]]
DRIVERS: dict[str, Driver] = {
    "annealing": annealing, "replicas": replicas, "tabu": tabu, "bsb": ballistic, "dsb": discrete,
}


def search(
    model: Model, algorithm: str, pool: Pool, clock: Clock, *, seeds: np.random.SeedSequence, target: float | None,
    n_replicas: int | None, n_steps: int | None, n_jobs: int,
) -> None:
    """Fill the pool with what the runs find."""
    wanted = -np.inf
    if target is not None:  # in the kernels' units, with room for their rounding where they are not exact
        wanted = (target - model.offset) / model.unit
        wanted += 1e-9 if model.exact else 1e-6 * model.row_rms * model.n
    if n_replicas is None and clock.time_limit is None:
        n_replicas = RUNS * 4 if algorithm == "bsb" else RUNS
        if algorithm == "auto" and are_side_by_side(model):
            n_replicas = RUNS // 4

    def job(run: Run, seed: int, parents: list[Future[Array]], end: Future[Array]) -> None:
        try:
            states = [parent.result() for parent in parents]
            found = DRIVERS[run.driver](model, seed, run.steps, clock, wanted, states)
        except BaseException as error:
            end.set_exception(error)
            raise
        end.set_result(min(found, key=lambda item: item[0])[1])
        for energy, state in found:
            pool.offer(energy, state)
            if target is not None and energy <= target:
                clock.stopped = True

    def jobs() -> Iterator[Callable[[], None]]:
        base = int(seeds.generate_state(1, np.uint64)[0])
        trees: dict[int, list[Future[Array]]] = defaultdict(list)  # roots of what is not yet joined
        for r, run in enumerate(runs(model, algorithm, n_replicas, n_steps)):
            parents = [trees[run.tree].pop() for _ in range(2)] if run.level else []
            end: Future[Array] = Future()
            trees[run.tree].append(end)
            yield partial(job, run, (base + r) % 2**64, parents, end)

    run_all(jobs(), clock, n_jobs)


def add_flips(model: Model, pool: Pool) -> None:
    """Where several states are asked for, offer those one flip away from the best."""
    for state, limit in pool.unexplored():
        change = model.changes(state)
        energy = model.energy(state)
        for i in np.argsort(change)[: pool.size]:
            if energy + change[i] > limit:
                break
            neighbour = state.copy()
            neighbour[i] = -neighbour[i]
            pool.offer(model.energy(neighbour), neighbour)
