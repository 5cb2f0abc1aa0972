"""What each query strategy must do, and what one record may do to the choice of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from ppal_fast import query, simulate
from ppal_fast.errors import InputError, PrivacyError
from ppal_fast.query import STRATEGIES, Context, Strategy
from ppal_fast.table import Schema

ITEM_LOCAL = [s for s in STRATEGIES.values() if s.stability == "item-local"]
TOP_K = [s for s in STRATEGIES.values() if s.stability == "top-k"]


class ReleasedModel:
    """Fixed weights on zero-filled cells: what a release left behind, the same in both worlds."""

    def __init__(self, n_columns: int, n_classes: int = 3, seed: int = 0) -> None:
        self.weights = np.random.default_rng(seed).normal(size=(n_columns, n_classes))
        self.classes_ = np.arange(n_classes)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        logits = np.clip(np.nan_to_num(X) @ self.weights, -50, 50)
        P = np.exp(logits - logits.max(axis=1, keepdims=True))
        return P / P.sum(axis=1, keepdims=True)


def zero_filled(X: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(X), -5, 5)


def context_of(X: np.ndarray, *, labelled: Any = (), y: Any = (), **changes: Any) -> Context:
    labelled = np.asarray(labelled, dtype=np.intp)
    fields = {
        "learner": ReleasedModel(X.shape[1]), "n": 20, "rng": np.random.default_rng(7),
        "candidates": np.setdiff1d(np.arange(len(X)), labelled),
    }
    return Context(
        X=X, observed=~np.isnan(X), labelled=labelled, y=np.asarray(y, dtype=np.intp), **(fields | changes)
    )


@pytest.fixture(scope="module")
def pool() -> np.ndarray:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(500, 12))
    X[rng.random(X.shape) < 0.7] = np.nan
    X[0], X[1], X[2] = np.nan, 1e6, -1e6
    return X


@pytest.fixture(scope="module")
def logistic(pool: np.ndarray) -> Any:
    model = make_pipeline(FunctionTransformer(zero_filled), LogisticRegression())
    return model.fit(pool[:60], np.arange(60) % 3)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=lambda s: s.name)
class TestEveryStrategy:
    def test_asks_distinct_candidates(self, strategy: Strategy, pool: np.ndarray, logistic: Any) -> None:
        context = context_of(pool, labelled=np.arange(60), y=np.arange(60) % 3, learner=logistic)
        rows = strategy.select(context)
        assert len(rows) == 20
        assert len(np.unique(rows)) == 20
        assert np.isin(rows, context.candidates).all()

    def test_the_same_seed_asks_the_same_rows(self, strategy: Strategy, pool: np.ndarray, logistic: Any) -> None:
        first, second = (
            strategy.select(context_of(pool, labelled=np.arange(60), y=np.arange(60) % 3, learner=logistic))
            for _ in range(2)
        )
        assert first.tolist() == second.tolist()

    @pytest.mark.parametrize("n_left", [0, 1, 7])
    def test_a_pool_smaller_than_the_batch_is_asked_whole(
        self, strategy: Strategy, pool: np.ndarray, logistic: Any, n_left: int
    ) -> None:
        candidates = np.arange(100, 100 + n_left)
        context = context_of(
            pool, labelled=np.arange(60), y=np.arange(60) % 3, learner=logistic, candidates=candidates
        )
        assert sorted(strategy.select(context)) == candidates.tolist()

    def test_one_class_so_far(self, strategy: Strategy, pool: np.ndarray) -> None:
        if strategy.uses_labels:
            pytest.skip("refits the learner, which here is fixed")
        context = context_of(
            pool, labelled=np.arange(5), y=np.zeros(5), learner=ReleasedModel(pool.shape[1], n_classes=1)
        )
        assert len(np.unique(strategy.select(context))) == 20

    def test_empty_constant_and_duplicate_rows(self, strategy: Strategy) -> None:
        X = np.full((80, 4), np.nan)
        X[:, 1] = 3.0
        X[40:, 0] = 1.0
        if strategy.uses_labels:
            learner = make_pipeline(FunctionTransformer(zero_filled), LogisticRegression()).fit(
                np.nan_to_num(X[:6]), [0, 1] * 3
            )
        else:
            learner = ReleasedModel(4)
        context = context_of(X, labelled=np.arange(6), y=[0, 1] * 3, learner=learner)
        assert len(np.unique(strategy.select(context))) == 20

    def test_without_a_model(self, strategy: Strategy, pool: np.ndarray) -> None:
        context = context_of(pool, learner=None)
        if strategy.needs_model:
            with pytest.raises(InputError, match="needs a fitted learner"):
                strategy.select(context)
        else:
            assert len(strategy.select(context)) == 20

    def test_says_what_it_costs(self, strategy: Strategy) -> None:
        assert strategy.summary.endswith(".")
        assert "unit" in strategy.summary


# ---------------------------------------------------------------- one record against the others


def without(context: Context, record: int, rng_seed: int) -> Context:
    """The other world: the record contributes nothing and cannot be asked; the roster keeps its place."""
    X = context.X.copy()
    X[record] = np.nan
    keep = context.labelled != record
    return replace(
        context, X=X, observed=~np.isnan(X), candidates=context.candidates[context.candidates != record],
        labelled=context.labelled[keep], y=context.y[keep], rng=np.random.default_rng(rng_seed),
    )


def transcript(context: Context, n_rounds: int = 5) -> list[tuple[Any, dict[str, Any]]]:
    """Released models and noisy histograms, one a round, fixed before either world is run."""
    releases: list[tuple[Any, dict[str, Any]]] = [(None, {})]
    for t in range(1, n_rounds):
        model = ReleasedModel(context.X.shape[1], seed=t)
        counts = query.histogram_rows(replace(context, learner=model)).sum(axis=0)
        noise = np.random.default_rng(t).normal(0, 3, size=len(counts))
        releases.append((model, {"score_histogram": counts + noise}))
    return releases


def replay(strategy: Strategy, context: Context, removed: int | None, releases: Any) -> list[list[int]]:
    """The rows asked in each round, the removed record left out; the same coins in both worlds."""
    asked = []
    for t, (learner, released) in enumerate(releases):
        context = replace(context, rng=np.random.default_rng(100 + t), learner=learner, released=released)
        world = context if removed is None else without(context, removed, 100 + t)
        assert strategy.select_item_local is not None
        rows = strategy.select_item_local(world, 0.08)
        asked.append([r for r in rows.tolist() if r != removed])
        context = replace(context, candidates=np.setdiff1d(context.candidates, rows))
    return asked


@pytest.mark.parametrize("strategy", ITEM_LOCAL, ids=lambda s: s.name)
def test_forced_transcript(strategy: Strategy, pool: np.ndarray) -> None:
    """Item-local: whatever record is removed, every other record is asked in the same round as before."""
    context = context_of(pool)
    releases = transcript(context)
    full = replay(strategy, context, None, releases)
    records = [0, 1, 2, *np.random.default_rng(1).choice(np.arange(3, len(pool)), 97, replace=False)]
    assert len({r for rows in full for r in rows}) > 100
    for record in records:
        expected = [[r for r in rows if r != record] for rows in full]
        assert replay(strategy, context, int(record), releases) == expected, record


@pytest.mark.parametrize("strategy", TOP_K, ids=lambda s: s.name)
def test_top_k_lets_at_most_one_other_in(strategy: Strategy, pool: np.ndarray) -> None:
    context = context_of(pool)
    full = set(strategy.select(replace(context, rng=np.random.default_rng(3))).tolist())
    changed = 0
    for record in full | set(range(60)):
        other = set(strategy.select(without(context, record, 3)).tolist())
        difference = (full ^ other) - {record}
        assert len(difference) <= 1, record
        changed += len(difference)
    assert changed == 20, "each chosen record makes room for exactly one other"


def test_forced_transcript_sees_a_rule_that_is_not_item_local(pool: np.ndarray) -> None:
    """The attack works: a cut-off from the raw scores is caught."""

    def raw_quantile(context: Context, rate: float) -> np.ndarray:
        score = np.nansum(np.clip(context.X, -5, 5), axis=1)
        return context.candidates[score[context.candidates] > np.quantile(score[context.candidates], 1 - rate)]

    rule = Strategy(
        "raw", lambda c: c.candidates[:0], "item-local", False, False, "", select_item_local=raw_quantile
    )
    context = context_of(pool)
    releases = transcript(context)
    full = replay(rule, context, None, releases)
    assert any(replay(rule, context, r, releases) != [[q for q in rows if q != r] for rows in full] for r in range(20))


def test_item_local_rates(pool: np.ndarray) -> None:
    context = context_of(np.tile(pool, (10, 1)))
    random = STRATEGIES["random"].select_item_local
    threshold = STRATEGIES["threshold"].select_item_local
    assert random is not None
    assert threshold is not None
    assert random(context, 0.0).size == 0
    assert len(random(context, 1.0)) == len(context.X)
    assert len(random(context, 0.1)) == pytest.approx(500, abs=100)
    released = {"score_histogram": query.histogram_rows(context).sum(axis=0)}
    asked = threshold(replace(context, released=released), 0.02)
    assert len(asked) == pytest.approx(100, abs=50)
    score = query.scored._entropy_score(context)
    assert score[asked].min() > np.quantile(score, 0.7)


def test_a_histogram_without_mass_asks_at_random(pool: np.ndarray) -> None:
    threshold = STRATEGIES["threshold"].select_item_local
    assert threshold is not None
    context = context_of(pool, released={"score_histogram": np.full(20, -3.0)})
    assert 0 < len(threshold(context, 0.2)) < 200


def test_histogram_rows_are_bounded_and_zero_for_who_is_not_asked(pool: np.ndarray) -> None:
    context = context_of(pool, labelled=np.arange(60), y=np.zeros(60))
    rows = query.histogram_rows(context)
    assert rows[:60].sum() == 0
    assert (rows[60:].sum(axis=1) == 1).all()
    assert set(np.unique(rows)) == {0.0, 1.0}


# ---------------------------------------------------------------- the rules themselves


def test_uncertainty_prefers_what_is_observed(pool: np.ndarray) -> None:
    """The empty row has the largest entropy of all, and is not asked."""
    for name in ("entropy", "margin", "density", "qubo"):
        assert 0 not in STRATEGIES[name].select(context_of(pool, labelled=np.arange(3, 60), y=np.arange(57) % 3))


def test_typical_points_find_every_class_of_separated_clusters() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(6), [400, 300, 150, 80, 40, 30])
    X = rng.normal(size=(len(y), 10)) + 6 * rng.normal(size=(6, 10))[y]
    X[rng.random(X.shape) < 0.3] = np.nan
    rows = query.cold_start(context_of(X, n=12))
    assert set(y[rows]) == set(range(6))
    assert (~np.isnan(X[rows])).mean() > (~np.isnan(X)).mean()


def test_typical_points_of_small_wide_tables_seldom_leave_a_group_out() -> None:
    centres = np.random.default_rng(0).normal(0, 1, (4, 200))
    missed = 0
    for seed in range(40):
        group = np.repeat([0, 1, 2, 3], [14, 12, 6, 4])
        X = centres[group] + np.random.default_rng(seed).normal(0, 2.5, (36, 200))
        rows = query.cold_start(context_of(X, n=10, rng=np.random.default_rng(seed)))
        missed += len(set(group[rows])) < 4
    assert missed <= 2  # a single start of k-means misses a group in one draw of eight


def test_typical_points_go_where_no_label_is() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 100)
    X = rng.normal(size=(400, 5)) * 0.3 + 6 * rng.normal(size=(4, 5))[y]
    labelled = np.flatnonzero(y < 2)[::10]
    rows = query.cold_start(context_of(X, n=2, labelled=labelled, y=y[labelled], learner=None))
    assert set(y[rows]) <= {2, 3}


def test_design_explains_more_than_random_under_noise() -> None:
    """Anisotropic rows and a noisy release: the switch takes the design, and it is the better one."""
    from ppal_fast.kernels.selection import explained_share

    rng = np.random.default_rng(1)
    phi = rng.normal(size=(2000, 6)) * np.array([1.0, 0.5, 0.3, 0.2, 0.1, 0.05])
    phi = np.column_stack([np.full(2000, 0.4), phi / np.linalg.norm(phi, axis=1).max()]) / np.sqrt(1.16)
    context = context_of(phi, representation=phi, learner=None, n=40, released={"noise": 9.0})
    chosen = STRATEGIES["design"].select(context)
    moment, prior = phi.T @ phi / 2000, np.ones(7)

    def share(rows: np.ndarray) -> float:
        return explained_share(phi[rows], moment, prior, label_variance=0.25, noise=9.0)

    assert share(chosen) > 1.05 * np.mean([share(rng.choice(2000, 40, replace=False)) for _ in range(20)])


def test_badge_spreads_over_directions() -> None:
    """Twenty copies of one row and one other: a batch of two takes one of each."""
    X = np.vstack([np.tile([1.0, 0.0], (20, 1)), [[0.0, 1.0]]])
    assert 20 in STRATEGIES["badge"].select(context_of(X, n=2, representation=X))


def test_categories_are_one_hot() -> None:
    schema = Schema(("maker", "size"), (("a", "b", "c"), None))
    X = np.array([[0.0, 1.0], [1.0, 2.0], [np.nan, 3.0], [0.0, np.nan]])
    Z = query.columns.standardised(context_of(X, schema=schema))
    assert Z.shape == (4, 3)
    assert Z[2, 1:].tolist() == [0.0, 0.0]
    assert Z[0, 1:] == pytest.approx([1 / 3, -1 / 3])
    assert Z[3, 0] == 0.0


@pytest.mark.parametrize("learner", ["auto", "class-mean", "mixture"])
def test_rules_read_text_categories_as_the_learner_does(learner: str) -> None:
    """The rules hand the learner the roster with its schema, so that codes stay the texts that they stand for."""
    from ppal_fast.learners import resolve
    from ppal_fast.table import Table

    rng = np.random.default_rng(0)
    schema = Schema(("maker", "a", "b"), (("acme", "busy", "cold"), None, None))
    X = np.column_stack([rng.integers(0, 3, 300), rng.normal(size=(300, 2))]).astype(float)
    y = X[:, 0].astype(int)
    X[200:, 0] = np.nan
    table, asked = Table(X, schema), np.arange(60)
    names = np.array(["x", "y", "z"])
    model = resolve(learner).set_params(classes=["x", "y", "z"])
    model.fit(table.take(asked), names[y[asked]], X_pool=model.map_pool(table))
    context = context_of(X, labelled=asked, y=y[asked], learner=model, schema=schema)
    np.testing.assert_array_equal(query.scored._probabilities(context), model.predict_proba(table))
    assert (model.predict(table)[:200] == names[y[:200]]).mean() > 0.9  # the column of texts is seen
    assert len(STRATEGIES["committee"].select(context)) == 20


@pytest.mark.filterwarnings("ignore:only the class")
@pytest.mark.parametrize("table", [simulate.drives, simulate.class_shift], ids=lambda f: f.__name__)
def test_auto_does_not_lose_to_random_on_simulated_tables(table: Callable[..., Any]) -> None:
    """A smoke test of the direction; the paired figures are measured by the learning benchmark."""
    from ppal_fast.learners import resolve

    gain = []
    for seed in range(2):
        drawn = table(n_rows=1500, random_state=seed)
        mapped = resolve("class-mean").map_pool(drawn.table)

        def accuracy(name: str, drawn: Any = drawn, mapped: Any = mapped) -> float:
            asked, learner, rng = np.array([], dtype=np.intp), None, np.random.default_rng(0)
            total = 0.0
            for _ in range(5):
                context = context_of(
                    drawn.X, labelled=asked, y=drawn.y[asked], learner=learner, rng=rng, schema=drawn.schema,
                    representation=mapped.reference,
                )
                asked = np.concatenate([asked, STRATEGIES[name].select(context)])
                learner = resolve("class-mean").fit(drawn.table.take(asked), drawn.y[asked], X_pool=mapped)
                total += (learner.predict(drawn.table) == drawn.y).mean()
            return total / 5

        gain.append(accuracy("auto") - accuracy("random"))
    assert np.mean(gain) > -0.02


# ---------------------------------------------------------------- names, users' rules, units


def test_resolve_takes_names_strategies_and_callables(pool: np.ndarray) -> None:
    assert query.resolve("entropy") is STRATEGIES["entropy"]
    assert query.resolve(STRATEGIES["qubo"]) is STRATEGIES["qubo"]

    def first(context: Context) -> Any:
        return context.candidates[: context.n].tolist()

    own = query.resolve(first)
    assert own.name == "first"
    assert own.select(context_of(pool)).tolist() == list(range(20))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([1, 1], "at most 20 distinct rows"),
        (list(range(30, 60)), "at most 20 distinct rows"),
        ([5000], "row 5000, which is not among the candidates"),
        ([0.5], "a sequence of row numbers"),
        ([[1, 2]], "a sequence of row numbers"),
    ],
)
def test_a_users_rule_is_checked(pool: np.ndarray, answer: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        query.resolve(lambda context: answer).select(context_of(pool))


@pytest.mark.parametrize("strategy", ["entropi", 3, None])
def test_an_unknown_strategy_is_named(strategy: Any) -> None:
    with pytest.raises(InputError, match="strategy was"):
        query.resolve(strategy)


def test_units_allow_what_the_contracts_allow() -> None:
    for unit, allowed in {
        "label": set(STRATEGIES) - {"committee"}, "record": {"random", "threshold"}, "owner": {"random", "threshold"},
    }.items():
        for name, strategy in STRATEGIES.items():
            if name in allowed:
                query.require_sound(strategy, unit)
            else:
                with pytest.raises(PrivacyError, match=f"strategy '{name}'"):
                    query.require_sound(strategy, unit)
    with pytest.raises(PrivacyError):
        query.require_sound(query.resolve(lambda context: context.candidates), "label")
    with pytest.raises(InputError, match="unit was 'rows'"):
        query.require_sound(STRATEGIES["random"], "rows")


def test_item_local_must_be_shown() -> None:
    with pytest.raises(InputError, match="declared item-local"):
        Strategy("mine", lambda context: context.candidates, "item-local", False, False, "")
