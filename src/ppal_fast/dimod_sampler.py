"""PPALSampler: the solvers behind dimod's sampler interface (extra [dimod])."""

from __future__ import annotations

from typing import Any

import dimod
import numpy as np
from scipy import sparse

from . import _validate
from .errors import InputError
from .qubo import solve_ising, solve_qubo


class PPALSampler(dimod.Sampler):
    """Samples of a dimod BinaryQuadraticModel: the ``num_reads`` lowest distinct states found, best first.

    Parameters: num_reads, algorithm, time_limit (s), seed; their meaning is that of ``solve_qubo``'s n_solutions,
    algorithm, time_limit and random_state.
    """

    @property
    def parameters(self) -> dict[str, list[str]]:
        return {"num_reads": [], "algorithm": [], "time_limit": [], "seed": []}

    @property
    def properties(self) -> dict[str, Any]:
        return {"algorithms": ["auto", "bsb", "dsb", "annealing", "tabu"]}

    def sample(
        self, bqm: dimod.BinaryQuadraticModel, num_reads: int = 1, algorithm: str = "auto",
        time_limit: float | None = None, seed: Any = None, **parameters: Any,
    ) -> dimod.SampleSet:
        """Raises InputError for arguments out of range; unknown ones warn, as dimod's samplers do."""
        self.remove_unknown_kwargs(**parameters)
        _validate.one_of(self.properties["algorithms"], algorithm=algorithm)
        _validate.integer(1, num_reads=num_reads)
        labels = list(bqm.variables)
        if not labels:
            return dimod.SampleSet.from_samples_bqm([{} for _ in range(num_reads)], bqm)
        linear, (row, column, weights), _ = bqm.to_numpy_vectors(variable_order=labels)
        n = len(labels)
        if not (np.isfinite(linear).all() and np.isfinite(weights).all()):
            raise InputError("bqm has NaN or infinite biases; finite numbers are expected")
        upper = sparse.coo_array((weights, (row, column)), shape=(n, n), dtype=np.float64).tocsr()
        settings: dict[str, Any] = {
            "n_solutions": num_reads, "algorithm": algorithm, "time_limit": time_limit, "random_state": seed,
        }
        if bqm.vartype is dimod.SPIN:
            states = solve_ising(upper + upper.T, np.asarray(linear), **settings).states
        else:
            states = solve_qubo(upper + sparse.diags_array(np.asarray(linear, dtype=np.float64)), **settings).states
        return dimod.SampleSet.from_samples_bqm((states, labels), bqm)
