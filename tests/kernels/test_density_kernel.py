"""The density kernels against a log-sum-exp written out, on every instruction set that this machine runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import ppal_fast
from ppal_fast.kernels import _density, reference

Float = NDArray[np.float64]
LEVELS = ("baseline", "avx2", "avx512")
DOUBLE, SINGLE = 1e-9, 2e-5


def score(
    references: Float, bandwidth: Float, queries: Float, weights: Float | None = None,
    left_out: NDArray[np.intp] | None = None, kind: Callable[..., _density.Double] = _density.Double,
) -> Float:
    out = np.full(len(queries), np.nan)
    kind(references, bandwidth, weights).log_density(queries, out, left_out)
    return out


def assert_close(found: Float, expected: Float, tolerance: float, note: str = "") -> None:
    """Within the tolerance, or within the rounding of float64 itself where the log density is huge."""
    with np.errstate(invalid="ignore"):
        error = np.where(found == expected, 0.0, np.abs(found - expected)) / (1 + 2e-14 / tolerance * np.abs(expected))
    assert not np.isnan(error).any() and error.max(initial=0) <= tolerance, f"{note} {error.max()} in {error.argmax()}"


def case(seed: int, n: int, d: int, missing: float) -> tuple[Float, Float, Float, NDArray[np.intp]]:
    """References, bandwidth, queries (near, far and very far ones) and which reference each leaves out."""
    rng = np.random.default_rng(seed)
    references, queries = rng.normal(size=(n, d)), rng.normal(size=(23, d))
    queries[3] *= 30
    queries[4:6] *= 1e3
    queries[6] = references[rng.integers(n)]
    for table in (references, queries):
        table[rng.random(table.shape) < missing] = np.nan
    return references, rng.uniform(0.2, 1.5, size=d), queries, rng.integers(-1, n, size=len(queries))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(2, 150), d=st.integers(1, 20),
    missing=st.sampled_from([0.0, 0.02, 0.3, 0.8, 1.0]), weighted=st.booleans(), leave=st.booleans(),
)
def test_double_is_right_to_1e_9(seed: int, n: int, d: int, missing: float, weighted: bool, leave: bool) -> None:
    references, bandwidth, queries, left_out = case(seed, n, d, missing)
    weights = np.random.default_rng(seed).random(n) + 1e-3 if weighted else None
    own = left_out if leave else None
    expected = reference.log_density(references, bandwidth, queries, weights, own)
    assert_close(score(references, bandwidth, queries, weights, own), expected, DOUBLE)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(2, 150), d=st.integers(1, 15),
    missing=st.sampled_from([0.0, 0.3, 0.8]), leave=st.booleans(),
)
def test_single_is_right_to_2e_5_near_the_references(seed: int, n: int, d: int, missing: float, leave: bool) -> None:
    references, bandwidth, queries, left_out = case(seed, n, d, missing)
    bandwidth = np.maximum(bandwidth, 0.5)
    own = left_out if leave else None
    expected = reference.log_density(references, bandwidth, queries, None, own)
    found = score(references, bandwidth, queries, None, own, _density.Single)
    near = np.r_[0:3, 7:23]
    assert_close(found[near], expected[near], SINGLE)
    # elsewhere float32 may lose up to its worst case before the row is redone in float64
    assert_close(found, expected, 1e-2)


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_tails_at_minus_100_000_nats(missing: float, rng: np.random.Generator) -> None:
    references, queries = rng.normal(size=(300, 15)), rng.normal(size=(40, 15))
    queries += np.where(rng.random(queries.shape) < 0.5, -1, 1) * 57.0
    references[rng.random(references.shape) < missing] = np.nan
    expected = reference.log_density(references, np.full(15, 0.5), queries)
    assert (expected < -5e4).all()
    for kind in (_density.Double, _density.Single):
        found = score(references, np.full(15, 0.5), queries, kind=kind)
        assert np.abs(found - expected).max() < DOUBLE


def test_rows_that_underflow_in_float32_are_redone(rng: np.random.Generator) -> None:
    references, queries = rng.normal(size=(500, 30)), rng.normal(size=(50, 30))
    bandwidth = np.full(30, 0.15)
    expected = reference.log_density(references, bandwidth, queries)
    assert (expected < -200).any()
    assert_close(score(references, bandwidth, queries, kind=_density.Single), expected, 1e-2)


def test_far_from_zero_nothing_cancels(rng: np.random.Generator) -> None:
    """Seconds since 1970 with a bandwidth of a millisecond, and one outlier that must not spoil the others."""
    references = 1.7e9 + rng.normal(size=(200, 3))
    references[5] = 1e300
    queries = np.vstack([references[:20], references[:20] + 1e-3])
    bandwidth = np.array([1e-3, 1.0, 0.1])
    assert_close(score(references, bandwidth, queries), reference.log_density(references, bandwidth, queries), DOUBLE)


@pytest.mark.parametrize("d", [3, 8, 20])
@pytest.mark.parametrize("distance", [30, 150, 250, 400, 3000])
def test_clusters_far_from_the_centre_in_bandwidths(d: int, distance: float, rng: np.random.Generator) -> None:
    """|x'|^2 dwarfs |x' - y'|^2: every form of the inner product cancels, and rows must be redone in time."""
    centres = rng.normal(size=(5, d))
    centres *= distance / np.sqrt((centres**2).sum(axis=1, keepdims=True))
    rows = centres[rng.integers(5, size=230)] + 0.3 * rng.normal(size=(230, d))
    references, queries, bandwidth = rows[:200].copy(), rows[200:].copy(), np.full(d, 1.2)
    references[0] *= 1e4
    expected = reference.log_density(references, bandwidth, queries)
    assert_close(score(references, bandwidth, queries), expected, DOUBLE)
    above, below = _density.Double(references, bandwidth), _density.Double(10 * references[1:], bandwidth)
    ratio = np.empty(30)
    above.log_ratio(below, queries, ratio)
    assert_close(ratio, expected - reference.log_density(10 * references[1:], bandwidth, queries), 2 * DOUBLE)


