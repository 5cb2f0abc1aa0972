"""Moves of several spins at once, forests and pairs, against what they stand for."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import sparse

from ppal_fast.kernels import forests, local_search, pairs, reference
from ppal_fast.qubo import model as qubo_model


def _problem(rng: np.random.Generator, n: int, m: int, real: bool) -> tuple[Any, Any]:
    J = np.zeros((n, n))
    i, j = rng.integers(0, n, (2, m))
    J[i, j] = rng.normal(size=m) if real else rng.integers(-3, 4, m)
    return np.triu(J, 1) + np.triu(J, 1).T, rng.integers(-2, 3, n).astype(float)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(0, 70))
def test_a_random_forest_is_optimised_exactly(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    J, b = _problem(rng, 30, m, seed % 2 == 0)
    model = qubo_model.from_ising(sparse.csr_array(J), b)
    order, edge = np.empty(30, np.int32), np.empty(30, np.int32)
    state = rng.integers(0, 2**63, 1, dtype=np.uint64)
    forest = order[: forests.grow_forest(model.indptr, model.indices, state.copy(), order, edge)]
    joins = J[np.ix_(forest, forest)] != 0
    for place, i in enumerate(forest):  # it touches what came before once, its parent, and no root does
        before = forest[:place][joins[place, :place]]
        assert list(before) == ([model.indices[edge[i]]] if edge[i] >= 0 else [])
    outside = np.setdiff1d(np.arange(30), forest)
    assert (np.count_nonzero(J[np.ix_(outside, forest)], axis=1) > 1).all()  # no more fit

    s = rng.choice(np.array([-1, 1], np.int8), 30)
    free = forest[:12]  # all states of twelve of its spins, given the others as they end
    before_all = s.copy()
    h, energy = model.start(s)
    energy += forests.descend_forest(model.couplings, model.indptr, model.indices, s, h, state)
    assert (s == before_all)[outside].all()
    assert_allclose(energy * model.unit, reference.ising_energy(J, b, s), rtol=1e-5, atol=1e-5)
    assert_allclose(h * model.unit, reference.local_fields(J, b, s), rtol=1e-5, atol=1e-5)
    assert energy * model.unit <= reference.ising_energy(J, b, before_all) + 1e-5
    others = np.tile(s, (2 ** len(free), 1)).astype(float)
    others[:, free] = list(itertools.product((-1.0, 1.0), repeat=len(free)))
    assert energy * model.unit <= (others @ b + 0.5 * ((others @ J) * others).sum(axis=1)).min() + 1e-5


@pytest.mark.parametrize("scale", [1.0, 300.0, 0.1])
def test_dense_pairs_that_both_gain_are_flipped(scale: float, rng: np.random.Generator) -> None:
    J = np.rint(rng.normal(size=(40, 40)) * 9) * scale
    J = np.triu(J, 1) + np.triu(J, 1).T
    b = np.rint(rng.normal(size=40) * 9) * scale
    model = qubo_model.from_ising(J, b)
    s = rng.choice(np.array([-1, 1], np.int8), 40)
    h, energy = model.start(s)
    for _ in range(20):
        energy += sum(pairs.descend_pairs(model.couplings, s, h, first, first + 20) for first in (0, 20))
    assert_allclose(energy * model.unit, reference.ising_energy(J, b, s), rtol=1e-5)
    fields = reference.local_fields(J, b, s)
    rises = -2.0 * np.add.outer(s * fields, s * fields) + 4.0 * J * np.outer(s, s)
    assert rises[~np.eye(40, dtype=bool)].min() >= -1e-4 * scale


def test_pairs_of_neighbours_are_swept(rng: np.random.Generator) -> None:
    """At no temperature the energy falls until no pair that excludes each other gains; fields stay what they are."""
    J, b = _problem(rng, 60, 90, False)
    model = qubo_model.from_ising(sparse.csr_array(J), b)
    s = rng.choice(np.array([-1, 1], np.int8), 60)
    h, value = model.start(s)
    energy, state = np.array([value, value]), rng.integers(0, 2**63, 1, dtype=np.uint64)
    none = np.zeros_like(local_search.EXPONENTIALS)
    for _ in range(300):
        before = energy[0]
        pairs.sweep_pairs(model.couplings, model.indptr, model.indices, s, h, energy, state, none)
        assert energy[0] <= before
    assert energy[0] == model.start(s)[1]
    assert_allclose(h * model.unit, reference.local_fields(J, b, s))
    fields = reference.local_fields(J, b, s)
    rises = -2.0 * np.add.outer(s * fields, s * fields) + 4.0 * J * np.outer(s, s)
    assert rises[(J * np.outer(s, s)) < 0].min() >= 0
