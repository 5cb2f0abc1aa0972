"""The audit: tries to break the promise from outside, and says what it can prove.

`two_world` bounds epsilon from below by telling two neighbouring inputs apart; the other checks look for the ways in
which such mechanisms have failed: a unit that still contributes, values that betray their input, a clip that lets
something through, noise used twice, a choice of rows that moves more than declared, a sum that depends on order.
Each check takes the thing that it attacks as an argument, so that the tests can hand it broken ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError
from . import accounting, streams, sums, units
from .ledger import Ledger
from .randomness import NoiseStream

CONFIDENCE = 0.95
CURVE_SHARE = 0.9  # of the allowed error: for the one threshold of the Gaussian curve; the events share the rest
PILOT = 20  # one draw in PILOT chooses the direction and the events, the others measure them

Float = NDArray[np.float64]
Mechanism = Callable[[int, int], Any]
Door = Callable[..., Float]


@dataclass(frozen=True)
class AuditResult:
    """What the draws prove, each with 95 % confidence together.

    epsilon_lower_bound  no mechanism with a Gaussian claim (every release of a Ledger) below this epsilon behaves so
    mu_lower_bound       the same in GDP
    event_lower_bound    no (epsilon, delta)-DP mechanism of any kind below this epsilon behaves so
    event                the event that shows it
    """

    epsilon_lower_bound: float
    mu_lower_bound: float
    event_lower_bound: float
    event: str
    delta: float
    n_draws: int


@dataclass(frozen=True)
class Finding:
    """One check: its name, whether the promise held, and what was seen."""

    check: str
    passed: bool
    detail: str


def two_world(mechanism: Mechanism, *, delta: float, n_draws: int) -> AuditResult:
    """A lower bound on epsilon at ``delta`` from n_draws outputs in each of two neighbouring worlds.

    mechanism   mechanism(world, n) -> (n,) or (n, k) independent outputs in world 0 or 1
    A twentieth of the draws chooses a direction, a threshold and events; the rest measures their probabilities, which
    are bounded by Clopper and Pearson's exact intervals. From P1(score >= t) and P0(score >= t) follows a bound on mu,
    mu >= Phi^-1(P1) - Phi^-1(P0), hence on epsilon (Nasr et al. 2023, arXiv:2302.07956); and, for mechanisms of any
    kind, epsilon >= ln((P1 - delta) / P0).
    """
    _validate.fraction(delta=delta)
    _validate.integer(1000, n_draws=n_draws)
    outputs = [_outputs(mechanism, world, n_draws) for world in (0, 1)]
    pilot = n_draws // PILOT
    scores = _scores(outputs, pilot)
    first, rest = [s[:pilot] for s in scores], [s[pilot:] for s in scores]

    error = 1.0 - CONFIDENCE
    threshold = (first[0].mean() + first[1].mean()) / 2.0
    above = [int((r >= threshold).sum()) for r in rest]
    n = n_draws - pilot
    inverse = NormalDist().inv_cdf
    high, low = _lower(above[1], n, error * CURVE_SHARE / 2), _upper(above[0], n, error * CURVE_SHARE / 2)
    mu = max(0.0, inverse(high) - inverse(low)) if high > 0.0 and low < 1.0 else 0.0

    events = _events(first)
    best, event = 0.0, "none"
    for name, happens, world in events:
        share = error * (1.0 - CURVE_SHARE) / (2 * len(events))
        likely = _lower(int(happens(rest[world]).sum()), n, share)
        unlikely = _upper(int(happens(rest[1 - world]).sum()), n, share)
        if likely > delta and math.log((likely - delta) / unlikely) > best:
            best, event = math.log((likely - delta) / unlikely), name
    return AuditResult(
        epsilon_lower_bound=max(best, accounting.epsilon_of_mu(mu, delta)), mu_lower_bound=mu,
        event_lower_bound=best, event=event, delta=delta, n_draws=n_draws,
    )


def worlds(
    rows_0: Any, rows_1: Any, *, clip: float, sigma: float, times: int = 1,
    integer_sum: Callable[..., NDArray[np.int64]] = sums.integer_sum,
) -> Mechanism:
    """The steps of the door, without its ledger, as a mechanism of two worlds: the clip-sum is computed once in each
    world and the noise drawn n times, which is the law of n releases. rows (n, d), every row a unit; times as for
    sums.grid. What the ledger itself lets out is attacked through ``ledger_worlds``.
    """
    at = sums.grid(clip, sigma, times)
    totals = []
    for rows in (rows_0, rows_1):
        checked = sums.checked_rows(rows, np.ones(np.shape(rows)[1], dtype=np.bool_))
        totals.append(integer_sum(checked, np.arange(len(checked) + 1), at))

    def mechanism(world: int, n: int) -> Float:
        total = totals[world]
        noise = NoiseStream().rounded_gaussian(n * len(total), at.deviation).reshape(n, len(total))
        return np.asarray((total + noise) * at.gamma, dtype=np.float64)

    return mechanism


def ledger_worlds(*, sigma: float) -> Mechanism:
    """Releases of a real ledger as a mechanism of two worlds: reservation, grid, clip, sum, noise and all.

    Every coordinate is a pair of worlds of its own, with a unit that contributes 50 clip norms there or nothing.
    """

    def mechanism(world: int, n: int) -> Float:
        from scipy import sparse

        rows = sparse.csr_array((np.full(n, 50.0 * world), (np.arange(n), np.arange(n))), shape=(n, n))
        with Ledger(":memory:", epsilon=accounting.LARGEST_EPSILON, delta=0.5, unit="record") as ledger:
            return ledger.release_sum(rows, clip=1.0, sigma=sigma, name="audit")

    return mechanism


def label_worlds(*, sigma: float, relation: str = "replace-one", n_classes: int = 10) -> Mechanism:
    """Label sums of a real ledger as a mechanism of two worlds: a label is 0 or 1, under zero-out removed or 0.

    Every row of an identity matrix is a pair of worlds of its own; the targets are centred one-hot.
    """
    targets = np.eye(n_classes) - 1.0 / n_classes

    def mechanism(world: int, n: int) -> Float:
        drawn: list[Float] = []
        terms = {"epsilon": accounting.LARGEST_EPSILON, "delta": 0.5, "unit": "label", "relation": relation}
        for start in range(0, n, 200):
            rows = np.eye(min(200, n - start))
            codes = np.full(len(rows), world if relation == "replace-one" else world - 1)
            with Ledger(":memory:", **terms) as ledger:  # type: ignore[arg-type]
                drawn.append(ledger.release_label_sum(rows, targets, codes, sigma=sigma, name="audit").T)
        return np.concatenate(drawn)

    return mechanism


def stream_worlds(*, sigma: float, horizon: int = 6, decay: float = 1.0) -> Mechanism:
    """A real stream of a real ledger as a mechanism of two worlds, against an adversary who chooses when to join.

    Every coordinate is a pair of worlds of its own. Its record joins in the second round if the first released number
    was positive, else in the third (in world 0: not at all). An output is the logarithm of the likelihood ratio of
    the transcript, up to a positive factor: the sharpest score that there is.
    """

    def mechanism(world: int, n: int) -> Float:
        from scipy import sparse

        with Ledger(":memory:", epsilon=accounting.LARGEST_EPSILON, delta=0.5, unit="record") as ledger:
            stream = ledger.stream(n, clip=1.0, sigma=sigma, horizon=horizon, decay=decay, name="audit")
            sums_so_far: list[Float] = []
            for t in range(horizon):
                early = sums_so_far[0] > 0.0 if t else np.zeros(n, dtype=np.bool_)
                joining = np.flatnonzero((t == 1) & early | (t == 2) & ~early) if world else np.zeros(0, np.intp)
                rows = sparse.csr_array(
                    (np.full(len(joining), 50.0), joining, np.arange(len(joining) + 1)), shape=(len(joining), n)
                )
                sums_so_far.append(stream.release(rows, joining))
        root = np.array(streams.root_weights(horizon, decay)) / 2.0**streams.WEIGHT_BITS
        increments = [x - decay * before for before, x in pairwise([*sums_so_far[:1], *sums_so_far])]
        increments[0] = sums_so_far[0]
        y = [sum(root[k] * increments[t - k] for k in range(min(t + 1, len(root)))) for t in range(horizon)]

        def ratio(joined: int) -> Any:
            seen = [(root[t - joined], y[t]) for t in range(joined, min(horizon, joined + len(root)))]
            return sum(a * z - a * a / 2.0 for a, z in seen)

        return np.where(early, ratio(1), ratio(2))

    return mechanism


def door(rows: Any, **arguments: Any) -> Float:
    """One release through a real ledger in memory; takes what release_sum takes, and unit and relation."""
    terms = {"unit": arguments.pop("unit", "record"), "relation": arguments.pop("relation", "zero-out")}
    with Ledger(":memory:", epsilon=accounting.LARGEST_EPSILON, delta=0.5, **terms) as ledger:
        return ledger.release_sum(rows, name="audit", **arguments)


def presence(release: Door = door, n: int = 200) -> Finding:
    """A zeroed unit contributes nothing, and an empty table is released as noise on every coordinate."""
    rows = np.array([[0.6, -0.3, 0.0, 0.2]])
    zeroed = np.vstack([rows, np.zeros((3, 4))])
    sigma = 0.1
    shift = _mean(release, zeroed, n, clip=1.0, sigma=sigma) - _mean(release, rows, n, clip=1.0, sigma=sigma)
    empty = release(np.zeros((0, 64)), clip=1.0, sigma=sigma)
    passed = bool(np.abs(shift).max() < 6 * sigma * math.sqrt(2 / n)) and bool((empty != 0.0).sum() > 60)
    return Finding("presence", passed, f"largest shift by zeroed units {np.abs(shift).max():.3g} clip norms; "
                                       f"{int((empty != 0.0).sum())} of 64 empty coordinates carry noise")


def support(release: Door = door, n: int = 50) -> Finding:
    """The representation of released values is the same in both worlds: multiples of one power of two."""
    steps = []
    for value in (0.0, 0.3):
        drawn = np.concatenate([release(np.full((1, 16), value), clip=1.0, sigma=1.0) for _ in range(n)])
        steps.append(_grid_step(drawn))
    passed = steps[0] == steps[1] and steps[0] >= 2.0**-30
    return Finding("support", passed, f"grid steps {steps[0]:.3g} and {steps[1]:.3g} in the two worlds")


def clip(integer_sum: Callable[..., NDArray[np.int64]] = sums.integer_sum) -> Finding:
    """No single unit, however extreme, has an integer norm above K."""
    at = sums.grid(1.0, 1.0, 1)
    worst = 0.0
    for row in _extreme_rows():
        k = [int(x) for x in integer_sum(row[None, :], np.array([0, 1]), at)]
        worst = max(worst, sum(x * x for x in k) / at.bound**2)
    return Finding("clip", worst <= 1.0, f"largest squared norm is {worst:.17g} of the bound")


def counter_reuse(release: Door = door) -> Finding:
    """Two releases of one table share no noise."""
    rows = np.full((5, 256), 0.05)
    a, b = (release(rows, clip=1.0, sigma=2.0) for _ in range(2))
    shared = int((a == b).sum())
    correlation = float(np.corrcoef(a, b)[0, 1])
    return Finding("counter reuse", shared <= 2 and abs(correlation) < 0.4,
                   f"{shared} of 256 coordinates equal, correlation {correlation:.3f}")


def stability(select: Callable[[Any], Iterable[Any]], world_0: Any, world_1: Any, *, changed: Any, declared: int
              ) -> Finding:
    """A choice of records that differs, between two worlds, in at most ``declared`` records other than ``changed``.

    select(world) -> records, or (round, record) pairs, chosen when the same list of released values and the same
    public randomness are replayed (contract 6, the forced transcript); declared = 0 for an item-local rule.
    """
    chosen = [set(select(world)) for world in (world_0, world_1)]
    others = {c for c in chosen[0] ^ chosen[1] if (c[1] if isinstance(c, tuple) else c) != changed}
    return Finding("stability", len(others) <= declared, f"{len(others)} other records differ; {declared} declared")


def order(integer_sum: Callable[..., NDArray[np.int64]] = sums.integer_sum) -> Finding:
    """Permuting rows, and the rows inside an owner, changes no bit."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((60, 7)) * 10.0 ** rng.integers(-8, 8, size=(60, 1))
    at = sums.grid(1.0, 1.0, 1)
    alone, owners = np.arange(61), np.array([0, 7, 20, 21, 60])
    expected = integer_sum(rows, alone, at), integer_sum(rows, owners, at)
    for _ in range(5):
        inside = np.concatenate([rng.permutation(np.arange(a, b)) for a, b in pairwise(owners)])
        got = integer_sum(rows[rng.permutation(60)], alone, at), integer_sum(rows[inside], owners, at)
        if not all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True)):
            return Finding("order", False, "a permutation of the rows changed the sum")
    return Finding("order", True, "permuted rows gave equal bits")


