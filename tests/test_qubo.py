"""solve_qubo and its kin: exact on small problems, good on known ones, and one clear sentence for bad input."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from ppal_fast import solve_ising, solve_qubo, solve_qubo_batch
from ppal_fast.errors import InputError
from ppal_fast.kernels import reference
from ppal_fast.qubo import io as qubo_io
from ppal_fast.qubo import select_batch
from ppal_fast.qubo.cardinality import FixedCardinality
from ppal_fast.qubo.model import from_ising
from ppal_fast.qubo.plan import HOT_AGAIN, TRIAL, Reheats, are_side_by_side, levels, runs
from ppal_fast.qubo.proof import prove_minimum
from ppal_fast.qubo.running import Clock
from ppal_fast.qubo.search import MEETINGS, End, _is_settled

ALGORITHMS = ("auto", "bsb", "dsb", "annealing", "tabu", "swap")
FAMILIES = ("small whole", "large whole", "halves", "real", "sparse", "zero")


def problem(family: str, n: int, rng: np.random.Generator) -> np.ndarray:
    whole = rng.integers(-9, 10, (n, n)).astype(float)
    return {
        "small whole": whole, "large whole": whole * 10_007 + 1, "halves": whole / 2, "real": rng.normal(size=(n, n)),
        "sparse": whole * (rng.random((n, n)) < 0.05), "zero": 0 * whole,
    }[family]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_finds_the_minimum(algorithm: str, family: str, rng: np.random.Generator) -> None:
    for n in (1, 2, 7, 11):
        Q = problem(family, n, rng)
        least = reference.qubo_minimum(Q)
        found = solve_qubo(sparse.csr_array(Q) if n == 7 else Q, algorithm=algorithm, random_state=1)
        assert_allclose(found.energy, least, rtol=1e-12, atol=1e-12)
        assert_allclose(reference.qubo_energy(Q, found.x), found.energy, rtol=1e-12, atol=1e-12)
        assert found.x.dtype == np.int8 and found.states.shape == (1, n) and found.bound is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_keeps_a_cardinality(algorithm: str, rng: np.random.Generator) -> None:
    for family in ("small whole", "real"):
        Q = problem(family, 9, rng)
        for k in (0, 1, 4, 8, 9):
            found = solve_qubo(Q, cardinality=k, algorithm=algorithm, random_state=1)
            assert found.x.sum() == k
            assert_allclose(found.energy, reference.qubo_minimum(Q, k), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("algorithm", ("auto", "bsb", "dsb", "annealing", "tabu"))
def test_ising(algorithm: str, rng: np.random.Generator) -> None:
    for family in ("small whole", "real", "sparse"):
        J = np.triu(problem(family, 9, rng), 1)
        J, h = J + J.T, rng.integers(-3, 4, 9).astype(float)
        found = solve_ising(sparse.csr_array(J) if family == "sparse" else J, h, algorithm=algorithm, random_state=0)
        states = 2 * ((np.arange(2**9)[:, None] >> np.arange(9)) & 1) - 1
        assert_allclose(found.energy, min(reference.ising_energy(J, h, s) for s in states), atol=1e-12)
        assert set(np.unique(found.s)) <= {-1, 1}
        assert_allclose(reference.ising_energy(J, h, found.s), found.energy, atol=1e-12)


def test_ising_without_fields_keeps_both_signs_apart() -> None:
    found = solve_ising(np.array([[0, 1], [1, 0]]), n_solutions=4, random_state=0)
    assert_array_equal(found.energies, [-1, -1, 1, 1])
    assert len(np.unique(found.states, axis=0)) == 4


@pytest.mark.parametrize("cardinality", [None, 3])
def test_solutions_are_the_lowest_distinct_states(cardinality: int | None, rng: np.random.Generator) -> None:
    Q = problem("real", 6, rng)
    states = [x for x in ((np.arange(64)[:, None] >> np.arange(6)) & 1) if cardinality in (None, x.sum())]
    wanted = np.sort([reference.qubo_energy(Q, x) for x in states])
    found = solve_qubo(Q, cardinality=cardinality, n_solutions=len(wanted) + 5, random_state=0)
    assert_allclose(found.energies, wanted, atol=1e-12)
    assert len(np.unique(found.states, axis=0)) == len(wanted)
    assert_allclose(found.energies, [reference.qubo_energy(Q, x) for x in found.states], atol=1e-12)
    assert len(solve_qubo(Q, cardinality=cardinality, n_solutions=4, random_state=0).states) == 4


@pytest.mark.parametrize("algorithm", ["auto", "bsb", "dsb", "annealing", "tabu", "swap"])
def test_a_seed_fixes_the_result_whatever_the_threads(algorithm: str, rng: np.random.Generator) -> None:
    Q = problem("real", 40, rng)
    settings: dict[str, Any] = {
        "algorithm": algorithm, "n_solutions": 5, "random_state": 3, "n_replicas": 3, "n_steps": 20,
    }
    for extra in ({}, {"cardinality": 9}):
        one, two = (solve_qubo(Q, n_jobs=jobs, **settings, **extra) for jobs in (1, 3))
        assert_array_equal(one.states, two.states)
        assert_array_equal(one.energies, two.energies)


def test_runs_that_go_on_from_others_do_not_depend_on_the_threads() -> None:
    Q = sparse.random_array((300, 300), density=0.01, random_state=0)
    settings: dict[str, Any] = {"random_state": 3, "n_replicas": 7, "n_steps": 200, "n_solutions": 3}
    one, three = (solve_qubo(Q, n_jobs=jobs, **settings) for jobs in (1, 3))
    assert_array_equal(one.states, three.states)
    settings["n_replicas"] = 2  # of the seven: nothing joined
    assert one.energy <= solve_qubo(Q, **settings).energy


@pytest.mark.parametrize("family", ["unit couplings", "small whole biases"])
def test_replicas_side_by_side(family: str, rng: np.random.Generator) -> None:
    """The runs of "auto" on sparse problems of small whole numbers."""
    n = 600
    signs = sparse.triu(sparse.random_array((n, n), density=4 / n, random_state=rng), 1)
    signs.data = rng.choice([-1.0, 1.0], signs.nnz)
    J, h = signs + signs.T, rng.integers(-2, 3, n) * (family != "unit couplings")
    assert are_side_by_side(from_ising(J, h))
    settings: dict[str, Any] = {"random_state": 3, "n_replicas": 8, "n_steps": 100, "n_solutions": 3}
    one, two = (solve_ising(J, h, n_jobs=jobs, **settings) for jobs in (1, 2))
    assert_array_equal(one.states, two.states)
    for state, energy in zip(one.states.astype(float), one.energies, strict=True):
        assert h @ state + 0.5 * (state @ (J @ state)) == energy
    first = solve_ising(J, h, random_state=3, n_replicas=1, n_steps=100)  # an ordinary run
    assert one.energy <= first.energy - (family == "unit couplings")
    assert solve_ising(J, h, target=one.energy, random_state=4, time_limit=60).energy <= one.energy
    assert solve_ising(J, h, target=2 * one.energy, random_state=4, time_limit=0.1).energy > 2 * one.energy


@pytest.mark.parametrize("cardinality", [None, 5])
@pytest.mark.parametrize("algorithm", ["auto", "bsb", "dsb", "annealing"])
def test_batches(algorithm: str, cardinality: int | None, rng: np.random.Generator) -> None:
    Qs = np.stack([problem(f, 10, rng) for f in ("small whole", "real", "sparse", "zero")])
    settings: dict[str, Any] = {"cardinality": cardinality, "algorithm": algorithm, "random_state": 0}
    found = solve_qubo_batch(Qs, **settings)
    assert found.x.shape == (4, 10) and found.x.dtype == np.int8
    for Q, x, energy in zip(Qs, found.x, found.energy, strict=True):
        assert cardinality is None or x.sum() == cardinality
        assert_allclose(energy, reference.qubo_energy(Q, x), atol=1e-9)
        assert_allclose(energy, reference.qubo_minimum(Q, cardinality), atol=1e-9)
    assert_array_equal(found.x, solve_qubo_batch(list(Qs), n_jobs=2, **settings).x)


def test_proofs(rng: np.random.Generator) -> None:
    for family in ("small whole", "real", "zero"):
        Q = problem(family, 9, rng)
        for k in (None, 0, 1, 4, 9):
            found = solve_qubo(Q, cardinality=k, prove=True, random_state=0)
            assert found.proven_optimal and found.bound == found.energy
            assert_allclose(found.energy, reference.qubo_minimum(Q, k), atol=1e-9)


def test_a_proof_corrects_a_poor_start(rng: np.random.Generator) -> None:
    Q = problem("real", 10, rng)
    for k in (2, 5):
        fixed = FixedCardinality(Q, k)
        members, bound, proved = prove_minimum(fixed, np.arange(k, dtype=np.int32), Clock(None))
        assert proved
        assert_allclose([fixed.energy(members), bound], reference.qubo_minimum(Q, k), atol=1e-9)


def test_twin_variables_are_proved_without_counting_their_orders() -> None:
    Q = np.full((40, 40), 0.5)  # all forty alike: 10^10 sets of one energy
    found = solve_qubo(Q - 0.5 * np.eye(40), cardinality=12, prove=True, time_limit=20, random_state=0)
    assert found.proven_optimal and found.energy == 66.0


@pytest.mark.parametrize("scale", [1e300, 1e-300, 2.0**-1060])
def test_any_scale(scale: float, rng: np.random.Generator) -> None:
    Q = problem("small whole", 8, rng)
    for k in (None, 3):
        found = solve_qubo(Q * scale, cardinality=k, random_state=0)
        assert_allclose(found.energy / scale, reference.qubo_minimum(Q, k))


def test_large_beside_small() -> None:
    Q = np.diag([1e300, -1e-300, 1e-300, -1.0])
    assert_array_equal(solve_qubo(Q, random_state=0).x, [0, 1, 0, 1])
    Q[1, 3] = 2.0
    assert_array_equal(solve_qubo(Q, random_state=0).x, [0, 0, 0, 1])
    assert_array_equal(solve_qubo(np.diag([1e300, 1e-300, 3e-300]), cardinality=1, random_state=0).x, [0, 1, 0])


def test_time_limit_and_target(rng: np.random.Generator) -> None:
    Q = problem("real", 300, rng)
    solve_qubo(Q, n_replicas=2, n_steps=2, random_state=0)  # compiled before the clock matters
    for extra in ({}, {"cardinality": 30}):
        found = solve_qubo(Q, time_limit=0, random_state=0, **extra)
        assert_allclose(found.energy, found.x.astype(float) @ Q @ found.x)
        best = solve_qubo(Q, random_state=0, **extra).energy
        assert solve_qubo(Q, target=best, random_state=0, **extra).energy <= best
        missed = solve_qubo(Q, target=2 * best, time_limit=0.05, n_jobs=2, random_state=0, **extra)
        assert missed.energy > 2 * best  # a target that cannot be met ends with the time


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("sparse_whole", [False, True])
def test_ctrl_c(n_jobs: int, sparse_whole: bool, rng: np.random.Generator) -> None:
    Q = problem("real", 200, rng)
    if sparse_whole:  # replicas side by side
        Q = sparse.random_array((2_000, 2_000), density=0.002, random_state=rng).ceil()
    solve_qubo(Q, n_replicas=2, n_steps=2, random_state=0)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            solve_qubo(Q, time_limit=60, n_jobs=n_jobs, random_state=0)
    finally:
        timer.join()
    deadline = time.monotonic() + 5
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [t for t in threading.enumerate() if "ThreadPool" in t.name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"Q": np.ones((2, 3))}, r"Q has shape \(2, 3\); a square"),
        ({"Q": np.ones(3)}, "square"),
        ({"Q": np.ones((0, 0))}, "at least one row"),
        ({"Q": [[np.nan]]}, "Q has NaN"),
        ({"Q": sparse.csr_array([[np.inf]])}, "Q has NaN or infinite"),
        ({"Q": [[1j]]}, "real numbers"),
        ({"Q": sparse.csr_array([[1j]])}, "real numbers"),
        ({"Q": np.array([[None]])}, "real numbers"),
        ({"Q": "text"}, "real numbers"),
        ({"Q": np.full((2, 2), 1e308)}, "overflow"),
        ({"cardinality": -1}, "cardinality was -1"),
        ({"cardinality": 4}, "from 0 to 3"),
        ({"cardinality": 1.5}, "cardinality was 1.5"),
        ({"algorithm": "tabo"}, "did you mean 'tabu'"),
        ({"n_replicas": 0}, "n_replicas"),
        ({"n_steps": 0}, "n_steps"),
        ({"n_solutions": 0}, "n_solutions"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"time_limit": -1}, "time_limit"),
        ({"target": np.nan}, "target"),
        ({"random_state": "seed"}, "random_state"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        solve_qubo(**{"Q": np.eye(3), **arguments})


@pytest.mark.parametrize(
    ("J", "h", "words"),
    [
        ([[0, 1], [2, 0]], None, "not symmetric"),
        ([[1, 1], [1, 0]], None, "diagonal"),
        ([[0, 1], [1, 0]], [1, 2, 3], r"h has shape \(3,\)"),
        ([[0, 1], [1, 0]], [1, np.nan], "h has NaN"),
        ([[0, 1]], None, "square"),
    ],
)
def test_bad_ising_input_is_named(J: Any, h: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        solve_ising(J, h)


def test_bad_batches_are_named() -> None:
    with pytest.raises(InputError, match=r"Qs\[1\] has NaN"):
        solve_qubo_batch(np.stack([np.eye(2), np.full((2, 2), np.nan)]))
    with pytest.raises(InputError, match="one shape"):
        solve_qubo_batch([np.eye(2), np.eye(3)])
    with pytest.raises(InputError, match="at least one matrix"):
        solve_qubo_batch([])
    with pytest.raises(InputError, match="cardinality was 3"):
        solve_qubo_batch(np.zeros((1, 2, 2)), cardinality=3)


def test_the_input_is_left_alone_and_any_layout_is_read(rng: np.random.Generator) -> None:
    Q = problem("small whole", 8, rng)
    least = reference.qubo_minimum(Q)
    read_only = Q.copy()
    read_only.flags.writeable = False
    for form in (read_only, np.asfortranarray(Q), Q[::-1, ::-1][::-1, ::-1], Q.astype(np.int8), Q.astype(np.float32),
                 Q.astype(int).tolist(), sparse.coo_array(Q), sparse.csc_matrix(Q)):
        assert solve_qubo(form, random_state=0).energy == least
        assert solve_qubo(form, cardinality=4, random_state=0).energy == reference.qubo_minimum(Q, 4)
    assert_array_equal(read_only, Q)


@pytest.mark.parametrize("cardinality", [None, 15])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_rank_with_linear_terms(rank: int, cardinality: int | None, rng: np.random.Generator) -> None:
    for _ in range(3):
        V = rng.normal(size=(rank, 50))
        Q = V.T @ V + np.diag(rng.normal(size=50))
        proved = solve_qubo(Q, cardinality=cardinality, prove=True, random_state=0)
        assert proved.proven_optimal
        assert solve_qubo(Q, cardinality=cardinality, random_state=1).energy <= proved.energy + 1e-9 * np.abs(Q).sum()


def test_no_swap_improves_a_batch_of_many_candidates(rng: np.random.Generator) -> None:
    gain, similarity, k = rng.random(300), rng.random((300, 300)), 20
    chosen = select_batch(gain, similarity, k, random_state=0)
    S = (similarity + similarity.T) / 2
    np.fill_diagonal(S, 0.0)
    inside = np.isin(np.arange(300), chosen)
    value = gain - S[:, inside].sum(axis=1)  # of joining, beside all that are chosen
    changes = value[~inside][None, :] - value[chosen][:, None] + S[np.ix_(chosen, ~inside)]
    assert changes.max() < 1e-5


def test_select_batch(rng: np.random.Generator) -> None:
    gain, similarity = rng.random(12), rng.random((12, 12))
    for k in (0, 1, 4, 12):
        chosen = select_batch(gain, similarity, k, random_state=0)
        assert len(set(chosen.tolist())) == k
        assert (np.diff(gain[chosen]) <= 0).all()
        x = np.isin(np.arange(12), chosen)
        Q = similarity / 2
        np.fill_diagonal(Q, -gain)
        assert_allclose(reference.qubo_energy(Q, x), reference.qubo_minimum(Q, k), atol=1e-6)
    copies = select_batch([1.0, 1.0, 0.9], [[0, 1, 0], [1, 0, 0], [0, 0, 0]], 2, random_state=0)
    assert 2 in copies, "a copy of a chosen row says nothing new"
    for bad, words in (((gain[:3], similarity, 2), "similarity has shape"), ((gain, similarity, 13), "k was 13")):
        with pytest.raises(InputError, match=words):
            select_batch(*bad)


def test_files_come_back(tmp_path: Path, rng: np.random.Generator) -> None:
    Q = problem("sparse", 20, rng) / 3
    qubo_io.write_qubo(tmp_path / "a.qubo.gz", Q)
    back = qubo_io.read_qubo(tmp_path / "a.qubo.gz").toarray()
    x = rng.integers(0, 2, 20)
    assert_array_equal(np.tril(back, -1), 0)
    assert_allclose(reference.qubo_energy(back, x), reference.qubo_energy(Q, x), atol=1e-12)
    W = np.triu(Q, 1)
    W = W + W.T
    qubo_io.write_maxcut(tmp_path / "a.txt", W)
    assert_array_equal(qubo_io.read_maxcut(tmp_path / "a.txt").toarray(), W)
    s = 2 * x - 1
    assert_allclose(qubo_io.cut(W, s), sum(W[i, j] for i in range(20) for j in range(i) if s[i] != s[j]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0 1\n", "line 1: entries begin before"),
        ("p qubo 0 2 1 0\n0 2 1\n", "line 2"),
        ("p qubo 0 2 1 0\n0 0 nan\n", "finite value"),
        ("p qubo 0 2 1 0\n0 0\n", "not `i j value`"),
        ("p qubo 0 x\n", "whole number"),
        ("", "no line `p qubo"),
    ],
)
def test_bad_files_are_named_by_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.qubo").write_text(text)
    with pytest.raises(InputError, match=words):
        qubo_io.read_qubo(tmp_path / "bad.qubo")


@pytest.mark.parametrize(
    ("text", "words"), [("3 1\n1 4 1\n", "no edge"), ("3 2\n1 2 1\n", "first line says 2"), ("", "empty")]
)
def test_bad_graphs_are_named_by_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        qubo_io.read_maxcut(tmp_path / "bad.txt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could not be read"):
        qubo_io.read_qubo(tmp_path / "none.qubo")


@pytest.mark.parametrize(
    ("name", "best"), [("bqp50_1", 2098), ("bqp100_2", 11036), ("bqp250_1", 45607), ("bqp250_3", 49037)]
)
def test_known_optima_of_bqp(data_folder: Path, name: str, best: int) -> None:
    Q = -qubo_io.read_qubo(data_folder / "qubo" / "bqp" / f"{name}.qubo.gz")
    assert solve_qubo(Q, target=-best, time_limit=10, random_state=0).energy == -best


@pytest.mark.parametrize(("name", "best"), [("G1", 11624), ("G6", 2178), ("G14", 3064)])
def test_known_cuts(data_folder: Path, name: str, best: int) -> None:
    W = qubo_io.read_maxcut(data_folder / "qubo" / "gset" / f"{name}.txt.gz")
    wanted = 0.99 * best
    found = solve_ising(W, target=W.sum() / 2 - 2 * wanted, time_limit=10, random_state=0)
    assert wanted <= qubo_io.cut(W, found.s) <= best
    assert_allclose(found.energy, W.sum() / 2 - 2 * qubo_io.cut(W, found.s))


def test_annealing_cools_down_to_weights_far_below_the_penalties(rng: np.random.Generator) -> None:
    """A set packing: 300 sets of four out of 151, worth up to 19, and a penalty for every two that overlap."""
    members = np.zeros((151, 300))
    for column in members.T:
        column[rng.choice(151, 4, replace=False)] = 1
    Q = 20.0 * (members.T @ members > 0)
    np.fill_diagonal(Q, -rng.integers(1, 20, 300))
    best = solve_qubo(Q, algorithm="tabu", random_state=0).energy
    assert solve_qubo(Q, algorithm="annealing", random_state=0).energy < 0.88 * best


def test_reheats_that_gained_are_chosen_again_and_passed_on() -> None:
    model = from_ising(sparse.diags_array([np.ones(99)] * 2, offsets=(-1, 1), shape=(100, 100)), None)
    reheats, tried = Reheats(), set()
    for _ in range(4 * len(HOT_AGAIN)):
        hot, length = reheats.choose(model, 64)
        tried.add(hot)
        assert length == 64
        reheats.learn(0.0, length)
    assert tried == set(HOT_AGAIN)
    reheats.learn(100.0 * model.row_rms, 64)
    assert Reheats([reheats, Reheats()]).choose(model, 64) == (hot, 64)


@pytest.mark.parametrize("leads", [True, False])
def test_tabu_goes_on_where_it_leads(leads: bool) -> None:
    model = from_ising(np.ones((100, 100)) - np.eye(100), None)
    drivers = [run.driver for run in runs(model, "auto", 20, None, lambda driver: leads and driver == "tabu")]
    assert drivers[:TRIAL] == ["tabu", "annealing"] * (TRIAL // 2)
    assert ("tabu" in drivers[TRIAL:]) is leads


def test_tabu_is_not_tried_on_short_rows() -> None:
    chain = from_ising(sparse.diags_array([np.ones(99)] * 2, offsets=(-1, 1), shape=(100, 100)), None)
    assert {run.driver for run in runs(chain, "auto", 20, None, lambda _: True)} == {"annealing"}


def test_a_search_is_settled_when_enough_runs_met_one_state_independently(rng: np.random.Generator) -> None:
    state, other = np.ones(100, np.int8), np.repeat(np.int8([1, -1]), 50)
    signs = rng.choice([-1, 1], MEETINGS).astype(np.int8)
    met = [End("annealing", -5.0, sign * state, True, Reheats()) for sign in signs]
    handed_on, elsewhere = End("annealing", -5.0, state, False, Reheats()), End("tabu", -5.0, other, True, Reheats())
    free = from_ising(sparse.diags_array([np.ones(99)] * 2, offsets=(-1, 1), shape=(100, 100)), None)
    assert _is_settled(free, [elsewhere, *met])
    assert not _is_settled(free, [*met[1:], handed_on, elsewhere])
    assert not _is_settled(free, [*met, End("tabu", -6.0, other, True, Reheats())])
    assert not _is_settled(free, [])


def test_levels_are_those_of_a_tree_whose_parents_come_late() -> None:
    found = list(itertools.islice(levels(), 200))
    assert found[:11] == [0, 0, 0, 1, 0, 0, 1, 0, 2, 0, 1]
    ends: dict[int, list[int]] = {}
    for place, level in enumerate(found):
        if level > 0:  # two children are there, and the run just before is none of them
            first, second = ends[level - 1][:2]
            assert first < second < place - 1
            del ends[level - 1][:2]
        ends.setdefault(level, []).append(place)
    assert sum(map(len, ends.values())) <= 10  # nearly all are gone on from


@pytest.mark.parametrize("beside", [1, 12])
def test_trees_of_couplings_are_solved_at_once(beside: int, rng: np.random.Generator) -> None:
    n = 400
    above = (rng.random(n - 1) * np.arange(1, n) / beside).astype(int)  # 12: hubs of dozens of leaves
    J = sparse.coo_array((rng.integers(-50, 51, n - 1), (np.arange(1, n), above)), shape=(n, n)).tocsr()
    h = rng.integers(-20, 21, n).astype(float)
    lowest = np.zeros((n, 2))  # of the branch below a spin that is down, up
    for i in range(n - 1, -1, -1):
        lowest[i] += np.array([-h[i], h[i]])
        if i:
            w = J[[i], [above[i - 1]]][0]
            lowest[above[i - 1]] += np.minimum(lowest[i, 0] + [w, -w], lowest[i, 1] + [-w, w])
    assert solve_ising(J + J.T, h, n_replicas=1, n_steps=10, random_state=0).energy == lowest[0].min()


def test_low_rank_goes_down_by_pairs(rng: np.random.Generator) -> None:
    """One annealing ends below all of tabu only where pairs are flipped."""
    V = rng.normal(size=(3, 200))
    Q = V.T @ V + np.diag(0.5 * rng.normal(size=200))
    best = solve_qubo(Q, algorithm="tabu", random_state=0).energy
    assert solve_qubo(Q, algorithm="annealing", n_replicas=1, random_state=0).energy < best


def test_labels_change_past_a_penalty(rng: np.random.Generator) -> None:
    """One of five labels for each of 80 nodes: one fall comes near tabu only if labels change places."""
    Q = np.kron(np.eye(80), 12.0 * (np.ones((5, 5)) - 2 * np.eye(5)))
    for a, b in rng.integers(0, 80, (240, 2)):
        if a != b:
            Q[5 * a : 5 * a + 5, 5 * b : 5 * b + 5] += rng.normal(size=(5, 5))
    Q = sparse.csr_array(Q)
    best = solve_qubo(Q, algorithm="tabu", random_state=0).energy
    assert solve_qubo(Q, algorithm="annealing", n_replicas=1, random_state=0).energy < 0.95 * best


@pytest.mark.parametrize("n", [3, 700])
def test_where_nothing_is_coupled_each_variable_decides_alone(n: int) -> None:
    weights = np.random.default_rng(n).integers(-9, 10, n)
    found = solve_qubo(np.diag(weights), random_state=0)
    assert found.energy == weights[weights < 0].sum()
    assert solve_qubo(np.zeros((n, n)), random_state=0).energy == 0
