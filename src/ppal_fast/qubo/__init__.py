"""Quadratic unconstrained binary optimisation and its Ising form, with exact cardinality where it is asked for.

    solve_qubo(Q)                     minimise x'Qx, x in {0,1}^n
    solve_qubo(Q, cardinality=k)      the same with sum(x) = k, kept by swap moves, never by a penalty
    solve_qubo_batch(Qs)              thousands of small problems
    solve_ising(J, h)                 minimise h's + s'Js/2, s in {-1,+1}^n
    select_batch(gain, similarity, k) rows that are informative and unlike each other
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from .. import _validate
from ..errors import InputError
from ..kernels import bifurcation, local_search, swap, walks
from ..kernels.fields import HUGE, largest
from .cardinality import MOST_FOR_WALKS, FixedCardinality, add_neighbours, search_cardinality
from .model import Model, from_ising, from_qubo, square
from .proof import prove_minimum
from .running import Clock, Pool, run_all
from .search import RUNS, add_flips, search

Array = NDArray[Any]
# of a batch problem, see kernels/walks.py: of 20,000 fresh problems with 15 of 50 ones, two runs missed the best
# set of searches five times as long for four and five with normal couplings, for four and three with couplings +-1
MOST_WALKS, ENOUGH_WALKS = 300, 36
FREE_WALKS = 60, 10  # the same without a cardinality, after tabu searches
BATCH_WORK = 100_000  # couplings of the problems between two looks at the signals: milliseconds
ALGORITHMS = ("auto", "bsb", "dsb", "annealing", "tabu", "swap")


@dataclass(frozen=True)
class QUBOResult:
    """The best state found and the next best ones.

    x               (n,) int8, zeros and ones
    energy          its energy x'Qx: exact where Q is integral, float64 sums otherwise
    states          (m, n) int8 distinct, best first;  energies (m,)
    bound           a proved lower bound of the minimum (prove=True), or None
    proven_optimal  bound meets energy
    elapsed         seconds
    """

    states: NDArray[np.int8]
    energies: NDArray[np.float64]
    bound: float | None
    proven_optimal: bool
    elapsed: float

    @property
    def x(self) -> NDArray[np.int8]:
        return self.states[0]

    @property
    def energy(self) -> float:
        return float(self.energies[0])


class IsingResult(QUBOResult):
    """As QUBOResult with states of -1 and +1: ``s`` instead of ``x``."""

    @property
    def s(self) -> NDArray[np.int8]:
        return self.states[0]


@dataclass(frozen=True)
class QUBOBatchResult:
    """x (b, n) int8, energy (b,), elapsed in seconds for the whole batch."""

    x: NDArray[np.int8]
    energy: NDArray[np.float64]
    elapsed: float


def solve_qubo(
    Q: Any, *, cardinality: int | None = None, algorithm: str = "auto", n_replicas: int | None = None,
    n_steps: int | None = None, time_limit: float | None = None, target: float | None = None, n_solutions: int = 1,
    prove: bool = False, n_jobs: int = 1, random_state: Any = None,
) -> QUBOResult:
    """Minimise x'Qx over x in {0,1}^n, with sum(x) = cardinality where that is given.

    Q             (n, n) dense or scipy sparse, symmetric or not
    algorithm     "auto", "bsb", "dsb" (ballistic and discrete simulated bifurcation), "annealing", "tabu", "swap"
    n_replicas    independent runs; by default a few dozen, or as many as ``time_limit`` allows
    n_steps       steps of a run: sweeps, bifurcation steps, or flips (tabu); by default from n
    time_limit    seconds; the best state until then is returned
    target        stop as soon as an energy <= target is met
    n_solutions   this many distinct states, best first (fewer only where fewer exist)
    prove         branch and bound: exact for cardinality or for n up to about 50; without ``time_limit`` it runs
                  until it has proved the minimum, however long that takes
    n_jobs        threads; without time_limit and target the result does not depend on it

    Raises InputError for a Q that is not square, real and finite, and for arguments out of range.
    """
    matrix = square(Q, name="Q")
    n = matrix.shape[0]
    _check(algorithm, n_replicas, n_steps, time_limit, target, n_solutions, n_jobs)
    clock, pool, seeds = Clock(time_limit), Pool(n_solutions), _seeds(random_state)
    settings: dict[str, Any] = {
        "seeds": seeds, "target": target, "n_replicas": n_replicas, "n_steps": n_steps, "n_jobs": n_jobs,
    }
    if cardinality is not None:
        _validate.integer(0, n, cardinality=cardinality)
    if cardinality in (0, n) and cardinality is not None:
        state = np.full((1, n), int(cardinality > 0), np.int8)
        energy = float(matrix.sum()) if cardinality else 0.0
        return QUBOResult(state, np.array([energy]), energy if prove else None, prove, clock.elapsed())
    if prove and n_replicas is None:
        settings["n_replicas"] = RUNS  # the time is for the proof
    constrained = cardinality is not None or algorithm == "swap" or prove
    fixed = FixedCardinality(matrix, cardinality) if constrained else None
    if fixed is not None and (cardinality is not None or algorithm == "swap"):
        search_cardinality(fixed, algorithm, pool, clock, **settings)
        add_neighbours(fixed, pool)
        states, energies = pool.states()
    else:
        model = from_qubo(matrix)
        if algorithm == "auto" and n_replicas is None and n_steps is None and n <= MOST_FOR_WALKS // 2:
            _add_walks(matrix, model, pool, clock, seeds, target)
        search(model, algorithm, pool, clock, **settings)
        add_flips(model, pool)
        spins, energies = pool.states()
        states = model.values(spins)
    bound, proven = None, False
    if fixed is not None and prove:
        members, bound, proven = prove_minimum(fixed, fixed.members(states[0]), clock)
        state, energy = fixed.state(members), fixed.energy(members)
        if energy < energies[0]:
            states, energies = np.vstack([state[None], states[:-1]]), np.concatenate([[energy], energies[:-1]])
        bound = float(energies[0]) if proven else bound
    return QUBOResult(states, energies, bound, proven, clock.elapsed())


def solve_qubo_batch(
    Qs: ArrayLike, *, cardinality: int | None = None, algorithm: str = "auto", n_replicas: int | None = None,
    n_steps: int | None = None, n_jobs: int = 1, random_state: Any = None,
) -> QUBOBatchResult:
    """Minimise x'Qx for each Q of Qs (b, n, n): thousands of small problems in compiled loops.

    algorithm    "auto" (swap with a cardinality; without it tabu and, up to 128 variables, swap), "bsb" and "dsb" (32
                 replicas side by side), or any other of ``solve_qubo``, which is then called for each problem
    n_replicas   tabu: searches of each problem; swap: at most this many walks
    n_steps      flips of a tabu search, steps of a bifurcation
    The result does not depend on n_jobs. Raises InputError as ``solve_qubo`` does.
    """
    _check(algorithm, n_replicas, n_steps, None, None, 1, n_jobs)
    matrices = _stack(Qs)
    b, n = matrices.shape[:2]
    clock, seeds = Clock(None), _seeds(random_state).generate_state(b, np.uint64)
    x, energy = np.zeros((b, n), np.int8), np.zeros(b)
    if cardinality is not None:
        _validate.integer(0, n, cardinality=cardinality)
    walk_too = False
    if algorithm == "auto":
        algorithm = "tabu" if cardinality is None else "swap"
        walk_too = cardinality is None and n <= MOST_FOR_WALKS and n_replicas is None and n_steps is None
    k = cardinality if cardinality is not None and algorithm == "swap" and 0 < cardinality < n else 0
    compiled = k > 0 or (cardinality is None and algorithm in ("tabu", "bsb", "dsb"))
    pump = np.linspace(0, 1, n_steps or 100, dtype=np.float32)

    def solve(first: int, last: int) -> None:
        part, seed, out = matrices[first:last], seeds[first:last], x[first:last]
        if not compiled:
            for p in range(first, last):
                x[p] = solve_qubo(
                    matrices[p], cardinality=cardinality, algorithm=algorithm, n_replicas=n_replicas, n_steps=n_steps,
                    random_state=int(seeds[p]),
                ).x
        elif k > 0:
            chosen = np.empty((last - first, k), np.int32)
            walks.walk_batch(part, 0, n_replicas or MOST_WALKS, ENOUGH_WALKS, seed, chosen)
            np.put_along_axis(out, chosen, 1, axis=1)
        elif algorithm == "tabu":
            local_search.tabu_batch(part, n_replicas or 2, n_steps or 4 * n + 50, seed, out)
        else:
            bifurcation.bifurcation_batch(part, pump, bifurcation.SPREAD, algorithm == "dsb", seed, out)
        energy[first:last] = _energies(part, out)
        if walk_too:
            chosen, others = np.empty((last - first, n), np.int32), np.zeros((last - first, 2 * n), np.int8)
            walks.walk_batch(part, n, *FREE_WALKS, seed, chosen)
            np.put_along_axis(others, chosen, 1, axis=1)
            values = _energies(part, others[:, :n])
            better = values < energy[first:last]
            out[better], energy[first:last][better] = others[better, :n], values[better]

    size = max(1, BATCH_WORK // n**2)
    run_all((partial(solve, first, min(b, first + size)) for first in range(0, b, size)), clock, n_jobs)
    return QUBOBatchResult(x, energy, clock.elapsed())


def solve_ising(
    J: Any, h: ArrayLike | None = None, *, algorithm: str = "auto", n_replicas: int | None = None,
    n_steps: int | None = None, time_limit: float | None = None, target: float | None = None, n_solutions: int = 1,
    n_jobs: int = 1, random_state: Any = None,
) -> IsingResult:
    """Minimise h's + s'Js/2 over s in {-1,+1}^n; J (n, n) symmetric with zero diagonal, dense or scipy sparse; h (n,).

    The other arguments are those of ``solve_qubo``. Raises InputError for a J that is not symmetric or has a diagonal.
    """
    _check(algorithm, n_replicas, n_steps, time_limit, target, n_solutions, n_jobs)
    clock, pool, model = Clock(time_limit), Pool(n_solutions), from_ising(J, h)
    search(model, algorithm, pool, clock, seeds=_seeds(random_state), target=target, n_replicas=n_replicas,
           n_steps=n_steps, n_jobs=n_jobs)
    add_flips(model, pool)
    states, energies = pool.states()
    return IsingResult(states, energies, None, False, clock.elapsed())


def select_batch(gain: ArrayLike, similarity: ArrayLike, k: int, *, random_state: Any = None) -> NDArray[np.intp]:
    """k rows of high gain and little likeness: maximise sum_i gain_i x_i - sum_{i<j} similarity_ij x_i x_j, sum(x) = k.

    gain        (m,) finite, of the pre-screened candidates (up to a few thousand)
    similarity  (m, m) finite; only the mean of (i, j) and (j, i) matters, the diagonal is ignored
    Returns (k,) positions, the highest gain first. A walk by swaps from a greedy set and seven from random ones.
    """
    value = _validate.vector(gain, name="gain")
    m = len(value)
    likeness = square(similarity, name="similarity")
    if likeness.shape != (m, m):
        raise InputError(f"similarity has shape {likeness.shape}; ({m}, {m}), as many as gain has, is expected")
    _validate.integer(0, m, k=k)
    chosen = np.arange(m) if k == m else np.empty(0, np.intp)
    if 0 < k < m:
        S = likeness.toarray() if sparse.issparse(likeness) else likeness
        scale = 1.0 / (max(largest(S.ravel()), largest(value)) or 1.0)
        size = swap.padded(m)
        W, ready, d = np.empty((size, size), np.float32), np.zeros(size, np.uint8), np.full(size, HUGE)
        d[:m] = -scale * value
        best, rng = np.empty(k, np.int32), _seeds(random_state).generate_state(1, np.uint64)
        walks.best_of_walks(S, 0.5 * scale, W, ready, d, m, 0, 8, 8, False, rng, best)
        chosen = best.astype(np.intp)
    return chosen[np.argsort(-value[chosen], kind="stable")]


def _add_walks(
    matrix: Any, model: Model, pool: Pool, clock: Clock, seeds: np.random.SeedSequence, target: float | None
) -> None:
    """Offer what walks find that may flip a variable or swap two: flips alone are too coarse for low rank."""
    found, fixed = Pool(pool.size), FixedCardinality(matrix, None)
    search_cardinality(
        fixed, "swap", found, clock, seeds=seeds, target=target, n_replicas=1, n_steps=None, n_jobs=1
    )
    for state in found.states()[0]:
        spins = model.polish(2 * state - 1)
        pool.offer(model.energy(spins), spins)


def _stack(Qs: Any) -> Array:
    """(b, n, n) float64; the first matrix that is not what it should be is named."""
    if isinstance(Qs, np.ndarray) and Qs.ndim == 3 and Qs.dtype.kind in "biuf" and Qs.shape[1] == Qs.shape[2] > 0:
        stack = np.ascontiguousarray(Qs, dtype=np.float64)
        if largest(stack.ravel()) < 1e300:
            return stack
    matrices = [square(Q, name=f"Qs[{p}]") for p, Q in enumerate(Qs)]
    shapes = sorted({Q.shape for Q in matrices})
    if len(shapes) != 1:
        raise InputError(f"Qs has matrices of shapes {shapes}; at least one matrix, all of one shape, is expected")
    return np.stack([Q.toarray() if sparse.issparse(Q) else Q for Q in matrices])


def _energies(Qs: Array, x: Array) -> Array:
    """(b,) x'Qx of each problem."""
    states = x.astype(np.float64)
    values: Array = np.einsum("bi,bi->b", (states[:, None, :] @ Qs)[:, 0, :], states)
    return values


def _check(
    algorithm: str, n_replicas: int | None, n_steps: int | None, time_limit: float | None, target: float | None,
    n_solutions: int, n_jobs: int,
) -> None:
    _validate.one_of(ALGORITHMS, algorithm=algorithm)
    _validate.integer(1, n_solutions=n_solutions, n_jobs=n_jobs)
    if n_replicas is not None:
        _validate.integer(1, n_replicas=n_replicas)
    if n_steps is not None:
        _validate.integer(1, n_steps=n_steps)
    if time_limit is not None:
        _validate.non_negative(time_limit=time_limit)
    if target is not None and not (isinstance(target, numbers.Real) and math.isfinite(target)):
        raise InputError(f"target was {target!r}; a finite energy is expected")


def _seeds(random_state: Any) -> np.random.SeedSequence:
    generator = _validate.random_generator(random_state)
    return np.random.SeedSequence(generator.integers(0, 2**32, 4).tolist())
