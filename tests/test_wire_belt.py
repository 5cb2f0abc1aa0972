"""The belt: one message in, at most one reply; nothing answered twice, lost or mixed, whenever the process dies."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from wire_peers import N_ITEMS, cells, drawn, message, scorer, session_folder

from ppal_fast import LineScorer, Session
from ppal_fast.errors import InputError, SessionError
from ppal_fast.kept import KeptItems, kept_items
from ppal_fast.line.image import paced
from ppal_fast.wire import Belt, ModelFile


def decided(belt: Belt, told: bytes) -> dict[str, Any]:
    reply = belt.answer(told)
    assert reply.message is not None and not reply.error, reply
    return json.loads(reply.message)


def refused(belt: Belt, told: bytes) -> str:
    reply = belt.answer(told)
    assert reply.error and reply.message is not None, reply
    return json.loads(reply.message)["error"]


def test_a_decision_is_the_scorers_own() -> None:
    belt = Belt(scorer())
    for row in range(50):
        own = scorer().decide(drawn().X[row])
        told = decided(belt, message(row, row))
        assert told == {
            "item": row, "label": own.label, "probability": own.probability, "uncertainty": own.uncertainty,
            "query": told["query"], "model": scorer().model_id,
        }
    in_order = [cells(7).get(name) for name in drawn().schema.names]
    by_name = decided(belt, message("n", 7))
    by_position = decided(belt, json.dumps({"item": "p", "cells": in_order}).encode())
    assert {**by_name, "item": "p", "query": by_position["query"]} == by_position


def test_absent_null_and_unknown_categories_are_missing_cells() -> None:
    belt = Belt(scorer())
    nothing = decided(belt, b'{"item": 1, "cells": {}}')
    for i, told in enumerate(('{"maker": null, "date": null}', '{"maker": "never met"}', '{"date": NaN}')):
        same = decided(belt, f'{{"item": "{i}", "cells": {told}}}'.encode())
        assert same["probability"] == nothing["probability"]


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"item": 1, "cells": {"date": 1}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (1 << 18) + b"{}", "bytes"),
        (b"[1, 2]", "object"),
        (b'{"cells": {}}', "item"),
        (b'{"item": null, "cells": {}}', "item was None"),
        (b'{"item": true, "cells": {}}', "item was True"),
        (b'{"item": "", "cells": {}}', "item was ''"),
        (b'{"item": 1.5, "cells": {}}', "item was 1.5"),
        (b'{"item": 99999999999999999999, "cells": {}}', "item was 9999"),
        (b'{"item": "' + b"x" * 201 + b'", "cells": {}}', "item was"),
        (b'{"item": 1}', "cells was None"),
        (b'{"item": 1, "cells": "all"}', "cells was 'all'"),
        (b'{"item": 1, "cells": [1, 2]}', "array of 50 values"),
        (b'{"item": 1, "cells": {"dat": 1}}', "did you mean 'date'"),
        (b'{"item": 1, "cells": {"date": "2024"}}', "column 'date' was '2024'"),
        (b'{"item": 1, "cells": {"date": Infinity}}', "column 'date' was inf"),
        (b'{"item": 1, "cells": {"date": 1e999}}', "column 'date' was inf"),
        (b'{"item": 1, "cells": {"date": 1' + b"0" * 400 + b"}}", "column 'date' was 1000"),
        (b'{"item": 1, "cells": {"date": true}}', "column 'date' was True"),
        (b'{"item": 1, "cells": {"maker": [1]}}', "column 'maker' was [1]"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence_and_the_belt_goes_on(told: bytes, says: str) -> None:
    belt = Belt(scorer())
    sentence = refused(belt, told)
    assert says in sentence and "\n" not in sentence and len(sentence) < 400
    assert decided(belt, message(1, 3))["item"] == 1, "a refused message uses its id up"
    assert belt.counts == {"decided": 1, "asked": belt.counts["asked"], "repeated": 0, "refused": 1}


def test_an_id_is_answered_once_text_and_number_being_two() -> None:
    belt = Belt(scorer())
    decided(belt, message("7", 1))
    decided(belt, message(7, 1))
    for again in (message("7", 1), message("7", 2), message(7, 1)):
        assert belt.answer(again).message is None
    assert belt.counts["repeated"] == 3


def test_what_asks_again_gets_the_same_bytes_in_a_later_life_too(tmp_path: Path) -> None:
    folder = session_folder(tmp_path / "s")
    with Belt(scorer("a"), folder) as belt:
        first = belt.answer(message("x", 1, again=True))
        assert first.message is not None and belt.answer(message("x", 1)).message is None
        assert belt.answer(message("x", 1, again=True)) == first
        belt.confirm("x")
    with Belt(scorer("b"), folder) as belt:
        assert belt.answer(message("x", 2, again=True)) == first
        assert belt.counts["decided"] == 0 and not belt.unconfirmed


def test_the_record_is_bounded_and_remembers_at_least_its_capacity(tmp_path: Path) -> None:
    with Belt(scorer(), session_folder(tmp_path / "s"), capacity=10) as belt:
        for i in range(95):
            decided(belt, message(i, i))
            belt.confirm(i)
        assert all(belt.answer(message(i, i)).message is None for i in range(85, 95))
        assert len(belt._record) <= 20
        assert decided(belt, message(0, 0))["item"] == 0
    lines = [p.read_bytes().count(b"\n") for p in (tmp_path / "s").glob("answered*.log")]
    assert sum(lines) <= 4 * 10 + 2


def test_the_next_life_knows_what_was_answered_and_sends_what_was_not_confirmed(tmp_path: Path) -> None:
    folder = session_folder(tmp_path / "s")
    with Belt(scorer(), folder, capacity=3) as belt:
        first = [decided(belt, message(i, i)) for i in range(8)]
        for i in (0, 1, 2, 4, 5, 7):
            belt.confirm(i)
    with Belt(scorer("b"), folder, capacity=3) as belt:
        assert {i: json.loads(d) for i, d in belt.unconfirmed.items()} == {3: first[3], 6: first[6]}
        assert [belt.answer(message(i, i)).message for i in (3, 5, 6, 7)] == [None] * 4
        belt.confirm(3)
    with Belt(scorer(), folder) as belt:
        assert list(belt.unconfirmed) == [6]


def test_two_lines_may_not_share_a_session(tmp_path: Path) -> None:
    folder = session_folder(tmp_path / "s")
    with Belt(scorer(), folder), pytest.raises(SessionError, match="another line"):
        Belt(scorer(), folder)
    Belt(scorer(), folder).close()
    with pytest.raises(SessionError, match="not a session"):
        Belt(scorer(), tmp_path)


def test_a_record_cut_short_goes_on_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    folder = session_folder(tmp_path / "s")
    with Belt(scorer(), folder) as belt:
        decided(belt, message(1, 1))
    log = folder / "answered.log"
    log.write_bytes(log.read_bytes() + b'{"item": 2, "lab')
    with Belt(scorer(), folder) as belt:
        assert belt.answer(message(1, 1)).message is None
        decided(belt, message(2, 2))
    log.write_bytes(b"}{\n" + log.read_bytes())
    with pytest.raises(SessionError, match="damaged"):
        Belt(scorer(), folder)


def test_a_full_disk_answers_nothing_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = session_folder(tmp_path / "s")
    with Belt(scorer(), folder) as belt:
        whole = os.write
        with monkeypatch.context() as full:
            full.setattr(os, "write", lambda fd, line: whole(fd, line[:5]))
            with pytest.raises(SessionError, match="no space left"):
                belt.answer(message(1, 1))
        decided(belt, message(1, 1))
    with Belt(scorer(), folder) as belt:
        assert list(belt.unconfirmed) == [1]


# --- items for the expert ---------------------------------------------------------------------------------------


def test_an_item_is_on_disk_before_its_decision_says_query(tmp_path: Path) -> None:
    folder = session_folder(tmp_path / "s")
    with Belt(scorer(), folder) as belt:
        told = [decided(belt, message(f"d{i}", i)) for i in range(N_ITEMS)]
        asked = [t for t in told if t["query"]]
        assert 0 < len(asked) < N_ITEMS
        with Session(folder) as session:  # the expert looks while the line runs
            kept = session.kept()
        assert [k.decision for k in kept] == asked
        assert [k.cells for k in kept] == [cells(int(k.item[1:])) for k in kept]


def test_a_life_that_ends_at_any_write_loses_no_query_and_answers_none_twice(tmp_path: Path) -> None:
    """A child answers items and dies by SIGKILL before its n-th write; what it sent went through a pipe."""
    rows = [*[row for row in range(N_ITEMS) if scorer().decide(drawn().X[row]).query][:2], 0, 1]
    for n in range(1, 100):
        folder = session_folder(tmp_path / str(n))
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            _die_before_write(n)
            _live(folder, rows, into)
            os._exit(0)
        os.close(into)
        with os.fdopen(out, "rb") as stream:
            before = [json.loads(line) for line in stream if line.endswith(b"\n")]
        _, status = os.waitpid(child, 0)
        again, into = os.pipe()
        _live(folder, rows, into)
        os.close(into)
        with os.fdopen(again, "rb") as stream:
            after = [json.loads(line) for line in stream]
        answers: dict[Any, set[str]] = {}
        for told in before + after:
            answers.setdefault(told["item"], set()).add(json.dumps(told))
        assert set(answers) == set(rows) and all(len(a) == 1 for a in answers.values())
        kept = [k.item for k in kept_items(folder)]
        assert sorted(kept) == sorted(rows[:2])
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
    assert n == 3 * len(rows) + 2 + 1  # one life writes three times an item, and once more where it keeps it


def _live(folder: Path, rows: list[int], into: int) -> None:
    """One life: send what the last one left, answer the items, confirm each."""
    with Belt(scorer(), folder) as belt:
        for item, told in belt.unconfirmed.items():
            os.writev(into, [told, b"\n"])
            belt.confirm(item)
        for row in rows:
            reply = belt.answer(message(row, row))
            if reply.message is not None:
                os.writev(into, [reply.message, b"\n"])
                belt.confirm(row)


def _die_before_write(n: int) -> None:
    """SIGKILL this process before its n-th write to the record, the kept items or the receiver."""
    count = 0

    def step(function: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count >= n:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return counted

    os.write, os.writev = step(os.write), step(os.writev)
    KeptItems.keep = step(KeptItems.keep)


def test_the_experts_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    from ppal_fast.cli import main

    folder = session_folder(tmp_path / "s")
    assert main(["kept", str(folder)]) == 2
    assert "no kept items" in capsys.readouterr().err
    with Belt(scorer(), folder) as belt:
        for i in range(N_ITEMS):
            decided(belt, message(f"d{i}", i))
        assert main(["kept", str(folder)]) == 0, "the line runs"
    with open(folder / "kept.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["drive"] for row in rows] == [kept.item for kept in kept_items(folder)]
    for row in rows:
        own = cells(int(row.pop("drive")[1:]))
        assert row.pop("grade") == "" and {name: float(v) for name, v in row.items() if v} == own
    sheet = (folder / "kept.csv").read_text().replace(",,", ",good,", 1)
    (folder / "kept.csv").write_text(sheet)
    assert main(["kept", str(folder)]) == 2
    assert "holds answers" in capsys.readouterr().err


# --- threads and models -----------------------------------------------------------------------------------------


def test_four_threads_and_a_change_of_model_lose_double_and_mix_nothing() -> None:
    belt = Belt(scorer("a"))
    expected = {
        scorer(name).model_id: scorer(name).decide_many(drawn().X).probability for name in ("a", "b")
    }
    assert len(expected) == 2
    n, told = 2_000, [[] for _ in range(4)]

    def work(mine: list[bytes]) -> None:
        for i in range(n):
            if i % 50 == 0:
                belt.swap(scorer("ab"[i // 50 % 2]))
            if (decision := belt.answer(message(i, i)).message) is not None:
                mine.append(decision)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in told]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = [json.loads(m) for mine in told for m in mine]
    assert Counter(a["item"] for a in answers) == Counter(range(n))
    assert belt.counts["repeated"] == 3 * n
    assert {a["model"] for a in answers} == set(expected)
    for a in answers:
        assert a["probability"] == expected[a["model"]][a["item"] % N_ITEMS]


def test_a_clock_that_jumps_brings_no_flood_and_no_silence_and_an_exchange_keeps_the_pace() -> None:
    now = 1e6
    image = paced(scorer()._image, 40.0)

    def model() -> LineScorer:
        return LineScorer(image, clock=lambda: now)

    belt = Belt(model())

    def asked(n: int) -> int:
        """Of n items 0.9 seconds apart, each with a model of its own."""
        nonlocal now
        before = belt.counts["asked"]
        for _ in range(n):
            now += 0.9
            belt.swap(model())
            decided(belt, message(belt.counts["decided"], belt.counts["decided"]))
        return belt.counts["asked"] - before

    assert 25 <= asked(4_000) <= 45, "an hour, from an empty allowance"
    for jump in (86_400.0, -86_400.0, math.inf, -math.inf, math.nan):
        before, now = now, now + jump
        decided(belt, message(f"{jump}", 0))
        now = now if math.isfinite(now) else before
        assert 4 <= asked(1_000) <= 26, "a quarter of an hour's ten, and at most a full allowance of ten more"


def test_a_model_file_is_read_again_when_it_changes_and_a_damaged_one_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "model"
    scorer("a").save(path)
    file = ModelFile(path, queries_per_hour=20)
    assert file.load().queries_per_hour == 20 and file.newer() is None
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    said = file.newer()
    assert isinstance(said, str) and "model" in said and file.newer() is None
    scorer("b").save(path)
    found = file.newer()
    assert isinstance(found, LineScorer) and found.queries_per_hour == 20
    assert found.decide(drawn().X[0]).probability == scorer("b").decide(drawn().X[0]).probability
    path.unlink()
    assert file.newer() is None, "a file that is gone for a moment has not changed"
    with pytest.raises(InputError, match="could not be read"):
        file.load()


def test_capacity_is_a_whole_number() -> None:
    with pytest.raises(InputError, match="capacity was 0"):
        Belt(scorer(), capacity=0)
