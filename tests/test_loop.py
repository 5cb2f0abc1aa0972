"""The loop: rounds, answers, plans of releases, and that one record moves nothing but itself."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from ppal_fast import PPAL, Ledger, Session, query, simulate
from ppal_fast.errors import BudgetExceeded, InputError, InterruptedReleaseWarning, PPALError, PrivacyError
from ppal_fast.privacy import label_sums


@pytest.fixture(scope="module")
def table() -> simulate.SimulatedTable:
    return simulate.class_shift(2, 600, 0)


def initial(y: np.ndarray, n: int = 20) -> list:
    return [int(v) if i < n else None for i, v in enumerate(y)]


def oracle(table: simulate.SimulatedTable):
    return lambda rows: table.y[rows]


def test_run_asks_each_row_once_and_learns(table) -> None:
    loop = PPAL(n_per_round=10, n_rounds=4, random_state=0).run(table.X, oracle(table), initial(table.y))
    asked = np.concatenate([r.asked for r in loop.history_])
    assert len(asked) == len(set(asked.tolist())) == 60
    assert [r.round for r in loop.history_] == [0, 1, 2, 3, 4]
    for record in loop.history_:
        np.testing.assert_array_equal(record.labels, table.y[record.asked])
        assert record.epsilon_spent is None
    assert np.isnan(loop.history_[0].scores).all() and not np.isnan(loop.history_[1].scores).any()
    fresh = simulate.class_shift(2, 2000, 1)
    assert (loop.predict(fresh.X) == fresh.y).mean() > 0.8
    assert loop.privacy_.startswith("not private")


def test_the_same_seed_asks_the_same_rows(table) -> None:
    runs = [
        PPAL(n_per_round=5, n_rounds=2, random_state=seed).run(table.X, oracle(table), initial(table.y))
        for seed in (7, 7, 8)
    ]
    asked = [np.concatenate([r.asked for r in loop.history_[1:]]).tolist() for loop in runs]
    assert asked[0] == asked[1] != asked[2]


def test_without_initial_labels_the_first_round_is_a_cold_start(table) -> None:
    loop = PPAL(n_per_round=12, n_rounds=2, random_state=0).run(table.X, oracle(table))
    assert [len(r.asked) for r in loop.history_] == [12, 12]
    assert len(loop.classes_) == 2


def test_ask_again_gives_the_open_rows(table) -> None:
    loop = PPAL(n_per_round=6, random_state=0).start(table.X, initial(table.y))
    rows = loop.ask()
    np.testing.assert_array_equal(loop.ask(), rows)
    loop.tell(rows[:2], table.y[rows[:2]])
    loop.tell(rows[2:4], [None, table.y[rows[3]]])
    np.testing.assert_array_equal(loop.ask(), rows[[2, 4, 5]])
    assert len(loop.history_) == 1
    loop.tell(rows[[2, 4, 5]], table.y[rows[[2, 4, 5]]])
    assert len(loop.history_) == 2
    np.testing.assert_array_equal(np.sort(loop.history_[1].asked), np.sort(rows))


@pytest.mark.parametrize(
    ("indices", "labels", "says"),
    [
        ([0], [1], "already"),
        ([10**6], [1], "not asked"),
        ([-1], [1], "not asked"),
        ("open twice", [1, 1], "twice"),
        ("open", [1, 1], "2 answers"),
        ([0.5], [1], "row numbers"),
        ("open", ["zebra"], "zebra"),
    ],
)
def test_bad_answers_are_refused_and_nothing_is_taken(table, indices, labels, says) -> None:
    loop = PPAL(n_per_round=4, classes=[0, 1], random_state=0).start(table.X, initial(table.y))
    rows = loop.ask()
    if indices == "open":
        indices = rows[:1]
    elif indices == "open twice":
        indices = rows[[0, 0]]
    with pytest.raises(InputError, match=says):
        loop.tell(indices, labels)
    np.testing.assert_array_equal(loop.ask(), rows)


def test_more_asked_than_left(table) -> None:
    loop = PPAL(random_state=0).start(table.X[:30], initial(table.y[:30]))
    with pytest.raises(InputError, match="n was 11; only 10 rows are left"):
        loop.ask(11)
    rows = loop.ask()  # the default batch is what is left
    assert len(rows) == 10
    loop.tell(rows, table.y[rows])
    assert len(loop.ask()) == 0


def test_run_ends_with_the_pool(table) -> None:
    loop = PPAL(n_per_round=20, n_rounds=9, random_state=0).run(table.X[:45], oracle(table), initial(table.y[:45]))
    assert [len(r.asked) for r in loop.history_] == [20, 20, 5]


def test_an_oracle_that_fails_loses_nothing(table) -> None:
    calls = []

    def tired(rows):
        calls.append(rows)
        if len(calls) == 2:
            raise ConnectionError("the laboratory is closed")
        return table.y[rows]

    loop = PPAL(n_per_round=5, n_rounds=3, random_state=0)
    with pytest.raises(ConnectionError):
        loop.run(table.X, tired, initial(table.y))
    assert len(loop.history_) == 2
    rows = loop.ask()
    np.testing.assert_array_equal(rows, calls[1])
    loop.tell(rows, table.y[rows])
    assert len(loop.history_) == 3


def test_an_oracle_that_returns_too_few_or_nothing_is_told_so(table) -> None:
    with pytest.raises(InputError, match="3 answers for 5 rows"):
        PPAL(n_per_round=5, random_state=0).run(table.X, lambda rows: table.y[rows][:3], initial(table.y))
    loop = PPAL(n_per_round=5, random_state=0)
    with pytest.raises(PPALError, match="left 5 of 5 rows open"):
        loop.run(table.X, lambda rows: [None] * len(rows), initial(table.y))
    assert len(loop.ask()) == 5


@pytest.mark.parametrize("missing", [None, np.nan, -1])
def test_initial_labels_may_be_missing_in_three_ways(table, missing) -> None:
    y = np.array([v if i < 20 else missing for i, v in enumerate(table.y)], dtype=object if missing is None else float)
    loop = PPAL(random_state=0).start(table.X, y)
    assert loop.history_[0].asked.tolist() == list(range(20))
    assert set(loop.classes_) == {0, 1}


def test_minus_one_is_a_class_where_it_is_declared(table) -> None:
    y = [2 * int(v) - 1 if i < 20 else None for i, v in enumerate(table.y)]
    loop = PPAL(classes=[-1, 1], random_state=0).start(table.X, y)
    assert len(loop.history_[0].asked) == 20
    assert set(loop.classes_) == {-1, 1}


def test_labels_of_any_kind_and_frames(table) -> None:
    names = np.array(["pass", "fail"])[table.y]
    frame = pd.DataFrame(table.X, columns=[f"smart_{j}" for j in range(50)])
    loop = PPAL(n_per_round=5, n_rounds=1, random_state=0)
    loop.run(frame, lambda rows: names[rows], [n if i < 20 else None for i, n in enumerate(names)])
    assert set(loop.predict(frame.head(50))) <= {"pass", "fail"}
    with pytest.raises(InputError, match="smart_0"):
        loop.predict(frame.drop(columns="smart_0"))


def test_anybodys_classifier_may_be_the_learner_without_privacy(table) -> None:
    forest = make_pipeline(SimpleImputer(strategy="constant"), RandomForestClassifier(20, random_state=0))
    loop = PPAL(forest, "entropy", n_per_round=5, n_rounds=1, random_state=0)
    loop.run(table.X, oracle(table), initial(table.y))
    assert loop.predict_proba(table.X[:4]).shape == (4, 2)
    private = PPAL(forest, "random", n_rounds=1, epsilon=1.0, unit="label", random_state=0)
    with pytest.raises(PrivacyError, match="no private form"):
        private.run(table.X, oracle(table), initial(table.y))


def test_a_rule_of_ones_own(table) -> None:
    loop = PPAL(strategy=lambda c: c.candidates[: c.n], n_per_round=3, n_rounds=1, random_state=0)
    loop.run(table.X, oracle(table), initial(table.y))
    assert loop.history_[1].asked.tolist() == [20, 21, 22]


def test_before_start_and_before_a_model(table) -> None:
    with pytest.raises(NotFittedError, match="start"):
        PPAL().ask()
    loop = PPAL(random_state=0).start(table.X)
    with pytest.raises(NotFittedError, match="no label"):
        loop.predict(table.X)
    with pytest.raises(PPALError, match="no row has a label"):
        loop.finish()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n_per_round": 0}, "n_per_round"),
        ({"n_rounds": 1.5}, "n_rounds"),
        ({"strategy": "entropie"}, "entropy"),
        ({"epsilon": -1}, "epsilon"),
        ({"epsilon": 1, "unit": "records"}, "record"),
        ({"epsilon": 1, "delta": 0}, "delta"),
        ({"random_state": "seed"}, "random_state"),
    ],
)
def test_bad_settings_are_named(table, change, says) -> None:
    with pytest.raises(ValueError, match=says):
        PPAL(**change).start(table.X, initial(table.y))


def test_empty_pool_and_wrong_lengths(table) -> None:
    with pytest.raises(InputError, match="0 rows"):
        PPAL().start(np.empty((0, 3)))
    with pytest.raises(InputError, match="y has 3 entries"):
        PPAL().start(table.X, [1, 2, 3])


def test_it_is_an_estimator_to_clone_and_pickle(table) -> None:
    loop = PPAL("logistic", "margin", n_per_round=4, n_rounds=1, random_state=3)
    assert clone(loop).get_params() == loop.get_params()
    loop.run(table.X, oracle(table), initial(table.y))
    again = pickle.loads(pickle.dumps(loop))
    np.testing.assert_array_equal(again.predict(table.X), loop.predict(table.X))


# ---------------------------------------------------------------------- privacy


def private(table, **settings) -> PPAL:
    settings = {"n_per_round": 10, "n_rounds": 3, "epsilon": 1.0, "classes": [0, 1], "random_state": 0} | settings
    return PPAL(**settings).run(table.X, oracle(table), initial(table.y))


def test_a_rule_without_a_model_gets_one_release_and_all_the_budget(table) -> None:
    loop = private(table, unit="label", strategy="random")
    assert len(loop.ledger_.history()) == 1
    epsilon, delta = loop.ledger_.spent()
    assert 0.999 < epsilon <= 1.0 and delta == 1e-5
    assert [r.epsilon_spent for r in loop.history_[:-1]] == [0.0, 0.0, 0.0]


def test_a_rule_with_a_model_gets_one_release_a_round_within_the_budget(table) -> None:
    loop = private(table, unit="label", strategy="entropy")
    assert len(loop.ledger_.history()) == 4
    spent = [r.epsilon_spent for r in loop.history_]
    assert spent == sorted(spent) and 0.99 < spent[-1] <= 1.0


def test_the_private_model_is_not_there_before_its_release(table) -> None:
    loop = PPAL(epsilon=1.0, unit="label", strategy="random", n_per_round=5, random_state=0, classes=[0, 1])
    loop.start(table.X, initial(table.y))
    with pytest.raises(NotFittedError, match="after the last round"):
        loop.predict(table.X)
    rows = loop.ask()
    loop.tell(rows, table.y[rows]).finish()
    assert loop.predict(table.X[:2]).shape == (2,)
    assert len(loop.ledger_.history()) == 1


def test_a_given_ledger_holds_and_its_budget_is_not_overspent(table) -> None:
    ledger = Ledger(":memory:", epsilon=0.5, delta=1e-6, unit="label")
    with pytest.raises(BudgetExceeded):
        private(table, ledger=ledger, strategy="random", epsilon=1.0)
    assert ledger.history() == []
    loop = private(table, ledger=ledger, strategy="random", epsilon=None)
    assert loop.ledger_ is ledger and 0.499 < ledger.spent()[0] <= 0.5


def test_no_round_after_the_plan(table) -> None:
    loop = private(table, unit="label", strategy="random")
    with pytest.raises(PrivacyError, match="n_rounds=3"):
        loop.ask()


@pytest.mark.parametrize("strategy", ["entropy", "margin", "badge", "qubo", "density", "design"])
@pytest.mark.parametrize("unit", ["record", "owner"])
def test_rules_that_let_a_row_move_others_are_refused(table, strategy, unit) -> None:
    with pytest.raises(PrivacyError, match=strategy):
        PPAL(strategy=strategy, epsilon=1.0, unit=unit).start(table.X, owners=np.arange(600))


def test_owners_are_needed_under_unit_owner(table) -> None:
    with pytest.raises(InputError, match="owners"):
        PPAL(epsilon=1.0, unit="owner").start(table.X)
    with pytest.raises(InputError, match="owners"):
        PPAL(epsilon=1.0, unit="owner").start(table.X, owners=[1, 2])


@pytest.mark.parametrize("strategy", ["random", "threshold"])
def test_item_local_rounds_ask_about_as_many_as_planned(strategy) -> None:
    """The number is random, and the threshold is placed by noisy counts: a quarter of room either way."""
    loop = private(simulate.class_shift(2, 4000, 0), unit="record", strategy=strategy, n_per_round=200, epsilon=8.0)
    asked = [len(r.asked) for r in loop.history_[1:]]
    assert abs(np.mean(asked) - 200) < 50
    assert loop.ledger_.spent()[0] <= 8.0


def test_loops_that_share_a_ledger_do_not_share_releases(table) -> None:
    """Names of releases are request ids: a second loop must not be handed the first one's numbers."""
    ledger = Ledger(":memory:", epsilon=2.0, delta=1e-5, unit="label")
    settings = {"ledger": ledger, "epsilon": 1.0, "strategy": "random", "random_state": 0, "n_rounds": 1}
    loops = [PPAL(**settings, classes=[0, 1]).start(table.X, initial(table.y)) for _ in range(2)]
    for loop in loops:
        loop.tell(loop.ask(), table.y[loop.ask()])
    first, second = (release.value for release in ledger.history())
    assert not np.array_equal(first, second)


