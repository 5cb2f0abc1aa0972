"""The model file: loaded as it was saved, refused when damaged; a private model's only beside its ledger."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppal_fast import PPAL, Ledger, LineScorer, simulate
from ppal_fast.errors import InputError, LedgerError, PrivacyError
from ppal_fast.learners import AutoClassifier, ClassMeanClassifier, MixtureClassifier, RandomTreesClassifier
from ppal_fast.line import image as images
from ppal_fast.table import Table

DRIVES = simulate.drives(n_rows=300, n_grades=4, random_state=0)


def saved(path: Path, learner: Any) -> LineScorer:
    learner.fit(DRIVES.table.take(np.arange(100)), DRIVES.y[:100], X_pool=DRIVES.table)
    scorer = LineScorer.from_learner(
        learner, DRIVES.schema, threshold=0.1, pool=DRIVES.table, labelled=DRIVES.table.take(np.arange(100))
    )
    scorer.save(path)
    return scorer


@pytest.mark.parametrize(
    "learner",
    [ClassMeanClassifier("both", random_state=0), MixtureClassifier(), RandomTreesClassifier(5, random_state=0),
     AutoClassifier(random_state=0)],
    ids=lambda learner: type(learner).__name__,
)
def test_what_is_loaded_decides_as_what_was_saved(learner: Any, tmp_path: Path) -> None:
    scorer = saved(tmp_path / "model.line", learner)
    again = LineScorer.load(tmp_path / "model.line")
    assert again.verdicts(DRIVES.X).tobytes() == scorer.verdicts(DRIVES.X).tobytes()
    assert again.model_id == scorer.model_id
    assert again.classes_.tolist() == scorer.classes_.tolist()
    assert again.feature_names == DRIVES.schema.names
    assert again.privacy_ == scorer.privacy_ == "not private: fitted without a ledger"
    assert "100 labelled rows" in again.density_
    assert os.listdir(tmp_path) == ["model.line"], "nothing is left beside it"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "model.line"
    saved(path, ClassMeanClassifier("products", random_state=0))
    return path.read_bytes()


def refused(image: bytes, path: Path) -> str:
    path.write_bytes(image)
    with pytest.raises(InputError) as raised:
        LineScorer.load(path)
    return str(raised.value)


def resealed(image: bytearray) -> bytes:
    return bytes(image[:32]) + hashlib.sha256(bytes(image[:32] + image[64:])).digest() + bytes(image[64:])


def test_the_model_id_is_the_digest_of_all_but_itself(model: bytes) -> None:
    assert LineScorer(model).model_id == model[32:64].hex() == hashlib.sha256(model[:32] + model[64:]).hexdigest()


def test_a_file_that_is_cut_short_is_refused(model: bytes, tmp_path: Path) -> None:
    for length in [0, 1, 7, 8, 63, 64, 65, len(model) // 2, len(model) - 8, len(model) - 1]:
        assert "cut short" in refused(model[:length], tmp_path / "model.line")
    assert "damaged" in refused(model + bytes(8), tmp_path / "model.line")


def test_a_flipped_bit_anywhere_is_found(model: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for at in [*range(64), *rng.integers(64, len(model), 60).tolist()]:
        damaged = bytearray(model)
        damaged[at] ^= 1 << int(rng.integers(8))
        assert "cannot be used: the file is" in refused(bytes(damaged), tmp_path / "model.line")


def test_another_version_byte_order_and_kind_of_file_are_named(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.line"
    assert "of another version" in refused(model[:8] + struct.pack("=I", 2) + model[12:], path)
    assert "other byte order" in refused(model[:8] + model[11:7:-1] + model[15:11:-1] + model[16:], path)
    assert "not a line model" in refused(b"SQLite format 3\0" + model[16:], path)
    with pytest.raises(InputError, match="could not be read: No such file"):
        LineScorer.load(tmp_path / "absent.line")
    with pytest.raises(InputError, match="could not be read"):
        LineScorer.load(tmp_path)


@pytest.mark.parametrize("name", images.INTEGERS)
def test_a_forged_count_is_refused_before_it_is_used(name: str, model: bytes, tmp_path: Path) -> None:
    """A file with a good digest may still be made by hand: nothing outside its bytes is ever read."""
    for value in (-1, 2**40):
        forged = bytearray(model)
        struct.pack_into("=q", forged, 64 + 8 * images.INTEGERS.index(name), value)
        assert "damaged" in refused(resealed(forged), tmp_path / "model.line")


@pytest.mark.parametrize("learner", [AutoClassifier(random_state=0), RandomTreesClassifier(3, random_state=0)])
def test_forged_indices_are_refused_or_harmless(learner: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.line"
    saved(path, learner)
    model, rng = path.read_bytes(), np.random.default_rng(0)
    first, n_refused = 64 + 8 * (len(images.INTEGERS) + len(images.REALS)), 0
    for at in rng.integers(first // 4, len(model) // 4, 150):
        forged = bytearray(model)
        struct.pack_into("=i", forged, 4 * int(at), int(rng.choice([-7, 2**20, 2**31 - 1])))
        path.write_bytes(resealed(forged))
        try:
            LineScorer.load(path).verdicts(DRIVES.X[:5])
        except (InputError, ValueError):
            n_refused += 1
    assert n_refused > 0


def test_the_bytes_are_documented_in_their_order() -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "line.md"
    words = page.read_text().partition("## The file, byte by byte")[2]
    at = 0
    for name in (*images.INTEGERS, *images.REALS, *images.ARRAYS, "text"):
        at = words.index(f"`{name}`", at)


def test_a_model_that_cannot_be_written_says_so(model: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could not be written to .*No such file"):
        LineScorer(model).save(tmp_path / "absent" / "model.line")


# Private models


def private_loop(path: Path, unit: str) -> PPAL:
    ledger = Ledger(path, epsilon=2.0, delta=1e-5, unit=unit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = PPAL(ledger=ledger, n_per_round=60, n_rounds=1, classes=range(4), strategy="random", random_state=0)
        return loop.run(DRIVES.table, lambda rows: DRIVES.y[rows])


@pytest.mark.parametrize("unit", ["label", "record"])
def test_a_private_model_is_loaded_with_its_ledger_alone(unit: str, tmp_path: Path) -> None:
    loop = private_loop(tmp_path / "ledger", unit)
    before = [release.name for release in loop.ledger_.history()]
    scorer = LineScorer.from_ppal(loop)
    assert [release.name for release in loop.ledger_.history()] == before, "post-processing is free"
    path = tmp_path / "model.line"
    scorer.save(path)
    for ledger in (loop.ledger_, tmp_path / "ledger", str(tmp_path / "ledger")):
        assert LineScorer.load(path, ledger=ledger).decide(DRIVES.X[0]) == scorer.decide(DRIVES.X[0])
    with pytest.raises(PrivacyError, match=rf"is private \(epsilon 2, delta 1e-05, unit '{unit}'\) and no ledger"):
        LineScorer.load(path)
    with pytest.raises(LedgerError, match="does not exist"):
        LineScorer.load(path, ledger=tmp_path / "absent")
    assert not (tmp_path / "absent").exists(), "looking for a ledger must not make one"
    with Ledger(":memory:", epsilon=2.0, delta=1e-5, unit=unit) as empty, pytest.raises(LedgerError, match="not hold"):
        LineScorer.load(path, ledger=empty)
    with Ledger(":memory:", epsilon=1.0, delta=1e-5, unit=unit) as other, pytest.raises(LedgerError, match="epsilon"):
        LineScorer.load(path, ledger=other)
    loop.ledger_.close()


def test_a_ledger_with_the_same_names_and_other_numbers_is_refused(tmp_path: Path) -> None:
    loop = private_loop(tmp_path / "ledger", "label")
    LineScorer.from_ppal(loop).save(tmp_path / "model.line")
    with Ledger(tmp_path / "twin", epsilon=2.0, delta=1e-5, unit="label") as twin:
        for release in loop.ledger_.history():
            twin.release_sum(np.zeros((1, release.d)), clip=1.0, sigma=20.0, name=release.name)
        with pytest.raises(LedgerError, match="as it was made"):
            LineScorer.load(tmp_path / "model.line", ledger=twin)
    loop.ledger_.close()


@pytest.mark.parametrize("unit", ["record", "label"])
def test_raw_rows_are_in_the_file_only_where_features_are_public(unit: str, tmp_path: Path) -> None:
    """The file of a protected pool is the same, byte for byte, whatever the raw rows and labels are."""
    loop = private_loop(tmp_path / "ledger", unit)
    scorer = LineScorer.from_ppal(loop, queries_per_hour=30)
    other = np.random.default_rng(0).permuted(DRIVES.X, axis=1)
    loop.table_ = Table(other, DRIVES.schema)
    loop._labels = loop._labels[::-1].copy()
    assert (LineScorer.from_ppal(loop, queries_per_hour=30).model_id == scorer.model_id) == (unit == "record")
    assert ("none of them may be in the file" in scorer.density_) == (unit == "record")
    assert (scorer.decide(DRIVES.X[0]).log_density_ratio is None) == (unit == "record")


def test_a_private_learner_goes_through_the_loop(tmp_path: Path) -> None:
    loop = private_loop(tmp_path / "ledger", "label")
    with pytest.raises(PrivacyError, match=r"use LineScorer\.from_ppal"):
        LineScorer.from_learner(loop.learner_, DRIVES.schema, threshold=0.1)
