"""QUBOFeatureSelector: the measures on pairwise-observed cells, what is chosen, and scikit-learn's checks."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from ppal_fast import QUBOFeatureSelector
from ppal_fast.errors import DataWarning, InputError
from ppal_fast.features import correlation, mutual_information
from ppal_fast.kernels import reference


@parametrize_with_checks([QUBOFeatureSelector(), QUBOFeatureSelector(2, prove=True)])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def sparse_table(rng: np.random.Generator, n: int = 3000, missing: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Columns 0 to 3 depend on y; 4 is a noisy copy of 0; 5 to 11 are noise; cells missing at random."""
    y = rng.integers(0, 2, n)
    X = rng.normal(size=(n, 12))
    X[:, :4] += 1.5 * y[:, None]
    X[:, 4] = X[:, 0] + 0.1 * rng.normal(size=n)
    X[rng.random(X.shape) < missing] = np.nan
    return X, y


def test_finds_what_informs_and_leaves_a_copy_out(rng: np.random.Generator) -> None:
    X, y = sparse_table(rng)
    selector = QUBOFeatureSelector(4, prove=True, random_state=0).fit(X, np.array(["low", "high"])[y])
    assert selector.proven_optimal_
    chosen = set(selector.get_support(indices=True).tolist())
    assert chosen in ({0, 1, 2, 3}, {1, 2, 3, 4})
    assert selector.transform(X).shape == (len(X), 4)


def test_objective_and_ranking_are_what_they_say(rng: np.random.Generator) -> None:
    relevance, redundancy = rng.random(9), rng.random((9, 9))
    X, y = rng.normal(size=(20, 9)), rng.integers(0, 2, 20)
    settings: dict[str, Any] = {"relevance": relevance, "redundancy": redundancy, "redundancy_weight": 0.3}
    selector = QUBOFeatureSelector(4, prove=True, **settings).fit(X, y)

    def objective(s: np.ndarray) -> float:
        pairs = sum(redundancy[i, j] * s[i] * s[j] for i in range(9) for j in range(9) if i != j)
        return float(relevance @ s - 0.3 * pairs)

    states = [s for s in ((np.arange(512)[:, None] >> np.arange(9)) & 1) if s.sum() == 4]
    assert_allclose(selector.objective_, max(objective(s) for s in states))
    assert_allclose(selector.objective_, objective(selector.support_.astype(int)))
    for loss, i in zip(selector.ranking_, selector.get_support(indices=True), strict=True):
        without = selector.support_.copy()
        without[i] = False
        assert_allclose(loss, selector.objective_ - objective(without.astype(int)))


def test_callables_are_called(rng: np.random.Generator) -> None:
    X, y = rng.normal(size=(30, 6)), rng.integers(0, 3, 30)
    selector = QUBOFeatureSelector(
        2, relevance=lambda X, y: np.arange(6.0) + y.max(), redundancy=lambda X: np.zeros((6, 6))
    ).fit(X, y)
    assert_array_equal(selector.get_support(indices=True), [4, 5])


def test_a_callable_sees_y_as_it_was_given(rng: np.random.Generator) -> None:
    X = rng.normal(size=(40, 5))
    y = X[:, 3] ** 3
    correlated = QUBOFeatureSelector(1, relevance=lambda X, y: np.abs(np.corrcoef(X.T, y)[-1, :-1])).fit(X, y)
    assert_allclose(correlated.relevance_, np.abs(np.corrcoef(X.T, y)[-1, :-1]))


def test_correlation_is_pairwise_and_blind_to_chance(rng: np.random.Generator) -> None:
    n = 20_000
    base = rng.normal(size=n)
    X = np.column_stack([base, -base + 0.5 * rng.normal(size=n), rng.normal(size=n), 1e6 + 1e-3 * base])
    X[rng.random(X.shape) < 0.5] = np.nan
    found = correlation(X)
    both = ~np.isnan(X[:, 0]) & ~np.isnan(X[:, 1])
    assert_allclose(found[0, 1], abs(np.corrcoef(X[both, 0], X[both, 1])[0, 1]), atol=0.02)
    assert found[0, 2] == found[1, 2] == 0
    assert_allclose(found[0, 3], 1, atol=1e-3)
    assert_array_equal(found, found.T)
    assert_array_equal(correlation(X[:3]), np.zeros((4, 4)))  # three rows can show nothing
    assert_allclose(correlation(X * [1e200, 1e-200, 1.0, 1.0]), found, atol=1e-9)


