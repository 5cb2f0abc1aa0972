"""The whole loop on neighbouring tables: what is released tells them apart by no more than epsilon."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ppal_fast import PPAL, Ledger
from ppal_fast.kernels import noise
from ppal_fast.privacy import audit

EPSILON, DELTA, DRAWS = 8.0, 1e-5, 1000
TABLE = np.random.default_rng(0).standard_normal((16, 2)).clip(-3, 3)
LABELS = (TABLE[:, 0] > 0).astype(int)


def released(world: int, unit: str, strategy: str, n_rounds: int) -> Any:
    """Every number that one run of the loop releases; the worlds differ in the first record: its label, or all of it.

    The adversary knows everything else, the seed of the queries included, and that this record is labelled.
    """
    rows, labels = TABLE.copy(), LABELS.copy()
    labels[0] = world
    if unit == "record":
        rows[0] = 4.0 if world else -4.0
    known = [int(labels[0]), int(labels[1]), *[None] * (len(rows) - 2)]
    with Ledger(":memory:", epsilon=EPSILON, delta=DELTA, unit=unit, relation="replace-one") as ledger:
        loop = PPAL(strategy=strategy, n_per_round=4, n_rounds=n_rounds, ledger=ledger, classes=[0, 1], random_state=0)
        loop.run(rows, lambda asked: labels[asked], y=known)
        return np.concatenate([release.value for release in ledger.history()])


def bound(unit: str, strategy: str, n_rounds: int) -> float:
    """Of the two worlds' transcripts, seen along the direction in which they differ without noise."""
    loop = (unit, strategy, n_rounds)
    with pytest.MonkeyPatch.context() as silent:
        silent.setattr(noise, "draw_rounded_gaussian", lambda n, s, key: np.zeros(n, np.int64))
        difference = released(1, *loop) - released(0, *loop)
    direction = difference / np.var([released(0, *loop) for _ in range(40)], axis=0)

    def mechanism(world: int, n: int) -> Any:
        return np.array([released(world, *loop) @ direction for _ in range(n)])

    return audit.two_world(mechanism, delta=DELTA, n_draws=DRAWS).epsilon_lower_bound


@pytest.mark.parametrize(("unit", "strategy", "n_rounds"), [("label", "entropy", 2), ("record", "random", 1)])
def test_the_loop_tells_no_more_than_was_promised(unit: str, strategy: str, n_rounds: int) -> None:
    assert 0.05 * EPSILON < bound(unit, strategy, n_rounds) <= EPSILON


def test_a_loop_with_too_little_noise_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = noise.draw_rounded_gaussian
    monkeypatch.setattr(noise, "draw_rounded_gaussian", lambda n, s, key: original(n, s / 4, key))
    assert bound("label", "random", 1) > EPSILON
