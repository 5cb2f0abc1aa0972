"""Sums of labels over public rows: the computed sensitivity against every pair of neighbours, and two-world attacks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ppal_fast.errors import BudgetExceeded, InputError, LedgerError, PrivacyError
from ppal_fast.privacy import Ledger, accounting, audit, gaussian_sigma, label_sums

Float = NDArray[np.float64]
RELATIONS = ("zero-out", "replace-one")


def one_hot(n_classes: int) -> Float:
    return np.eye(n_classes) - 1 / n_classes


def opened(relation: str, unit: str = "label", epsilon: float = 100.0) -> Ledger:
    return Ledger(":memory:", epsilon=epsilon, delta=1e-5, unit=unit, relation=relation)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with opened("zero-out") as one:
        yield one


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("sigma", [0.01, 7.0, 2.0**18])
def test_no_neighbour_moves_the_rounded_sum_further_than_the_grid_says(relation: str, sigma: float) -> None:
    rng = np.random.default_rng(4)
    for _ in range(10):
        rows = rng.standard_normal((3, 4)) * 10.0 ** rng.integers(-6, 6)
        targets = rng.standard_normal((3, 2)) + rng.integers(0, 3)
        tables = label_sums.PublicTables.of(rows, targets)
        at = label_sums.grid(tables, sigma, relation)
        assert (at.sensitivity / at.deviation) ** 2 <= at.units * accounting.UNIT <= (1 / sigma) ** 2 + accounting.UNIT
        squares = []
        for codes in itertools.product(range(-1, 3), repeat=3):
            here = integers(tables, codes, at)
            for i in range(3):
                for other in range(-1, 3):
                    if other != codes[i] and (relation == "replace-one" or -1 in (other, codes[i])):
                        there = integers(tables, (*codes[:i], other, *codes[i + 1 :]), at)
                        squares.append(sum((a - b) ** 2 for a, b in zip(here, there, strict=True)))
        assert 0.99 * at.sensitivity**2 < max(squares) <= at.sensitivity**2


def integers(tables: label_sums.PublicTables, codes: Any, at: label_sums.LabelGrid) -> list[int]:
    """The sum before noise, in the slow and obvious way."""
    d, m = tables.rows.shape[1], tables.targets.shape[1]
    total = [0] * (m * d)
    for row, code in zip(tables.rows.tolist(), codes, strict=True):
        for a, b in itertools.product(range(m), range(d)) if code >= 0 else ():
            total[a * d + b] += int(tables.targets[code, a]) * row[b]
    assert tables.sum(np.array(codes)).ravel().tolist() == total
    return [math.floor(x / 2**at.shift + 0.5) if at.shift else x for x in total]


@pytest.mark.parametrize("n_classes", [2, 4, 10])
def test_a_replaced_label_costs_the_distance_of_two_targets(n_classes: int) -> None:
    rows = np.array([[0.6, 0.8], [0.1, 0.0]])
    expected = {"zero-out": math.sqrt(1 - 1 / n_classes), "replace-one": math.sqrt(2)}
    for relation, size in expected.items():
        noise = label_sums.noise_deviation(rows, one_hot(n_classes), sigma=3.0, relation=relation)
        assert noise == pytest.approx(3.0 * size, rel=1e-5)


def test_the_sum_is_right_and_its_noise_is_as_told(ledger: Ledger) -> None:
    rng = np.random.default_rng(1)
    rows, codes, targets = rng.standard_normal((500, 20)), rng.integers(-1, 10, 500), rng.standard_normal((10, 30))
    exact = np.where(codes[:, None] < 0, 0.0, targets[codes]).T @ rows
    precise = ledger.release_label_sum(rows, targets, codes, sigma=0.2, name="a")
    assert precise.shape == (30, 20)
    spread = label_sums.noise_deviation(rows, targets, sigma=0.2, relation="zero-out")
    assert (precise - exact).std() == pytest.approx(spread, rel=0.15)
    assert spread == pytest.approx(
        0.2 * np.linalg.norm(rows, axis=1).max() * np.linalg.norm(targets, axis=1).max(), rel=1e-5
    )
    (event,) = ledger.history()
    assert event.clip * event.sigma == pytest.approx(spread) and event.mu == pytest.approx(5.0, rel=1e-6)
    assert event.n_masked == 600


def test_the_request_is_known_by_its_public_arguments_alone(ledger: Ledger) -> None:
    rows, targets, codes = np.eye(3), one_hot(3), np.array([0, 1, 2])
    first = ledger.release_label_sum(rows, targets, codes, sigma=2.0, name="a")
    assert np.array_equal(first, ledger.release_label_sum(rows, targets, codes[::-1], sigma=2.0, name="a"))
    assert len(ledger.history()) == 1
    for change in ({"rows": 2 * rows}, {"targets": targets[::-1]}, {"sigma": 3.0}):
        with pytest.raises(LedgerError, match="another request"):
            ledger.release_label_sum(
                **{"rows": rows, "targets": targets, "sigma": 2.0, **change}, codes=codes, name="a"
            )


def test_an_empty_table_is_noise_and_is_charged(ledger: Ledger) -> None:
    released = ledger.release_label_sum(np.empty((0, 5)), one_hot(2), np.empty(0, int), sigma=2.0, name="a")
    assert released.shape == (2, 5) and released.any() and ledger.spent()[0] > 0
    assert ledger.release_label_sum(np.zeros((2, 5)), one_hot(2), [0, 1], sigma=2.0, name="b").any()


def test_the_report_does_not_halve_a_label_promise() -> None:
    """Under replace-one a label sum may cost the same as under zero-out: half the mu would claim too much."""
    targets = np.array([[1.0], [0.0]])  # one label against nothing, and against the other: the same distance
    noise = [label_sums.noise_deviation(np.ones((1, 1)), targets, sigma=1.0, relation=r) for r in RELATIONS]
    assert noise[0] == noise[1]
    with opened("replace-one", epsilon=1.0) as ledger:
        assert "The same promise under 'zero-out': epsilon 1," in ledger.report()
    with opened("replace-one", "record", epsilon=1.0) as ledger:
        assert "The same promise under 'zero-out': epsilon 0.4" in ledger.report()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.ones(3)}, "^rows has shape"), ({"rows": np.full((3, 2), np.nan)}, "^rows has shape"),
        ({"rows": np.full((3, 2), 1e200)}, "^rows has entries"), ({"rows": [["a"]] * 3}, "^rows has shape"),
        ({"targets": np.ones((0, 2))}, "^targets has 0 rows"), ({"targets": np.full((2, 1), np.inf)}, "^targets"),
        ({"codes": [0, 1]}, "^codes has shape"), ({"codes": [0, 1, 2]}, "^codes has numbers from 0 to 2"),
        ({"codes": [0.0, 1.0, 1.0]}, "^codes has shape"), ({"codes": [0, -2, 1]}, "^codes has numbers from -2"),
        ({"sigma": 0.0}, "^sigma"), ({"sigma": 2.0**21}, "^sigma"), ({"sigma": None}, "^epsilon was None"),
        ({"epsilon": 1.0}, "^epsilon was 1.0 and sigma"), ({"name": ""}, "^name"),
    ],
)
def test_bad_input_is_named_and_not_charged(ledger: Ledger, change: dict[str, Any], message: str) -> None:
    arguments = {"rows": np.ones((3, 2)), "targets": one_hot(2), "codes": [0, 1, 1], "sigma": 1.0, "name": "a"}
    with pytest.raises(InputError, match=message):
        ledger.release_label_sum(**{**arguments, **change})
    assert ledger.history() == []


@pytest.mark.parametrize("unit", ["record", "owner"])
def test_public_rows_are_refused_where_rows_are_protected(unit: str) -> None:
    with opened("zero-out", unit) as ledger, pytest.raises(PrivacyError, match="public"):
        ledger.release_label_sum(np.ones((1, 1)), one_hot(2), [0], sigma=1.0, name="a")


def test_a_spent_budget_refuses_before_a_label_is_read() -> None:
    with opened("zero-out", epsilon=1.0) as ledger, pytest.raises(BudgetExceeded):
        ledger.release_label_sum(np.ones((1, 1)), one_hot(2), ["no", "code"], sigma=0.1, name="a")


# Two worlds


def shown(relation: str) -> float:
    mechanism = audit.label_worlds(sigma=gaussian_sigma(1.0, 1e-5), relation=relation)
    return audit.two_world(mechanism, delta=1e-5, n_draws=100_000).epsilon_lower_bound


@pytest.mark.parametrize("relation", RELATIONS)
def test_two_worlds_come_close_to_the_claim_and_never_above(relation: str) -> None:
    assert 0.8 < shown(relation) <= 1.0


@pytest.mark.parametrize("mutation", ["pairs forgotten", "rows forgotten"])
def test_a_sensitivity_that_forgets_something_is_caught(monkeypatch: pytest.MonkeyPatch, mutation: str) -> None:
    exact = label_sums.PublicTables.squared_sensitivity

    def forgetful(self: label_sums.PublicTables, relation: str) -> int:
        if mutation == "pairs forgotten":
            return exact(self, "zero-out")
        return exact(self, relation) // 2  # the longest row taken for one of norm 1/sqrt 2

    monkeypatch.setattr(label_sums.PublicTables, "squared_sensitivity", forgetful)
    assert shown("replace-one") > 1.0
