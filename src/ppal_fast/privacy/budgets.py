"""Budgets beside the one total: of a person's modalities, of public groups of people, and of releases to come.

PersonLedger  one person, several modalities: a release in "imaging" is admitted only if it fits both the imaging cap
              and the person's total, in one transaction (contract 13)
GroupLedger   several public groups of units, each promised an epsilon of its own; who has spent it is left out
allocate      what remains, shared out over coming releases by released or public numbers (contract 14)
Source        docs/privacy/budgets.md; attacked by tests/test_privacy_budgets.py
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _validate
from ..errors import BudgetExceeded, InputError, PrivacyError
from . import accounting, sums, units
from .book import Entry
from .ledger import Ledger
from .requests import Request, sum_request
from .units import PublicMask

Float = NDArray[np.float64]


class PersonLedger(Ledger):
    """The joint ledger of a person (or of a cohort whose members have the same modalities).

    modalities   name -> epsilon, the cap of each at the ledger's delta; a cap may not exceed the joint epsilon.
                 The caps may add up to more than the total: whichever is reached first refuses
    Releases are made through ``modality(name)``, which has all of Ledger's methods. spent, remaining, history and
    report of this object tell the joint total. Request names are shared by all modalities.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        epsilon: float,
        delta: float,
        unit: str,
        modalities: Mapping[str, float],
        relation: str = "zero-out",
        delta_aside: float = 0.0,
        witness: str | None = None,
    ) -> None:
        _check_caps("modalities", modalities, epsilon)
        self._modalities = dict(modalities)
        self._open(path, epsilon, delta, unit, relation, delta_aside, witness, modalities=self._modalities)

    def modality(self, name: str) -> ModalityLedger:
        """The view through which this modality spends."""
        _validate.one_of(self._modalities, name=name)
        return ModalityLedger(self, name, self._modalities[name])

    def _perform(self, request: Request, prepare: Callable[[], Any], draw: Callable[[Any], Any]) -> Float:
        raise PrivacyError(f"releases are made through modality(name), with name one of {', '.join(self._modalities)}")


class ModalityLedger(Ledger):
    """One modality of a PersonLedger. ``epsilon`` is its own cap; what the joint total still allows may be less."""

    def __init__(self, joint: PersonLedger, name: str, epsilon: float) -> None:
        self._share_book(joint)
        self.epsilon, self._account = float(epsilon), name

    def _caps(self) -> list[tuple[str, str, int]]:
        return [
            (f"modality {self._account!r}", self._account, accounting.units_of_epsilon(self.epsilon, self.delta)),
            ("the joint ledger", "", accounting.units_of_epsilon(self._joint_epsilon, self.delta)),
        ]


