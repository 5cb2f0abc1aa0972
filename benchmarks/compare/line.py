"""One item at a time: the line scorer, the same model as the scikit-learn estimator that it was made of, scikit-learn
pipelines of the same shape (impute, scale, project, softmax; trees on imputed cells), and those under onnxruntime.

Every contestant decides the same items of 50 columns, 80 % missing, one after the other, and gives class probabilities;
the column "error" is the share of wrong labels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from benchmarks.compare.contest import Contestant, compete
from ppal_fast import LineScorer, simulate
from ppal_fast.learners import AutoClassifier, ClassMeanClassifier

N_POOL, N_LABELLED, N_ITEMS = 3_000, 200, 200
POOL = simulate.drives(n_rows=N_POOL, random_state=0)
ITEMS = simulate.drives(n_rows=N_ITEMS, random_state=1)
ONNX = ("skl2onnx", "onnxruntime")


def main() -> None:
    for name, learner, pipeline in (
        ("linear on a map", ClassMeanClassifier("factors", random_state=0), _linear_pipeline),
        ("100 trees", AutoClassifier(random_state=0), _forest_pipeline),
    ):
        compete(
            f"{N_ITEMS} items, one by one: {name}",
            [
                Contestant("ppal_fast, LineScorer.decide", lambda learner=learner: _scorer(learner)),
                Contestant("the same model, predict_proba", lambda learner=learner: _estimator(_fitted(learner))),
                Contestant("scikit-learn pipeline", lambda pipeline=pipeline: _estimator(pipeline(), POOL.X)),
                Contestant("the pipeline, onnxruntime", lambda pipeline=pipeline: _onnx(pipeline()), ONNX),
            ],
            {"error": lambda labels: float(np.mean(np.asarray(labels) != ITEMS.y))},
        )


@cache
def _fitted(learner: Any) -> Any:
    rows = np.arange(N_LABELLED)
    return learner.fit(POOL.table.take(rows), POOL.y[rows], X_pool=POOL.table)


def _scorer(learner: Any) -> Callable[[], list[Any]]:
    decide = LineScorer.from_learner(_fitted(learner), POOL.schema, threshold=0.1, pool=POOL.table).decide
    items = [row.copy() for row in ITEMS.X]
    return lambda: [decide(item).label for item in items]


def _estimator(model: Any, X: Any = None) -> Callable[[], list[Any]]:
    if X is not None:
        model.fit(X[:N_LABELLED], POOL.y[:N_LABELLED])
    items = [row[None].copy() for row in ITEMS.X]
    return lambda: [int(model.predict_proba(item).argmax()) for item in items]


def _onnx(pipeline: Any) -> Callable[[], list[Any]]:
    import onnxruntime
    from skl2onnx import to_onnx

    pipeline.fit(POOL.X[:N_LABELLED], POOL.y[:N_LABELLED])
    exported = to_onnx(pipeline, ITEMS.X[:1].astype(np.float32), options={"zipmap": False})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported.SerializeToString(), options, providers=["CPUExecutionProvider"])
    items = [row[None].astype(np.float32) for row in ITEMS.X]
    return lambda: [int(session.run(["probabilities"], {"X": item})[0].argmax()) for item in items]


def _linear_pipeline() -> Any:
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(SimpleImputer(), StandardScaler(), PCA(8, whiten=True), LogisticRegression())


def _forest_pipeline() -> Any:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(SimpleImputer(), ExtraTreesClassifier(100, random_state=0))
