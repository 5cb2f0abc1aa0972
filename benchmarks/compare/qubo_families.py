"""Binary optimisation over families of problems, without cardinality: how far above the best of all each solver ends.

Every solver has the same time and one thread. dwave annealing gets as many sweeps a read as
fit, at most its default of 1,000, and as many reads. What building a peer's model takes is not counted.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.common import Float, complete_ising, qubo_matrix

SECONDS, SEEDS, N = 0.1, 3, 600
Generator = np.random.Generator


def main() -> None:
    solvers: dict[str, Callable[[Float, int], Float]] = {"ppal_fast": _ours}
    if importlib.util.find_spec("dwave") is not None:
        solvers |= {"dwave annealing": _annealing, "dwave tabu": _tabu}
    print(f"\nQUBO families: n about {N}, {SECONDS} s each, mean gap to the best of all, % of its energy")
    print(f"  {'':34}" + "".join(f"{name:>18}" for name in solvers))
    for family, make in FAMILIES.items():
        Q = make(np.random.default_rng(0))
        _ours(Q, 0)  # compiles, or reads what was compiled
        found = {name: [float(x @ Q @ x) for x in (solve(Q, seed) for seed in range(SEEDS))]
                 for name, solve in solvers.items()}
        best = min(min(energies) for energies in found.values())
        gaps = (100 * (float(np.mean(energies)) - best) / abs(best) for energies in found.values())
        print(f"  {family:34}" + "".join(f"{gap:>18.3f}" for gap in gaps))


def _ising(J: Any) -> Float:
    """s = 2x - 1 turns s'Js/2 into x'Qx and a constant."""
    J = J.toarray() if sparse.issparse(J) else J
    return 2 * (J - np.diag(J.sum(axis=1)))


def _weighted(i: Any, j: Any, rng: Generator) -> Float:
    A = sparse.coo_array((rng.normal(size=len(i)) * (i != j), (i, j)), shape=(N, N)).tocsr()
    return _ising(A + A.T)


def _graph(rng: Generator) -> Float:
    return _weighted(rng.integers(0, N, 3 * N), rng.integers(0, N, 3 * N), rng)


def _grid(rng: Generator) -> Float:
    side = int(N**0.5)
    index = np.arange(side**2).reshape(side, side)
    ends = np.concatenate([np.roll(index, 1, axis).ravel() for axis in range(2)])
    return _weighted(np.tile(index.ravel(), 2), ends, rng)


def _scaled(rng: Generator) -> Float:
    scale = 10 ** rng.uniform(-1.5, 1.5, N)
    return _ising(np.outer(scale, scale) * complete_ising(N))


def _one_hot(rng: Generator) -> Float:
    """Labels of five for 120 nodes of a graph of degree six with normal weights; two labels or none cost 12."""
    nodes, labels = N // 5, 5
    Q = np.kron(np.eye(nodes), 12.0 * (np.ones((labels, labels)) - 2 * np.eye(labels)))
    for a, b in rng.integers(0, nodes, (3 * nodes, 2)):
        if a != b:
            Q[a * labels:(a + 1) * labels, b * labels:(b + 1) * labels] += rng.normal(size=(labels, labels))
    return Q


def _colouring(rng: Generator) -> Float:
    """Four colours for 150 nodes of degree nine; a clash costs half of what a node without a colour does."""
    edges = rng.integers(0, N // 4, (int(4.4 * N / 4), 2))
    edges = edges[edges[:, 0] != edges[:, 1]]
    clashes = np.zeros((N // 4, N // 4))
    clashes[edges[:, 0], edges[:, 1]] = 1
    return np.kron(np.eye(N // 4), 2.0 * (np.ones((4, 4)) - 2 * np.eye(4))) + np.kron(clashes, np.eye(4))


def _packing(rng: Generator) -> Float:
    """Sets of four out of N/2, worth up to 19; two that overlap cost 40."""
    members = np.zeros((N // 2, N))
    for column in members.T:
        column[rng.choice(N // 2, 4, replace=False)] = 1
    Q = 20.0 * (members.T @ members > 0)
    np.fill_diagonal(Q, -rng.integers(1, 20, N))
    return Q


def _low_rank(rng: Generator) -> Float:
    V = rng.normal(size=(3, N))
    return V.T @ V + np.diag(0.5 * rng.normal(size=N))


def _partition(rng: Generator) -> Float:
    a = rng.integers(1, 1_000, N).astype(np.float64)
    return _ising(np.outer(a, a) - np.diag(a * a))


FAMILIES: dict[str, Callable[[Generator], Float]] = {
    "whole numbers, dense": lambda _: qubo_matrix(N),
    "whole numbers, a tenth": lambda _: qubo_matrix(N, 0.1),
    "signs, dense": lambda _: _ising(complete_ising(N)),
    "normal weights, degree 6": _graph,
    "normal weights, grid": _grid,
    "signs, rows of scale 0.03 to 30": _scaled,
    "one of five labels, penalty": _one_hot,
    "four colours, penalty": _colouring,
    "set packing, penalty": _packing,
    "rank 3": _low_rank,
    "number partitioning": _partition,
}


def _ours(Q: Float, seed: int) -> Float:
    from ppal_fast import solve_qubo

    return solve_qubo(Q, time_limit=SECONDS, random_state=seed).x.astype(np.float64)


def _annealing(Q: Float, seed: int) -> Float:
    from dwave.samplers import SimulatedAnnealingSampler

    model, sampler = _model(Q), SimulatedAnnealingSampler()

    def sample(reads: int, sweeps: int) -> Any:
        return sampler.sample(model, num_reads=reads, num_sweeps=sweeps, seed=seed)

    times = []
    for sweeps in (10, 110):
        began = time.process_time()
        sample(1, sweeps)
        times.append(time.process_time() - began)
    fit = SECONDS / max((times[1] - times[0]) / 100, 1e-7)
    sweeps = int(min(1_000, max(10, fit)))
    return _state(sample(max(1, int(fit / sweeps)), sweeps))


def _tabu(Q: Float, seed: int) -> Float:
    from dwave.samplers import TabuSampler

    timeout = int(1_000 * SECONDS)
    return _state(TabuSampler().sample(_model(Q), num_reads=1, timeout=timeout, num_restarts=1_000_000, seed=seed))


def _model(Q: Float) -> Any:
    from dimod import BinaryQuadraticModel

    return BinaryQuadraticModel(Q, "BINARY")


def _state(samples: Any) -> Float:
    best = samples.first.sample
    return np.array([best[i] for i in range(len(best))], dtype=np.float64)
