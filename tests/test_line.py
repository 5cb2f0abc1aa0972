"""A scorer decides as the model it was made of, one by one and in batches, from many threads, and refuses bad items."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeClassifier

from ppal_fast import PPAL, LineScorer, simulate
from ppal_fast.errors import InputError
from ppal_fast.learners import (
    ClassMeanClassifier,
    LogisticClassifier,
    MixtureClassifier,
    RandomTreesClassifier,
)
from ppal_fast.table import Table

DRIVES = simulate.drives(n_rows=400, n_grades=4, random_state=0)
COMPILED = {
    "products": ClassMeanClassifier("products"),
    "factors": ClassMeanClassifier("factors"),
    "mixture": ClassMeanClassifier("mixture"),
    "columns": ClassMeanClassifier("columns"),
    "logistic": LogisticClassifier("factors"),
    "naive Bayes": MixtureClassifier(),
}


def fitted(learner: Any, table: Table = DRIVES.table, y: Any = DRIVES.y, n: int = 120) -> Any:
    return learner.fit(table.take(np.arange(n)), np.asarray(y)[:n], X_pool=table)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_decisions_are_the_learners(name: str) -> None:
    learner = fitted(COMPILED[name])
    scorer = LineScorer(learner, DRIVES.schema, threshold=0.1)
    assert scorer.compiled
    P = learner.predict_proba(DRIVES.table)
    np.testing.assert_allclose(scorer.predict_proba(DRIVES.X), P, rtol=0, atol=1e-9)
    many = scorer.decide_many(DRIVES.X)
    assert many.label.tolist() == learner.classes_[P.argmax(axis=1)].tolist()
    np.testing.assert_allclose(many.probability, P.max(axis=1), atol=1e-9)
    assert many.query.tolist() == (many.uncertainty >= 0.1).tolist()
    assert 0 < many.query.mean() < 1
    for i in range(50):
        assert scorer.decide(DRIVES.X[i]) == tuple(array[i] for array in many)


def test_heavy_tails_are_interpolated_as_the_learner_does() -> None:
    rng = np.random.default_rng(0)
    X = np.exp(2 * rng.normal(size=(400, 5)))
    X[rng.random(X.shape) < 0.4] = np.nan
    y = (np.nan_to_num(X[:, 0]) > 1).astype(int)
    learner = fitted(ClassMeanClassifier("factors"), Table.of(X), y)
    assert learner.representation_.cells.scores
    scorer = LineScorer(learner, learner.schema_, threshold=0.1)
    extreme = np.vstack([X, np.full((1, 5), 1e12), np.full((1, 5), -1e12)])
    np.testing.assert_allclose(scorer.predict_proba(extreme), learner.predict_proba(extreme), atol=1e-9)


@pytest.mark.parametrize("learner", [RandomTreesClassifier(n_trees=5)], ids=["random trees"])
def test_other_learners_are_called_as_they_are(learner: Any) -> None:
    learner = fitted(learner)
    scorer = LineScorer(learner, DRIVES.schema, threshold=0.1)
    assert not scorer.compiled
    P = learner.predict_proba(DRIVES.table)
    np.testing.assert_array_equal(scorer.predict_proba(DRIVES.X), P)
    many = scorer.decide_many(DRIVES.X[:20])
    one = [scorer.decide(x) for x in DRIVES.X[:20]]
    assert [d.label for d in one] == many.label.tolist()
    assert [d.probability for d in one] == pytest.approx(many.probability, abs=1e-12)
    assert isinstance(one[0].query, bool)


def test_one_class_is_decided_without_doubt() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner = fitted(ClassMeanClassifier("columns"), y=np.zeros(len(DRIVES), dtype=int))
    scorer = LineScorer(learner, DRIVES.schema, threshold=0.1)
    assert scorer.decide(DRIVES.X[0]) == (0, 1.0, 0.0, False)


def test_labels_are_the_users() -> None:
    learner = fitted(ClassMeanClassifier("factors"), y=np.array(["none", "low", "mid", "high"])[DRIVES.y])
    scorer = LineScorer(learner, DRIVES.schema, threshold=0.1)
    assert scorer.decide(DRIVES.X[0]).label in {"none", "low", "mid", "high"}
    assert set(scorer.decide_many(DRIVES.X).label.tolist()) <= {"none", "low", "mid", "high"}


def ask_rounds(**options: Any) -> PPAL:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = PPAL(n_per_round=40, n_rounds=2, random_state=0, **options)
        return loop.run(DRIVES.table, lambda rows: DRIVES.y[rows])


@pytest.mark.parametrize("learner", ["class-mean", "auto", "random-trees"])
def test_from_ppal_agrees_with_the_loop(learner: str) -> None:
    loop = ask_rounds(learner=learner)
    scorer = LineScorer.from_ppal(loop)
    np.testing.assert_allclose(scorer.predict_proba(DRIVES.table), loop.predict_proba(DRIVES.table), atol=1e-9)
    assert scorer.decide_many(DRIVES.table).query.mean() == pytest.approx(0.1, abs=0.02)
    assert LineScorer.from_ppal(loop, threshold=0.0).decide_many(DRIVES.table).query.all()


@pytest.mark.parametrize(("unit", "looks_at_the_pool"), [("label", True), ("record", False)])
def test_the_threshold_of_a_private_model_looks_only_at_what_is_public(unit: str, looks_at_the_pool: bool) -> None:
    loop = ask_rounds(epsilon=2.0, unit=unit, classes=[0, 1, 2, 3], learner="class-mean", strategy="random")
    before = [release.name for release in loop.ledger_.history()]
    scorer = LineScorer.from_ppal(loop)
    assert (scorer.threshold != 0.1) == looks_at_the_pool
    assert [release.name for release in loop.ledger_.history()] == before, "post-processing is free"


def test_other_peoples_classifiers_are_called() -> None:
    loop = ask_rounds(learner=DecisionTreeClassifier(max_depth=3))
    scorer = LineScorer.from_ppal(loop)
    assert not scorer.compiled
    np.testing.assert_array_equal(scorer.predict_proba(DRIVES.table), loop.predict_proba(DRIVES.table))


def test_threads_do_not_disturb_one_another() -> None:
    scorer = LineScorer(fitted(COMPILED["products"]), DRIVES.schema, threshold=0.1)
    expected = [scorer.decide(x) for x in DRIVES.X]
    with ThreadPoolExecutor(4) as pool:
        one = [pool.submit(lambda: [scorer.decide(x) for x in DRIVES.X]) for _ in range(8)]
        many = [pool.submit(scorer.predict_proba, DRIVES.X) for _ in range(8)]
        assert all(f.result() == expected for f in one)
        assert all(np.array_equal(f.result(), many[0].result()) for f in many)


@pytest.fixture(scope="module")
def scorer() -> LineScorer:
    return LineScorer(fitted(COMPILED["factors"]), DRIVES.schema, threshold=0.1)


@pytest.mark.parametrize("read", [list, tuple, pd.Series, lambda x: x.astype(">f8"), lambda x: np.repeat(x, 2)[::2]])
def test_an_item_may_come_as_any_sequence_of_numbers(scorer: LineScorer, read: Any) -> None:
    x = DRIVES.X[3]
    assert scorer.decide(read(x)) == scorer.decide(x)
    assert scorer.decide([None if np.isnan(v) else v for v in x]) == scorer.decide(x)


def test_an_item_of_whole_numbers(scorer: LineScorer) -> None:
    assert scorer.decide([1] * 50) == scorer.decide(np.ones(50))


def test_an_item_without_a_cell_is_decided_and_never_asked(scorer: LineScorer) -> None:
    decision = scorer.decide(np.full(50, np.nan))
    assert decision.uncertainty == 0.0
    assert not decision.query


def test_frames_and_empty_belts(scorer: LineScorer) -> None:
    frame = pd.DataFrame(DRIVES.X, columns=DRIVES.schema.names)
    for j in DRIVES.schema.categorical:
        levels = DRIVES.schema.levels[j]
        assert levels is not None
        frame.isetitem(j, [None if np.isnan(v) else levels[int(v)] for v in DRIVES.X[:, j]])
    np.testing.assert_array_equal(scorer.predict_proba(frame), scorer.predict_proba(DRIVES.X))
    assert all(len(array) == 0 for array in scorer.decide_many(np.empty((0, 50))))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros(49), r"x has shape \(49,\); \(50,\) is expected"),
        (np.zeros((1, 50)), "x could not be read as numbers|x has shape"),
        (["1.0"] * 50, "x could not be read as numbers; 50 numbers are expected"),
        ("one item", "x could not be read as numbers"),
        (3.0, "x could not be read as numbers"),
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
    with pytest.raises(InputError, match="X has an infinite value in row 1"):
        scorer.decide_many(bad)
    with pytest.raises(InputError, match="X has an infinite value in row 1"):
        scorer.decide_many(Table(bad, DRIVES.schema))
    with pytest.raises(InputError, match="threshold was -1"):
        LineScorer(scorer.learner, DRIVES.schema, threshold=-1)


CALLER = """
# cython: language_level=3
from ppal_fast.kernels._line cimport Scorer, Verdict, decide
from libc.stdlib cimport free, malloc

