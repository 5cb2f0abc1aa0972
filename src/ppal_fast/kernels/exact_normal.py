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

    u in [0, 2**bits); deviation S > 0 in grid units. One comparison as a rule: at the boundary nearest to U, which
    also settles the next boundary where U is closer than a cell's least probability.
    """
    scale = Fraction(deviation)
    k = _estimate(u, bits, deviation)
    step = max(1, int(deviation * 2.0**-44))  # the estimate is off by at most a few of these
    low: int | None = None  # the largest boundary k + 1/2 known to be at or below U
    high: int | None = None  # the smallest boundary known to be above U
    while low is None or high is None or high - low > 1:
        boundary = Fraction(2 * k + 1, 2) / scale
        found = compare(u, bits, boundary)
        if found is None:
            return None
        side, distance = found
        near = distance < _least_cell(float(boundary), deviation)
        if side < 0:
            if near:
                return k
            high = k
            k = k - step if low is None else (low + high) // 2
        else:
            if near:
                return k + 1
            low = k
            k = k + step if high is None else (low + high) // 2
        step *= 2
    return high


def compare(u: int, bits: int, boundary: Fraction) -> tuple[int, Fraction] | None:
    """-1 if U < Phi(boundary), +1 if U >= Phi(boundary), with a bound on the distance of the two; None if
    [u, u + 1) / 2**bits does not tell."""
    digits = math.ceil(bits * math.log10(2)) + GUARD
    value = Fraction(normal_cdf(boundary, digits))
    error = Fraction(1, 10 ** (digits - 8))
    first, last = Fraction(u, 2**bits), Fraction(u + 1, 2**bits)
    if last <= value - error:
        return -1, value + error - first
    if first >= value + error:
        return 1, last - (value - error)
    return None


def _least_cell(boundary: float, deviation: float) -> float:
    """A lower bound on the probability of either cell at this boundary: its width 1/S times phi at its outer end."""
    outer = abs(boundary) + 1.0 / deviation
    return 0.99 / deviation * math.exp(-outer * outer / 2.0) / math.sqrt(2.0 * math.pi)


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
    """A float guess of the k whose upper boundary k + 1/2 is nearest; only the length of the search depends on it."""
    doubled = 2 * u + 1  # the middle of the interval, in units of 2**-(bits + 1)
    tail = min(doubled, 2 ** (bits + 1) - doubled)
    p = tail / 2 ** (bits + 1)  # true division of integers: correctly rounded down to 2**-1074
    x = -NormalDist().inv_cdf(p) if 0.0 < p < 0.5 else (0.0 if p >= 0.5 else 38.0)
    return math.floor(math.copysign(x, doubled - 2**bits) * deviation)
