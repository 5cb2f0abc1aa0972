"""The searches of the query rules against their explicit twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppal_fast.kernels import reference, selection


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), n_classes=st.integers(1, 5), width=st.integers(1, 9))
def test_spread_draws_what_the_explicit_embedding_draws(seed: int, n: int, n_classes: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    factor, phi = rng.normal(size=(n, n_classes)), rng.normal(size=(n, width))
    uniforms = rng.random(int(rng.integers(1, n + 1)))
    assert selection.spread(factor, phi, uniforms).tolist() == reference.spread(factor, phi, uniforms).tolist()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_different=st.integers(1, 6))
def test_spread_stops_when_every_row_left_is_a_copy(seed: int, n_different: int) -> None:
    rng = np.random.default_rng(seed)
    phi = np.repeat(rng.normal(size=(n_different, 4)), 5, axis=0)
    chosen = selection.spread(np.ones((len(phi), 1)), phi, rng.random(len(phi)))
    assert sorted(chosen // 5) == list(range(n_different))


def test_spread_on_zero_rows_draws_one() -> None:
    assert selection.spread(np.ones((4, 2)), np.zeros((4, 3)), np.full(3, 0.5)).tolist() == [0]


def test_spread_leaves_out_no_row_that_came_nearer() -> None:
    """Lengths over twelve orders of magnitude, directions alike: the bound that skips rows holds for most of them."""
    rng = np.random.default_rng(11)
    factor = rng.normal(size=(400, 3)) * 10.0 ** rng.uniform(-6, 0, size=(400, 1))
    phi = rng.normal(size=(400, 5)) + 3.0
    for _ in range(20):
        uniforms = rng.random(30)
        assert selection.spread(factor, phi, uniforms).tolist() == reference.spread(factor, phi, uniforms).tolist()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 300), k=st.integers(0, 310), levels=st.integers(1, 400))
def test_top_rows_are_the_first_of_all_rows_in_order(seed: int, n: int, k: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    score, coins = rng.integers(levels, size=n).astype(float), rng.random(n)
    rows = rng.permutation(n)[: rng.integers(0, n + 1)]
    assert selection.top_rows(score, coins, rows, k).tolist() == reference.top_rows(score, coins, rows, k).tolist()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), d=st.integers(1, 7), share=st.floats(0, 1))
def test_standardise_is_column_by_column(seed: int, n: int, d: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    observed = rng.random((n, d)) < share
    X = np.where(observed, rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 4, size=d), np.nan)
    X[:, 0] = np.where(observed[:, 0], 2.5, np.nan)  # constant
    assert selection.standardise(X, observed, 1.5) == pytest.approx(reference.standardise(X, observed, 1.5), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), k=st.integers(1, 9), width=st.integers(1, 6))
def test_assign_finds_the_nearest_centre_and_sums_its_points(seed: int, n: int, k: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    points, centres = rng.normal(size=(n, width)), rng.normal(size=(k, width))
    cluster, least, sums, size = selection.assign(points, centres @ points.T, (centres**2).sum(axis=1))
    squared = ((points[:, None] - centres) ** 2).sum(axis=2)
    assert cluster.tolist() == squared.argmin(axis=1).tolist()
    assert least + (points**2).sum(axis=1) == pytest.approx(squared.min(axis=1))
    member = np.eye(k)[cluster]
    assert sums == pytest.approx(member.T @ points)
    assert size.tolist() == member.sum(axis=0).tolist()


def _best(unit: np.ndarray, length: np.ndarray, linear: np.ndarray, curvature: np.ndarray, free: np.ndarray) -> int:
    return selection.best_quadratic(unit, unit.astype(np.float32), length, linear, curvature, free)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(1, 50), width=st.integers(1, 12), size=st.floats(-60, 60),
    apart=st.sampled_from([1.0, 1e-6, 1e-9]),
)
def test_best_quadratic_is_the_best_free_row(seed: int, n: int, width: int, size: float, apart: float) -> None:
    """Also where the rows are closer than float32 can tell, and the matrices beyond its range."""
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=width) + apart * rng.normal(size=(n, width))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    length, free = rng.random(n) if apart == 1.0 else np.ones(n), rng.random(n) < 0.7
    A, B = 10.0**size * rng.normal(size=(2, width, width))
    arguments = (unit, length, A + A.T, B @ B.T / 10.0**size, free)
    scores = [length[i] * unit[i] @ arguments[2] @ unit[i] - unit[i] @ arguments[3] @ unit[i] for i in range(n)]
    best, slow = _best(*arguments), reference.best_quadratic(*arguments)
    assert (best == -1) == (slow == -1)
    if best >= 0:  # the same row, or one that float64 cannot tell from it
        assert free[best] and scores[best] == pytest.approx(scores[slow], rel=1e-12, abs=1e-12 * 10.0**size)


def test_best_quadratic_without_a_free_row() -> None:
    eye = np.eye(2)
    assert _best(eye, np.ones(2), eye, eye, np.zeros(2, dtype=bool)) == -1


def test_one_design_row_is_the_one_that_lowers_the_expected_error_most_by_brute_force() -> None:
    """With many rows asked before, the look-ahead scale is near 1 and the gradient step is the true best row."""
    rng = np.random.default_rng(3)
    pool = rng.normal(size=(300, 4)) * np.array([0.5, 0.3, 0.2, 0.1])
    moment, prior, start = pool.T @ pool / len(pool), np.ones(4), pool[:200]
    terms = {"label_variance": 0.25, "noise": 3.0}
    chosen = selection.design_rows(pool[200:], moment, prior, start, 1, **terms)[0]
    share = [
        selection.explained_share(np.vstack([start, row]), moment, prior, **terms) for row in pool[200:]
    ]
    assert np.argsort(share)[::-1].tolist().index(chosen) < 5


def test_explained_share_grows_with_rows_and_falls_with_noise() -> None:
    rng = np.random.default_rng(4)
    pool = rng.normal(size=(100, 3))
    moment, prior = pool.T @ pool / 100, np.ones(3)

    def share(m: int, noise: float) -> float:
        return selection.explained_share(pool[:m], moment, prior, label_variance=0.25, noise=noise)

    assert 0 < share(5, 1.0) < share(50, 1.0) < 1
    assert share(50, 5.0) < share(50, 1.0)
    assert share(0, 1.0) == pytest.approx(0.0, abs=1e-12)
