"""Sums over Poisson subsamples, as in DP-SGD: T steps, each over units drawn by secret coins of one public chance.

Released       at each step gamma (sum over the drawn units of k_u + round(N(0, S^2))), as in privacy/sums.py; who was
               drawn is never told, not to the caller either
Unit           record or owner; relation zero-out
Guarantee      the block of T steps is dominated by a mu-GDP mechanism that fails with probability p; mu^2 is charged
               once, at the opening, and p to delta_aside
Accounting     Google's dp-accounting (extra [accounting]): the privacy loss distribution of the block, in both orders
Source         Abadi et al. 2016 (arXiv:1607.00133); Zhu, Dong, Wang 2022 (arXiv:2106.08567), domination;
               docs/privacy/subsampling.md; attacked by tests/test_privacy_subsampling.py
"""

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError, PrivacyError
from . import accounting, requests, sums, units
from .randomness import NoiseStream

if TYPE_CHECKING:
    from .ledger import Ledger

OPENING = "sums over Poisson subsamples, 1"
STEP = "step over a Poisson subsample, 1"
INTERVAL = 5e-4  # of the privacy loss, when it is rounded up to whole steps; times 1 + 1 / sigma^2
FLOAT_ERROR = 1e-12  # added to every delta that dp-accounting computes by Fourier transforms
POINTS = 4000  # epsilons at which the loss is compared with the Gaussian curve

Float = NDArray[np.float64]


class SubsampledSums:
    """A block of n_steps releases of vectors of length d, charged as a whole when it is opened.

    clip, sigma   as for Ledger.release_sum, of each step
    rate          chance of each unit to be drawn in a step, below 1; public
    delta         what the block may take of the ledger's delta_aside
    mu            what the block costs
    After a restart a block of the same name and arguments may be opened again: the steps that were released are
    returned as they were. Raises PrivacyError for unit label (see Ledger.release_label_sum) and for replace-one.
    """

    def __init__(
        self, ledger: Ledger, *, d: int, clip: float, sigma: float, rate: float, n_steps: int, delta: float, name: str
    ) -> None:
        if ledger.unit == "label" or ledger.relation != "zero-out":
            raise PrivacyError(
                f"the ledger has unit {ledger.unit!r} and relation {ledger.relation!r}; subsampled sums are for unit "
                "'record' or 'owner' and relation 'zero-out'"
            )
        _validate.integer(1, d=d)
        _validate.integer(1, n_steps=n_steps)
        _validate.positive(clip=clip, sigma=sigma)
        _validate.fraction(rate=rate, delta=delta)
        self._ledger, self.name, self.n_steps, self.rate, self._d = ledger, name, n_steps, float(rate), d
        self._at = sums.grid(float(clip), float(sigma), 1)
        failure = accounting.failure_units(ledger._joint_epsilon, delta)
        self.mu = dominating_mu(float(sigma), self.rate, n_steps, accounting.probability(failure))
        self._public: dict[str, Any] = {
            "clip": float(clip), "sigma": float(sigma), "rate": self.rate, "n_steps": n_steps
        }
        opening = requests.request(
            ledger, OPENING, name, units=math.ceil(self.mu**2 / accounting.UNIT), samples=0, d=d,
            failure_units=failure, **self._public,
        )
        ledger._perform(opening, lambda: None, lambda _: np.empty(0))
        self.step = 0

    def release(self, rows: Any, *, weights: Any = None, owners: Any = None) -> Float:
        """The noisy sum of the next step, (d,), over units drawn anew; expected is ``rate`` times the sum of all.

        rows, weights, owners   as for Ledger.release_sum: of ALL units, drawn or not, computed from released numbers
                                and from the unit itself
        Raises PrivacyError after the last step.
        """
        if self.step == self.n_steps:
            raise PrivacyError(f"{self.name!r} was declared for {self.n_steps} steps, all of which are released")
        if sums.width(rows) != self._d:
            raise InputError(f"rows has shape {np.shape(rows)}; (n, {self._d}) is expected")
        codes = units.unit_codes(owners, np.shape(rows)[0], self._ledger.unit)
        factors = np.ones(len(codes)) if weights is None else sums.checked_weights(weights, len(codes))
        drawn = poisson_sample(int(codes.max(initial=-1)) + 1, self.rate)
        present, everywhere = np.where(drawn[codes], factors, 0.0), np.ones(self._d, dtype=np.bool_)
        ready = units.by_unit(sums.checked_rows(rows, everywhere, present), owners, self._ledger.unit)
        self.step += 1  # a step that dies from here on is lost; the next one is another
        request = requests.request(
            self._ledger, STEP, f"{self.name}/{self.step}", units=0, d=self._d, **self._public
        )
        return self._ledger._perform(
            request, lambda: None, lambda _: sums.release(*ready, everywhere, self._at, NoiseStream())
        )


