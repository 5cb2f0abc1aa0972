"""The QUBO kernels against their twins: fields, energies, descents, swaps, bounds, lanes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from qubo_moves import move_with_every_driver
from scipy import sparse

from ppal_fast.kernels import bifurcation, fields, local_search, reference, swap, walks
from ppal_fast.qubo import model as qubo_model

NONE = np.empty(0, np.int32)
KINDS = {"int8": (20, 0.8), "int16": (3000, 0.8), "float32": (0, 0.8), "csr": (20, 0.05)}
seeds = st.integers(0, 2**32 - 1)


def ising(rng: np.random.Generator, n: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric couplings with zero diagonal and biases, whole numbers unless the kind is float32."""
    largest, density = KINDS[kind]
    J = rng.normal(size=(n, n)) if largest == 0 else rng.integers(-largest, largest + 1, (n, n)).astype(float)
    J = np.triu(J * (rng.random((n, n)) < density), 1)
    return J + J.T, rng.normal(size=n) if largest == 0 else rng.integers(-9, 10, n).astype(float)


def engine(J: np.ndarray, b: np.ndarray) -> tuple[Any, ...]:
    model = qubo_model.from_ising(J, b)
    return model, (model.couplings, model.indptr, model.indices)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=seeds, n=st.integers(2, 40))
def test_fields_and_energy_follow_every_driver(kind: str, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    J, b = ising(rng, n, kind)
    model, _ = engine(J, b)
    s = rng.choice(np.array([-1, 1], np.int8), n)
    tolerance = {"rtol": 0, "atol": 1e-4 * n} if kind == "float32" else {"rtol": 0, "atol": 0}

    def agree(h: np.ndarray, now: float) -> None:
        assert_allclose(h * model.unit, reference.local_fields(J, b, s), **tolerance)
        assert_allclose(now * model.unit, reference.ising_energy(J, b, s), **tolerance)

    h, best, lowest = move_with_every_driver(model, s, seed, rng, agree)
    assert_allclose(lowest * model.unit, reference.ising_energy(J, b, best), **tolerance)
    assert (s * h <= (1e-4 if kind == "float32" else 0)).all(), "a flip would still improve"


def test_each_kind_takes_the_narrowest_type_that_holds_it(rng: np.random.Generator) -> None:
    wanted = {"int8": ("int8", "int16"), "int16": ("int16", "int32"), "float32": ("float32", "float32")}
    for kind, types in wanted.items():
        model, _ = engine(*ising(rng, 30, kind))
        assert (model.couplings.dtype, model.h_up.dtype) == types
    assert engine(*ising(rng, 60, "csr"))[0].couplings.ndim == 1
    fields_overflow_int16 = np.full((600, 600), 60.0)
    np.fill_diagonal(fields_overflow_int16, 0.0)
    fields_overflow_int16[0, 1] = fields_overflow_int16[1, 0] = 59.0
    assert engine(fields_overflow_int16, np.zeros(600))[0].h_up.dtype == np.int32


def test_slices_do_not_change_an_annealing(rng: np.random.Generator) -> None:
    model, couplings = engine(*ising(rng, 50, "int8"))
    temperatures = np.linspace(30, 1, 20).astype(np.float32)
    ends = []
    for cuts in ([0, 20], [0, 1, 7, 20]):
        s = np.ones(50, np.int8)
        h, value = model.start(s)
        energy, best, state = np.array([value, value]), s.copy(), np.array([5], np.uint64)
        for a, b in itertools.pairwise(cuts):
            local_search.anneal(
                *couplings, s, h, energy, best, state, local_search.EXPONENTIALS, temperatures[a:b], -np.inf
            )
        ends.append((s, best, energy))
    for one, other in zip(*ends, strict=True):
        assert_array_equal(one, other)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, n=st.integers(3, 9), data=st.data())
