"""The label-free map phi of rows into a few dimensions, |phi| <= 1, learned from the pool of unlabelled rows.

    cells -> psi (products, factors, mixtures, leaves, columns) -> soft whitening -> clip -> a constant -> |phi| <= 1

The map sees no label, so under unit label it is free; it depends on the pool alone, so one map serves every
round. Which psi: with categories among a few often-observed columns their products; else the family with the
better density of cells that were hidden from it, or where clusters explain a good part of them, clusters and factors
side by side: two blocks of coordinates, of which the labels say how much each counts (decoder.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError
from ..table import Schema, Table
from .cells import Cells, learn_cells
from .factor_analysis import FactorAnalysis, fit_factors
from .gaussian_mixture import GaussianMixture
from .latent import ROWS_FOR_CHOICE, Latent, by_gain, fit_latent, refined
from .leaves import leaf_components
from .pretext import common_covariance, hidden_covariance

Float = NDArray[np.float64]

KINDS = ("auto", "products", "factors", "mixture", "both", "trees", "columns")
CONSTANT = 0.4  # the constant coordinate beside a part of norm at most 1
OFTEN, MOST_OFTEN = 0.55, 12  # coverage of an often-observed column (one half hidden is none); how many there may be
MOST_FILL_FACTORS = 8  # behind the filled cells of products
FACTORS_WEIGHT, FACTORS_RANGE = 0.25, (0.05, 2.0)  # squared length of the factors beside the clusters' 1: where both
# tell as much of hidden cells, and its limits elsewhere
FEWEST_ROWS = 30  # a smaller pool, or one of fewer rows than columns, is mapped by its columns
WIDEST_COLUMNS = 64  # coordinates kept of "columns"


@dataclass(frozen=True)
class Whitening:
    """psi -> A = (psi - mean) projection, |A| clipped at radius, / radius; with the constant in front, |phi| <= 1."""

    mean: Float
    projection: Float
    radius: float

    def __call__(self, psi: Float) -> Float:
        return np.column_stack([np.full(len(psi), CONSTANT), self.part(psi)]) / np.sqrt(1 + CONSTANT**2)

    def part(self, psi: Float) -> Float:
        """The coordinates beside the constant, of norm at most 1."""
        A = (psi - self.mean) @ self.projection
        norm = np.sqrt((A * A).sum(axis=1, keepdims=True))
        return A * (np.minimum(1, self.radius / np.maximum(norm, 1e-12)) / self.radius)

    @property
    def blocks(self) -> NDArray[np.intp]:
        """Of each coordinate of phi: 0 for the constant, then one number for each block."""
        return np.r_[0, np.ones(self.projection.shape[1], dtype=np.intp)]


@dataclass(frozen=True)
class TwoBlocks:
    """A main and a second psi, side by side, each whitened by itself; with the constant in front, |phi| <= 1.

    second_weight   squared length of the second beside the main's 1
    """

    main: Whitening
    second: Whitening
    second_weight: float

    def __call__(self, psi: Float) -> Float:
        width = len(self.main.mean)
        blocks = np.full(len(psi), CONSTANT), self.main.part(psi[:, :width]), self.second.part(psi[:, width:])
        scales = 1.0, 1.0, np.sqrt(self.second_weight)
        phi = np.column_stack([scale * block for scale, block in zip(scales, blocks, strict=True)])
        return phi / np.sqrt(1 + self.second_weight + CONSTANT**2)

    @property
    def blocks(self) -> NDArray[np.intp]:
        return np.r_[self.main.blocks, 2 * self.second.blocks[1:]]


@dataclass(frozen=True)
class PoolMap:
    """What a learner made of a pool without labels, to be given to ``fit`` as X_pool; ``schema`` reads the rows."""

    schema: Schema

    @property
    def representation_(self) -> Representation:
        """The map of rows, under the name that fitted learners have it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Representation(PoolMap):
    """A learned map. Made by ``learn_representation`` (or from released moments by ``private_map``).

    kind        "products", "factors", "mixture", "both", "trees" or "columns"
    reference   (m, D) rows of phi that stand for the pool: its own, or synthetic ones of a released model
    released    True if it was made from released numbers only
    common      (D-1, D-1) covariance of the weights that the pool's columns have on the map (pretext.py), scaled to
                explain a share 1 of a label's variance; or None
    """

    kind: str
    cells: Cells
    encoder: Callable[[Float], Float]
    whitening: Whitening | TwoBlocks
    reference: Float
    released: bool = False
    common: Float | None = None

    @property
    def representation_(self) -> Representation:
        return self

    @property
    def n_dimensions(self) -> int:
        return self.reference.shape[1]

    @property
    def block_energy(self) -> Float:
        """Mean square over the pool of each coordinate's whole block, (D,)."""
        squares = np.bincount(self.whitening.blocks, (self.reference**2).mean(axis=0))
        return np.maximum(squares, 1e-9)[self.whitening.blocks]

    @property
    def prior(self) -> Float:
        """(D, D) what a decoder expects of weights on phi: a share 1 explained by the constant; and a share 1 by the
        others, evenly over blocks and their coordinates, or half of it so and half as the pool's columns are."""
        prior = np.diag(1 / self.block_energy)
        prior[1:, 1:] /= max(self.whitening.blocks.max(), 1)
        if self.common is not None:
            prior[1:, 1:] = (prior[1:, 1:] + self.common) / 2
        return prior

    def transform(self, X: Any) -> Float:
        """Rows X (n, d) -> phi (n, D), |phi| <= 1; column 0 is the constant."""
        return self.whitening(self.encoder(self.cells(Table.of(X, schema=self.schema).values)))


