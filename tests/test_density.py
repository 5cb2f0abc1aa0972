"""Densities as a user meets them: the estimators, their bandwidths, bad input, threads, and the private density."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from ppal_fast import DensityRatio, KernelDensity, Ledger, PrivateDensity, Table
from ppal_fast.density import edge
from ppal_fast.errors import BudgetExceeded, DataWarning, InputError
from ppal_fast.kernels import reference

Float = NDArray[np.float64]


@pytest.fixture
def table(rng: np.random.Generator) -> Float:
    """120 x 4 with a third of the cells missing."""
    X = rng.normal(size=(120, 4)) * [1, 10, 0.1, 3]
    X[rng.random(X.shape) < 1 / 3] = np.nan
    return X


# DensityRatio and PrivateDensity are not in this list: their fit takes two tables, or a ledger, which the checks do
# not hand over.
@parametrize_with_checks([KernelDensity(), KernelDensity("likelihood", precision="single")])
@pytest.mark.filterwarnings("ignore::ppal_fast.errors.DataWarning")
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_score_samples_is_the_reference_with_missing_cells_and_weights(table: Float) -> None:
    weights = np.linspace(0, 2, len(table))
    model = KernelDensity([0.5, 4.0, 0.05, 1.0]).fit(table, sample_weight=weights)
    expected = reference.log_density(table, model.bandwidth_, table, weights)
    assert np.abs(model.score_samples(table) - expected).max() < 1e-9
    assert model.score(table) == pytest.approx(expected.sum())


def test_single_precision_is_near_double(table: Float) -> None:
    double, single = KernelDensity().fit(table), KernelDensity(precision="single").fit(table)
    difference = np.abs(double.score_samples(table) - single.score_samples(table)).max()
    assert 0 < difference < 2e-5


def test_agrees_with_scikit_learn_where_that_is_exact(rng: np.random.Generator) -> None:
    from sklearn.neighbors import KernelDensity as Peer

    X = rng.normal(size=(300, 3))
    expected = Peer(bandwidth=0.4, rtol=0, algorithm="kd_tree").fit(X).score_samples(X)
    assert np.abs(KernelDensity(0.4).fit(X).score_samples(X) - expected).max() < 1e-9


# Bandwidths


def test_scott_and_silverman_on_the_observed_cells_of_each_column(table: Float) -> None:
    count, d = (~np.isnan(table)).sum(axis=0), table.shape[1]
    deviation = np.nanstd(table, axis=0, ddof=1)
    assert KernelDensity("scott").fit(table).bandwidth_ == pytest.approx(deviation * count ** (-1 / (d + 4)))
    silverman = deviation * (count * (d + 2) / 4) ** (-1 / (d + 4))
    assert KernelDensity("silverman").fit(table).bandwidth_ == pytest.approx(silverman)


def test_rules_follow_the_unit_of_a_column_and_survive_huge_and_tiny_ones(table: Float) -> None:
    plain = KernelDensity().fit(table)
    scale = np.array([1e300, 1e-200, 1.0, 1e6])
    scaled = KernelDensity().fit(table * scale)
    assert scaled.bandwidth_ == pytest.approx(plain.bandwidth_ * scale)
    shift = np.log(scale).sum()
    complete = ~np.isnan(table).any(axis=1)
    difference = plain.score_samples(table[complete]) - scaled.score_samples(table[complete] * scale)
    assert difference == pytest.approx(shift)


def test_equal_weights_are_no_weights_for_the_rules(table: Float) -> None:
    weighted = KernelDensity().fit(table, sample_weight=np.full(len(table), 7.0))
    assert weighted.bandwidth_ == pytest.approx(KernelDensity().fit(table).bandwidth_)


def test_likelihood_takes_the_best_multiple_of_scott(table: Float) -> None:
    scott, chosen = KernelDensity().fit(table).bandwidth_, KernelDensity("likelihood").fit(table).bandwidth_
    rows = np.arange(len(table))
    multiples = 2.0 ** np.arange(-4, 2.25, 0.25)
    value = [reference.log_density(table, scott * m, table, left_out=rows).sum() for m in multiples]
    assert chosen == pytest.approx(scott * multiples[np.argmax(value)])


def test_likelihood_on_complete_weighted_rows(rng: np.random.Generator) -> None:
    X, weights = rng.normal(size=(150, 3)), np.repeat([0.0, 1.0, 2.0], 50)
    scott = KernelDensity().fit(X, sample_weight=weights).bandwidth_
    chosen = KernelDensity("likelihood").fit(X, sample_weight=weights).bandwidth_
    rows = np.arange(50, 150)
    multiples = 2.0 ** np.arange(-4, 2.25, 0.25)
    value = [weights[rows] @ reference.log_density(X, scott * m, X[rows], weights, rows) for m in multiples]
    assert chosen == pytest.approx(scott * multiples[np.argmax(value)])


def test_rows_that_repeat_make_the_likelihood_warn(rng: np.random.Generator) -> None:
    with pytest.warns(DataWarning, match="rows that repeat"):
        KernelDensity("likelihood").fit(np.repeat(rng.normal(size=(20, 2)), 3, axis=0))


def test_constant_and_empty_columns_are_named_and_have_a_floor(rng: np.random.Generator) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rng.normal(size=(30, 3)), columns=["size", "maker", "weight"])
    frame["maker"] = 1e9
    frame["weight"] = np.nan
    with pytest.warns(DataWarning) as warned:
        model = KernelDensity().fit(frame)
    assert any("'maker'" in str(w.message) and "does not vary" in str(w.message) for w in warned)
    assert any("'weight'" in str(w.message) and "no observed cell" in str(w.message) for w in warned)
    assert np.isfinite(model.score_samples(frame)).all()
    alone = KernelDensity(model.bandwidth_[0]).fit(frame[["size"]])
    at_peak = -np.log(model.bandwidth_[1] * np.sqrt(2 * np.pi))
    assert model.score_samples(frame) == pytest.approx(alone.score_samples(frame[["size"]]) + at_peak)


def test_a_fixed_bandwidth_makes_the_density_of_a_wide_table_a_rows_own_kernel(rng: np.random.Generator) -> None:
    """What docs/density.md warns of: the pool contributes nothing to the density at one of its own rows."""
    X = rng.normal(size=(1000, 40))
    own_kernel = -np.log(len(X)) - 40 * np.log(0.5 * np.sqrt(2 * np.pi))
    share = np.exp(own_kernel - KernelDensity(0.5).fit(X).score_samples(X))
    assert np.median(share) > 0.99


# Samples


def test_samples_follow_the_density(table: Float) -> None:
    model = KernelDensity().fit(table)
    drawn = model.sample(20_000, random_state=0)
    assert drawn.shape == (20_000, 4) and not np.isnan(drawn).any()
    expected = np.sqrt(np.nanvar(table, axis=0) + model.bandwidth_**2)
    assert drawn.std(axis=0) == pytest.approx(expected, rel=0.05)
    assert np.array_equal(drawn, model.sample(20_000, random_state=0))


def test_samples_come_from_weighted_rows_alone(rng: np.random.Generator) -> None:
    X = np.array([[0.0, np.nan], [100.0, 1.0], [5.0, 50.0]])
    drawn = KernelDensity(0.1).fit(X, sample_weight=[1, 1, 0]).sample(500, random_state=1)
    assert (np.abs(drawn[:, 1] - 1) < 1).all() and {0, 100} == set(np.round(drawn[:, 0], -1).astype(int))


# Tables of every kind


def test_frames_tables_and_arrays_give_the_same(table: Float) -> None:
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    names = ["a", "b", "c", "d"]
    frame = pandas.DataFrame(table, columns=names)
    expected = KernelDensity(0.5).fit(table).score_samples(table)
    kinds = {
        "pandas": frame, "polars": polars.from_pandas(frame), "pyarrow": pyarrow.Table.from_pandas(frame),
        "Table": Table.of(frame), "Fortran": np.asfortranarray(table), "list": table.tolist(),
        "reversed": table[::-1, ::-1].copy()[::-1, ::-1],
    }
    for kind, X in kinds.items():
        assert np.array_equal(KernelDensity(0.5).fit(X).score_samples(X), expected), kind


def test_arrays_that_are_unaligned_read_only_float32_or_half(table: Float) -> None:
    model = KernelDensity(0.5).fit(table)
    expected = model.score_samples(table)
    memory = np.zeros(table.nbytes + 1, dtype=np.uint8)
    unaligned = memory[1:].view(np.float64).reshape(table.shape)
    unaligned[:] = table
    assert not unaligned.flags.aligned
    frozen = table.copy()
    frozen.setflags(write=False)
    for X in (unaligned, frozen, table.astype(object)):
        assert np.array_equal(KernelDensity(0.5).fit(X).score_samples(X), expected)
    for low in (np.float32, np.float16):
        X = table.astype(low)
        assert np.array_equal(model.score_samples(X), model.score_samples(X.astype(np.float64)))


def test_feature_names_are_kept_and_checked(table: Float) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table, columns=["a", "b", "c", "d"])
    model = KernelDensity(0.5).fit(frame)
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(InputError, match="feature names"):
        model.score_samples(frame[["b", "a", "c", "d"]])


def test_no_query_rows(table: Float) -> None:
    assert KernelDensity(0.5).fit(table).score_samples(np.empty((0, 4))).shape == (0,)


def test_the_rows_are_copied(table: Float) -> None:
    mine = table.copy()
    model = KernelDensity(0.5).fit(mine)
    expected = model.score_samples(table)
    mine[:] = 0
    assert np.array_equal(model.score_samples(table), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).score_samples(table), expected)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "X", "weights", "sentence"),
    [
        ({"bandwidth": 0}, None, None, "bandwidth was 0; a finite number above 0"),
        ({"bandwidth": -1.0}, None, None, "bandwidth was -1.0; a finite number above 0"),
        ({"bandwidth": np.nan}, None, None, "bandwidth was nan"),
        ({"bandwidth": [1, 1, 0, 1]}, None, None, "bandwidth has an entry of 0"),
        ({"bandwidth": [1, 2]}, None, None, r"bandwidth has shape \(2,\); shape \(4,\) is expected"),
        ({"bandwidth": "scot"}, None, None, "did you mean 'scott'"),
        ({"precision": "half"}, None, None, "precision was 'half'; expected one of double, single"),
        ({"n_jobs": 0}, None, None, "n_jobs was 0"),
        ({"rtol": -0.1}, None, None, "rtol was -0.1; a number strictly between 0 and 1"),
        ({"rtol": 1}, None, None, "rtol was 1"),
        ({}, np.full((3, 4), np.nan), None, "X has no observed cell"),
        ({}, np.zeros((0, 4)), None, "0 sample"),
        ({}, np.zeros((3, 0)), None, r"0 feature\(s\)"),
        ({}, np.full((3, 4), np.inf), None, "X has an infinite value in row 0, column 0"),
        ({}, np.array([["a", "b"]], dtype=object), None, "X: could not convert string to float"),
        ({}, np.ones((3, 4)) * 1j, None, "X: Complex data not supported"),
        ({}, np.ones(4), None, "X: Expected 2D array, got 1D array instead"),
        ({"bandwidth": 1e-9}, np.array([[1e300], [0.0]]), None, "column 0, too far from zero for a bandwidth of 1e-09"),
        ({}, None, [-1.0] * 120, "sample_weight has -1; weights of at least 0"),
        ({}, None, [0.0] * 120, "sample_weight is zero for every row"),
        ({}, None, [1.0] * 119, r"sample_weight has shape \(119,\)"),
        ({}, None, [np.nan] * 120, "sample_weight has NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore::ppal_fast.errors.DataWarning")
def test_bad_input_is_one_sentence(
    arguments: dict[str, Any], X: Float | None, weights: Any, sentence: str, table: Float
) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        KernelDensity(**arguments).fit(table if X is None else X, sample_weight=weights)
    assert "\n" not in str(raised.value)


def test_a_text_column_of_a_frame_is_named(table: Float) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"mass": [1.0, 2.0], "maker": ["WD", "Seagate"]})
    with pytest.raises(InputError, match="'maker' has 'WD' in row 0"):
        KernelDensity(0.5).fit(frame)


def test_different_column_counts_are_told(table: Float) -> None:
    model = KernelDensity(0.5).fit(table)
    with pytest.raises(InputError, match="X has 3 features, but KernelDensity is expecting 4"):
        model.score_samples(np.ascontiguousarray(table[:, :3]))
    with pytest.raises(InputError, match="X_denominator has 3 features, but DensityRatio is expecting 4"):
        DensityRatio(0.5).fit(table, table[:, :3])


# Threads and signals


@pytest.mark.parametrize("precision", ["double", "single"])
def test_results_do_not_depend_on_n_jobs(precision: str, rng: np.random.Generator) -> None:
    X = rng.normal(size=(5000, 6))
    for missing in (0.0, 0.4):
        rows = np.where(rng.random(X.shape) < missing, np.nan, X)
        one, three, every = (KernelDensity(0.4, precision=precision, n_jobs=n).fit(rows) for n in (1, 3, -1))
        expected = one.score_samples(rows)
        assert np.array_equal(three.score_samples(rows), expected)
        assert np.array_equal(every.score_samples(rows), expected)


@pytest.mark.parametrize("queries", [1, 5, 100, 2000])
def test_few_queries_do_not_depend_on_n_jobs_either(queries: int, rng: np.random.Generator) -> None:
    X = rng.normal(size=(60_000, 2))
    found = [KernelDensity(0.3, n_jobs=n).fit(X).score_samples(X[:queries]) for n in (1, 2, 7)]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    ratio = [DensityRatio(0.3, n_jobs=n).fit(X, X[:50]).log_ratio(X[:queries]) for n in (1, 3)]
    assert np.array_equal(ratio[0], ratio[1])


def test_a_relative_tolerance_is_kept_and_the_order_of_rows_too(rng: np.random.Generator) -> None:
    X = np.repeat(rng.uniform(0, 10, size=(6000, 1)), 8, axis=1) + 0.05 * rng.normal(size=(6000, 8))
    exact = KernelDensity(0.1).fit(X)
    for n_jobs in (1, 3):
        model = KernelDensity(0.1, n_jobs=n_jobs, rtol=0.01).fit(X)
        lost = exact.score_samples(X) - model.score_samples(X)
        assert 1e-8 < lost.max() <= 0.01 + 1e-9 and lost.min() > -1e-9
        assert np.array_equal(pickle.loads(pickle.dumps(model)).score_samples(X), model.score_samples(X))


INTERRUPTED = """
import sys, time
import numpy as np
from ppal_fast import KernelDensity
X = np.random.default_rng(0).normal(size=(100_000, 15))
model = KernelDensity(0.5, n_jobs=int(sys.argv[1])).fit(X)
print("ready", flush=True)
try:
    for _ in range(1000):
        model.score_samples(X)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("n_jobs", ["1", "2"])