def test_huge_values_and_denormals(rng: np.random.Generator) -> None:
    references = np.array([[1e300, 5e-324], [-1e300, 0.0], [0.0, -5e-324], [1.0, 1e-310]])
    for bandwidth in (np.array([1e300, 1.0]), np.array([0.5, 1e-3]), np.array([1e150, 1e-290])):
        expected = reference.log_density(references, bandwidth, references)
        assert_close(score(references, bandwidth, references), expected, DOUBLE)
        assert_close(score(references, bandwidth, references, kind=_density.Single), expected, SINGLE)


def test_flush_to_zero_does_not_leave_the_kernel() -> None:
    score(np.zeros((70, 3)), np.ones(3), np.zeros((9, 3)), kind=_density.Single)
    assert np.array([1e-310]) * 1.0 != 0  # numpy's own products still have denormal numbers


def test_a_row_without_cells_has_log_density_0_and_an_empty_column_is_left_out(rng: np.random.Generator) -> None:
    references = rng.normal(size=(50, 3))
    references[:, 1] = np.nan
    queries = rng.normal(size=(4, 3))
    queries[0] = np.nan
    queries[1, [0, 2]] = np.nan
    found = score(references, np.ones(3), queries)
    assert found[0] == 0 and found[1] == 0
    assert_close(found[2:], score(references[:, [0, 2]].copy(), np.ones(2), queries[2:, [0, 2]].copy()), DOUBLE)


def test_leaving_a_row_out_is_fitting_without_it(rng: np.random.Generator) -> None:
    references, bandwidth = rng.normal(size=(30, 4)), np.full(4, 0.4)
    references[rng.random(references.shape) < 0.5] = np.nan
    weights = rng.random(30)
    weights[4] = 1e16  # the others must not drown in the sum that it is subtracted from
    found = score(references, bandwidth, references, weights, np.arange(30))
    for i in range(30):
        others = np.delete(references, i, axis=0)
        assert_close(found[i : i + 1], score(others, bandwidth, references[i : i + 1], np.delete(weights, i)), DOUBLE)


