"""The accounting against closed forms, against itself, and towards its ends."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppal_fast.errors import InputError
from ppal_fast.kernels.exact_normal import normal_cdf
from ppal_fast.privacy import accounting
from ppal_fast.privacy.accounting import epsilon_of, epsilon_of_mu, gaussian_sigma, mu_of_epsilon

EPSILONS = st.floats(math.log(1e-4), math.log(100.0)).map(math.exp)
DELTAS = st.floats(math.log(1e-300), math.log(0.5)).map(math.exp)


@pytest.mark.parametrize(("epsilon", "mu"), [(0.5, 0.142211), (1.0, 0.268051), (2.0, 0.501552), (8.0, 1.666031)])
def test_the_table_of_the_contracts(epsilon: float, mu: float) -> None:
    assert mu_of_epsilon(epsilon, 1e-5) == pytest.approx(mu, abs=6e-7)
    assert epsilon_of_mu(mu_of_epsilon(epsilon, 1e-5), 1e-5) == pytest.approx(epsilon, rel=1e-12)


@pytest.mark.parametrize(("epsilon", "sigma"), [(0.5, 7.032), (1.0, 3.731), (2.0, 1.994), (8.0, 0.600)])
def test_the_noise_of_one_release_and_of_many(epsilon: float, sigma: float) -> None:
    assert gaussian_sigma(epsilon, 1e-5) == pytest.approx(sigma, abs=6e-4)
    assert gaussian_sigma(epsilon, 1e-5, 9) == pytest.approx(3 * gaussian_sigma(epsilon, 1e-5), rel=1e-9)
    assert epsilon_of(gaussian_sigma(epsilon, 1e-5, 7), 1e-5, 7) == pytest.approx(epsilon, rel=1e-6)


def test_five_releases_need_far_less_noise_than_the_summed_classical_rule() -> None:
    classical = 5 * math.sqrt(2 * math.log(1.25 / 1e-5)) / 0.5
    assert classical == pytest.approx(48.4, abs=0.1)  # 51.7 in the articles, who also share out delta
    assert gaussian_sigma(0.5, 1e-5, 5) < 15.8


@settings(max_examples=150, deadline=None)
@given(epsilon=EPSILONS, delta=DELTAS)
def test_the_two_conversions_are_inverse_over_the_whole_range(epsilon: float, delta: float) -> None:
    mu = mu_of_epsilon(epsilon, delta)
    assert 0 < mu < 30 and epsilon_of_mu(mu, delta) == pytest.approx(epsilon, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(epsilon=EPSILONS, delta=DELTAS)
def test_delta_agrees_with_the_definition_in_high_precision(epsilon: float, delta: float) -> None:
    """delta(epsilon) = Phi(-e/m + m/2) - e^e Phi(-e/m - m/2), in 700 digits, at the mu that was returned."""
    mu = mu_of_epsilon(epsilon, delta)
    e, m = Fraction(epsilon), Fraction(mu)
    from decimal import Context

    growth = Fraction(Context(prec=700).exp(Context(prec=700).create_decimal(epsilon)))
    exact = Fraction(normal_cdf(-e / m + m / 2, 700)) - growth * Fraction(normal_cdf(-e / m - m / 2, 700))
    assert float(exact / Fraction(delta)) == pytest.approx(1.0, abs=accounting.RESERVED_SHARE / 4)


@settings(max_examples=60, deadline=None)
@given(epsilon=EPSILONS, delta=st.floats(1e-12, 0.4), n=st.integers(1, 1000))
def test_n_releases_at_the_recommended_noise_fit_the_cap_and_no_smaller_noise_does(
    epsilon: float, delta: float, n: int
) -> None:
    cap = accounting.units_of_epsilon(epsilon, delta)
    if cap < n:
        with pytest.raises(InputError, match="n_releases"):
            gaussian_sigma(epsilon, delta, n)
        return
    sigma = gaussian_sigma(epsilon, delta, n)
    assert n * accounting.charge(sigma) <= cap
    share = cap // n
    assert n * accounting.charge(sigma * math.sqrt(share / (share + 1)) * (1 - 1e-9)) > cap


@settings(max_examples=60, deadline=None)
@given(units=st.integers(0, 10**14), delta=st.floats(1e-12, 0.4))
def test_the_largest_epsilon_fits_what_is_left(units: int, delta: float) -> None:
    epsilon = accounting.largest_epsilon(units, delta)
    if epsilon > 0:
        charge = accounting.units_of_epsilon(epsilon, delta)
        assert charge <= units and charge == pytest.approx(units, rel=1e-6, abs=2)
    else:
        assert units == 0 or accounting.epsilon_of_units(units, delta) == 0


def test_charges_are_rounded_up_and_caps_down() -> None:
    assert accounting.charge(1.0) == 2**40
    assert accounting.charge(math.nextafter(1.0, 0)) == 2**40 + 1
    assert accounting.charge(2.0**25) == 1 and accounting.charge(3.0) == -(-(2**40) // 9)
    exact = mu_of_epsilon(1.0, accounting.usable(1e-5)) ** 2 * 2**40
    assert accounting.units_of_epsilon(1.0, 1e-5) == math.floor(exact)


def test_randomised_response_dominates_its_trade_off() -> None:
    mu = accounting.mu_of_randomised_response(1.0)
    assert mu == pytest.approx(1.2320353853, abs=1e-9)
    for epsilon in (1e-3, 0.5, 5.0, 100.0):
        mu = accounting.mu_of_randomised_response(epsilon)
        kept = 1 / (1 + math.exp(-epsilon))
        assert math.erfc(-mu / 2 / math.sqrt(2)) / 2 == pytest.approx(kept, rel=1e-12)


def test_nothing_costs_nothing_and_more_costs_more() -> None:
    assert epsilon_of_mu(0.0, 1e-5) == 0.0
    previous = 0.0
    for mu in (1e-6, 1e-3, 0.1, 1.0, 10.0, 100.0, 1000.0):
        assert epsilon_of_mu(mu, 1e-5) >= previous
        previous = epsilon_of_mu(mu, 1e-5)
    assert mu_of_epsilon(1.0, 1e-9) < mu_of_epsilon(1.0, 1e-5) < mu_of_epsilon(1.1, 1e-5)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9, 1e-12])
@pytest.mark.parametrize("epsilon", [0.05, 0.5, 2.0, 8.0, 30.0])
def test_dp_accounting_agrees(epsilon: float, delta: float) -> None:
    """Its privacy loss distribution gives the same epsilon, up to its own discretisation; its RDP is looser."""
    pytest.importorskip("dp_accounting", reason="the extra [accounting] is not installed")
    from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    for n in (1, 50):
        event = SelfComposedDpEvent(GaussianDpEvent(gaussian_sigma(epsilon, delta, n)), n)
        assert PLDAccountant().compose(event).get_epsilon(delta) == pytest.approx(epsilon, rel=2e-5)
        assert epsilon < RdpAccountant().compose(event).get_epsilon(delta) < 1.4 * epsilon


def test_dp_accounting_agrees_on_releases_of_different_noise() -> None:
    pytest.importorskip("dp_accounting", reason="the extra [accounting] is not installed")
    from dp_accounting import GaussianDpEvent
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=1e-3)
    sigmas = [3.0, 7.5, 2.2, 11.0, 4.1]
    for sigma in sigmas:
        accountant.compose(GaussianDpEvent(sigma))
    mu = math.sqrt(sum(sigma**-2 for sigma in sigmas))
    assert accountant.get_epsilon(1e-6) == pytest.approx(epsilon_of_mu(mu, 1e-6), rel=2e-3)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: gaussian_sigma(0.0, 1e-5), "epsilon"), (lambda: gaussian_sigma(math.inf, 1e-5), "epsilon"),
        (lambda: gaussian_sigma(math.nan, 1e-5), "epsilon"), (lambda: gaussian_sigma(1.0, 0.0), "delta"),
        (lambda: gaussian_sigma(1.0, 1.0), "delta"), (lambda: gaussian_sigma(1.0, 1e-5, 0), "n_releases"),
        (lambda: epsilon_of(0.0, 1e-5), "sigma"), (lambda: epsilon_of(math.inf, 1e-5), "sigma"),
        (lambda: epsilon_of_mu(-1.0, 1e-5), "mu"), (lambda: mu_of_epsilon("1", 1e-5), "epsilon"),  # type: ignore[arg-type]
    ],
)
def test_bad_numbers_are_named(call, name: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=rf"^{name} was"):
        call()


def test_numerical_delta_is_counted_in_whole_units_within_the_reserved_share() -> None:
    for epsilon, delta in ((0.5, 1e-5), (8.0, 1e-12), (100.0, 1e-9)):
        units = accounting.numerical_delta_units(epsilon, delta)
        spent = Fraction(units, 2**accounting.DELTA_UNIT_BITS) * Fraction(1 + math.exp(epsilon))
        assert units > 10**9 and spent <= Fraction(delta) * Fraction(accounting.RESERVED_SHARE) / 2


def test_accounting_needs_neither_numba_nor_scipy() -> None:
    program = (
        "import sys; from ppal_fast.privacy import Ledger, gaussian_sigma; gaussian_sigma(1, 1e-5); "
        "Ledger(':memory:', epsilon=1, delta=1e-5, unit='label').report(); "
        "sys.exit(any(m in sys.modules for m in ('numba', 'scipy', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
