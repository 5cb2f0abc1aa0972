"""The label-free maps: each model against its definition, and what every map promises."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppal_fast import Table, simulate
from ppal_fast.errors import InputError
from ppal_fast.learners import ClassMeanClassifier, learn_representation
from ppal_fast.learners.cells import learn_cells
from ppal_fast.learners.factor_analysis import FactorAnalysis, fit_factors
from ppal_fast.learners.gaussian_mixture import GaussianMixture, fit_mixture
from ppal_fast.learners.leaves import grow, leaf_components
from ppal_fast.learners.pretext import common_covariance, hidden_covariance

SEEDS = st.integers(0, 2**32 - 1)


def masked(rng: np.random.Generator, n: int, p: int, missing: float) -> np.ndarray:
    Z = rng.standard_normal((n, p))
    Z[rng.random(Z.shape) < missing] = np.nan
    return Z


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, p=st.integers(1, 7), q=st.integers(1, 4), missing=st.floats(0, 1))
def test_factor_posterior_is_gaussian_conditioning(seed: int, p: int, q: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    model = FactorAnalysis(rng.standard_normal((p, q)), rng.uniform(0.1, 2, p))
    Z = masked(rng, 6, p, missing)
    scores, filled, logs = model.scores(Z), model.fill(Z), model.log_likelihood(Z)
    covariance = model.loadings @ model.loadings.T + np.diag(model.noise)
    for i, z in enumerate(Z):
        o = ~np.isnan(z)
        S, W = covariance[np.ix_(o, o)], model.loadings[o]
        expected = W.T @ np.linalg.solve(S, z[o])
        np.testing.assert_allclose(scores[i], expected, atol=1e-9)
        np.testing.assert_allclose(filled[i], np.where(o, z, model.loadings @ expected), atol=1e-9)
        density = -0.5 * (o.sum() * np.log(2 * np.pi) + np.linalg.slogdet(S)[1] + z[o] @ np.linalg.solve(S, z[o]))
        np.testing.assert_allclose(logs[i], density if o.any() else 0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, p=st.integers(1, 6), k=st.integers(1, 5), missing=st.floats(0, 1))
def test_mixture_posterior_is_bayes_rule(seed: int, p: int, k: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    model = GaussianMixture(rng.standard_normal((k, p)), rng.uniform(0.2, 2, p), rng.dirichlet(np.ones(k)))
    Z = masked(rng, 6, p, missing)
    shares, logs, filled = model.responsibilities(Z), model.log_likelihood(Z), model.fill(Z)
    for i, z in enumerate(Z):
        o = ~np.isnan(z)
        normal = np.exp(-0.5 * (z[o] - model.means[:, o]) ** 2 / model.variance[o])
        joint = model.weights * (normal / np.sqrt(2 * np.pi * model.variance[o])).prod(axis=1)
        np.testing.assert_allclose(shares[i], joint / joint.sum(), atol=1e-9)
        np.testing.assert_allclose(logs[i], np.log(joint.sum()), atol=1e-9)
        np.testing.assert_allclose(filled[i], np.where(o, z, shares[i] @ model.means), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_em_finds_what_drew_the_cells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    loadings = np.r_[np.full((6, 1), 0.9), np.zeros((4, 1))]
    Z = rng.standard_normal((3000, 1)) @ loadings.T + rng.standard_normal((3000, 10)) * np.sqrt(1 - loadings[:, 0] ** 2)
    Z[rng.random(Z.shape) < 0.5] = np.nan
    found = fit_factors(Z, 1, n_steps=20)
    np.testing.assert_allclose(np.abs(found.loadings), loadings, atol=0.12)
    np.testing.assert_allclose(found.noise, 1 - loadings[:, 0] ** 2, atol=0.12)

    component = rng.random(3000) < 0.3
    Z = rng.standard_normal((3000, 8)) + np.where(component[:, None], 1.5, -1.0)
    Z[rng.random(Z.shape) < 0.5] = np.nan
    mixture = fit_mixture(Z, 2, rng, n_steps=40, n_starts=3)
    order = np.argsort(mixture.means[:, 0])
    np.testing.assert_allclose(mixture.means[order], [[-1.0] * 8, [1.5] * 8], atol=0.15)
    np.testing.assert_allclose(mixture.weights[order], [0.7, 0.3], atol=0.05)


def test_more_steps_of_em_never_lose_much_likelihood() -> None:
    Z = learn_cells(Table.of(simulate.class_shift(2, 1000, 0).X), detect=True)(simulate.class_shift(2, 1000, 0).X)
    for steps in ([fit_factors(Z, 3, n_steps=n) for n in (1, 4, 16)],
                  [fit_mixture(Z, 4, np.random.default_rng(0), n_steps=n) for n in (2, 8, 32)]):
        totals = [model.log_likelihood(Z).sum() for model in steps]
        assert totals[0] < totals[1] < totals[2]


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_a_leaf_is_reached_by_walking_down(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((40, 3))
    trees = grow(A, rng, n_trees=4, depth=3)
    leaf = trees.leaf(A)
    for i in range(40):
        for t in range(4):
            node = 0
            for _ in range(3):
                node = 2 * node + 1 + int(A[i, trees.column[t, node]] > trees.threshold[t, node])
            assert leaf[i, t] == node - 7


def test_leaf_components_keep_the_distances_between_rows() -> None:
    """60 components of 40 trees on 50 rows lose nothing: inner products of centred indicators come back."""
    rng = np.random.default_rng(0)
    Z = masked(rng, 50, 4, 0.3)
    encoder = leaf_components(Z, fit_factors(Z, 2, n_steps=5), rng)
    leaf = encoder.trees.leaf(encoder.fill.fill(Z))
    indicators = (leaf[:, :, None] == np.arange(64)).reshape(50, -1).astype(float)
    indicators[:, indicators.sum(axis=0) <= 5] = 0
    centred = indicators - indicators.mean(axis=0)
    psi = encoder(Z)
    psi -= psi.mean(axis=0)
    np.testing.assert_allclose(psi @ psi.T, centred @ centred.T, atol=1e-8)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, missing=st.floats(0, 0.9))
def test_the_columns_prior_is_that_of_their_weights(seed: int, missing: float) -> None:
    """Where columns are observed well, T is the mean of w w' over them and one that explains a tenth evenly."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((4000, 3)) * np.array([1.0, 0.5, 2.0])
    W = rng.standard_normal((20, 3)) * np.array([1.0, 0.1, 0.3])
    Z = A @ W.T + 0.3 * rng.standard_normal((4000, 20))
    Z[rng.random(Z.shape) < missing] = np.nan
    even = 0.1 * np.eye(3) / (A * A).sum(axis=1).mean()
    T = common_covariance(A - A.mean(axis=0), Z)
    assert T is not None
    np.testing.assert_allclose(T, (W.T @ W + even) / 21, atol=0.06 * np.trace(W.T @ W) / 21)