def test_nothing_is_left_without_the_only_reference() -> None:
    assert score(np.zeros((1, 2)), np.ones(2), np.zeros((1, 2)), None, np.zeros(1, dtype=np.intp))[0] == -np.inf


@pytest.mark.parametrize("d", [0, 3])
def test_no_queries_and_no_columns(d: int) -> None:
    assert score(np.zeros((5, d)), np.ones(d), np.zeros((0, d))).shape == (0,)
    assert score(np.zeros((5, 0)), np.ones(0), np.zeros((3, 0))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("missing", [0.0, 0.2, 0.8])
def test_many_queries_give_what_each_gives_alone(missing: float) -> None:
    references, bandwidth, _, _ = case(3, 300, 10, missing)
    queries = np.random.default_rng(4).normal(size=(2500, 10))
    queries[np.random.default_rng(5).random(queries.shape) < missing] = np.nan
    kernel, together, alone = _density.Double(references, bandwidth), np.empty(2500), np.empty(2500)
    kernel.log_density(queries, together)
    for i in range(0, 2500, 50):
        kernel.log_density(queries[i : i + 1], alone[i : i + 1])
    assert np.abs(together - alone)[::50].max() < 1e-12


def near_a_curve(rng: np.random.Generator, n: int, d: int) -> Float:
    """Rows of low intrinsic dimension, on which far references can be passed over."""
    along = rng.uniform(0, 4, size=(n, 1))
    return np.sin(along * np.arange(1, d + 1) / d) * 5 + 0.02 * rng.normal(size=(n, d))


@pytest.mark.parametrize("rtol", [1e-9, 1e-4, 0.5])
@pytest.mark.parametrize("kind", [_density.Double, _density.Single])
@pytest.mark.parametrize("weighted", [False, True])
def test_pruning_loses_at_most_rtol(
    rtol: float, kind: Callable[..., _density.Double], weighted: bool, rng: np.random.Generator
) -> None:
    references, queries = near_a_curve(rng, 7001, 6), near_a_curve(rng, 501, 6)
    queries[7] += 40  # far from everything: the bound must hold there too
    weights = rng.random(7001) ** 8 if weighted else None
    left_out = rng.integers(-1, 7001, size=501)
    queries[11] = references[left_out[11]]
    kernel = kind(references, np.full(6, 0.1), weights, prunable=True)
    order = kernel.pruning_order(queries, rtol)
    assert order is not None and np.array_equal(np.sort(order), np.arange(501))
    found = np.empty(501)
    kernel.log_density(queries[order], found, left_out[order], 1, rtol)
    exact = score(references, np.full(6, 0.1), queries[order], weights, left_out[order])
    rounding = DOUBLE if kind is _density.Double else 1e-3  # rows some 100 bandwidths from the centre
    lost = exact - found
    assert lost.min() >= -rounding and lost.max() <= rtol + rounding
    if rtol == 0.5 and kind is _density.Double:
        assert lost.max() > 2 * rounding, "nothing was passed over"


def test_no_pruning_where_the_probe_says_that_it_would_not_pay(rng: np.random.Generator) -> None:
    spread_out, line = rng.normal(size=(7000, 15)), near_a_curve(rng, 7000, 15)
    for references, queries, prunable in (
        (spread_out, spread_out[:500], True),  # every reference counts
        (line, line[:500], False),  # not laid out for it
        (line, line[:5], True),  # too few queries
        (line[:300], line[:500], True),  # too few references
        (line, np.where(np.eye(500, 15) > 0, np.nan, line[:500]), True),
    ):
        kernel = _density.Double(references, np.full(15, 0.2), prunable=prunable)
        assert kernel.pruning_order(np.ascontiguousarray(queries), 1e-3) is None


@pytest.mark.parametrize("kind", [_density.Double, _density.Single])
@pytest.mark.parametrize("m", [1, 7, 90])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_references_split_over_threads_give_the_same_bits(
    kind: Callable[..., _density.Double], m: int, missing: float, rng: np.random.Generator
) -> None:
    references, queries = rng.normal(size=(90_001, 3)), rng.normal(size=(m, 3))
    left_out = rng.integers(-1, len(references), size=m)
    queries[0] = references[left_out[0]]
    for table in (references, queries[1:]):  # rows with one cell go by lists, with two by blocks
        table[rng.random(table.shape) < missing] = np.nan
    kernel, found = kind(references, np.full(3, 0.3)), np.empty((3, m))
    for out, threads in zip(found, (1, 2, 5), strict=True):
        kernel.log_density(queries, out, left_out, threads)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    expected = reference.log_density(references, np.full(3, 0.3), queries, None, left_out)
    assert_close(found[0], expected, DOUBLE if kind is _density.Double else SINGLE)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(2, 300), d=st.integers(1, 8), missing=st.sampled_from([0.0, 0.3]),
    leave=st.booleans(), alike=st.booleans(),
)
def test_a_ratio_is_the_difference(seed: int, n: int, d: int, missing: float, leave: bool, alike: bool) -> None:
    references, bandwidth, queries, left_out = case(seed, n, d, missing)
    others, own = np.random.default_rng(seed + 1).normal(size=(37, d)), left_out if leave else None
    above = _density.Double(references, bandwidth)
    below = _density.Double(others, bandwidth, like=above if alike else None)
    found = np.empty(len(queries))
    above.log_ratio(below, queries, found, own)
    expected = reference.log_density(references, bandwidth, queries, None, own)
    near = np.isfinite(expected)
    expected = expected[near] - reference.log_density(others, bandwidth, queries[near])
    # far rows: the rounding of float64 is that of the two log densities
    error = np.abs(found[near] - expected) / (1 + 1e-5 * np.abs(score(others, bandwidth, queries[near])))
    assert error.max(initial=0) <= 2 * DOUBLE


