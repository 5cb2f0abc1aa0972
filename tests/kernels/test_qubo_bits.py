"""Couplings of one bit against their twins: packing, symmetry, fields, energies, and the moves of every driver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from qubo_moves import move_with_every_driver

from ppal_fast import solve_ising, solve_qubo
from ppal_fast.errors import InputError
from ppal_fast.kernels import bifurcation, bits, local_search, reference
from ppal_fast.qubo import model as qubo_model

NONE = np.empty(0, np.int32)
VALUES = st.sampled_from([(-1, 1), (0, 1), (-1, 0)])
SIZES = st.one_of(st.integers(64, 140), st.sampled_from([512, 513, 575, 576, 640]))


def two_valued(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    J = np.triu(rng.choice((low, high), (n, n)), 1)
    return np.asarray(J + J.T)


def packed(J: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray, bool]:
    n = len(J)
    found, counts = np.full((n, -(-n // bits.CHUNK), bits.WORDS), 7, np.uint64), np.empty(n, np.int64)
    return found, counts, bits.pack_bits(J, J.dtype.type(low), J.dtype.type(high), found, counts)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=SIZES, values=VALUES, dtype=st.sampled_from([np.int8, np.float64]))
def test_packing(seed: int, n: int, values: tuple[int, int], dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    J = two_valued(rng, n, *values).astype(dtype)
    found, counts, is_right = packed(J, *values)
    assert is_right
    as_bytes = np.unpackbits(found.reshape(n, -1).view(np.uint8), axis=1, bitorder="little")
    high = np.equal(J, values[1]) & ~np.eye(n, dtype=bool)
    assert_array_equal(as_bytes[:, :n], high)
    assert not as_bytes[:, n:].any()
    assert_array_equal(counts, high.sum(axis=1))
    assert bits.are_symmetric(found)
    i, j = rng.choice(n, 2, replace=False)
    found[i, j // bits.CHUNK, j % bits.CHUNK // 64] ^= np.uint64(1) << np.uint64(j % 64)
    assert not bits.are_symmetric(found)
    for column, value in ((j, 2), (i, 1)):
        wrong = J.copy()
        wrong[i, column] = value
        assert not packed(wrong, *values)[2]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=SIZES, values=VALUES, count=st.integers(1, 40), data=st.data())
def test_fields_follow_flips(seed: int, n: int, values: tuple[int, int], count: int, data: Any) -> None:
    rng = np.random.default_rng(seed)
    J = two_valued(rng, n, *values)
    C, of_bits = packed(J, *values)[0], 2 * np.array(values, np.int32)
    s = rng.choice(np.array([-1, 1], np.int8), n)
    h = (J @ s).astype(np.int16)
    flipped = rng.choice(n, count, replace=False).astype(np.int32)
    first = 64 * data.draw(st.integers(0, n // 64))
    last = data.draw(st.sampled_from([n, *range(first, n, 64)]))
    inside = (np.arange(n) >= first) & (np.arange(n) < last)
    for rows in (flipped, flipped[:1]):
        before = h.copy()
        s[rows] *= -1
        bits.add_bit_rows(C, of_bits, h, rows, s, first, last)
        wanted = before + 2 * J[:, rows] @ s[rows]
        assert_array_equal(h, np.where(inside, wanted, before))
    i = int(flipped[0])
    for up in (True, False):
        before = h.copy()
        bits.add_bit_row(C, of_bits, h, i, up, first, last)
        assert_array_equal(h, np.where(inside, before + (2 if up else -2) * J[i], before))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(128, 200), values=VALUES, unit=st.sampled_from([1.0, 0.25, 3.0]))
def test_fields_and_energy_follow_every_driver(seed: int, n: int, values: tuple[int, int], unit: float) -> None:
    rng = np.random.default_rng(seed)
    J, b = two_valued(rng, n, *values), rng.integers(-9, 10, n).astype(float)
    model = qubo_model.from_ising(unit * J, unit * b)
    assert model.couplings.ndim == 3
    assert model.unit == unit
    s = rng.choice(np.array([-1, 1], np.int8), n)

    def agree(h: np.ndarray, now: float) -> None:
        assert_array_equal(h, J @ s + b)
        assert now == 0.5 * s @ J @ s + b @ s

    assert_allclose(model.energy(s), reference.ising_energy(unit * J, unit * b, s), rtol=1e-12)
    h, best, lowest = move_with_every_driver(model, s, seed, rng, agree)
    assert lowest == 0.5 * best @ J @ best + b @ best
    assert (s * h <= 0).all(), "a flip would still improve"


@pytest.mark.parametrize("n", [128, 300])
def test_bits_and_bytes_take_the_same_path(n: int, rng: np.random.Generator) -> None:
    """Annealing and bifurcation visit the same states whether couplings are held in bits or in int8."""
    J = two_valued(rng, n, -1, 1)
    model = qubo_model.from_ising(J, None)
    ends: list[list[np.ndarray]] = []
    for couplings in ((model.couplings, model.indptr, model.indices), ((2 * J).astype(np.int8), NONE, NONE)):
        s = np.ones(n, np.int8)
        h, energy = model.h_up.copy(), np.full(2, J.sum() / 2)
        best, state = s.copy(), np.array([5], np.uint64)
        temperatures = np.linspace(0.8 * np.sqrt(n), 1, 30).astype(np.float32)
        local_search.anneal(*couplings, s, h, energy, best, state, local_search.EXPONENTIALS, temperatures, -np.inf)
        annealed = s.copy()
        x, y = np.linspace(0.1, -0.1, n, dtype=np.float32), np.zeros(n, np.float32)
        pump = np.linspace(0, 1, 50, dtype=np.float32)
        bifurcation.discrete(*couplings, model.b, s, h, x, y, energy, best, pump, 1.0, 0.5 / np.sqrt(n), -np.inf)
        ends.append([annealed, s, best, energy])
    for one, other in zip(*ends, strict=True):
        assert_array_equal(one, other)


def test_a_qubo_of_two_values_keeps_its_energies(rng: np.random.Generator) -> None:
    for low, high in ((-1.0, 1.0), (0.0, 2.5)):
        Q = two_valued(rng, 150, low, high) + np.diag(high * rng.integers(-5, 6, 150))
        model = qubo_model.from_qubo(Q)
        assert model.couplings.ndim == 3
        s = rng.choice(np.array([-1, 1], np.int8), 150)
        assert_allclose(model.energy(s), reference.qubo_energy(Q, (s + 1) // 2), rtol=1e-12)
        found = solve_qubo(Q, n_replicas=2, random_state=0)
        assert_allclose(found.energy, reference.qubo_energy(Q, found.x), rtol=1e-12)


@pytest.mark.parametrize("algorithm", ["auto", "bsb", "dsb", "annealing", "tabu"])
def test_a_planted_state_is_found(algorithm: str, rng: np.random.Generator) -> None:
    """One pair in ten is frustrated: far too few to hide the planted state."""
    planted = rng.choice([-1.0, 1.0], 160)
    noise = np.triu(np.where(rng.random((160, 160)) < 0.1, -1.0, 1.0), 1)
    J = -np.outer(planted, planted) * (noise + noise.T)
    found = solve_ising(J, algorithm=algorithm, n_replicas=8, random_state=0)
    assert found.energy == reference.ising_energy(J, np.zeros(160), planted)
    assert abs(found.s @ planted) == 160


@pytest.mark.parametrize("name", ["one fraction", "wide biases", "real biases", "few ones"])
def test_what_bits_cannot_hold_is_held_otherwise(name: str, rng: np.random.Generator) -> None:
    J, b = two_valued(rng, 150, -1, 1), np.zeros(150)
    if name == "one fraction":
        J[3, 5] = J[5, 3] = 0.5
    elif name == "wide biases":
        b[0] = 40_000
    elif name == "real biases":
        b = rng.normal(size=150)
    else:
        J = np.abs(J) * (rng.random((150, 150)) < 0.02)
        J = np.triu(J) + np.triu(J).T
    model = qubo_model.from_ising(J, b)
    assert model.couplings.ndim != 3
    s = rng.choice(np.array([-1, 1], np.int8), 150)
    assert_allclose(model.energy(s), reference.ising_energy(J, b, s), rtol=1e-6)


@pytest.mark.parametrize(("place", "words"), [((3, 3), "diagonal"), ((3, 4), "not symmetric")])
def test_bad_couplings_of_two_values_are_named(
    place: tuple[int, int], words: str, rng: np.random.Generator
) -> None:
    J = two_valued(rng, 150, -1, 1)
    J[place] = -J[place] or 1.0
    with pytest.raises(InputError, match=words):
        solve_ising(J)
