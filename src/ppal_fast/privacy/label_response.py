"""Randomised response: each label is released itself, with a known chance of being another one.

Released      (n,) class codes: the true one with probability p, each other one with q, p + (K - 1) q = 1
Unit          label only: which rows have a label is public
Guarantee     p / q <= e^epsilon, pure, in whole numbers of 2^-64; charged in the ledger's currency as
              mu = 2 Phi^-1(e^epsilon / (1 + e^epsilon))
Source        Warner 1965; Kairouz, Oh, Viswanath 2016 (docs/privacy/label_response.md); attacked by
              tests/test_privacy_mechanisms.py
"""

from __future__ import annotations

import math
import os
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _validate
from ..errors import InputError, PrivacyError
from . import accounting, requests

if TYPE_CHECKING:
    from .ledger import Ledger

MECHANISM = "randomised response, 1"


def randomise_labels(
    ledger: Ledger, labels: ArrayLike, n_classes: int, *, epsilon: float, name: str
) -> NDArray[np.intp]:
    """(n,) noisy class codes, one a row, for one charge: each record's label is used once.

    labels   (n,) codes 0 .. n_classes - 1, or -1 for a label that was removed (a code drawn evenly is released)
    epsilon  pure epsilon of each label, at most 30. In the ledger it costs more than a Gaussian release of that epsilon
             (docs/privacy/label_response.md): prefer sums of labels where they do
    The same name returns the stored codes. Raises PrivacyError under unit record or owner.
    """
    if ledger.unit != "label":
        raise PrivacyError(f"randomised response protects labels; the ledger's unit is {ledger.unit!r}")
    other = other_weight(n_classes, epsilon)
    codes = np.asarray(labels)
    if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "iu"):
        raise InputError(f"labels has shape {codes.shape} and dtype {codes.dtype}; (n,) whole numbers are expected")
    if codes.size and not -1 <= codes.min() <= codes.max() < n_classes:
        raise InputError(f"labels has codes {codes.min()} to {codes.max()}; -1 to {n_classes - 1} are expected")
    mu = accounting.mu_of_randomised_response(epsilon)
    request = requests.request(
        ledger, MECHANISM, name, units=math.ceil(mu * mu * (1 + 1e-9) / accounting.UNIT), samples=0, d=len(codes),
        n_classes=int(n_classes), epsilon=float(epsilon),
    )
    released = ledger._perform(
        request, lambda: codes.astype(np.int64), lambda ready: _respond(ready, n_classes, other).astype(np.float64)
    )
    return released.astype(np.intp)


def debiased_counts(released: ArrayLike, n_classes: int, epsilon: float) -> NDArray[np.float64]:
    """(K,) unbiased estimates of the number of labels of each class, from released codes: post-processing."""
    q = other_weight(n_classes, epsilon) / 2**64
    counts = np.bincount(np.asarray(released, dtype=np.intp), minlength=n_classes)
    return (counts - counts.sum() * q) / (1.0 - n_classes * q)


def other_weight(n_classes: int, epsilon: float) -> int:
    """q 2^64, rounded up, so that p / q = (2^64 - (K - 1) q 2^64) / (q 2^64) is at most e^epsilon exactly."""
    _validate.integer(2, 2**20, n_classes=n_classes)
    _validate.positive(epsilon=epsilon)
    if epsilon > 30.0:
        raise InputError(f"epsilon was {epsilon!r}; at most 30 is expected: beyond it labels are as good as published")
    growth = Fraction(math.exp(epsilon) * (1.0 - 2.0**-50))  # below e^epsilon, whose float is off by 2**-52 at most
    return math.ceil(2**64 / (growth + n_classes - 1))


def _respond(codes: NDArray[np.int64], n_classes: int, other: int) -> NDArray[np.int64]:
    """Bits of the operating system decide: below (K - 1) q another class, by turns of q; else the true one."""
    bits = np.frombuffer(os.urandom(8 * len(codes)), dtype="<u8").astype(np.uint64)
    turn = (bits // np.uint64(other)).astype(np.int64)
    changed = bits < np.uint64(other * (n_classes - 1))
    response = np.where(changed, turn + (turn >= codes), codes)
    even = (bits // np.uint64(-(-(2**64) // n_classes))).astype(np.int64)
    return np.where(codes < 0, even, response)
