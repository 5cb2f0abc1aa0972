"""The certificate: a computed proof that the rational inverse normal is within 3 units of 2**-53, relative.

For an analytic F with |F - F(c)| <= M on the disc of radius R about c, and |z - c| <= h < R,
|F(z)| <= sum_{k <= N} |F_k| h^k + M (h/R)^(N+1) / (1 - h/R). The Taylor coefficients F_k come from power-series
arithmetic in 60 digits (the series of quotient and exponential by their differential equations), M from bounds on
the disc. The coefficients are those of the compiled kernel, rounded to float64.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from decimal import Decimal, getcontext, localcontext
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest

from ppal_fast.kernels import noise
from ppal_fast.kernels.exact_normal import normal_cdf

ORDER = 60
RATIO = 4  # R = RATIO * h
UNIT = 2.0**-53
Series = list[Decimal]


def coefficients(function: Callable[..., float], name: str) -> list[Decimal]:
    """The Horner coefficients of the line(s) ``name = (name * r + c) * r + c`` in the kernel, lowest power first."""
    source = inspect.getsource(function.py_func)  # type: ignore[attr-defined]
    numbers: list[str] = []
    for line in source.splitlines():
        if re.match(rf"\s+{name} = ", line):
            numbers += re.findall(r"\d+\.\d+(?:e-?\d+)?", line)
    assert len(numbers) == 8
    return [Decimal(float(n)) for n in reversed(numbers)]


def times(a: Series, b: Series) -> Series:
    return [sum((a[i] * b[k - i] for i in range(k + 1)), Decimal(0)) for k in range(len(a))]


def divided(a: Series, b: Series) -> Series:
    q: Series = []
    for k in range(len(a)):
        q.append((a[k] - sum((q[i] * b[k - i] for i in range(k)), Decimal(0))) / b[0])
    return q


def derivative(a: Series) -> Series:
    return [(k + 1) * a[k + 1] for k in range(len(a) - 1)] + [Decimal(0)]


def solved(rate: Series, start: Decimal, forcing: Series | None = None) -> Series:
    """The series of y' = rate y + forcing, y(0) = start."""
    y = [start]
    for k in range(ORDER):
        slope = sum((rate[i] * y[k - i] for i in range(k + 1)), Decimal(0)) + (forcing[k] if forcing else 0)
        y.append(slope / (k + 1))
    return y


def polynomial_at(coefficient: list[Decimal], inner: Series) -> Series:
    """The series of a polynomial of a series."""
    result = [Decimal(0)] * (ORDER + 1)
    for c in reversed(coefficient):
        result = times(result, inner)
        result[0] += c
    return result


def change_on_disc(series: Series, radius: Decimal) -> Decimal:
    """sum_{k >= 1} |a_k| R^k: the exact maximal change for a polynomial, whose series ends."""
    return sum((abs(a) * radius**k for k, a in enumerate(series[1:], start=1)), Decimal(0))


def supremum(F: Series, h: Decimal, bound: Decimal, *, skip: int = 0) -> Decimal:
    """Of |F(z)| / |z - c|^skip on |z - c| <= h, the first ``skip`` coefficients being zero."""
    head = sum((abs(a) * h ** (k - skip) for k, a in enumerate(F) if k >= skip), Decimal(0))
    return head + bound * Decimal(RATIO) ** -(ORDER + 1) * Decimal(4) / 3 / h**skip


def quotient_on_disc(top: Series, bottom: Series, radius: Decimal) -> tuple[Series, Decimal]:
    """The series of top / bottom, and how much it changes at most on the disc."""
    g = divided(top, bottom)
    moved_top, moved_bottom = change_on_disc(top, radius), change_on_disc(bottom, radius)
    if moved_bottom >= bottom[0]:
        return g, Decimal("Infinity")
    return g, (moved_top + abs(g[0]) * moved_bottom) / (bottom[0] - moved_bottom)


def centre_error(c: Decimal, h: Decimal) -> float:
    """Bound on the relative error of the centre for |q - c| <= h, by F(q) = Phi(g(q)) - 1/2 - q."""
    zero = [Decimal(0)] * (ORDER - 1)
    q = [c, Decimal(1), *zero]
    r = [-x for x in times(q, q)]
    r[0] += Decimal(float("0.180625"))
    a = polynomial_at(coefficients(noise.inverse_normal_centre, "a"), r)
    b = polynomial_at(coefficients(noise.inverse_normal_centre, "b"), r)
    g, change = quotient_on_disc(times(q, a), b, RATIO * h)
    root = (2 * Decimal(PI)).sqrt()
    slope = derivative(g)
    density = solved([-x for x in times(g, slope)], (-g[0] * g[0] / 2).exp() / root)
    F = solved([Decimal(0)] * (ORDER + 1), phi(g[0]) - HALF - c, times(density, slope))
    F[1] -= 1
    bound = change * (change * change / 2).exp() + RATIO * h  # |phi(x + iy)| = phi(x) exp(y^2 / 2)
    if c == 0:  # x >= 2.5 q there
        return float(supremum(F, h, bound, skip=1) / Decimal("2.5") / (-(g[0] + change) ** 2 / 2).exp() * root)
    low, high = (NormalDist().inv_cdf(0.5 + float(c + s * h)) for s in (-1, 1))
    return float(supremum(F, h, bound)) / (0.99 * low * NormalDist().pdf(high))


