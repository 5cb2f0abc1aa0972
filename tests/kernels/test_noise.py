"""The noise kernels against their twins, published vectors and the laws that they claim."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ppal_fast.kernels import clipping, exact_normal, noise, reference

KEY = np.arange(1, 9, dtype=np.uint32) * np.uint32(0x01234567)
DEVIATIONS = [0.3, 1.0, 2.0, 4.0, 1000.0, 2.0**20, 2.0**28 * 1.7, 2.0**30]
ZERO = np.uint64(0)


def standard_normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


# The generator


@pytest.mark.parametrize(
    ("key", "nonce", "counter", "stream"),
    [
        # draft-strombergson-chacha-test-vectors-01, 12 rounds, 256-bit key, TC1 (all zero), first block
        ("00" * 32, 0, 0,
         "9bf49a6a0755f953811fce125f2683d50429c3bb49e074147e0089a52eae155f"
         "0564f879d27ae3c02ce82834acfa8c793a629f2ca0de6919610be82f411326be"),
        # the same, TC1, second block
        ("00" * 32, 0, 1,
         "0bd58841203e74fe86fc71338ce0173dc628ebb719bdcbcc151585214cc089b4"
         "42258dcda14cf111c602b8971b8cc843e91e46ca905151c02744a6b017e69316"),
    ],
)
def test_chacha12_equals_the_published_vectors(key: str, nonce: int, counter: int, stream: str) -> None:
    words = np.zeros(16, np.uint32)
    clipping.chacha12(words, np.frombuffer(bytes.fromhex(key), np.uint32).copy(), np.uint64(nonce), np.uint64(counter))
    assert words.astype("<u4").tobytes().hex() == stream


@settings(max_examples=25, deadline=None)
@given(
    key=st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8), nonce=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**64 - 3), blocks=st.integers(1, 3),
)
def test_chacha12_equals_its_twin(key: list[int], nonce: int, first: int, blocks: int) -> None:
    words = np.zeros(16 * blocks, np.uint32)
    noise.chacha12(words, np.array(key, np.uint32), np.uint64(nonce), np.uint64(first))
    for b in range(blocks):
        assert words[b::blocks].tolist() == reference.chacha12_block(key, nonce, first + b)


# The rounded Gaussian


def twin_cdf(x: Fraction) -> Fraction:
    return Fraction(exact_normal.normal_cdf(x, 60))


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_every_sample_is_the_rounded_quantile_of_its_bits(deviation: float) -> None:
    samples = noise.draw_rounded_gaussian(1100, deviation, KEY, 7)
    key = [int(k) for k in KEY]
    for i in [*range(0, 1100, 37), 511, 512, 1099]:
        ends = reference.rounded_quantile(reference.noise_bits(i, key, 7), 64, deviation, twin_cdf)
        assert samples[i] in ends and ends[1] - ends[0] <= 1, i


@pytest.mark.parametrize("n", [1, 511, 512, 513, 5000])
def test_samples_depend_on_their_position_alone(n: int) -> None:
    whole = noise.draw_rounded_gaussian(6000, 1e6, KEY)
    assert np.array_equal(noise.draw_rounded_gaussian(n, 1e6, KEY), whole[:n])
    assert np.array_equal(noise.draw_rounded_gaussian(n, 1e6, KEY, n_jobs=3), whole[:n])
    assert not np.array_equal(noise.draw_rounded_gaussian(6000, 1e6, KEY, nonce=2), whole)


@pytest.mark.parametrize("deviation", [1.0, 2.0, 4.0, 1000.0])
def test_the_law_is_that_of_the_rounded_gaussian(deviation: float) -> None:
    """Chi-square against differences of Phi, the exact cell probabilities; false alarm once in 1e6 seeds."""
    n = 200_000
    samples = noise.draw_rounded_gaussian(n, deviation, KEY, 100)
    width = max(1, round(deviation / 5))
    edges = np.arange(-int(3 * deviation) // width, int(3 * deviation) // width + 2) * width
    expected, observed = [], []
    for a, b in zip([-math.inf, *edges], [*edges, math.inf], strict=True):
        low, high = (x - 0.5 if math.isfinite(x) else x for x in (a, b))
        expected.append(n * (standard_normal_cdf(high / deviation) - standard_normal_cdf(low / deviation)))
        observed.append(int(((samples >= a) & (samples < b)).sum()))
    assert min(expected) > 5 and sum(observed) == n
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    freedom = len(expected) - 1
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 4.75 * math.sqrt(2 / (9 * freedom))) ** 3  # Wilson, Hilferty


def test_both_ends_of_the_support_and_even_and_odd_values_are_reached() -> None:
    samples = noise.draw_rounded_gaussian(400_000, noise.MOST_DEVIATION, KEY)
    z = samples / noise.MOST_DEVIATION
    assert -6.5 < z.min() < -4.0 and 4.0 < z.max() < 6.5
    assert 0.49 < (samples % 2).mean() < 0.51
    assert abs((samples % 1024).mean() - 511.5) < 6 * 1024 / math.sqrt(12 * 400_000)


def test_forced_ambiguity_is_decided_as_the_fast_path_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow path alone, on every sample, equals the fast path wherever that one decides."""
    for deviation in (1.0, 77.0, 2.0**25):
        fast = np.empty(150, np.int64)
        noise.rounded_gaussian(fast, deviation, KEY, np.uint64(3), ZERO)
        slow = [noise.decide(i, deviation, KEY, 3) for i in range(150)]
        decided = fast != noise.AMBIGUOUS
        assert decided.mean() > 0.95 and np.array_equal(fast[decided], np.array(slow)[decided])


