"""Rules that look at no label: typical points for a cold start, and the I-optimal design for a linear decoder."""

from __future__ import annotations

from operator import itemgetter

import numpy as np

from ..kernels.selection import assign, design_rows, explained_share, spread
from .columns import components, mapped, standardised, well_observed
from .context import Context, Float, Indices, fill_batch

POINTS = 1000  # rows that are clustered, or five to each that is asked
STARTS, LLOYD_STEPS = 10, 5  # of k-means: a single start often merges two small groups
MOST_CENTRES = 400  # of all starts together: fewer starts for many clusters
DIMENSIONS = 8  # principal components where there is no map
CONSTANT = 0.4  # the constant column beside rows of norm at most 1, as in the learner's map
CONSTANT_ENERGY = 0.1  # prior share of the label variance that the constant explains; 1 for the other columns
LEAST_NOISE = 0.3  # with less the greedy search follows rounding, not the design
WORTH = 1.08  # the design is taken where it is expected to explain this much more than rows that trust no prior


def cold_start(context: Context) -> Indices:
    """Typical points: the middle row of each cluster among the well-observed rows, clusters without a label only.

    Clusters by k-means in the learner's label-free map, or on the leading principal components (``_places``).
    Source: Hacohen, Dekel, Weinshall 2022 (arXiv:2202.02794), the map in place of its self-supervised encoder.
    """
    rows = well_observed(context)
    all_points = _places(context)
    if len(rows) <= context.batch or not all_points.shape[1]:  # nothing to choose from, or nothing to tell rows apart
        return fill_batch(context, context.rng.permutation(rows))
    most = max(POINTS, 5 * context.batch)
    if len(rows) > most:
        rows = context.rng.choice(rows, most, replace=False)
    known = all_points[context.labelled[-500:]]
    points = np.concatenate([all_points[rows], known])
    cluster, centres = _k_means(points, min(context.batch + len(known), len(points)), context.rng)
    distance = ((points - centres[cluster]) ** 2).sum(axis=1)[: len(rows)]
    mine, covered = cluster[: len(rows)], cluster[len(rows) :]
    size = np.bincount(mine, minlength=len(centres))
    size[covered] = 0
    order = np.lexsort((distance, mine))
    middle = order[np.r_[True, mine[order][1:] != mine[order][:-1]]]  # the nearest to its centre, of each cluster
    middle = middle[size[mine[middle]] > 0]
    return fill_batch(context, rows[middle[np.argsort(-size[mine[middle]], kind="stable")]])


def design(context: Context) -> Indices:
    """Greedy I-optimal rows on unit columns, or typical or random complete rows where these explain nearly as much.

    For a linear decoder of the released sum: labels enter by columns a_i = phi_i / |phi_i|, so that each uses the whole
    budget, and the rows are those from which it is expected to learn most. What is assumed: the map, a Gaussian prior,
    cells missing at random, and released["noise"], the noise multiplier of the release that the labels will go into.
    """
    rows = well_observed(context)
    if len(rows) <= context.batch:
        return fill_batch(context, rows)
    phi, energy = _decoder_columns(context)
    known = context.released.get("n_classes", len(getattr(context.learner, "classes_", ())))
    n_classes = max(2, int(known), len(np.unique(context.y)))
    label_variance = (1.0 - 1.0 / n_classes) / n_classes
    moment = phi.T @ phi / len(phi)
    blocks = [float(np.diag(moment)[energy == e].sum()) for e in energy]
    prior = label_variance * energy / np.maximum(blocks, 1e-12)
    noise = float(context.released.get("noise", 0.0)) * np.sqrt(1.0 - 1.0 / n_classes)  # of a unit column
    start = phi[context.labelled]
    optimal = rows[design_rows(
        phi.take(rows, axis=0), moment, prior, start, context.batch,
        label_variance=label_variance, noise=max(noise, LEAST_NOISE),
    )]
    random = context.rng.choice(rows, context.batch, replace=False)
    typical = cold_start(context)

    def expected(chosen: Indices) -> float:
        asked = np.concatenate([start, phi[chosen]])
        return explained_share(asked, moment, prior, label_variance=label_variance, noise=max(noise, 1e-3))

    share, plain = max((expected(random), random), (expected(typical), typical), key=itemgetter(0))
    return optimal if expected(optimal) >= WORTH * share else plain


def _decoder_columns(context: Context) -> tuple[Float, Float]:
    """Rows (n, D) of norm at most 1 with a constant column, and the prior energy (D,) of each column's block."""
    phi = mapped(context)
    if phi is None:
        phi = components(standardised(context), 2 * DIMENSIONS)
        phi = phi / np.maximum(phi.std(axis=0), 1e-12)
        length = np.linalg.norm(phi, axis=1, keepdims=True)
        radius = max(float(np.sqrt((length**2).mean())), 1e-12)
        phi = phi * np.minimum(1.0, radius / np.maximum(length, 1e-12)) / radius
        phi = np.column_stack([np.full(len(phi), CONSTANT), phi]) / np.sqrt(1.0 + CONSTANT**2)
    constant = np.ptp(phi[:100], axis=0) < 1e-12  # few columns pass, and all of these rows are read
    constant[constant] = np.ptp(phi[:, constant], axis=0) < 1e-12
    return phi, np.where(constant, CONSTANT_ENERGY, 1.0)


def _places(context: Context) -> Float:
    """Every row where it is clustered: in the map, unless that shows a few columns alone (products) or, in a table with
    more columns than rows, weighs noise like structure; then, or without a map, in principal components."""
    phi = mapped(context)
    kind = getattr(getattr(context.learner, "representation_", None), "kind", None)
    if phi is None or kind == "products" or len(context.X) <= context.X.shape[1]:
        return components(standardised(context), DIMENSIONS)
    return phi


def _k_means(points: Float, k: int, rng: np.random.Generator) -> tuple[Indices, Float]:
    """The best of several k-means++ starts with a few Lloyd steps: cluster of each point, and the centres."""
    best: tuple[float, Indices, Float] | None = None
    squares = (points**2).sum(axis=1)
    for _ in range(max(1, min(STARTS, MOST_CENTRES // k))):
        centres = points[spread(np.ones((len(points), 1)), points, rng.random(k))]
        k = len(centres)
        products = np.empty((k, len(points)))
        moved = np.ones(k, dtype=bool)  # most clusters soon stay as they are
        for _ in range(LLOYD_STEPS):
            products[moved] = centres[moved] @ points.T
            cluster, least, sums, size = assign(points, products, (centres**2).sum(axis=1))
            before, centres = centres, np.where(size[:, None] > 0, sums / np.maximum(size, 1)[:, None], centres)
            moved = (centres != before).any(axis=1)
        inertia = float((squares + least).sum())
        if best is None or inertia < best[0]:
            best = inertia, cluster, centres
    assert best is not None
    return best[1:]