def tail_error(c: Decimal, h: Decimal) -> float:
    """The same for the tail at r = sqrt(-ln p), by F(r) = exp(r^2) (1 - Phi(g(r))) - 1, the relative error of p."""
    zero = [Decimal(0)] * (ORDER - 1)
    shifted = [c - BREAK, Decimal(1), *zero]
    a = polynomial_at(coefficients(noise.inverse_normal_tail, "a"), shifted)
    b = polynomial_at(coefficients(noise.inverse_normal_tail, "b"), shifted)
    g, change = quotient_on_disc(a, b, RATIO * h)
    root = (2 * Decimal(PI)).sqrt()
    slope = derivative(g)
    r2 = [2 * c, Decimal(2), *zero]
    V = solved([x - y for x, y in zip(r2, times(g, slope), strict=True)], (c * c - g[0] * g[0] / 2).exp() / root)
    F = solved(r2, (1 - phi(g[0])) * (c * c).exp(), [-x for x in times(V, slope)])
    F[0] -= 1
    bound = ((c + RATIO * h) ** 2).exp() * (1 + change * (change * change / 2).exp()) + 1
    return float(supremum(F, h, bound)) / (0.99 * float(g[0]) ** 2)  # dx = F p / phi(x) <= F / x


def covering(error: Callable[[Decimal, Decimal], float], low: Decimal, high: Decimal) -> list[float]:
    """Bounds on intervals that cover [low, high], halved until each is good enough or hopelessly short."""
    h = (high - low) / 2
    bound = error(low + h, h) if h < Decimal("0.03") else math.inf
    if bound < 3 * UNIT or h < Decimal("0.0002"):
        return [bound]
    return covering(error, low, low + h) + covering(error, low + h, high)


def phi(x: Decimal) -> Decimal:
    return normal_cdf(Fraction(x), 75)


HALF = Decimal("0.5")
BREAK = Decimal(float("1.6"))  # the constants as the kernel has them, rounded to float64
PI = "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798"


@pytest.mark.parametrize("region", ["centre", "tail"])
def test_the_approximation_is_within_three_units_everywhere(region: str) -> None:
    with localcontext() as context:
        context.prec = 70
        if region == "centre":
            h = Decimal("0.005")  # the function is odd in q
            errors = [centre_error(Decimal(0), h), *covering(centre_error, h, Decimal("0.425"))]
        else:
            errors = covering(tail_error, Decimal("1.6"), Decimal(5))
    assert max(errors) < 3 * UNIT, max(errors) / UNIT


def test_the_certificate_notices_a_wrong_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    original = coefficients

    def wrong(function: Callable[..., float], name: str) -> list[Decimal]:
        found = original(function, name)
        found[3] *= 1 + Decimal("1e-13")
        return found

    monkeypatch.setitem(globals(), "coefficients", lambda f, n: wrong(f, n) if n == "a" else original(f, n))
    with localcontext() as context:
        context.prec = 70
        assert centre_error(Decimal("0.2"), Decimal("0.005")) > 3 * UNIT
    assert getcontext().prec < 70


def test_the_compiled_inverse_stays_far_inside_the_bound_that_the_sampler_uses() -> None:
    """Rounding and approximation together, at 400 points: well inside the allowance of 64 units."""
    rng = np.random.default_rng(11)
    for q in [*rng.uniform(1e-9, 0.425, 200), 0.425, 1e-300, 2.0**-60]:
        x = noise.inverse_normal_centre(q)
        assert implied_error(x, Fraction(1, 2) + Fraction(float(q))) < 42 * UNIT, q
    for p in [*np.exp(-rng.uniform(2.5903, 25.0, 200)), 0.075, noise.SMALLEST_TAIL]:
        x = noise.inverse_normal_tail(p)
        assert implied_error(x, 1 - Fraction(float(p))) < 42 * UNIT, p


def implied_error(x: float, u: Fraction) -> float:
    """|x - Phi^-1(u)| / x, by one Newton step in 380 digits."""
    value = Fraction(normal_cdf(Fraction(x), 380))
    density = Fraction(math.exp(-x * x / 2) / math.sqrt(2 * math.pi))
    return abs(float((value - u) / density / Fraction(x)))