def test_ambiguous_samples_occur_at_the_expected_rate_and_are_all_resolved() -> None:
    deviation = noise.MOST_DEVIATION
    fast = np.empty(20_000, np.int64)
    noise.rounded_gaussian(fast, deviation, KEY, ZERO, ZERO)
    share = (fast == noise.AMBIGUOUS).mean()
    # P = E[2 S (2**-47 |Z|)] plus what the tail adds
    assert 0.5 < share / (2 * deviation * 2.0**-47 * math.sqrt(2 / math.pi)) < 2.0
    assert (noise.draw_rounded_gaussian(2000, deviation, KEY) != noise.AMBIGUOUS).all()


def test_more_bits_decide_what_64_cannot() -> None:
    """U whose first 64 bits straddle a boundary: the further bits, and only they, tell on which side."""
    deviation = 2.0**30
    boundary = exact_normal.normal_cdf(Fraction(3, 2) / Fraction(deviation), 60)  # between cells 1 and 2
    u = math.floor(Fraction(boundary) * 2**64)
    assert exact_normal.rounded_quantile(u, 64, deviation) is None
    assert exact_normal.rounded_quantile(u << 448, 512, deviation) == 1
    assert exact_normal.rounded_quantile(((u + 1) << 448) - 1, 512, deviation) == 2


@pytest.mark.parametrize("u", [0, 1, 2**511, 2**511 - 1, 2**512 - 2, 2**512 - 1])
def test_the_extreme_bits_have_a_value_or_stay_undecided(u: int) -> None:
    k = exact_normal.rounded_quantile(u, 512, 1000.0)
    assert k is None or abs(k) < 30_000
    if u in (2**511, 2**511 - 1):
        assert k == 0


# The high-precision normal distribution


@pytest.mark.parametrize(
    ("x", "digits"),  # Abramowitz, Stegun 1964, table 26.1 and 26.2
    [("1", "0.841344746068543"), ("2", "0.977249868051821"), ("0.5", "0.691462461274013"), ("3", "0.998650101968370")],
)
def test_the_normal_distribution_equals_the_printed_table(x: str, digits: str) -> None:
    value = exact_normal.normal_cdf(Fraction(x), 40)
    assert abs(value - Decimal(digits)) < Decimal("6e-16")
    assert abs(exact_normal.normal_cdf(-Fraction(x), 40) + value - 1) < Decimal("1e-32")


@pytest.mark.parametrize("x", [Fraction(1, 3), Fraction(-10, 7), Fraction(12345, 4567)])
def test_the_normal_distribution_equals_its_alternating_series_in_whole_numbers(x: Fraction) -> None:
    """Phi(x) - 1/2 = sum (-1)^n x^(2n+1) / (n! 2^n (2n+1)) / sqrt(2 pi), on rationals with 120 digits of pi."""
    pi = Fraction(
        int("31415926535897932384626433832795028841971693993751058209749445923078164062862089986280348253421170679"
            "821480865132823"),
        10**115,
    )
    series, power = Fraction(0), x
    for n in range(200):
        series += power / (2 * n + 1)
        power *= -x * x / (2 * (n + 1))
    root = Fraction(math.isqrt(math.floor(2 * pi * 10**220)), 10**110)
    assert abs(Fraction(exact_normal.normal_cdf(x, 100)) - Fraction(1, 2) - series / root) < Fraction(1, 10**92)