def test_an_interrupted_release_costs_its_model_and_nothing_else(table, tmp_path, monkeypatch) -> None:
    """As after a death between reservation and commit: the session opens again, its answers are there."""
    def die(*_, **__):
        raise KeyboardInterrupt

    settings = {"strategy": "random", "n_per_round": 5, "n_rounds": 1, "epsilon": 1.0, "unit": "label"}
    settings["classes"] = [0, 1]
    monkeypatch.setattr(label_sums, "release", die)
    with Session.create(tmp_path / "s", table.X, initial(table.y), **settings) as s:
        rows = s.ask()
        with pytest.raises(KeyboardInterrupt):
            s.tell(rows, table.y[rows])
    monkeypatch.undo()
    with pytest.warns(InterruptedReleaseWarning, match="round-1"):
        s = Session(tmp_path / "s")
    with s, pytest.raises(NotFittedError, match="interrupted"):
        s.ppal.predict(table.X)
    assert s.ppal.history_[1].asked.tolist() == rows.tolist()


def test_labels_that_were_not_released_reach_no_strategy(table) -> None:
    seen = []

    def spy(context):
        seen.append(context.y)
        return context.candidates[: context.n]

    rule = query.Strategy("spy", spy, "joint", needs_model=False, uses_labels=False, summary="features alone")
    private(table, unit="label", strategy=rule)
    assert len(seen) == 3 and all(len(y) == 0 for y in seen)


