"""The learning benchmark in its quick form: one small run of each kind, and the statistics of its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.learning import conformance, drift, page, plan, statistics, tables
from benchmarks.learning.runs import Method, Outcome, Store, run, run_all

SMALL = 600


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "N_POOL", SMALL)
    monkeypatch.setattr(tables, "N_TEST", SMALL)


def test_the_automatic_loop_beats_the_zero_filled_forest_on_a_table_with_missing_cells() -> None:
    ours = run("class_shift(2)", plan.AUTO, 0)
    forest = run("class_shift(2)", Method("forest", "own"), 0)
    assert ours.labels == forest.labels == tuple(range(20, 201, 20))
    assert ours.area > forest.area + 0.03
    ceiling = run("class_shift(2)", Method(rule="ceiling"), 0)
    assert ours.area < ceiling.accuracy[0] + 0.03


def test_a_private_run_is_judged_once() -> None:
    outcome = run("class_shift(2)", Method(rule="auto", epsilon=1, labels=40), 0)
    assert outcome.labels == (40,)
    assert 0.4 < outcome.accuracy[0] <= 1


def test_results_are_kept_and_the_page_is_written_from_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "ALL_RULES", ())
    seeds = range(plan.FIRST_SEED, plan.FIRST_SEED + 2)
    work = [("class_shift(2)", method, seed) for method in (plan.RANDOM, plan.AUTO) for seed in seeds]
    store = Store(tmp_path / "kept")
    run_all(work, store, 1, lambda line: None)
    assert store.get(*work[0]) == run(*work[0])
    monkeypatch.setattr("benchmarks.learning.runs.run", lambda *_: pytest.fail("it was run before"))
    run_all(work, store, 1, lambda line: None)
    page.write(store, 2, tmp_path / "docs", [], tmp_path)
    text = (tmp_path / "docs" / "learning_benchmark.md").read_text()
    assert "| class_shift(2) | 2 |" in text
    assert (tmp_path / "docs" / "images" / "learning_curves.png").exists()


def test_a_stream_run_recovers() -> None:
    outcome = drift.run(Method("sums, decay .3", "random"), 0)
    assert outcome.accuracy[drift.SWITCH] < outcome.accuracy[drift.SWITCH - 1]
    assert outcome.accuracy[-1] > outcome.accuracy[drift.SWITCH] - 0.02


@pytest.mark.skipif("breast" not in tables.names(), reason="the data sets are not beside the repository")
def test_a_conformance_run_ends_with_the_pool() -> None:
    outcome = conformance.run("conformance/appendicitis", conformance.MARGIN, 0)
    assert outcome.labels[-1] == round(0.6 * 106)
    assert 0.6 < outcome.area < 1


def test_paired_statistics() -> None:
    gain = statistics.paired(np.random.default_rng(0).normal(0.02, 0.01, 40).tolist())
    assert gain.low < gain.mean < gain.high and gain.p < 1e-6 and gain.n == 40
    assert statistics.paired([0.0] * 5).p == 1
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    reach = statistics.labels_to_reach(np.array([20.0, 40, 60]), np.array([0.5, 0.7, 0.6]), 0.6)
    assert reach == pytest.approx(30)
    assert statistics.labels_to_reach(np.array([20.0]), np.array([0.5]), 0.6) == np.inf


def test_the_plan_never_uses_the_seeds_of_the_settings() -> None:
    for _, _, seed in plan.work(50, []) + drift.work(50):
        assert not any(seed in seen for seen in plan.SETTINGS)


def test_areas_and_losses_are_as_they_say() -> None:
    assert Outcome((20, 40), (0.5, 0.7), (0.5, 0.7), (2, 2), 2).area == pytest.approx(0.6)
    assert page._signed(-0.006) == "**-0.006**" and page._signed(0.01) == "+0.010"