def test_more_digits_confirm_fewer() -> None:
    for x in (Fraction(1, 10**30), Fraction(-37, 5), Fraction(26), Fraction(-55), Fraction(12345, 4567)):
        few, many = exact_normal.normal_cdf(x, 60), exact_normal.normal_cdf(x, 300)
        assert abs(Fraction(few) - Fraction(many)) < Fraction(1, 10**52)
    tail = 1 - Fraction(exact_normal.normal_cdf(Fraction(10), 80))
    assert float(tail) == pytest.approx(0.5 * math.erfc(10 / math.sqrt(2)), rel=1e-12)


# The clip


def clipped(rows: NDArray[np.float64], starts: list[int], clip: float, bound: int) -> NDArray[np.int64]:
    total = np.zeros(rows.shape[1], np.int64)
    gamma = clip / bound
    clipping.integer_clip_sum(rows, np.array(starts), clip, 1.0 / gamma, bound, total)
    return total


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12), d=st.integers(1, 8), spread=st.integers(0, 12),
    n_owners=st.integers(1, 5), bits=st.sampled_from([1, 8, 26]),
)
def test_the_clip_sum_is_within_one_grid_step_a_unit_of_its_twin(
    seed: int, n: int, d: int, spread: int, n_owners: int, bits: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-spread, spread + 1, size=(n, 1))
    owners = sorted(int(o) for o in rng.integers(n_owners, size=n))
    present = sorted(set(owners))
    starts = [owners.index(o) for o in present] + [n]
    twin = reference.integer_clip_sum(rows, owners, 1.0, 2.0**-bits, 2**bits)
    assert np.abs(clipped(rows, starts, 1.0, 2**bits) - np.array(twin)).max(initial=0) <= len(present)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), spread=st.integers(0, 300))
def test_the_sum_of_an_owner_is_exact_to_rounding_and_the_same_in_every_order(seed: int, n: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 5)) * 10.0 ** rng.uniform(-spread, min(spread, 280), size=(n, 5))
    rows[:, 0] = -rows[::-1, 0]  # sums to about zero
    sums = []
    for order in (np.arange(n), np.arange(n)[::-1], rng.permutation(n)):
        joint = np.empty(5)
        clipping.reproducible_sum(np.ascontiguousarray(rows[order]), np.empty((2, 5)), joint)
        sums.append(joint.tobytes())
    assert len(set(sums)) == 1
    for j in range(5):
        exact = sum(Fraction(x) for x in rows[:, j])
        allowed = n * n * Fraction(2) ** -100 * Fraction(np.abs(rows[:, j]).max()) + abs(exact) * Fraction(2) ** -52
        assert abs(Fraction(joint[j]) - exact) <= allowed + Fraction(5e-324)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12), d=st.integers(1, 8), n_owners=st.integers(1, 5),
    bits=st.sampled_from([1, 8, 26]), twice=st.booleans(),
)
def test_the_sparse_clip_sum_is_within_one_grid_step_a_unit_of_its_dense_twin(
    seed: int, n: int, d: int, n_owners: int, bits: int, twice: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = np.where(rng.random((n, d)) < 0.5, rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 4), 0.0)
    owners = sorted(int(o) for o in rng.integers(n_owners, size=n))
    present = sorted(set(owners))
    entries = [(owners[i], j, rows[i, j] / (1 + twice)) for i, j in np.argwhere(rows)] * (1 + twice)
    entries.sort()
    starts = np.array([sum(o < owner for o, _, _ in entries) for owner in present] + [len(entries)])
    total = np.zeros(d, np.int64)
    clipping.sparse_integer_clip_sum(
        starts, np.array([j for _, j, _ in entries], np.intp), np.array([v for _, _, v in entries], float),
        1.0, 2.0**bits, 2**bits, total,
    )
    twin = reference.integer_clip_sum(rows, owners, 1.0, 2.0**-bits, 2**bits)
    assert np.abs(total - np.array(twin)).max(initial=0) <= len(present)


def test_rows_inside_the_clip_are_truncated_exactly_toward_zero() -> None:
    rows = np.array([[0.3, -0.3, 0.0], [-1 / 3, 0.2, 2.0**-26]])
    starts = [0, 1, 2]
    expected = [math.trunc(a * 2**26) + math.trunc(b * 2**26) for a, b in rows.T]
    assert clipped(rows, starts, 1.0, 2**26).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(row=st.lists(st.floats(), min_size=1, max_size=6), bound=st.integers(1, 2**26))
