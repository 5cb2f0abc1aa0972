"""Searching x'Qx with sum(x) = k: every run moves by swaps, so every state that it meets has exactly k ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..errors import InputError
from ..kernels import bifurcation, swap
from ..kernels.fields import HUGE
from ..kernels.walks import best_of_walks
from .running import Clock, Pool, run_all

Array = NDArray[Any]
LARGEST = 20_000  # variables: the couplings are held dense in float32, 1.6 GB there
RUNS = 6
# of a run; those of whose best set pairs are exchanged: fours missed the best of 5 of 72 problems of rank 1 to 6
# without a cardinality, eights of 14 in half the time
WALKS, TOGETHER = 48, 4
MOST_FOR_WALKS = 128  # variables
SLICE_WORK = 20_000_000  # coupling reads between two looks at the clock: a few milliseconds


class FixedCardinality:
    """x'Qx with 0 < k < n ones: float32 couplings for the kernels, the caller's Q in float64 for exact ends.

    W (m, m) and d (m,) are padded as kernels/swap.py wants them. Without a cardinality n idle variables join, and
    exactly n of the 2 n are one: the n real ones are then free.
    """

    def __init__(self, Q: Any, k: int | None) -> None:
        self.n_real = Q.shape[0]
        self.n: int = 2 * self.n_real if k is None else self.n_real
        self.k: int = self.n_real if k is None else k
        if self.n > LARGEST:
            raise InputError(f"Q has {self.n} variables; with a cardinality at most {LARGEST} are expected")
        self.Q = np.zeros((self.n, self.n))
        self.Q[: self.n_real, : self.n_real] = Q.toarray() if sparse.issparse(Q) else Q
        m = swap.padded(self.n)
        self.W, self.d = np.zeros((m, m), np.float32), np.full(m, HUGE)
        swap.couplings_of(self.Q, self.W, self.d)

    @cached_property
    def highest(self) -> Array:
        """(m,) the largest coupling of each variable."""
        rows: Array = self.W.max(axis=1)
        return rows

    @property
    def moves_in_slice(self) -> int:
        return max(1, SLICE_WORK // (self.n * self.k))

    def state(self, members: Array) -> Array:
        x = np.zeros(self.n, np.int8)
        x[members] = 1
        return x[: self.n_real]

    def members(self, state: Array) -> Array:
        """The chosen variables of a state, idle ones included."""
        ones = np.flatnonzero(state)
        return np.concatenate([ones, np.arange(self.n_real, self.n_real + self.k - len(ones))]).astype(np.int32)

    def energy(self, members: Array) -> float:
        members = np.sort(members)  # one order, one rounding
        return float(self.Q[np.ix_(members, members)].sum())

    def polish(self, members: Array) -> Array:
        """Best-swap descent in float64."""
        members = members.copy()
        for _ in range(4 * self.n):
            change, outside = self.swap_changes(members)
            q, j = np.unravel_index(int(np.argmin(change)), change.shape)
            if not change[q, j] < -1e-12 * float(np.abs(change).max()):
                break
            members[q] = outside[j]
        return members

    def swap_changes(self, members: Array) -> tuple[Array, Array]:
        """(k, n - k) what each swap adds to the energy, and the variables outside."""
        outside = np.setdiff1d(np.arange(self.n), members)
        half = self.Q[members].sum(axis=0) + self.Q[:, members].sum(axis=1)
        g = half + np.diag(self.Q)
        g[members] -= 2.0 * np.diag(self.Q)[members]
        between = self.Q[np.ix_(members, outside)] + self.Q[np.ix_(outside, members)].T
        return g[outside][None, :] - g[members][:, None] - between, outside


Driver = Callable[[FixedCardinality, Array, int, Clock], Iterator[Array]]


def walks(problem: FixedCardinality, rng: Array, steps: int, clock: Clock) -> Iterator[Array]:
    """The best sets of ``steps`` short walks by best swaps; where these are long, of a third as many descents."""
    if problem.n > MOST_FOR_WALKS:
        yield from descents(problem, rng, -(-steps // 3), clock)
        return
    for first in range(0, steps, TOGETHER):
        if first and clock.over():
            return
        best = np.empty(problem.k, np.int32)
        last = min(steps, first + TOGETHER)
        best_of_walks(
            problem.Q, 1.0, problem.W, None, problem.d, problem.n, first, last, steps + 1, True, rng, best
        )
        yield best


def descents(problem: FixedCardinality, rng: Array, steps: int, clock: Clock) -> Iterator[Array]:
    """Local minima from ``steps`` sets; between two random ones a perturbed best."""
    members, champion = np.empty(problem.k, np.int32), np.empty(problem.k, np.int32)
    order, lowest = np.arange(problem.n, dtype=np.int32), np.inf
    for begin in range(steps):
        if begin and clock.over():
            break
        swap.first_set(problem.W, problem.d, begin, champion, members, order, rng)
        f, best = _descend(problem, members, clock)
        if f < lowest:
            lowest, champion = f, best
        yield best


def tabu(problem: FixedCardinality, rng: Array, steps: int, clock: Clock) -> Iterator[Array]:
    """One long walk by the best swap that is not tabu."""
    members = _random_members(problem, rng)
    _, best = _descend(problem, members, clock)
    yield best
    until = np.empty(len(problem.d), np.int32)
    best = np.empty_like(members)
    for done in range(0, steps, problem.moves_in_slice):
        if clock.over():
            return
        moves = min(problem.moves_in_slice, steps - done)
        swap.swap_tabu(problem.W, problem.d, problem.highest, members, best, until, rng, moves)
        yield best.copy()


def annealing(problem: FixedCardinality, rng: Array, steps: int, clock: Clock) -> Iterator[Array]:
    """Metropolis over random swaps, from twice the spread of the gradient down to a fiftieth of that."""
    members = _random_members(problem, rng)
    g, inside, best = np.empty_like(problem.d), np.zeros(problem.n, np.uint8), members.copy()
    inside[members] = 1
    f = swap.gradient(problem.W, problem.d, members, g)
    energy = np.array([f, f])
    hot = 2.0 * float(g[: problem.n].std()) or 1.0
    temperatures = np.geomspace(hot, 0.02 * hot, steps).astype(np.float32)
    for first, last in clock.slices(steps):
        swap.swap_anneal(problem.W, problem.d, members, g, inside, energy, best, rng, temperatures[first:last])
    yield _descend(problem, best, clock)[1]


def _bifurcation(is_discrete: bool) -> Driver:
    """LANES replicas drawn to the right mean; the k highest positions of each then descend by swaps."""

    def run(problem: FixedCardinality, rng: Array, steps: int, clock: Clock) -> Iterator[Array]:
        n, k = problem.n, problem.k
        m = -(-n // bifurcation.PAD) * bifurcation.PAD
        J, b = np.zeros((m, m), np.float32), np.zeros(m, np.float32)
        J[:n, :n] = W = problem.W[:n, :n]
        field = 2.0 * problem.d[:n] + W.sum(axis=1)
        target = (2.0 * k - n) / n
        b[:n] = field - (field + target * W.sum(axis=1)).mean()  # no force on the mean at the wanted mean
        rms = float(np.sqrt((np.square(J).sum(axis=1) + np.square(b))[:n].mean())) or 1.0
        strengths = np.float32(0.5 / rms) * bifurcation.SPREAD
        dt = min(1.0, 1.5 / float(np.sqrt(2.0 + strengths.max() * np.abs(J).sum(axis=1).max())))
        generator = np.random.default_rng(int(rng[0]))
        X, Y = (generator.uniform(-1, 1, (m, bifurcation.LANES)).astype(np.float32) for _ in range(2))
        F, S, none = np.empty_like(X), np.empty_like(X), np.empty(0, np.int32)
        pump = np.linspace(0, 1, steps, dtype=np.float32)
        for t in range(steps):
            if clock.over():
                break
            bifurcation.lanes(J, none, none, b, X, Y, F, S, pump[t : t + 1], dt, strengths, is_discrete, target, 1.0)
        positions = X[:n] - 1e-3 * strengths * F[:n]  # among equal positions the lower field first
        for lane in range(bifurcation.LANES):
            members = np.argsort(-positions[:, lane], kind="stable")[:k].astype(np.int32)
            yield _descend(problem, members, clock)[1]
            if clock.over():
                return

    return run


def _random_members(problem: FixedCardinality, rng: Array) -> Array:
    members = np.empty(problem.k, np.int32)
    swap.random_set(np.arange(problem.n, dtype=np.int32), members, rng)
    return members


def _descend(problem: FixedCardinality, members: Array, clock: Clock) -> tuple[float, Array]:
    members, g, cost = members.copy(), np.empty_like(problem.d), np.empty_like(problem.d)
    while True:
        f, made = swap.swap_descend(problem.W, problem.d, members, g, cost, problem.moves_in_slice)
        if made < problem.moves_in_slice or clock.over():
            return f, members


DRIVERS: dict[str, tuple[Driver, Callable[[int], int]]] = {  # with the default number of steps from n
    "swap": (walks, lambda n: WALKS),
    "tabu": (tabu, lambda n: 10 * n),
    "annealing": (annealing, lambda n: 200),
    "bsb": (_bifurcation(False), lambda n: 100),
    "dsb": (_bifurcation(True), lambda n: 100),
}


def search_cardinality(
    problem: FixedCardinality, algorithm: str, pool: Pool, clock: Clock, *, seeds: np.random.SeedSequence,
    target: float | None, n_replicas: int | None, n_steps: int | None, n_jobs: int,
) -> None:
    """Fill the pool with polished local minima."""
    cycle = ("swap", "tabu", "annealing") if algorithm == "auto" else (algorithm,)
    if n_replicas is None and clock.time_limit is None:
        n_replicas = RUNS
    base = int(seeds.generate_state(1, np.uint64)[0])

    def job(r: int) -> Callable[[], None]:
        def run() -> None:
            driver, default = DRIVERS[cycle[r % len(cycle)]]
            rng = np.array([(base + r * 0x9E3779B97F4A7C15) % 2**64], np.uint64)
            for members in driver(problem, rng, n_steps or default(problem.n), clock):
                members = problem.polish(members)
                energy = problem.energy(members)
                pool.offer(energy, problem.state(members))
                if target is not None and energy <= target:
                    clock.stopped = True
                    return

        return run

    run_all((job(r) for r in (itertools.count() if n_replicas is None else range(n_replicas))), clock, n_jobs)


def add_neighbours(problem: FixedCardinality, pool: Pool) -> None:
    """Where several states are asked for, offer those one swap away from the best."""
    for state, limit in pool.unexplored():
        members = problem.members(state)
        energy = problem.energy(members)
        change, outside = problem.swap_changes(members)
        real = np.minimum(members[:, None], outside[None, :]) < problem.n_real  # not one idle variable for another
        positions = np.argsort(np.where(real, change, np.inf), axis=None)[: np.count_nonzero(real)]
        fresh: set[bytes] = set()
        for q, j in zip(*np.unravel_index(positions, change.shape), strict=True):
            if len(fresh) == pool.size or energy + change[q, j] > limit:
                break
            neighbour = members.copy()
            neighbour[q] = outside[j]
            pool.offer(problem.energy(neighbour), problem.state(neighbour))
            fresh.add(problem.state(neighbour).tobytes())
