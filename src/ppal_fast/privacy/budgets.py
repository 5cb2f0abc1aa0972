"""Budgets of one person over several modalities: each has a cap of its own, and all share a joint total.

One file, one transaction: a release in "imaging" is admitted only if it fits both the imaging cap and the person's
total (contract 13). The modality ledgers are views of the person's ledger, not ledgers beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .. import _validate
from ..errors import InputError, PrivacyError
from . import accounting
from .ledger import Ledger


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
        witness: str | None = None,
    ) -> None:
        if not modalities:
            raise InputError("modalities was empty; the cap of at least one modality is expected")
        for name, cap in modalities.items():
            _validate.positive(**{f"modalities[{name!r}]": cap})
            if not isinstance(name, str) or not name or cap > epsilon:
                raise InputError(
                    f"modalities has {name!r}: {cap!r}; a name and a cap of at most epsilon={epsilon!r} are expected"
                )
        self._modalities = dict(modalities)
        self._open(path, epsilon, delta, unit, relation, self._modalities, witness)

    def modality(self, name: str) -> ModalityLedger:
        """The view through which this modality spends."""
        _validate.one_of(self._modalities, name=name)
        return ModalityLedger(self, name, self._modalities[name])

    def release_sum(self, rows: Any, **arguments: Any) -> Any:
        """Refused: a release belongs to a modality."""
        raise self._refusal()

    def stream(self, d: int, **arguments: Any) -> Any:
        """Refused, like release_sum."""
        raise self._refusal()

    def _refusal(self) -> PrivacyError:
        return PrivacyError(f"releases are made through modality(name), with name one of {', '.join(self._modalities)}")


class ModalityLedger(Ledger):
    """One modality of a PersonLedger. ``epsilon`` is its own cap; what the joint total still allows may be less."""

    def __init__(self, joint: PersonLedger, name: str, epsilon: float) -> None:
        self.epsilon, self.delta, self.unit, self.relation = float(epsilon), joint.delta, joint.unit, joint.relation
        self._joint_epsilon = joint.epsilon
        self._account = name
        self._book = joint._book

    def _caps(self) -> list[tuple[str, str, int]]:
        return [
            (f"modality {self._account!r}", self._account, accounting.units_of_epsilon(self.epsilon, self.delta)),
            ("the joint ledger", "", accounting.units_of_epsilon(self._joint_epsilon, self.delta)),
        ]
