"""Streams: the sum of all rounds so far, after every round, for one charge; a record takes part in one round.

Released      y_t = sum_s a_(t-s) G_s + round(N(0, S^2)), G_s the integer clip-sum of round s, a_k whole numbers near
              binom(2k, k) / 4^k * decay^k * 2^10 (the square root of the matrix of running sums); handed out is the
              running sum that y_1 .. y_t determine, which is post-processing
Sensitivity   K * sqrt(sum_k a_k^2) * stability (* 2 for replace-one), in whole numbers and over all rounds together
Guarantee     mu-GDP with mu = 1 / sigma for the whole stream, arrivals adaptive; 2**-320 of delta a sampled coordinate
Source        contract 9 (docs/privacy/streams.md); attacked by tests/test_privacy_streams.py
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError, LedgerError, PrivacyError
from . import requests, sums, units
from .randomness import NoiseStream

if TYPE_CHECKING:
    from .ledger import Ledger

OPENING = "stream of running sums, 1"  # parts of every fingerprint, as requests.CLIP_SUM is
ROUND = "round of a stream, 1"
WEIGHT_BITS = 10
DEVIATION_BITS = 34  # of S, in steps of the weights: one sample in 5,000 is decided in high precision
LONGEST = 4096  # rounds that a contribution may stay in the releases

Float = NDArray[np.float64]


class Stream:
    """Made by ``Ledger.stream``; ``release`` once a round.

    name, horizon, decay as given; round: rounds released so far.
    Who took part and the exact sums are private: they live in this object alone and end with its process (nothing of
    them is written to the ledger), so a stream cannot be reopened, copied, pickled or used after a fork.
    """

    def __init__(
        self, ledger: Ledger, *, d: int, clip: float, epsilon: float | None, sigma: float | None,
        horizon: int | None, decay: float, mask: units.PublicMask | None, stability: int, name: str,
    ) -> None:
        _validate.integer(1, d=d)
        _validate.positive(clip=clip)
        _validate.integer(1, stability=stability)
        self._weights = root_weights(horizon, decay)
        self._mask = units.checked_mask(mask, d)
        self._public_mask = mask
        self._sigma = requests.noise_multiplier(ledger, epsilon, sigma)
        self._at = sums.grid(
            float(clip), self._sigma, int(stability) * units.SENSITIVITY[ledger.relation],
            squares=sum(a * a for a in self._weights), deviation_bits=DEVIATION_BITS,
        )
        self._ledger, self.name, self.horizon, self.decay = ledger, name, horizon, float(decay)
        self._clip, self._stability = float(clip), int(stability)
        self._sums: deque[NDArray[np.int64]] = deque(maxlen=len(self._weights))  # newest first; private
        self._increments: deque[Float] = deque(maxlen=len(self._weights) - 1)  # estimates of the sums, in grid units
        self._running = np.zeros(int(self._mask.sum()))
        self._took_part: set[Any] = set()
        self.round = 0
        self._ended = ""
        self._lock = threading.Lock()
        opened: list[bool] = []
        ledger._perform(self._request(OPENING, name, self._at.units, 0), lambda: opened.append(True), _nothing)
        if not opened:
            raise LedgerError(
                f"stream {name!r} was opened before, and its sums lived in the process that opened it; open a stream "
                "under another name, which is charged again"
            )

    def release(self, rows: Any, ids: Any, *, weights: Any = None) -> Float:
        """Close a round with the contributions of those who take part in it: the noisy running sum, (d,) float64.

        rows      (n, d) as for Ledger.release_sum, clipped a unit; n = 0: nobody took part
        ids       (n,) the record of each row, or its owner under unit "owner"; hashable. Kept in memory, not written
        weights   (n,) factor of each row
        Returns sum_s decay^(t-s) (sum of round s). Raises PrivacyError where somebody took part before, after the
        last round, and after a round that died.
        """
        with self._lock:
            if self._ended:
                raise PrivacyError(self._ended)
            if self.round == self.horizon:
                raise PrivacyError(
                    f"stream {self.name!r} was declared for {self.horizon} rounds, all of which are released; "
                    "open another stream, which is charged"
                )
            shape = np.shape(rows)
            if len(shape) != 2 or shape[1] != len(self._mask):
                raise InputError(f"rows has shape {shape}; (n, {len(self._mask)}) is expected")
            joining = self._joining(ids, shape[0])
            checked = sums.checked_rows(rows, self._mask, weights)
            ready = units.by_unit(checked, ids if self._ledger.unit == "owner" else None, self._ledger.unit)
            bound = float(len(self._took_part) + len(joining)) * self._at.bound * self._weights[0]
            if bound + 64.0 * self._at.deviation >= 2.0**62:
                raise InputError("the stream has so many contributions that their sum would overflow the grid")
            total = sums.integer_sum(*ready, self._at)
            # From here on they have taken part, whether or not the value gets out.
            self._took_part |= joining
            self._sums.appendleft(total)
            self.round += 1
            self._ended = f"round {self.round} of stream {self.name!r} died before its value was written; open another"
            request = self._request(ROUND, f"{self.name}/{self.round}", 0, len(total))
            released = self._ledger._perform(request, _nothing, lambda _: self._draw())
            self._ended = ""
            return released

    def deviations(self, n_rounds: int) -> Float:
        """(n_rounds,) standard deviation of the noise in each coordinate of the sum after round 1, 2, ..."""
        _validate.integer(1, n_rounds=n_rounds)
        noise = running_sums(np.eye(n_rounds, 1)[:, 0], self._weights, self.decay)  # what one y does to later sums
        return self._at.deviation * self._at.gamma * np.sqrt(np.cumsum(noise**2))

    def _draw(self) -> Float:
        noisy = NoiseStream().rounded_gaussian(len(self._running), self._at.deviation)
        for a, total in zip(self._weights, self._sums, strict=False):
            noisy += a * total
        increment = noisy.astype(np.float64)
        for a, earlier in zip(self._weights[1:], self._increments, strict=False):
            increment -= a * earlier
        increment /= self._weights[0]
        self._increments.appendleft(increment)
        self._running = self.decay * self._running + increment
        released = np.zeros(len(self._mask))
        released[self._mask] = self._running * self._at.gamma
        return released

    def _joining(self, ids: Any, n: int) -> set[Any]:
        names = list(ids)
        if len(names) != n:
            raise InputError(f"ids has length {len(names)}; {n}, the number of rows, is expected")
        if any(_validate.is_missing(one) for one in names):
            raise InputError("ids has a missing entry; the identity of every row is expected")
        joining = set(names)
        if self._ledger.unit != "owner" and len(joining) < n:
            raise PrivacyError("ids has an entry twice; a record takes part in a stream once")
        if not joining.isdisjoint(self._took_part):
            again = next(one for one in names if one in self._took_part)
            raise PrivacyError(f"ids has {again!r}, which took part in an earlier round; a unit takes part once")
        return joining

    def _request(self, mechanism: str, name: str, charge: int, samples: int) -> requests.Request:
        return requests.request(
            self._ledger, mechanism, name, units=charge, samples=samples, d=len(self._mask), mask=self._public_mask,
            clip=self._clip, sigma=self._sigma, stability=self._stability, horizon=self.horizon, decay=self.decay,
        )

    def __reduce__(self) -> NoReturn:
        raise PrivacyError("a stream holds exact sums and is never copied or stored")


def root_weights(horizon: int | None, decay: float) -> list[int]:
    """a_k = round(2^10 binom(2k, k) / 4^k decay^k) for k below the horizon and up to the last that is not zero.

    Any whole numbers are private, as the sensitivity is computed from them; these make the noise of the sums small.
    """
    if not isinstance(decay, int | float) or not 0.0 < decay <= 1.0:
        raise InputError(f"decay was {decay!r}; a number above 0 and at most 1 is expected")
    if horizon is None and decay == 1.0:
        raise InputError("horizon was None; a stream without decay needs its number of rounds declared ahead")
    if horizon is not None:
        _validate.integer(1, horizon=horizon)
    weights: list[int] = []
    c = 1.0
    while (a := round(2**WEIGHT_BITS * c)) > 0 and len(weights) != horizon:
        weights.append(a)
        k = len(weights)
        if k > LONGEST:
            raise InputError(f"horizon={horizon!r} with decay={decay!r} is more than {LONGEST} rounds")
        c *= decay * (2 * k - 1) / (2 * k)
    return weights


def running_sums(y: Float, weights: list[int], decay: float) -> Float:
    """A C^-1 y for a list of released numbers y (t,): C the lower-triangular Toeplitz matrix of the weights, A of the
    powers of decay. What Stream.release computes round by round."""
    increments = np.zeros(len(y))
    for t in range(len(y)):
        past = min(t, len(weights) - 1)
        known = np.dot(weights[1 : past + 1], increments[t - past : t][::-1])
        increments[t] = (y[t] - known) / weights[0]
    running = np.zeros(len(y))
    total = 0.0
    for t, increment in enumerate(increments):
        total = decay * total + increment
        running[t] = total
    return running


def _nothing(*_: Any) -> Float:
    return np.empty(0)
