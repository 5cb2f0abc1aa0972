"""Pieces of a change, and 64 tests as one mask, against what they stand for."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from ppal_fast.kernels import _accepts, fields, pieces, reference
from ppal_fast.kernels._jit import jit
from ppal_fast.qubo import model as qubo_model


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(25, 40))
def test_the_best_mixture_of_two_states_is_kept(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    J = np.zeros((n, n))
    i, j = rng.integers(0, n, (2, n))
    J[i, j] = rng.integers(-3, 4, n)
    J = np.triu(J, 1) + np.triu(J, 1).T
    b = rng.integers(-2, 3, n).astype(float)
    model = qubo_model.from_ising(sparse.csr_array(J), b)
    assert model.couplings.ndim == 1
    s = rng.choice(np.array([-1, 1], np.int8), n)
    other = np.where(rng.random(n) < 0.3, -s, s).astype(np.int8)
    differ = np.flatnonzero(s != other)
    count, label = connected_components(J[np.ix_(differ, differ)] != 0, directed=False)
    mixtures = []
    for taken in itertools.product((False, True), repeat=min(count, 10)):
        mixture = s.copy()
        mixture[differ[np.isin(label, np.flatnonzero(taken))]] *= -1
        mixtures.append(reference.ising_energy(J, b, mixture))
    kept = s.copy()
    h, energy = model.start(kept)
    energy += pieces.keep_pieces(model.couplings, model.indptr, model.indices, kept, h, other)
    assert_allclose(energy * model.unit, reference.ising_energy(J, b, kept))
    assert_allclose(h * model.unit, reference.local_fields(J, b, kept))
    assert energy * model.unit <= min(mixtures)
    assert count > 10 or energy * model.unit == min(mixtures)
    assert ((kept == s) | (kept == other)).all()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_a_mask_holds_the_tests(dtype: Any, rng: np.random.Generator) -> None:
    @jit()
    def mask(s: Any, h: Any, limits: Any, first: int, at: int) -> Any:
        passed = _accepts.accepts(s, h, limits, first, at)
        return passed, _accepts.lowest(passed)

    s = rng.choice(np.array([-1, 1], np.int8), 100)
    h, limits = rng.integers(-5, 6, 100).astype(dtype), rng.integers(-5, 6, 300).astype(dtype)
    for first, at in ((0, 0), (3, 17), (36, 236)):
        passed, lowest = mask(s, h, limits, first, at)
        wanted = (s * h)[first : first + 64] >= limits[at : at + 64]
        assert_array_equal([(int(passed) >> q) & 1 for q in range(64)], wanted)
        assert lowest == np.argmax(wanted)


@pytest.mark.parametrize("n", [8, 24, 80])
def test_one_byte_makes_a_matrix_unsymmetric(n: int, rng: np.random.Generator) -> None:
    C = rng.integers(-128, 128, (n, n)).astype(np.int8)
    C = np.triu(C) + np.triu(C, 1).T
    assert fields.is_symmetric_bytes(C)
    for i, j in itertools.permutations(range(0, n, max(1, n // 24)), 2):
        C[i, j] ^= 4
        assert not fields.is_symmetric_bytes(C)
        C[i, j] ^= 4
