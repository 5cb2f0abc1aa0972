"""A scorer decides as the model it was made of, one by one and in batches, from many threads, and refuses bad items."""

from __future__ import annotations

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeClassifier

from ppal_fast import PPAL, LineScorer, simulate
from ppal_fast.errors import InputError
from ppal_fast.learners import (
    AutoClassifier,
    ClassMeanClassifier,
    DecayedMeans,
    LogisticClassifier,
    MixtureClassifier,
    RandomTreesClassifier,
    learn_representation,
)
from ppal_fast.table import Table

DRIVES = simulate.drives(n_rows=400, n_grades=4, random_state=0)
FRESH = simulate.drives(n_rows=200, n_grades=4, random_state=1)
LEARNERS = {
    **{kind: ClassMeanClassifier(kind, random_state=0) for kind in ("products", "factors", "both", "trees", "columns")},
    "logistic": LogisticClassifier("mixture", random_state=0),
    "naive Bayes": MixtureClassifier(random_state=0),
    "random trees": RandomTreesClassifier(random_state=0),
    "auto": AutoClassifier(random_state=0),
}


def fitted(learner: Any, table: Table = DRIVES.table, y: Any = DRIVES.y, n: int = 120) -> Any:
    return learner.fit(table.take(np.arange(n)), np.asarray(y)[:n], X_pool=table)


def scorer_of(learner: Any, table: Table = DRIVES.table, **options: Any) -> LineScorer:
    return LineScorer.from_learner(learner, table.schema, **{"threshold": 0.1, "pool": table, **options})


@pytest.mark.parametrize("name", LEARNERS)
def test_compiled_decisions_are_the_learners(name: str) -> None:
    learner = fitted(LEARNERS[name])
    if name == "auto":
        assert learner.forest_ is not None, "this table has to need the forest"
    scorer = scorer_of(learner)
    P = learner.predict_proba(FRESH.table)
    np.testing.assert_allclose(scorer.predict_proba(FRESH.X), P, rtol=0, atol=1e-12)
    many = scorer.decide_many(FRESH.X)
    assert many.label.tolist() == learner.classes_[P.argmax(axis=1)].tolist()
    assert many.query.tolist() == (many.uncertainty >= 0.1).tolist()
    assert many.log_density_ratio is None
    for i in range(50):
        assert scorer.decide(FRESH.X[i]) == (*(array[i] for array in many[:4]), None)


def test_decayed_means_are_compiled_too() -> None:
    learner = DecayedMeans(learn_representation(DRIVES.table, random_state=0), range(4))
    learner.update(DRIVES.table.take(np.arange(100)), DRIVES.y[:100])
    P = scorer_of(learner).predict_proba(FRESH.X)
    np.testing.assert_allclose(P, learner.predict_proba(FRESH.table), rtol=0, atol=1e-12)


def test_heavy_tails_are_interpolated_as_the_learner_does() -> None:
    rng = np.random.default_rng(0)
    X = np.exp(2 * rng.normal(size=(400, 5)))
    X[rng.random(X.shape) < 0.4] = np.nan
    y = (np.nan_to_num(X[:, 0]) > 1).astype(int)
    learner = fitted(ClassMeanClassifier("factors"), Table.of(X), y)
    assert learner.representation_.cells.scores
    extreme = np.vstack([X, np.full((1, 5), 1e12), np.full((1, 5), -1e12)])
    P = scorer_of(learner, Table.of(X)).predict_proba(extreme)
    np.testing.assert_allclose(P, learner.predict_proba(extreme), atol=1e-12)


def test_one_class_is_decided_without_doubt() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner = fitted(ClassMeanClassifier("columns"), y=np.zeros(len(DRIVES), dtype=int))
    assert scorer_of(learner).decide(DRIVES.X[0]) == (0, 1.0, 0.0, False, None)


def test_labels_are_the_users() -> None:
    learner = fitted(ClassMeanClassifier("factors"), y=np.array(["none", "low", "mid", "high"])[DRIVES.y])
    scorer = scorer_of(learner)
    assert type(scorer.decide(DRIVES.X[0]).label) is str
    assert scorer.classes_.tolist() == learner.classes_.tolist()
    assert set(scorer.decide_many(DRIVES.X).label.tolist()) <= {"none", "low", "mid", "high"}


def ask_rounds(**options: Any) -> PPAL:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = PPAL(n_per_round=40, n_rounds=2, random_state=0, **options)
        return loop.run(DRIVES.table, lambda rows: DRIVES.y[rows])


@pytest.mark.parametrize("learner", ["class-mean", "auto", "random-trees", "logistic", "mixture"])
def test_from_ppal_agrees_with_the_loop(learner: str) -> None:
    loop = ask_rounds(learner=learner)
    scorer = LineScorer.from_ppal(loop)
    np.testing.assert_allclose(scorer.predict_proba(FRESH.table), loop.predict_proba(FRESH.table), rtol=0, atol=1e-12)
    assert scorer.decide_many(DRIVES.table).query.mean() == pytest.approx(0.1, abs=0.02)
    assert LineScorer.from_ppal(loop, threshold=0.0).decide_many(DRIVES.table).query.all()
    assert (scorer.feature_names, scorer.n_features_in_) == (DRIVES.schema.names, 50)
    ratio = scorer.decide_many(FRESH.X).log_density_ratio
    assert np.isfinite(ratio).all()
    assert LineScorer.from_ppal(loop, density=False).decide(FRESH.X[0]).log_density_ratio is None


