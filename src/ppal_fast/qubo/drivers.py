"""The drivers of a search: one run each, from a seed and the best states of its parents to the states it found.

Parameters come from the instance (size, row rms, spectrum) by plan.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import bifurcation, fields, forests, local_search, multispin, pairs, pieces
from .model import Model
from .plan import COLD, COLD_REPLICAS, COLDEST, ELITE, HOT, HOT_REPLICAS, IN_VAIN, Reheats, fall, is_balanced
from .running import Clock

Array = NDArray[Any]
Found = tuple[float, Array]
FORESTS = 8  # descents after a fall; one solves a tree or a chain


def annealing(
    model: Model, seed: int, sweeps: int, clock: Clock, target: float, parents: list[Array], reheats: Reheats,
) -> list[Found]:
    """A fall of the temperature, or reheats of the best state of the parents; on sparse couplings half of a fall's
    sweeps are reheats too. What kinds of reheat have gained most is tried most. A fall that has not come to rest at the
    end, as beside large penalties, goes on for an eighth of its sweeps to a quarter of the temperature, and again."""
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
        cold, before = COLD, np.inf
        while energy[0] < before and energy[1] > target and cold > COLDEST and not clock.over():
            before = energy[0]
            colder = np.geomspace(cold, cold / 4, max(4, sweeps // 8)) * model.row_rms
            _anneal(model, s, h, energy, best, rng, colder.astype(np.float32), clock, target)
            cold /= 4
        sweeps = left
        kept, kept_h, kept_energy = best.copy(), *model.start(best)
        for _ in range(FORESTS):
            kept_energy += _descend(model, kept, kept_h, rng, clock)
    all_sweeps = sweeps
    while sweeps > 0 and kept_energy > target and not clock.over():
        hot, length = reheats.choose(model, all_sweeps)
        s[:], h[:], energy[:], best[:] = kept, kept_h, kept_energy, kept
        hot *= generator.uniform(0.9, 1.1)
        temperatures = fall(model, hot, min(length, sweeps), min(COLD, hot / 7))
        _anneal(model, s, h, energy, best, rng, temperatures, clock, target)
        fields.descend(model.couplings, model.indptr, model.indices, s, h)
        _descend(model, s, h, rng, clock)
        before = kept_energy
        kept_energy = _keep(model, kept, kept_h, kept_energy, s)
        if energy[1] < kept_energy:
            kept_energy = _keep(model, kept, kept_h, kept_energy, best)
        sweeps -= len(temperatures)
        reheats.learn(before - kept_energy, len(temperatures))
    return _ends(model, kept, kept_h, np.full(2, kept_energy), kept)


def replicas(
    model: Model, seed: int, sweeps: int, clock: Clock, target: float, parents: list[Array], _reheats: Reheats,
) -> list[Found]:
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
        if len(kept) and clock.over():
            break
        elite = _elite(multispin.energies(bonds, indptr, state), state[:-1], clock)
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
            if losses > IN_VAIN * (1 + gains) or clock.over():
                break
        sweeps -= length
        if kept_energy <= target or clock.over():
            break
        elite[-1] = kept
        for first, last in clock.slices(model.n):
            words = np.packbits(elite[:, first:last] > 0, axis=0, bitorder="little").T.copy().view(np.uint64)
            state[first:last] = np.tile(words, multispin.REPLICAS // ELITE)
        length, hot = max(4, length // 2) if hot == HOT else length, HOT_REPLICAS * generator.uniform(0.9, 1.1)
    return _ends(model, kept, kept_h, np.full(2, kept_energy), kept)


def _elite(energies: Array, state: Array, clock: Clock) -> Array:
    """(ELITE, n) int8: the best distinct replicas, some again where there are fewer; not all when time is over."""
    words, found = np.ascontiguousarray(state.T), dict[bytes, Array]()
    for replica in np.argsort(energies, kind="stable"):
        spins = (words[replica // 64] >> np.uint64(replica % 64)).astype(np.int8) & np.int8(1)
        found.setdefault(spins.tobytes(), 2 * spins - 1)
        if len(found) == ELITE or clock.over():
            break
    best = np.array(list(found.values()))
    return best if clock.over() else best[np.arange(ELITE) % len(best)]


def _descend(model: Model, s: Array, h: Array, rng: Array, clock: Clock) -> float:
    """Below what single flips reach: by a random forest of sparse couplings, by the pairs of dense ones; the change."""
    if model.couplings.ndim == 1 and not clock.over():
        return forests.descend_forest(model.couplings, model.indptr, model.indices, s, h, rng)
    change = 0.0
    if model.couplings.ndim == 2:
        for first, last in clock.slices(model.n):
            change += pairs.descend_pairs(model.couplings, s, h, first, last)
    return change


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


def tabu(
    model: Model, seed: int, flips: int, clock: Clock, target: float, _parents: list[Array], _reheats: Reheats,
) -> list[Found]:
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


def ballistic(
    model: Model, seed: int, steps: int, clock: Clock, target: float, _parents: list[Array], _reheats: Reheats,
) -> list[Found]:
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


def discrete(
    model: Model, seed: int, steps: int, clock: Clock, target: float, _parents: list[Array], _reheats: Reheats,
) -> list[Found]:
    """One replica on the local fields."""
    generator = np.random.default_rng(seed)
    x, y = (generator.uniform(-0.1, 0.1, model.n).astype(np.float32) for _ in range(2))
    s = np.where(x >= 0, 1, -1).astype(np.int8)
    h, value = model.start(s)
    energy, best = np.array([value, value]), s.copy()
    pump = np.linspace(0, 1, steps, dtype=np.float32)
    if model.couplings.ndim == 3 and is_balanced(model):
        c, dt = 0.58 / model.row_rms, 1.1  # best of 0.5 - 0.62 and 1 - 1.1 on complete graphs of 2,000 random signs
    else:
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


Driver = Callable[[Model, int, int, Clock, float, list[Array], Reheats], list[Found]]
DRIVERS: dict[str, Driver] = {
    "annealing": annealing, "replicas": replicas, "tabu": tabu, "bsb": ballistic, "dsb": discrete,
}
