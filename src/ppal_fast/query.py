"""Which rows to ask next: query strategies, each with what one record can do to the choice of the others.

A strategy is a function from a ``Context`` to row numbers. Its stability decides where it may be used under privacy
(``require_sound``): with unit label any rule is free that reads features and released state alone; with unit record or
owner only an item-local rule, in which each record is asked or not by its own coin, leaves every sum's sensitivity at
one record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import _validate, acquisition
from .errors import InputError, PrivacyError
from .table import Schema

Float = NDArray[np.float64]
Indices = NDArray[np.intp]
SCORE_EDGES = np.linspace(0.0, 1.0, 21)  # public grid of the threshold rule's score histogram
WELL_OBSERVED = 0.3  # share of the pool, by number of observed cells, that typical points and designs choose from
OFTEN = 0.5  # a column observed in more than this share of the rows is expected in a complete row


@dataclass(frozen=True)
class Context:
    """What a strategy may look at.

    X (n, d) float64 with NaN for a missing cell; observed (n, d); candidates and labelled: row numbers; y: class codes
    of the labelled rows; learner: fitted, or None before the first fit; n: how many rows to ask; rng: coins, never
    privacy noise; schema: public facts of the columns; representation (n, D): the rows in the learner's label-free map,
    where features are public. released holds released or public numbers by name: "noise" (of the coming release, per
    unit column; for design), "score_histogram" (counts on SCORE_EDGES; for threshold).
    """

    X: Float
    observed: NDArray[np.bool_]
    candidates: Indices
    labelled: Indices
    y: NDArray[np.intp]
    learner: Any
    n: int
    rng: np.random.Generator
    schema: Schema | None = None
    representation: Float | None = None
    released: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Strategy:
    """A query rule and what it costs in privacy.

    select(context) -> distinct candidates, at most context.n.
    stability: "top-k": without one record at most one OTHER choice changes; "joint": no claim; "item-local":
    ``select_item_local(context, rate)``, each record by its own coin and a share ``rate`` of them on average, changes no
    other choice and is the only form for unit record and owner; its ``select`` fills a batch of n, without a claim.
    uses_labels: reads y itself, not only the released learner.
    """

    name: str
    select: Callable[[Context], Indices]
    stability: Literal["item-local", "top-k", "joint"]
    needs_model: bool
    uses_labels: bool
    summary: str
    select_item_local: Callable[[Context, float], Indices] | None = None

    def __post_init__(self) -> None:
        if (self.stability == "item-local") != (self.select_item_local is not None):
            raise InputError(
                f"strategy {self.name!r} was declared {self.stability}; item-local is expected exactly where "
                "select_item_local is given"
            )


def resolve(strategy: str | Strategy | Callable[[Context], Any]) -> Strategy:
    """The named strategy, the given one, or one around a callable, of which nothing is assumed but checked output."""
    if isinstance(strategy, Strategy):
        return strategy
    if isinstance(strategy, str):
        _validate.one_of(STRATEGIES, strategy=strategy)
        return STRATEGIES[strategy]
    if not callable(strategy):
        raise InputError(f"strategy was {strategy!r}; one of {', '.join(STRATEGIES)} or a callable is expected")
    name = getattr(strategy, "__name__", type(strategy).__name__)
    return Strategy(
        name, _Checked(strategy, name), "joint", needs_model=False, uses_labels=True,
        summary="A rule of your own; nothing is known of it, so it is refused under every privacy unit.",
    )


def require_sound(strategy: Strategy, unit: str) -> None:
    """Raise PrivacyError where the rule would break a contract under this privacy unit; nothing is computed."""
    _validate.one_of(("label", "record", "owner"), unit=unit)
    if unit == "label" and strategy.uses_labels:
        raise PrivacyError(
            f"strategy {strategy.name!r} reads labels that were not released; under unit label choose one that does "
            f"not: {', '.join(s.name for s in STRATEGIES.values() if not s.uses_labels)}"
        )
    if unit != "label" and strategy.select_item_local is None:
        raise PrivacyError(
            f"strategy {strategy.name!r} is {strategy.stability}: one {unit} would steer the choice of others; under "
            f"unit {unit} choose {' or '.join(s.name for s in STRATEGIES.values() if s.select_item_local)}"
        )


def cold_start(context: Context) -> Indices:
    """Typical points: the middle row of each cluster among the well-observed rows, clusters without a label first.

    Reads no label and no model. Clusters by k-means on the leading principal components of the standardised columns.
    Source: Hacohen, Dekel, Weinshall 2022 (arXiv:2202.02794), without its self-supervised encoder.
    """
    rows = _well_observed(context)
    count = min(context.n, len(context.candidates))
    if len(rows) <= count:
        return _filled(context, rows)
    if len(rows) > 4000:
        rows = context.rng.choice(rows, 4000, replace=False)
    points = components(standardised(context), 8)
    known = points[context.labelled[-500:]]
    pool = np.concatenate([points[rows], known])
    cluster, centres = _k_means(pool, min(count + len(known), len(pool)), context.rng)
    distance = ((pool - centres[cluster]) ** 2).sum(axis=1)[: len(rows)]
    mine, covered = cluster[: len(rows)], cluster[len(rows) :]
    size = np.bincount(mine, minlength=len(centres)).astype(np.float64)
    size[covered] = 0.0
    order = np.lexsort((distance, mine))
    first = order[np.r_[True, mine[order][1:] != mine[order][:-1]]]
    first = first[size[mine[first]] > 0]
    first = first[np.argsort(-size[mine[first]], kind="stable")]
    return _filled(context, rows[first])


def item_local(uniforms: Float, probability: Float) -> Indices:
    """Records whose own coin u_i (n,) falls below their probability q_i (n,): the only rule with stability 1."""
    return np.flatnonzero(uniforms < probability)


def histogram_rows(context: Context) -> Float:
    """One-hot of each candidate's score on SCORE_EDGES, the zero vector for every other record: (n, 20), L2 norm <= 1.

    Their private sum with clip 1 is what ``threshold`` reads as released["score_histogram"].
    """
    score = _entropy_score(context)[context.candidates]
    one_hot = np.zeros((len(context.X), len(SCORE_EDGES) - 1))
    one_hot[context.candidates, np.minimum(np.searchsorted(SCORE_EDGES, score, "right") - 1, 19)] = 1.0
    return one_hot


def standardised(context: Context) -> Float:
    """Columns centred and scaled on their observed cells, clipped at 4, 0 where missing; categories one-hot."""
    X, observed = context.X, context.observed
    count = np.maximum(observed.sum(axis=0), 1)
    Z = np.where(observed, X, 0.0)
    mean = Z.sum(axis=0) / count
    Z -= mean
    Z *= observed
    scale = np.sqrt(np.einsum("ij,ij->j", Z, Z) / count)
    Z /= np.where(scale > 1e-12 * (1.0 + np.abs(mean)), scale, np.inf)
    np.clip(Z, -4.0, 4.0, out=Z)
    categorical = context.schema.categorical if context.schema is not None else np.array([], dtype=np.intp)
    if not len(categorical):
        return Z
    hot = [_one_hot(X[:, j], observed[:, j]) for j in categorical]
    return np.ascontiguousarray(np.column_stack([np.delete(Z, categorical, axis=1), *hot]))


def components(Z: Float, width: int) -> Float:
    """The leading principal components of Z (n, d), at most ``width``: (n, <= width)."""
    centred = Z - Z.mean(axis=0)
    if len(Z) < Z.shape[1]:
        U, S, _ = np.linalg.svd(centred, full_matrices=False)
        width = min(width, int(np.count_nonzero(S / max(float(S.max(initial=0.0)), 1e-300) > 1e-6)))
        return np.ascontiguousarray((U * S)[:, :width])
    from scipy.linalg import eigh

    d = Z.shape[1]
    values, vectors = eigh(centred.T @ centred, subset_by_index=(max(d - width, 0), d - 1))
    keep = values > 1e-12 * max(float(values[-1]), 1e-300)
    return np.ascontiguousarray(centred @ vectors[:, keep][:, ::-1])


class _Checked:
    """A user's rule, its answer checked."""

    def __init__(self, rule: Callable[[Context], Any], name: str) -> None:
        self.rule, self.name = rule, name

    def __call__(self, context: Context) -> Indices:
        answer = np.asarray(self.rule(context))
        if answer.ndim != 1 or (len(answer) and answer.dtype.kind not in "iu"):
            raise InputError(
                f"strategy {self.name!r} returned shape {answer.shape} of type {answer.dtype}; "
                "a sequence of row numbers is expected"
            )
        rows = answer.astype(np.intp)
        if len(rows) > context.n or len(np.unique(rows)) < len(rows) or not np.isin(rows, context.candidates).all():
            raise InputError(
                f"strategy {self.name!r} returned {rows.tolist()[:5]}...; at most {context.n} distinct rows not yet "
                "asked are expected"
            )
        return rows