class GroupLedger(Ledger):
    """One ledger for public groups of units (sites, companies, consent forms) that were promised different epsilons.

    groups   name -> epsilon, the cap of each at the ledger's delta. Every unit is in one group; which one is public
    ``release_sum`` charges the groups that take part: those whose budget has room for it. The others are left out, for
    a reason that everybody knows. All other mechanisms charge every group, and are refused once one of them is spent.
    spent() tells of the group that has spent the most, remaining() of the one that has kept the most.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        groups: Mapping[str, float],
        delta: float,
        unit: str,
        relation: str = "zero-out",
        delta_aside: float = 0.0,
        witness: str | None = None,
    ) -> None:
        _check_caps("groups", groups, math.inf)
        self._groups = {name: float(cap) for name, cap in groups.items()}
        self._open(path, max(self._groups.values()), delta, unit, relation, delta_aside, witness, groups=self._groups)

    def release_sum(  # type: ignore[override]
        self, rows: Any, *, groups: Sequence[str] | None = None, clip: float, epsilon: float | None = None,
        sigma: float | None = None, mask: PublicMask | None = None, weights: Any = None, owners: Any = None, name: str,
    ) -> Float:
        """As Ledger.release_sum, over the units whose group has room for the charge.

        groups  (n,) the group of each row; an owner's rows belong to one. None: all groups take part and are charged
        ``history()`` names the groups in ``account``. Raises BudgetExceeded where no group has room. A sum whose choice
        of rows depends on others (stability above 1) is not offered: those who were left out might steer it.
        """
        public: dict[str, Any] = {"clip": clip, "epsilon": epsilon, "sigma": sigma, "mask": mask, "name": name}
        if groups is None:
            return super().release_sum(rows, weights=weights, owners=owners, **public)
        d, names = sums.width(rows), list(groups)
        if len(names) != np.shape(rows)[0]:
            raise InputError(f"groups has length {len(names)}; {np.shape(rows)[0]}, the number of rows, is expected")
        for one in set(names):
            _validate.one_of(self._groups, groups=one)
        of_row = units.unit_codes(owners, len(names), self.unit).tolist()
        if len(set(of_row)) != len(set(zip(of_row, names, strict=True))):
            raise InputError("groups puts rows of one owner into several groups; one group is expected for each owner")
        factors = np.ones(len(names)) if weights is None else sums.checked_weights(weights, len(names))
        request = sum_request(self, d=d, stability=1, **public)
        while True:
            able = self._able(request)
            present = np.where(np.isin(names, able), factors, 0.0)
            try:
                return Ledger.release_sum(_Among(self, able), rows, weights=present, owners=owners, **public)
            except BudgetExceeded:
                if not able or self._able(request) == able:  # else another process was faster: with who is left
                    raise

    def group(self, name: str) -> GroupLedger:
        """One group's part: what it has spent, and releases of its units alone by any mechanism."""
        _validate.one_of(self._groups, name=name)
        return _Among(self, [name])

    def report(self) -> str:
        """As Ledger.report, whose promise is that of the group with the largest epsilon, and a line for each group."""
        lines = [super().report()]
        for name, cap in self._groups.items():
            with self._book.reading():
                spent = accounting.epsilon_of_units(self._charged(name), self.delta)
            lines.append(f"Group {name!r}: epsilon {cap:g} promised, {spent:.4g} spent.")
        return "\n".join(lines)

    def _able(self, request: Request) -> list[str]:
        with self._book.reading():
            return [name for _, name, cap in self._caps() if request.units <= cap - self._charged(name)]

    def _caps(self) -> list[tuple[str, str, int]]:
        return [(f"group {name!r}", name, accounting.units_of_epsilon(cap, self.delta))
                for name, cap in self._groups.items()]

    def _charged(self, account: str) -> int:
        if account == "":
            return max(self._charged(name) for name in self._groups)
        return sum(int(e.body["units"]) for e in self._reservations() if account in (e.body["account"] or [account]))

    def _concerns(self, reservation: Entry) -> bool:
        payers = reservation.body["account"]
        return not payers or any(name in payers for name in self._groups)

    def _remaining_units(self) -> int:
        with self._book.reading():
            return max(0, *(cap - self._charged(name) for _, name, cap in self._caps()))


class _Among(GroupLedger):
    """The groups that take part in a release."""

    def __init__(self, whole: GroupLedger, names: list[str]) -> None:
        self._share_book(whole)
        self._groups = {name: whole._groups[name] for name in names}
        self.epsilon = max(self._groups.values(), default=whole.epsilon)
        self._payers = names

    def _require_budget(self, request: Request) -> None:
        if not self._groups:
            mu = math.sqrt(request.units * accounting.UNIT)
            raise BudgetExceeded(f"release {request.name!r} costs mu {mu:.6g}, for which no group has room")
        super()._require_budget(request)


def allocate(ledger: Ledger, values: ArrayLike) -> Float:
    """(n,) noise multipliers of n coming releases that together cost what remains in the ledger.

    values   (n,) how much a unit of squared error in each release matters, at least 0; public, or computed from
             released numbers. Nothing can check that: values or uncertainties of single records are neither
    mu^2 is shared out by the roots of the values, which makes sum(values * sigma^2) least (Cauchy, Schwarz). Against
    equal shares that sum falls by the factor mean(sqrt(values))^2 / mean(values): .96 for values 1, 2, 3; .74 for 1 and
    16. Call it again after each release, with what was released meanwhile: the filter keeps the total. A release of
    value 0 is given no budget, and an infinite sigma.
    """
    weights = np.asarray(values, dtype=np.float64)
    if weights.ndim != 1 or not np.isfinite(weights).all() or not (weights >= 0).all() or not weights.any():
        raise InputError(f"values was {values!r}; finite numbers of at least 0 are expected, one of them above 0")
    roots = np.sqrt(weights / weights.max())
    left = ledger._remaining_units()
    charges = [math.floor(left * float(share) * (1 - 2.0**-50)) for share in roots / roots.sum()]
    if any(charge < 1 and root > 0 for charge, root in zip(charges, roots, strict=True)):
        raise BudgetExceeded(f"epsilon {ledger.remaining():.6g} is left, too little for {len(weights)} releases")
    return np.array([accounting.sigma_of_units(charge) if charge else math.inf for charge in charges])


def _check_caps(argument: str, caps: Mapping[str, float], most: float) -> None:
    if not caps:
        raise InputError(f"{argument} was empty; a name and the epsilon of at least one are expected")
    for name, cap in caps.items():
        _validate.positive(**{f"{argument}[{name!r}]": cap})
        if not isinstance(name, str) or not name or cap > most:
            raise InputError(
                f"{argument} has {name!r}: {cap!r}; a name and an epsilon of at most {most!r} are expected"
            )