@dataclass(frozen=True)
class FactorScores:
    model: FactorAnalysis

    def __call__(self, Z: Float) -> Float:
        return self.model.scores(Z)


@dataclass(frozen=True)
class Responsibilities:
    """Component shares of several mixtures side by side."""

    models: tuple[GaussianMixture, ...]

    def __call__(self, Z: Float) -> Float:
        return np.column_stack([m.responsibilities(Z) for m in self.models])


@dataclass(frozen=True)
class ClustersAndFactors:
    """Shares of clusters, then factor scores; ``factors_weight`` is their squared length beside the clusters' 1."""

    clusters: Responsibilities
    factors: FactorScores
    factors_weight: float

    def __call__(self, Z: Float) -> Float:
        return np.column_stack([self.clusters(Z), self.factors(Z)])


@dataclass(frozen=True)
class Columns:
    def __call__(self, Z: Float) -> Float:
        return np.nan_to_num(Z)


@dataclass(frozen=True)
class Products:
    """Often-observed categories (x) (1, often-observed numbers); gaps filled by factor analysis, or by zero."""

    cells: Cells
    numeric: NDArray[np.intp]  # positions among the standardised columns
    categories: tuple[int, ...]  # positions in cells.categories
    model: FactorAnalysis | None

    @property
    def used(self) -> NDArray[np.bool_]:
        """Of each column of cells, whether it has a part in the products."""
        of_categories = [np.full(len(c.levels), k in self.categories) for k, c in enumerate(self.cells.categories)]
        of_numbers = np.isin(np.arange(len(self.cells.numeric)), self.numeric)
        return np.concatenate([of_numbers, *of_categories])

    def __call__(self, Z: Float) -> Float:
        filled = np.nan_to_num(Z) if self.model is None else self.model.fill(Z)
        numbers = np.clip(filled[:, self.numeric], -3, 3)
        factors = np.column_stack([np.ones(len(Z)), numbers])
        start = len(self.cells.numeric)
        blocks = []
        for k, category in enumerate(self.cells.categories):
            stop = start + len(category.levels)
            if k in self.categories:
                shares = np.clip(filled[:, start:stop] / category.scale + category.frequency, 0, 1)
                if self.model is None:
                    shares[np.isnan(Z[:, start])] = 0
                else:
                    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-6)
                products = shares[:, :, None] * factors[:, None, :]
                blocks.append(products.reshape(len(Z), shares.shape[1] * factors.shape[1]))
            start = stop
        return np.column_stack(blocks)


def learn_representation(
    X_pool: Any,
    kind: str = "auto",
    *,
    categorical_features: Sequence[int | str] | None = None,
    random_state: Any = None,
) -> Representation:
    """Learn the map from a pool of public rows (n, d), NaN = missing. About a second for 10,000 x 50.

    kind    "auto" chooses as the module says; "products" needs an often-observed category.
    categorical_features=None also takes undeclared columns of 3 to 12 distinct whole numbers for categories.
    """
    _validate.one_of(KINDS, representation=kind)
    table = Table.of(X_pool, categorical=categorical_features, name="X_pool")
    rng = _validate.random_generator(random_state)
    cells = learn_cells(table, detect=categorical_features is None)
    Z = cells(table.values)
    encoder: Callable[[Float], Float]
    products = often_products(cells) if kind in ("auto", "products") else None
    if kind == "products" and products is None:
        raise InputError(
            "representation was 'products', but no category is among 1 to 12 columns observed in more than half of the "
            "rows; choose 'auto', or declare the category in categorical_features"
        )
    if kind == "columns" or (kind == "auto" and len(Z) < max(FEWEST_ROWS, Z.shape[1])) or not Z.shape[1]:
        kind, encoder = "columns", Columns()
    elif products is not None:
        numeric, categories = products
        some = Z[rng.permutation(len(Z))[:ROWS_FOR_CHOICE]]
        model = fit_factors(some, min(MOST_FILL_FACTORS, max(1, Z.shape[1] - 1)), n_steps=20)
        model = fit_factors(Z, model.n_factors, n_steps=6, start=model)
        kind, encoder = "products", Products(cells, numeric, categories, model)
    else:
        kind, encoder = _latent(Z, kind, rng)
    psi = encoder(Z)
    whitening: Whitening | TwoBlocks
    if isinstance(encoder, ClustersAndFactors):
        width = psi.shape[1] - encoder.factors.model.n_factors
        whitening = TwoBlocks(
            whiten(psi[:, :width], *_softness("mixture", encoder.clusters)),
            whiten(psi[:, width:], *_softness("factors", encoder.factors)),
            encoder.factors_weight,
        )
    else:
        # of two clusters the border is the natural zero, however many rows lie on either side
        centre = np.full(2, 0.5) if isinstance(encoder, Responsibilities) and psi.shape[1] == 2 else None
        whitening = whiten(psi, *_softness(kind, encoder), centre)
        if isinstance(encoder, Products):
            whitening = _weighed(whitening, encoder, Z, psi)
    phi, common = whitening(psi), None
    if isinstance(encoder, (FactorScores, Responsibilities, ClustersAndFactors)):
        common = hidden_covariance(lambda hidden: whitening(encoder(hidden))[:, 1:], Z, rng)
    if common is not None:
        common /= (common * np.cov(phi[:, 1:], rowvar=False)).sum()
    return Representation(table.schema, kind, cells, encoder, whitening, phi, common=common)


