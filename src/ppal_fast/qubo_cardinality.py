"""Searching x'Qx with sum(x) = k: every run moves by swaps, so every state that it meets has exactly k ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .errors import InputError
from .kernels import swap
from .qubo_search import Clock, Pool, run_all

Array = NDArray[Any]
LARGEST = 20_000  # variables: the couplings are held dense in float32, 1.6 GB there
STARTS = 16  # descents of a run; between them a run's best set is perturbed
SLICE_WORK = 20_000_000  # coupling reads between two looks at the clock: a few milliseconds


class FixedCardinality:
    """x'Qx with 0 < k < n ones: float32 couplings for the kernels, the caller's Q in float64 for exact ends."""

    def __init__(self, Q: Any, k: int) -> None:
        self.n, self.k = Q.shape[0], k
        if self.n > LARGEST:
            raise InputError(f"Q has {self.n} variables; with a cardinality at most {LARGEST} are expected")
        self.Q = np.ascontiguousarray(Q.toarray() if sparse.issparse(Q) else Q)
        self.W = np.empty((self.n, self.n), np.float32)
        self.d, self.highest = np.empty(self.n, np.float32), np.empty(self.n, np.float32)
        swap.couplings_of(self.Q, self.W, self.d, self.highest)

    @property
    def moves_in_slice(self) -> int:
        return max(1, SLICE_WORK // (self.n * self.k))

    def state(self, members: Array) -> Array:
        x = np.zeros(self.n, np.int8)
        x[members] = 1
        return x

    def energy(self, members: Array) -> float:
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


def descents(problem: FixedCardinality, rng: Array, steps: int, clock: Clock) -> Iterator[Array]:
    """Local minima from ``steps`` sets."""
    members, champion = np.empty(problem.k, np.int32), np.empty(problem.k, np.int32)
    order, lowest = np.arange(problem.n, dtype=np.int32), np.inf
    for begin in range(steps):
        if begin and clock.over():
            break
        swap.first_set(problem.W, problem.d, begin, champion, members, order, rng)
        f, best = _descend(problem, members, rng, clock)
        if f < lowest:
            lowest, champion = f, best
        yield best


def tabu(problem: FixedCardinality, rng: Array, steps: int, clock: Clock) -> Iterator[Array]:
    """One long walk by the best swap that is not tabu."""
    members = _random_members(problem, rng)
    _, best = _descend(problem, members, rng, clock)
    yield best
    until = np.empty(problem.n, np.int32)
    best = np.empty_like(members)
    for done in range(0, steps, problem.moves_in_slice):
        if clock.over():
            return
        moves = min(problem.moves_in_slice, steps - done)
        swap.swap_search(problem.W, problem.d, problem.highest, members, best, until, rng, moves, True)
        yield best.copy()


def annealing(problem: FixedCardinality, rng: Array, steps: int, clock: Clock) -> Iterator[Array]:
    """Metropolis over random swaps, from twice the spread of the gradient down to a fiftieth of that."""
    members = _random_members(problem, rng)
    g, inside, best = np.empty(problem.n, np.float32), problem.state(members).view(np.uint8), members.copy()
    f = swap.gradient(problem.W, problem.d, members, g)
    energy = np.array([f, f])
    hot = 2.0 * float(g.std()) or 1.0
    temperatures = np.geomspace(hot, 0.02 * hot, steps).astype(np.float32)
    for first, last in clock.slices(steps):
        swap.swap_anneal(problem.W, problem.d, members, g, inside, energy, best, rng, temperatures[first:last])
    yield _descend(problem, best.copy(), rng, clock)[1]


def _random_members(problem: FixedCardinality, rng: Array) -> Array:
    members = np.empty(problem.k, np.int32)
    swap.first_set(problem.W, problem.d, 2, members, members, np.arange(problem.n, dtype=np.int32), rng)
    return members


def _descend(problem: FixedCardinality, members: Array, rng: Array, clock: Clock) -> tuple[float, Array]:
    best, until, moves = np.empty_like(members), np.empty(problem.n, np.int32), problem.moves_in_slice
    while True:
        f, made = swap.swap_search(problem.W, problem.d, problem.highest, members, best, until, rng, moves, False)
        if made < moves or clock.over():
            return f, best.copy()


Driver = Callable[[FixedCardinality, Array, int, Clock], Iterator[Array]]
DRIVERS: dict[str, tuple[Driver, Callable[[int], int]]] = {  # with the default number of steps from n
    "swap": (descents, lambda n: STARTS),
    "tabu": (tabu, lambda n: 10 * n),
    "annealing": (annealing, lambda n: 200),
}


def search_cardinality(
    problem: FixedCardinality, algorithm: str, pool: Pool, clock: Clock, *, seeds: np.random.SeedSequence,
    target: float | None, n_replicas: int | None, n_steps: int | None, n_jobs: int,
) -> None:
    """Fill the pool with polished local minima."""
    cycle = ("swap", "tabu", "annealing") if algorithm == "auto" else (algorithm,)
    if n_replicas is None and clock.time_limit is None:
        n_replicas = 6
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
