"""Whose model a file holds: the releases that it was made of, and the ledger that has to know them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LedgerError, PrivacyError

if TYPE_CHECKING:
    from ..privacy import Ledger

TERMS = ("epsilon", "delta", "unit", "relation", "delta_aside")  # of a ledger: what it takes to open one


def statement(sentence: str, ledger: Ledger | None, prefix: str) -> dict[str, Any]:
    """For the file's text: the sentence; with a ledger its terms, and each release of ``prefix`` with its digest."""
    if ledger is None:
        return {"sentence": sentence}
    terms = {name: getattr(ledger, name) for name in TERMS}
    return {"sentence": sentence, **terms, "releases": _digests(ledger, prefix)}


def require_ledger(stated: dict[str, Any], ledger: Ledger | str | os.PathLike[str] | None, path: str) -> None:
    """Refuse a private model unless the ledger holds its releases, number for number."""
    if "releases" not in stated:
        return
    terms = f"epsilon {stated['epsilon']:g}, delta {stated['delta']:g}, unit {stated['unit']!r}"
    if ledger is None:
        raise PrivacyError(
            f"the model {path!r} is private ({terms}) and no ledger was given; "
            "give ledger=, the one it was released from"
        )
    opened = _opened(ledger, stated)
    try:
        for name in TERMS:
            if getattr(opened, name) != stated[name]:
                raise LedgerError(
                    f"the ledger's {name} is {getattr(opened, name)!r}, and that of the model {path!r} is "
                    f"{stated[name]!r}; give the ledger that it was released from"
                )
        known = _digests(opened, "")
    finally:
        if opened is not ledger:
            opened.close()
    missing = [name for name, digest in stated["releases"].items() if known.get(name) != digest]
    if missing or not stated["releases"]:
        what = f"release {missing[0]!r}" if missing else "any release"
        raise LedgerError(
            f"the ledger does not hold {what} of the model {path!r} as it was made; "
            "give the ledger that it was released from"
        )


def _opened(ledger: Ledger | str | os.PathLike[str], stated: dict[str, Any]) -> Ledger:
    if not isinstance(ledger, str | os.PathLike):
        return ledger
    from ..privacy import Ledger

    if not Path(ledger).is_file():
        raise LedgerError(f"ledger {str(ledger)!r} does not exist; give the one that the model was released from")
    return Ledger(ledger, **{name: stated[name] for name in TERMS})


def _digests(ledger: Ledger, prefix: str) -> dict[str, str]:
    """Name -> SHA-256 of the released numbers, of all committed releases whose name begins so."""
    return {
        release.name: hashlib.sha256(release.value.astype("<f8").tobytes()).hexdigest()
        for release in ledger.history() if release.value is not None and release.name.startswith(prefix)
    }
