"""Randomised trees: the leaves hold the rows that fall into them, votes equal the twin's, splits follow the classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppal_fast.kernels import reference
from ppal_fast.kernels.trees import LEAF, Forest, grow, vote


def drawn(seed: int, n: int, p: int, n_classes: int, n_values: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows with many equal cells, so that some cannot be told apart."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, n_values, (n, p)).astype(np.float32), rng.integers(0, n_classes, n)


def grown(X: np.ndarray, y: np.ndarray, weights: np.ndarray, n_classes: int, seed: int, n_tried: int = 2) -> tuple:
    state = np.array([seed], dtype=np.uint64)
    return grow(np.ascontiguousarray(X.T), y, weights.astype(np.float32), n_classes, n_tried, state)


def tree(forest: Forest, t: int) -> Forest:
    return forest._replace(roots=forest.roots[t:t + 1])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32), n=st.integers(1, 40), p=st.integers(1, 5), n_classes=st.integers(1, 4),
    n_values=st.integers(1, 50), bootstrap=st.booleans(),
)
def test_leaves_hold_their_rows_and_votes_equal_the_twin(
    seed: int, n: int, p: int, n_classes: int, n_values: int, bootstrap: bool
) -> None:
    X, y = drawn(seed, n, p, n_classes, n_values)
    rng = np.random.default_rng(seed + 1)
    weights = np.ones((3, n), dtype=int)
    if bootstrap:
        weights = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(3)])
    forest, left_out = grown(X, y, weights, n_classes, seed)
    fresh = drawn(seed + 2, 150, p, n_classes, n_values)[0]
    np.testing.assert_allclose(vote(fresh, forest), reference.forest_votes(forest, fresh), atol=1e-6)
    expected = np.zeros((n, n_classes))
    for t, weight in enumerate(weights):
        shares = reference.forest_votes(tree(forest, t), X)
        expected[weight == 0] += shares[weight == 0]
        same = (X[:, None, :] == X[None, :, :]).all(axis=2)
        for i in np.flatnonzero(weight):
            if (y[same[i] & (weight > 0)] == y[i]).all():
                assert shares[i, y[i]] == 1  # a leaf is pure unless its rows are alike
            elif shares[i].max() < 1:
                counts = np.bincount(y[same[i]], weight[same[i]], n_classes)
                np.testing.assert_allclose(shares[i], counts / counts.sum(), atol=1e-6)
    np.testing.assert_allclose(left_out, expected, atol=1e-5)


def test_the_same_state_grows_the_same_trees() -> None:
    X, y = drawn(0, 60, 4, 3, 100)
    first, again = (grown(X, y, np.ones((5, 60)), 3, 7)[0] for _ in range(2))
    other = grown(X, y, np.ones((5, 60)), 3, 8)[0]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(other.column) != len(first.column) or (other.threshold != first.threshold).any()


@pytest.mark.parametrize("n_tried", [1, 6])
def test_the_purest_of_the_tried_splits_is_kept(n_tried: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    X = rng.standard_normal((200, 6)).astype(np.float32)
    X[:, 4] += 5 * y
    forest, _ = grown(X, y, np.ones((200, 200)), 2, 3, n_tried)
    share = (forest.column[forest.roots] == 4).mean()
    assert abs(share - 1 / 6) < 0.1 if n_tried == 1 else share > 0.6
    assert (vote(X, forest).argmax(axis=1) == y).all()


def test_a_threshold_is_uniform_over_the_range_of_the_node() -> None:
    X = np.array([[0.0], [0.1], [1.0]], dtype=np.float32)
    y = np.array([0, 1, 1])
    forest, _ = grown(X, y, np.ones((2000, 3)), 2, 1, 1)
    cuts = forest.threshold[forest.roots]
    assert np.abs(np.quantile(cuts, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.05
    assert ((cuts >= 0) & (cuts < 1)).all()
    assert (forest.column[forest.roots] != LEAF).all()
