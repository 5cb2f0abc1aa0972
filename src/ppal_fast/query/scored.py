"""Rules that follow a model: the most uncertain rows, diverse batches of them, and the threshold for streams.

Uncertainty is weighted by the share of observed cells, because a row that shows nothing is the most uncertain of all
and teaches nothing. Probabilities are asked for the whole roster, so that one record's removal moves no rounding.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import clone

from .. import _validate, acquisition
from ..density import DensityRatio
from ..errors import InputError
from ..kernels.selection import spread
from ..qubo import select_batch
from ..table import Table
from .columns import components, features, standardised
from .context import Context, Float, Indices, ask_by_coin, ask_top, fill_batch
from .unlabelled import cold_start

SCORE_EDGES = np.linspace(0.0, 1.0, 21)  # public grid of the score histogram
MEMBERS = 5  # of the committee
REFERENCE_ROWS, DENSITY_DIMENSIONS = 1000, 3  # of the pool density, in which kernels of bandwidth 1/2 still meet rows
SHORTLIST = 200  # rows among which the QUBO chooses, or four batches
TOP_SHARE = 0.1  # of the candidates, from which the threshold draws


def random(context: Context) -> Indices:
    """n candidates, every one with the same chance."""
    return ask_top(context, np.zeros(len(context.X)))


def random_item_local(context: Context, rate: float) -> Indices:
    """Each candidate with probability ``rate``."""
    _validate.non_negative(rate=rate)
    return ask_by_coin(context, np.full(len(context.X), rate))


def entropy(context: Context) -> Indices:
    """The n rows of largest entropy times share of observed cells."""
    return ask_top(context, _entropy_score(context))


def margin(context: Context) -> Indices:
    """The n rows of smallest gap between the two likeliest classes, weighted by the share of observed cells."""
    return ask_top(context, _margin_score(context))


def committee(context: Context) -> Indices:
    """Query by bagging: clones fitted on bootstraps of the labelled rows that keep each class (Abe, Mamitsuka 1998)."""
    if not context.has_model:
        raise InputError("this strategy needs a fitted learner; choose the first rows with cold_start")
    rows, classes = _readable(context), np.unique(context.y)
    learner = clone(context.learner)
    if "classes" in learner.get_params():
        learner.set_params(classes=classes)
    pool_map = getattr(context.learner, "pool_map_", getattr(context.learner, "representation_", None))
    options = {} if pool_map is None else {"X_pool": pool_map}
    positions = [np.flatnonzero(context.y == c) for c in classes]
    members = []
    for _ in range(MEMBERS):
        drawn = np.concatenate([context.rng.choice(of_class, len(of_class)) for of_class in positions])
        asked = context.labelled[drawn]
        sample = rows.take(asked) if isinstance(rows, Table) else rows[asked]
        members.append(clone(learner).fit(sample, context.y[drawn], **options).predict_proba(rows))
    return ask_top(context, acquisition.committee(members) * acquisition.observed_weight(context.observed))


def density(context: Context) -> Indices:
    """Entropy times the ranked ratio of pool to labelled density, each row left out of its own pool density."""
    score = _entropy_score(context)
    points = components(standardised(context), DENSITY_DIMENSIONS)
    if not len(context.labelled) or len(points) < 2 or not points.shape[1]:
        return ask_top(context, score)
    points /= points.std(axis=0)
    order = context.rng.permutation(len(points))
    reference, rest = order[:REFERENCE_ROWS], order[REFERENCE_ROWS:]
    ratio = DensityRatio(bandwidth=0.5).fit(points[reference], points[context.labelled])
    log_ratio = np.empty(len(points))
    log_ratio[reference] = ratio.log_ratio(points[reference], leave_one_out=True)
    if len(rest):
        log_ratio[rest] = ratio.log_ratio(points[rest])
    return ask_top(context, acquisition.density_aware(score, log_ratio))


def badge(context: Context) -> Indices:
    """k-means++ on the gradient embeddings (p - e) outer phi of the candidates (arXiv:1906.03671)."""
    rows = context.candidates
    residual = acquisition.badge_residual(_probabilities(context).take(rows, axis=0))
    if not residual.any():  # one class so far: nothing is uncertain, and diversity alone is left
        residual = np.ones((len(rows), 1))
    phi = features(context).take(rows, axis=0)
    return fill_batch(context, rows[spread(residual, phi, context.rng.random(context.batch))])


def qubo(context: Context) -> Indices:
    """The batch with the smallest margins and the least pairwise cosine, among the rows of smallest margin."""
    score = _margin_score(context)
    rows = ask_top(context, score, max(SHORTLIST, 4 * context.n))
    if len(rows) <= context.n:
        return rows
    phi = features(context)[rows]
    phi = phi / np.maximum(np.linalg.norm(phi, axis=1, keepdims=True), 1e-12)
    gain = score[rows] / max(float(score[rows].max()), 1e-12)
    chosen = select_batch(gain, np.maximum(phi @ phi.T, 0.0), context.n, random_state=context.rng)
    return rows[chosen]


def threshold(context: Context) -> Indices:
    """n rows at random among the tenth of highest score."""
    score = _entropy_score(context)
    first = ask_top(context, score, max(context.n, int(TOP_SHARE * len(context.candidates))))
    return context.rng.permutation(first)[: context.n]


def threshold_item_local(context: Context, rate: float) -> Indices:
    """Rows above a cut-off read off the released histogram, each with one public probability: ``rate`` over all.

    The cut-off leaves a tenth of the released counts above it, or more where the rate asks for more. Before there is a
    released model and a histogram every record is asked with probability ``rate``.
    """
    _validate.non_negative(rate=rate)
    counts = context.released.get("score_histogram")
    if counts is None or not context.has_model:
        return random_item_local(context, rate)
    counts = np.maximum(_validate.vector(counts, name="score_histogram", length=len(SCORE_EDGES) - 1), 0.0)
    above = np.cumsum(counts[::-1])[::-1]
    if above[0] <= 0:
        return random_item_local(context, rate)
    cut = np.flatnonzero(above >= max(TOP_SHARE, min(rate, 1.0)) * above[0])[-1]
    share = min(1.0, rate * above[0] / above[cut])
    return ask_by_coin(context, np.where(_entropy_score(context) >= SCORE_EDGES[cut], share, 0.0))


def auto(context: Context) -> Indices:
    """Typical points until two classes are known, then the QUBO batch."""
    return cold_start(context) if not context.has_model or len(np.unique(context.y)) < 2 else qubo(context)


def histogram_rows(context: Context) -> Float:
    """One-hot of each candidate's score on SCORE_EDGES, the zero vector for every other record: (n, 20), L2 norm <= 1.

    Their private sum with clip 1 is what ``threshold`` reads as released["score_histogram"].
    """
    score = _entropy_score(context)[context.candidates]
    rows = np.zeros((len(context.X), len(SCORE_EDGES) - 1))
    rows[context.candidates, np.minimum(np.searchsorted(SCORE_EDGES, score, "right") - 1, rows.shape[1] - 1)] = 1.0
    return rows


def _probabilities(context: Context) -> Float:
    if not context.has_model:
        raise InputError("this strategy needs a fitted learner; choose the first rows with cold_start")
    return np.asarray(context.learner.predict_proba(_readable(context)), dtype=np.float64)


def _readable(context: Context) -> Table | Float:
    """The roster as the learner takes it: other people's classifiers know arrays alone."""
    return context.rows if hasattr(context.learner, "map_pool") else context.X


def _entropy_score(context: Context) -> Float:
    """Entropy over its largest value, times the share of observed cells: in [0, 1], read from each row alone."""
    P = _probabilities(context)
    score = acquisition.entropy(P) / np.log(max(P.shape[1], 2))
    return np.clip(score * acquisition.observed_weight(context.observed), 0.0, 1.0)


def _margin_score(context: Context) -> Float:
    """1 - the gap between the two likeliest classes, times the share of observed cells."""
    return acquisition.margin(_probabilities(context)) * acquisition.observed_weight(context.observed)