def test_the_ratio_is_low_where_the_labels_are() -> None:
    learner = fitted(ClassMeanClassifier("columns"))
    near = np.flatnonzero(DRIVES.X[:, 0] == 1)
    scorer = scorer_of(learner, labelled=DRIVES.table.take(near))
    ratio = scorer.decide_many(FRESH.X).log_density_ratio
    assert np.median(ratio[FRESH.X[:, 0] == 1]) < np.median(ratio[FRESH.X[:, 0] == 0]) - 1


def test_other_peoples_classifiers_are_refused() -> None:
    with pytest.raises(InputError, match="a DecisionTreeClassifier has no compiled form"):
        LineScorer.from_ppal(ask_rounds(learner=DecisionTreeClassifier(max_depth=3)))


def test_threads_do_not_disturb_one_another() -> None:
    scorer = scorer_of(fitted(LEARNERS["products"]), labelled=DRIVES.table)
    expected = [scorer.decide(x) for x in DRIVES.X]
    with ThreadPoolExecutor(4) as pool:
        one = [pool.submit(lambda: [scorer.decide(x) for x in DRIVES.X]) for _ in range(8)]
        many = [pool.submit(scorer.verdicts, DRIVES.X) for _ in range(8)]
        assert all(f.result() == expected for f in one)
        assert all(f.result().tobytes() == many[0].result().tobytes() for f in many)
    assert scorer.drift().n_items == 17 * len(DRIVES)


@pytest.fixture(scope="module")
def scorer() -> LineScorer:
    return scorer_of(fitted(LEARNERS["factors"]))


def read_only(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    "read",
    [list, tuple, pd.Series, read_only, lambda x: x.astype(">f8"), lambda x: np.repeat(x, 2)[::2],
     lambda x: np.ma.masked_array(np.nan_to_num(x), np.isnan(x)), lambda x: x.astype(object)],
)
def test_an_item_may_come_as_any_sequence_of_numbers(scorer: LineScorer, read: Any) -> None:
    x = DRIVES.X[3]
    assert scorer.decide(read(x)) == scorer.decide(x)
    assert scorer.decide([None if np.isnan(v) else v for v in x]) == scorer.decide(x)


def test_items_of_other_numbers(scorer: LineScorer) -> None:
    x = np.arange(50) % 3
    for other in (list(x), x, x.astype(np.float32), x.astype(np.uint8)):
        assert scorer.decide(other) == scorer.decide(x.astype(float))
    single = DRIVES.X.astype(np.float32)
    assert scorer.verdicts(single).tobytes() == scorer.verdicts(single.astype(float)).tobytes()
    assert scorer.verdicts(np.asfortranarray(DRIVES.X)).tobytes() == scorer.verdicts(DRIVES.X).tobytes()


def test_an_item_without_a_cell_is_decided_and_never_asked(scorer: LineScorer) -> None:
    n_items = scorer.drift().n_items
    decision = scorer.decide(np.full(50, np.nan))
    assert decision.uncertainty == 0.0
    assert not decision.query
    assert scorer.drift().n_items == n_items, "it says nothing of drift either"


def test_frames_and_empty_belts(scorer: LineScorer) -> None:
    frame = pd.DataFrame(DRIVES.X, columns=DRIVES.schema.names)
    for j in DRIVES.schema.categorical:
        levels = DRIVES.schema.levels[j]
        assert levels is not None
        frame.isetitem(j, [None if np.isnan(v) else levels[int(v)] for v in DRIVES.X[:, j]])
    np.testing.assert_array_equal(scorer.predict_proba(frame), scorer.predict_proba(DRIVES.X))
    assert all(array is None or len(array) == 0 for array in scorer.decide_many(np.empty((0, 50))))
    assert scorer.predict_proba(np.empty((0, 50))).shape == (0, 4)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros(49), r"x has shape \(49,\); \(50,\) is expected"),
        (np.zeros((1, 50)), r"x has shape \(1, 50\); \(50,\) is expected"),
        (np.zeros(0), r"x has shape \(0,\); \(50,\) is expected"),
        (["1.0"] * 50, "x could not be read as numbers; 50 numbers are expected"),
        (np.array(["1"] * 50), "x could not be read as numbers"),
        (np.zeros(50, dtype=complex), "x could not be read as numbers"),
        ("one item", "x could not be read as numbers"),
        (3.0, "x could not be read as numbers"),
        (None, "x could not be read as numbers"),
        (np.r_[np.inf, np.zeros(49)], "x has an infinite value in column 0"),
        ([0.0] * 49 + [-np.inf], "x has an infinite value in column 49"),
    ],
)
def test_a_bad_item_is_refused_in_one_sentence(scorer: LineScorer, x: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        scorer.decide(x)


def test_a_bad_belt_is_refused(scorer: LineScorer) -> None:
    with pytest.raises(InputError, match="X has 49 columns; 50 are expected"):
        scorer.decide_many(np.zeros((2, 49)))
    bad = np.zeros((3, 50))
    bad[1, 7] = np.inf
    for belt in (bad, Table(bad, DRIVES.schema)):
        with pytest.raises(InputError, match="X has an infinite value in row 1"):
            scorer.decide_many(belt)


@pytest.mark.parametrize("options", [{"threshold": -1}, {"queries_per_hour": 0}, {"queries_per_hour": float("inf")}])
def test_bad_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))} was"):
        scorer_of(fitted(LEARNERS["columns"]), **options)


def test_a_scorer_can_be_pickled(scorer: LineScorer) -> None:
    again = pickle.loads(pickle.dumps(scorer))
    assert again.model_id == scorer.model_id
    assert again.decide(DRIVES.X[0]) == scorer.decide(DRIVES.X[0])