def check_door(n_draws: int = 200_000) -> list[Finding]:
    """All checks on the real door; the two-world bound at epsilon 0.5, 1 and 2, and on label sums and streams at 1."""
    findings = [presence(), support(), clip(), counter_reuse(), order()]
    for epsilon in (0.5, 1.0, 2.0):
        sigma = accounting.gaussian_sigma(epsilon, 1e-5)
        bound = two_world(ledger_worlds(sigma=sigma), delta=1e-5, n_draws=n_draws).epsilon_lower_bound
        findings.append(Finding("two worlds", bound <= epsilon, f"at least {bound:.3f} of {epsilon:g} was shown"))
    sigma = accounting.gaussian_sigma(1.0, 1e-5)
    for relation in units.RELATIONS:
        mechanism = label_worlds(sigma=sigma, relation=relation)
        bound = two_world(mechanism, delta=1e-5, n_draws=n_draws).epsilon_lower_bound
        findings.append(Finding("two worlds, labels", bound <= 1.0, f"at least {bound:.3f} of 1 was shown"))
    for decay in (1.0, 0.9):
        mechanism = stream_worlds(sigma=sigma, decay=decay)
        bound = two_world(mechanism, delta=1e-5, n_draws=n_draws).epsilon_lower_bound
        findings.append(Finding("two worlds, stream", bound <= 1.0, f"at least {bound:.3f} of 1 was shown"))
    return findings


