"""Groups with budgets of their own, delta set aside, and what is left shared out over coming releases."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from ppal_fast.errors import BudgetExceeded, InputError, LedgerError, PrivacyError
from ppal_fast.privacy import GroupLedger, Ledger, PersonLedger, accounting, allocate, audit, counts, gaussian_sigma

Float = NDArray[np.float64]
GROUPS = {"north": 0.5, "south": 1.0, "west": 2.0}
WHO = ["north", "south", "west"]
EACH = np.diag([1.0, 10.0, 100.0])  # whose row is in a sum can be read off it


def opened(path: str | Path = ":memory:", **changes: Any) -> GroupLedger:
    return GroupLedger(path, **{"groups": GROUPS, "delta": 1e-5, "unit": "record", **changes})


def sigma(epsilon: float, n_releases: int = 1) -> float:
    return gaussian_sigma(epsilon, 1e-5, n_releases)


def test_each_group_takes_part_until_its_own_budget_is_spent() -> None:
    with opened() as ledger:
        quarter = sigma(0.5)
        seen = []
        for i in range(30):
            try:
                ledger.release_sum(EACH, groups=WHO, clip=100.0, sigma=quarter, name=f"{i}")
            except BudgetExceeded as error:
                assert "no group" in str(error)
                break
            seen.append(ledger.history()[-1].account)
        spent = {name: seen.count(", ".join(WHO)) for name in ["north"]}
        assert spent["north"] == 1 and len(seen) == math.floor((sigma(0.5) / sigma(2.0)) ** 2)
        assert seen[1] == "south, west" and seen[-1] == "west"
        for name, cap in GROUPS.items():
            assert 0.9 * cap < ledger.group(name).spent()[0] <= cap
        assert ledger.spent()[0] == ledger.group("west").spent()[0]
        assert "Group 'south': epsilon 1 promised" in ledger.report()
        assert len(ledger.group("south").history()) == sum("south" in account for account in seen)


def test_who_is_left_out_contributes_nothing() -> None:
    with opened(groups={"north": 0.5, "south": 90.0, "west": 90.0}) as ledger:
        released = [
            ledger.release_sum(1000 * EACH, groups=WHO, clip=1.0, sigma=0.5, name=f"{i}", weights=[1.0, 1.0, -1.0])
            for i in range(16)
        ]
        assert np.abs(np.mean(released, axis=0) - [0.0, 1.0, -1.0]).max() < 5 * 0.5 / 4
        assert all(e.account == "south, west" for e in ledger.history())


def test_a_repeated_name_returns_the_stored_numbers_after_a_group_has_run_out() -> None:
    with opened() as ledger:
        first = ledger.release_sum(EACH, groups=WHO, clip=1.0, sigma=sigma(0.5), name="a")
        again = ledger.release_sum(EACH, groups=WHO, clip=1.0, sigma=sigma(0.5), name="a")
        assert np.array_equal(first, again) and len(ledger.history()) == 1
        with pytest.raises(LedgerError, match="another request"):
            ledger.release_sum(EACH, groups=WHO, clip=2.0, sigma=sigma(0.5), name="a")


def test_a_release_without_groups_charges_all_of_them() -> None:
    with opened() as ledger:
        counts.release_counts(ledger, [0, 1, 1], 2, sigma=sigma(0.5), name="a")
        assert ledger.history()[0].account == "" and ledger.group("north").remaining() < 0.01
        with pytest.raises(BudgetExceeded, match="group 'north'"):
            counts.release_counts(ledger, [0, 1, 1], 2, sigma=sigma(0.5), name="b")


def test_other_mechanisms_charge_every_group_or_one() -> None:
    with opened(unit="label") as ledger:
        ledger.release_label_sum(np.eye(3), np.eye(2), [0, 1, 1], sigma=sigma(0.5), name="all")
        assert ledger.group("north").remaining() < 0.01
        with pytest.raises(BudgetExceeded, match="group 'north'"):
            ledger.release_label_sum(np.eye(3), np.eye(2), [0, 1, 1], sigma=sigma(0.5), name="again")
        west = ledger.group("west")
        west.release_label_sum(np.eye(1), np.eye(2), [0], sigma=sigma(1.0), name="west alone")
        assert [e.name for e in ledger.group("south").history()] == ["all"]
        assert [e.name for e in west.history()] == ["all", "west alone"]


def test_threads_that_race_never_overspend_a_group(tmp_path: Path) -> None:
    noise = sigma(1.0, 5)
    with opened(tmp_path / "ledger") as ledger:
        def work(i: int) -> None:
            for j in range(8):
                try:
                    ledger.release_sum(EACH, groups=WHO, clip=1.0, sigma=noise, name=f"{i}-{j}")
                except BudgetExceeded:
                    return

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum("south" in e.account for e in ledger.history()) == 5
        assert all(ledger.group(name).spent()[0] <= cap for name, cap in GROUPS.items())
    with opened(tmp_path / "ledger") as again:
        assert again.group("south").remaining() < 0.01
    for wrong in (
        lambda: Ledger(tmp_path / "ledger", epsilon=2.0, delta=1e-5, unit="record"),
        lambda: opened(tmp_path / "ledger", groups={**GROUPS, "north": 0.6}),
    ):
        with pytest.raises(LedgerError, match="opened with"):
            wrong()


@pytest.mark.parametrize("mutation", [False, True])
def test_two_worlds_of_a_group_that_has_run_out_look_the_same(
    monkeypatch: pytest.MonkeyPatch, mutation: bool
) -> None:
    """A member of a spent group is not seen at all; were it merely not charged, it would show."""
    if mutation:
        monkeypatch.setattr(np, "isin", lambda names, able: np.ones(len(names), dtype=bool))

    def mechanism(world: int, n: int) -> Float:
        rows = 50.0 * world * sparse.eye_array(n).tocsr()  # every unit has a coordinate of its own
        with opened(groups={"spent": 0.01, "rich": 100.0}, delta=0.4) as ledger:
            return ledger.release_sum(rows, groups=["spent"] * n, clip=1.0, sigma=0.5, name="a")

    result = audit.two_world(mechanism, delta=1e-5, n_draws=20_000)
    assert (result.epsilon_lower_bound > 1.0) == mutation and result.epsilon_lower_bound < 10.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": ["north"]}, "^groups has length 1"), ({"groups": ["north", "south", "east"]}, "^groups was 'east'"),
        ({"owners": ["a", "a", "b"]}, "^groups puts"),
        ({"owners": [["a"]] * 3}, "^owners has"), ({"weights": [1.0]}, "^weights"), ({"rows": [1.0]}, "^rows"),
        ({"clip": -1.0}, "^clip"), ({"sigma": None}, "^epsilon was None"),
    ],
)
def test_bad_input_is_named_and_not_charged(change: dict[str, Any], message: str) -> None:
    with opened(unit="owner") as ledger:
        arguments = {"rows": EACH, "groups": WHO, "owners": ["a", "b", "c"], "clip": 1.0, "sigma": 9.0, "name": "a"}
        with pytest.raises(InputError, match=message):
            ledger.release_sum(**{**arguments, **change})
        assert ledger.history() == []


@pytest.mark.parametrize("groups", [{}, {"north": 0.0}, {"": 1.0}, {"north": math.inf}, {1: 1.0}])
def test_groups_need_a_name_and_an_epsilon(groups: Any) -> None:
    with pytest.raises(InputError, match="groups"):
        opened(groups=groups)


def test_nothing_leaves_a_person_but_through_a_modality() -> None:
    with PersonLedger(":memory:", epsilon=1, delta=1e-5, unit="label", modalities={"a": 0.5}) as person:
        with pytest.raises(PrivacyError, match="modality"):
            person.release_label_sum(np.eye(2), np.eye(2), [0, 1], epsilon=0.1, name="a")
        person.modality("a").release_label_sum(np.eye(2), np.eye(2), [0, 1], epsilon=0.1, name="a")


# Sharing out what is left


def test_what_is_left_is_shared_out_to_the_last_unit_and_fits() -> None:
    values = np.array([1.0, 16.0, 0.0, 4.0])
    with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="record") as ledger:
        ledger.release_sum(np.eye(2), clip=1.0, epsilon=0.3, name="before")
        left = ledger.remaining_mu() ** 2
        noise = allocate(ledger, values)
        assert noise[2] == math.inf and (1 / noise**2).sum() == pytest.approx(left, rel=1e-8)
        spread = float(values[values > 0] @ noise[values > 0] ** 2)
        assert spread == pytest.approx(np.sqrt(values).sum() ** 2 / left, rel=1e-8)
        for other in np.random.default_rng(0).dirichlet(np.ones(3), 50) * left:
            assert float((values[values > 0] / other).sum()) >= spread * (1 - 1e-8)
        for i, one in enumerate(noise):
            if one < math.inf:
                ledger.release_sum(np.eye(2), clip=1.0, sigma=one, name=f"{i}")
        assert ledger.spent()[0] <= 1.0 and ledger.remaining_mu() < 1e-4
        with pytest.raises(BudgetExceeded, match="too little"):
            allocate(ledger, np.ones(10_000))


@pytest.mark.parametrize("values", [[], [0.0], [-1.0, 2.0], [math.nan], [[1.0]]])
def test_values_to_share_by_are_checked(values: Any) -> None:
    with (
        Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="record") as ledger,
        pytest.raises(InputError, match="values"),
    ):
        allocate(ledger, values)


# Delta that is set aside


def test_delta_set_aside_is_a_term_and_is_told(tmp_path: Path) -> None:
    terms = {"epsilon": 1.0, "delta": 1e-5, "unit": "record"}
    with Ledger(tmp_path / "l", **terms, delta_aside=1e-6) as ledger:
        assert ledger.spent() == (0.0, 1e-5 + 1e-6) and "delta 1.1e-05" in ledger.report()
    with pytest.raises(LedgerError, match="delta_aside"):
        Ledger(tmp_path / "l", **terms)
    for wrong in (-1e-6, 1.0, math.nan):
        with pytest.raises(InputError, match="delta_aside"):
            Ledger(":memory:", **terms, delta_aside=wrong)
    units = accounting.failure_units(1.0, 1e-6)
    assert units <= 1e-6 / (1 + math.e) * 2.0**320 <= units * (1 + 1e-12)
