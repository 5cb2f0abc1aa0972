"""QUBO and Ising solvers: time to a target, gap in a fixed time, batches, proofs, preparation, growth with n."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from benchmarks.common import complete_ising, qubo_matrix
from ppal_fast import solve_ising, solve_qubo, solve_qubo_batch
from ppal_fast.qubo import select_batch

REPEATS = 5


class OneRun:
    """One run of fixed length: the cost of steps as n grows."""

    params = (["annealing", "tabu", "dsb", "bsb"], [0.02, 1.0], [100, 500, 2_000])
    param_names = ("algorithm", "density", "variables")

    def setup(self, algorithm: str, density: float, variables: int) -> None:
        self.Q = qubo_matrix(variables, density)
        self.run(algorithm)

    def run(self, algorithm: str) -> float:
        return solve_qubo(self.Q, algorithm=algorithm, n_replicas=1, n_steps=100, random_state=0).energy

    def time_solve(self, algorithm: str, density: float, variables: int) -> None:
        self.run(algorithm)

    def peakmem_solve(self, algorithm: str, density: float, variables: int) -> None:
        self.run(algorithm)


class FixedTime:
    """How far above the best of a long search a short one ends, in per cent (median of five seeds)."""

    params = (["auto", "annealing", "tabu", "dsb"], ["dense", "sparse", "complete"])
    param_names = ("algorithm", "family")
    SECONDS, LONG = 0.1, 2.0

    def setup(self, algorithm: str, family: str) -> None:
        n = 1_000
        self.Q = self.cut(n) if family == "complete" else qubo_matrix(n, 1.0 if family == "dense" else 0.02)
        self.best = solve_qubo(self.Q, time_limit=self.LONG, random_state=99).energy

    @staticmethod
    def cut(n: int) -> np.ndarray:
        """A complete max-cut graph as a QUBO: x'Qx = s'Js/8 up to a constant."""
        J = complete_ising(n)
        return J / 2 - np.diag(J.sum(axis=1) / 2)

    def track_gap_percent(self, algorithm: str, family: str) -> float:
        ends = [
            solve_qubo(self.Q, algorithm=algorithm, time_limit=self.SECONDS, random_state=seed).energy
            for seed in range(REPEATS)
        ]
        return max(0.0, 100 * (float(np.median(ends)) - self.best) / abs(self.best))


class TimeToTarget:
    """Seconds to 99 % of the ground state (-0.7632 n^1.5 s'Js/2, Parisi) of complete +-1 couplings, median of seeds."""

    params = (["auto", "annealing", "dsb"], [500, 1_000, 2_000])
    param_names = ("algorithm", "variables")
    timeout = 300

    def track_seconds(self, algorithm: str, variables: int) -> float:
        J = complete_ising(variables)
        target = -0.97 * 0.7632 * variables**1.5
        solve_ising(J, algorithm=algorithm, n_replicas=1, n_steps=1, random_state=0)
        return float(np.median([
            solve_ising(J, algorithm=algorithm, target=target, time_limit=10, random_state=seed).elapsed
            for seed in range(REPEATS)
        ]))


class SparseUnitCouplings:
    """Seconds to within 0.1 % of the best of a long search: +-1 couplings on random graphs and on a torus."""

    params = (["graph", "torus"],)
    param_names = ("family",)
    timeout = 300
    LONG, SIDE = 5.0, 60

    def track_seconds(self, family: str) -> float:
        rng = np.random.default_rng(0)
        n, each = (self.SIDE**2, 2) if family == "torus" else (2_000, 10)
        i = np.repeat(np.arange(n), each)
        j = rng.integers(0, n, len(i))
        if family == "torus":
            row, column = np.divmod(np.arange(n), self.SIDE)
            right = row * self.SIDE + (column + 1) % self.SIDE
            j = np.stack([right, (np.arange(n) + self.SIDE) % n], axis=1).ravel()
        signs = rng.choice((-1.0, 1.0), len(i)) * (i != j)
        J = sparse.csr_array((signs, (i, j)), shape=(n, n))
        J = J + J.T
        best = solve_ising(J, time_limit=self.LONG, random_state=99).energy
        return float(np.median([
            solve_ising(J, target=0.999 * best, time_limit=10, random_state=seed).elapsed for seed in range(REPEATS)
        ]))


class Batches:
    """1,000 problems of 50 variables: real couplings, with 15 ones and free."""

    params = (["tabu", "bsb", "dsb", "swap"],)
    param_names = ("algorithm",)

    def setup(self, algorithm: str) -> None:
        A = np.random.default_rng(0).normal(size=(1_000, 50, 50))
        self.Qs = A + A.transpose(0, 2, 1)
        self.settings = {"algorithm": algorithm, "cardinality": 15 if algorithm == "swap" else None, "random_state": 0}
        solve_qubo_batch(self.Qs[:2], **self.settings)

    def time_batch(self, algorithm: str) -> None:
        solve_qubo_batch(self.Qs, **self.settings)


class Missed:
    """Of 1,000 problems with couplings +-1, 15 of 50: those that one batch solves worse than a far longer one."""

    timeout = 300

    def track_missed(self) -> float:
        rng = np.random.default_rng(1)
        A = np.triu(rng.choice([-1.0, 1.0], (1_000, 50, 50)), 1)
        Qs = A + A.transpose(0, 2, 1)
        best = np.full(1_000, np.inf)
        for seed in range(20):
            best = np.minimum(best, solve_qubo_batch(Qs, cardinality=15, random_state=100 + seed).energy)
        return float(np.sum(solve_qubo_batch(Qs, cardinality=15, random_state=0).energy > best))


class Proofs:
    """Choosing a third of n: columns (relevances less correlations of a factor model), or couplings +-1."""

    params = ([20, 30, 50], ["columns", "signs"])
    param_names = ("variables", "family")

    def setup(self, variables: int, family: str) -> None:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(400, 5)) @ rng.normal(size=(5, variables)) + rng.normal(size=(400, variables))
        likeness = np.abs(np.corrcoef(X.T)) - np.eye(variables)
        self.Q = 3 * likeness / variables - np.diag(rng.random(variables))
        if family == "signs":
            self.Q = np.triu(rng.choice([-1.0, 1.0], (variables, variables)), 1)
        solve_qubo(self.Q, cardinality=variables // 3, prove=True, time_limit=5, random_state=0)

    def time_prove(self, variables: int, family: str) -> None:
        solve_qubo(self.Q, cardinality=variables // 3, prove=True, time_limit=60, random_state=0)


class QueryBatches:
    """20 rows out of pre-screened candidates."""

    params = ([200, 1_000, 2_000, 4_000],)
    param_names = ("candidates",)

    def setup(self, candidates: int) -> None:
        rng = np.random.default_rng(0)
        phi = rng.normal(size=(candidates, 10))
        self.gain, self.similarity = rng.random(candidates), np.abs(phi @ phi.T) / 10
        select_batch(self.gain[:50], self.similarity[:50, :50], 20, random_state=0)

    def time_select(self, candidates: int) -> None:
        select_batch(self.gain, self.similarity, 20, random_state=0)
