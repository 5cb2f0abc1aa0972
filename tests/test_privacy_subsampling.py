"""Sums over Poisson subsamples: the charge against exact curves and dp-accounting, secret coins, two worlds."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from ppal_fast.errors import BudgetExceeded, InputError, LedgerError, PrivacyError
from ppal_fast.learners import LogisticClassifier
from ppal_fast.privacy import Ledger, SubsampledSums, accounting, audit, subsampling

Float = NDArray[np.float64]
TERMS: dict[str, Any] = {"epsilon": 3.0, "delta": 1e-5, "unit": "record", "delta_aside": 1e-5}
BLOCK: dict[str, Any] = {"d": 3, "clip": 1.0, "sigma": 2.0, "rate": 0.25, "n_steps": 4, "delta": 1e-5, "name": "a"}


@pytest.fixture(autouse=True)
def extra() -> None:
    pytest.importorskip("dp_accounting", reason="the extra [accounting] is not installed")


def opened(path: str | Path = ":memory:", **changes: Any) -> Ledger:
    return Ledger(path, **{**TERMS, **changes})


# The charge


@pytest.mark.parametrize(("sigma", "rate"), [(0.7, 0.1), (1.0, 0.02), (3.0, 0.5), (1.5, 0.999)])
@pytest.mark.parametrize("failure", [1e-7])
def test_one_step_is_dominated_at_every_epsilon_in_both_orders(sigma: float, rate: float, failure: float) -> None:
    """Against the hockey-stick divergence of the mixture in closed form, between and beyond the points compared."""
    mu = subsampling.dominating_mu(sigma, rate, 1, failure)
    assert mu <= 1.02 / sigma
    for epsilon in np.random.default_rng(0).uniform(-8.0, 8.0, 400):
        bound = failure + (1 - failure) * divergence_of_gaussian(float(epsilon), mu)
        for exact in mixture_divergences(float(epsilon), sigma, rate):
            assert exact <= bound + 1e-13


def mixture_divergences(epsilon: float, sigma: float, rate: float) -> list[float]:
    """H_e^epsilon of (1 - q) N(0) + q N(1) against N(0), and the other way round."""
    growth = math.exp(epsilon)

    def crossing(level: float) -> float:  # where the ratio of the densities, mixture over N(0), is ``level``
        inner = (level - 1 + rate) / rate
        return -math.inf if inner <= 0 else sigma**2 * math.log(inner) + 0.5

    def mixture(x: float) -> float:
        return float((1 - rate) * norm.cdf(x / sigma) + rate * norm.cdf((x - 1) / sigma))

    a, b = crossing(growth), crossing(1 / growth)
    return [(1 - mixture(a)) - growth * float(norm.sf(a / sigma)), float(norm.cdf(b / sigma)) - growth * mixture(b)]


def divergence_of_gaussian(epsilon: float, mu: float) -> float:
    return float(norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * norm.cdf(-epsilon / mu - mu / 2))


@pytest.mark.parametrize(("sigma", "rate", "n_steps"), [(1.0, 0.01, 300), (2.0, 0.1, 20), (7.0, 0.3, 10)])
def test_a_block_costs_no_less_than_dp_accounting_says_and_hardly_more(sigma: float, rate: float, n_steps: int) -> None:
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant

    failure, delta = 1e-7, 1e-5
    mu = subsampling.dominating_mu(sigma, rate, n_steps, failure)
    oracle = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    oracle.compose(SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)), n_steps))
    claimed, known = accounting.epsilon_of_mu(mu, delta), oracle.get_epsilon(delta + failure)
    assert known * (1 - 1e-3) <= claimed <= 1.25 * known
    assert mu >= rate * math.sqrt(n_steps * math.expm1(1 / sigma**2)) * 0.99  # the central limit, from below


@pytest.mark.parametrize("mu", [1e-3, 0.1, 1.0, 6.0])
def test_the_curve_of_many_epsilons_is_that_of_one(mu: float) -> None:
    epsilons = np.linspace(0.0, 8.0 * mu + mu**2, 50)
    expected = [math.exp(accounting.log_delta(float(e), mu)) for e in epsilons]
    curve = subsampling._gaussian_curve(epsilons, mu)
    np.testing.assert_allclose(curve, expected, rtol=3e-9)
    assert (curve <= np.array(expected) * (1 + 1e-12)).all()


def test_the_block_is_charged_once_and_its_failure_too() -> None:
    with opened() as ledger:
        block = SubsampledSums(ledger, **BLOCK)
        spent = ledger.spent()
        assert ledger.history()[0].mu == pytest.approx(block.mu) and spent[0] > 0
        for _ in range(4):
            assert block.release(np.ones((5, 3))).shape == (3,)
        assert ledger.spent() == spent and len(ledger.history()) == 5
        with pytest.raises(PrivacyError, match="all of which"):
            block.release(np.ones((5, 3)))
        with pytest.raises(BudgetExceeded, match="delta_aside"):
            SubsampledSums(ledger, **{**BLOCK, "name": "again"})


def test_a_noise_multiplier_is_found_for_a_budget() -> None:
    sigma = subsampling.block_sigma(0.4, 0.2, 10, 1e-6)
    costs = [subsampling.dominating_mu(factor * sigma, 0.2, 10, 1e-6) for factor in (1.0, 0.98)]
    assert costs[0] <= 0.4 < costs[1]


# The coins


def test_each_unit_is_drawn_by_a_coin_of_its_own() -> None:
    n, rate = 40_000, 0.3
    first, second = subsampling.poisson_sample(n, rate), subsampling.poisson_sample(n, rate)
    for drawn in (first, second):
        assert abs(drawn.sum() - n * rate) < 5 * math.sqrt(n * rate * (1 - rate))
    assert abs((first & second).sum() - n * rate**2) < 5 * math.sqrt(n * rate**2)
    sizes = [subsampling.poisson_sample(100, rate).sum() for _ in range(400)]
    assert 0.8 < np.var(sizes) / (100 * rate * (1 - rate)) < 1.25  # a sample of fixed size would have variance 0


def test_an_owner_is_drawn_as_a_whole_and_the_sum_is_that_of_the_drawn() -> None:
    """Two rows of (.2, .2, .2) with weight 2 are (.8, .8, .8) together, clipped to norm 1; one of them alone is not."""
    owners = np.repeat(np.arange(1000), 2)
    with opened(unit="owner") as ledger:
        block = SubsampledSums(ledger, **BLOCK)
        mean = np.mean([block.release(np.full((2000, 3), 0.2), owners=owners, weights=np.full(2000, 2.0))
                        for _ in range(4)])
    expected, spread = 250 / math.sqrt(3), math.sqrt(1000 * 0.25 * 0.75 / 3 / 4)
    assert abs(mean - expected) < 5 * (spread + 1.0) < abs(1000 * (0.0625 / math.sqrt(3) + 0.375 * 0.4) - expected)


def test_a_block_opened_again_returns_what_was_released_and_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger") as ledger:
        block = SubsampledSums(ledger, **BLOCK)
        first = [block.release(np.ones((5, 3))) for _ in range(2)]
        spent = ledger.spent()
    with opened(tmp_path / "ledger") as ledger:
        block = SubsampledSums(ledger, **BLOCK)
        again = [block.release(np.zeros((5, 3))) for _ in range(4)]
        assert np.array_equal(first, again[:2]) and ledger.spent() == spent and len(ledger.history()) == 5
        with pytest.raises(LedgerError, match="another request"):
            SubsampledSums(ledger, **{**BLOCK, "rate": 0.2})


def test_a_step_that_dies_is_lost_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as ledger:
        block = SubsampledSums(ledger, **BLOCK)
        with pytest.raises(InputError, match="NaN"):
            block.release(np.full((5, 3), np.nan))
        with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
            dying.setattr(subsampling.sums, "release", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            block.release(np.ones((5, 3)))
        for _ in range(3):
            block.release(np.ones((5, 3)))
        with pytest.raises(PrivacyError, match="all of which"):
            block.release(np.ones((5, 3)))
        assert [e.state for e in ledger.history()] == ["committed", "reserved", *["committed"] * 3]


# Two worlds, in which every unit has a coordinate and a coin of its own


@pytest.mark.parametrize("mutation", ["none", "everybody is drawn", "half of the noise"])
def test_two_worlds_stay_below_the_charge(monkeypatch: pytest.MonkeyPatch, mutation: str) -> None:
    from scipy import sparse

    from ppal_fast.kernels import noise

    if mutation == "everybody is drawn":
        monkeypatch.setattr(subsampling, "poisson_sample", lambda n, rate: np.ones(n, dtype=bool))
    if mutation == "half of the noise":
        exact = noise.draw_rounded_gaussian
        monkeypatch.setattr(noise, "draw_rounded_gaussian", lambda n, s, key: exact(n, 0.5 * s, key))
    claimed = []

    def mechanism(world: int, n: int) -> Float:
        with opened(epsilon=20.0, delta_aside=0.5) as ledger:
            arguments = {**BLOCK, "d": n, "n_steps": 1, "delta": 0.5, "sigma": 1.0, "rate": 0.3}
            block = SubsampledSums(ledger, **arguments)
            claimed.append(block.mu)
            return block.release(50.0 * world * sparse.eye_array(n).tocsr())

    result = audit.two_world(mechanism, delta=1e-5, n_draws=200_000)
    refuted = (
        result.mu_lower_bound > claimed[0] or result.event_lower_bound > accounting.epsilon_of_mu(claimed[0], 1e-5)
    )
    assert refuted == (mutation != "none")


# Input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 1.0}, "^rate"), ({"rate": 0.0}, "^rate"), ({"delta": 0.0}, "^delta"), ({"n_steps": 0}, "^n_steps"),
        ({"d": 0}, "^d was"), ({"clip": 0.0}, "^clip"), ({"sigma": math.inf}, "^sigma"),
        ({"delta": 1e-14}, "^delta was"),
    ],
)
def test_bad_input_is_named_and_not_charged(change: dict[str, Any], message: str) -> None:
    with opened() as ledger:
        with pytest.raises(InputError, match=message):
            SubsampledSums(ledger, **{**BLOCK, **change})
        assert ledger.history() == []


def test_rows_of_another_width_and_other_units_are_refused() -> None:
    with opened() as ledger, pytest.raises(InputError, match=r"^rows has shape"):
        SubsampledSums(ledger, **BLOCK).release(np.ones((2, 4)))
    for terms in ({"unit": "label"}, {"relation": "replace-one"}):
        with opened(**terms) as ledger, pytest.raises(PrivacyError, match="zero-out"):
            SubsampledSums(ledger, **BLOCK)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    monkeypatch.setitem(sys.modules, "dp_accounting.pld", None)
    with opened() as ledger, pytest.raises(InputError, match=r"ppal_fast\[accounting\]"):
        SubsampledSums(ledger, **{**BLOCK, "sigma": 2.125})


# The learner


def test_the_logistic_learner_descends_on_subsamples() -> None:
    rng = np.random.default_rng(0)
    X = np.clip(rng.standard_normal((3000, 3)), -4, 4)
    y = (X @ [2.0, -1.0, 0.5] + 0.3 * rng.standard_normal(3000) > 0).astype(int)
    with opened(epsilon=2.0) as ledger:
        learner = LogisticClassifier(sampling_rate=0.3, n_steps=8, classes=[0, 1], random_state=0)
        learner.fit(X[:1500], y[:1500], ledger=ledger, epsilon=1.9)
        assert learner.score(X[1500:], y[1500:]) > 0.85
        assert ledger.spent()[0] <= 1.9 * (1 + 1e-9) and "delta=1.9" in learner.privacy_
    with opened(delta_aside=0.0) as ledger, pytest.raises(InputError, match="delta_aside"):
        learner.fit(X[:50], y[:50], ledger=ledger, epsilon=1.0)
    with pytest.raises(InputError, match="sampling_rate"):
        learner.fit(X[:50], y[:50])
    with opened(unit="label") as ledger, pytest.raises(InputError, match="sampling_rate"):
        learner.fit(X[:50], y[:50], ledger=ledger)