def _random(context: Context) -> Indices:
    return _top(context, np.zeros(len(context.X)))


def _random_item_local(context: Context, rate: float) -> Indices:
    _validate.non_negative(rate=rate)
    return _asked(context, np.full(len(context.X), rate))


def _entropy(context: Context) -> Indices:
    return _top(context, _entropy_score(context))


def _margin(context: Context) -> Indices:
    score = acquisition.margin(_probabilities(context))
    return _top(context, score * acquisition.observed_weight(context.observed))


def _committee(context: Context) -> Indices:
    """Query by bagging: five clones fitted on bootstraps of the labelled rows, each with every class at least once."""
    from sklearn.base import clone

    classes = np.unique(context.y)
    members = []
    for _ in range(5):
        keep = np.concatenate([
            context.rng.choice(rows, len(rows)) for rows in (np.flatnonzero(context.y == c) for c in classes)
        ])
        member = clone(context.learner).fit(context.X[context.labelled[keep]], context.y[keep])
        members.append(member.predict_proba(context.X))
    return _top(context, acquisition.committee(members) * acquisition.observed_weight(context.observed))


def _density(context: Context) -> Indices:
    """Entropy times the ranked ratio of pool to labelled density, in three components, against 1000 pool rows."""
    from .density import DensityRatio

    score = _entropy_score(context)
    if not len(context.labelled):
        return _top(context, score)
    points = components(standardised(context), 3)
    points = points / np.maximum(points.std(axis=0), 1e-12)
    pool = context.rng.permutation(len(points))
    sample, rest = pool[:1000], pool[1000:]
    ratio = DensityRatio(bandwidth=0.5).fit(points[sample], points[context.labelled])
    log_ratio = np.empty(len(points))
    log_ratio[sample] = ratio.log_ratio(points[sample], leave_one_out=len(sample) > 1)
    if len(rest):
        log_ratio[rest] = ratio.log_ratio(points[rest])
    return _top(context, acquisition.density_aware(score, log_ratio))


