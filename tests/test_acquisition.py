"""What each acquisition score must do, whatever the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppal_fast import acquisition
from ppal_fast.errors import InputError


def probabilities(seed: int, n: int, n_classes: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.5), size=n)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 30), n_classes=st.integers(1, 6))
def test_entropy_and_margin_are_their_formulas(seed: int, n: int, n_classes: int) -> None:
    P = probabilities(seed, n, n_classes)
    expected_entropy = [-sum(p * np.log(p) for p in row if p > 0) for row in P]
    ordered = np.sort(np.c_[np.zeros(n), P], axis=1) if n_classes == 1 else np.sort(P, axis=1)
    np.testing.assert_allclose(acquisition.entropy(P), expected_entropy, atol=1e-12)
    np.testing.assert_allclose(acquisition.margin(P), 1 - (ordered[:, -1] - ordered[:, -2]), atol=1e-12)


def test_extremes() -> None:
    P = np.array([[0.5, 0.5], [1.0, 0.0]])
    assert acquisition.entropy(P) == pytest.approx([np.log(2), 0.0])
    assert acquisition.margin(P) == pytest.approx([1.0, 0.0])
    assert not np.signbit(acquisition.entropy(P)).any()


def test_a_row_without_probabilities_is_uniform() -> None:
    P = np.array([[0.9, 0.1, 0.0], [np.nan, 0.5, 0.5]])
    assert acquisition.entropy(P)[1] == pytest.approx(np.log(3))
    assert acquisition.margin(P)[1] == pytest.approx(1.0)
    assert np.isnan(P[1, 0]), "the argument is left as it was"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 5), n_classes=st.integers(1, 5))
def test_committee_is_the_mean_divergence_from_the_mean(seed: int, m: int, n_classes: int) -> None:
    members = [probabilities(seed + i, 8, n_classes) for i in range(m)]
    mean = np.mean(members, axis=0)
    divergence = [
        np.mean([sum(p * np.log(p / q) for p, q in zip(P[i], mean[i], strict=True) if p > 0) for P in members])
        for i in range(8)
    ]
    np.testing.assert_allclose(acquisition.committee(members), divergence, atol=1e-12)


def test_agreement_is_not_disagreement() -> None:
    unsure = np.full((3, 2), 0.5)
    assert acquisition.committee([unsure, unsure]) == pytest.approx(0.0)
    assert acquisition.committee([np.eye(2), np.eye(2)[::-1]]) == pytest.approx(np.log(2))


def test_observed_weight_reads_each_row_alone() -> None:
    observed = np.array([[True, False], [False, False], [True, True]])
    assert acquisition.observed_weight(observed).tolist() == [0.5, 0.0, 1.0]
    assert acquisition.observed_weight(observed[2:]).tolist() == [1.0]


def test_density_aware_is_bounded_and_ranks_infinities() -> None:
    score = np.ones(6)
    factor = acquisition.density_aware(score, np.array([-np.inf, -1e300, 3.0, 3.0, np.inf, np.nan]))
    assert factor == pytest.approx([0.5, 0.75, 1.125, 1.125, 1.5, 1.0])
    assert acquisition.density_aware(np.array([2.0]), np.array([7.0])) == pytest.approx([2.0])
    assert acquisition.density_aware(np.array([]), np.array([])).shape == (0,)


def test_density_aware_sees_only_the_order_of_the_ratio() -> None:
    rng = np.random.default_rng(0)
    score, ratio = rng.random(50), rng.normal(size=50)
    np.testing.assert_array_equal(
        acquisition.density_aware(score, ratio), acquisition.density_aware(score, np.exp(50 * ratio))
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_classes=st.integers(1, 5), width=st.integers(1, 6))
def test_badge_embedding_is_the_gradient_of_the_likeliest_label(seed: int, n_classes: int, width: int) -> None:
    """Against a finite difference of -log softmax(W phi)[label] in W."""
    rng = np.random.default_rng(seed)
    W, phi = rng.normal(size=(n_classes, width)), rng.normal(size=width)

    def loss(W: np.ndarray, label: int) -> float:
        z = W @ phi
        return float(np.log(np.exp(z).sum()) - z[label])

    p = np.exp(W @ phi) / np.exp(W @ phi).sum()
    step = 1e-6 * np.eye(W.size).reshape(W.size, *W.shape)
    gradient = [(loss(W + h, int(p.argmax())) - loss(W - h, int(p.argmax()))) / 2e-6 for h in step]
    np.testing.assert_allclose(acquisition.badge_embedding(p[None], phi[None])[0], gradient, atol=1e-6)


def test_badge_embedding_takes_a_missing_cell_for_zero() -> None:
    embedding = acquisition.badge_embedding(np.array([[0.7, 0.3]]), np.array([[np.nan, 1.0]]))
    assert embedding == pytest.approx(np.array([[0.0, -0.3, 0.0, 0.3]]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: acquisition.entropy([[0.5, 0.6]]), "P has rows that are not probabilities"),
        (lambda: acquisition.entropy([[1.5, -0.5]]), "P has rows that are not probabilities"),
        (lambda: acquisition.margin([0.5, 0.5]), "P has 1 dimensions"),
        (lambda: acquisition.margin(np.empty((3, 0))), "P has no columns"),
        (lambda: acquisition.committee([]), "members was empty"),
        (lambda: acquisition.committee([np.eye(2), np.eye(3)]), r"members\[1\] has shape \(3, 3\)"),
        (lambda: acquisition.committee(np.eye(2)), "members has 2 dimensions"),
        (lambda: acquisition.observed_weight(np.ones((2, 2))), "observed has shape"),
        (lambda: acquisition.density_aware([1.0], [1.0, 2.0]), "log_ratio has 2 entries"),
        (lambda: acquisition.density_aware([["a"]], [1.0]), "score could not be read"),
        (lambda: acquisition.density_aware([[1.0]], [1.0]), "score has shape"),
        (lambda: acquisition.badge_embedding(np.eye(2), np.ones((3, 1))), "phi has 3 rows"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()