def test_columns_that_know_nothing_of_the_map_leave_its_directions_alike() -> None:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((3000, 6))
    A -= A.mean(axis=0)
    T = common_covariance(A, masked(rng, 3000, 30, 0.5))
    assert T is not None
    values = np.linalg.eigvalsh(T)
    assert values[-1] < 3 * values[0]
    assert np.trace(T) < 0.02
    assert common_covariance(A, masked(rng, 3000, 30, 1.0)) is None


def test_a_column_is_looked_at_through_a_map_made_without_it() -> None:
    """Cells that have nothing to do with each other explain nothing, though each is a coordinate of the map."""
    Z = masked(np.random.default_rng(0), 3000, 5, 0.2)
    T = hidden_covariance(np.nan_to_num, Z, np.random.default_rng(0))
    assert T is not None
    assert np.trace(T) < 0.06  # with themselves in the map it would be 1


@pytest.mark.parametrize("kind", ["factors", "mixture", "both", "columns", "trees"])
def test_the_prior_explains_one_share_of_the_labels(kind: str) -> None:
    """One for the constant and one for all others, in every map; where columns are known to agree on a direction, more
    of it along that one."""
    rng = np.random.default_rng(0)
    f = rng.standard_normal((2000, 2)) * [3, 1]
    X = f @ rng.standard_normal((2, 12)) + rng.standard_normal((2000, 12))
    X[rng.random(X.shape) < 0.3] = np.nan
    learned = learn_representation(X, kind, random_state=0)
    prior, phi = learned.prior, learned.reference
    np.testing.assert_allclose(prior, prior.T)
    assert np.linalg.eigvalsh(prior)[0] > 0
    assert not prior[0, 1:].any()
    assert prior[0, 0] * (phi[:, 0] ** 2).mean() == pytest.approx(1)
    centred = phi[:, 1:] - phi[:, 1:].mean(axis=0)
    assert ((centred @ prior[1:, 1:]) * centred).sum(axis=1).mean() == pytest.approx(1, abs=0.02)
    if kind == "factors":
        weights = np.linalg.lstsq(centred, f, rcond=None)[0]  # of the strong and of the weak factor
        strong, weak = (w @ prior[1:, 1:] @ w / (w @ w) for w in weights.T)
        assert strong > 1.5 * weak


