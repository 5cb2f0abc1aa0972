"""The ledger: what it refuses, what it remembers, and what no crash, race or edited file can make it do."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppal_fast.errors import BudgetExceeded, InputError, LedgerError, PrivacyError
from ppal_fast.privacy import Ledger, PersonLedger, PublicMask, accounting, gaussian_sigma
from ppal_fast.privacy.book import WAIT

TERMS: dict[str, Any] = {"epsilon": 1.0, "delta": 1e-5, "unit": "record"}
ROWS = np.array([[0.5, -0.25, 0.0], [3.0, 4.0, 0.0]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger(":memory:", **TERMS) as opened:
        yield opened


def entries(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("SELECT count(*) FROM entry").fetchone()[0])


# The budget


def test_a_release_is_charged_and_told(ledger: Ledger) -> None:
    assert ledger.spent() == (0.0, 1e-5) and ledger.remaining() == pytest.approx(1.0, rel=1e-9)
    noisy = ledger.release_sum(ROWS, clip=1.0, epsilon=0.5, name="means")
    assert noisy.shape == (3,) and noisy.dtype == np.float64
    assert ledger.spent()[0] == pytest.approx(0.5, rel=1e-6) and ledger.spent()[0] <= 0.5
    (event,) = ledger.history()
    assert (event.name, event.clip, event.d, event.n_masked, event.stability, event.state) == (
        "means", 1.0, 3, 3, 1, "committed"
    )
    assert event.mu == pytest.approx(0.142211, abs=1e-6) and event.sigma == pytest.approx(7.032, abs=1e-3)
    assert event.value is not None and np.array_equal(event.value, noisy) and not event.value.flags.writeable
    with pytest.raises(FrozenInstanceError):
        event.mu = 0.0  # type: ignore[misc]


def test_the_whole_budget_can_be_spent_and_not_a_unit_more(ledger: Ledger) -> None:
    sigma = gaussian_sigma(1.0, 1e-5, 10)
    for i in range(10):
        ledger.release_sum(ROWS, clip=1.0, sigma=sigma, name=f"round {i}")
    assert ledger.spent()[0] == pytest.approx(1.0, rel=1e-6) and ledger.spent()[0] <= 1.0
    with pytest.raises(BudgetExceeded, match="round 10"):
        ledger.release_sum(ROWS, clip=1.0, sigma=sigma, name="round 10")
    assert len(ledger.history()) == 10


@pytest.mark.parametrize("first", [0.01, 0.3, 0.77, 0.999, 1.0])
def test_what_remains_can_be_asked_for(first: float) -> None:
    with Ledger(":memory:", **TERMS) as ledger:
        ledger.release_sum(ROWS, clip=1.0, epsilon=first, name="first")
        left = ledger.remaining()
        if left > 0:
            ledger.release_sum(ROWS, clip=1.0, epsilon=left, name="rest")
        assert ledger.remaining() < 1e-3 and ledger.remaining_mu() < 1e-5
        assert 0.999 < ledger.spent()[0] <= 1.0


class Untouchable(np.ndarray):
    """Rows that may not be read: any conversion to numbers fails."""

    def __array_finalize__(self, obj: Any) -> None: ...

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the rows were computed with before the budget was checked")


def test_a_refusal_comes_before_anything_is_computed_and_changes_nothing(path: Path) -> None:
    with Ledger(path, **TERMS) as ledger:
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.9, name="a")
        before, head = ledger.history(), ledger.head
        with pytest.raises(BudgetExceeded, match=r"at most epsilon=0\.\d+ can be asked for"):
            ledger.release_sum(np.full((2, 3), np.nan).view(Untouchable), clip=1.0, epsilon=0.9, name="b")
        assert ledger.head == head and [e.name for e in ledger.history()] == [e.name for e in before]
    assert entries(path) == 3


def test_stability_and_relation_multiply_the_noise_and_not_the_charge() -> None:
    spread = {}
    rows = np.zeros((1, 4000))
    for stability, relation in ((1, "zero-out"), (3, "zero-out"), (1, "replace-one"), (3, "replace-one")):
        with Ledger(":memory:", epsilon=8, delta=1e-5, unit="record", relation=relation) as ledger:
            noisy = ledger.release_sum(rows, clip=2.0, sigma=1.0, stability=stability, name="a")
            spread[stability, relation] = noisy.std()
            assert ledger.history()[0].mu == pytest.approx(1.0, rel=1e-6)
    for (stability, relation), deviation in spread.items():
        factor = 2.0 * stability * (2 if relation == "replace-one" else 1)
        assert deviation == pytest.approx(factor, rel=0.07)


def test_zero_rows_are_pure_noise_and_charged(ledger: Ledger) -> None:
    noisy = ledger.release_sum(np.zeros((0, 50)), clip=1.0, epsilon=0.5, name="nobody")
    assert (noisy != 0).all() and ledger.spent()[0] == pytest.approx(0.5, rel=1e-6)


def test_the_sum_is_the_clipped_sum_plus_noise_of_the_stated_size() -> None:
    rows = np.array([[0.5, -0.25, 0.0], [30.0, 40.0, 0.0], [0.0, 0.0, 0.0]])
    exact = np.array([0.5 + 0.6, -0.25 + 0.8, 0.0])
    noisy = []
    for _ in range(300):
        with Ledger(":memory:", epsilon=50, delta=1e-5, unit="record") as ledger:
            noisy.append(ledger.release_sum(rows, clip=1.0, sigma=0.2, name="a") - exact)
    z = np.array(noisy) / 0.2
    assert np.abs(z.mean(axis=0)).max() < 5 / np.sqrt(300) and abs(z.std() - 1.0) < 0.1


# Masks and owners


def test_a_mask_costs_nothing_and_returns_zero_outside(ledger: Ledger) -> None:
    rows = np.array([[0.1, np.nan, 1e300, 0.2]])
    mask = PublicMask(np.array([True, False, False, True]), "columns that the consortium agreed on")
    noisy = ledger.release_sum(rows, clip=1.0, epsilon=0.5, mask=mask, name="a")
    assert (noisy[[1, 2]] == 0.0).all() and (noisy[[0, 3]] != 0.0).all()
    assert ledger.history()[0].n_masked == 2 and ledger.history()[0].d == 4


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones(3, bool), "PublicMask"), ([True, True, True], "PublicMask"),
        (PublicMask(np.ones(4, bool), "declared"), "length 4"),
    ],
)
def test_a_mask_without_a_source_or_of_the_wrong_length_is_refused(ledger: Ledger, mask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.5, mask=mask, name="a")
    assert ledger.history() == []


@pytest.mark.parametrize(("mask", "source"), [([1, 0, 1], "x"), (np.ones((2, 2), bool), "x"), (np.ones(3, bool), "  ")])
def test_a_public_mask_needs_booleans_and_a_reason(mask: Any, source: str) -> None:
    with pytest.raises(InputError, match=r"^(mask|source)"):
        PublicMask(mask, source)


def test_a_public_mask_cannot_be_changed_afterwards() -> None:
    given = np.array([True, False])
    mask = PublicMask(given, "declared")
    given[:] = True
    assert mask.mask.tolist() == [True, False] and not mask.mask.flags.writeable


def test_rows_of_one_owner_are_added_and_clipped_together() -> None:
    rows = np.array([[10.0], [-9.5], [10.0], [10.0]])
    got = []
    for _ in range(200):
        with Ledger(":memory:", epsilon=50, delta=1e-5, unit="owner") as ledger:
            got.append(ledger.release_sum(rows, clip=1.0, sigma=0.2, owners=["a", "a", "b", "b"], name="a")[0])
    assert np.mean(got) == pytest.approx(0.5 + 1.0, abs=5 * 0.2 / np.sqrt(200))


@pytest.mark.parametrize("owners", [None, ["a"], ["a", "b", "c"], ["a", None], [1.0, float("nan")]])
def test_owners_missing_or_of_the_wrong_number_are_refused(owners: Any) -> None:
    with Ledger(":memory:", epsilon=1, delta=1e-5, unit="owner") as ledger:
        with pytest.raises(InputError, match=r"^owners "):
            ledger.release_sum(ROWS, clip=1.0, epsilon=0.5, owners=owners, name="a")
        assert ledger.history() == [] and ledger.spent()[0] == 0.0


def test_owners_under_another_unit_are_refused(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="unit is 'record'"):
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.5, owners=["a", "b"], name="a")


def test_sparse_rows_and_other_dtypes_give_the_sum_of_the_dense_ones() -> None:
    from scipy import sparse

    rows = np.round(np.random.default_rng(1).standard_normal((30, 6)) * 4)
    mask = np.array([True, True, False, True, True, False])
    expected = exact_sum(rows, mask)
    for same in (
        sparse.csr_matrix(rows), sparse.coo_array(rows), sparse.csc_matrix(rows), np.asfortranarray(rows),
        rows.astype(np.float32), rows.astype(int), rows.tolist(), rows[::-1],
    ):
        assert np.array_equal(exact_sum(same, mask), expected)
    owners = ["a", "b", "c"] * 10
    by_owner = exact_sum(rows, mask, owners=owners)
    assert np.abs(exact_sum(sparse.csr_matrix(rows), mask, owners=owners) - by_owner).max() <= 3


def exact_sum(rows: Any, mask: Any = None, weights: Any = None, owners: Any = None) -> Any:
    """The sum in whole grid units that the door adds its noise to."""
    from ppal_fast.privacy import sums, units

    allowed = np.ones(np.shape(rows)[1], bool) if mask is None else mask
    checked = sums.checked_rows(rows, allowed, weights)
    ready = units.by_unit(checked, owners, "record" if owners is None else "owner")
    return sums.integer_sum(*ready, sums.grid(3.0, 1.0, 1))


def test_weights_multiply_rows_before_the_clip() -> None:
    from scipy import sparse

    rng = np.random.default_rng(2)
    rows = np.where(rng.random((40, 7)) < 0.4, rng.standard_normal((40, 7)), 0.0)
    residuals = rng.standard_normal(40) * 5
    expected = exact_sum(rows * residuals[:, None])
    assert np.array_equal(exact_sum(rows, weights=residuals), expected)
    assert np.array_equal(exact_sum(sparse.csr_array(rows), weights=residuals.tolist()), expected)


def test_duplicate_entries_of_a_sparse_row_are_one_entry_before_the_clip(ledger: Ledger) -> None:
    from scipy import sparse

    pieces = sparse.csr_matrix((np.full(50, 1.0), np.zeros(50, int), [0, 50]), shape=(1, 2))
    assert not pieces.has_canonical_format
    whole = exact_sum(np.array([[50.0, 0.0]]))
    assert np.array_equal(exact_sum(pieces), whole) and np.array_equal(exact_sum(pieces, owners=["a"]), whole)
    cancelling = sparse.csr_matrix(([2.0, 9.0, -9.0], [1, 0, 0], [0, 3]), shape=(1, 2))
    assert np.array_equal(exact_sum(cancelling), exact_sum(np.array([[0.0, 2.0]])))
    ledger.release_sum(pieces, clip=1.0, epsilon=0.1, name="a")


def test_sparse_rows_are_never_made_dense(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy import sparse

    rows = sparse.csr_array(([5.0, -2.0], [7, 90_000], [0, 1, 2, 2]), shape=(3, 100_000))
    for name in ("toarray", "todense"):
        monkeypatch.setattr(sparse.csr_array, name, lambda self: pytest.fail("made dense"))
    mask = np.zeros(100_000, bool)
    mask[[5, 7, 90_000]] = True
    noisy = ledger.release_sum(
        rows, clip=1.0, epsilon=0.5, mask=PublicMask(mask, "declared"), weights=[1.0, 2.0, 3.0], name="a"
    )
    assert noisy.shape == (100_000,) and np.flatnonzero(noisy).tolist() == [5, 7, 90_000]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [1.0]}, r"^weights has shape \(1,\)"), ({"weights": [1.0, np.nan]}, "^weights has shape"),
        ({"weights": ["a", "b"]}, "could not be read"), ({"weights": [1e308, 1.0]}, "^rows has a NaN or infinite"),
    ],
)
@pytest.mark.parametrize("as_sparse", [False, True])
def test_bad_weights_and_sparse_entries_are_named_and_cost_nothing(
    ledger: Ledger, change: dict[str, Any], message: str, as_sparse: bool
) -> None:
    from scipy import sparse

    rows = np.array([[30.0, 0.0], [0.0, 4.0]])
    with pytest.raises(InputError, match=message):
        ledger.release_sum(sparse.csr_matrix(rows) if as_sparse else rows, clip=1.0, epsilon=0.5, name="a", **change)
    with pytest.raises(InputError, match=r"row 1, column 1"):
        ledger.release_sum(
            sparse.csr_matrix(np.array([[1.0, 0.0], [0.0, np.inf]])), clip=1.0, epsilon=0.5, name="a"
        )
    broken = sparse.csr_matrix(rows)
    broken.indices[1] = 17
    with pytest.raises(InputError, match="column numbers outside"):
        ledger.release_sum(broken, clip=1.0, epsilon=0.5, name="a")
    assert ledger.history() == []


def test_an_empty_mask_releases_nothing() -> None:
    with Ledger(":memory:", **TERMS) as ledger:
        mask = PublicMask(np.zeros(3, bool), "nothing is public")
        assert (ledger.release_sum(ROWS, clip=1.0, epsilon=0.5, mask=mask, name="a") == 0.0).all()


# Bad input: one sentence, and nothing was spent


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": 0.0}, "^clip was 0.0"), ({"clip": -1.0}, "^clip was"), ({"clip": np.inf}, "^clip was"),
        ({"clip": 1e-300}, "^clip was"), ({"clip": 1e300}, "^clip was"), ({"epsilon": 0.0}, "^epsilon was"),
        ({"epsilon": np.inf}, "^epsilon was"), ({"epsilon": np.nan}, "^epsilon was"),
        ({"epsilon": None}, "exactly one"), ({"sigma": 1.0}, "exactly one"),
        ({"epsilon": None, "sigma": np.inf}, "^sigma was"), ({"epsilon": None, "sigma": 1e9}, "^sigma"),
        ({"epsilon": None, "sigma": -1.0}, "^sigma was"), ({"stability": 0}, "^stability was"),
        ({"stability": 1.5}, "^stability was"), ({"stability": 10**9}, "^sigma"), ({"name": ""}, "^name was"),
        ({"name": None}, "^name was"), ({"rows": np.zeros(3)}, "^rows has shape"),
        ({"rows": np.zeros((3, 0))}, "^rows has shape"),
        ({"rows": [["a", "b"]]}, "^rows could not be read"),
        ({"rows": np.ones((2, 2)) * 1j}, "^rows could not be read"),
        ({"rows": [["1", "2"]]}, "^rows could not be read"),
        ({"rows": np.array([["2020-01-01"]], "M8[D]")}, "^rows could not be read"),
        ({"rows": [[1.0], [1.0, 2.0]]}, "^rows has rows of different lengths"),
        ({"rows": np.ma.masked_array(np.ones((2, 2)), mask=[[0, 0], [0, 1]])}, "row 1, column 1"),
        ({"rows": np.array([[np.nan, 0.0, 0.0]])}, r"^rows has a NaN or infinite entry \(row 0, column 0\)"),
        ({"rows": np.array([[0.0, 0.0, 0.0], [0.0, np.inf, 0.0]])}, r"row 1, column 1"),
    ],
)
def test_bad_input_is_named_and_costs_nothing(ledger: Ledger, change: dict[str, Any], message: str) -> None:
    request = {"rows": ROWS, "clip": 1.0, "epsilon": 0.5, "name": "a", **change}
    with pytest.raises(InputError, match=message):
        ledger.release_sum(request.pop("rows"), **request)
    assert ledger.history() == [] and ledger.spent()[0] == 0.0


@pytest.mark.parametrize("path", [3, None, "", b"ledger", "a\0b"])
def test_a_path_that_names_no_file_is_named(path: Any) -> None:
    with pytest.raises(InputError, match=r"^path was"):
        Ledger(path, **TERMS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0.0}, "^epsilon was"), ({"epsilon": np.inf}, "^epsilon was"), ({"epsilon": 101.0}, "^epsilon was"),
        ({"delta": 0.0}, "^delta was"), ({"delta": 1.0}, "^delta was"), ({"unit": "person"}, "^unit was 'person'"),
        ({"unit": "records"}, "did you mean 'record'"), ({"relation": "add"}, "^relation was"),
        ({"epsilon": 1e-9, "delta": 1e-300}, "too small a budget"),
    ],
)
def test_bad_terms_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ledger(":memory:", **{**TERMS, **change})


def test_an_epsilon_below_the_smallest_charge_is_named() -> None:
    with (
        Ledger(":memory:", epsilon=1.0, delta=1e-30, unit="record") as ledger,
        pytest.raises(InputError, match=r"^epsilon was 1e-06"),
    ):
        ledger.release_sum(ROWS, clip=1.0, epsilon=1e-6, name="a")


def test_a_sum_that_would_overflow_the_grid_is_refused(ledger: Ledger) -> None:
    rows = np.lib.stride_tricks.as_strided(np.zeros((1, 1)), shape=(2**38, 1), strides=(0, 8))
    from ppal_fast.privacy import sums

    starts = np.lib.stride_tricks.as_strided(np.zeros(1, np.intp), shape=(2**38 + 1,), strides=(0,))
    with pytest.raises(InputError, match="overflow"):
        sums.integer_sum(rows, starts, sums.grid(1.0, 1.0, 1))


# Names


def test_the_same_request_returns_the_same_numbers_whatever_the_rows(path: Path) -> None:
    with Ledger(path, **TERMS) as ledger:
        first = ledger.release_sum(ROWS, clip=1.0, epsilon=0.5, name="a")
    with Ledger(path, **TERMS) as ledger:
        again = ledger.release_sum(ROWS + 1.0, clip=1.0, epsilon=0.5, name="a")
        assert again.tobytes() == first.tobytes() and len(ledger.history()) == 1
        again[:] = 0.0
        assert ledger.release_sum(ROWS, clip=1.0, epsilon=0.5, name="a").tobytes() == first.tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"clip": 2.0}, {"epsilon": 0.4}, {"epsilon": None, "sigma": 8.0}, {"stability": 2}, {"rows": np.zeros((2, 4))},
        {"mask": PublicMask(np.array([True, True, False]), "declared")},
    ],
)
def test_a_name_with_other_public_arguments_is_refused(ledger: Ledger, change: dict[str, Any]) -> None:
    ledger.release_sum(ROWS, clip=1.0, epsilon=0.5, name="a")
    request = {"rows": ROWS, "clip": 1.0, "epsilon": 0.5, **change}
    with pytest.raises(LedgerError, match="name 'a' was used for another request"):
        ledger.release_sum(request.pop("rows"), name="a", **request)
    assert len(ledger.history()) == 1


# The file


def test_another_opening_continues_where_the_first_stopped(path: Path) -> None:
    with Ledger(path, **TERMS) as ledger:
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.6, name="a")
        told = ledger.report()
    with Ledger(str(path), **TERMS) as ledger:
        assert ledger.report() == told
        with pytest.raises(BudgetExceeded):
            ledger.release_sum(ROWS, clip=1.0, epsilon=0.9, name="b")


@pytest.mark.parametrize(
    ("change", "both"),
    [
        ({"epsilon": 2.0}, ("2.0", "1.0")), ({"delta": 1e-6}, ("1e-06", "1e-05")),
        ({"unit": "owner"}, ("owner", "record")),
        ({"relation": "replace-one"}, ("replace-one", "zero-out")),
    ],
)
def test_other_terms_are_refused_naming_both(path: Path, change: dict[str, Any], both: tuple[str, str]) -> None:
    Ledger(path, **TERMS).close()
    with pytest.raises(LedgerError) as caught:
        Ledger(path, **{**TERMS, **change})
    assert next(iter(change)) in str(caught.value) and all(value in str(caught.value) for value in both)


def spend(path: Path) -> None:
    with Ledger(path, **TERMS) as ledger:
        for name in "abc":
            ledger.release_sum(ROWS, clip=1.0, epsilon=0.3, name=name)


def edit(statement: str) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(b"not a database at all " * 400), "not a ledger"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_bytes(p.read_bytes()[:5000]), "damaged|malformed"),
        (lambda p: p.write_bytes(p.read_bytes()[:4096]), "damaged|malformed"),
        (lambda p: p.write_bytes(p.read_bytes().replace(b'"clip":1.0', b'"clip":9.0', 1)), "chain|damaged"),
        (edit("UPDATE entry SET body = replace(body, '\"units\":', '\"units\":1') WHERE seq = 1"), "chain of hashes"),
        (edit("UPDATE entry SET value = zeroblob(24) WHERE seq = 2"), "chain of hashes"),
        (edit("DELETE FROM entry WHERE seq = 3"), "chain of hashes"),
        (edit("DELETE FROM entry"), "changed by hand"),
        (edit("UPDATE entry SET seq = seq + 1 WHERE seq = 6"), "chain of hashes"),
        (edit("DROP TABLE entry"), "no such table"),
        (edit("PRAGMA user_version = 99"), "newer version"),
        (edit("PRAGMA application_id = 1"), "not a ledger"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_clear_error(path: Path, damage: Callable[[Path], None], message: str) -> None:
    spend(path)
    damage(path)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=message):
        Ledger(path, **TERMS)
    assert path.read_bytes()[:100] == before[:100] and len(path.read_bytes()) == len(before)


def test_a_folder_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="is a folder"):
        Ledger(tmp_path, **TERMS)
    with pytest.raises(LedgerError, match="cannot be created"):
        Ledger(tmp_path / "absent" / "ledger", **TERMS)


def test_a_read_only_file_is_one_clear_error(path: Path) -> None:
    """In a child without privileges, because root may write anything."""
    spend(path)
    path.chmod(0o444)
    for folder in path.parents:
        if folder.stat().st_uid == os.getuid() and folder.name.startswith(("pytest", "popen", path.parent.name)):
            folder.chmod(0o555)

    def open_it() -> None:
        if os.getuid() == 0:
            os.setuid(65534)
        with pytest.raises(LedgerError, match=r"read-only|cannot be opened"):
            Ledger(path, **TERMS)

    status = in_child(open_it)
    for folder in path.parents:
        if folder.stat().st_uid == os.getuid() and folder.name.startswith(("pytest", "popen", path.parent.name)):
            folder.chmod(0o755)
    assert status == 0


def test_a_file_deleted_or_replaced_while_open_stops_the_ledger(path: Path) -> None:
    with Ledger(path, **TERMS) as ledger:
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.3, name="a")
        path.unlink()
        with pytest.raises(LedgerError, match="deleted or replaced"):
            ledger.release_sum(ROWS, clip=1.0, epsilon=0.3, name="b")


def test_an_older_copy_put_back_while_open_stops_the_ledger(path: Path, tmp_path: Path) -> None:
    spend(path)
    old = tmp_path / "old"
    shutil.copy(path, old)
    with Ledger(path, **TERMS) as ledger:
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.3, name="d")
    opened = Ledger(path, **TERMS)
    os.replace(old, path)
    with pytest.raises(LedgerError):
        opened.spent()
    opened.close()


def test_an_older_file_than_its_witness_fails_closed(path: Path, tmp_path: Path) -> None:
    with Ledger(path, **TERMS) as ledger:
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.3, name="a")
    shutil.copy(path, tmp_path / "old")
    with Ledger(path, **TERMS) as ledger:
        earlier = ledger.head
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.3, name="b")
        witness = ledger.head
    for known in (earlier, witness):
        Ledger(path, **TERMS, witness=known).close()
    Ledger(tmp_path / "old", **TERMS, witness=earlier).close()
    with pytest.raises(LedgerError, match="older than its witness"):
        Ledger(tmp_path / "old", **TERMS, witness=witness)
    with pytest.raises(InputError, match="witness was"):
        Ledger(path, **TERMS, witness="nonsense")


def test_a_locked_ledger_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert WAIT >= 10
    monkeypatch.setattr("ppal_fast.privacy.book.WAIT", 0.05)
    with Ledger(path, **TERMS) as ledger:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="another process has held the ledger"):
            ledger.release_sum(ROWS, clip=1.0, epsilon=0.3, name="a")
        other.execute("ROLLBACK")
        other.close()
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.3, name="a")


def test_a_full_disk_before_the_charge_spends_nothing_and_after_it_burns_the_name(path: Path) -> None:
    with Ledger(path, **TERMS) as ledger:
        connection = ledger._book._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")  # SQLite's own way to a full disk
        with pytest.raises(LedgerError, match="disk is full"):
            ledger.release_sum(ROWS, clip=1.0, epsilon=0.3, name="long " * 10_000)
        assert ledger.history() == [] and ledger.spent()[0] == 0.0
        with pytest.raises(LedgerError, match="disk is full"):
            ledger.release_sum(np.zeros((1, 5000)), clip=1.0, epsilon=0.3, name="large")
        connection.execute("PRAGMA max_page_count = 100000")
        (event,) = ledger.history()
        assert event.state == "reserved" and event.value is None and ledger.spent()[0] == pytest.approx(0.3, rel=1e-6)
        with pytest.raises(LedgerError, match="burned"):
            ledger.release_sum(np.zeros((1, 5000)), clip=1.0, epsilon=0.3, name="large")


def test_a_ledger_is_found_again_after_a_change_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger("ledger", **TERMS) as ledger:
        monkeypatch.chdir("/")
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.5, name="a")
    with pytest.raises(LedgerError, match="is a device"):
        Ledger(os.devnull, **TERMS)


def test_a_ledger_is_not_copied() -> None:
    with Ledger(":memory:", **TERMS) as ledger:
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(LedgerError, match="never copied"):
                copied(ledger)


def test_a_closed_ledger_says_so(path: Path) -> None:
    ledger = Ledger(path, **TERMS)
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.spent()


# Death, races, forks


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked child that never returns to pytest; the exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(3)
    return os.waitpid(pid, 0)[1]


def test_a_kill_after_any_statement_neither_loses_a_charge_nor_frees_one(tmp_path: Path) -> None:
    with Ledger(":memory:", **TERMS) as warm:  # compile before forking
        warm.release_sum(ROWS, clip=1.0, epsilon=0.3, name="a")
    states = []
    for statement in range(1, 40):
        path = tmp_path / f"{statement}.sqlite"
        Ledger(path, **TERMS).close()
        seen = tmp_path / f"{statement}.seen"

        def die(path: Path = path, at: int = statement, seen: Path = seen) -> None:
            ledger = Ledger(path, **TERMS)
            count = iter(range(1, 1000))

            def trace(_: str) -> None:
                if next(count) == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            ledger._book._connection.set_trace_callback(trace)  # called before each statement, hence after the last
            seen.write_bytes(ledger.release_sum(ROWS, clip=1.0, epsilon=0.6, name="a").tobytes())

        status = in_child(die)
        with Ledger(path, **TERMS) as ledger:
            history = ledger.history()
            state = history[0].state if history else "nothing"
            states.append(state)
            assert ledger.spent()[0] == pytest.approx(0.6 if history else 0.0, rel=1e-6)
            assert not seen.exists() or (state == "committed" and history[0].value is not None
                                         and history[0].value.tobytes() == seen.read_bytes())
            if state == "reserved":
                with pytest.raises(LedgerError, match="burned"):
                    ledger.release_sum(ROWS, clip=1.0, epsilon=0.6, name="a")
                with pytest.raises(BudgetExceeded):
                    ledger.release_sum(ROWS, clip=1.0, epsilon=0.9, name="b")
            else:
                value = ledger.release_sum(ROWS, clip=1.0, epsilon=0.6, name="a")
                assert not history or value.tobytes() == history[0].value.tobytes()  # type: ignore[union-attr]
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
    assert states[0] == "nothing" and "reserved" in states and states[-1] == "committed"
    assert states == sorted(states, key=["nothing", "reserved", "committed"].index)


def attempt(path: str, process: int, sigma: float) -> list[str]:
    paid = []
    with Ledger(path, **TERMS) as ledger:
        for i in range(6):
            try:
                ledger.release_sum(ROWS, clip=1.0, sigma=sigma, name=f"{process}/{i}")
                paid.append(f"{process}/{i}")
            except BudgetExceeded:
                pass
    return paid


def test_many_processes_never_exceed_the_budget(path: Path) -> None:
    sigma = gaussian_sigma(1.0, 1e-5, 10)
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        paid = [name for names in pool.starmap(attempt, [(str(path), p, sigma) for p in range(8)]) for name in names]
    with Ledger(path, **TERMS) as ledger:
        assert sorted(paid) == sorted(e.name for e in ledger.history()) and len(paid) == 10
        values = {e.value.tobytes() for e in ledger.history() if e.value is not None}
        assert ledger.spent()[0] <= 1.0 and len(values) == 10


@pytest.mark.parametrize("place", ["file", "memory"])
def test_many_threads_never_exceed_the_budget(path: Path, place: str) -> None:
    sigma = gaussian_sigma(1.0, 1e-5, 10)
    with Ledger(path if place == "file" else ":memory:", **TERMS) as ledger:

        def one(i: int) -> bool:
            try:
                ledger.release_sum(ROWS, clip=1.0, sigma=sigma, name=str(i))
                return True
            except BudgetExceeded:
                return False

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(one, range(30))) == 10
        assert len(ledger.history()) == 10 and ledger.spent()[0] <= 1.0


def test_one_name_asked_by_many_threads_is_charged_once(ledger: Ledger) -> None:
    barrier = threading.Barrier(6)

    def one(_: int) -> bytes:
        barrier.wait()
        try:
            return ledger.release_sum(ROWS, clip=1.0, epsilon=0.3, name="a").tobytes()
        except LedgerError as error:  # still at work in another thread
            assert "burned" in str(error)
            return b""

    with ThreadPoolExecutor(6) as pool:
        values = set(pool.map(one, range(6))) - {b""}
    assert len(values) == 1 and len(ledger.history()) == 1


def test_a_forked_child_must_open_the_ledger_itself(path: Path) -> None:
    with Ledger(path, **TERMS) as ledger:

        def inherited() -> None:
            with pytest.raises(LedgerError, match="before a fork"):
                ledger.spent()

        def opened_anew() -> None:
            with Ledger(path, **TERMS) as own:
                own.release_sum(ROWS, clip=1.0, epsilon=0.3, name="child")

        assert in_child(inherited) == 0 and in_child(opened_anew) == 0
        assert [e.name for e in ledger.history()] == ["child"]


# What the report says


@pytest.mark.parametrize("unit", ["label", "record", "owner"])
@pytest.mark.parametrize("relation", ["zero-out", "replace-one"])
def test_the_report_states_what_a_reader_needs(unit: str, relation: str) -> None:
    with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit=unit, relation=relation) as ledger:
        owners = ["a", "b"] if unit == "owner" else None
        ledger.release_sum(ROWS, clip=1.0, epsilon=0.5, owners=owners, name="means")
        report = ledger.report()
        for word in ("epsilon 1", "delta 1e-05", repr(unit), "zero-out", "replace-one", "Releases: 1", "'means'"):
            assert word in report
        factor = 2 if relation == "zero-out" else 1 if unit == "label" else 0.5
        mu = accounting.mu_of_epsilon(1.0, accounting.usable(1e-5)) * factor
        assert f"{accounting.epsilon_of_mu(mu, accounting.usable(1e-5)):.4g}" in report
        assert "labels" in report if unit == "label" else "roster" in report


# Several modalities of one person


def modalities(path: Any) -> PersonLedger:
    return PersonLedger(path, **TERMS, modalities={"genomics": 0.5, "imaging": 0.9})


def test_a_modality_is_stopped_by_its_cap_and_by_the_joint_total() -> None:
    with modalities(":memory:") as person:
        genomics, imaging = person.modality("genomics"), person.modality("imaging")
        assert genomics.remaining() == pytest.approx(0.5, rel=1e-6)
        genomics.release_sum(ROWS, clip=1.0, epsilon=0.5, name="variants")
        with pytest.raises(BudgetExceeded, match="modality 'genomics'"):
            genomics.release_sum(ROWS, clip=1.0, epsilon=0.05, name="more variants")
        assert imaging.remaining() == person.remaining() < 0.9
        with pytest.raises(BudgetExceeded, match="the joint ledger"):
            imaging.release_sum(ROWS, clip=1.0, epsilon=0.9, name="scans")
        imaging.release_sum(ROWS, clip=1.0, epsilon=imaging.remaining(), name="scans")
        assert person.spent()[0] == pytest.approx(1.0, rel=1e-5) and person.spent()[0] <= 1.0
        assert genomics.spent()[0] == pytest.approx(0.5, rel=1e-6)
        assert [e.name for e in genomics.history()] == ["variants"]
        assert [e.account for e in person.history()] == ["genomics", "imaging"]
        assert "genomics" in genomics.report()


def test_the_caps_are_terms_of_the_file_and_the_joint_ledger_does_not_release(path: Path) -> None:
    with modalities(path) as person, pytest.raises(PrivacyError, match="modality"):
        person.release_sum(ROWS, clip=1.0, epsilon=0.1, name="a")
    with pytest.raises(LedgerError, match="modalities"):
        Ledger(path, **TERMS)
    with pytest.raises(LedgerError, match="modalities"):
        PersonLedger(path, **TERMS, modalities={"genomics": 0.5, "imaging": 1.0})
    with pytest.raises(InputError, match="modalities"):
        PersonLedger(":memory:", **TERMS, modalities={"genomics": 2.0})
    with modalities(path) as person, pytest.raises(InputError, match="imaging"):
        person.modality("image")