def test_a_round_that_asks_nobody_is_released_like_any_other(table) -> None:
    """Under unit record the number of labels is private: pure noise leaves where there are none."""
    loop = PPAL(n_per_round=1, n_rounds=2, epsilon=1.0, unit="record", classes=[0, 1], random_state=3)
    loop.start(table.X)
    loop._generator = lambda round_: np.random.default_rng(0) if round_ == 0 else _NoHeads()
    for _ in range(2):
        assert len(loop.ask()) == 0
    assert loop.finish().predict(table.X[:5]).shape == (5,)
    assert len(loop.ledger_.history()) >= 1 and len(loop.history_) == 2


class _NoHeads:
    """Coins that never fall for a row."""

    def random(self, n):
        return np.ones(n)


class _Tape:
    """A ledger that plays back the values it released in another world, and keeps the sums that it was asked for."""

    relation, delta, epsilon = "zero-out", 1e-5, 4.0

    def __init__(self, unit: str, tape: list | None) -> None:
        self.unit, self.tape, self.sums, self.rng = unit, tape, [], np.random.default_rng(0)
        self.values: list[np.ndarray] = []

    def release_sum(self, rows, *, clip, epsilon=None, sigma=None, mask=None, owners=None, stability=1, name):
        rows = np.asarray(rows)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        self.sums.append((rows * np.minimum(1, clip / np.maximum(norms, 1e-300))).sum(axis=0))
        self.sums[-1] = (self.sums[-1], clip * stability)
        if self.tape is None:
            value = self.sums[-1][0] + self.rng.normal(0, 1, rows.shape[1])
        else:
            value = self.tape[len(self.values)]
        self.values.append(value)
        return value

    def spent(self):
        return 0.0, self.delta

    def remaining(self):
        return self.epsilon

    def remaining_mu(self):
        return 10.0

    def history(self):
        return []

    def report(self):
        return "a tape"