def test_a_long_call_answers_the_interrupt_key(n_jobs: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, n_jobs]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=20)  # the call itself would take minutes
    assert out == "interrupted\n"


def test_what_stops_one_piece_leaves_none_of_the_others() -> None:
    begun = []

    def score(piece: slice, threads: int) -> None:
        begun.append(piece)
        time.sleep(1e-4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edge.in_pieces(score, 100_000, 10**6, 4)
    assert len(begun) <= 4


def test_memory_does_not_grow_with_the_product_of_rows_and_queries(rng: np.random.Generator) -> None:
    X = rng.normal(size=(4000, 5))
    model = KernelDensity(0.5).fit(X)
    tracemalloc.start()
    model.score_samples(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * X.nbytes


def test_pieces_are_whole_register_blocks() -> None:
    for rows in (edge.MOST_QUERIES_PER_CALL, edge.FEWEST_QUERIES_PER_CALL):
        assert rows % 12 == 0


# The ratio


def test_the_log_ratio_is_the_difference_of_log_densities(table: Float, rng: np.random.Generator) -> None:
    other = table[:50] + rng.normal(size=(50, 4))
    ratio = DensityRatio(0.7).fit(table, other)
    above = reference.log_density(table, ratio.bandwidth_, table)
    below = reference.log_density(other, ratio.bandwidth_, table)
    assert np.abs(ratio.log_ratio(table) - (above - below)).max() < 2e-9
    left = reference.log_density(table, ratio.bandwidth_, table, left_out=np.arange(len(table)))
    assert np.abs(ratio.log_ratio(table, leave_one_out=True) - (left - below)).max() < 2e-9
    assert np.array_equal(pickle.loads(pickle.dumps(ratio)).log_ratio(table), ratio.log_ratio(table))


def test_the_rule_of_the_ratio_reads_the_larger_set(table: Float) -> None:
    assert DensityRatio().fit(table[:20], table).bandwidth_ == pytest.approx(KernelDensity().fit(table).bandwidth_)


def test_leaving_out_needs_the_rows_of_the_numerator(table: Float) -> None:
    ratio = DensityRatio(0.7).fit(table[:50], table)
    with pytest.raises(InputError, match="X has 120 rows and X_numerator had 50"):
        ratio.log_ratio(table, leave_one_out=True)


# The private density


class SilentLedger:
    """Stands in for a ledger where a test needs the sum without noise."""

    relation, unit, delta = "zero-out", "record", 1e-5

    def __init__(self) -> None:
        self.rows: Float = np.empty((0, 0))
        self.clip, self.epsilon = 0.0, 0.0
        self.released: list[Any] = []

    def remaining(self) -> float:
        return 1.0

    def history(self) -> list[Any]:
        return self.released

    def release_sum(self, rows: Float, *, clip: float, epsilon: float, owners: Any, name: str) -> Float:
        self.rows, self.clip, self.epsilon = rows, clip, epsilon
        self.released.append(type("Release", (), {"name": name, "sigma": 0.0}))
        return rows.sum(axis=0)


def open_ledger(**options: Any) -> Ledger:
    return Ledger(":memory:", **{"epsilon": 2.0, "delta": 1e-5, "unit": "record", **options})


@pytest.mark.parametrize("d", [1, 3, 20])
def test_every_row_contributes_a_vector_of_norm_at_most_1(d: int, rng: np.random.Generator) -> None:
    """The clip never bites, whatever is missing and however extreme the cell: what is released is the plain sum."""
    X = rng.standard_cauchy(size=(400, d)) * 10.0 ** rng.integers(-300, 300, size=(400, 1))
    X[rng.random(X.shape) < 0.4] = np.nan
    X[:2] = [[np.nan], [1e308]]
    for bandwidth in (1e-3, 0.5, 1e3):
        ledger: Any = SilentLedger()
        bounds = np.column_stack([-rng.random(d) - 0.1, 10 * rng.random(d) + 0.1])
        PrivateDensity(bandwidth, n_features=64, bounds=bounds, random_state=1).fit(X, ledger=ledger)
        norms = np.linalg.norm(ledger.rows, axis=1)
        assert ledger.clip == 1 and norms.max() <= 1 + 1e-12
        complete = ~np.isnan(X).any(axis=1)
        assert norms[complete] == pytest.approx(1)


def test_the_features_of_a_missing_cell_are_the_mean_over_its_range() -> None:
    ledger: Any = SilentLedger()
    model = PrivateDensity(0.8, n_features=16, bounds=(-1, 3), random_state=0)
    model.fit(np.array([[0.5, np.nan]]), ledger=ledger)
    grid = np.column_stack([np.full(200_000, 0.5), (np.arange(200_000) + 0.5) / 200_000 * 4 - 1])
    assert ledger.rows[0] == pytest.approx(model._features(grid).mean(axis=0), abs=1e-9)


def test_without_noise_and_with_many_features_it_is_the_kernel_density(rng: np.random.Generator) -> None:
    X, queries = rng.normal(size=(500, 2)), rng.normal(size=(100, 2)) * 0.7
    ledger: Any = SilentLedger()
    private = PrivateDensity(0.7, n_features=40_000, bounds=(-6, 6), random_state=0).fit(X, ledger=ledger)
    exact = KernelDensity(0.7).fit(X)
    assert np.abs(private.score_samples(queries) - exact.score_samples(queries)).max() < 0.15
    queries[:, 1] = np.nan
    assert np.abs(private.score_samples(queries) - exact.score_samples(queries)).max() < 0.15
    queries[:] = np.nan
    assert not private.score_samples(queries).any()


def test_it_makes_one_release_and_evaluates_for_free(table: Float) -> None:
    with open_ledger() as ledger:
        model = PrivateDensity([0.5, 4.0, 0.05, 1.0], n_features=32, random_state=0)
        model.fit(table, ledger=ledger, epsilon=0.5, name="pool density")
        before = ledger.spent()
        assert [release.name for release in ledger.history()] == ["pool density"]
        assert np.isfinite(model.score_samples(table)).all()
        assert ledger.spent() == before
        assert model.noise_deviation_ == pytest.approx(7.032, abs=2e-3)
        assert "epsilon 0.5" in model.privacy_ and "unit record" in model.privacy_
        again = clone(model).fit(table[:0], ledger=ledger, epsilon=0.5, name="pool density")
        assert np.array_equal(again.sum_, model.sum_), "the same name returns the stored sum"
        clone(model).fit(table, ledger=ledger)
        assert ledger.remaining() == pytest.approx(0, abs=0.1)
        with pytest.raises(BudgetExceeded):
            clone(model).fit(table, ledger=ledger, epsilon=1.0)


def test_a_removed_unit_contributes_the_zero_vector(table: Float) -> None:
    """Removing a row changes the sum by its own features and nothing else: frequencies do not look at the rows."""
    full: Any = SilentLedger()
    less: Any = SilentLedger()
    model = PrivateDensity(0.5, n_features=32, random_state=3)
    whole = clone(model).fit(table, ledger=full)
    other = table.copy()
    other[7] = 1e9
    clone(model).fit(other, ledger=less)
    assert np.array_equal(np.delete(full.rows, 7, axis=0), np.delete(less.rows, 7, axis=0))
    assert whole.sum_ - full.rows[7] == pytest.approx(np.delete(full.rows, 7, axis=0).sum(axis=0))


def test_owners_are_handed_to_the_ledger(table: Float) -> None:
    with open_ledger(unit="owner") as ledger:
        model = PrivateDensity(0.5, n_features=8, random_state=0)
        with pytest.raises(InputError, match="owners is missing"):
            model.fit(table, ledger=ledger, epsilon=0.5)
        model.fit(table, ledger=ledger, epsilon=0.5, owners=np.arange(len(table)) // 10)
        assert "unit owner" in model.privacy_


def test_its_estimate_never_falls_below_what_one_row_or_the_noise_gives(rng: np.random.Generator) -> None:
    with open_ledger() as ledger:
        model = PrivateDensity(0.3, n_features=16, random_state=0)
        model.fit(rng.normal(size=(50, 2)), ledger=ledger, epsilon=0.2)
        found = model.score_samples(rng.normal(size=(200, 2)) * 3)
        floor = np.log(model.noise_deviation_ / 50) - 2 * np.log(0.3 * np.sqrt(2 * np.pi))
        assert np.isfinite(found).all() and found.min() == pytest.approx(floor)


@pytest.mark.parametrize("bandwidth", ["scott", 0, [1, 2, 3]])
def test_its_bandwidth_must_be_given(bandwidth: Any, table: Float) -> None:
    with open_ledger() as ledger:
        with pytest.raises(InputError, match="bandwidth"):
            PrivateDensity(bandwidth).fit(table, ledger=ledger, epsilon=0.1)
        assert ledger.history() == []