def likelihoods(references: Float, bandwidth: Float, weights: Float | None, left_out: NDArray[np.intp]) -> Float:
    share = np.linspace(1, 2, len(left_out))
    return np.array([
        share @ reference.log_density(references, bandwidth * 2 ** (-i / 4), references[left_out], weights, left_out)
        for i in range(25)
    ])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 400), d=st.integers(1, 12), weighted=st.booleans())
def test_bandwidths_that_share_their_distances(seed: int, n: int, d: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    references, bandwidth = rng.standard_t(3, size=(n, d)), rng.uniform(0.5, 3, size=d)
    weights = np.where(rng.random(n) < 0.2, 0, rng.random(n)) if weighted else None
    if weights is not None:
        weights[:2] = 1
    left_out = rng.integers(n, size=11)
    kernel = _density.Double(references, bandwidth, weights)
    found = kernel.likelihood_grid(references[left_out], left_out, np.linspace(1, 2, 11))
    expected = likelihoods(references, bandwidth, weights, left_out)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)


FORCED = """
import sys
import numpy as np
from ppal_fast.kernels import _density
assert _density.simd_level() == sys.argv[1]
given = np.load(sys.argv[2])
for kind in ("Double", "Single"):
    out = np.empty(len(given["queries"]))
    getattr(_density, kind)(given["references"], given["bandwidth"]).log_density(given["queries"], out)
    np.save(sys.argv[3] + kind, out)
references, bandwidth = np.nan_to_num(given["references"]), given["bandwidth"]
own = np.arange(17)
np.save(sys.argv[3] + "grid", _density.Double(references, bandwidth).likelihood_grid(references[:17], own, np.ones(17)))
"""


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("missing", [0.0, 0.3, 0.8])
def test_every_level_is_right(level: str, missing: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    references, queries = rng.normal(size=(203, 15)), rng.normal(size=(61, 15))
    queries[:2] *= 100
    for table in (references, queries):
        table[rng.random(table.shape) < missing] = np.nan
    bandwidth = np.full(15, 0.5)
    np.savez(tmp_path / "case.npz", references=references, queries=queries, bandwidth=bandwidth)
    done = run(FORCED, level, str(tmp_path / "case.npz"), str(tmp_path) + os.sep, PPAL_SIMD=level)
    if "cannot run" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    expected = reference.log_density(references, bandwidth, queries)
    assert_close(np.load(tmp_path / "Double.npy"), expected, DOUBLE, level)
    assert_close(np.load(tmp_path / "Single.npy")[2:], expected[2:], SINGLE, level)
    filled, own, sums = np.nan_to_num(references), np.arange(17), np.load(tmp_path / "grid.npy")
    for i in (0, 1, 12, 24):
        alone = reference.log_density(filled, bandwidth * 2 ** (-i / 4), filled[:17], None, own)
        assert sums[i] == pytest.approx(alone.sum(), rel=1e-9), level


def test_an_unknown_level_is_one_clear_error() -> None:
    done = run("import ppal_fast.kernels._density", PPAL_SIMD="sse9")
    assert done.returncode != 0
    assert "PPAL_SIMD was 'sse9'; expected baseline, avx2 or avx512" in done.stderr.splitlines()[-1]


PROGRAM = r"""
#include <ppal_fast/density.hpp>
#include <cstdio>
#include <limits>
int main() {
  const double missing = std::numeric_limits<double>::quiet_NaN();
  const double references[] = {0, 1, 2, missing, -1, 0.5}, queries[] = {0.3, 0.2, missing, 1, 40, 40};
  const double bandwidth[] = {0.5, 0.7};
  double in_double[3], in_single[3];
  ppal_fast::GaussianKde<double>(references, 3, 2, bandwidth).log_density(queries, 3, in_double);
  ppal_fast::GaussianKde<float>(references, 3, 2, bandwidth).log_density(queries, 3, in_single);
  for (int i = 0; i < 3; i++) std::printf("%.15g %.15g\n", in_double[i], in_single[i]);
}
"""


@pytest.mark.parametrize("flags", [[], ["-mavx2", "-mfma"]], ids=["baseline", "avx2"])
def test_a_cpp_program_without_python_gets_the_same_numbers(flags: list[str], tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler on this machine")
    if flags and run("import ppal_fast.kernels._density", PPAL_SIMD="avx2").returncode:
        pytest.skip("this machine cannot run avx2")
    (tmp_path / "program.cpp").write_text(PROGRAM)
    warnings = ["-Wall", "-Wextra", "-Werror"]
    built = subprocess.run(
        [compiler, "-std=c++17", *warnings, *flags, "-I", ppal_fast.get_include(), "-o", "program", "program.cpp"],
        cwd=tmp_path, capture_output=True, text=True,
    )
    assert built.returncode == 0, built.stderr
    printed = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True).stdout
    found = np.array([line.split() for line in printed.splitlines()], dtype=float)
    references = np.array([[0, 1], [2, np.nan], [-1, 0.5]])
    queries = np.array([[0.3, 0.2], [np.nan, 1], [40, 40]])
    expected = reference.log_density(references, np.array([0.5, 0.7]), queries)
    assert_close(found[:, 0], expected, DOUBLE)
    assert_close(found[:, 1], expected, SINGLE)


def test_no_function_of_one_level_can_stand_in_for_another(tmp_path: Path) -> None:
    """Every symbol that a variant lets the linker merge lies in the namespace of its own level."""
    compiler, lister = shutil.which("g++") or shutil.which("c++"), shutil.which("nm")
    source = Path(__file__).resolve().parents[2] / "csrc" / "density_avx2.cpp"
    if compiler is None or lister is None:
        pytest.skip("needs a C++ compiler and nm")
    built = subprocess.run(
        [compiler, "-std=c++17", "-mavx2", "-mfma", "-I", ppal_fast.get_include(), "-c", source, "-o", "variant.o"],
        cwd=tmp_path, capture_output=True, text=True,
    )
    if built.returncode:
        pytest.skip("the compiler does not build for avx2")
    listed = subprocess.run([lister, "--defined-only", "variant.o"], cwd=tmp_path, capture_output=True, text=True)
    shared = [line.split()[-1] for line in listed.stdout.splitlines() if line.split()[-2] in "VWu"]
    assert shared and all("simd_avx2" in name for name in shared)