def _badge(context: Context) -> Indices:
    from .kernels.selection import spread

    rows = context.candidates
    residual = acquisition.badge_residual(_probabilities(context)[rows])
    if not residual.any():  # one class so far: nothing is uncertain, and diversity alone is left
        residual = np.ones((len(rows), 1))
    phi = np.ascontiguousarray(_features(context)[rows])
    chosen = spread(np.ascontiguousarray(residual), phi, context.rng.random(min(context.n, len(rows))))
    return _filled(context, rows[chosen])


def _qubo(context: Context) -> Indices:
    """The batch with the most entropy and the least pairwise cosine, among the 200 rows of highest entropy."""
    from .qubo import select_batch

    count = min(context.n, len(context.candidates))
    score = _entropy_score(context)
    rows = _top(context, score, max(200, 4 * count))
    if len(rows) <= count:
        return rows
    phi = _features(context)[rows]
    phi = phi / np.maximum(np.linalg.norm(phi, axis=1, keepdims=True), 1e-12)
    gain = score[rows] / max(float(score[rows].max()), 1e-12)
    similarity = np.maximum(phi @ phi.T, 0.0)
    np.fill_diagonal(similarity, 0.0)
    return rows[select_batch(gain, similarity, count, random_state=context.rng)]


def _threshold(context: Context) -> Indices:
    """n rows at random among those whose score exceeds the score of the best tenth."""
    score = _entropy_score(context)
    cut = np.quantile(score[context.candidates], 0.9) if len(context.candidates) else 0.0
    return _top(context, np.where(score >= cut, 1.0, score - 1.0))


def _threshold_item_local(context: Context, rate: float) -> Indices:
    """Rows above a cut-off read off the released histogram, each with the same probability: ``rate`` over all.

    The cut-off leaves a tenth of the released counts above it, or more where the rate asks for more. Before there is a
    released model and histogram every record is asked with probability ``rate``.
    """
    _validate.non_negative(rate=rate)
    counts = context.released.get("score_histogram")
    if counts is None or context.learner is None:
        return _random_item_local(context, rate)
    counts = np.maximum(_validate.vector(counts, name="score_histogram", length=len(SCORE_EDGES) - 1), 0.0)
    total, above = counts.sum(), np.cumsum(counts[::-1])[::-1]
    if total <= 0:
        return _random_item_local(context, rate)
    cut = np.flatnonzero(above >= max(0.1, min(rate, 1.0)) * total)[-1]
    share = min(1.0, rate * total / above[cut])
    return _asked(context, np.where(_entropy_score(context) >= SCORE_EDGES[cut], share, 0.0))