def often_products(cells: Cells) -> tuple[NDArray[np.intp], tuple[int, ...]] | None:
    """Often-observed numbers and categories, if there are few enough and a category is among them."""
    often = cells.coverage > OFTEN
    numeric = np.flatnonzero(often[cells.numeric])
    categories = tuple(k for k, c in enumerate(cells.categories) if often[c.column])
    if not categories or len(numeric) + len(categories) > MOST_OFTEN:
        return None
    return numeric, categories


def whiten(psi: Float, softness: float, reach: float, centre: Float | None = None) -> Whitening:
    """Eigenvectors of the covariance over sqrt(l_j + softness l_1); clipped at ``reach`` times the rms norm.

    centre   what takes the place of the mean.
    """
    mean = psi.mean(axis=0) if centre is None else centre
    A = psi - mean
    if A.shape[1] <= len(A):
        values, vectors = np.linalg.eigh(A.T @ A / len(A))
    else:
        singular, right = np.linalg.svd(A, full_matrices=False)[1:]
        values, vectors = singular[::-1] ** 2 / len(A), right[::-1].T
    values, vectors = values[::-1][:WIDEST_COLUMNS], vectors[:, ::-1][:, :WIDEST_COLUMNS]
    kept = values > 1e-6 * max(values[0], 1e-12) if len(values) else np.zeros(0, dtype=bool)
    projection = vectors[:, kept] / np.sqrt(values[kept] + softness * values[0]) if kept.any() else vectors[:, :0]
    A = A @ projection
    return Whitening(mean, projection, reach * float(np.sqrt((A * A).sum(axis=1).mean())) or 1.0)


def _weighed(whitening: Whitening, products: Products, Z: Float, psi: Float) -> Whitening:
    """Directions scaled by what the other columns say of them: a prior that is even after it is theirs before it."""
    used = products.used
    others_hidden = products(np.where(used, Z, np.nan))
    T = common_covariance((others_hidden - whitening.mean) @ whitening.projection, Z[:, ~used])
    if T is None:
        return whitening
    values, vectors = np.linalg.eigh(T)
    projection = whitening.projection @ (vectors[:, ::-1] * np.sqrt(values[::-1]))
    A, weighed = (psi - whitening.mean) @ whitening.projection, (psi - whitening.mean) @ projection
    return Whitening(whitening.mean, projection, whitening.radius * float(np.sqrt((weighed**2).sum() / (A**2).sum())))


def _softness(kind: str, encoder: Callable[[Float], Float]) -> tuple[float, float]:
    """Softness and reach of the whitening, chosen on seeds that no figure of the documentation uses."""
    if kind in ("products", "columns"):
        return 1.0, 0.7
    many = isinstance(encoder, Responsibilities) and len(encoder.models) > 1
    return (0.3, 1.0) if many or kind == "trees" else (0.0, 1.0)


def _latent(Z: Float, kind: str, rng: np.random.Generator) -> tuple[str, Callable[[Float], Float]]:
    """Factors, clusters, both, or the leaves of trees on cells filled by the better of the two."""
    fitted = fit_latent(Z, rng, with_factors=kind != "mixture", with_mixtures=kind != "factors")
    best = fitted.best
    if best is None:
        return "columns", Columns()
    if kind == "trees":
        return "trees", leaf_components(Z, refined(Z, best, rng), rng)
    if (kind == "both" or (kind == "auto" and fitted.clustered)) and fitted.factors and fitted.mixtures:
        factors = FactorScores(refined(Z, max(fitted.factors, key=by_gain)[1], rng))
        weight = float(np.clip(FACTORS_WEIGHT * fitted.factors_to_clusters**2, *FACTORS_RANGE))
        return "both", ClustersAndFactors(_clusters(Z, fitted, rng), factors, weight)
    if isinstance(best, FactorAnalysis):
        return "factors", FactorScores(refined(Z, best, rng))
    if len(best.weights) == 2:
        return "mixture", Responsibilities((refined(Z, best, rng),))
    return "mixture", _clusters(Z, fitted, rng)


def _clusters(Z: Float, fitted: Latent, rng: np.random.Generator) -> Responsibilities:
    return Responsibilities(tuple(refined(Z, model, rng) for _, model in fitted.mixtures))
