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


def grown(X: np.ndarray, y: np.ndarray, n_trees: int, n_classes: int, seed: int, n_tried: int = 2) -> Forest:
    state = np.array([seed], dtype=np.uint64)
    return grow(np.ascontiguousarray(X.T), y, n_trees, n_classes, n_tried, state)


def tree(forest: Forest, t: int) -> Forest:
    return forest._replace(roots=forest.roots[t:t + 1])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32), n=st.integers(1, 40), p=st.integers(1, 5), n_classes=st.integers(1, 4),
    n_values=st.integers(1, 50),
)
def test_leaves_hold_their_rows_and_votes_equal_the_twin(
    seed: int, n: int, p: int, n_classes: int, n_values: int
) -> None:
    X, y = drawn(seed, n, p, n_classes, n_values)
    forest = grown(X, y, 3, n_classes, seed)
    fresh = drawn(seed + 2, 150, p, n_classes, n_values)[0]
    np.testing.assert_allclose(vote(fresh, forest), reference.forest_votes(forest, fresh), atol=1e-6)
    same = (X[:, None, :] == X[None, :, :]).all(axis=2)
    for t in range(3):
        shares = reference.forest_votes(tree(forest, t), X)
        for i in range(n):
            if (y[same[i]] == y[i]).all():
                assert shares[i, y[i]] == 1  # a leaf is pure unless its rows are alike
            elif shares[i].max() < 1:
                np.testing.assert_allclose(shares[i], np.bincount(y[same[i]], minlength=n_classes) / same[i].sum())


def test_the_same_state_grows_the_same_trees() -> None:
    X, y = drawn(0, 60, 4, 3, 100)
    first, again = (grown(X, y, 5, 3, 7) for _ in range(2))
    other = grown(X, y, 5, 3, 8)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(other.column) != len(first.column) or (other.threshold != first.threshold).any()


@pytest.mark.parametrize("n_tried", [1, 6])
def test_the_purest_of_the_tried_splits_is_kept(n_tried: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    X = rng.standard_normal((200, 6)).astype(np.float32)
    X[:, 4] += 5 * y
    forest = grown(X, y, 200, 2, 3, n_tried)
    share = (forest.column[forest.roots] == 4).mean()
    assert abs(share - 1 / 6) < 0.1 if n_tried == 1 else share > 0.6
    assert (vote(X, forest).argmax(axis=1) == y).all()


def test_a_threshold_is_uniform_over_the_range_of_the_node() -> None:
    X = np.array([[0.0], [0.1], [1.0]], dtype=np.float32)
    y = np.array([0, 1, 1])
    forest = grown(X, y, 2000, 2, 1, 1)
    cuts = forest.threshold[forest.roots]
    assert np.abs(np.quantile(cuts, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.05
    assert ((cuts >= 0) & (cuts < 1)).all()
    assert (forest.column[forest.roots] != LEAF).all()