def test_swaps_keep_the_gradient_and_end_in_a_local_minimum(seed: int, n: int, data: Any) -> None:
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n - 1))
    Q = rng.normal(size=(n, n))
    W, d = np.empty((n, n), np.float32), np.empty(n, np.float32)
    swap.couplings_of(Q, W, d)
    scale = np.abs(Q).max()
    members = rng.permutation(n)[:k].astype(np.int32)
    best, until, state = np.empty(k, np.int32), np.empty(n, np.int32), np.array([seed], np.uint64)

    def energy(chosen: np.ndarray) -> float:
        return reference.qubo_energy(Q, np.isin(np.arange(n), chosen))

    f, _ = swap.swap_descend(W, d, members, np.empty(n, np.float32), np.empty(n, np.float32), 100)
    assert len(set(members.tolist())) == k
    assert_allclose(f * scale, energy(members), atol=1e-4)
    swaps = [np.append(np.delete(members, q), j) for q in range(k) for j in set(range(n)) - set(members.tolist())]
    assert energy(members) <= min(energy(other) for other in swaps) + 1e-5
    f = swap.swap_tabu(W, d, W.max(axis=1), members, best, until, state, 30)
    assert_allclose(f * scale, energy(best), atol=1e-4)
    assert len(set(members.tolist())) == k


@settings(max_examples=20, deadline=None)
@given(seed=seeds, n=st.one_of(st.integers(2, 9), st.integers(60, 130)), data=st.data())
def test_no_swap_improves_what_a_batch_finds(seed: int, n: int, data: Any) -> None:
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n - 1))
    Q = rng.choice([rng.normal(size=(n, n)), rng.integers(-1, 2, (n, n)).astype(float)])
    chosen = np.empty((1, k), np.int32)
    walks.walk_batch(Q[None], 0, 2, 2, np.array([seed], np.uint64), chosen)
    x = np.isin(np.arange(n), chosen)
    assert x.sum() == k
    S = Q + Q.T - np.diag(2 * Q.diagonal())
    g = Q.diagonal() + S @ x
    changes = g[~x][None, :] - g[x][:, None] - S[np.ix_(x, ~x)]
    assert changes.min() >= -1e-5 * n * k


@settings(max_examples=20, deadline=None)
@given(seed=seeds, n=st.integers(4, 10), data=st.data())
def test_no_exchange_of_two_for_two_improves_after_the_descent(seed: int, n: int, data: Any) -> None:
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n - 1))
    V = rng.normal(size=(2, n))
    Q = rng.choice([rng.normal(size=(n, n)), V.T @ V + np.diag(rng.normal(size=n))])
    idle = rng.random(n) < data.draw(st.sampled_from([0.0, 0.7]))
    Q[idle] = Q[:, idle] = 0
    m = swap.padded(n)
    W, d = np.zeros((m, m), np.float32), np.full(m, fields.HUGE)
    swap.couplings_of(Q, W, d)
    members = rng.permutation(n)[:k].astype(np.int32)
    g, cost, row = (np.empty(m, np.float32) for _ in range(3))
    walks.pair_descend(W, d, n, members, g, cost, row)

    def energy(chosen: set[int]) -> float:
        return reference.qubo_energy(Q, np.isin(np.arange(n), list(chosen)))

    chosen = set(members.tolist())
    assert len(chosen) == k and max(chosen) < n
    rest = set(range(n)) - chosen
    exchanged = [
        energy(chosen - set(out) | set(new))
        for out in itertools.combinations(chosen, 2) for new in itertools.combinations(rest, 2)
    ]
    assert energy(chosen) <= min(exchanged, default=np.inf) + 1e-5 * np.abs(Q).sum()


@given(entries=st.lists(st.floats(), max_size=40))
def test_the_largest_magnitude(entries: list[float]) -> None:
    assert_array_equal(fields.largest(np.array(entries)), np.max(np.abs(entries), initial=0.0))


