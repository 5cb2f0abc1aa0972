"""Proving a minimum of x'Qx: convex relaxations of what is left at every depth, and branch and bound on them.

For zeros and ones x_i^2 = x_i, so u may be added to the diagonal of the couplings and u/2 taken off the linear terms
without changing any energy. Where A = W + diag(u) is positive definite on sum(y) = 0, the minimum over all real y of
the right sum is a bound, in closed form. It is concave in u, and its best u gives the semidefinite bound of the problem
(Billionnet, Elloumi, Plateau 2009, doi:10.1016/j.dam.2007.12.007). Below the root the gradients g of the nodes vary
with what was decided; there u maximises the expected bound, for g of covariance G.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import branch_bound
from .cardinality import FixedCardinality
from .running import Clock

Array = NDArray[Any]
# of the barrier at the end, in units of the width of the spectrum: it costs up to n times that of the root's bound; at
# 1e-3 problems of low rank, whose width is that of a few directions, took a hundred times as long or were not proved
SPREAD = 1e-5
ROOT_STEPS, STEPS = 60, 6  # Newton steps; at the root a dozen or two are taken
RENEWED = 4  # u is fitted anew at every fourth depth; every second took longer for the same number of nodes
TABLE_ENTRIES = 20_000_000  # of the bound's table: 160 MB
NODES_IN_SLICE = 2_000  # a few milliseconds at n = 50


def prove_minimum(problem: FixedCardinality, members: Array, clock: Clock) -> tuple[Array, float, bool]:
    """Branch and bound from a good set: (best set, lower bound of the minimum, proved).

    Until the clock is over. Proved means to within 1e-10 of the sum of all magnitudes of Q, which float64 needs.
    """
    n, k = problem.n_real, None if problem.n > problem.n_real else problem.k
    scale = float(np.abs(problem.Q).max()) or 1.0
    Q = problem.Q[:n, :n] / scale
    W, d = Q + Q.T, Q.diagonal().copy()
    np.fill_diagonal(W, 0.0)
    upper, tolerance = problem.energy(members) / scale, 1e-10 * float(np.abs(Q).sum())
    pending, x = _search(W, d, k, upper, tolerance, clock)
    if x is not None:
        found = problem.members(x)
        if problem.energy(found) < problem.energy(members):
            members = found
    energy, proved = problem.energy(members), pending == np.inf
    return members, energy if proved else min(scale * (pending - tolerance), energy), proved


def _search(
    W: Array, d: Array, k: int | None, upper: float, tolerance: float, clock: Clock
) -> tuple[float, Array | None]:
    """The lowest bound of what is left to search, infinite when nothing is; and a state below ``upper``, if one is."""
    n = len(d)
    if clock.over():
        return float(0.5 * np.minimum(W, 0.0).sum() + np.minimum(d, 0.0).sum()), None
    eigenvalues = np.linalg.eigvalsh(W)
    width = float(eigenvalues[-1] - eigenvalues[0] + np.abs(d).max()) or 1.0
    root = tighten(
        Relaxation.of(W, d, k, np.full(n, 0.1 * width - eigenvalues[0])), width, SPREAD * width, ROOT_STEPS, clock,
        upper - tolerance,
    )
    spare = 2.0 * (upper - tolerance - root.value) * root.P.diagonal()
    no_one, no_zero = (1.0 - root.y) ** 2 >= spare, root.y**2 >= spare
    if root.value >= upper - tolerance or (no_one & no_zero).any():
        return np.inf, None
    x = no_zero.astype(np.int8)
    rest = np.flatnonzero(~(no_one | no_zero))
    rest = rest[np.argsort(-np.linalg.norm(W[rest], axis=1), kind="stable")]  # strong couplings first
    start = float(d @ x + 0.5 * x @ W @ x)
    gradient = (d + W @ x)[rest]
    left = None if k is None else k - int(x.sum())
    if left is not None and not 0 <= left <= len(rest):
        return np.inf, None
    if len(rest) == 0 or left in (0, len(rest)):
        x[rest] = 0 if not left else 1
        return np.inf, x if float(d @ x + 0.5 * x @ W @ x) < upper - tolerance else None
    at = np.ix_(rest, rest)
    tree = _Tree(np.ascontiguousarray(W[at]), gradient, left, start, upper, root.value, tolerance)
    if not tree.tabulate(root.u[rest], np.clip(root.y[rest], 0.0, 1.0), SPREAD * width, clock):
        return root.value, None
    pending = tree.search(clock)
    x[rest] = tree.best
    return pending, x if tree.best_f[0] < upper else None


@dataclass(frozen=True)
class Relaxation:
    """min y'Ay/2 + b'y over sum(y) = r (all y where r is None), A = W + diag(u), b = g - u/2: ``value``, at ``y``.

    P (m, m): the inverse of A on sum(y) = 0. log_det of A there.
    """

    W: Array
    g: Array
    r: float | None
    u: Array
    value: float
    y: Array
    P: Array
    log_det: float

    @classmethod
    def of(cls, W: Array, g: Array, r: float | None, u: Array) -> Relaxation:
        """Raises LinAlgError where A is not positive definite."""
        m = len(u)
        A, b = W + np.diag(u), g - 0.5 * u
        Z = np.eye(m) if r is None else _plane(m)
        factor = np.linalg.cholesky(Z.T @ A @ Z)
        F = Z @ np.linalg.inv(factor).T
        P, centre = F @ F.T, np.full(m, 0.0 if r is None else r / m)
        v = A @ centre + b
        y = centre - P @ v
        value = float(0.5 * centre @ A @ centre + b @ centre - 0.5 * v @ P @ v)
        return cls(W, g, r, u, value, y, P, 2.0 * float(np.log(factor.diagonal()).sum()))


def _plane(m: int) -> Array:
    """(m, m - 1) an orthonormal basis of sum(y) = 0 (Helmert)."""
    i, j = np.arange(m)[:, None], np.arange(1, m)
    return np.where(i < j, 1.0, np.where(i == j, -j, 0.0)) / np.sqrt(j * (j + 1.0))


def tighten(
    now: Relaxation, mu: float, mu_end: float, steps: int, clock: Clock, enough: float = np.inf, G: Array | None = None
) -> Relaxation:
    """Newton steps on u that maximise value - tr(PG)/2 + mu log det A, mu falling to ``mu_end``.

    Ends after ``steps``, once the value is ``enough``, or when the clock is over: every relaxation met is a bound.
    """
    covariance = np.zeros_like(now.W) if G is None else G

    def merit(one: Relaxation) -> float:
        return one.value + mu * one.log_det - 0.5 * float((one.P * covariance).sum())

    for _ in range(steps):
        if now.value >= enough or clock.over():
            break
        spread = now.P @ covariance @ now.P
        slope = 0.5 * (now.y**2 - now.y + spread.diagonal()) + mu * now.P.diagonal()
        curvature = now.P * (np.outer(now.y - 0.5, now.y - 0.5) + mu * now.P + spread)
        curvature[np.diag_indices_from(curvature)] *= 1.0 + 1e-12
        step = np.linalg.solve(curvature, slope)
        gain = float(slope @ step)
        for halvings in range(20):
            try:
                later = Relaxation.of(now.W, now.g, now.r, now.u + 0.5**halvings * step)
            except np.linalg.LinAlgError:
                continue
            if merit(later) >= merit(now):
                now = later
                break
        else:
            gain = 0.0  # lost in rounding
        if gain < 0.5 * mu:  # near the maximum for this mu
            if mu <= mu_end:
                break
            mu = max(0.2 * mu, mu_end)
    return now


class _Tree:
    """The search below the root, with its tables; see kernels/branch_bound.py."""

    def __init__(
        self, W: Array, d: Array, k: int | None, start: float, upper: float, lower: float, tolerance: float
    ) -> None:
        self.W, self.d, self.k, self.tolerance = W, d, k, tolerance
        n = self.n = len(d)
        self.stride = 1 + n**3 // TABLE_ENTRIES
        levels = -(-n // self.stride)
        self.P, self.rows, self.half = np.zeros((levels, n, n)), np.zeros((levels, n)), np.zeros((levels, n))
        self.total = np.zeros(levels)
        self.best_f, self.best, self.x = np.array([upper]), np.zeros(n, np.int8), np.zeros(n, np.int8)
        self.g, self.forced = np.empty((n + 1, n)), np.full((n + 1, n), -1, np.int8)
        self.g[0] = d
        self.f, self.bound = np.full(n + 1, start), np.full(n + 1, lower)
        self.left, self.tried = np.full(n + 1, k or 0), np.zeros(n + 1, np.int64)

    def tabulate(self, u: Array, y: Array, mu: float, clock: Clock) -> bool:
        """Fill the tables, from u and y of the root; False when the clock is over."""
        for t, s in enumerate(range(0, self.n, self.stride)):
            m = self.n - s
            if m == 1 and self.k is not None:
                break  # decided by the sum
            W = np.ascontiguousarray(self.W[s:, s:])
            r = None if self.k is None else float(np.clip(self.k - y[:s].sum(), 1.0, m - 1.0))
            p = 0.5 if self.k is None else self.k / self.n
            now = Relaxation.of(W, self.d[s:] + self.W[s:, :s] @ y[:s], r, u[s:])
            if t % RENEWED == 0 and t > 0:
                G = p * (1.0 - p) * self.W[s:, :s] @ self.W[:s, s:]
                now = tighten(now, 20.0 * mu, mu, STEPS, clock, G=G)
                u = np.concatenate([u[:s], now.u])
            rows = W.sum(axis=1) + now.u
            self.P[t, s:, s:], self.rows[t, s:], self.half[t, s:], self.total[t] = now.P, rows, 0.5 * now.u, rows.sum()
            if clock.over():
                return False
        return True

    def search(self, clock: Clock) -> float:
        """The lowest bound of what is left to search, infinite when nothing is."""
        twin, level = _twins(self.W, self.d), 0
        while level >= 0 and not clock.over():
            level = branch_bound.branch(
                self.W, self.d, self.k is None, self.P, self.rows, self.total, self.half, self.stride, twin,
                self.tolerance, NODES_IN_SLICE, self.best_f, self.best, self.x, self.g, self.f, self.left, self.forced,
                self.bound, self.tried, level,
            )
        if level < 0:
            return np.inf
        unfinished = self.tried[: level + 1] < 2
        return float(self.bound[: level + 1][unfinished].min(initial=self.best_f[0]))


def _twins(W: Array, d: Array) -> Array:
    """(n,) the last earlier variable that could stand in for this one, -1 where there is none."""
    twin = np.full(len(d), -1, np.int64)
    for i, j in itertools.combinations(range(len(d)), 2):
        if d[i] == d[j]:
            differs = W[i] != W[j]
            differs[[i, j]] = False
            if not differs.any():
                twin[j] = i
    return twin
