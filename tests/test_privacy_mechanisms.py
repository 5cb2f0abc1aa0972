"""Counts, histograms, quantiles, surviving groups and randomised response: each through the ledger, each attacked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from ppal_fast.errors import BudgetExceeded, InputError, PrivacyError
from ppal_fast.privacy import Ledger, PublicMask, accounting, audit, counts, debiased_counts, randomise_labels
from ppal_fast.privacy.label_response import other_weight


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger(":memory:", epsilon=100.0, delta=1e-5, unit="label") as opened:
        yield opened


# Randomised response


@pytest.mark.parametrize("n_classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("epsilon", [1e-5, 0.5, 1.0, 3.0, 30.0])
def test_no_two_labels_differ_by_more_than_epsilon_in_whole_numbers(n_classes: int, epsilon: float) -> None:
    """Every ratio of P(answer | label), a removed label included, is below e^epsilon; and hardly below it."""
    from decimal import Context

    bound = Fraction(Context(prec=60).exp(Context(prec=60).create_decimal(epsilon)))
    q = other_weight(n_classes, epsilon)
    kept = 2**64 - (n_classes - 1) * q
    step = -(-(2**64) // n_classes)
    even = [step, 2**64 - (n_classes - 1) * step]  # codes but the last, and the last, of a removed label
    for a in (kept, q, *even):
        for b in (kept, q, *even):
            assert Fraction(a, b) <= bound
    assert Fraction(kept, q) > bound * (1 - Fraction(2) ** -10 if epsilon == 30.0 else 1 - Fraction(2) ** -40)


def test_the_answers_have_the_stated_law_and_the_counts_are_unbiased(ledger: Ledger) -> None:
    n, k, epsilon = 60_000, 4, 1.2
    labels = np.repeat(np.arange(k), [30_000, 20_000, 10_000, 0])
    released = randomise_labels(ledger, labels, k, epsilon=epsilon, name="a")
    p = math.exp(epsilon) / (math.exp(epsilon) + k - 1)
    for true in range(3):
        answers = np.bincount(released[labels == true], minlength=k) / (labels == true).sum()
        expected = np.where(np.arange(k) == true, p, (1 - p) / (k - 1))
        assert np.abs(answers - expected).max() < 5 * math.sqrt(0.25 / (labels == true).sum())
    estimate = debiased_counts(released, k, epsilon)
    assert estimate.sum() == pytest.approx(n) and np.abs(estimate - [30_000, 20_000, 10_000, 0]).max() < 1500
    removed = randomise_labels(ledger, np.full(n, -1), k, epsilon=epsilon, name="b")
    assert np.abs(np.bincount(removed) / n - 1 / k).max() < 0.01


def test_it_is_charged_as_a_pure_mechanism_and_repeats_its_answer(ledger: Ledger) -> None:
    labels = np.arange(50) % 3
    first = randomise_labels(ledger, labels, 3, epsilon=0.7, name="a")
    (event,) = ledger.history()
    assert event.mu == pytest.approx(accounting.mu_of_randomised_response(0.7), rel=1e-6)
    assert event.mu >= accounting.mu_of_randomised_response(0.7) and event.n_masked == 0
    assert np.array_equal(first, randomise_labels(ledger, (labels + 1) % 3, 3, epsilon=0.7, name="a"))
    assert len(ledger.history()) == 1
    with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="label") as small, pytest.raises(BudgetExceeded, match="'a'"):
        randomise_labels(small, labels, 3, epsilon=1.0, name="a")


def test_two_worlds_cannot_be_told_apart_by_more_than_epsilon(ledger: Ledger) -> None:
    names = iter(range(10))

    def answers(world: int, n: int) -> Any:
        return randomise_labels(ledger, np.full(n, world), 2, epsilon=1.0, name=str(next(names)))

    assert 0.95 < audit.two_world(answers, delta=1e-9, n_draws=200_000).event_lower_bound <= 1.0


def test_a_response_that_keeps_too_often_is_caught(ledger: Ledger) -> None:
    names = iter(range(10))

    def answers(world: int, n: int) -> Any:
        return randomise_labels(ledger, np.full(n, world), 2, epsilon=1.1, name=str(next(names)))

    assert audit.two_world(answers, delta=1e-9, n_draws=200_000).event_lower_bound > 1.0


@pytest.mark.parametrize("unit", ["record", "owner"])
def test_other_units_are_refused(unit: str) -> None:
    with Ledger(":memory:", epsilon=9, delta=1e-5, unit=unit) as ledger, pytest.raises(PrivacyError, match="unit is"):
        randomise_labels(ledger, [0, 1], 2, epsilon=1.0, name="a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 2]}, "^labels has codes"), ({"labels": [0.5]}, "^labels has shape"),
        ({"labels": [[0]]}, "^labels has shape"), ({"labels": [-2]}, "^labels has codes"),
        ({"n_classes": 1}, "^n_classes was"), ({"epsilon": 0.0}, "^epsilon was"), ({"epsilon": 31.0}, "^epsilon was"),
        ({"name": ""}, "^name was"),
    ],
)
def test_bad_input_of_the_response_is_named_and_free(ledger: Ledger, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        randomise_labels(ledger, **{"labels": [0, 1], "n_classes": 2, "epsilon": 1.0, "name": "a", **change})
    assert ledger.history() == []


# Counts


def test_counts_are_those_of_the_cells_with_one_charge(ledger: Ledger) -> None:
    cells = [0, 0, 3, 3, 3, -1]
    noisy = counts.release_counts(ledger, cells, 5, sigma=0.2, name="a")
    assert np.abs(noisy - [2, 0, 0, 3, 0]).max() < 1.3 and (noisy != np.round(noisy)).any()
    assert ledger.history()[0].mu == pytest.approx(5.0, rel=1e-6)


def test_a_histogram_counts_outliers_at_its_ends_and_nothing_for_nan(ledger: Ledger) -> None:
    noisy = counts.histogram(ledger, [-9.0, 0.0, 0.5, 1.0, 2.0, 7.0, np.nan], [0, 1, 2], sigma=0.2, name="a")
    assert np.abs(noisy - [3, 3]).max() < 1.3


def test_quantiles_of_a_fine_histogram_are_those_of_the_values(ledger: Ledger) -> None:
    values, edges = np.random.default_rng(0).standard_normal(5000), np.linspace(-4, 4, 129)
    released = counts.histogram(ledger, values, edges, epsilon=1.0, name="a")
    shares = [0.05, 0.5, 0.95]
    assert np.abs(counts.quantiles(released, edges, shares) - np.quantile(values, shares)).max() < 0.25


@pytest.mark.parametrize("released", [[-5.0, -3.0, -1.0], [0.0, 0.0, 0.0], [3.0, -9.0, 1.0], [0.0, 7.0, -2.0]])
def test_quantiles_of_noise_are_in_range_and_in_order(released: list[float]) -> None:
    found = counts.quantiles(released, [0, 1, 2, 3], np.linspace(0, 1, 11))
    assert (np.diff(found) >= 0).all() and found.min() >= 0 and found.max() <= 3


def test_a_confusion_table_has_truth_in_its_rows(ledger: Ledger) -> None:
    truth, predicted = ["a"] * 30 + ["b"] * 10, ["a"] * 25 + ["b"] * 15
    noisy = counts.confusion(ledger, truth, predicted, ["a", "b"], sigma=0.2, name="a")
    assert np.abs(noisy - [[25, 5], [0, 10]]).max() < 1.4


def test_survivors_of_noisy_counts_make_a_public_mask(ledger: Ledger) -> None:
    groups = np.repeat([0, 3], [40, 25])
    mask = counts.surviving_groups(ledger, groups, 6, threshold=15, sigma=1.0, name="groups")
    assert isinstance(mask, PublicMask) and mask.mask.tolist() == [True, False, False, True, False, False]
    assert "'groups'" in mask.source
    with Ledger(":memory:", epsilon=9, delta=1e-5, unit="record") as other:
        other.release_sum(np.ones((2, 6)), clip=1.0, epsilon=1.0, mask=mask, name="a")


def test_whether_a_lonely_group_survives_tells_no_more_than_was_charged() -> None:
    """Partition selection in two worlds: a record alone in its group, and absent."""
    sigma = accounting.gaussian_sigma(1.0, 1e-5)

    def survives(world: int, n: int) -> Any:
        with Ledger(":memory:", epsilon=2, delta=1e-5, unit="record") as ledger:
            # n groups, each a pair of worlds of its own, as one record counts in one group
            groups = np.arange(n) if world else np.zeros(0, int)
            return counts.surviving_groups(ledger, groups, n, threshold=2.0, sigma=sigma, name="a").mask.astype(float)

    assert audit.two_world(survives, delta=1e-5, n_draws=200_000).event_lower_bound <= 1.0


def test_a_mask_of_the_groups_that_occur_is_caught() -> None:
    def occurs(world: int, n: int) -> Any:
        return np.full(n, float(world))

    assert audit.two_world(occurs, delta=1e-5, n_draws=10_000).event_lower_bound > 5.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: counts.release_counts(r, [0, 5], 5, sigma=1.0, name="a"), "^cells has numbers"),
        (lambda r: counts.release_counts(r, [0.0], 5, sigma=1.0, name="a"), "^cells has shape"),
        (lambda r: counts.release_counts(r, [0], 0, sigma=1.0, name="a"), "^n_cells was"),
        (lambda r: counts.histogram(r, [0.0], [1, 0], sigma=1.0, name="a"), "^edges must"),
        (lambda r: counts.histogram(r, [[0.0]], [0, 1], sigma=1.0, name="a"), "^values has shape"),
        (lambda r: counts.quantiles([1.0], [0, 1, 2], [0.5]), "^counts has shape"),
        (lambda r: counts.quantiles([1.0], [0, 1], [1.5]), "^shares was"),
        (lambda r: counts.confusion(r, ["a"], ["b"], ["a"], sigma=1.0, name="a"), "^label 'b'"),
        (lambda r: counts.confusion(r, ["a"], [], ["a"], sigma=1.0, name="a"), "^truth has length"),
        (lambda r: counts.confusion(r, [], [], ["a", "a"], sigma=1.0, name="a"), "^classes was"),
        (lambda r: counts.surviving_groups(r, [0], 2, threshold=-1.0, sigma=1.0, name="a"), "^threshold was"),
    ],
)
def test_bad_input_of_counts_is_named_and_free(ledger: Ledger, call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(ledger)
    assert ledger.history() == []