@settings(max_examples=10, deadline=None)
@given(seed=seeds, n=st.integers(1, 40), is_sparse=st.booleans())
def test_the_lanes_multiply(seed: int, n: int, is_sparse: bool) -> None:
    rng = np.random.default_rng(seed)
    m = n if is_sparse else -(-n // bifurcation.PAD) * bifurcation.PAD
    J = (rng.normal(size=(m, m)) * (rng.random((m, m)) < 0.3)).astype(np.float32)
    b, X = rng.normal(size=m).astype(np.float32), rng.normal(size=(m, bifurcation.LANES)).astype(np.float32)
    F, S = np.empty_like(X), np.empty_like(X)
    if is_sparse:
        rows = sparse.csr_array(J)
        bifurcation.multiply(rows.data, rows.indptr.astype(np.int32), rows.indices.astype(np.int32), b, X, F)
    else:
        bifurcation.multiply(J, NONE, NONE, b, X, F)
        lowest, best = np.full(bifurcation.LANES, np.inf), np.empty((bifurcation.LANES, m), np.int8)
        symmetric = np.ascontiguousarray(np.triu(J, 1) + np.triu(J, 1).T)
        bifurcation.lane_energies(symmetric, NONE, NONE, b, X, S.copy(), S, lowest, best)
        assert_allclose(lowest[0], reference.ising_energy(symmetric, b, best[0]), atol=1e-3)
    assert_allclose(F, b[:, None] + J @ X, atol=1e-4)


def test_the_step_of_a_star_stays_finite() -> None:
    """One vertex coupled to all others has the largest radius for its row rms: the step must shrink with it."""
    J = np.zeros((200, 200))
    J[0, 1:] = J[1:, 0] = 1e6
    J[1, 2] = J[2, 1] = 1e-6
    model = qubo_model.from_ising(J, None)
    assert model.radius >= np.abs(np.linalg.eigvalsh(J)).max() * model.couplings.max() / 2 / 1e6 * 0.999


def test_annealing_of_a_chain_of_neighbours_reaches_the_ground_state() -> None:
    """Neighbours share a block: tests that a flip in the block has made stale would leave walls between domains."""
    n = 256
    J = -(np.eye(n, k=1) + np.eye(n, k=-1))
    model, couplings = engine(J, np.zeros(n))
    assert couplings[0].ndim == 1
    missing = []
    for seed in range(5):
        s = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), n)
        h, value = model.start(s)
        energy, best = np.array([value, value]), s.copy()
        local_search.anneal(
            *couplings, s, h, energy, best, np.array([seed], np.uint64), local_search.EXPONENTIALS,
            np.linspace(1.5, 0.05, 4000).astype(np.float32), -np.inf,
        )
        missing.append(energy[1] * model.unit + n - 1)
    assert np.median(missing) <= 4, "more than two walls"


@pytest.mark.parametrize("dtype", [np.float64, np.int8])
@settings(max_examples=10, deadline=None)
@given(seed=seeds, n=st.integers(2, 150))
def test_small_whole_couplings_take_the_short_way(dtype: Any, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    J = np.triu(rng.integers(-31, 32, (n, n)) * 2 + 1, 1).astype(dtype)
    J[0, 1] = 1  # no common factor
    J = J + J.T
    h = rng.integers(-5, 6, n).astype(float)
    short, long = qubo_model._small_whole(J, h), qubo_model._model(J.astype(float), h, False)
    assert short is not None
    for name in ("couplings", "h_up", "b", "unit", "offset", "exact", "norm"):
        assert_array_equal(getattr(short, name), getattr(long, name), err_msg=name)
    assert_allclose([short.row_rms, short.row_low], [long.row_rms, long.row_low])
    broken = J.astype(float)
    broken[0, 1] = rng.choice([np.nan, np.inf, 0.5, 64, broken[0, 1] - 2])
    assert qubo_model._small_whole(broken, h) is None
