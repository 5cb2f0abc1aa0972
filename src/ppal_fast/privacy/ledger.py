"""The ledger: what was promised, what was spent on it, and the only way out for a private number.

A release is reserved durably, then computed, then written down durably, then handed out (contract 16). Death in
between leaves the charge and releases nothing; asking again under the same name returns the stored bytes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import BudgetExceeded, InputError, LedgerError, PrivacyError
from . import accounting, label_sums, sums, units
from .book import Book, Entry
from .randomness import NoiseStream
from .requests import Release, Request, noise_multiplier, sum_request
from .requests import request as new_request
from .streams import Stream

Float = NDArray[np.float64]
T = TypeVar("T")


class Ledger:
    """A privacy budget in a file, and the door that spends it.

    path       file, made if absent; ":memory:" for one that ends with the process
    epsilon, delta   the promise: all releases together are (epsilon, delta + delta_aside)-DP. epsilon at most 100
    unit       "label", "record" or "owner": whom it protects (see units.UNITS)
    relation   "zero-out": that one unit's contribution is absent; "replace-one": that it is any other
    delta_aside  delta for mechanisms that fail with some probability (partition selection, subsampled sums); what is
               said of an epsilon "at the ledger's delta" means ``delta`` alone
    witness    a ``head`` noted elsewhere: an older or rewritten file raises LedgerError

    Opening an existing ledger with other terms raises LedgerError. Threads may share one Ledger, and processes one
    file; after a fork the child opens its own. Source: contracts 0 to 5 and 16 in docs/privacy/.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        epsilon: float,
        delta: float,
        unit: str,
        relation: str = "zero-out",
        delta_aside: float = 0.0,
        witness: str | None = None,
    ) -> None:
        self._open(path, epsilon, delta, unit, relation, delta_aside, witness, modalities={})

    def _open(
        self, path: str | os.PathLike[str], epsilon: float, delta: float, unit: str, relation: str, delta_aside: float,
        witness: str | None, **caps: Mapping[str, float],
    ) -> None:
        _validate.positive(epsilon=epsilon)
        if epsilon > accounting.LARGEST_EPSILON:
            raise InputError(f"epsilon was {epsilon!r}; at most {accounting.LARGEST_EPSILON:.0f} is expected")
        _validate.fraction(delta=delta)
        _validate.one_of(units.UNITS, unit=unit)
        _validate.one_of(units.RELATIONS, relation=relation)
        if accounting.numerical_delta_units(epsilon, delta) < 1 or accounting.units_of_epsilon(epsilon, delta) < 1:
            raise InputError(f"epsilon={epsilon!r} with delta={delta!r} is too small a budget for any release")
        _validate.non_negative(delta_aside=delta_aside)
        if delta + delta_aside >= 1.0:
            raise InputError(f"delta_aside was {delta_aside!r}; together with delta={delta!r} less than 1 is expected")
        self.epsilon, self.delta, self.unit, self.relation = float(epsilon), float(delta), unit, relation
        self.delta_aside, self._joint_epsilon = float(delta_aside), self.epsilon
        self._account = ""
        self._payers: list[str] = []  # the groups that a release is charged to; none: all
        terms: dict[str, Any] = {"epsilon": self.epsilon, "delta": self.delta, "unit": unit, "relation": relation}
        if delta_aside:
            terms["delta_aside"] = self.delta_aside
        self._book = Book(path, terms | {k: {n: float(cap) for n, cap in sorted(v.items())} for k, v in caps.items()})
        if witness is not None:
            try:
                self._book.check_witness(witness)
            except BaseException:
                self._book.close()
                raise

    def _share_book(self, whole: Ledger) -> None:
        """Be a view of another ledger's file and terms."""
        self.epsilon, self.delta, self.unit, self.relation = whole.epsilon, whole.delta, whole.unit, whole.relation
        self.delta_aside, self._joint_epsilon, self._account = whole.delta_aside, whole._joint_epsilon, whole._account
        self._payers, self._book = whole._payers, whole._book

    # The door

    def release_sum(
        self,
        rows: Any,
        *,
        clip: float,
        epsilon: float | None = None,
        sigma: float | None = None,
        mask: units.PublicMask | None = None,
        weights: Any = None,
        owners: Any = None,
        stability: int = 1,
        name: str,
    ) -> Float:
        """The noisy sum of the clipped contributions, (d,) float64 on a power-of-two grid.

        rows       (n, d) finite numbers, dense or scipy sparse (never made dense). A row is the contribution of a
                   record, and the zero vector for one that contributes nothing (its label is unknown, it was not
                   asked). n = 0: pure noise
        weights    (n,) factor of each row, as private as the rows: a linear or logistic gradient is residual x row
        clip       L2 norm to which each unit's contribution is clipped; public, as are all but rows, weights, owners
        epsilon    this release's own budget at the ledger's delta; or
        sigma      noise standard deviation / sensitivity, with sensitivity = clip * stability (* 2 for replace-one)
        mask       PublicMask of the coordinates to release; the others return 0 and are not read
        owners     (n,) owner of each row, for unit "owner": the rows of an owner are added, then clipped together
        stability  how many clip norms the sum may move when one unit changes, if the choice of rows depended on it
        name       the request's id. The same name with the same public arguments returns the stored numbers, whatever
                   the rows; with other arguments, or after a death in mid-release, it raises LedgerError

        Raises BudgetExceeded before the rows are read, leaving the ledger unchanged.
        """
        d = sums.width(rows)
        allowed = units.checked_mask(mask, d)
        request = sum_request(
            self, d=d, clip=clip, epsilon=epsilon, sigma=sigma, mask=mask, stability=stability, name=name
        )
        at = sums.grid(request.clip, request.sigma, request.stability * units.SENSITIVITY[self.relation])
        return self._perform(
            request,
            prepare=lambda: units.by_unit(sums.checked_rows(rows, allowed, weights), owners, self.unit),
            draw=lambda ready: sums.release(*ready, allowed, at, NoiseStream()),
        )

    def release_label_sum(
        self, rows: Any, targets: Any, codes: Any, *, epsilon: float | None = None, sigma: float | None = None,
        name: str,
    ) -> Float:
        """The noisy sum of t_(y_i) (x) x_i over records with public rows: (m, d) float64 on a power-of-two grid.

        rows       (n, d) finite numbers x_i, public; n is public too
        targets    (K, m) finite numbers, the vector t_k of each class, public
        codes      (n,) class y_i of each row, 0 .. K - 1, the only private argument; -1: its label was removed
        epsilon, sigma, name as for release_sum. The sensitivity is the exact one of these rows and targets: the
        longest row times the longest target, under replace-one times the largest distance of two targets.

        Raises PrivacyError unless the ledger's unit is "label". Source: docs/privacy/label_sums.md.
        """
        if self.unit != "label":
            raise PrivacyError(f"a sum of labels takes its rows as public; the ledger's unit is {self.unit!r}")
        tables = label_sums.PublicTables.of(rows, targets)
        sigma = noise_multiplier(self, epsilon, sigma)
        at = label_sums.grid(tables, sigma, self.relation)
        request = new_request(
            self, label_sums.MECHANISM, name, units=at.units, d=tables.rows.shape[1] * tables.targets.shape[1],
            clip=at.sensitivity * at.gamma, sigma=sigma, tables=tables.digest(),
        )
        return self._perform(
            request,
            prepare=lambda: label_sums.checked_codes(codes, len(tables.rows), len(tables.targets)),
            draw=lambda ready: label_sums.release(tables, ready, at, NoiseStream()),
        ).reshape(tables.targets.shape[1], -1)

    def stream(
        self, d: int, *, clip: float, epsilon: float | None = None, sigma: float | None = None,
        horizon: int | None = None, decay: float = 1.0, mask: units.PublicMask | None = None, stability: int = 1,
        name: str,
    ) -> Stream:
        """Open a stream of running sums of vectors of length d: charged once, now, for all its rounds.

        horizon    number of rounds, declared ahead; stopping early is free. None only with decay below 1
        decay      what a sum is multiplied by each round: the stream releases sum_s decay^(t-s) (sum of round s)
        sigma      noise standard deviation / sensitivity of the whole stream; the others as for release_sum
        stability  must hold in every round, by a rule under which a change moves one round's sum: not for top-k

        Under equal budgets the sixth sum has 0.66 times the noise of six separate releases, the first 1.27 times that
        of a single one (docs/privacy/streams.md). Raises LedgerError where the name was used before.
        """
        return Stream(
            self, d=d, clip=clip, epsilon=epsilon, sigma=sigma, horizon=horizon, decay=decay, mask=mask,
            stability=stability, name=name,
        )

    def _perform(
        self, request: Request, prepare: Callable[[], T], draw: Callable[[T], Float | tuple[Float, list[str]]]
    ) -> Float:
        """The one way out (contract 16): charge, check the rows, reserve, draw, commit, hand out.

        A committed request of this name returns its stored value; ``prepare`` runs only if the charge fits, and
        raises before anything is written; ``draw`` runs once the charge is durable. It may return a released name
        for each value, to be read from ``history()``.
        """
        with self._book.writing():
            stored = self._stored(request)
            if stored is not None:
                return stored
            self._require_budget(request)
            ready = prepare()
            self._book.append("reserve", request.body(self._payers or self._account, _now()))
            reserved = len(self._book.entries)
        drawn = draw(ready)
        released, keys = drawn if isinstance(drawn, tuple) else (drawn, [])
        body: dict[str, Any] = {"reserved": reserved, "time": _now()}
        if keys:
            body["keys"] = keys
        with self._book.writing():
            self._book.append("commit", body, released.astype("<f8").tobytes())
        return released

    # What was spent

    def spent(self) -> tuple[float, float]:
        """(epsilon, delta + delta_aside) of all releases so far, reserved ones included. Information: the promise is
        the cap."""
        with self._book.reading():
            charged = self._charged(self._account)
        return accounting.epsilon_of_units(charged, self.delta), self.delta + self.delta_aside

    def remaining(self) -> float:
        """The largest epsilon that one further release may ask for."""
        return accounting.largest_epsilon(self._remaining_units(), self.delta)

    def remaining_mu(self) -> float:
        """sqrt(cap - spent) in GDP: what is left, in the currency that adds up (its square does)."""
        return math.sqrt(self._remaining_units() * accounting.UNIT)

    def history(self) -> list[Release]:
        """The releases in their order."""
        with self._book.reading():
            return [self._event(e) for e in self._reservations() if self._concerns(e)]

    @property
    def head(self) -> str:
        """Number and hash of the last entry; note it elsewhere and give it as ``witness`` when opening again."""
        with self._book.reading():
            return self._book.head

    def report(self) -> str:
        """What is promised to whom, what was spent, and what an adversary sees, in plain sentences."""
        history = self.history()
        mu = math.sqrt(self._charged(self._account) * accounting.UNIT)
        other = next(r for r in units.RELATIONS if r != self.relation)
        # A label is often charged less than twice its zero-out price under replace-one: half would then be too little.
        factor = 2.0 if self.relation == "zero-out" else 1.0 if self.unit == "label" else 0.5
        delta = accounting.usable(self.delta)
        under_other = accounting.epsilon_of_mu(accounting.mu_of_epsilon(self.epsilon, delta) * factor, delta)
        aside = self.delta_aside * (1 + math.exp(under_other)) / (1 + math.exp(self._joint_epsilon))
        of = f" (modality {self._account!r})" if self._account else ""
        lines = [
            f"Promise{of}: epsilon {self.epsilon:g}, delta {self.delta + self.delta_aside:g}, unit {self.unit!r} "
            f"({units.UNITS[self.unit]}), "
            f"relation {self.relation!r} ({units.RELATIONS[self.relation]}).",
            f"The same promise under {other!r}: epsilon {under_other:.4g}, delta {self.delta + aside:.4g}.",
            f"Spent: epsilon {accounting.epsilon_of_mu(mu, delta):.4g} under {self.relation!r}, "
            f"{accounting.epsilon_of_mu(mu * factor, delta):.4g} under {other!r} (mu {mu:.4g}); "
            f"left for one further release: epsilon {self.remaining():.4g}.",
            f"Releases: {len(history)}.",
        ]
        lines += [
            f"  {e.name!r}: {e.n_masked} of {e.d} numbers, clip {e.clip:g}, noise {e.sigma:.4g} sensitivities, "
            f"stability {e.stability}, mu {e.mu:.4g}, {e.state} ({e.mechanism.rpartition(',')[0]})"
            for e in history
        ]
        lines.append(
            "The adversary sees every released number, this report, the terms, and who is on the roster; not the rows, "
            "how many of them contributed, the ids that were asked, or the noise."
            if self.unit != "label" else
            "The adversary sees every released number, this report, the terms, all features, and which records were "
            "labelled; not the labels, or the noise."
        )
        return "\n".join(lines)

    def close(self) -> None:
        """Close the file; further calls raise LedgerError."""
        self._book.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise LedgerError(f"a ledger is a file and is never copied or pickled; open {self._book.path!r} again")

    def __repr__(self) -> str:
        return (
            f"Ledger({self._book.path!r}, epsilon={self.epsilon!r}, delta={self.delta!r}, unit={self.unit!r}, "
            f"relation={self.relation!r}, delta_aside={self.delta_aside!r})"
        )

    # Within a transaction

    def _stored(self, request: Request) -> Float | None:
        """The committed value of this request, None if its name is new; LedgerError if the name is taken."""
        reservation = next((e for e in self._reservations() if e.body["name"] == request.name), None)
        if reservation is None:
            return None
        if reservation.body["fingerprint"] != request.fingerprint:
            raise LedgerError(
                f"name {request.name!r} was used for another request (other clip, noise, mask, length or stability); "
                "give this release a name of its own"
            )
        value = self._event(reservation).value
        if value is None:
            raise LedgerError(
                f"name {request.name!r} is burned: its release was paid for but died before it was written, or is "
                "still at work in another process; ask again under another name, which is charged again"
            )
        return value.copy()

    def _require_budget(self, request: Request) -> None:
        for label, account, cap in self._caps():
            left = cap - self._charged(account)
            if request.units > left:
                raise BudgetExceeded(
                    f"release {request.name!r} costs mu {math.sqrt(request.units * accounting.UNIT):.6g} but "
                    f"{label} has mu {math.sqrt(max(left, 0) * accounting.UNIT):.6g} left (mu squared adds up): "
                    f"at most epsilon={accounting.largest_epsilon(left, self.delta):.6g} can be asked for"
                )
        samples = sum(int(e.body["n_masked"]) for e in self._reservations()) + request.samples
        if samples > accounting.numerical_delta_units(self._joint_epsilon, self.delta):
            raise BudgetExceeded(
                f"release {request.name!r} brings the ledger to {samples} noise samples, more than the share of delta "
                "that is set aside for them; open a ledger with a larger delta"
            )
        left_aside = self._failure_units_left()
        if request.failure_units > left_aside:
            raise BudgetExceeded(
                f"release {request.name!r} fails with probability {accounting.probability(request.failure_units):.4g}, "
                f"but {accounting.probability(left_aside):.4g} is left of it (delta_aside={self.delta_aside!r} over "
                "1 + e^epsilon); open a ledger with a larger delta_aside"
            )

    def _caps(self) -> list[tuple[str, str, int]]:
        """(whose, account, cap in units) that a charge has to fit; account "" is the total."""
        return [("the ledger", "", accounting.units_of_epsilon(self.epsilon, self.delta))]

    def _charged(self, account: str) -> int:
        return sum(int(e.body["units"]) for e in self._reservations() if account in ("", e.body["account"]))

    def _concerns(self, reservation: Entry) -> bool:
        return self._account in ("", reservation.body["account"])

    def _remaining_units(self) -> int:
        with self._book.reading():
            return max(0, min(cap - self._charged(account) for _, account, cap in self._caps()))

    def _failure_units_left(self) -> int:
        spent = sum(int(e.body.get("failure_units", 0)) for e in self._reservations())
        return max(0, accounting.failure_units(self._joint_epsilon, self.delta_aside) - spent)

    def _reservations(self) -> Iterator[Entry]:
        return (e for e in self._book.entries if e.kind == "reserve")

    def _event(self, reservation: Entry) -> Release:
        body = reservation.body
        commit = next(
            (e for e in self._book.entries[reservation.seq + 1 :]
             if e.kind == "commit" and e.body["reserved"] == reservation.seq), None,
        )
        value = None
        if commit is not None:
            value = np.frombuffer(self._book.value(commit.seq) or b"", dtype="<f8").astype(np.float64)
            value.setflags(write=False)
        return Release(
            name=body["name"], time=body["time"], mu=math.sqrt(body["units"] * accounting.UNIT), clip=body["clip"],
            sigma=body["sigma"], d=body["d"], n_masked=body["n_masked"], stability=body["stability"],
            state="reserved" if commit is None else "committed", value=value,
            account=body["account"] if isinstance(body["account"], str) else ", ".join(body["account"]),
            mechanism=body["mechanism"], keys=() if commit is None else tuple(commit.body.get("keys", ())),
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
