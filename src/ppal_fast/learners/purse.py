"""What one fit may spend: a charge in the ledger's whole units, shared out over the sums that the fit releases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import BudgetExceeded, InputError
from ..privacy.accounting import (
    UNIT,
    epsilon_of_units,
    failure_units,
    probability,
    sigma_of_units,
    units_of_epsilon,
)
from ..privacy.label_sums import noise_deviation
from ..privacy.subsampling import SubsampledSums, block_sigma

if TYPE_CHECKING:
    from ..privacy import Ledger

Float = NDArray[np.float64]


class Purse:
    """All releases of one fit. The squares of mu add up to that of ``epsilon`` at the ledger's delta, to the last unit.

    name      prefix of the releases' names
    epsilon   None: all that remains in the ledger
    """

    def __init__(self, ledger: Ledger, epsilon: float | None, name: str) -> None:
        if epsilon is None:
            epsilon = ledger.remaining()
        _validate.positive(epsilon=epsilon)
        self.ledger = ledger
        self.name = name
        self.units = units_of_epsilon(epsilon, ledger.delta)
        known = any(event.name.startswith(f"{name}/") for event in ledger.history())
        if not known and self.mu > ledger.remaining_mu() * (1 + 1e-12):
            raise BudgetExceeded(
                f"epsilon={epsilon:.4g} was asked for this fit, but {ledger.remaining():.4g} is left in the ledger"
            )
        self.units_left = self.units
        self.n_releases = 0
        self.delta_aside = 0.0  # what was taken of the ledger's

    @property
    def mu(self) -> float:
        """The privacy of the whole fit."""
        return float(np.sqrt(self.units * UNIT))

    def release_sum(
        self, rows: Float, *, clip: float, name: str, share: float | None = None, owners: Any = None
    ) -> tuple[Float, float]:
        """The noisy sum of rows (n, d), and the standard deviation of its noise.

        share   of the whole fit's mu^2; None: all that is left.
        """
        sigma = self._spend(share)
        total = self.ledger.release_sum(rows, clip=clip, sigma=sigma, owners=owners, name=f"{self.name}/{name}")
        sensitivity = clip if self.ledger.relation == "zero-out" else 2 * clip
        return np.asarray(total, dtype=np.float64), sigma * sensitivity

    def release_label_sum(self, rows: Float, targets: Float, codes: Any, *, name: str) -> tuple[Float, float]:
        """The noisy sum of targets[y_i] (x) rows[i], (m, d), and the standard deviation of its noise, for all that is
        left; under unit label, with public rows (n, d) and targets (K, m)."""
        sigma = self._spend(None)
        total = self.ledger.release_label_sum(rows, targets, codes, sigma=sigma, name=f"{self.name}/{name}")
        return total, noise_deviation(rows, targets, sigma=sigma, relation=self.ledger.relation)

    def subsampled_sums(self, d: int, *, clip: float, rate: float, n_steps: int, name: str) -> SubsampledSums:
        """A block of sums over Poisson subsamples for all that is left of mu^2, and the same share of delta_aside."""
        ledger = self.ledger
        if not ledger.delta_aside:
            raise InputError("the ledger has delta_aside=0; subsampled gradients need a ledger opened with some")
        share = self.units / units_of_epsilon(ledger.epsilon, ledger.delta)
        delta = ledger.delta_aside * min(share, 1.0) * (1 - 1e-9)
        left, self.units_left, self.delta_aside = self.units_left, 0, delta
        self.n_releases += n_steps
        failure = probability(failure_units(ledger.epsilon, delta))
        sigma = block_sigma(math.sqrt((left - 1) * UNIT), rate, n_steps, failure)
        return SubsampledSums(
            ledger, d=d, clip=clip, sigma=sigma, rate=rate, n_steps=n_steps, delta=delta, name=f"{self.name}/{name}"
        )

    def _spend(self, share: float | None) -> float:
        """The noise multiplier that this share of mu^2 buys."""
        units = self.units_left if share is None else max(1, min(self.units_left, int(share * self.units)))
        self.units_left -= units
        self.n_releases += 1
        return sigma_of_units(units)

    def sentence(self) -> str:
        """What holds once the fit is done."""
        ledger = self.ledger
        epsilon = epsilon_of_units(self.units - self.units_left, ledger.delta)
        if ledger.unit == "label":
            public = "features, pool and the number of labelled rows are public"
        else:
            public = "the roster, the classes and the ranges and categories of the columns are public"
        return (
            f"private: epsilon={epsilon:.4g} at delta={ledger.delta + self.delta_aside:g}, unit {ledger.unit}, "
            f"relation {ledger.relation}, {self.n_releases} release{'' if self.n_releases == 1 else 's'}; {public}"
        )