@pytest.mark.parametrize("strategy", ["random", "threshold"])
@pytest.mark.parametrize("changed", [25, 77, 311, "extreme"])
def test_forced_transcript_of_the_whole_loop_under_unit_record(table, strategy, changed) -> None:
    """Replay one list of released values in both worlds: only the changed record's own choices may differ, and every
    sum differs by at most its clip. The strongest test of item-local selection (PRIVACY, contract 6)."""
    X, y = table.X.copy(), table.y.copy()
    row = 40 if changed == "extreme" else changed
    if changed == "extreme":
        X[row] = 1e6
    removed = X.copy()
    removed[row] = np.nan
    worlds = []
    tape = None
    for pool in (X, removed):
        ledger = _Tape("record", tape)
        settings = {"ledger": ledger, "strategy": strategy, "n_per_round": 60, "n_rounds": 3, "random_state": 1}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop = PPAL(**settings, classes=[0, 1]).start(pool, initial(y))
            while loop.round_ < 3:
                rows = loop.ask()
                loop.tell(rows, y[rows])
        tape = ledger.values
        worlds.append((loop, ledger))
    (one, first), (two, second) = worlds
    for a, b in zip(one.history_, two.history_, strict=True):
        assert set(a.asked.tolist()) - {row} == set(b.asked.tolist()) - {row}
    assert len(first.sums) == len(second.sums) > 0
    # the row's cells were replaced, not its part in the sums taken away: each world's part is at most the clip
    for (a, bound), (b, _) in zip(first.sums, second.sums, strict=True):
        assert np.linalg.norm(a - b) <= 2 * bound * (1 + 1e-9)