def labels(Scorer scorer, const double[:, ::1] X):
    cdef Verdict verdict
    cdef double *work = <double *> malloc((scorer.model.n_work + scorer.model.n_classes) * sizeof(double))
    cdef Py_ssize_t i
    out = []
    for i in range(X.shape[0]):
        with nogil:
            decide(&scorer.model, scorer.threshold, &X[i, 0], work, work + scorer.model.n_work, &verdict)
        out.append((verdict.label, verdict.probability, verdict.uncertainty, verdict.query))
    free(work)
    return out
"""
BUILD = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
setup(
    name="caller", script_args=["-q", "build_ext", "--inplace"],
    ext_modules=cythonize([Extension("caller", ["caller.pyx"])], quiet=True, include_path=sys.path),
)
"""


def test_other_cython_code_decides_bit_for_bit(
    scorer: LineScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("Cython")
    (tmp_path / "caller.pyx").write_text(CALLER)
    (tmp_path / "build_caller.py").write_text(BUILD)
    root = str(Path(sys.modules["ppal_fast"].__file__ or "").parents[1])
    built = subprocess.run(
        [sys.executable, "build_caller.py"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": root, "CFLAGS": "-O0"},
    )
    assert built.returncode == 0, built.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    import caller  # type: ignore[import-not-found]

    many = scorer.decide_many(DRIVES.X)
    code = np.searchsorted(scorer.classes_, many.label)
    expected = list(zip(code, many.probability, many.uncertainty, many.query, strict=True))
    assert caller.labels(scorer.kernel, DRIVES.X) == expected
