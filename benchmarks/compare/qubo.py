"""Binary optimisation: simulated-bifurcation, dwave-samplers and openjij, each run as its documentation shows it.

Building a peer's model is not timed. Peers that know no cardinality get it as a penalty, which costs them some choices
of another size: those count as infeasible and are left out of the mean energy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Float, complete_ising, qubo_matrix
from benchmarks.compare.contest import Contestant, compete

Solve = Callable[[], NDArray[Any]]
N_SMALL, N_ITEMS, N_CHOSEN = 20, 50, 15
PENALTY = 800.0  # of 300, 500, 800, 1,200 and 2,500 the one that served the peers best


def main() -> None:
    _one("QUBO: n = 1,000, coefficients from -100 to 100 on a tenth of the pairs", qubo_matrix(1_000, 0.1))
    _one("Ising as QUBO: n = 2,000, couplings -1 and +1 on every pair", _qubo_of_ising(complete_ising(2_000)))
    _many(f"{N_SMALL} QUBOs: choose {N_CHOSEN} of {N_ITEMS}")


def _one(title: str, Q: Float) -> None:
    compete(
        title,
        [
            Contestant("ppal_fast, auto", lambda: _ours(Q, "auto")),
            Contestant("ppal_fast, dsb", lambda: _ours(Q, "dsb")),
            Contestant("ppal_fast, annealing", lambda: _ours(Q, "annealing")),
            Contestant("simulated-bifurcation", lambda: _bifurcation([Q]), ("simulated_bifurcation",)),
            Contestant("dwave-samplers annealing", lambda: _annealing([Q]), ("dwave",)),
            Contestant("dwave-samplers tabu", lambda: _tabu([Q]), ("dwave",)),
            Contestant("openjij annealing", lambda: _openjij([Q]), ("openjij",)),
        ],
        {"energy": lambda states: float(np.min(_energies(Q[None], states)))},
    )


def _many(title: str) -> None:
    Qs = np.stack([qubo_matrix(N_ITEMS, seed=seed) for seed in range(N_SMALL)])
    # (sum(x) - k)^2 without its constant
    penalised = list(Qs + PENALTY * (np.ones((N_ITEMS, N_ITEMS)) - 2 * N_CHOSEN * np.eye(N_ITEMS)))

    def feasible(states: NDArray[Any]) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = states.sum(axis=1) == N_CHOSEN
        return right

    def mean_energy(states: NDArray[Any]) -> float:
        found = _energies(Qs, states)[feasible(states)]
        return float(found.mean()) if found.size else float("nan")

    compete(
        title,
        [
            Contestant("ppal_fast, exact cardinality", lambda: _ours_many(Qs)),
            Contestant("simulated-bifurcation, penalty", lambda: _bifurcation(penalised), ("simulated_bifurcation",)),
            Contestant("dwave-samplers annealing, penalty", lambda: _annealing(penalised), ("dwave",)),
            Contestant("dwave-samplers tabu, penalty", lambda: _tabu(penalised), ("dwave",)),
            Contestant("openjij annealing, penalty", lambda: _openjij(penalised), ("openjij",)),
        ],
        {"mean energy": mean_energy, "infeasible %": lambda states: 100 - 100 * float(feasible(states).mean())},
    )


def _energies(Qs: Float, states: NDArray[Any]) -> Float:
    x = np.asarray(states, dtype=np.float64)
    found: Float = np.einsum("bi,bij,bj->b", x, np.broadcast_to(Qs, (len(x), *Qs.shape[1:])), x)
    return found


def _qubo_of_ising(J: Float) -> Float:
    """s = 2x - 1 turns s'Js/2 into x'Qx and a constant."""
    return 2 * (J - np.diag(J.sum(axis=1)))


def _ours(Q: Float, algorithm: str) -> Solve:
    from ppal_fast import solve_qubo

    return lambda: solve_qubo(Q, algorithm=algorithm, random_state=0).x[None]


def _ours_many(Qs: Float) -> Solve:
    from ppal_fast import solve_qubo_batch

    return lambda: solve_qubo_batch(Qs, cardinality=N_CHOSEN, random_state=0).x


def _bifurcation(Qs: list[Float]) -> Solve:
    import simulated_bifurcation
    import torch

    torch.manual_seed(0)
    tensors = [torch.as_tensor(Q, dtype=torch.float32) for Q in Qs]

    # a quarter of its default replicas and steps: with all of them the large problem takes it two minutes
    options: dict[str, Any] = {"agents": 32, "max_steps": 2_500, "mode": "discrete", "verbose": False}

    def solve(Q: Any) -> Any:
        state, _ = simulated_bifurcation.minimize(Q, domain="binary", **options)
        return state.numpy().round()

    return lambda: np.stack([solve(Q) for Q in tensors])


def _annealing(Qs: list[Float]) -> Solve:
    from dwave.samplers import SimulatedAnnealingSampler

    sampler = SimulatedAnnealingSampler()
    models = [_model(Q) for Q in Qs]
    return lambda: np.stack([_state(sampler.sample(model, num_reads=10, seed=0)) for model in models])


def _tabu(Qs: list[Float]) -> Solve:
    from dwave.samplers import TabuSampler

    sampler = TabuSampler()
    models = [_model(Q) for Q in Qs]
    return lambda: np.stack([_state(sampler.sample(model, num_reads=10, seed=0)) for model in models])


def _openjij(Qs: list[Float]) -> Solve:
    import openjij

    sampler = openjij.SASampler()
    models = [_model(Q) for Q in Qs]
    return lambda: np.stack([_state(sampler.sample(model, num_reads=10, seed=0)) for model in models])


def _model(Q: Float) -> Any:
    from dimod import BinaryQuadraticModel

    return BinaryQuadraticModel(Q, "BINARY")


def _state(samples: Any) -> NDArray[Any]:
    """The best sample, in the order of the variables."""
    best = samples.first.sample
    return np.array([best[i] for i in range(len(best))])