def test_products_are_weighed_by_the_columns_beside_them() -> None:
    """Five categories and a number: only the last category's slope moves the other columns, so it counts most."""
    rng = np.random.default_rng(0)
    category, number = rng.integers(0, 5, 3000), rng.standard_normal(3000)
    slope = np.where(category == 4, number, 0)
    X = np.column_stack([category, number, slope[:, None] + rng.standard_normal((3000, 8))])
    X[:, 2:][rng.random((3000, 8)) < 0.5] = np.nan
    learned = learn_representation(X, "products", random_state=0)
    phi = learned.transform(X)[:, 1:]
    assert np.abs(np.corrcoef(phi.T, slope)[-1, :-1]).argmax() == 0
    assert phi[:, 0].var() > 3 * phi[:, 1].var()
    assert learned.encoder.used.tolist() == [True, *[False] * 8, *[True] * 5]
    alone = learn_representation(X[:, :2], "products", random_state=0)  # no other column: as the products are
    assert alone.n_dimensions == learned.n_dimensions


@pytest.mark.parametrize("kind", ["auto", "factors", "mixture", "trees", "columns"])
@pytest.mark.parametrize("missing", [0.0, 0.8, 1.0])
def test_every_map_is_bounded_and_repeatable(kind: str, missing: float) -> None:
    X = masked(np.random.default_rng(1), 300, 6, missing)
    X[0] = np.nan
    if missing < 1:
        X[1] = 1e6
    found = learn_representation(X, kind, random_state=0)
    phi = found.transform(X)
    assert np.isfinite(phi).all()
    assert (np.linalg.norm(phi, axis=1) <= 1 + 1e-12).all()
    np.testing.assert_allclose(phi[:, 0], phi[0, 0])
    np.testing.assert_array_equal(learn_representation(X, kind, random_state=0).transform(X), phi)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).transform(X), phi)
    np.testing.assert_allclose(found.transform(X[5:8]), phi[5:8], atol=1e-9)


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (simulate.class_shift(2, 4000, 3), "mixture"),
        (simulate.drives("label", 4000, 2, 3), "products"),
        (simulate.drives("structured", 4000, 2, 3), "products"),
    ],
    ids=["class_shift", "drives-label", "drives-structured"],
)
def test_auto_sees_what_drew_the_pool(table: simulate.SimulatedTable, kind: str) -> None:
    assert learn_representation(table.X, random_state=0).kind == kind
    assert learn_representation(table.table, random_state=0).kind == kind


