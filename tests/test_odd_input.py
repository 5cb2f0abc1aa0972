"""The whole loop on input that is odd but real: what comes late, what is missing, what is too much or too little."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ppal_fast import PPAL
from ppal_fast.errors import InputError, PPALError

pytestmark = pytest.mark.filterwarnings("ignore:only the class")


def rows(n: int, d: int, seed: int = 0, missing: float = 0.4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X[rng.random(X.shape) < missing] = np.nan
    return X


def looped(X: Any, y: Any, **settings: Any) -> PPAL:
    loop = PPAL(**{"n_per_round": 10, "n_rounds": 3, "random_state": 0} | settings)
    return loop.run(X, lambda asked: [y[i] for i in asked])


@pytest.mark.parametrize("strategy", ["auto", "badge", "committee", "design"])
def test_a_class_that_appears_only_in_later_rounds(strategy: str) -> None:
    X = rows(200, 5)
    seen: list[int] = []

    def oracle(asked: np.ndarray) -> list[str]:
        seen.append(len(seen))
        return [("a", "b", "c")[min(len(seen) - 1, 2) if i % 2 else 0] for i in asked]

    loop = PPAL(strategy=strategy, n_per_round=15, n_rounds=4, random_state=0).run(X, oracle)
    assert loop.classes_.tolist() == ["a", "b", "c"]
    assert loop.predict_proba(X).shape == (200, 3)


@pytest.mark.parametrize("strategy", ["auto", "margin", "entropy", "qubo", "density", "committee", "threshold"])
def test_one_label_only(strategy: str) -> None:
    X = rows(60, 4)
    loop = looped(X, ["same"] * 60, strategy=strategy)
    assert set(loop.predict(X)) == {"same"}
    assert sum(len(r.asked) for r in loop.history_) == 30


@pytest.mark.parametrize(
    "y",
    [
        np.array(["ja", "nein"] * 50), np.array([True, False] * 50), pd.Categorical(["x", "y"] * 50),
        np.array([0.0, 1.0] * 50), np.array(["a", "b"] * 50, dtype=object),
    ],
    ids=["texts", "booleans", "categories", "floats", "objects"],
)
def test_labels_of_every_kind(y: Any) -> None:
    X = rows(100, 4)
    loop = looped(X, list(y))
    assert set(np.unique(loop.predict(X)).tolist()) <= set(list(y))
    assert len(loop.classes_) == 2


def test_an_oracle_that_returns_too_few_unknown_or_failing_answers_can_be_told_again() -> None:
    X, y = rows(80, 4), np.array(["a", "b"] * 40)
    loop = PPAL(n_per_round=10, n_rounds=2, classes=["a", "b"], random_state=0).start(X)
    asked = loop.ask()
    with pytest.raises(InputError, match="9 answers for 10 rows"):
        loop.tell(asked, y[asked][:9])
    with pytest.raises(InputError, match="'z' is not among the classes"):
        loop.tell(asked, ["z", *y[asked][1:]])
    np.testing.assert_array_equal(loop.ask(), asked)
    loop.tell(asked, [None, *y[asked][1:]])
    assert loop.ask().tolist() == [asked[0]]
    loop.tell(asked[:1], y[asked[:1]])
    assert loop.round_ == 1 and len(loop.history_) == 1

    def fails(_: Any) -> Any:
        raise ConnectionError("the laboratory is closed")

    other = PPAL(n_per_round=10, n_rounds=2, random_state=0)
    with pytest.raises(ConnectionError):
        other.run(X, fails)
    np.testing.assert_array_equal(other.tell(other.ask(), y[other.ask()]).ask().shape, (10,))
    with pytest.raises(PPALError):
        PPAL(n_per_round=10, n_rounds=2).run(X, lambda a: [None] * len(a))


def test_columns_that_appear_empty_until_later() -> None:
    """A column with one observed cell in the pool, and one with none; later rows show them."""
    X, y = rows(150, 6), np.arange(150) % 2
    X[:, 4], X[:, 5] = np.nan, np.nan
    X[7, 4] = 1.0
    loop = looped(X, y)
    later = np.random.default_rng(1).standard_normal((20, 6))
    assert np.isfinite(loop.predict_proba(later)).all()


def test_duplicates() -> None:
    X = np.repeat(rows(4, 5, missing=0.2), 50, axis=0)
    y = np.repeat([0, 1, 0, 1], 50)
    for strategy in ("auto", "badge", "qubo", "design", "density", "typical"):
        loop = looped(X, y, strategy=strategy)
        asked = np.concatenate([r.asked for r in loop.history_])
        assert len(np.unique(asked)) == len(asked) == 30


def test_a_hundred_classes() -> None:
    X, y = rows(400, 8, missing=0.2), np.arange(400) % 100
    loop = looped(X, y, n_per_round=60, n_rounds=3)
    P = loop.predict_proba(X[:20])
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert P.shape[1] == len(loop.classes_) <= 100


def test_2308_columns_with_10_rows() -> None:
    y = np.arange(10) % 2
    right = []
    for seed in range(5):
        X = np.random.default_rng(seed).standard_normal((10, 2308))
        X[y == 1, :300] += 3
        right.append((looped(X, y, n_per_round=3, n_rounds=2).predict(X) == y).mean())
    assert min(right) >= 0.6 and np.mean(right) >= 0.7  # six labels, seldom three of each class


@pytest.mark.parametrize("strategy", ["auto", "random", "design", "typical", "badge"])
def test_a_pool_smaller_than_the_batch(strategy: str) -> None:
    X, y = rows(7, 3), np.array([0, 1, 0, 1, 0, 1, 0])
    loop = looped(X, y, n_per_round=20, strategy=strategy)
    assert [len(r.asked) for r in loop.history_] == [7]
    assert loop.predict(X).shape == (7,)
