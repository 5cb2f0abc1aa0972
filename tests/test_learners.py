"""The learners: quality against known ceilings, what is released and nothing else, odd tables, estimator checks."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from ppal_fast import Ledger, Schema, Table, learners, simulate
from ppal_fast.errors import BudgetExceeded, DataWarning, InputError, PrivacyError, PublicAssumptionWarning
from ppal_fast.learners import (
    AutoClassifier,
    ClassMeanClassifier,
    LogisticClassifier,
    MixtureClassifier,
    RandomTreesClassifier,
)
from ppal_fast.learners.cells import learn_cells
from ppal_fast.learners.decoder import (
    CONSTANT_ENERGIES,
    ENERGIES,
    LOGIT_VARIANCE,
    RARER,
    Design,
    decode,
    simplex_basis,
)

ALL = [AutoClassifier, ClassMeanClassifier, LogisticClassifier, MixtureClassifier, RandomTreesClassifier]
PRIVATE = [ClassMeanClassifier, LogisticClassifier, RandomTreesClassifier]


@parametrize_with_checks([learner(random_state=0) for learner in ALL])
def test_scikit_learn_estimator_checks(estimator: Any, check: Any) -> None:
    check(estimator)


class RecordingLedger:
    """Stands in for Ledger: notes every call, and answers from a given transcript or with the plain sum."""

    def __init__(self, unit: str, relation: str = "zero-out", transcript: dict[str, np.ndarray] | None = None) -> None:
        self.unit, self.relation, self.delta, self.epsilon = unit, relation, 1e-5, 1.0
        self.transcript = transcript
        self.calls: list[dict[str, Any]] = []
        self.answers: dict[str, np.ndarray] = {}

    def remaining(self) -> float:
        return 1.0

    def remaining_mu(self) -> float:
        return 1.0

    def history(self) -> list[Any]:
        return []

    def release_sum(
        self, rows: np.ndarray, *, clip: float, sigma: float, name: str, owners: Any = None
    ) -> np.ndarray:
        self.calls.append({"rows": rows.copy(), "clip": clip, "sigma": sigma, "name": name, "owners": owners})
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        answer = (rows * np.minimum(1, clip / np.maximum(norms, 1e-12))).sum(axis=0)
        return self.answer(name, answer)

    def release_label_sum(
        self, rows: np.ndarray, targets: np.ndarray, codes: np.ndarray, *, sigma: float, name: str
    ) -> np.ndarray:
        call = {"rows": rows.copy(), "targets": targets, "codes": codes.copy(), "sigma": sigma, "name": name}
        self.calls.append(call)
        return self.answer(name, targets[codes].T @ rows)

    def answer(self, name: str, untouched: np.ndarray) -> np.ndarray:
        self.answers[name] = untouched if self.transcript is None else self.transcript[name]
        return self.answers[name].copy()


def accuracy(
    table: simulate.SimulatedTable, learner: Any, n_labels: int, *, unit: str | None = None, epsilon: float = 1.0,
    n_draws: int = 3,
) -> float:
    """Of the learner on rows of ``table`` that it never saw, from random labels; the mean over draws of the labels."""
    n_pool = len(table) * 3 // 4
    pool, rest = table.table.take(slice(0, n_pool)), table.table.take(slice(n_pool, None))
    learner = clone(learner).set_params(classes=range(int(table.y.max()) + 1))
    X_pool = pool if unit in ("record", "owner") else learner.map_pool(pool)
    right = []
    for seed in range(n_draws):
        asked = np.random.default_rng(seed).choice(n_pool, n_labels, replace=False)
        options: dict[str, Any] = {}
        if unit is not None:
            options["ledger"] = Ledger(":memory:", epsilon=epsilon, delta=1e-5, unit=unit)
        learner.fit(pool.take(asked), table.y[asked], X_pool=X_pool, **options)
        right.append((learner.predict(rest) == table.y[n_pool:]).mean())
    return float(np.mean(right))


SHIFT = simulate.class_shift(2, 8_000, 5)
DRIVES = simulate.drives("label", 8_000, 2, 5)


@pytest.mark.parametrize(
    ("table", "learner", "n_labels", "unit", "epsilon", "at_least"),
    [
        (SHIFT, ClassMeanClassifier(random_state=0), 60, None, 1, 0.87),
        (SHIFT, ClassMeanClassifier(random_state=0), 200, "label", 0.5, 0.86),
        (SHIFT, ClassMeanClassifier(random_state=0), 200, "record", 1, 0.84),
        (SHIFT, MixtureClassifier(random_state=0), 60, None, 1, 0.86),
        (SHIFT, LogisticClassifier(random_state=0), 60, None, 1, 0.87),
        (SHIFT, LogisticClassifier(random_state=0), 200, "label", 1, 0.83),
        (SHIFT, AutoClassifier(random_state=0), 200, None, 1, 0.86),
        (SHIFT, AutoClassifier(random_state=0), 200, "label", 0.5, 0.86),
        (DRIVES, ClassMeanClassifier(random_state=0), 200, None, 1, 0.86),
        (DRIVES, ClassMeanClassifier(random_state=0), 200, "label", 1, 0.73),
        (DRIVES, ClassMeanClassifier(random_state=0), 200, "record", 2, 0.73),
        (DRIVES, AutoClassifier(random_state=0), 200, None, 1, 0.86),
    ],
    ids=lambda v: type(v).__name__ if hasattr(v, "fit") else getattr(v, "name", str(v)),
)
def test_accuracy_from_few_labels(
    table: simulate.SimulatedTable, learner: Any, n_labels: int, unit: str | None, epsilon: float, at_least: float
) -> None:
    assert at_least <= accuracy(table, learner, n_labels, unit=unit, epsilon=epsilon) <= table.ceiling + 0.02


def test_probabilities_are_calibrated() -> None:
    """Mean log-loss is far below that of the class shares, and predicted confidence near the share of right answers."""
    for table, n_classes in ((DRIVES, 2), (simulate.drives("label", 8_000, 4, 5), 4)):
        pool = table.table.take(slice(6000))
        learner = ClassMeanClassifier(random_state=0).fit(table.X[:400], table.y[:400], X_pool=pool)
        P, y = learner.predict_proba(table.X[6000:]), table.y[6000:]
        np.testing.assert_allclose(P.sum(axis=1), 1)
        shares = np.bincount(y, minlength=n_classes) / len(y)
        assert -np.log(P[np.arange(len(y)), y]).mean() < 0.6 * -(shares * np.log(shares)).sum()
        assert abs(P.max(axis=1).mean() - (P.argmax(axis=1) == y).mean()) < 0.06
        np.testing.assert_array_equal(learner.predict(table.X[6000:]), learner.classes_[P.argmax(axis=1)])


def test_a_column_over_many_orders_of_magnitude_is_read_by_its_ranks() -> None:
    values = 10 ** np.random.default_rng(0).uniform(0, 3, (2000, 1))  # kurtosis 5
    cells = learn_cells(Table.of(values), detect=True)(values)[:, 0]
    assert abs(np.mean(cells**3)) < 0.05
    np.testing.assert_allclose(np.median(cells[values[:, 0] > 100]), 0.97, atol=0.1)  # 5/6 of a normal


# The decoder


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_classes", [2, 4])
def test_decoder_finds_the_likeliest_weights_under_the_averaged_prior(n_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, D, noise = 30, 3, 1.5
    phi = rng.standard_normal((n, D)) * [0.4, 1, 1]
    pull = rng.uniform(0.5, 1, n)
    root = rng.standard_normal((2, 2))
    prior = np.zeros((D, D))
    prior[0, 0], prior[1:, 1:] = 6.0, root @ root.T + 0.1 * np.eye(2)
    s2 = (1 - 1 / n_classes) / n_classes
    V = rng.standard_normal((n_classes - 1, D)) * 3
    M, N = np.zeros((D, D)), (noise**2 + 1e-6) * np.eye(D)
    for f, r in zip(phi, pull, strict=True):
        M += r * np.outer(f, f)
        N += s2 * r * r * np.outer(f, f)
    averaged, total = np.zeros((D, D)), 0.0
    for rarity, constant in enumerate(CONSTANT_ENERGIES):
        for level in ENERGIES:
            T = s2 * level * prior
            T[0, 0] = s2 * constant * prior[0, 0]
            evidence = np.prod([multivariate_normal(np.zeros(D), M @ T @ M.T + N).pdf(v) for v in V]) / RARER**rarity
            averaged += evidence * T
            total += evidence
    P = LOGIT_VARIANCE * n_classes * averaged / total
    basis = simplex_basis(n_classes)

    def loss(w: np.ndarray) -> float:
        W, residual = w.reshape(n_classes - 1, D), V.copy()
        for f, r in zip(phi, pull, strict=True):
            residual -= np.outer(basis.T @ softmax(basis @ W @ f), r * f)
        return 0.5 * sum(float(a @ np.linalg.solve(A, a)) for A, rows in ((N, residual), (P, W)) for a in rows)

    expected = minimize(loss, np.zeros(V.size), method="BFGS").x.reshape(V.shape)
    found = decode(V, Design(phi, pull, pull**2), noise, prior).weights
    np.testing.assert_allclose(found, basis @ expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_logits_are_recovered_from_the_sum(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    phi = np.column_stack([np.full(40_000, 0.37), rng.standard_normal((40_000, 2)) * 0.6])
    W = rng.standard_normal((n_classes, 3)) * 2
    W -= W.mean(axis=0)
    odds = np.cumsum(softmax(phi @ W.T, axis=1), axis=1)
    y = (rng.random((len(phi), 1)) > odds[:, :-1]).sum(axis=1)
    pull = 1 / np.linalg.norm(phi, axis=1)
    V = simplex_basis(n_classes)[y].T @ (phi * pull[:, None])
    scores = decode(V, Design(phi, pull, pull**2), 0.0, np.diag(1 / np.array([0.137, 0.72, 0.72])))
    np.testing.assert_allclose(scores.weights, W, atol=0.2)


def test_more_noise_shrinks_the_scores() -> None:
    phi = np.random.default_rng(0).standard_normal((200, 4)) * 0.4
    V = np.r_[10.0, 40.0, -5.0, 3.0][None]
    ones, prior = np.ones(200), np.eye(4) / 0.16
    sizes = [np.linalg.norm(decode(V, Design(phi, ones, ones), noise, prior).weights) for noise in (0.1, 30, 300)]
    assert sizes[0] > 2 * sizes[1] > 4 * sizes[2]


def test_where_noise_hides_a_direction_the_prior_decides() -> None:
    phi = np.column_stack([np.full(200, 0.3), np.random.default_rng(0).standard_normal((200, 2)) * 0.6])
    V, ones = np.r_[0.0, 40.0, 40.0][None], np.ones(200)
    found = decode(V, Design(phi, ones, ones), 100.0, np.diag([10.0, 3.0, 0.03])).weights[1]
    assert abs(found[1]) > 20 * abs(found[2])


# What leaves


@pytest.mark.parametrize("learner", PRIVATE)
@pytest.mark.parametrize("n_classes", [2, 5])
def test_under_unit_label_only_its_own_row_knows_a_label(learner: Any, n_classes: int) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 5)), rng.integers(0, n_classes, 60)
    X[rng.random(X.shape) < 0.4] = np.nan
    first = RecordingLedger("label")
    estimator = learner(classes=range(n_classes), random_state=0)
    model = pickle.dumps(clone(estimator).fit(X, y, ledger=first))
    for row in range(0, 60, 7):
        other = y.copy()
        other[row] = (y[row] + 1) % n_classes
        second = RecordingLedger("label", transcript=first.answers)
        same_model = pickle.dumps(clone(estimator).fit(X, other, ledger=second))
        assert same_model == model  # nothing in the model but released and public numbers
        assert len(first.calls) == len(second.calls)
        for a, b in zip(first.calls, second.calls, strict=True):
            assert (a["sigma"], a["name"]) == (b["sigma"], b["name"])
            if "codes" in a:  # a sum of labels: everything but the codes is public
                assert np.array_equal(a["rows"], b["rows"]) and np.array_equal(a["targets"], b["targets"])
                assert np.array_equal(np.delete(a["codes"], row), np.delete(b["codes"], row))
            else:
                assert a["clip"] == b["clip"]
                assert np.array_equal(np.delete(a["rows"], row, 0), np.delete(b["rows"], row, 0))


def strange_records(rng: np.random.Generator, d: int, n: int) -> np.ndarray:
    """Extreme records, then random ones of every size and coverage."""
    fixed = [np.full(d, v) for v in (0.0, 1e308, -1e308, 5e-324, 4.0, np.nan)]
    sizes = 10.0 ** rng.uniform(-3, 6, (n - len(fixed), 1))
    drawn = rng.standard_normal((n - len(fixed), d)) * sizes
    drawn[rng.random(drawn.shape) < rng.random((len(drawn), 1))] = np.nan
    return np.vstack([*fixed, drawn])


@pytest.mark.parametrize("learner", [*PRIVATE, AutoClassifier])
@pytest.mark.parametrize("kind", ["factors", "products"])
def test_forced_transcript_under_unit_record(learner: Any, kind: str) -> None:
    """With the same released numbers, a record moves no other record's contribution by a bit, and nothing public.

    The other world has the zeroed record: not labelled, and an empty row of the roster, whose contribution is 0.
    """
    rng = np.random.default_rng(1)
    n, d = 80, 6
    levels: list[Any] = [None] * d
    values = rng.standard_normal((n, d))
    values[rng.random(values.shape) < 0.3] = np.nan
    if kind == "products":
        levels[0] = ("a", "b", "c")
        values[:, 0] = rng.integers(0, 3, n)
    schema = Schema(tuple("uvwxyz"), tuple(levels)).with_bounds((-3, 3))
    y = rng.integers(0, 3, n)
    labelled = np.arange(25)
    record = 7

    def world(
        cells: np.ndarray | None, transcript: dict[str, np.ndarray] | None
    ) -> tuple[RecordingLedger, bytes]:
        table = values.copy()
        table[record] = np.nan if cells is None else cells
        rows = labelled[labelled != record] if cells is None else labelled
        ledger = RecordingLedger("record", transcript=transcript)
        pool = Table(table, schema)
        fitted = learner(classes=[0, 1, 2], random_state=0).fit(pool.take(rows), y[rows], X_pool=pool, ledger=ledger)
        return ledger, pickle.dumps(fitted)

    transcript = world(values[record], None)[0].answers
    absent, model = world(None, transcript)
    for cells in strange_records(rng, d, 100):
        if kind == "products" and not np.isnan(cells[0]):
            cells[0] = rng.integers(0, 4)  # 3 is no category: a missing cell
        present, same_model = world(cells, transcript)
        assert same_model == model  # nothing in the model but released and public numbers
        assert [c["name"] for c in present.calls] == [c["name"] for c in absent.calls]
        for a, b in zip(present.calls, absent.calls, strict=True):
            assert (a["clip"], a["sigma"]) == (b["clip"], b["sigma"])
            others = np.delete(a["rows"], record, 0)
            of_pool = len(a["rows"]) == n
            assert np.isfinite(a["rows"]).all()
            assert others.tobytes() == (np.delete(b["rows"], record, 0) if of_pool else b["rows"]).tobytes()
            assert not of_pool or not b["rows"][record].any()


@pytest.mark.parametrize("learner", PRIVATE)
@pytest.mark.parametrize("unit", ["label", "record", "owner"])
def test_a_fit_spends_what_it_was_given_and_no_more(learner: Any, unit: str) -> None:
    table = simulate.class_shift(2, 400, 0).table
    y = simulate.class_shift(2, 400, 0).y
    owners = np.arange(400) // 4
    with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit=unit) as ledger:
        options = {"owners": (owners[:100], owners)} if unit == "owner" else {}
        fit = learner(classes=[0, 1], random_state=0).fit
        fit(table.take(slice(100)), y[:100], X_pool=table, ledger=ledger, epsilon=0.4, **options)
        assert ledger.spent()[0] == pytest.approx(0.4, abs=1e-5)
        assert ledger.spent()[0] <= 0.4
        fitted = fit(table.take(slice(100)), y[:100], X_pool=table, ledger=ledger, **options)
        assert 0.999 < ledger.spent()[0] <= 1.0
        assert unit in fitted.privacy_ and "1e-05" in fitted.privacy_
        before = ledger.head
        with pytest.raises(BudgetExceeded):
            fit(table.take(slice(100)), y[:100], X_pool=table, ledger=ledger, epsilon=0.1, **options)
        assert ledger.head == before


def test_a_named_release_is_replayed_and_an_unnamed_one_is_new() -> None:
    table = simulate.class_shift(2, 400, 0)
    with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="label") as ledger:
        learner = ClassMeanClassifier(classes=[0, 1], random_state=0)
        first = learner.fit(table.X[:50], table.y[:50], ledger=ledger, epsilon=0.3, release_name="monday").scores_
        again = learner.fit(table.X[:50], table.y[:50], ledger=ledger, epsilon=0.3, release_name="monday").scores_
        np.testing.assert_array_equal(first.weights, again.weights)
        assert len(ledger.history()) == 1
        learner.fit(table.X[:50], table.y[:50], ledger=ledger, epsilon=0.3)
        learner.fit(table.X[:50], table.y[:50], ledger=ledger, epsilon=0.3)
        assert len(ledger.history()) == 3


def test_replace_one_doubles_the_noise_that_the_decoder_expects() -> None:
    table = simulate.class_shift(2, 600, 0)
    sizes = {}
    for relation in ("zero-out", "replace-one"):
        ledger = RecordingLedger("label", relation)
        learner = ClassMeanClassifier(classes=[0, 1], random_state=0).fit(table.X[:60], table.y[:60], ledger=ledger)
        sizes[relation] = np.linalg.norm(learner.scores_.weights)
    assert sizes["replace-one"] < sizes["zero-out"]


def test_private_refusals() -> None:
    table = simulate.class_shift(2, 300, 0)
    X, y = table.X[:50], table.y[:50]
    label = Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="label")
    record = Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="record")
    owner = Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="owner")
    with pytest.raises(PrivacyError, match="ClassMeanClassifier"):
        MixtureClassifier(classes=[0, 1]).fit(X, y, ledger=label)
    learner = ClassMeanClassifier(classes=[0, 1], random_state=0)
    with pytest.raises(PrivacyError, match="raw rows"):
        learner.fit(X, y, X_pool=learner.map_pool(table.X), ledger=record)
    for kind in ("mixture", "trees"):
        with pytest.raises(InputError, match="public pool"):
            ClassMeanClassifier(kind, classes=[0, 1]).fit(X, y, X_pool=table.X, ledger=record)
    with pytest.raises(InputError, match="owners of X"):
        learner.fit(X, y, ledger=owner)
    with pytest.raises(InputError, match="owners of X_pool"):
        learner.fit(X, y, X_pool=table.X, owners=np.zeros(50), ledger=owner)
    with pytest.raises(InputError, match="without a ledger"):
        learner.fit(X, y, epsilon=1.0)
    assert not label.history() and not record.history() and not owner.history()
    with pytest.warns(PublicAssumptionWarning, match="classes"):
        ClassMeanClassifier(random_state=0).fit(X, y, ledger=label)
    frame = pd.DataFrame({"maker": ["a", "b"] * 25, "age": X[:, 0]})
    with pytest.warns(PublicAssumptionWarning, match="categories"):
        learner.fit(frame, y, ledger=record)


def test_without_labelled_rows_a_private_fit_still_releases() -> None:
    """Under unit record the number of labelled rows is private: none must look like some."""
    table = simulate.class_shift(2, 300, 0).table
    with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="record") as ledger:
        learner = ClassMeanClassifier(classes=[0, 1], random_state=0)
        learner.fit(table.take(slice(0)), np.empty(0), X_pool=table, ledger=ledger)
        assert len(ledger.history()) == 4
        assert np.isfinite(learner.predict_proba(table)).all()


# The map, learned once


@pytest.mark.parametrize("learner", ALL)
def test_a_pool_map_gives_what_the_pool_gives(learner: Any) -> None:
    table = simulate.class_shift(2, 500, 0)
    estimator = learner(random_state=0)
    mapped = estimator.map_pool(table.X)
    unchanged = copy.deepcopy(mapped)
    direct = clone(estimator).fit(table.X[:60], table.y[:60], X_pool=table.X).predict_proba(table.X)
    for _ in range(2):
        again = clone(estimator).fit(table.X[:60], table.y[:60], X_pool=mapped).predict_proba(table.X)
        np.testing.assert_array_equal(direct, again)
    if hasattr(mapped, "representation_"):
        reference = unchanged.representation_.reference
        np.testing.assert_array_equal(mapped.representation_.reference, reference)


def test_a_map_serves_every_learner_that_maps_and_is_refused_by_the_others() -> None:
    table = simulate.class_shift(2, 500, 0)
    learned = AutoClassifier(random_state=0).map_pool(table.X)
    for learner in (ClassMeanClassifier, LogisticClassifier):
        fitted = learner(random_state=0).fit(table.X[:60], table.y[:60], X_pool=learned)
        assert fitted.representation_ is learned.representation_
    for learner in (MixtureClassifier, RandomTreesClassifier):
        with pytest.raises(InputError, match="takes the rows themselves"):
            learner(random_state=0).fit(table.X[:60], table.y[:60], X_pool=learned)


# Odd tables


@pytest.mark.parametrize("learner", ALL)
def test_odd_tables(learner: Any) -> None:
    rng = np.random.default_rng(0)
    estimator = learner(random_state=0)
    with pytest.warns(DataWarning, match="only the class"):
        one = estimator.fit(rng.standard_normal((6, 3)), np.full(6, "magnet"))
    assert set(one.predict(rng.standard_normal((4, 3)))) == {"magnet"}

    X = rng.standard_normal((40, 5))
    X[:, 1], X[:, 2], X[3] = np.nan, 7.0, np.nan
    y = X[:, 0] > 0
    fitted = clone(estimator).fit(X, np.where(np.isnan(X[:, 0]), False, y))
    assert fitted.classes_.dtype == bool
    P = fitted.predict_proba(np.vstack([np.full(5, np.nan), X]))
    assert np.isfinite(P).all()
    np.testing.assert_allclose(P.sum(axis=1), 1)

    wide = clone(estimator).fit(rng.standard_normal((10, 2308)), np.arange(10) % 3)
    assert wide.predict(rng.standard_normal((2, 2308))).shape == (2,)

    many = clone(estimator).fit(rng.standard_normal((300, 4)), np.arange(300) % 100)
    assert many.predict_proba(X[:5, :4]).shape == (5, 100)

    nothing = clone(estimator).fit(np.full((9, 3), np.nan), [0, 0, 0, 0, 0, 0, 1, 1, 1])
    assert (nothing.predict(np.full((2, 3), np.nan)) == 0).all()

    absent = clone(estimator).set_params(classes=["a", "b", "c"]).fit(X, np.array(["a", "c"])[y.astype(int)])
    assert absent.classes_.tolist() == ["a", "b", "c"]
    assert (absent.predict_proba(X)[:, 1] < 0.5).all()


@pytest.mark.parametrize("learner", ALL)
def test_an_empty_row_is_given_the_class_shares(learner: Any) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.2).astype(int)
    X = rng.standard_normal((400, 6)) + 1.5 * y[:, None]
    X[rng.random(X.shape) < 0.5] = np.nan
    P = learner(random_state=0).fit(X, y).predict_proba(np.full((1, 6), np.nan))
    assert 0.03 < P[0, 1] < 0.45


def test_frames_are_read_by_name_and_category() -> None:
    table = simulate.drives("label", 800, 2, 0)
    makers = np.array(list("abcdef"), dtype=object)
    frame = pd.DataFrame(table.X, columns=list(table.schema.names))
    name = frame.columns[0]
    frame[name] = [makers[int(v)] if v == v else None for v in table.X[:, 0]]
    learner = ClassMeanClassifier(random_state=0).fit(frame[:200], table.y[:200], X_pool=frame)
    assert learner.representation_.kind == "products"
    assert learner.feature_names_in_[0] == name
    codes = ClassMeanClassifier(random_state=0).fit(table.X[:200], table.y[:200], X_pool=table.X)
    np.testing.assert_allclose(learner.predict_proba(frame), codes.predict_proba(table.X), atol=1e-8)
    strange = frame[:3].copy()
    strange[name] = "unheard of"
    assert np.isfinite(learner.predict_proba(strange)).all()


def test_bad_labels_are_named() -> None:
    X = np.random.default_rng(0).standard_normal((4, 2))
    learner = ClassMeanClassifier(random_state=0)
    for y, message in (
        ([0, 1, 0], "3 labels for 4 rows"),
        (["a", None, "b", "a"], "missing labels"),
        ([0.0, np.nan, 1.0, 0.0], "missing labels"),
        (np.array(["a", 1, "b", 2], dtype=object), "mixes|Unknown label type"),
    ):
        with pytest.raises(ValueError, match=message):
            learner.fit(X, y)
    with pytest.raises(InputError, match="did you mean 'magnet'"):
        clone(learner).set_params(classes=["magnet", "none"]).fit(X, ["magnet", "magent", "none", "none"])
    with pytest.raises(InputError, match="infinity"):
        learner.fit(np.where(X > 0, np.inf, X), [0, 1, 0, 1])


def test_resolve_knows_names_and_copies_classifiers() -> None:
    assert isinstance(learners.resolve("auto"), AutoClassifier)
    assert isinstance(learners.resolve("class-mean"), ClassMeanClassifier)
    mine = RandomTreesClassifier(n_trees=3)
    copied = learners.resolve(mine)
    assert copied is not mine and copied.n_trees == 3
    with pytest.raises(InputError, match="did you mean 'mixture'"):
        learners.resolve("mixtures")


def test_the_automatic_choice_takes_the_forest_where_classes_are_boxes() -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (600, 4))
    y = np.where(X[:, 0] > 0, X[:, 1] > 0.3, X[:, 2] > -0.3).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner = AutoClassifier(random_state=0).fit(X[:300], y[:300], X_pool=X)
    assert learner.forest_share_ > 0
    means = ClassMeanClassifier(random_state=0).fit(X[:300], y[:300], X_pool=X)
    assert learner.score(X[300:], y[300:]) > means.score(X[300:], y[300:]) + 0.05


def test_rows_are_thinned_to_what_the_pool_shows() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 10))
    hidden = rng.random(X.shape) < 0.7
    mapped = AutoClassifier(random_state=0).map_pool(np.where(hidden, np.nan, X))
    complete = Table.of(X, schema=mapped.schema)
    thinned = mapped.thinned(complete, rng)
    np.testing.assert_array_equal(thinned.values[thinned.observed], X[thinned.observed])
    assert thinned.observed.mean() == pytest.approx(0.3, abs=0.03)
    sparse = mapped.thinned(mapped.pool, rng)
    assert not (sparse.observed & hidden).any() and 0.2 < sparse.observed.mean() < 0.3
    everything = AutoClassifier(random_state=0).map_pool(X)
    np.testing.assert_array_equal(everything.thinned(complete, rng).values, X)


def test_complete_labelled_rows_do_not_choose_the_forest_for_a_pool_of_few_cells() -> None:
    """Boxes in four columns can be seen where all of them are, and in no row that shows one."""
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, (900, 4))
    y = (X > 0).sum(axis=1) % 2
    shown = np.arange(4) == rng.integers(0, 4, (900, 1))
    shares = [
        AutoClassifier(random_state=0).fit(X[:300], y[:300], X_pool=pool).forest_share_
        for pool in (X, np.where(shown, X, np.nan))
    ]
    assert shares[1] < shares[0]
