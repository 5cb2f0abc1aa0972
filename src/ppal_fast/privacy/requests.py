"""What is asked of a ledger, and what it remembers: public numbers alone, and the charge that follows from them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError
from . import accounting, sums, units

if TYPE_CHECKING:
    from .ledger import Ledger

CLIP_SUM = "clip-sum, rounded Gaussian, 1"  # part of every fingerprint; raise it when released bytes change meaning


@dataclass(frozen=True)
class Release:
    """One release as the ledger tells it; everything here is public.

    mu         of this release under the ledger's relation
    sigma      noise standard deviation in sensitivities; a sensitivity is clip * stability (* 2 for replace-one)
    d          length of the vector; n_masked of its coordinates were inside the mask
    state      "committed", or "reserved": paid for, but its process died (or is still at work); its name is burned
    value      (d,) read-only, or None while reserved
    keys       a released name for each value (partition selection), else empty
    account    the modality or the groups that it was charged to, or "" for the one account or for all groups
    mechanism  what drew it; for all but sums, clip, sigma and stability say what that mechanism's page says
    """

    name: str
    time: str
    mu: float
    clip: float
    sigma: float
    d: int
    n_masked: int
    stability: int
    state: str
    value: NDArray[np.float64] | None
    account: str
    mechanism: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """The public side of a release, before it is paid for.

    units    its charge of mu^2 in units of 2**-40
    samples  how many draws of the rounded Gaussian it brings, each charged 2**-320 of delta
    failure_units   the probability, in units of 2**-320, that it is not what its mu says; charged to delta_aside
    """

    mechanism: str
    name: str
    units: int
    samples: int
    d: int
    clip: float
    sigma: float
    stability: int
    fingerprint: str
    failure_units: int

    def body(self, account: str | list[str], time: str) -> dict[str, Any]:
        """The entry of its reservation."""
        failure = {"failure_units": self.failure_units} if self.failure_units else {}
        return {
            "mechanism": self.mechanism, "name": self.name, "fingerprint": self.fingerprint, "time": time,
            "units": self.units, "clip": self.clip, "sigma": self.sigma, "d": self.d, "n_masked": self.samples,
            "stability": self.stability, "account": account, **failure,
        }


def sum_request(
    ledger: Ledger, *, d: int, clip: float, epsilon: float | None, sigma: float | None, mask: units.PublicMask | None,
    stability: int, name: str,
) -> Request:
    """A clipped sum; errors name the arguments of Ledger.release_sum."""
    sigma = noise_multiplier(ledger, epsilon, sigma)
    _validate.positive(clip=clip)
    _validate.integer(1, stability=stability)
    at = sums.grid(float(clip), sigma, int(stability) * units.SENSITIVITY[ledger.relation])
    return request(
        ledger, CLIP_SUM, name, units=at.units, d=d, mask=mask, clip=float(clip), sigma=sigma, stability=int(stability)
    )


def request(
    ledger: Ledger, mechanism: str, name: str, *, units: int, d: int, mask: units.PublicMask | None = None,
    samples: int | None = None, clip: float = 0.0, sigma: float = 0.0, stability: int = 1, failure_units: int = 0,
    **public: Any,
) -> Request:
    """With the fingerprint of everything public; samples: as many as the mask has coordinates, if not said."""
    if not isinstance(name, str) or not name:
        raise InputError(f"name was {name!r}; a text that identifies this request is expected")
    allowed = np.ones(d, dtype=np.bool_) if mask is None else mask.mask
    terms = {
        "mechanism": mechanism, "clip": clip, "sigma": sigma, "d": d, "stability": stability,
        "mask": hashlib.sha256(np.packbits(allowed).tobytes()).hexdigest(),
        "source": None if mask is None else mask.source,
        "unit": ledger.unit, "relation": ledger.relation, "account": ledger._account, **public,
    }
    if failure_units:
        terms["failure_units"] = failure_units
    return Request(
        mechanism=mechanism, name=name, units=units, samples=int(allowed.sum()) if samples is None else samples, d=d,
        clip=clip, sigma=sigma, stability=stability, failure_units=failure_units,
        fingerprint=hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest(),
    )


def noise_multiplier(ledger: Ledger, epsilon: float | None, sigma: float | None) -> float:
    """Noise standard deviation / sensitivity, from exactly one of the two ways of asking."""
    if (epsilon is None) == (sigma is None):
        raise InputError(f"epsilon was {epsilon!r} and sigma was {sigma!r}; exactly one of them is expected")
    if epsilon is not None:
        _validate.positive(epsilon=epsilon)
        charge = accounting.units_of_epsilon(epsilon, ledger.delta)
        if charge < 1:
            raise InputError(f"epsilon was {epsilon!r}; at delta={ledger.delta!r} that is below the smallest charge")
        sigma = accounting.sigma_of_units(charge)
    assert sigma is not None
    _validate.positive(sigma=sigma)
    return float(sigma)
