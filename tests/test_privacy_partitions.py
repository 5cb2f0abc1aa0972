"""Partition selection: what a name that one unit alone has can show, what is charged, what is stored."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from ppal_fast.errors import BudgetExceeded, InputError, LedgerError
from ppal_fast.privacy import Ledger, accounting, audit, gaussian_sigma, partitions, select_partitions

Float = NDArray[np.float64]
TERMS: dict[str, Any] = {"epsilon": 1.0, "delta": 1e-5, "unit": "record", "delta_aside": 1e-6}


def opened(path: str | Path = ":memory:", **changes: Any) -> Ledger:
    return Ledger(path, **{**TERMS, **changes})


def test_names_with_members_enough_are_released_and_others_are_not() -> None:
    names = ["many"] * 500 + ["some"] * 120 + [f"alone {i}" for i in range(300)] + [None] * 50
    with opened() as ledger:
        found = select_partitions(ledger, names, delta=1e-6, epsilon=0.5, name="a")
        assert list(found) == ["many", "some"] and abs(found["many"] - 500) < 60 and abs(found["some"] - 120) < 60
        (event,) = ledger.history()
        assert event.keys == ("many", "some") and event.n_masked == len(names)
        assert ledger.spent()[0] == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(("relation", "most", "unit"), [
    ("zero-out", 1, "record"), ("replace-one", 1, "record"), ("zero-out", 3, "owner"), ("zero-out", 1, "label"),
])
@pytest.mark.parametrize("mutation", [False, True])
def test_a_name_of_one_unit_alone_shows_no_more_often_than_was_charged(
    monkeypatch: pytest.MonkeyPatch, relation: str, most: int, unit: str, mutation: bool
) -> None:
    """n units, each with names that nobody else has: a unit shows when any of its names does."""
    if mutation:  # the unit's own contribution forgotten
        exact = partitions.threshold
        monkeypatch.setattr(partitions, "threshold", lambda at, p, j: exact(at, p, j) - at.bound // math.isqrt(j))
    n, delta = 30_000, 0.18
    names = [f"{i}/{j}" for i in range(n) for j in range(most)]
    owners = np.repeat(np.arange(n), most) if unit == "owner" else None
    with opened(delta=0.4, unit=unit, relation=relation, delta_aside=delta) as ledger:
        found = select_partitions(ledger, names, delta=delta, sigma=0.7, owners=owners, most=most, name="a")
    p = delta / (1 + math.e)
    shown = len({one.partition("/")[0] for one in found})
    too_many = shown > binom.ppf(0.9999, n, p)
    assert too_many == mutation
    if not mutation:
        assert shown > 0.5 * n * p  # and the bound is not far off: about 0.72 for units with three names


def test_the_threshold_is_the_least_that_the_tail_allows() -> None:
    from ppal_fast.privacy import sums

    for sigma, p, most in itertools.product([0.3, 7.0], [1e-12, 1e-3], [1, 5]):
        at = sums.grid(1.0, sigma, 1)
        bar = partitions.threshold(at, p, most)
        tails = [j * 0.5 * math.erfc((bar - at.bound / math.sqrt(j) - 0.5) / at.deviation / math.sqrt(2))
                 for j in range(1, most + 1)]
        assert 0.99 * p < max(tails) <= p * (1 + 1e-6)


def test_counts_of_a_name_that_others_have_are_within_the_gaussian_claim() -> None:
    sigma = gaussian_sigma(1.0, 1e-5)

    def mechanism(world: int, n: int) -> Float:
        names = [f"{i:06d}" for i in range(n)]
        with opened(epsilon=2.0, delta_aside=0.9) as ledger:
            found = select_partitions(ledger, names * (40 + world), delta=0.5, sigma=sigma, name="a")
        return np.array([found.get(one, 0.0) for one in names])

    assert 0.6 < audit.two_world(mechanism, delta=1e-5, n_draws=8_000).epsilon_lower_bound <= 1.0


def test_the_ledger_never_exceeds_its_delta() -> None:
    with opened() as ledger:
        for i in range(4):
            select_partitions(ledger, ["a"] * 50, delta=2.5e-7, epsilon=0.1, name=f"{i}")
        with pytest.raises(BudgetExceeded, match="delta_aside"):
            select_partitions(ledger, ["a"] * 50, delta=1e-12, epsilon=0.1, name="more")
        assert len(ledger.history()) == 4
        spent = sum(int(e.body["failure_units"]) for e in ledger._reservations())
        assert accounting.probability(spent) * (1 + math.e) <= 1e-6
        ledger.release_sum(np.eye(2), clip=1.0, epsilon=0.1, name="sums still fit")
    with opened(delta_aside=0.0) as ledger, pytest.raises(BudgetExceeded, match="delta_aside"):
        select_partitions(ledger, ["a"], delta=1e-7, epsilon=0.1, name="a")


def test_the_same_name_returns_the_stored_names(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger") as ledger:
        first = select_partitions(ledger, ["a"] * 99 + ["b"], delta=1e-7, epsilon=0.5, name="x")
    with opened(tmp_path / "ledger") as ledger:
        assert select_partitions(ledger, ["b"] * 100, delta=1e-7, epsilon=0.5, name="x") == first
        with pytest.raises(LedgerError, match="another request"):
            select_partitions(ledger, ["b"] * 100, delta=2e-7, epsilon=0.5, name="x")
        assert ledger.head.startswith("2:")


def test_an_owner_counts_in_the_first_of_its_groups_and_is_clipped_over_all() -> None:
    names = [f"{j}" for _ in range(400) for j in (0, 0, 1, 2, 3)]
    with opened(unit="owner") as ledger:
        found = select_partitions(
            ledger, names, delta=1e-6, epsilon=0.9, owners=np.repeat(np.arange(400), 5), most=3, name="a"
        )
    assert list(found) == ["0", "1", "2"] and all(abs(c - 400 / math.sqrt(3)) < 30 for c in found.values())


def test_nobody_and_nothing_are_charged_like_others() -> None:
    with opened() as ledger:
        assert select_partitions(ledger, [None, None], delta=1e-7, epsilon=0.5, name="a") == {}
        assert select_partitions(ledger, [], delta=1e-7, epsilon=0.1, name="b") == {} and len(ledger.history()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": [3]}, "^names has the entry 3"), ({"names": [""]}, "^names has"), ({"delta": 0.0}, "^delta"),
        ({"delta": 1.0}, "^delta"), ({"most": 0}, "^most"), ({"most": 2}, "^most was 2"),
        ({"owners": ["a"]}, "^owners"), ({"epsilon": None}, "^epsilon was None"), ({"delta": 5e-324}, "^delta"),
    ],
)
def test_bad_input_is_named_and_not_charged(change: dict[str, Any], message: str) -> None:
    with opened() as ledger:
        with pytest.raises(InputError, match=message):
            select_partitions(ledger, **{"names": ["a"], "delta": 1e-7, "epsilon": 0.1, "name": "a", **change})
        assert ledger.history() == []