def test_correlation_within_classes_forgives_what_y_explains(rng: np.random.Generator) -> None:
    y = rng.integers(0, 2, 5000)
    X = rng.normal(size=(5000, 2)) + 2 * y[:, None]
    assert correlation(X)[0, 1] > 0.3
    assert correlation(X, y)[0, 1] == 0


def test_mutual_information_of_known_tables(rng: np.random.Generator) -> None:
    n = 40_000
    y = rng.integers(0, 2, n)
    flipped = np.where(rng.random(n) < 0.1, 1 - y, y).astype(float)
    X = np.column_stack([y, flipped, rng.normal(size=n), np.full(n, np.nan), np.ones(n)])
    X[rng.random(n) < 0.7, :2] = np.nan
    entropy = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
    assert_allclose(mutual_information(X, y), [np.log(2), np.log(2) - entropy, 0, 0, 0], atol=0.01)


def test_bias_correction_keeps_noise_near_zero(rng: np.random.Generator) -> None:
    X, y = rng.normal(size=(60, 200)), rng.integers(0, 3, 60)
    assert mutual_information(X, y).mean() < 0.03


def test_constant_and_empty_columns_come_last(rng: np.random.Generator) -> None:
    X, y = rng.normal(size=(50, 6)), rng.integers(0, 2, 50)
    X[:, 1], X[:, 4] = 3.0, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not QUBOFeatureSelector(4).fit(X, y).support_[[1, 4]].any()
    with pytest.warns(DataWarning, match="only 4 of 6 columns vary"):
        assert QUBOFeatureSelector(5).fit(X, y).support_.sum() == 5
    assert QUBOFeatureSelector(6).fit(X, y).support_.all()
    assert QUBOFeatureSelector(15).fit(X, y).support_.all()


@pytest.mark.parametrize("y", [["a", "b", "c"] * 10, np.arange(30) / 7.0, [True, False, True] * 10])
def test_any_kind_of_y(y: Any, rng: np.random.Generator) -> None:
    assert QUBOFeatureSelector(2).fit(rng.normal(size=(30, 5)), y).support_.sum() == 2


def test_frames_clones_and_pickles(rng: np.random.Generator) -> None:
    X, y = sparse_table(rng, 400)
    frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(12)])
    selector = QUBOFeatureSelector(3, random_state=0).fit(frame, y)
    assert list(selector.get_feature_names_out()) == [f"c{j}" for j in selector.get_support(indices=True)]
    again = pickle.loads(pickle.dumps(clone(selector).fit(frame, y)))
    assert_array_equal(again.support_, selector.support_)
    read_only = X[::-1][::-1]
    read_only.flags.writeable = False
    assert_array_equal(QUBOFeatureSelector(3, random_state=0).fit(read_only, y).support_, selector.support_)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_features_to_select": 0}, "n_features_to_select was 0"),
        ({"redundancy_weight": -1}, "redundancy_weight"),
        ({"relevance": "mutal_info"}, "did you mean 'mutual_info'"),
        ({"redundancy": np.ones((3, 3))}, r"redundancy has shape \(3, 3\)"),
        ({"relevance": [np.nan] * 5}, "relevance"),
        ({"relevance": "x"}, "relevance was 'x'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], words: str, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=words):
        QUBOFeatureSelector(**arguments).fit(rng.normal(size=(20, 5)), rng.integers(0, 2, 20))


@pytest.mark.parametrize(
    ("y", "words"), [(None, "requires y"), ([0, 1], "inconsistent"), ([0.0, np.nan] * 10, "y"), ([None, "a"] * 10, "y")]
)
def test_bad_y_is_named(y: Any, words: str, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=words):
        QUBOFeatureSelector(2).fit(rng.normal(size=(20, 5)), y)


def test_the_twin_agrees_on_the_energy_that_is_minimised(rng: np.random.Generator) -> None:
    X, y = sparse_table(rng, 300)
    selector = QUBOFeatureSelector(3, prove=True).fit(X, y)
    Q = 0.5 * selector.redundancy_ - np.diag(selector.relevance_)
    assert_allclose(-selector.objective_, reference.qubo_minimum(Q, 3), atol=1e-9)
