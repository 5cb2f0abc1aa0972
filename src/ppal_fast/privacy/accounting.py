"""The currency: Gaussian differential privacy (GDP), and its conversion to (epsilon, delta).

A mechanism is mu-GDP if telling two neighbouring tables apart is no easier than telling N(0, 1) from N(mu, 1)
(Dong, Roth, Su 2022, doi:10.1111/rssb.12454). The squares of mu add up, exactly and adaptively; one total mu holds

    delta(epsilon) = Phi(-epsilon/mu + mu/2) - e^epsilon Phi(-epsilon/mu - mu/2)      (Balle, Wang 2018, theorem 8)

The ledger counts mu^2 in whole units of 2**-40, charges rounded up and caps rounded down, and beside it the
numerical delta: what a sampler's distance from its ideal costs. RESERVED_SHARE of every delta is set aside for
that and for the rounding of this page's float arithmetic. Only the standard library is used.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist

from .. import _validate
from ..errors import InputError

UNIT = 2.0**-40  # of mu^2
RESERVED_SHARE = 2.0**-20  # of delta; half of it for numerical delta, half for float error (below 1e-8 relative)
DELTA_UNIT_BITS = 320  # numerical delta is counted in units of 2**-320, the bound on one rounded Gaussian sample
LARGEST_EPSILON = 100.0  # beyond it no privacy is left to account for

_ROOT_TWO = math.sqrt(2.0)


def mu_of_epsilon(epsilon: float, delta: float) -> float:
    """The largest mu whose delta(epsilon) is at most ``delta``: mu_of_epsilon(1, 1e-5) = 0.268051."""
    _validate.positive(epsilon=epsilon)
    _validate.fraction(delta=delta)
    return _mu_of_epsilon(float(epsilon), float(delta))


@lru_cache(maxsize=1024)  # a ledger asks for its cap at every request
def _mu_of_epsilon(epsilon: float, delta: float) -> float:
    target = math.log(delta)
    low, high = 0.0, 1.0
    while log_delta(epsilon, high) < target:
        low, high = high, 2.0 * high
    if low == 0.0:
        low = high / 2.0
        while log_delta(epsilon, low) >= target:
            low, high = low / 2.0, low
    return _bisect(lambda mu: log_delta(epsilon, mu) <= target, low, high)


def epsilon_of_mu(mu: float, delta: float) -> float:
    """The least epsilon at which mu-GDP gives (epsilon, delta)-DP; 0 where delta(0) is already below ``delta``."""
    _validate.non_negative(mu=mu)
    _validate.fraction(delta=delta)
    target = math.log(delta)
    if mu == 0.0 or log_delta(0.0, mu) <= target:
        return 0.0
    high = 1.0
    while log_delta(high, mu) > target:
        high *= 2.0
    below = _bisect(lambda epsilon: log_delta(epsilon, mu) > target, 0.0, high)
    return math.nextafter(below, math.inf)


def gaussian_sigma(epsilon: float, delta: float, n_releases: int = 1) -> float:
    """The noise multiplier (standard deviation / sensitivity) at which ``n_releases`` sums cost (epsilon, delta).

    That many releases with this sigma fit a ledger of this epsilon and delta. Exact Gaussian curve, composed exactly:
    gaussian_sigma(0.5, 1e-5) = 7.032 and sqrt(n) times that for n releases.
    """
    _validate.integer(1, n_releases=n_releases)
    units = units_of_epsilon(epsilon, delta) // n_releases
    if units < 1:
        raise InputError(
            f"n_releases was {n_releases}; epsilon={epsilon!r} at delta={delta!r} is too small a budget to be shared so"
        )
    return sigma_of_units(units)


def epsilon_of(sigma: float, delta: float, n_releases: int = 1) -> float:
    """The epsilon of ``n_releases`` sums with noise multiplier ``sigma``, at ``delta``: inverse of gaussian_sigma."""
    _validate.positive(sigma=sigma)
    _validate.integer(1, n_releases=n_releases)
    return epsilon_of_mu(math.sqrt(n_releases) / sigma, usable(delta))


def mu_of_randomised_response(epsilon: float) -> float:
    """The mu that dominates any pure epsilon-DP mechanism: 2 Phi^-1(e^epsilon / (1 + e^epsilon))."""
    _validate.positive(epsilon=epsilon)
    return -2.0 * NormalDist().inv_cdf(1.0 / (1.0 + math.exp(min(epsilon, 700.0))))


def units_of_epsilon(epsilon: float, delta: float) -> int:
    """floor(mu^2 / 2**-40) of an (epsilon, delta) budget: a cap, or the charge of a release with its own epsilon."""
    return math.floor(mu_of_epsilon(epsilon, usable(delta)) ** 2 / UNIT)


def epsilon_of_units(units: int, delta: float) -> float:
    """The epsilon of a charge of ``units``."""
    return epsilon_of_mu(math.sqrt(units * UNIT), usable(delta))


def largest_epsilon(units: int, delta: float) -> float:
    """The largest epsilon that a release may ask for when ``units`` are left; 0 if nothing can be paid."""
    if units < 1:
        return 0.0
    epsilon = epsilon_of_units(units, delta)
    step = 2.0**-50
    while epsilon > 0.0 and units_of_epsilon(epsilon, delta) > units:
        epsilon *= 1.0 - step
        step *= 2.0
    return epsilon


def sigma_of_units(units: int) -> float:
    """The least noise multiplier whose charge is at most ``units``."""
    sigma = math.sqrt(1.0 / (units * UNIT))
    while charge(sigma) > units:
        sigma = math.nextafter(sigma, math.inf)
    return sigma


def charge(sigma: float) -> int:
    """ceil(mu^2 / 2**-40) for noise of ``sigma`` sensitivities, in exact arithmetic."""
    return math.ceil(2**40 / Fraction(sigma) ** 2)


def usable(delta: float) -> float:
    """``delta`` without the reserved share."""
    _validate.fraction(delta=delta)
    return delta * (1.0 - RESERVED_SHARE)


def numerical_delta_units(epsilon: float, delta: float) -> int:
    """How many units of 2**-320 of numerical delta fit: (1 + e^epsilon) delta_num <= delta * RESERVED_SHARE / 2."""
    return failure_units(epsilon, delta * RESERVED_SHARE / 2)


def failure_units(epsilon: float, delta: float) -> int:
    """The probability of failure that ``delta`` pays for, in units of 2**-320: (1 + e^epsilon) times it fits."""
    room = Fraction(delta) * 2**DELTA_UNIT_BITS
    return math.floor(room / Fraction(math.nextafter(1.0 + math.exp(epsilon), math.inf)))


def probability(units: int) -> float:
    """A number of units of 2**-320, at or below it."""
    return math.nextafter(float(Fraction(units, 2**DELTA_UNIT_BITS)), 0.0)


def log_delta(epsilon: float, mu: float) -> float:
    """ln delta(epsilon) of mu-GDP, mu > 0, to about 1e-8 absolute or better over the range of float64.

    With z = epsilon/mu - mu/2, e^epsilon phi(z + mu) = phi(z), hence delta = phi(z) (R(z) - R(z + mu)) with
    Mills' ratio R = (1 - Phi)/phi: no exponential of epsilon is formed and nothing underflows.
    """
    z = epsilon / mu - mu / 2.0
    log_density = -z * z / 2.0 - math.log(2.0 * math.pi) / 2.0
    if z < 0.0:
        rest = 0.5 * math.erfc(z / _ROOT_TWO) - math.exp(log_density) * _mills(z + mu)
        return math.log(max(rest, 5e-324))
    return log_density + math.log(max(_mills(z) - _mills(z + mu), 5e-324))


def _mills(x: float) -> float:
    """(1 - Phi(x)) / phi(x) for x >= 0: by erfc, and by Laplace's continued fraction from x = 5 on."""
    if x < 5.0:
        return math.sqrt(math.pi / 2.0) * math.erfc(x / _ROOT_TWO) * math.exp(x * x / 2.0)
    tail = x
    for n in range(60, 0, -1):
        tail = x + n / tail
    return 1.0 / tail


def _bisect(holds, low: float, high: float) -> float:  # type: ignore[no-untyped-def]
    """The last float at which ``holds`` is true, given that it is at low (or low is the end) and not at high."""
    while True:
        middle = (low + high) / 2.0
        if not low < middle < high:
            return low
        if holds(middle):
            low = middle
        else:
            high = middle
