"""Rows as points, without labels: standardised columns, principal components, and which rows are well observed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernels.selection import standardise
from .context import Context, Float, Indices

CLIP = 4.0  # standard deviations
OFTEN = 0.55  # a column observed in more than this share of the rows is expected in a complete row
WELL_OBSERVED = 0.3  # else the best observed share of the pool


def features(context: Context) -> Float:
    """Every row in the learner's label-free map where there is one, else standardised columns."""
    phi = mapped(context)
    return standardised(context) if phi is None else phi


def mapped(context: Context) -> Float | None:
    """(n, D) every row in the learner's label-free map, or None where there is no map."""
    if context.representation is not None:
        return context.representation
    learned = getattr(context.learner, "representation_", None)
    return None if learned is None else np.asarray(learned.transform(context.rows), dtype=np.float64)


def standardised(context: Context) -> Float:
    """Columns centred and scaled on their observed cells, clipped, 0 where missing; categories as centred one-hot."""
    X, observed = context.X, context.observed
    Z = standardise(X, observed, CLIP)
    categorical = context.schema.categorical if context.schema is not None else np.array([], dtype=np.intp)
    if not len(categorical):
        return Z
    indicators = [_centred_indicators(X[:, j], observed[:, j]) for j in categorical]
    return np.ascontiguousarray(np.column_stack([np.delete(Z, categorical, axis=1), *indicators]))


def components(Z: Float, width: int) -> Float:
    """The leading principal components of Z (n, d), at most ``width`` of them: (n, <= width). Z is centred in place:
    the pages of a second table cost more than all that is computed here."""
    Z -= Z.mean(axis=0)
    n, d = Z.shape
    if n < d:
        U, singular, _ = np.linalg.svd(Z, full_matrices=False)
        keep = singular / max(float(singular.max(initial=0.0)), 1e-300) > 1e-6
        return np.ascontiguousarray((U * singular)[:, keep][:, :width])
    from scipy.linalg import eigh

    values, vectors = eigh(Z.T @ Z, subset_by_index=(max(d - width, 0), d - 1))
    keep = values > 1e-12 * max(float(values[-1]), 1e-300)
    return np.ascontiguousarray(Z @ vectors[:, keep][:, ::-1])


def well_observed(context: Context) -> Indices:
    """Candidates that show every often-observed column, where these are many; else the best observed 30 %."""
    rows = context.candidates
    often = np.flatnonzero(np.einsum("ij->j", context.observed, dtype=np.int32) / len(context.X) > OFTEN)
    least = max(10 * context.n, 200)
    if 0 < len(often) < context.X.shape[1]:
        complete = rows[context.observed[np.ix_(rows, often)].all(axis=1)]
        if least <= len(complete) < len(rows):
            return complete
    keep = min(len(rows), max(least, int(WELL_OBSERVED * len(rows))))
    if keep == len(rows):
        return rows
    count = np.einsum("ij->i", context.observed, dtype=np.int32)[rows] + 0.5 * context.rng.random(len(rows))
    return np.sort(rows[np.argpartition(-count, keep - 1)[:keep]])


def _centred_indicators(codes: Float, observed: NDArray[np.bool_]) -> Float:
    levels = np.unique(codes[observed])
    hot = (codes[:, None] == levels).astype(np.float64)
    hot -= hot.sum(axis=0) / max(int(observed.sum()), 1)
    hot[~observed] = 0.0
    return hot
