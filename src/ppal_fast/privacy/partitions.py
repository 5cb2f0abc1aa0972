"""Partition selection: which groups of an unknown universe have members, for those with enough of them.

Released       the names v with c_v + Z_v >= threshold, with these noisy counts times gamma; c_v = sum over units that
               have v of 1 / sqrt(number of names of the unit) in grid units, Z rounded Gaussian of deviation S. Names
               that nobody has are not looked at
Unit           any; a unit has at most ``most`` names. Relation as the ledger says
Sensitivity    K = clip norm 1 in grid units (twice that for replace-one), checked in integers
Guarantee      within total variation p of a mu-GDP mechanism, mu = K / S, p the chance that a name which one unit alone
               has gets over the threshold; p is charged to delta_aside, and 2**-320 for each row
Source         Gopi, Gulhane, Kulkarni, Shen, Shokouhi, Yekhanin 2020 (arXiv:2002.09745), Gaussian weighted sets;
               Desfontaines, Voss, Gipson, Mandayam 2022 (arXiv:2006.03684); docs/privacy/partitions.md; attacked by
               tests/test_privacy_partitions.py
Where the universe is public, counts.surviving_groups needs no delta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError
from . import accounting, requests, sums, units
from .randomness import NoiseStream

if TYPE_CHECKING:
    from .ledger import Ledger

MECHANISM = "partition selection, rounded Gaussian, 1"


def select_partitions(
    ledger: Ledger, names: Sequence[str | None], *, delta: float, epsilon: float | None = None,
    sigma: float | None = None, owners: Any = None, most: int = 1, name: str,
) -> dict[str, float]:
    """The names that enough units have, each with its noisy count, sorted.

    names    (n,) text, the group of each record, or None; private, the universe of them too
    delta    what this release may take of the ledger's delta_aside; the smaller, the higher the threshold
    most     an owner counts in the first ``most`` of its groups, by 1 / sqrt(their number) in each; 1: by 1 in one
    epsilon, sigma, owners, name as for Ledger.release_sum. A group of fewer than about threshold - 2 deviations
    members stays unseen: 36 members at epsilon .5 and delta 1e-6 pass half the time.
    """
    given = list(names)
    for one in given:
        if one is not None and not (isinstance(one, str) and one):
            raise InputError(f"names has the entry {one!r}; texts, or None for a record in no group, are expected")
    _validate.fraction(delta=delta)
    _validate.integer(1, most=most)
    if ledger.unit != "owner" and most != 1:
        raise InputError(f"most was {most!r}; 1 is expected, as a record has one group (unit {ledger.unit!r})")
    sigma = requests.noise_multiplier(ledger, epsilon, sigma)
    at = sums.grid(1.0, sigma, units.SENSITIVITY[ledger.relation])
    failure = accounting.failure_units(ledger._joint_epsilon, delta)
    bar = threshold(at, accounting.probability(failure), most)
    request = requests.request(
        ledger, MECHANISM, name, units=at.units, samples=len(given), d=len(given), clip=1.0, sigma=sigma,
        failure_units=failure, most=most,
    )

    def draw(present: tuple[list[str], units.SparseRows]) -> tuple[NDArray[np.float64], list[str]]:
        found, rows = present
        noisy = sums.integer_sum(rows, rows.starts, at) + NoiseStream().rounded_gaussian(len(found), at.deviation)
        over = np.flatnonzero(noisy >= bar)
        return np.asarray(noisy[over] * at.gamma, dtype=np.float64), [found[i] for i in over]

    ledger._perform(request, lambda: _by_unit(given, units.unit_codes(owners, len(given), ledger.unit), most), draw)
    event = next(e for e in ledger.history() if e.name == name)
    assert event.value is not None
    return dict(zip(event.keys, event.value.tolist(), strict=True))


def threshold(at: sums.Grid, failure: float, most: int) -> int:
    """The least whole t at which a unit with j names of its own, j <= most, shows any of them with probability at most
    ``failure``: j P(ceil(K / sqrt j) + 1 + round(N(0, S^2)) >= t)."""
    if failure <= 0.0:
        raise InputError("delta was too small for a threshold that could ever be passed")
    normal = NormalDist()
    return max(
        math.ceil(Fraction(at.bound) / Fraction(math.isqrt(j * 2**60), 2**30)) + 1
        + math.ceil(0.5 + at.deviation * -normal.inv_cdf(min(failure / j, 0.5)) * (1 + 1e-9))
        for j in range(1, most + 1)
    )


def _by_unit(names: list[str | None], codes: NDArray[np.intp], most: int) -> tuple[list[str], units.SparseRows]:
    """The names that are counted, sorted, and for each unit its row of 1 / sqrt(number of its names)."""
    of_unit: dict[int, dict[str, None]] = {}
    for unit, one in zip(codes.tolist(), names, strict=True):
        has = of_unit.setdefault(unit, {})
        if one is not None and len(has) < most:
            has[one] = None
    found = sorted({one for has in of_unit.values() for one in has})
    column = {one: j for j, one in enumerate(found)}
    lengths = np.array([len(has) for has in of_unit.values()], dtype=np.intp)
    columns = [column[one] for has in of_unit.values() for one in sorted(has)]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)
    values = np.repeat(1.0 / np.sqrt(np.maximum(lengths, 1)), lengths)
    return found, units.SparseRows(starts, np.array(columns, dtype=np.intp), values, len(found), True)
