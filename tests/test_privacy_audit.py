"""The audit on the real door, and on doors broken on purpose: each mutation has to be caught."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from ppal_fast.errors import InputError, PrivacyError
from ppal_fast.kernels import noise
from ppal_fast.privacy import Ledger, PublicMask, audit, gaussian_sigma, masked_clip_noise, sparse_clip_noise, sums
from ppal_fast.privacy.randomness import NoiseStream

Float = NDArray[np.float64]
DRAWS = 400_000
NOBODY, SOMEBODY = np.zeros((1, 1)), np.full((1, 1), 50.0)


@pytest.mark.parametrize(("epsilon", "share"), [(0.5, 0.86), (1.0, 0.92), (2.0, 0.95)])
def test_the_bound_comes_close_to_the_claim_and_never_above(epsilon: float, share: float) -> None:
    mechanism = audit.worlds(NOBODY, SOMEBODY, clip=1.0, sigma=gaussian_sigma(epsilon, 1e-5))
    result = audit.two_world(mechanism, delta=1e-5, n_draws=DRAWS)
    assert share * epsilon < result.epsilon_lower_bound <= epsilon
    assert 0.0 <= result.event_lower_bound <= result.epsilon_lower_bound and result.mu_lower_bound > 0.0


def test_the_bound_holds_under_replace_one_stability_and_several_coordinates() -> None:
    sigma = gaussian_sigma(1.0, 1e-5)
    opposite = audit.worlds(-SOMEBODY, SOMEBODY, clip=1.0, sigma=sigma, times=2)
    assert 0.8 < audit.two_world(opposite, delta=1e-5, n_draws=DRAWS // 4).epsilon_lower_bound <= 1.0
    spread = audit.worlds(np.zeros((1, 4)), np.array([[3.0, -4.0, 0.0, 1.0]]), clip=1.0, sigma=sigma)
    assert 0.8 < audit.two_world(spread, delta=1e-5, n_draws=DRAWS // 4).epsilon_lower_bound <= 1.0
    half_clip = audit.worlds(NOBODY, SOMEBODY / 100, clip=1.0, sigma=sigma)
    assert audit.two_world(half_clip, delta=1e-5, n_draws=DRAWS // 4).epsilon_lower_bound < 0.6


def test_the_real_ledger_itself_stays_below_the_claim() -> None:
    sigma = gaussian_sigma(2.0, 1e-5)

    def mechanism(world: int, n: int) -> Float:
        rows = np.zeros((3, 1)) if world == 0 else np.array([[0.0], [0.0], [77.0]])
        return np.array([audit.door(rows, clip=1.0, sigma=sigma)[0] for _ in range(n)])

    assert audit.two_world(mechanism, delta=1e-5, n_draws=1000).epsilon_lower_bound <= 2.0


def test_randomised_response_is_bounded_by_its_events() -> None:
    rng = np.random.default_rng(9)
    kept = np.exp(1.0) / (1 + np.exp(1.0))

    def respond(world: int, n: int) -> Float:
        return np.where(rng.random(n) < kept, world, 1 - world)

    result = audit.two_world(respond, delta=1e-9, n_draws=100_000)
    assert 0.95 < result.event_lower_bound <= 1.0


def test_the_checks_pass_on_the_real_door() -> None:
    for finding in audit.check_door(n_draws=50_000):
        assert finding.passed, finding


def test_a_mechanism_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(InputError, match="mechanism"):
        audit.two_world(lambda world, n: np.zeros(3), delta=1e-5, n_draws=1000)


# Mutations


def exceeds(mechanism: audit.Mechanism, epsilon: float) -> bool:
    return audit.two_world(mechanism, delta=1e-5, n_draws=DRAWS).epsilon_lower_bound > epsilon


def test_noise_ten_percent_low_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = noise.draw_rounded_gaussian
    monkeypatch.setattr(noise, "draw_rounded_gaussian", lambda n, s, key: original(n, 0.9 * s, key))
    assert exceeds(audit.worlds(NOBODY, SOMEBODY, clip=1.0, sigma=gaussian_sigma(1.0, 1e-5)), 1.0)


def unclipped(rows: Float, starts: Any, at: sums.Grid) -> NDArray[np.int64]:
    with np.errstate(all="ignore"):
        total = np.nan_to_num(rows, posinf=0, neginf=0).sum(axis=0) / at.gamma
    return total.clip(-(2**62), 2**62).astype(np.int64)


def to_nearest(rows: Float, starts: Any, at: sums.Grid) -> NDArray[np.int64]:
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(np.nan_to_num(rows, posinf=0, neginf=0) / 1e154, axis=1, keepdims=True) * 1e154
        scaled = np.where(norms > 0, rows * np.minimum(1.0, at.bound * at.gamma / norms), 0.0)
        return np.rint(np.nan_to_num(scaled) / at.gamma).sum(axis=0).astype(np.int64)


def test_a_clip_forgotten_is_caught_twice() -> None:
    assert not audit.clip(unclipped).passed
    sigma = gaussian_sigma(1.0, 1e-5)
    assert exceeds(audit.worlds(NOBODY, SOMEBODY / 25, clip=1.0, sigma=sigma, integer_sum=unclipped), 1.0)


def test_rounding_to_nearest_without_the_charge_is_caught() -> None:
    assert not audit.clip(to_nearest).passed


def test_noise_used_twice_is_caught() -> None:
    key = np.arange(8, dtype=np.uint32)

    def release(rows: Float, *, clip: float, sigma: float) -> Float:
        at = sums.grid(clip, sigma, 1)
        total = sums.integer_sum(rows, np.arange(len(rows) + 1), at)
        return (total + noise.draw_rounded_gaussian(len(total), at.deviation, key)) * at.gamma

    assert not audit.counter_reuse(release).passed
    assert audit.presence(release, n=5) and audit.support(release, n=5).passed  # nothing else would have noticed


def test_a_zeroed_unit_that_still_contributes_is_caught() -> None:
    def cosine(rows: Float, **arguments: Any) -> Float:
        return audit.door(np.cos(rows) if len(rows) else rows, **arguments)  # cos(0) = 1: not the zero vector

    assert not audit.presence(cosine).passed


def test_noise_skipped_where_the_sum_is_zero_is_caught() -> None:
    def sparse(rows: Float, **arguments: Any) -> Float:
        return np.where(rows.any(axis=0), audit.door(rows, **arguments), 0.0)

    assert not audit.presence(sparse).passed


def test_a_mask_derived_from_the_rows_is_caught_twice() -> None:
    def where_somebody_is(rows: Float, **arguments: Any) -> Float:
        return audit.door(rows, mask=PublicMask(rows.any(axis=0), "said to be public"), **arguments)

    assert not audit.presence(where_somebody_is).passed
    sigma = gaussian_sigma(0.5, 1e-5)

    def mechanism(world: int, n: int) -> Float:
        rows = np.array([[0.0, 1.0], [0.0, 0.0]]) if world == 0 else np.array([[0.0, 1.0], [1e-9, 0.0]])
        return np.array([where_somebody_is(rows, clip=1.0, sigma=sigma)[0] for _ in range(n)])

    assert audit.two_world(mechanism, delta=1e-5, n_draws=1000).event_lower_bound > 2.0


def test_a_key_used_for_every_release_of_the_real_door_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(NoiseStream):
        def __init__(self) -> None:
            super().__init__()
            self._key = np.arange(8, dtype=np.uint32)

    assert audit.counter_reuse().passed
    monkeypatch.setattr("ppal_fast.privacy.ledger.NoiseStream", Fixed)
    assert not audit.counter_reuse().passed


def test_float_noise_is_caught_by_its_values() -> None:
    rng = np.random.default_rng(2)

    def release(rows: Float, *, clip: float, sigma: float) -> Float:
        return rows.sum(axis=0) + sigma * rng.standard_normal(rows.shape[1])

    assert not audit.support(release).passed


def test_a_sum_in_floats_is_caught_by_its_order() -> None:
    def floats(rows: Float, starts: Any, at: sums.Grid) -> NDArray[np.int64]:
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.trunc((rows * np.minimum(1, 1 / norms)).sum(axis=0) / (at.gamma * 2**-28)).astype(np.int64)

    assert not audit.order(floats).passed


def test_a_top_k_rule_declared_item_local_is_caught() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    without = scores.copy()
    without[0] = -np.inf

    def top(world: Float) -> list[int]:
        return list(np.argsort(-world)[:3])

    def threshold(world: Float) -> list[int]:
        return list(np.flatnonzero(world > 0.55))

    assert audit.stability(threshold, scores, without, changed=0, declared=0).passed
    assert not audit.stability(top, scores, without, changed=0, declared=0).passed
    assert audit.stability(top, scores, without, changed=0, declared=1).passed


# Randomness


def test_a_stream_is_good_for_one_draw_in_one_process() -> None:
    stream = NoiseStream()
    stream.rounded_gaussian(10, 5.0)
    with pytest.raises(PrivacyError, match="used before"):
        stream.rounded_gaussian(10, 5.0)
    with pytest.raises(PrivacyError, match="never copied"):
        pickle.dumps(NoiseStream())


def test_forks_draw_different_noise_and_an_inherited_stream_raises(tmp_path: Path) -> None:
    NoiseStream().rounded_gaussian(4, 1e6)  # compiled before the fork
    inherited = NoiseStream()
    for child in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                (tmp_path / f"{child}").write_bytes(NoiseStream().rounded_gaussian(8, 1e6).tobytes())
                try:
                    inherited.rounded_gaussian(8, 1e6)
                except PrivacyError:
                    os._exit(0)
                os._exit(1)
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
    own = NoiseStream().rounded_gaussian(8, 1e6).tobytes()
    assert len({own, (tmp_path / "0").read_bytes(), (tmp_path / "1").read_bytes()}) == 3


def test_nothing_on_disk_holds_a_key_and_the_key_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[bytes] = []
    arrays: list[Any] = []
    original = noise.draw_rounded_gaussian

    def spy(n: int, deviation: float, key: Any) -> Any:
        keys.append(key.tobytes())
        arrays.append(key)
        return original(n, deviation, key)

    monkeypatch.setattr(noise, "draw_rounded_gaussian", spy)
    with Ledger(tmp_path / "ledger", epsilon=1, delta=1e-5, unit="record") as ledger:
        for name in "abc":
            ledger.release_sum(np.ones((2, 6)), clip=1.0, epsilon=0.3, name=name)
        written = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert len(set(keys)) == 3 and all(k not in written for k in keys) and not any(a.any() for a in arrays)
    assert all(k.hex().encode() not in written for k in keys)


# The simulation kernel at its public edge


def test_simulated_noise_is_zero_outside_the_mask_where_nothing_is_read() -> None:
    gradients = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    chosen = np.arange(20) % 3 == 0
    gradients[~chosen] = np.nan
    mask = PublicMask(chosen, "every third group")
    noisy = masked_clip_noise(gradients, mask, clip=1.0, sigma=0.5, random_state=1)
    assert noisy.dtype == np.float32 and noisy.shape == gradients.shape and (noisy[~chosen] == 0).all()
    assert (noisy[chosen] != 0).all()
    for n_jobs in (2, 3):
        again = masked_clip_noise(gradients, mask, clip=1.0, sigma=0.5, random_state=1, n_jobs=n_jobs)
        assert np.array_equal(noisy, again)
    assert not np.array_equal(noisy, masked_clip_noise(gradients, mask, clip=1.0, sigma=0.5))
    out = np.full_like(gradients, 7.0)
    assert masked_clip_noise(gradients, mask, clip=1.0, sigma=0.5, random_state=1, out=out) is out
    assert np.array_equal(out[chosen], noisy[chosen]) and (out[~chosen] == 7.0).all()
    gradients[0, 0] = np.inf
    with pytest.raises(InputError, match="gradients has NaN, infinite"):
        masked_clip_noise(gradients, mask, clip=1.0, sigma=0.5)


def test_simulated_noise_without_noise_is_the_clipped_gradient() -> None:
    gradients = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    mask = PublicMask(np.ones(3, bool), "all")
    clipped = masked_clip_noise(gradients[:, ::-1], mask, clip=1.0, sigma=0.0)
    np.testing.assert_allclose(clipped, [[0.8, 0.6], [0.4, 0.3], [0.0, 0.0]], rtol=1e-15)
    gradients.setflags(write=False)
    assert masked_clip_noise(gradients, mask, clip=1.0, sigma=0.0)[0, 0] == pytest.approx(0.6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_a_simulated_sparse_step_is_the_clipped_sum_of_gradients_plus_noise(dtype: type, masked: bool) -> None:
    rng = np.random.default_rng(3)
    rows = np.where(rng.random((60, 40)) < 0.2, rng.standard_normal((60, 40)), 0.0).astype(dtype)
    residuals = rng.standard_normal(60)
    chosen = rng.random(40) < 0.5 if masked else np.ones(40, bool)
    gradients = np.where(chosen, rows * residuals[:, None], 0.0)
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    expected = (gradients * np.minimum(1.0, 0.7 / np.maximum(norms, 1e-9))).sum(axis=0)
    mask = PublicMask(chosen, "drawn without looking") if masked else None
    arguments: dict[str, Any] = {"clip": 0.7, "mask": mask, "random_state": 4}
    step = sparse_clip_noise(sparse.csr_matrix(rows), residuals, sigma=0.0, **arguments)
    assert step.dtype == dtype and (step[~chosen] == 0).all()
    np.testing.assert_allclose(step, expected, atol=1e-4 if dtype == np.float32 else 1e-12)
    noisy = sparse_clip_noise(sparse.coo_array(rows), residuals, sigma=2.0, **arguments)
    spread = (noisy - step)[chosen]
    assert (spread != 0).all() and (noisy[~chosen] == 0).all() and 0.7 < spread.std() / (2.0 * 0.7) < 1.4
    assert not np.array_equal(noisy, sparse_clip_noise(sparse.csr_matrix(rows), residuals, clip=0.7, sigma=2.0))


def test_duplicate_entries_are_added_before_a_simulated_clip() -> None:
    pieces = sparse.csr_matrix((np.full(50, 1.0), np.zeros(50, int), [0, 50]), shape=(1, 2))
    assert sparse_clip_noise(pieces, [1.0], clip=1.0, sigma=0.0).tolist() == [1.0, 0.0]
    assert pieces.nnz == 50


@pytest.mark.parametrize(
    ("rows", "residuals", "message"),
    [
        (np.ones((2, 2)), [1, 1], "^rows was a ndarray"), (sparse.eye(2).tocsr(), [1.0], "^residuals has shape"),
        (sparse.eye(2).tocsr(), ["a", "b"], "^residuals has"), (sparse.eye(2).tocsr(), [1.0, np.nan], "finite norm"),
        (sparse.eye(2).tocsr() * np.inf, [1.0, 1.0], "finite norm"),
    ],
)
def test_bad_input_of_the_simulated_step_is_named(rows: Any, residuals: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sparse_clip_noise(rows, residuals, clip=1.0, sigma=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.ones(3, bool)}, "^mask was"), ({"mask": None}, "^mask was"),
        ({"mask": PublicMask(np.ones(4, bool), "x")}, "^mask has length 4"), ({"clip": 0.0}, "^clip"),
        ({"sigma": -1.0}, "^sigma"), ({"sigma": np.inf}, "^sigma"), ({"gradients": np.zeros(3)}, "^gradients"),
        ({"n_jobs": 0}, "^n_jobs"), ({"out": np.zeros((3, 3))}, "^out has shape"),
    ],
)
def test_bad_input_of_the_simulation_is_named(change: dict[str, Any], message: str) -> None:
    arguments = {"gradients": np.ones((3, 2)), "mask": PublicMask(np.ones(3, bool), "all"), "clip": 1.0, "sigma": 1.0}
    with pytest.raises(InputError, match=message):
        masked_clip_noise(**{**arguments, **change})


def test_noise_that_is_too_small_inside_the_door_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two-world check goes through the ledger's own release, not through a copy of its steps."""
    release = sums.release

    def thin(*arguments: Any) -> Any:
        *rest, at, stream = arguments
        return release(*rest, dataclasses.replace(at, deviation=0.85 * at.deviation), stream)

    monkeypatch.setattr(sums, "release", thin)
    broken = [finding for finding in audit.check_door(100_000) if not finding.passed]
    assert broken and all(finding.check == "two worlds" for finding in broken)
