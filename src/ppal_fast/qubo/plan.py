"""The plan of a QUBO search: which driver each run takes, how long it runs, and how annealing cools.

Everything comes from the instance: its size, its density and the norms of its rows.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import bifurcation
from .model import Model

Array = NDArray[Any]
# one-flip tabu looks at all n before every flip: ahead of annealing at n = 1000 (bqp), far behind at 2000 (K2000)
MOST_FOR_TABU = 1500
DEGREE_FOR_TABU = 8  # of sparse couplings: with 6 it often ends 5 % above annealing
TRIAL = 4  # runs, two of tabu, after which annealing goes on alone unless tabu leads
REHEAT = 64  # sweeps of the shortest reheat
MOST_LENGTHS = 10  # of reheats, each four times the one before
HOT = 0.8  # of the row rms: at 1 a mean-field spin glass freezes; above it sweeps are wasted
COLD, COLDEST = 0.05, 1e-6  # where a fall ends, and where it ends at last if it still goes down
# of the row rms. At the first three a good state of a spin glass is left in patches, but not as a whole; the others are
# for small weights beside large penalties or biases
HOT_AGAIN = np.array([0.5, 0.35, 0.7, 0.2, 0.1, 0.04, 0.015, 0.005])
HOPE = np.clip(HOT_AGAIN, 0.1, 0.35)  # of the row rms: what is expected of the first reheat of a kind
FORGET = 0.95  # of what reheats of a kind gained, for each further one
# 512 replicas side by side: random graphs of 1,000 to 5,000 spins, +-1 tori; smaller ones take milliseconds anyway
LEAST_SIDE_BY_SIDE = 500
HOT_REPLICAS, COLD_REPLICAS = 0.35, 0.1
ELITE = 256  # distinct replicas that are reheated
IN_VAIN = 8  # states without a gain after which no more are crossed
REPLICA_SWEEPS = 4000  # of the shortest run; an eighth is the fall
FIRST = 200  # sweeps of the ordinary run before them: easy targets need no more
DENSE_WORK, SPARSE_SWEEPS = 0.2, 1e8  # see ``sweeps_of``


@dataclass(frozen=True)
class Run:
    """``steps`` of a driver. One of level l > 0 goes on from two of level l - 1 of its driver, one of ALONE from none
    and none from it."""

    driver: str
    steps: int
    level: int


ALONE = -1


def runs(
    model: Model, algorithm: str, n_replicas: int | None, n_steps: int | None, leads: Callable[[str], bool],
) -> Iterator[Run]:
    """Endless where n_replicas is None. ``leads`` says of a driver whether the lowest energy so far is its own."""
    if algorithm == "bsb" and n_replicas is not None:
        n_replicas = -(-n_replicas // bifurcation.LANES)
    side_by_side = algorithm == "auto" and are_side_by_side(model)
    annealing = "replicas" if side_by_side else "annealing"
    signs = algorithm == "auto" and model.couplings.ndim == 3 and is_balanced(model)
    sparse = model.couplings.ndim == 1 and model.couplings.size < DEGREE_FOR_TABU * model.n
    trial = algorithm == "auto" and model.n <= MOST_FOR_TABU and not signs and not sparse
    if algorithm != "auto":
        cycle: tuple[str, ...] = (algorithm,)
    elif signs:
        cycle = ("dsb", annealing)
    else:
        cycle = ("tabu", annealing) if trial else (annealing,)
    most = max(100, int(SPARSE_SWEEPS / model.n))
    unit = {"tabu": 20 * model.n, "annealing": sweeps_of(model), "dsb": max(100, model.n // 5), "bsb": 200,
            "replicas": min(REPLICA_SWEEPS, most)}
    trees = {driver: levels() for driver in cycle}
    if side_by_side:
        yield Run("annealing", n_steps or min(FIRST, most), ALONE)
    for r in itertools.count() if n_replicas is None else range(n_replicas - side_by_side):
        if trial and r == TRIAL and not leads("tabu"):
            cycle = (annealing,)
        driver = cycle[r % len(cycle)]
        if signs and driver == "dsb":  # they do not go on from each other; longer ones end no lower
            yield Run("dsb", n_steps or (model.n if r else max(100, model.n // 3)), ALONE)
        else:
            level = next(trees[driver])
            yield Run(driver, n_steps or unit[driver] << level, level)


def levels() -> Iterator[int]:
    """0 0 0 1 0 0 1 0 2 ...: those of a binary tree, the children first. With a run of 2^level units each level takes
    the same time, so that lengths are within a constant of the best fixed one (Luby, Sinclair, Zuckerman 1993). Another
    leaf comes between the last child and its parent: a second thread has work meanwhile."""
    waiting: deque[int] = deque()
    for leaf in itertools.count(1):
        yield 0
        if waiting:
            yield waiting.popleft()
        waiting.extend(range(1, (leaf & -leaf).bit_length()))


def are_side_by_side(model: Model) -> bool:
    """Whether "auto" anneals 512 replicas at once."""
    return model.n >= LEAST_SIDE_BY_SIDE and model.bonds is not None


def is_balanced(model: Model) -> bool:
    """Whether the mean coupling adds no more to the spectrum of J than random signs have, +-2 row rms."""
    return abs(float(model.h_up.mean()) - float(model.b.mean())) <= 2.0 * model.row_rms


def sweeps_of(model: Model) -> int:
    """Sweeps of the shortest annealing: n/6, and up to 20 times that where sparse rows make them cheap, as long as
    that is at most SPARSE_SWEEPS tests of a spin, less than half a second."""
    density = model.couplings.size / model.n**2 if model.couplings.ndim == 1 else 1.0
    cheaper = min(max(DENSE_WORK / max(density, 1e-9), 1.0), 20.0)
    return int(max(100, min(model.n / 6 * cheaper, SPARSE_SWEEPS / model.n)))


def fall(model: Model, hot: float, sweeps: int, cold: float = COLD) -> Array:
    """The temperature of each sweep, float32: from ``hot`` times the row rms linearly to ``cold`` of it, or
    geometrically where some rows are so weak that they freeze below that."""
    first, last = hot * model.row_rms, min(cold * model.row_rms, 2 * cold * model.row_low)
    steep = last < 0.02 * first
    return (np.geomspace if steep else np.linspace)(first, last, sweeps).astype(np.float32)


class Reheats:
    """What each kind of reheat, a temperature and a length, has gained, in this run and in those it goes on from.

    The longest take a sixteenth of a run's sweeps; on dense couplings, where all of a reheat is kept or nothing, the
    shortest have n/8 sweeps, the longest half of the run.
    """

    def __init__(self, parents: Sequence[Reheats] = ()) -> None:
        self.gained, self.spent = (np.zeros((MOST_LENGTHS, len(HOT_AGAIN))) for _ in range(2))
        for parent in parents:
            self.gained += parent.gained
            self.spent += parent.spent
        self.kind = 0, 0

    def choose(self, model: Model, sweeps: int) -> tuple[float, int]:
        """(hot, length) of the reheat that promises the highest gain a sweep; kinds not tried yet promise much."""
        shortest, share = (REHEAT, 16) if model.couplings.ndim == 1 else (max(REHEAT, model.n // 8), 2)
        lengths = shortest * 4 ** np.arange(MOST_LENGTHS)[:, None]
        promise = (self.gained + model.row_rms * HOPE) / (self.spent + lengths)
        promise[1:][lengths[1:, 0] * share > sweeps] = 0
        length, hot = divmod(int(np.argmax(promise)), len(HOT_AGAIN))
        self.kind = length, hot
        return float(HOT_AGAIN[hot]), int(lengths[length, 0])

    def learn(self, gain: float, sweeps: int) -> None:
        """What the reheat just chosen gained."""
        self.gained[self.kind] = FORGET * self.gained[self.kind] + gain
        self.spent[self.kind] = FORGET * self.spent[self.kind] + sweeps