def test_no_unit_has_an_integer_norm_above_the_bound(row: list[float], bound: int) -> None:
    gamma = 2.0**-20
    k = np.zeros(len(row))
    ok = clipping.quantise(np.array(row), bound * gamma, 1 / gamma, bound, k)
    assert not ok or sum(int(x) ** 2 for x in k) <= bound**2
    if not all(map(math.isfinite, row)):
        assert not ok


def test_an_owner_whose_rows_overflow_adds_nothing() -> None:
    rows = np.array([[1e308, 1.0], [1e308, 1.0], [0.0, 0.5]])
    assert clipped(rows, [0, 2, 3], 1.0, 2**10).tolist() == [0, 512]


# Simulation


def test_float32_normals_equal_their_twin() -> None:
    words = np.zeros(noise.WORDS, np.uint32)
    noise.chacha12(words, KEY, ZERO, ZERO)
    out = np.zeros(noise.WORDS, np.float32)
    noise.normals(words, out)
    half = noise.WORDS // 2
    for i in range(half):
        a, b = reference.box_muller(int(words[i]), int(words[half + i]))
        assert out[i] == pytest.approx(a, rel=2e-5, abs=2e-5) and out[half + i] == pytest.approx(b, rel=2e-5, abs=2e-5)


def test_float64_normals_equal_their_twin() -> None:
    words = np.zeros(noise.WORDS, np.uint32)
    noise.chacha12(words, KEY, ZERO, ZERO)
    pairs, half = words.view(np.uint64), noise.PER_CHUNK // 2
    extremes = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)  # of the radius and of the angle
    pairs[:16], pairs[half : half + 16] = np.repeat(extremes, 4), np.tile(extremes, 4)
    out = np.zeros(noise.PER_CHUNK)
    noise.normals(words, out)
    for i in range(half):
        expected = reference.box_muller(int(pairs[i]), int(pairs[half + i]), 64)
        assert (out[i], out[half + i]) == pytest.approx(expected, rel=1e-14, abs=1e-14), i


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_simulated_normals_have_the_moments_of_the_normal(dtype: type) -> None:
    out = np.zeros(300_000, dtype)
    noise.fill_normals(out, 2.0, KEY, ZERO, ZERO)
    z = out.astype(np.float64) / 2.0
    for power, moment, deviation in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5.5 * math.sqrt(deviation / len(z)), power
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 5.5 / math.sqrt(len(z))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_groups", "width"), [(5, 3), (40, 77), (7, 1500)])
def test_masked_clip_noise_equals_its_twin(dtype: type, n_groups: int, width: int) -> None:
    rng = np.random.default_rng(4)
    gradients = rng.standard_normal((n_groups, width)).astype(dtype)
    groups = np.flatnonzero(rng.random(n_groups) < 0.6)
    normals = np.zeros(len(groups) * width, dtype)
    noise.fill_normals(normals, 1.0, KEY, ZERO, ZERO)
    expected = reference.masked_clip_noise(
        gradients.astype(float), groups, 2.0, 0.5, normals.reshape(len(groups), width).astype(float)
    )
    out = np.zeros_like(gradients)
    clipping.masked_clip_noise(gradients, groups, 2.0, 0.5, KEY, ZERO, 0, out)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 if dtype == np.float32 else 1e-12)


# The exact discrete Gaussian, beside which the rounded one is judged


def test_rounded_and_discrete_gaussian_differ_by_what_is_booked() -> None:
    """Total variation at S = 4 is 0.0202 / S^2 (contract table), which 4,000 draws of the exact sampler agree with."""
    deviation, n = 4, 4000
    source = random.Random(12)
    drawn = np.array([reference.discrete_gaussian(Fraction(deviation), source.randrange) for _ in range(n)])
    cells = np.arange(-40, 41)
    weights = np.exp(-(cells**2) / (2.0 * deviation**2))
    discrete = weights / weights.sum()
    rounded = np.array([
        standard_normal_cdf((k + 0.5) / deviation) - standard_normal_cdf((k - 0.5) / deviation) for k in cells
    ])
    assert 0.5 * np.abs(discrete - rounded).sum() == pytest.approx(0.0202 / deviation**2, rel=0.05)
    central = np.abs(cells) <= 8
    observed = np.array([(drawn == k).sum() for k in cells[central]])
    expected = n * discrete[central]
    assert ((observed - expected) ** 2 / expected).sum() < 55.0  # 17 cells; false alarm 1e-5
