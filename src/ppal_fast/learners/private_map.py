"""The map phi where the pool is private too (unit record or owner): learned from noisy moments alone.

Up to three sums over the pool, each through the ledger: how much is observed; counts, sums and squares of every
column; then, unless products of often-observed columns will do, the second moments behind principal factors.
Ranges, categories and the roster's size are public; nothing else of the rows is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..table import Schema, Table
from ._base import Labelled
from .cells import Category, Cells, category_levels
from .factor_analysis import FactorAnalysis
from .representation import (
    Columns,
    FactorScores,
    Products,
    Representation,
    Whitening,
    often_products,
    whiten,
)

Float = NDArray[np.float64]
Release = Callable[..., tuple[Float, float]]

COVERAGE_SHARE = 0.002  # shares of mu^2: of the release that tells how much is observed,
COLUMN_SHARE = 0.1  # of the columns' moments,
FACTOR_SHARE = 0.5  # of the second moments behind factors; the labelled sum has the rest
PUBLIC_LIMIT = 4.0  # values reach from -4 to 4 once the public ranges are applied
MOST_COLUMNS = 80  # for second moments; beyond, their noise drowns any factor
MOST_FACTORS = 8
N_SYNTHETIC = 5000
PRODUCT_RADIUS = 1.3


def release_representation(labelled: Labelled, kind: str, rng: np.random.Generator) -> Representation:
    """The map; what is left in the purse is for the labelled sum. ``rng`` draws the rows of ``reference``."""
    if kind in ("mixture", "both", "trees"):
        raise InputError(f"representation was {kind!r}, which needs a public pool; choose 'auto' or 'factors'")
    pool = labelled.pool
    if not isinstance(pool, Table):
        return _columns(labelled.table.schema)
    assert labelled.purse is not None
    release = partial(labelled.purse.release_sum, owners=labelled.pool_owners)
    cells = _release_cells(pool, release)
    products = often_products(cells) if kind in ("auto", "products") else None
    if products is not None:
        return _products(pool.schema, cells, products, rng)
    if kind != "columns" and 1 < len(cells.numeric) <= MOST_COLUMNS:
        return _release_factors(pool, cells, release, rng)
    return _columns(pool.schema)


def public_cells(schema: Schema) -> Cells:
    """Cells on the public ranges, with equal frequencies: nothing known of the rows."""
    levels = category_levels(schema)
    categories = tuple(
        Category(j, known, np.full(len(known), 1 / len(known))) for j, known in levels.items() if len(known) > 1
    )
    numeric = np.array([j for j in range(len(schema.names)) if j not in levels], dtype=np.intp)
    mean, scale = np.zeros(len(numeric)), np.ones(len(numeric))
    if schema.bounds is not None:
        low, high = schema.bounds[numeric].T
        mean, scale = (low + high) / 2, (high - low) / (2 * PUBLIC_LIMIT)
    return Cells(numeric, mean, scale, categories, np.ones(len(schema.names)))


def _columns(schema: Schema) -> Representation:
    cells = public_cells(schema)
    reference = np.sqrt(cells.width) * np.eye(cells.width)  # second moments of independent standard columns
    whitening = whiten(reference, 0.3, 1.0)
    return Representation(schema, "columns", cells, Columns(), whitening, whitening(reference), released=True)


def _release_cells(pool: Table, release: Release) -> Cells:
    """Coverage, means, scales and frequencies of the columns."""
    public = public_cells(pool.schema)
    n = len(pool)
    Z = public(pool.values)
    observed = ~np.isnan(Z)
    d = Z.shape[1]
    filled, _ = release(
        observed.mean(axis=1, keepdims=True), clip=1.0, share=COVERAGE_SHARE, name="coverage"
    )
    density = float(np.clip(filled[0] / n, 1 / d, 1))
    p = len(public.numeric)
    # an observed cell adds 1 + z^2/4 + z^4/16 to the squared norm: 1.44 for a standard column, up to 21 at the limit
    O, z = observed.astype(np.float64), np.nan_to_num(Z[:, :p])
    indicators = [np.nan_to_num(c.indicators(pool.values)) for c in public.categories]
    rows = np.column_stack([O[:, :p], z / 2, z * z / 4, *indicators])
    clip = float(np.sqrt(2.2 * max(density * d, 1)))
    total, _ = release(rows, clip=clip, share=COLUMN_SHARE, name="columns")
    counts = np.maximum(total[:p], 50)
    mean = 2 * total[p:2 * p] / counts
    scale = np.sqrt(np.clip(4 * total[2 * p:3 * p] / counts - mean**2, 0.1, PUBLIC_LIMIT**2))
    coverage = np.zeros(len(pool.schema.names))
    coverage[public.numeric] = total[:p] / n
    categories, start = [], 3 * p
    for category in public.categories:
        seen = np.maximum(total[start:start + len(category.levels)], 1)
        start += len(category.levels)
        coverage[category.column] = seen.sum() / n
        frequency = np.clip(seen / seen.sum(), 0.005, 0.995)
        categories.append(Category(category.column, category.levels, frequency))
    return Cells(
        public.numeric, public.mean + mean * public.scale, scale * public.scale, tuple(categories),
        np.clip(coverage, 0.005, 1),
    )


def _products(
    schema: Schema, cells: Cells, products: tuple[NDArray[np.intp], tuple[int, ...]], rng: np.random.Generator
) -> Representation:
    """Products with zero for a missing cell. The pool's moments are taken to be those of independent columns with the
    released coverages, means, scales and frequencies: no further release, and better than noisy moments would be."""
    encoder = Products(cells, *products, None)
    values = np.full((N_SYNTHETIC, len(schema.names)), np.nan)
    values[:, cells.numeric] = cells.mean + cells.scale * rng.standard_normal((N_SYNTHETIC, len(cells.numeric)))
    for category in cells.categories:
        shares = category.frequency / category.frequency.sum()
        values[:, category.column] = rng.choice(category.levels, N_SYNTHETIC, p=shares)
    values[rng.random(values.shape) > cells.coverage] = np.nan
    psi = encoder(cells(values))
    whitening = Whitening(np.zeros(psi.shape[1]), np.eye(psi.shape[1]), PRODUCT_RADIUS)
    return Representation(schema, "products", cells, encoder, whitening, whitening(psi), released=True)


def _release_factors(pool: Table, cells: Cells, release: Release, rng: np.random.Generator) -> Representation:
    """Principal factors of the noisy covariance; eigenvalues below the edge of its noise are dropped."""
    numeric = Cells(cells.numeric, cells.mean, cells.scale, (), cells.coverage)
    coverage = cells.coverage[numeric.numeric]
    p, n = len(coverage), len(pool)
    Z = np.clip(np.nan_to_num(numeric(pool.values)), -3, 3)
    radius = float(np.sqrt(max(coverage.sum(), 1.0)))
    Z *= np.minimum(1, radius / np.maximum(np.sqrt((Z * Z).sum(axis=1, keepdims=True)), 1e-12))
    upper = np.triu_indices(p, 1)
    # sum over pairs j < k of (z_j z_k)^2 <= |z|^4 / 2
    total, noise = release(
        Z[:, upper[0]] * Z[:, upper[1]], clip=radius**2 / np.sqrt(2), share=FACTOR_SHARE, name="second-moments"
    )
    pairs = n * coverage[upper[0]] * coverage[upper[1]]
    covariance = np.zeros((p, p))
    covariance[upper] = total / pairs
    covariance = covariance + covariance.T
    spread = (noise / pairs) ** 2 + 1 / pairs  # of an entry: the release's noise and the sample's own
    edge = 2 * np.sqrt(p) * float(np.sqrt(spread.mean()))
    model = _principal_factors(covariance, edge)
    latent = rng.standard_normal((N_SYNTHETIC, model.n_factors))
    synthetic = latent @ model.loadings.T + rng.standard_normal((N_SYNTHETIC, p)) * np.sqrt(model.noise)
    synthetic[rng.random(synthetic.shape) > coverage] = np.nan
    psi = model.scores(synthetic)
    whitening = whiten(psi, 0.0, 1.0)
    encoder = FactorScores(model)
    return Representation(pool.schema, "factors", numeric, encoder, whitening, whitening(psi), released=True)


def _principal_factors(covariance: Float, edge: float) -> FactorAnalysis:
    """Iterated principal axes of a covariance whose diagonal is unknown, with noise of spectral edge ``edge``."""
    communality = np.zeros(len(covariance))
    for _ in range(15):
        values, vectors = np.linalg.eigh(covariance + np.diag(communality))
        q = int(np.clip((values > 1.05 * edge).sum(), 1, min(MOST_FACTORS, len(values) - 1)))
        top = values[-q:]
        # noise lifts an eigenvalue l to l + edge^2 / (4 l)
        shrunk = np.maximum(top - edge**2 / 4 / np.maximum(top, 1e-6), 0.05 * np.abs(top))
        loadings = vectors[:, -q:] * np.sqrt(shrunk)
        communality = np.minimum((loadings * loadings).sum(axis=1), 0.9)
    return FactorAnalysis(loadings, np.clip(1 - (loadings * loadings).sum(axis=1), 0.1, 1.0))