def _design(context: Context) -> Indices:
    """Greedy I-optimal rows on unit columns, or random complete rows where those explain nearly as much."""
    from .kernels.selection import design_rows, explained_share

    rows = _well_observed(context)
    count = min(context.n, len(context.candidates))
    if len(rows) <= count:
        return _filled(context, rows)
    phi, prior_share = _decoder_columns(context)
    n_classes = max(2, len(getattr(context.learner, "classes_", ())), len(np.unique(context.y)))
    label_variance = (1.0 - 1.0 / n_classes) / n_classes
    moment = phi.T @ phi / len(phi)
    energy = np.array([np.trace(moment[np.ix_(prior_share == s, prior_share == s)]) for s in prior_share])
    prior = label_variance * prior_share / np.maximum(energy, 1e-12)
    noise = float(context.released.get("noise", 0.0))
    terms = {"label_variance": label_variance, "noise": max(noise, 0.3)}
    start = phi[context.labelled]
    random = context.rng.choice(rows, count, replace=False)
    optimal = rows[design_rows(np.ascontiguousarray(phi[rows]), moment, prior, start, count, **terms)]
    terms["noise"] = max(noise, 1e-3)
    gain = explained_share(np.concatenate([start, phi[optimal]]), moment, prior, **terms)
    plain = explained_share(np.concatenate([start, phi[random]]), moment, prior, **terms)
    return optimal if gain >= 1.08 * plain else random


def _auto(context: Context) -> Indices:
    if context.learner is None or len(np.unique(context.y)) < 2:
        return cold_start(context)
    return _badge(context)


def _probabilities(context: Context) -> Float:
    """Of every record on the roster, so that one record's removal cannot move another's rounding."""
    if context.learner is None:
        raise InputError("this strategy needs a fitted learner; choose the first rows with cold_start")
    return np.asarray(context.learner.predict_proba(context.X), dtype=np.float64)


def _entropy_score(context: Context) -> Float:
    """Entropy over its largest value, times the share of observed cells: in [0, 1], read from each row alone."""
    P = _probabilities(context)
    score = acquisition.entropy(P) / np.log(max(P.shape[1], 2))
    return np.clip(score * acquisition.observed_weight(context.observed), 0.0, 1.0)


def _mapped(context: Context) -> Float | None:
    """Every row in the learner's label-free map, or None where there is no map."""
    if context.representation is not None:
        return context.representation
    learned = getattr(context.learner, "representation_", None)
    return None if learned is None else np.asarray(learned.transform(context.X), dtype=np.float64)


def _features(context: Context) -> Float:
    mapped = _mapped(context)
    return standardised(context) if mapped is None else mapped


def _decoder_columns(context: Context) -> tuple[Float, Float]:
    """Rows (n, D) of norm at most 1 with a constant column, and the prior energy of each column's block."""
    phi = _mapped(context)
    if phi is None:
        phi = components(standardised(context), 16)
        phi = phi / np.maximum(phi.std(axis=0), 1e-12)
    constant = np.ptp(phi, axis=0) < 1e-12
    if not constant.any():
        length = np.linalg.norm(phi, axis=1, keepdims=True)
        radius = max(float(np.sqrt((length**2).mean())), 1e-12)
        phi = phi * np.minimum(1.0, radius / np.maximum(length, 1e-12)) / radius
        phi = np.column_stack([np.full(len(phi), 0.4), phi]) / np.sqrt(1.16)
        constant = np.r_[True, np.zeros(phi.shape[1] - 1, dtype=bool)]
    return np.ascontiguousarray(phi), np.where(constant, 0.1, 1.0)


def _well_observed(context: Context) -> Indices:
    """Candidates with every often-observed column observed, where these are many; else the best observed 30 %."""
    rows = context.candidates
    often = context.observed.mean(axis=0) > OFTEN
    least = max(10 * context.n, 200)
    if often.any() and not often.all():
        complete = rows[context.observed[np.ix_(rows, np.flatnonzero(often))].all(axis=1)]
        if least <= len(complete) < len(rows):
            return complete
    count = context.observed.sum(axis=1)[rows] + 0.5 * context.rng.random(len(rows))
    keep = min(len(rows), max(least, int(WELL_OBSERVED * len(rows))))
    return np.sort(rows[np.argpartition(-count, keep - 1)[:keep]]) if keep else rows


