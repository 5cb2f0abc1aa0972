"""The checks at the edge: each names the argument, its value and what was expected."""

from __future__ import annotations

import numpy as np
import pytest

from ppal_fast import _validate as check
from ppal_fast.errors import InputError, PPALError


@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf, None, "1", True])
def test_positive(bad) -> None:
    check.positive(sigma=0.1, clip=np.float32(2))
    with pytest.raises(InputError, match=r"^clip was .*above 0 is expected$"):
        check.positive(clip=bad)


@pytest.mark.parametrize(("good", "bad"), [(0, -0.1), (1e300, np.inf), (1, np.nan)])
def test_non_negative(good, bad) -> None:
    check.non_negative(weight=good)
    with pytest.raises(InputError, match="weight was"):
        check.non_negative(weight=bad)


@pytest.mark.parametrize("bad", [0, 1, -1, np.nan, None])
def test_fraction(bad) -> None:
    check.fraction(delta=1e-5)
    with pytest.raises(InputError, match="delta was"):
        check.fraction(delta=bad)


@pytest.mark.parametrize("bad", [0, 1.0, True, "3", None, 6])
def test_integer(bad) -> None:
    check.integer(1, 5, n_jobs=np.int64(3))
    with pytest.raises(InputError, match=r"n_jobs was .* from 1 to 5"):
        check.integer(1, 5, n_jobs=bad)


def test_one_of_offers_the_nearest() -> None:
    check.one_of(("label", "record"), unit="label")
    with pytest.raises(InputError, match=r"did you mean 'record'\?"):
        check.one_of(("label", "record"), unit="recrod")
    with pytest.raises(InputError, match="unit was 3"):
        check.one_of(("label", "record"), unit=3)


def test_vector() -> None:
    assert check.vector([1, 2], name="h").dtype == np.float64
    for bad in ([[1, 2]], ["a"], [np.nan], [1, np.inf]):
        with pytest.raises(InputError, match=r"^h "):
            check.vector(bad, name="h")
    with pytest.raises(InputError, match=r"shape \(2,\); shape \(3,\)"):
        check.vector([1, 2], name="h", length=3)


def test_random_generator_takes_what_the_field_uses() -> None:
    generator = np.random.default_rng(1)
    assert check.random_generator(generator) is generator
    draws = [check.random_generator(seed).random() for seed in (5, 5, np.random.RandomState(5), None)]
    assert draws[0] == draws[1]
    same = [check.random_generator(np.random.RandomState(7)).random() for _ in range(2)]
    assert same[0] == same[1]
    for bad in ("seed", -1, 1.5):
        with pytest.raises(InputError, match="random_state was"):
            check.random_generator(bad)


def test_every_error_is_caught_by_one_name() -> None:
    assert issubclass(InputError, PPALError) and issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("cell", "missing"),
    [(None, True), (float("nan"), True), (np.float32("nan"), True), (0, False), ("", False), (-1, False)],
)
def test_is_missing(cell, missing) -> None:
    assert check.is_missing(cell) is missing
