"""Proofs: every relaxation is a bound, and branch and bound finds what trying all states finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ppal_fast.kernels import reference
from ppal_fast.qubo import proof, solve_qubo
from ppal_fast.qubo.cardinality import FixedCardinality
from ppal_fast.qubo.running import Clock

seeds = st.integers(0, 2**32 - 1)


def problem(seed: int, n: int) -> np.ndarray:
    """Real, small whole (many ties), one large coefficient, or columns that repeat each other."""
    rng = np.random.default_rng(seed)
    Q = rng.normal(size=(n, n))
    kind = seed % 4
    if kind == 1:
        Q = rng.integers(-2, 3, (n, n)).astype(float)
    elif kind == 2:
        Q[0, -1] = 1e6
    elif kind == 3:
        V = rng.normal(size=(n, 2))
        Q = V @ V.T - np.diag(rng.random(n))
    return Q


def minimum(Q: np.ndarray, k: int | None) -> float:
    return float(reference.qubo_minimum(Q, k))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(2, 9), data=st.data())
def test_every_relaxation_is_a_bound(seed: int, n: int, data: Any) -> None:
    k = data.draw(st.one_of(st.none(), st.integers(1, n - 1)))
    Q = problem(seed, n)
    W, d = Q + Q.T, Q.diagonal().copy()
    np.fill_diagonal(W, 0.0)
    least, scale = minimum(Q, k), np.abs(Q).sum()
    first = proof.Relaxation.of(W, d, k, np.full(n, scale))
    tight = proof.tighten(first, scale, 1e-4 * scale, 60, Clock(None))
    assert first.value <= least + 1e-9 * scale and tight.value <= least + 1e-9 * scale
    assert k is None or abs(tight.y.sum() - k) < 1e-6


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(2, 10), data=st.data())
def test_proofs_from_any_start(seed: int, n: int, data: Any) -> None:
    renewed, stride = data.draw(st.sampled_from([(1, 1), (4, 1), (1, 3)]))
    k = data.draw(st.one_of(st.none(), st.integers(1, n - 1)))
    Q = problem(seed, n)
    fixed = FixedCardinality(Q, k)
    start = fixed.members(np.random.default_rng(seed).permutation(np.arange(n) < (k or 0)).astype(np.int8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "RENEWED", renewed)
        patch.setattr(proof, "TABLE_ENTRIES", n**3 // (stride - 1) if stride > 1 else 20_000_000)
        members, bound, proved = proof.prove_minimum(fixed, start, Clock(None))
    assert proved
    assert_allclose([fixed.energy(members), bound], minimum(Q, k), atol=1e-9 * np.abs(Q).sum())


@pytest.mark.parametrize("k", [None, 15])
def test_the_bound_at_the_root_is_tight_for_low_rank(k: int | None) -> None:
    rng = np.random.default_rng(5)
    V = rng.normal(size=(3, 50))
    W, d = 2.0 * V.T @ V, (V**2).sum(axis=0) + rng.normal(size=50)
    np.fill_diagonal(W, 0.0)
    fixed = FixedCardinality(0.5 * W + np.diag(d), k)
    energy = solve_qubo(fixed.Q[:50, :50], cardinality=k, random_state=0).energy
    width = np.ptp(np.linalg.eigvalsh(W))
    first = proof.Relaxation.of(W, d, k, np.full(50, width))
    bound = proof.tighten(first, width, proof.SPREAD * width, proof.ROOT_STEPS, Clock(None)).value
    assert bound <= energy and energy - bound < 0.05 * abs(energy)


def test_a_hard_problem_is_proved_and_found_from_a_poor_start() -> None:
    Q = np.random.default_rng(3).normal(size=(34, 34))
    found = solve_qubo(Q, cardinality=11, prove=True, random_state=0)
    assert found.proven_optimal
    fixed = FixedCardinality(Q, 11)
    members, _, proved = proof.prove_minimum(fixed, np.arange(11, dtype=np.int32), Clock(None))
    assert proved and fixed.energy(members) == pytest.approx(found.energy, rel=1e-9)


@pytest.mark.parametrize("time_limit", [0.0, 0.02, 0.3])
def test_whenever_it_is_cut_short_the_bound_is_true(time_limit: float) -> None:
    Q = np.random.default_rng(0).normal(size=(90, 90))
    found = solve_qubo(Q, cardinality=30, prove=True, time_limit=time_limit, random_state=0)
    assert not found.proven_optimal and found.bound is not None
    assert found.bound < solve_qubo(Q, cardinality=30, time_limit=0.2, random_state=1).energy