def _outputs(mechanism: Mechanism, world: int, n: int) -> Float:
    drawn = np.asarray(mechanism(world, n), dtype=np.float64)
    if drawn.ndim not in (1, 2) or len(drawn) != n:
        raise InputError(f"mechanism({world}, {n}) returned shape {drawn.shape}; ({n},) or ({n}, k) is expected")
    return drawn.reshape(n, -1)


def _scores(outputs: list[Float], pilot: int) -> list[Float]:
    """Projections on the difference of the pilot means, scaled by the pilot variances: larger means world 1."""
    if outputs[0].shape[1] == 1:
        sign = 1.0 if outputs[1][:pilot].mean() >= outputs[0][:pilot].mean() else -1.0
        return [sign * o[:, 0] for o in outputs]
    means = [o[:pilot].mean(axis=0) for o in outputs]
    variance = sum(o[:pilot].var(axis=0) for o in outputs) / 2.0
    weights = np.divide(means[1] - means[0], variance, out=np.zeros_like(variance), where=variance > 0.0)
    return [o @ weights for o in outputs]


def _events(first: list[Float]) -> list[tuple[str, Callable[[Float], NDArray[np.bool_]], int]]:
    """Events that the pilot draws suggest, with the world in which each is the likelier one."""
    events: list[tuple[str, Callable[[Float], NDArray[np.bool_]], int]] = []
    for share in (0.5, 0.1, 0.01):
        high, low = float(np.quantile(first[1], 1.0 - share)), float(np.quantile(first[0], share))
        events.append((f"score >= {high:.6g}", lambda s, t=high: s >= t, 1))  # type: ignore[misc]
        events.append((f"score <= {low:.6g}", lambda s, t=low: s <= t, 0))  # type: ignore[misc]
    for world in (0, 1):  # values that the pilot met in one world alone: mass there betrays the world
        alone = np.setdiff1d(first[world], first[1 - world])
        events.append((f"a value met in world {world} alone", lambda s, a=alone: np.isin(s, a), world))  # type: ignore[misc]
    return events


