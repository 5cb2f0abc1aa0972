"""Learners for streams: decayed sums are what they say, privately through one charge; old weights hold and let go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ppal_fast import Ledger, simulate
from ppal_fast.errors import InputError, PrivacyError
from ppal_fast.learners import ClassMeanClassifier, DecayedMeans, ElasticLogistic, learn_representation

QUARTERS = simulate.supplier_switch(6, 1500, 3, random_state=0)
MAP = learn_representation(QUARTERS[0].table, random_state=0)
N = 60


def told(learner: Any, quarters: list[Any], **options: Any) -> Any:
    for q, table in enumerate(quarters):
        more = {"ids": [(q, i) for i in range(N)]} if options.get("ids") else {}
        learner.update(table.table.take(slice(N)), table.y[:N], **more)
    return learner


def accuracy(learner: Any, table: Any) -> float:
    return float((learner.predict(table.table.take(slice(N, None))) == table.y[N:]).mean())


def test_without_decay_the_sums_are_those_of_all_labels_at_once() -> None:
    streamed = told(DecayedMeans(MAP, [0, 1], decay=1.0), QUARTERS[:3])
    X = np.vstack([t.X[:N] for t in QUARTERS[:3]])
    y = np.concatenate([t.y[:N] for t in QUARTERS[:3]])
    whole = ClassMeanClassifier(classes=[0, 1], random_state=0).fit(X, y, X_pool=MAP)
    np.testing.assert_allclose(streamed.predict_proba(QUARTERS[4].X), whole.predict_proba(QUARTERS[4].X), atol=1e-7)


@pytest.mark.parametrize(
    ("forgets", "holds"),
    [
        (lambda: DecayedMeans(MAP, [0, 1], decay=0.3), lambda: DecayedMeans(MAP, [0, 1], decay=1.0)),
        (lambda: ElasticLogistic(MAP, [0, 1], elasticity=0.1), lambda: ElasticLogistic(MAP, [0, 1], elasticity=1.0)),
    ],
    ids=["decayed-means", "elastic"],
)
def test_what_forgets_recovers_and_what_holds_remembers(forgets: Any, holds: Any) -> None:
    new, old = (told(make(), QUARTERS) for make in (forgets, holds))
    assert accuracy(new, QUARTERS[5]) > accuracy(old, QUARTERS[5]) + 0.05
    assert accuracy(old, QUARTERS[0]) > accuracy(new, QUARTERS[0]) + 0.05


def test_a_stream_of_sums_is_charged_once_and_takes_nobody_twice() -> None:
    with Ledger(":memory:", epsilon=4.0, delta=1e-5, unit="label") as ledger:
        learner = DecayedMeans(MAP, [0, 1], decay=0.7, ledger=ledger)
        spent = ledger.spent()[0]
        told(learner, QUARTERS[:3], ids=True)
        assert ledger.spent()[0] == spent <= 4.0
        assert "unit label" in learner.privacy_
        with pytest.raises(PrivacyError, match="earlier round"):
            learner.update(QUARTERS[3].table.take(slice(1)), QUARTERS[3].y[:1], ids=[(0, 0)])
        with pytest.raises(InputError, match="ids"):
            learner.update(QUARTERS[3].table.take(slice(1)), QUARTERS[3].y[:1])
    with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="record") as ledger, pytest.raises(PrivacyError, match="map"):
        DecayedMeans(MAP, [0, 1], ledger=ledger)


def test_a_private_stream_with_much_budget_is_the_public_one() -> None:
    with Ledger(":memory:", epsilon=90.0, delta=1e-5, unit="label") as ledger:
        private = told(DecayedMeans(MAP, [0, 1], decay=0.5, ledger=ledger), QUARTERS[:3], ids=True)
    public = told(DecayedMeans(MAP, [0, 1], decay=0.5), QUARTERS[:3])
    agree = (private.predict(QUARTERS[2].X) == public.predict(QUARTERS[2].X)).mean()
    assert agree > 0.9


def test_quarters_without_labels_and_bad_input() -> None:
    learner = DecayedMeans(MAP, ["b", "a"])
    nothing = QUARTERS[0].table.take(slice(0))
    np.testing.assert_allclose(learner.update(nothing, []).predict_proba(QUARTERS[0].X[:2]), 0.5)
    elastic = ElasticLogistic(MAP, ["b", "a"])
    elastic.update(nothing, np.array([], dtype=str))
    np.testing.assert_allclose(elastic.predict_proba(QUARTERS[0].X[:2]), 0.5)
    few = QUARTERS[0].table.take(slice(2))
    for one in (learner, elastic):
        with pytest.raises(InputError, match="label 'c'"):
            one.update(few, ["a", "c"])
        with pytest.raises(InputError, match="shape"):
            one.update(few, ["a"])
    for bad in (0, 1.5):
        with pytest.raises(InputError, match="decay"):
            DecayedMeans(MAP, [0, 1], decay=bad)
    with pytest.raises(InputError, match="at least two"):
        ElasticLogistic(MAP, [0])
