"""Streams: one charge, exact sensitivity, single participation, and an adversary who chooses when to join."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from ppal_fast.errors import BudgetExceeded, InputError, LedgerError, PrivacyError
from ppal_fast.privacy import Ledger, PersonLedger, PublicMask, Stream, accounting, audit, gaussian_sigma, streams, sums

Float = NDArray[np.float64]
NOBODY: list[int] = []


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger(":memory:", epsilon=100.0, delta=1e-5, unit="record") as opened:
        yield opened


def nobody(d: int) -> Float:
    return np.zeros((0, d))


# What is computed


def test_a_stream_releases_the_sum_of_all_rounds_so_far(ledger: Ledger) -> None:
    rng = np.random.default_rng(0)
    stream = ledger.stream(5, clip=1.0, sigma=0.2, horizon=5, name="s")
    total = np.zeros(5)
    for t in range(5):
        rows = rng.standard_normal((300, 5)) * 0.1
        total += (rows * np.minimum(1, 1 / np.linalg.norm(rows, axis=1, keepdims=True))).sum(axis=0)
        noisy = stream.release(rows, range(300 * t, 300 * t + 300))
        assert np.abs(noisy - total).max() < 6 * stream.deviations(5)[t]
    assert stream.round == 5 and np.array_equal(ledger.history()[-1].value, noisy)  # type: ignore[arg-type]


def test_decay_multiplies_earlier_rounds_and_needs_no_horizon(ledger: Ledger) -> None:
    stream = ledger.stream(1, clip=1.0, sigma=0.1, decay=0.5, name="s")
    expected = 0.0
    for t in range(30):
        expected = 0.5 * expected + (t % 3)
        noisy = stream.release(np.ones((t % 3, 1)), range(10 * t, 10 * t + t % 3))
        assert noisy[0] == pytest.approx(expected, abs=0.8)


@pytest.mark.parametrize(("horizon", "decay"), [(6, 1.0), (40, 0.9), (None, 0.9)])
def test_the_noise_of_each_sum_is_what_is_declared(ledger: Ledger, horizon: int | None, decay: float) -> None:
    stream = ledger.stream(20_000, clip=3.0, sigma=0.5, horizon=horizon, decay=decay, name="s")
    for declared in stream.deviations(6):
        noise = stream.release(nobody(20_000), NOBODY)
        assert noise.std() == pytest.approx(declared, rel=0.03) and abs(noise.mean()) < 5 * declared / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("horizon", "decay", "first", "last"),
    [(5, 1.0, 1.25, 1.563), (6, 1.0, 1.274, 1.624), (20, 1.0, 1.42, 2.016), (100, 1.0, 1.591, 2.531)],
)
def test_the_noise_is_that_of_the_contract(horizon: int, decay: float, first: float, last: float) -> None:
    """Deviation of the first and last sum in clip norms / mu of the whole stream."""
    with Ledger(":memory:", epsilon=8.0, delta=1e-5, unit="record") as ledger:
        deviations = ledger.stream(1, clip=1.0, sigma=1.0, horizon=horizon, decay=decay, name="s").deviations(horizon)
    assert deviations[0] == pytest.approx(first, abs=6e-3) and deviations[-1] == pytest.approx(last, abs=6e-3)


def test_with_decay_the_noise_stays_bounded_for_ever(ledger: Ledger) -> None:
    deviations = ledger.stream(1, clip=1.0, sigma=1.0, decay=0.9, name="s").deviations(2000)
    assert deviations[0] == pytest.approx(1.205, abs=2e-3) and deviations[-1] == pytest.approx(1.452, abs=2e-3)


def test_sparse_weighted_and_masked_rows_are_summed(ledger: Ledger) -> None:
    mask = PublicMask(np.array([True, False, True, True]), "declared")
    stream = ledger.stream(4, clip=1.0, sigma=0.1, horizon=2, mask=mask, name="s")
    rows = np.array([[0.5, np.nan, 0.0, 0.0], [0.0, np.nan, 4.0, 3.0]])
    noisy = stream.release(sparse.csr_array(rows), [1, 2], weights=[0.5, 100.0])
    np.testing.assert_allclose(noisy, [0.25, 0.0, 0.8, 0.6], atol=0.9)
    assert noisy[1] == 0.0 and (noisy != 0).sum() == 3


# The sensitivity, in whole numbers


class Silent:
    """A noise source without noise."""

    def rounded_gaussian(self, n: int, deviation: float) -> NDArray[np.int64]:
        return np.zeros(n, np.int64)


@pytest.mark.parametrize(("horizon", "decay", "relation"), [(7, 1.0, "zero-out"), (9, 0.7, "zero-out"),
                                                           (None, 0.6, "zero-out"), (5, 1.0, "replace-one")])
def test_no_choice_of_the_round_moves_the_releases_by_more_than_is_charged(
    horizon: int | None, decay: float, relation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """|Delta y|^2 / S^2 over all rounds, in rationals, against the charge, for every round of joining."""
    monkeypatch.setattr(streams, "NoiseStream", Silent)
    n_rounds = horizon or 25
    worst = Fraction(0)
    for joined in range(n_rounds):
        with Ledger(":memory:", epsilon=100, delta=1e-5, unit="record", relation=relation) as ledger:
            stream = ledger.stream(2, clip=0.3, sigma=0.4, horizon=horizon, decay=decay, name=f"s{joined}")
            weights, at = stream._weights, stream._at
            running = []
            for t in range(n_rounds):
                here = int(t == joined)
                running.append(stream.release(np.full((here, 2), 1e9), ["r"] * here)[0])
            increments = np.array(running) - decay * np.array([0.0, *running[:-1]])
            k = Fraction(round(increments[joined] / at.gamma))  # the first coordinate of the clipped record
            assert 0 < 2 * k * k <= at.bound**2 and np.abs(np.delete(increments, joined)).max() < 1e-6
            y = [a * k for a in weights[: n_rounds - joined]]
            worst = max(worst, 2 * sum((v * v for v in y), Fraction(0)) / Fraction(at.deviation) ** 2)
    times = 2 if relation == "replace-one" else 1
    charged = Fraction(at.units) / 2**40
    assert worst * times**2 <= charged <= 1 / Fraction(0.4) ** 2 + Fraction(2, 2**40)
    assert float(worst) * times**2 > 0.99 * float(charged)


def test_one_charge_pays_for_all_rounds_before_the_first() -> None:
    with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit="record") as ledger:
        with pytest.raises(BudgetExceeded, match="'big'"):
            ledger.stream(3, clip=1.0, epsilon=1.1, horizon=4, name="big")
        assert ledger.history() == []
        stream = ledger.stream(3, clip=1.0, epsilon=0.9, horizon=4, name="s")
        spent = ledger.spent()
        assert spent[0] == pytest.approx(0.9, rel=1e-6)
        for _ in range(4):
            stream.release(nobody(3), NOBODY)
        assert ledger.spent() == spent and [e.n_masked for e in ledger.history()] == [0, 3, 3, 3, 3]
        assert "'s/4': 3 of 3 numbers" in ledger.report() and "stream of running sums" in ledger.report()


# Participation


def test_a_second_participation_raises_and_changes_nothing(ledger: Ledger) -> None:
    stream = ledger.stream(1, clip=1.0, sigma=0.5, horizon=3, name="s")
    stream.release(np.ones((2, 1)), ["a", "b"])
    for again in (["b"], ["c", "a"], ["c", "c"]):
        with pytest.raises(PrivacyError, match="once"):
            stream.release(np.ones((len(again), 1)), again)
    assert stream.round == 1 and len(ledger.history()) == 2
    stream.release(np.ones((1, 1)), ["c"])


def test_the_round_after_the_last_raises(ledger: Ledger) -> None:
    stream = ledger.stream(1, clip=1.0, sigma=0.5, horizon=2, name="s")
    for t in range(2):
        stream.release(np.ones((1, 1)), [t])
    with pytest.raises(PrivacyError, match="declared for 2 rounds"):
        stream.release(np.ones((1, 1)), [7])


def test_an_owner_takes_part_once_with_all_rows_clipped_together() -> None:
    with Ledger(":memory:", epsilon=100, delta=1e-5, unit="owner") as ledger:
        stream = ledger.stream(1, clip=1.0, sigma=0.1, horizon=2, name="s")
        assert stream.release(np.full((50, 1), 1.0), ["mill"] * 50)[0] == pytest.approx(1.0, abs=0.8)
        with pytest.raises(PrivacyError, match="'mill'"):
            stream.release(np.ones((1, 1)), ["mill"])


def test_a_stream_ends_with_its_object(ledger: Ledger, tmp_path: Path) -> None:
    stream = ledger.stream(2, clip=1.0, sigma=0.5, horizon=3, name="s")
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(PrivacyError, match="never copied"):
            duplicate(stream)
    with pytest.raises(LedgerError, match="'s' was opened before"):
        ledger.stream(2, clip=1.0, sigma=0.5, horizon=3, name="s")
    with pytest.raises(LedgerError, match="another request"):
        ledger.stream(2, clip=1.0, sigma=0.5, horizon=4, name="s")
    with pytest.raises(LedgerError, match="another request"):
        ledger.release_sum(np.ones((1, 2)), clip=1.0, sigma=0.5, name="s")


def test_a_round_that_dies_ends_the_stream(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = ledger.stream(1, clip=1.0, sigma=0.5, horizon=3, name="s")
    append = ledger._book.append

    def full(kind: str, *arguments: Any) -> None:
        if kind == "commit":
            raise OSError("disk full")
        append(kind, *arguments)

    monkeypatch.setattr(ledger._book, "append", full)
    with pytest.raises(OSError, match="disk full"):
        stream.release(np.ones((1, 1)), ["a"])
    monkeypatch.undo()
    with pytest.raises(PrivacyError, match="round 1 of stream 's' died"):
        stream.release(np.ones((1, 1)), ["b"])


def test_who_took_part_is_not_written_down(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger", epsilon=1, delta=1e-5, unit="record") as ledger:
        stream = ledger.stream(1, clip=1.0, epsilon=0.5, horizon=3, name="s")
        stream.release(np.ones((3, 1)), ["patient-0815", "patient-4711", "patient-1234"])
        written = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"stream" in written and b"patient" not in written


def test_a_modality_may_open_a_stream_and_the_joint_ledger_may_not() -> None:
    joint = PersonLedger(":memory:", epsilon=1, delta=1e-5, unit="record", modalities={"imaging": 0.5})
    with pytest.raises(PrivacyError, match="modality"):
        joint.stream(1, clip=1.0, epsilon=0.1, horizon=2, name="s")
    with pytest.raises(BudgetExceeded, match="imaging"):
        joint.modality("imaging").stream(1, clip=1.0, epsilon=0.6, horizon=2, name="s")
    joint.modality("imaging").stream(1, clip=1.0, epsilon=0.4, horizon=2, name="s").release(np.ones((1, 1)), [1])
    assert [e.account for e in joint.history()] == ["imaging", "imaging"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": 0}, "^d was"), ({"clip": 0.0}, "^clip was"), ({"epsilon": None}, "exactly one"),
        ({"sigma": 1.0}, "exactly one"), ({"horizon": 0}, "^horizon was"), ({"horizon": None}, "^horizon was None"),
        ({"decay": 0.0}, "^decay was"), ({"decay": 1.1}, "^decay was"), ({"decay": math.nan}, "^decay was"),
        ({"horizon": 10**6}, "more than 4096 rounds"), ({"stability": 0}, "^stability was"),
        ({"mask": PublicMask(np.ones(3, bool), "x")}, "^mask has length 3"), ({"name": ""}, "^name was"),
    ],
)
def test_bad_terms_are_named_and_cost_nothing(ledger: Ledger, change: dict[str, Any], message: str) -> None:
    terms = {"d": 2, "clip": 1.0, "epsilon": 0.5, "horizon": 3, "name": "s", **change}
    with pytest.raises(InputError, match=message):
        ledger.stream(**terms)
    assert ledger.history() == []


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        (np.ones((1, 3)), ["a"], "^rows has shape"), (np.ones(2), ["a"], "^rows has shape"),
        (np.ones((2, 2)), ["a"], "^ids has length 1"), (np.ones((1, 2)), [None], "^ids has a missing"),
        (np.array([[1.0, np.nan]]), ["a"], "^rows has a NaN"),
    ],
)
def test_a_bad_round_is_named_and_nobody_took_part(ledger: Ledger, rows: Any, ids: Any, message: str) -> None:
    stream = ledger.stream(2, clip=1.0, sigma=1.0, horizon=2, name="s")
    with pytest.raises(InputError, match=message):
        stream.release(rows, ids)
    assert stream.round == 0 and isinstance(stream, Stream)
    stream.release(np.ones((1, 2)), ["a"])


# The adversary who chooses when to join


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_an_adversary_who_chooses_when_to_join_stays_below_the_claim(decay: float) -> None:
    mechanism = audit.stream_worlds(sigma=gaussian_sigma(1.0, 1e-5), decay=decay)
    result = audit.two_world(mechanism, delta=1e-5, n_draws=200_000)
    assert 0.8 < result.epsilon_lower_bound <= 1.0


def test_a_stream_charged_as_a_single_sum_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = sums.grid

    def single(*arguments: Any, squares: int, **others: Any) -> sums.Grid:
        return original(*arguments, squares=2 ** (2 * streams.WEIGHT_BITS), **others)

    monkeypatch.setattr(sums, "grid", single)
    mechanism = audit.stream_worlds(sigma=gaussian_sigma(1.0, 1e-5))
    assert audit.two_world(mechanism, delta=1e-5, n_draws=100_000).epsilon_lower_bound > 1.0


def test_a_record_that_takes_part_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the check gone: joining in the second and third round shows more than was charged."""
    monkeypatch.setattr(Stream, "_joining", lambda self, ids, n: set())
    original = Stream.release
    doubled: dict[int, Any] = {}

    def twice(self: Stream, rows: Any, ids: Any) -> Float:
        earlier = doubled.pop(id(self), None)
        if rows.shape[0]:
            doubled[id(self)] = rows
        both = rows if earlier is None else sparse.vstack([rows, earlier])
        return original(self, both, np.arange(both.shape[0]))

    monkeypatch.setattr(Stream, "release", twice)
    mechanism = audit.stream_worlds(sigma=gaussian_sigma(1.0, 1e-5))
    assert audit.two_world(mechanism, delta=1e-5, n_draws=100_000).epsilon_lower_bound > 1.0


def test_the_charge_of_a_stream_is_that_of_its_sigma(ledger: Ledger) -> None:
    ledger.stream(1, clip=1.0, sigma=2.0, horizon=12, name="s")
    assert ledger.history()[0].mu <= 0.5 + 1e-9
    assert ledger.history()[0].mu ** 2 / accounting.UNIT == pytest.approx(2**38, rel=1e-6)