def _lower(successes: int, n: int, error: float) -> float:
    """Clopper and Pearson's lower limit of a probability."""
    from scipy.special import betaincinv

    return 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, error))


def _upper(successes: int, n: int, error: float) -> float:
    from scipy.special import betaincinv

    return 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1.0 - error))


def _mean(release: Door, rows: Float, n: int, **arguments: float) -> Float:
    return np.mean([release(rows, **arguments) for _ in range(n)], axis=0)


def _grid_step(values: Float) -> float:
    """The largest power of two of which all values are multiples."""
    step = math.inf
    for value in values[values != 0.0]:
        numerator, denominator = float(value).as_integer_ratio()
        step = min(step, (numerator & -numerator) / denominator)
    return step


def _extreme_rows() -> list[Float]:
    """Rows at which clips have failed: just above the norm, huge, tiny, and ones that rounding would push out."""
    above = math.nextafter(1.0, 2.0)
    rng = np.random.default_rng(3)
    rows = [np.array([above]), np.array([1e308]), np.array([5e-324]), np.array([0.0]), np.array([-above])]
    rows += [np.full(d, 1e308) for d in (2, 1000)] + [np.full(d, above / math.sqrt(d)) for d in (2, 3, 7, 1000, 4097)]
    rows += [np.array([1e308, 5e-324, -1e308]), np.array([np.nan, 1.0]), np.array([np.inf, 1.0])]
    rows += [rng.standard_normal(d) * 10.0**e for d in (3, 50, 2000) for e in (-200, -3, 0, 5, 150)]
    return rows
