"""512 replicas side by side against one replica at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import sparse

from ppal_fast.kernels import multispin, reference
from ppal_fast.kernels.fields import below
from ppal_fast.kernels.local_search import EXPONENTIALS
from ppal_fast.kernels.multispin import MOST_BONDS
from ppal_fast.qubo.model import from_ising, from_qubo


def graph(rng: np.random.Generator, n: int, largest: int, hub: int) -> np.ndarray:
    """Whole symmetric couplings: about one other spin each, spin 0 to ``hub`` others, the last two to none."""
    J = rng.integers(-largest, largest + 1, (n, n)) * (rng.random((n, n)) < 1 / n)
    J[0, 1 : 1 + hub] = rng.choice((-1, 1), hub)
    J[-2:] = J[:, -2:] = 0
    return np.triu(J, 1) + np.triu(J, 1).T


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(40, 70), largest=st.integers(1, 3), biased=st.booleans())
def test_every_replica_anneals_as_if_it_were_alone(seed: int, n: int, largest: int, biased: bool) -> None:
    rng = np.random.default_rng(seed)
    J = graph(rng, n, largest, int(rng.integers(0, 30)))
    b = rng.integers(-2, 3, n) * biased
    model = from_ising(sparse.csr_array(J.astype(float)), b)
    if model.bonds is None:
        assert not (J.any() or b.any())
        return
    state = rng.integers(0, 2**64, (n + 1, multispin.WORDS), dtype=np.uint64)
    state[-1] = ~np.uint64(0)
    before = state.copy()
    temperatures = np.array([3.0, 0.7, 200.0, 1.5, 0.0], np.float32)
    counter = rng.integers(0, 2**63, 1, dtype=np.uint64)
    again = counter.copy()
    for part in (temperatures[:2], temperatures[2:]):
        multispin.anneal_replicas(*model.bonds, state, counter, EXPONENTIALS, part)
    places = [below(again, len(EXPONENTIALS) - multispin.WORDS) for _ in range(len(temperatures) * n)]
    energies = multispin.energies(*model.bonds, state)
    for replica in rng.choice(multispin.REPLICAS, 5, replace=False):
        word, bit = divmod(int(replica), 64)

        def spins(words: np.ndarray, word: int = word, bit: int = bit) -> np.ndarray:
            return 2 * (words[:-1, word] >> np.uint64(bit) & np.uint64(1)).astype(int) - 1

        e = np.empty((len(temperatures), n), np.float32)
        e[:, np.argsort(np.arange(n) % 2, kind="stable")] = EXPONENTIALS[np.array(places) + word].reshape(e.shape)
        alone = reference.annealed(J / model.unit, b / model.unit, spins(before), e, temperatures)
        assert_array_equal(spins(state), alone)
        assert energies[replica] * model.unit == reference.ising_energy(J, b, alone)


def test_replicas_of_a_word_end_as_far_apart_as_those_of_two() -> None:
    """They share their noise, and must not grow alike for that."""
    rng = np.random.default_rng(0)
    n = 400
    J = sparse.triu(sparse.random_array((n, n), density=0.02, random_state=rng), 1)
    J.data = rng.choice((-1.0, 1.0), J.nnz)
    model = from_ising(sparse.csr_array(J + J.T), None)
    assert model.bonds is not None
    state = rng.integers(0, 2**64, (n + 1, multispin.WORDS), dtype=np.uint64)
    temperatures = np.linspace(0.8, 0.1, 100, dtype=np.float32) * np.float32(model.row_rms)
    multispin.anneal_replicas(*model.bonds, state, np.ones(1, np.uint64), EXPONENTIALS, temperatures)
    s = 2.0 * np.unpackbits(state[:-1].view(np.uint8), axis=1, bitorder="little") - 1
    overlaps = np.abs(s.T @ s) / n
    same = np.arange(multispin.REPLICAS) // 64
    within = overlaps[(same[:, None] == same) & ~np.eye(len(same), dtype=bool)].mean()
    across = overlaps[same[:, None] != same].mean()
    assert 0.9 < within / across < 1.1


@pytest.mark.parametrize(("weight", "fits"), [(MOST_BONDS, True), (MOST_BONDS + 1, False), (0.5, True), (0.3, False)])
def test_bonds_are_counted_up_to_what_the_slices_hold(weight: float, fits: bool) -> None:
    J = np.zeros((30, 30))
    J[0, 1] = J[1, 0] = weight
    J[2, 3] = J[3, 2] = 1.0
    assert (from_ising(sparse.csr_array(J), None).bonds is not None) == fits


def test_dense_and_empty_problems_have_no_bonds() -> None:
    assert from_ising(np.ones((20, 20)) - np.eye(20), None).bonds is None
    assert from_qubo(sparse.csr_array((20, 20))).bonds is None
