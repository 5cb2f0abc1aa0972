"""From item to item: queries keep their pace whatever the clock does, and a stream that changed is noticed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from ppal_fast import PPAL, Ledger, LineScorer, simulate
from ppal_fast.kernels._line import Scorer
from ppal_fast.learners import ClassMeanClassifier, RandomTreesClassifier
from ppal_fast.line import Decision

POOL = simulate.drives(n_rows=3000, random_state=0)
STREAM = simulate.drives(n_rows=20_000, random_state=1)


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


def learned(unit: str | None) -> PPAL:
    ledger = None if unit is None else Ledger(":memory:", epsilon=4.0, delta=1e-5, unit=unit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = PPAL(
            "class-mean", "random", ledger=ledger, n_per_round=150, n_rounds=1, classes=[0, 1], random_state=0
        )
        return loop.run(POOL.table, lambda rows: POOL.y[rows])


@pytest.fixture(scope="module", params=[None, "record"])
def loop(request: pytest.FixtureRequest) -> PPAL:
    return learned(request.param)


def asked(scorer: LineScorer, clock: Clock, n: int, seconds: float, first: int = 0) -> int:
    """How many of n items that come ``seconds`` apart are queries."""
    count = 0
    for i in range(first, first + n):
        clock.now += seconds
        count += scorer.decide(STREAM.X[i % len(STREAM)]).query
    return count


@pytest.mark.parametrize(("target", "per_hour"), [(60, 200), (60, 20_000), (600, 20_000)])
def test_queries_come_at_the_target_rate(loop: PPAL, target: float, per_hour: int) -> None:
    clock = Clock()
    scorer = LineScorer.from_ppal(loop, queries_per_hour=target, clock=clock)
    n = 20_000
    rate = asked(scorer, clock, n, 3600 / per_hour) / (n / per_hour)
    if loop.ledger_ is None:  # what was asked is charged: exact but for what is under way
        assert rate == pytest.approx(target, abs=(target / 4 + 1) / (n / per_hour) + 0.01 * target)
    else:  # the expectation under the released model is charged
        assert 0.4 * target < rate < 2.5 * target


def test_what_is_asked_is_uncertain(loop: PPAL) -> None:
    clock = Clock()
    scorer = LineScorer.from_ppal(loop, queries_per_hour=100, clock=clock)
    uncertainty = []
    for x in STREAM.X[:10_000]:
        clock.now += 0.2
        decision = scorer.decide(x)
        if decision.query:
            uncertainty.append(decision.uncertainty)
    everything = scorer.verdicts(STREAM.X)["uncertainty"]
    assert np.mean(uncertainty) > np.quantile(everything, 0.9)


@pytest.mark.parametrize("jump", [86_400.0, 1e12, -86_400.0, float("inf"), float("-inf"), float("nan")])
def test_a_jump_of_the_clock_brings_no_flood_and_no_silence(loop: PPAL, jump: float) -> None:
    clock = Clock()
    target, per_hour, n = 40, 4000, 4000
    scorer = LineScorer.from_ppal(loop, queries_per_hour=target, clock=clock)
    asked(scorer, clock, n, 3600 / per_hour)
    before, clock.now = clock.now, clock.now + jump
    scorer.decide(STREAM.X[0])
    if not np.isfinite(jump):
        clock.now = before
    after = asked(scorer, clock, n, 3600 / per_hour)
    assert after <= 2.5 * (target + target / 4)
    assert after >= 0.3 * target


def test_a_topic_flood_brings_no_flood_of_queries(loop: PPAL) -> None:
    clock = Clock()
    scorer = LineScorer.from_ppal(loop, queries_per_hour=40, clock=clock)
    asked(scorer, clock, 1000, 1.0)
    assert asked(scorer, clock, 20_000, 0.0) <= 2.5 * (40 / 4 + 1)


def test_a_batch_shares_what_its_items_would_have_spent(loop: PPAL) -> None:
    clock = Clock()
    scorer = LineScorer.from_ppal(loop, queries_per_hour=400, clock=clock)
    count = 0
    for start in range(0, 20_000, 200):
        clock.now += 36.0
        count += int(scorer.decide_many(STREAM.X[start:start + 200]).query.sum())
    assert 0.4 * 400 < count < 2.5 * 400, "one hour"


def test_an_exchange_of_models_keeps_the_pace(loop: PPAL) -> None:
    """Exchanged every few seconds, two models together ask at the rate of one that stays."""
    clock = Clock()
    staying, one, other = (LineScorer.from_ppal(loop, queries_per_hour=600, clock=clock) for _ in range(3))
    expected = asked(staying, clock, 20_000, 0.18)
    count = 0
    for first in range(0, 20_000, 25):
        count += asked(one, clock, 25, 0.18, first)
        other.take_pace(one)
        one, other = other, one
    assert expected > 240 and 0.8 * expected < count < 1.2 * expected


def test_a_private_scorer_takes_no_pace_from_one_that_charges_what_was_asked() -> None:
    clock = Clock()
    public, private = (
        LineScorer.from_ppal(learned(unit), queries_per_hour=3600, clock=clock) for unit in (None, "record")
    )
    public.decide(STREAM.X[0]), private.decide(STREAM.X[0])
    clock.now += 900.0
    public.decide(np.full(50, np.nan)), private.decide(np.full(50, np.nan))
    private.take_pace(public)
    assert asked(private, clock, 200, 0.0) > 50, "its own allowance is as it was"
    fresh = LineScorer.from_ppal(learned("record"), queries_per_hour=3600, clock=clock)
    fresh.take_pace(public)
    assert asked(fresh, clock, 200, 0.0) == 0
    fresh.take_pace(private)
    assert asked(fresh, clock, 200, 0.0) > 50


def test_under_unit_record_an_item_is_asked_whatever_the_others_are() -> None:
    """The forced transcript of contract 6: the same clock, model and coins, other items before, the same decisions."""
    loop = learned("record")

    def queries(first: Any) -> list[bool]:
        clock = Clock()
        kernel = Scorer(image, (0, 1), Decision, clock, 12345)
        found = []
        for i, x in enumerate([*first, *STREAM.X[1000:3000]]):
            clock.now += 1.0
            if i == 1500:
                old, kernel = kernel, Scorer(image, (0, 1), Decision, clock, 54321)
                kernel.take_pace(old)
            decision = kernel.decide(x)
            found.append(decision is not None and decision.query)
        return found[len(first):]

    image = LineScorer.from_ppal(loop, queries_per_hour=600)._image
    expected = queries(STREAM.X[:1000])
    assert 0 < sum(expected) < 2000
    for other in (3.0, np.nan, np.inf):
        assert queries(np.full((1000, 50), other)) == expected


# Drift


@pytest.fixture(scope="module")
def scorer() -> LineScorer:
    learner = ClassMeanClassifier("factors", random_state=0)
    learner.fit(POOL.table.take(np.arange(150)), POOL.y[:150], X_pool=POOL.table)
    return LineScorer.from_learner(learner, POOL.schema, threshold=0.1, pool=POOL.table)


def test_a_stream_like_the_pool_raises_no_alarm(scorer: LineScorer) -> None:
    scorer.reset_drift()
    for _ in range(3):
        scorer.decide_many(STREAM.X[np.random.default_rng(0).permutation(len(STREAM))])
    drift = scorer.drift()
    assert drift.n_items == 3 * (~np.isnan(STREAM.X)).any(axis=1).sum()
    assert not drift.drifted and drift.alarm_at is None
    assert 0.005 < drift.unusual < 0.02, "a model knows its own pool a little better than new items"


def test_other_makers_raise_an_alarm_and_a_reset_forgets_it(scorer: LineScorer) -> None:
    scorer.reset_drift()
    scorer.decide_many(STREAM.X[:5000])
    other = STREAM.X[np.isin(STREAM.X[:, 0], [4, 5])]
    for x in other[:1500]:
        scorer.decide(x)
    drift = scorer.drift()
    assert drift.drifted and drift.alarm_at is not None and 5000 - 20 < drift.alarm_at < 5500
    scorer.decide_many(STREAM.X[:5000])
    assert scorer.drift().alarm_at == drift.alarm_at, "an alarm stays"
    scorer.reset_drift()
    assert scorer.drift()[0] == 0 and not scorer.drift().drifted


def test_false_alarms_are_as_rare_as_promised_under_exchangeability() -> None:
    """The mean evidence after n items is at most n, so that n / .01 is exceeded by one stream in a hundred."""
    rng = np.random.default_rng(0)
    learner = ClassMeanClassifier("columns", random_state=0)
    evidence = []
    for _ in range(60):
        rows = rng.permutation(len(POOL))
        learner.fit(POOL.table.take(rows[:60]), POOL.y[rows[:60]], X_pool=POOL.table.take(rows[:1000]))
        scorer = LineScorer.from_learner(learner, POOL.schema, threshold=0.1, pool=POOL.table.take(rows[:1000]))
        scorer.decide_many(POOL.X[rows[1000:]])
        evidence.append(scorer.drift().evidence)
    assert max(evidence) < 2000 / 0.01


def test_where_nothing_of_the_pool_was_released_nothing_is_watched() -> None:
    ledger = Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="record")
    learner = RandomTreesClassifier(5, classes=[0, 1])
    loop = PPAL(learner, "random", ledger=ledger, n_per_round=100, n_rounds=1, classes=[0, 1], random_state=0)
    scorer = LineScorer.from_ppal(loop.run(POOL.table, lambda rows: POOL.y[rows]), queries_per_hour=60)
    scorer.decide_many(STREAM.X[:100])
    assert scorer.drift().n_items == 0