def _k_means(points: Float, k: int, rng: np.random.Generator) -> tuple[Indices, Float]:
    """Ten rounds of Lloyd from k-means++ seeds: cluster of each point, and the centres."""
    from .kernels.selection import spread

    centres = points[spread(np.ones((len(points), 1)), points, rng.random(k))]
    cluster = np.zeros(len(points), dtype=np.intp)
    for _ in range(10):
        cluster = np.argmin((centres**2).sum(axis=1) - 2.0 * points @ centres.T, axis=1)
        size = np.bincount(cluster, minlength=len(centres))
        sums = np.column_stack([np.bincount(cluster, column, minlength=len(centres)) for column in points.T])
        centres = np.where(size[:, None] > 0, sums / np.maximum(size, 1)[:, None], centres)
    return cluster, centres


def _one_hot(codes: Float, observed: NDArray[np.bool_]) -> Float:
    """Centred one-hot of the observed codes, 0 where missing."""
    levels = np.unique(codes[observed])
    hot = (codes[:, None] == levels).astype(np.float64)
    centred = hot - hot.sum(axis=0) / max(int(observed.sum()), 1)
    centred[~observed] = 0.0
    return centred


def _top(context: Context, score: Float, n: int | None = None) -> Indices:
    """The candidates of highest score, equals in the order of coins that belong to the records."""
    coins = context.rng.random(len(score))
    rows = context.candidates
    return rows[np.lexsort((coins[rows], -score[rows]))[: context.n if n is None else n]]


def _filled(context: Context, rows: Indices) -> Indices:
    """The first n of the rows, and random candidates where they are fewer."""
    rest = np.setdiff1d(context.candidates, rows)
    missing = min(context.n - len(rows), len(rest))
    extra = context.rng.choice(rest, missing, replace=False) if missing > 0 else rest[:0]
    return np.concatenate([rows[: context.n], extra]).astype(np.intp)


def _asked(context: Context, probability: Float) -> Indices:
    """One coin for every record of the public roster, asked or not; records that are no candidates stay out."""
    eligible = np.zeros(len(context.X), dtype=bool)
    eligible[context.candidates] = True
    return item_local(context.rng.random(len(context.X)), np.where(eligible, probability, 0.0))


_FREE = "free under unit label, refused under record and owner"
STRATEGIES: dict[str, Strategy] = {
    s.name: s
    for s in (
        Strategy("auto", _auto, "joint", False, False,
                 f"Typical points until two classes are known, then diverse rows of large gradient; {_FREE}."),
        Strategy("random", _random, "item-local", False, False,
                 "Every row alike; free under unit label, and under record and owner each record by its own coin.",
                 _random_item_local),
        Strategy("entropy", _entropy, "top-k", True, False,
                 f"Most uncertain rows, weighted by the share of observed cells; {_FREE}."),
        Strategy("margin", _margin, "top-k", True, False,
                 f"Smallest gap between the two likeliest classes, weighted by observed cells; {_FREE}."),
        Strategy("committee", _committee, "joint", True, True,
                 "Rows on which five refits on bootstraps disagree; reads unreleased labels: refused under every unit."),
        Strategy("density", _density, "joint", True, False,
                 f"Uncertain rows where the pool is dense and labels are scarce; {_FREE}."),
        Strategy("badge", _badge, "joint", True, False,
                 f"Diverse rows of large gradient; {_FREE}."),
        Strategy("qubo", _qubo, "joint", True, False,
                 f"The batch of most entropy and least pairwise similarity, by QUBO; {_FREE}."),
        Strategy("threshold", _threshold, "item-local", True, False,
                 "Rows whose uncertainty exceeds a cut-off; free under unit label; under record and owner each record by its "
                 "own coin, and the histogram that places the cut-off is charged each round.",
                 _threshold_item_local),
        Strategy("design", _design, "joint", False, False,
                 f"The rows that a linear decoder learns most from, chosen without labels; {_FREE}."),
        Strategy("typical", cold_start, "joint", False, False,
                 f"The middle rows of clusters of the well-observed rows; {_FREE}."),
    )
}
