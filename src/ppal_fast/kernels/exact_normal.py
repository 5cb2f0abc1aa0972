"""round(S Phi^-1(U)) decided in high precision: the slow path of the rounded Gaussian, and its oracle.

U is known to lie in [u, u + 1) / 2**bits. Everything is rational or Decimal with a proved error, no float decides.
Source: contract 3 of the privacy page docs/privacy/rounded_gaussian.md.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist

GUARD = 30  # decimal digits beyond those of U; the series below loses fewer than 10 of them


def rounded_quantile(u: int, bits: int, deviation: float) -> int | None:
    """The integer k with Phi((k - 1/2)/S) <= U < Phi((k + 1/2)/S), or None while ``bits`` bits cannot tell.

    u in [0, 2**bits); deviation S > 0 in grid units.
    """
    scale = Fraction(deviation)
    k = _estimate(u, bits, deviation)
    step = max(1, int(deviation * 2.0**-44))  # the estimate is off by at most a few of these
    low: int | None = None  # the largest boundary k + 1/2 known to be at or below U
    high: int | None = None  # the smallest boundary known to be above U
    while low is None or high is None or high - low > 1:
        side = compare(u, bits, Fraction(2 * k + 1, 2) / scale)
        if side is None:
            return None
        if side < 0:
            high = k
            k = k - step if low is None else (low + high) // 2
        else:
            low = k
            k = k + step if high is None else (low + high) // 2
        step *= 2
    return high


def compare(u: int, bits: int, boundary: Fraction) -> int | None:
    """-1 if U < Phi(boundary), +1 if U >= Phi(boundary), None if [u, u + 1) / 2**bits does not tell."""
    digits = math.ceil(bits * math.log10(2)) + GUARD
    value = Fraction(normal_cdf(boundary, digits))
    error = Fraction(1, 10 ** (digits - 8))
    if Fraction(u + 1, 2**bits) <= value - error:
        return -1
    if Fraction(u, 2**bits) >= value + error:
        return 1
    return None


def normal_cdf(x: Fraction, digits: int) -> Decimal:
    """Phi(x) with absolute error below 10**(8 - digits), for |x| < 60.

    Phi(x) = 1/2 + phi(x) (x + x^3/3 + x^5/(3 5) + ...): terms of one sign, hence no cancellation before the last sum.
    With N < 10,000 terms each operation adds at most one unit of 10**(1 - digits) relative to a number below 1.
    """
    with localcontext(Context(prec=digits + 4)):
        number = Decimal(x.numerator) / Decimal(x.denominator)
        square = number * number
        term = total = number
        n = 1
        floor = Decimal(10) ** -(digits + 4)
        # Beyond n = 1.5 x^2 each term is below 2/3 of the one before: what is left out is below twice the last one.
        while abs(term) > floor * abs(total) or n * 2 < 3 * square:
            n += 2
            term = term * square / n
            total += term
        density = (-square / 2).exp() / (2 * _pi(digits + 4)).sqrt()
        return Decimal("0.5") + density * total


@lru_cache(maxsize=8)
def _pi(digits: int) -> Decimal:
    """Machin's formula in integers: pi = 16 arctan(1/5) - 4 arctan(1/239)."""
    one = 10 ** (digits + 10)

    def arctan_inverse(m: int) -> int:
        power = total = one // m
        n, sign = 1, -1
        while power:
            power //= m * m
            n += 2
            total += sign * (power // n)
            sign = -sign
        return total

    return Decimal(16 * arctan_inverse(5) - 4 * arctan_inverse(239)).scaleb(-(digits + 10), Context(prec=digits + 12))


def _estimate(u: int, bits: int, deviation: float) -> int:
    """A float guess of k; only the number of steps of the search depends on it."""
    doubled = 2 * u + 1  # the middle of the interval, in units of 2**-(bits + 1)
    tail = min(doubled, 2 ** (bits + 1) - doubled)
    p = tail / 2 ** (bits + 1)  # true division of integers: correctly rounded down to 2**-1074
    x = -NormalDist().inv_cdf(p) if 0.0 < p < 0.5 else (0.0 if p >= 0.5 else 38.0)
    return round(math.copysign(x, doubled - 2**bits) * deviation)
