"""The compiled decision against its twin, over random models of every kind and random patterns of missing cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppal_fast.kernels import reference
from ppal_fast.kernels._line import Scorer

COLUMNS, FACTORS, MIXTURES, PRODUCTS = range(4)


def starts(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)


def random_parts(rng: np.random.Generator, encoder: int, n_classes: int, *, direct: bool) -> dict[str, Any]:
    n_numeric, n_levels = int(rng.integers(1, 7)), [int(k) for k in rng.integers(2, 5, size=rng.integers(1, 3))]
    n_knots = [int(k) if k > 1 else 0 for k in rng.integers(0, 5, size=n_numeric)]
    width = n_numeric + sum(n_levels)
    q = int(rng.integers(0 if encoder == PRODUCTS else 1, 6))
    mixtures = [n_classes] if direct else [int(k) for k in rng.integers(1, 4, size=rng.integers(1, 4))]
    latent = {COLUMNS: 0, FACTORS: q, MIXTURES: sum(mixtures), PRODUCTS: q}[encoder]
    chosen = rng.permutation(len(n_levels))[: rng.integers(1, len(n_levels) + 1)].astype(np.intp)
    numbers = rng.permutation(n_numeric)[: rng.integers(0, n_numeric + 1)].astype(np.intp)
    n_psi = {
        COLUMNS: width, FACTORS: q, MIXTURES: latent,
        PRODUCTS: sum(n_levels[c] for c in chosen) * (1 + len(numbers)),
    }[encoder]
    loadings = rng.normal(size=(width, latent))
    weighted = loadings * rng.uniform(0.5, 2, size=(width, 1))
    rows, columns = np.tril_indices(latent)
    presence = rng.normal(size=loadings.shape)
    if encoder in (FACTORS, PRODUCTS):
        presence = loadings[:, rows] * weighted[:, columns]
    r = 0 if direct else int(rng.integers(1, 5))
    d = n_numeric + len(n_levels)
    order = rng.permutation(d).astype(np.intp)
    return {
        "n_columns": d, "numeric": order[:n_numeric], "category": order[n_numeric:],
        "mean": rng.normal(size=n_numeric), "scale": rng.uniform(0.2, 2, size=n_numeric), "clip": 2.0,
        "knot_start": starts(n_knots),
        "knots": np.concatenate([np.empty(0), *(np.sort(rng.normal(size=k)) for k in n_knots)]),
        "knot_scores": np.concatenate([np.empty(0), *(np.sort(rng.normal(size=k)) for k in n_knots)]),
        "level_start": starts(n_levels), "levels": np.concatenate([np.arange(k, dtype=float) for k in n_levels]),
        "frequency": rng.uniform(0.1, 0.9, size=sum(n_levels)),
        "category_scale": rng.uniform(0.5, 2, size=len(n_levels)),
        "encoder": encoder, "n_latent": latent, "n_psi": n_psi, "by_value": weighted.ravel(),
        "by_presence": presence.ravel(), "base": rng.normal(size=latent), "mixture_start": starts(mixtures),
        "loadings": loadings.ravel(), "numbers": numbers, "number_clip": 1.0, "product_category": chosen,
        "centre": rng.normal(size=r), "projection": rng.normal(size=n_psi * r), "radius": float(rng.uniform(0.5, 3)),
        "constant": 0.4, "weights": rng.normal(size=(1 + r) * n_classes if r else 0),
    }


def random_items(rng: np.random.Generator, parts: dict[str, Any], n: int) -> np.ndarray:
    X = rng.normal(size=(n, parts["n_columns"])) * 2
    X[:, parts["category"]] = rng.integers(0, 5, size=(n, len(parts["category"])))  # some codes are unknown
    X[rng.random(X.shape) < rng.random()] = np.nan
    X[0] = np.nan
    return X


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), encoder=st.sampled_from([COLUMNS, FACTORS, MIXTURES, PRODUCTS]),
    n_classes=st.integers(2, 5), direct=st.booleans(),
)
def test_the_kernel_is_its_twin(seed: int, encoder: int, n_classes: int, direct: bool) -> None:
    rng = np.random.default_rng(seed)
    parts = random_parts(rng, encoder, n_classes, direct=direct and encoder == MIXTURES)
    X = random_items(rng, parts, 12)
    scorer = Scorer(parts, 0.3, tuple(range(n_classes)), lambda *verdict: verdict)
    P, label = np.empty((12, n_classes)), np.empty(12, np.intp)
    probability, uncertainty, query = np.empty(12), np.empty(12), np.empty(12, np.uint8)
    assert scorer.decide_many(X, P, label, probability, uncertainty, query) == -1
    expected = np.array([reference.line_probabilities(parts, x) for x in X])
    np.testing.assert_allclose(P, expected, rtol=0, atol=1e-9)
    entropy = -np.sum(expected * np.log(np.maximum(expected, 1e-300)), axis=1) / np.log(n_classes)
    np.testing.assert_allclose(uncertainty, entropy * (~np.isnan(X)).mean(axis=1), atol=1e-9)
    assert probability.tolist() == P.max(axis=1).tolist()
    assert label.tolist() == P.argmax(axis=1).tolist()
    assert query.tolist() == (uncertainty >= 0.3).tolist()
    for i, x in enumerate(X):
        assert scorer.decide(x) == (label[i], probability[i], uncertainty[i], bool(query[i])), "one by one, bit for bit"


@pytest.fixture
def scorer() -> Scorer:
    parts = random_parts(np.random.default_rng(0), FACTORS, 3, direct=False)
    return Scorer(parts, 0.3, ("a", "b", "c"), lambda *verdict: verdict)


def test_what_is_not_a_vector_of_doubles_is_left_to_the_caller(scorer: Scorer) -> None:
    d = random_parts(np.random.default_rng(0), FACTORS, 3, direct=False)["n_columns"]
    assert scorer.decide(np.zeros(d)) is not None
    wrong = (np.zeros(d + 1), np.zeros((d, 1)), np.zeros(d, np.float32), np.zeros(2 * d)[::2], [0.0] * d, "text", None)
    for x in wrong:
        assert scorer.decide(x) is None
    for infinity in (np.inf, -np.inf):
        x = np.zeros(d)
        x[-1] = infinity
        assert scorer.decide(x) is None


def test_a_batch_stops_at_the_first_infinity(scorer: Scorer) -> None:
    d = random_parts(np.random.default_rng(0), FACTORS, 3, direct=False)["n_columns"]
    X = np.zeros((4, d))
    X[2, 0] = np.inf
    outputs = (np.empty((4, 3)), np.empty(4, np.intp), np.empty(4), np.empty(4), np.empty(4, np.uint8))
    assert scorer.decide_many(X, *outputs) == 2