def test_auto_sees_latent_factors() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4000, 8)) @ rng.standard_normal((8, 40)) * 0.4 + 0.5 * rng.standard_normal((4000, 40))
    X[rng.random(X.shape) < 0.5] = np.nan
    assert learn_representation(X, random_state=0).kind == "factors"


def test_auto_sees_clusters_and_gives_factors_a_block_beside_them() -> None:
    rng = np.random.default_rng(0)
    X = 2 * rng.standard_normal((8, 12))[rng.integers(0, 8, 2000)] + rng.standard_normal((2000, 12))
    X[rng.random(X.shape) < 0.4] = np.nan
    learned = learn_representation(X, random_state=0)
    assert learned.kind == "both"
    blocks = learned.whitening.blocks
    assert blocks[0] == 0 and set(blocks[1:]) == {1, 2} and len(blocks) == learned.n_dimensions
    phi = learned.transform(X)
    np.testing.assert_allclose(phi, learned.reference)
    assert np.linalg.norm(phi, axis=1).max() <= 1 + 1e-12
    longest = [np.linalg.norm(phi[:, blocks == b], axis=1).max() for b in (1, 2)]
    weight = learned.whitening.second_weight
    assert 0 < weight < 0.25  # the rows are clusters: factors tell less of hidden cells
    assert longest[1] == pytest.approx(longest[0] * np.sqrt(weight), rel=0.01)
    np.testing.assert_allclose(
        [(phi[:, blocks == b] ** 2).sum(axis=1).mean() for b in blocks], learned.block_energy, rtol=1e-9
    )


def test_whole_numbers_of_a_plain_array_are_categories_unless_columns_are_declared() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 6, 200), rng.standard_normal(200), rng.integers(0, 2, 200)]).astype(float)
    X[::7, 0] = np.nan
    cells = learn_cells(Table.of(X), detect=True)
    assert [c.column for c in cells.categories] == [0]
    assert cells.numeric.tolist() == [1, 2]
    Z = cells(X)
    assert Z.shape == (200, 8)
    assert np.isnan(Z[::7, 2:]).all() and not np.isnan(Z[1, 2:]).any()
    assert learn_representation(X, categorical_features=[]).cells.categories == ()


def test_an_unknown_category_is_a_missing_cell() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 4, 200), rng.standard_normal(200)])
    found = learn_representation(X, categorical_features=[0], random_state=0)
    strange, absent = np.array([[17.0, 0.3]]), np.array([[np.nan, 0.3]])
    np.testing.assert_array_equal(found.transform(strange), found.transform(absent))


def test_heavy_tails_become_normal_scores_in_the_same_order() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([np.exp(3 * rng.standard_normal(2000)), rng.standard_normal(2000)])
    X[::5, 0] = np.nan
    Z = learn_cells(Table.of(X), detect=True)(X)
    seen = ~np.isnan(X[:, 0])
    assert (np.isnan(Z[:, 0]) == ~seen).all()
    order = np.argsort(X[seen, 0])
    assert (np.diff(Z[seen, 0][order]) >= 0).all()
    assert abs((Z[seen, 0] ** 4).mean() - 3) < 0.5
    np.testing.assert_allclose(Z[:, 1], np.clip((X[:, 1] - X[:, 1].mean()) / X[:, 1].std(), -4, 4))


def test_products_without_a_category_say_what_is_expected() -> None:
    with pytest.raises(InputError, match="no category is among"):
        learn_representation(np.random.default_rng(0).standard_normal((50, 3)), "products")


def test_a_pool_of_more_columns_than_rows_is_mapped_by_its_columns() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 400))
    codes = np.arange(90) % 4
    X = 0.8 * centres[codes] + 2 * rng.standard_normal((90, 400))
    X[rng.random(X.shape) < 0.5] = np.nan
    learned = learn_representation(X[:50], random_state=0)
    assert learned.kind == "columns"
    learner = ClassMeanClassifier(random_state=0).fit(X[:20], codes[:20], X_pool=learned)
    assert learner.score(X[50:], codes[50:]) > 0.7
