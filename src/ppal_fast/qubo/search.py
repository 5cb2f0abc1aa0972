"""How a QUBO is searched: a sequence of runs, each with its own seed.

They form a binary tree, the children first: a run of length 2 l comes after two of length l, and annealing then goes on
from what these two found. So the states found do not depend on how many threads share the runs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .drivers import DRIVERS
from .model import Model
from .plan import ALONE, TRIAL, Reheats, Run, are_side_by_side, runs
from .running import Clock, Pool, run_all

Array = NDArray[Any]
RUNS = 32  # where neither their number nor a time limit is given
# independent meetings of the best state that end such a search sooner: with four or five of them none of 318 searches
# (53 families, n = 60 and 200) lost, with three of them three did
MEETINGS = 5


@dataclass(frozen=True)
class End:
    """What a run hands on: its best state, whether its parents' ends were worse, and what it knows of reheats."""

    driver: str
    energy: float
    state: Array
    anew: bool
    reheats: Reheats


def search(
    model: Model, algorithm: str, pool: Pool, clock: Clock, *, seeds: np.random.SeedSequence, target: float | None,
    n_replicas: int | None, n_steps: int | None, n_jobs: int,
) -> None:
    """Fill the pool with what the runs find."""
    wanted = -np.inf
    if target is not None:  # in the kernels' units, with room for their rounding where they are not exact
        wanted = (target - model.offset) / model.unit
        wanted += 1e-9 if model.exact else 1e-6 * model.row_rms * model.n
    settles = n_replicas is None and clock.time_limit is None and target is None and pool.size == 1
    if not model.couplings.size:  # nothing is coupled: the first descent ends at the minimum
        n_replicas, n_steps = 1, 1
    if n_replicas is None and clock.time_limit is None:
        n_replicas = RUNS * 4 if algorithm == "bsb" else RUNS
        if algorithm == "auto" and are_side_by_side(model):
            n_replicas = RUNS // 4

    def job(run: Run, seed: int, parents: list[Future[End]], end: Future[End]) -> None:
        try:
            before = [parent.result() for parent in parents]
            reheats = Reheats([parent.reheats for parent in before])
            states = [parent.state for parent in before]
            found = DRIVERS[run.driver](model, seed, run.steps, clock, wanted, states, reheats)
        except BaseException as error:
            end.set_exception(error)
            raise
        energy, state = min(found, key=lambda item: item[0])
        end.set_result(End(run.driver, energy, state, all(parent.energy > energy for parent in before), reheats))
        for energy, state in found:
            pool.offer(energy, state)
            if target is not None and energy <= target:
                clock.stopped = True

    def jobs() -> Iterator[Callable[[], None]]:
        base = int(seeds.generate_state(1, np.uint64)[0])
        unjoined: dict[tuple[str, int], list[Future[End]]] = defaultdict(list)
        begun: list[Future[End]] = []

        def leads(driver: str) -> bool:
            ends = [end.result() for end in begun]
            return min(end.energy for end in ends if end.driver == driver) == min(end.energy for end in ends)

        for r, run in enumerate(runs(model, algorithm, n_replicas, n_steps, leads)):
            # the last two need not have ended: another thread may be at work on them
            if settles and _is_settled(model, [end.result() for end in begun[: max(0, r - 2)]]):
                return
            children = unjoined[run.driver, run.level - 1]
            parents = [children.pop(0) for _ in range(2)] if run.level > 0 else []
            end: Future[End] = Future()
            if run.level != ALONE:
                unjoined[run.driver, run.level].append(end)
            if settles or r <= TRIAL:
                begun.append(end)
            yield partial(job, run, (base + r) % 2**64, parents, end)

    run_all(jobs(), clock, n_jobs)


def _is_settled(model: Model, ends: list[End]) -> bool:
    """Whether MEETINGS runs, none going on from another, ended in one best state, or in its mirror image."""
    best = min((end.energy for end in ends), default=0.0)
    mirrored = not model.b.any()
    met = Counter((end.state * (end.state[0] if mirrored else 1)).tobytes()
                  for end in ends if end.anew and end.energy == best)
    return max(met.values(), default=0) >= MEETINGS


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