def poisson_sample(n: int, rate: float) -> NDArray[np.bool_]:
    """(n,) independent coins of chance floor(rate 2^64) / 2^64, from bits of the operating system."""
    bits = np.frombuffer(os.urandom(8 * n), dtype="<u8")
    return bits < np.uint64(int(rate * 2.0**64))


@lru_cache(maxsize=64)  # a block costs a second; a filter asks again for the one that it has just tried
def dominating_mu(sigma: float, rate: float, n_steps: int, failure: float) -> float:
    """A mu, hardly above the least, such that the block is dominated by a mu-GDP mechanism that fails with ``failure``.

    That is, delta_block(e) <= failure + (1 - failure) delta_mu(e) for every e >= 0 and both orders of the worlds; for
    e < 0 it follows by exchanging them. Between two of POINTS epsilons both sides fall, so the block's at the left end
    is held against the Gaussian's at the right end; beyond the last the block's is below ``failure``.
    Raises InputError where dp-accounting is missing.
    """
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ImportError:
        raise InputError(
            "subsampled sums are accounted for by dp-accounting, which is not installed; pip install "
            "'ppal_fast[accounting]'"
        ) from None
    one = privacy_loss_distribution.from_gaussian_mechanism(
        sigma, sampling_prob=rate, value_discretization_interval=INTERVAL * (1.0 + 1.0 / sigma**2)
    )
    block = one.self_compose(n_steps)
    last = block.get_epsilon_for_delta(failure / 2.0)
    if not math.isfinite(last):
        raise InputError(f"delta was so small that no epsilon holds for {n_steps} steps with sigma={sigma!r}")
    epsilons = np.linspace(0.0, max(last, INTERVAL), POINTS + 1)
    deltas = np.asarray(block.get_delta_for_epsilon(epsilons)) + FLOAT_ERROR
    if deltas[-1] > failure:
        raise InputError(f"delta was too small for {n_steps} steps with sigma={sigma!r}")
    needed = (deltas[:-1] - failure) / (1.0 - failure)

    def dominates(mu: float) -> bool:
        return bool((_gaussian_curve(epsilons[1:], mu) >= needed).all())

    low, high = 0.0, 2.0**-20
    while not dominates(high):
        low, high = high, 2.0 * high
    while high - low > 1e-5 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if dominates(middle) else (middle, high)
    return high


def _gaussian_curve(epsilons: Float, mu: float) -> Float:
    """delta(epsilon) of mu-GDP for many epsilon >= 0, by accounting.log_delta's formula; a part in 1e9 is taken off."""
    from scipy.special import erfcx

    z = epsilons / mu - mu / 2.0
    tails = erfcx(z / math.sqrt(2.0)) - erfcx((z + mu) / math.sqrt(2.0))
    return np.asarray(np.exp(-z * z / 2.0) * tails / 2.0 * (1.0 - 1e-9), dtype=np.float64)


def block_sigma(mu: float, rate: float, n_steps: int, failure: float) -> float:
    """A noise multiplier of each step, within 1 % of the least, at which the block costs at most ``mu``."""
    high = 1.0
    while dominating_mu(high, rate, n_steps, failure) > mu:
        high *= 2.0
    while dominating_mu(high / 2.0, rate, n_steps, failure) <= mu:
        high /= 2.0
    low = high / 2.0
    while high - low > 0.01 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if dominating_mu(middle, rate, n_steps, failure) <= mu else (middle, high)
    return high
