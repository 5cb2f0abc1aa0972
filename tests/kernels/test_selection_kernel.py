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


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 50), width=st.integers(1, 12))
def test_best_quadratic_is_the_best_free_row(seed: int, n: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    phi, weight, free = rng.normal(size=(n, width)), rng.random(n) + 0.1, rng.random(n) < 0.7
    A, B = rng.normal(size=(2, width, width))
    linear, curvature = A + A.T, B @ B.T
    arguments = (phi, weight, linear, curvature, free)
    assert selection.best_quadratic(*arguments) == reference.best_quadratic(*arguments)


def test_best_quadratic_without_a_free_row() -> None:
    eye = np.eye(2)
    assert selection.best_quadratic(eye, np.ones(2), eye, eye, np.zeros(2, dtype=bool)) == -1


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
