"""The C core against its twin, the learners' own numpy, over random models of every kind and random missing cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppal_fast import KernelDensity, LineScorer
from ppal_fast.kernels.trees import Forest
from ppal_fast.learners import (
    AutoClassifier,
    ClassMeanClassifier,
    LogisticClassifier,
    MixtureClassifier,
    RandomTreesClassifier,
)
from ppal_fast.learners.auto import FilledPool
from ppal_fast.learners.cells import Category, Cells
from ppal_fast.learners.decoder import Scores
from ppal_fast.learners.factor_analysis import FactorAnalysis
from ppal_fast.learners.forest import SplitTrees
from ppal_fast.learners.gaussian_mixture import GaussianMixture
from ppal_fast.learners.leaves import LeafComponents, Trees
from ppal_fast.learners.representation import (
    ClustersAndFactors,
    Columns,
    FactorScores,
    Products,
    Representation,
    Responsibilities,
    TwoBlocks,
    Whitening,
)
from ppal_fast.table import Schema, Table

KINDS = ("products", "factors", "mixture", "both", "trees", "columns", "naive Bayes", "random trees", "forest")
Rng = np.random.Generator


def random_cells(rng: Rng) -> Cells:
    n_numeric, levels = int(rng.integers(1, 7)), rng.integers(2, 5, size=rng.integers(1, 3))
    d = n_numeric + len(levels) + 1  # one column is in no cell
    order = rng.permutation(d)
    categories = tuple(
        Category(int(order[n_numeric + c]), np.arange(k, dtype=float), rng.uniform(0.1, 0.9, k))
        for c, k in enumerate(levels)
    )
    scores = {
        j: (np.sort(rng.normal(size=k)), np.sort(rng.normal(size=k)))
        for j in range(n_numeric) if (k := int(rng.integers(0, 5))) > 1
    }
    numeric = order[:n_numeric].astype(np.intp)
    return Cells(
        numeric, rng.normal(size=n_numeric), rng.uniform(0.2, 2, n_numeric), categories, rng.uniform(size=d), scores
    )


def random_factors(rng: Rng, width: int) -> FactorAnalysis:
    q = int(rng.choice([1, 2, 3, 4, 5, 8]))
    return FactorAnalysis(rng.normal(size=(width, q)), rng.uniform(0.2, 2, width))


def random_mixture(rng: Rng, width: int, k: int) -> GaussianMixture:
    return GaussianMixture(rng.normal(size=(k, width)), rng.uniform(0.2, 2, width), rng.dirichlet(np.ones(k)))


def random_latent(rng: Rng, width: int) -> FactorAnalysis | GaussianMixture:
    return random_factors(rng, width) if rng.random() < 0.5 else random_mixture(rng, width, 3)


def random_whitening(rng: Rng, width: int) -> Whitening:
    r = int(rng.integers(0, 13))
    return Whitening(rng.normal(size=width), rng.normal(size=(width, r)), float(rng.uniform(0.5, 4)))


def random_encoder(rng: Rng, kind: str, cells: Cells) -> Any:
    p = cells.width
    mixtures = Responsibilities(tuple(random_mixture(rng, p, int(k)) for k in rng.integers(1, 12, rng.integers(1, 4))))
    if kind == "factors":
        return FactorScores(random_factors(rng, p))
    if kind == "mixture":
        return mixtures
    if kind == "both":
        return ClustersAndFactors(mixtures, FactorScores(random_factors(rng, p)), 0.25)
    if kind == "columns":
        return Columns()
    if kind == "trees":
        trees = Trees(rng.integers(0, p, (13, 7)), rng.normal(size=(13, 7)))
        return LeafComponents(random_latent(rng, p), trees, rng.normal(size=(13, 8, 6)))
    numbers = rng.permutation(len(cells.numeric))[: rng.integers(0, len(cells.numeric) + 1)].astype(np.intp)
    chosen = tuple(int(c) for c in rng.permutation(len(cells.categories))[: rng.integers(1, len(cells.categories) + 1)])
    return Products(cells, numbers, chosen, random_factors(rng, p) if rng.random() < 0.7 else None)


def random_forest(rng: Rng, n_features: int, n_classes: int) -> Forest:
    """Trees of three leaves, by hand."""
    n_trees = int(rng.integers(1, 12))
    column = np.tile(np.array([0, -1, 0, -1, -1], dtype=np.int32), n_trees)
    column[column == 0] = rng.integers(0, n_features, 2 * n_trees)
    following = np.concatenate([[5 * t + 1, 3 * t, 5 * t + 3, 3 * t + 1, 3 * t + 2] for t in range(n_trees)])
    return Forest(
        np.arange(0, 5 * n_trees, 5, dtype=np.int32), column, rng.normal(size=5 * n_trees).astype(np.float32),
        following.astype(np.int32), rng.dirichlet(np.ones(n_classes), 3 * n_trees).astype(np.float32),
    )


def random_learner(rng: Rng, kind: str, n_classes: int) -> tuple[Any, Schema]:
    cells = random_cells(rng)
    d = len(cells.coverage)
    schema = Schema(tuple(f"c{j}" for j in range(d)), (None,) * d)
    learner: Any
    if kind == "naive Bayes":
        learner = MixtureClassifier()
        learner.cells_, learner.mixture_ = cells, random_mixture(rng, cells.width, n_classes)
    elif kind == "random trees":
        depth = int(rng.integers(1, 6))
        shape = (int(rng.integers(1, 8)), 2**depth - 1)
        learner = RandomTreesClassifier(n_trees=shape[0])
        learner.cells_ = cells
        learner.trees_ = SplitTrees(rng.integers(0, cells.width, shape), rng.normal(size=shape), rng.random(shape))
        learner.leaf_probabilities_ = rng.dirichlet(np.ones(n_classes), learner.trees_.n_leaves).T
    else:
        inner = kind if kind != "forest" else str(rng.choice(["products", "both", "mixture", "columns"]))
        encoder = random_encoder(rng, inner, cells)
        width = encoder(np.full((1, cells.width), np.nan)).shape[1]
        whitening: Any = random_whitening(rng, width)
        if inner == "both":
            clusters = width - encoder.factors.model.n_factors
            whitening = TwoBlocks(random_whitening(rng, clusters), random_whitening(rng, width - clusters), 0.4)
        D = whitening(np.zeros((1, width))).shape[1]
        weights = rng.normal(size=(n_classes, D))
        representation = Representation(schema, inner, cells, encoder, whitening, np.zeros((1, D)))
        if kind == "forest":
            learner, means = AutoClassifier(), ClassMeanClassifier()
            means.scores_ = Scores(weights)
            pool = FilledPool(schema, representation, Table(np.empty((0, d)), schema), 0)
            pool.__dict__["fill"] = random_latent(rng, cells.width) if rng.random() < 0.8 else None
            learner.class_mean_, learner.pool_map_ = means, pool
            n_features = pool.features(Table(np.zeros((1, d)), schema)).shape[1]
            learner.forest_ = random_forest(rng, n_features, n_classes)
            learner.forest_share_, learner.forest_power_ = 0.75, float(rng.choice([1.0, 1.5, 3.0]))
        elif rng.random() < 0.5:
            learner = LogisticClassifier()
            learner.weights_ = weights
        else:
            learner = ClassMeanClassifier()
            learner.scores_ = Scores(weights)
        learner.representation_ = representation
    learner.classes_, learner.schema_, learner.privacy_ = np.arange(n_classes), schema, "not private: drawn"
    learner.n_features_in_ = d
    return learner, schema


def random_items(rng: Rng, cells: Cells, n: int) -> Any:
    X = rng.normal(size=(n, len(cells.coverage))) * 2
    for category in cells.categories:
        X[:, category.column] = rng.integers(0, 5, size=n)  # some codes are unknown
    X[rng.random(X.shape) < rng.random()] = np.nan
    X[0] = np.nan
    return X


def cells_of(learner: Any) -> Cells:
    return learner.representation_.cells if hasattr(learner, "representation_") else learner.cells_


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS), n_classes=st.integers(2, 10))
def test_the_core_is_its_twin(seed: int, kind: str, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    learner, schema = random_learner(rng, kind, n_classes)
    X = random_items(rng, cells_of(learner), 12)
    scorer = LineScorer.from_learner(learner, schema, threshold=0.3)
    P = learner.predict_proba(Table(X, schema))
    np.testing.assert_allclose(scorer.predict_proba(X), P, rtol=0, atol=1e-12)
    found = scorer.verdicts(X)
    assert found["label"].tolist() == scorer.predict_proba(X).argmax(axis=1).tolist()
    np.testing.assert_allclose(found["probability"], P.max(axis=1), rtol=0, atol=1e-12)
    entropy = -(P * np.log(np.maximum(P, 1e-300))).sum(axis=1) / np.log(n_classes)
    np.testing.assert_allclose(found["uncertainty"], entropy * (~np.isnan(X)).mean(axis=1), rtol=0, atol=1e-12)
    assert found["query"].tolist() == (found["uncertainty"] >= 0.3).astype(int).tolist()
    for i in (0, 5):
        assert scorer.decide(X[i])[:4] == tuple(np.asarray(a)[i] for a in scorer.decide_many(X)[:4])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["factors", "both", "naive Bayes", "columns"]))
def test_the_density_ratio_is_the_models_likelihood_over_the_labelled_rows_density(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    learner, schema = random_learner(rng, kind, 2)
    cells = cells_of(learner)
    labelled, X = random_items(rng, cells, 30), random_items(rng, cells, 8)
    scorer = LineScorer.from_learner(learner, schema, threshold=0.3, labelled=Table(labelled, schema))
    Y, Z = cells(labelled), cells(X)
    none = np.isnan(Y).all(axis=0)  # such a column counts as standard normal
    spread = np.array([0.0 if empty else np.nanstd(y) for y, empty in zip(Y.T, none, strict=True)])
    deviation = np.where(spread > 1e-9, spread, 1.0)
    bandwidth = deviation * np.maximum((~np.isnan(Y)).sum(axis=0), 1) ** (-1 / (Y.shape[1] + 4))
    below = np.where(none & ~np.isnan(Z), -0.5 * np.nan_to_num(Z) ** 2 - 0.5 * np.log(2 * np.pi), 0.0).sum(axis=1)
    if not none.all():
        below += KernelDensity(bandwidth[~none]).fit(Y[:, ~none]).score_samples(Z[:, ~none])
    model = getattr(learner, "mixture_", None)
    if kind in ("factors", "both"):
        encoder = learner.representation_.encoder
        model = encoder.model if kind == "factors" else encoder.factors.model
    if model is None:
        above = np.where(np.isnan(Z), 0.0, -0.5 * np.nan_to_num(Z) ** 2 - 0.5 * np.log(2 * np.pi)).sum(axis=1)
    else:
        above = model.log_likelihood(Z)
    np.testing.assert_allclose(scorer.verdicts(X)["log_density_ratio"], above - below, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_unusual_is_the_distance_from_the_factors_mean_in_the_units_of_a_chi_square(seed: int) -> None:
    rng = np.random.default_rng(seed)
    learner, schema = random_learner(rng, "factors", 3)
    X, model = random_items(rng, cells_of(learner), 9), learner.representation_.encoder.model
    unusual = LineScorer.from_learner(learner, schema, threshold=0.3).verdicts(X)["unusual"]
    for z, found in zip(cells_of(learner)(X), unusual, strict=True):
        seen = ~np.isnan(z)
        covariance = model.loadings[seen] @ model.loadings[seen].T + np.diag(model.noise[seen])
        k = seen.sum()
        distance = z[seen] @ np.linalg.solve(covariance, z[seen]) if k else 0.0
        assert found == pytest.approx((distance - k) / np.sqrt(2 * k), abs=1e-9) if k else np.isnan(found)
