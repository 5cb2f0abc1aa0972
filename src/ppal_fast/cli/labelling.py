"""run, ask, tell, report and ledger: a Session in a folder, and CSV sheets for the people who label."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, PrivacyError, SessionError
from ..files import ColumnRule, TableFile, check_writable_folder, read_answers, read_schema, read_table, write_rows
from ..session import Session
from .results import Score, conclude, n_bought, print_curve, write_accuracy, write_page

DEFAULT_BUDGET = 200
HELD_OUT = 0.3  # of the labelled rows, for the accuracies of --simulate


@dataclass(frozen=True)
class Task:
    """The options of ``run``."""

    table: Path
    label: str
    id: str | None
    ignore: tuple[str, ...]
    owner: str | None
    budget: int | None
    per_round: int
    epsilon: float | None
    delta: float | None
    unit: str | None
    schema: Path | None
    strategy: str
    learner: str
    seed: int
    out: Path


def start(task: Task) -> None:
    """Make the session and write the first sheet. Labels that the table has are the initial ones, and cost nothing."""
    file, rules = _read(task)
    assert file.labels is not None
    rows = np.arange(len(file.table))
    n_open = int(sum(label is None for label in file.labels))
    if n_open == 0:
        raise InputError(f"{task.table} has a label in every row of {task.label!r}; empty the cells that are to be "
                         "asked, or use --simulate to play the expert")
    with _create(task, file, rules, rows, file.labels, n_open, simulated=False) as session:
        print(f"{task.out}: {len(rows):,} rows, {len(file.table.schema.names)} columns, "
              f"{len(rows) - n_open} labels known, {session.meta['budget']} to buy")
        _write_sheet(session)


def simulate(task: Task) -> None:
    """Hide the labels, answer every question from them, and score each model on rows kept out of the pool."""
    from rich.progress import track
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    file, rules = _read(task)
    assert file.labels is not None
    known = np.flatnonzero([label is not None for label in file.labels])
    order = known[np.random.default_rng(task.seed).permutation(len(known))]
    n_test = int(HELD_OUT * len(order))
    if n_test == 0 or len({file.labels[row] for row in known}) < 2:
        raise InputError(f"{task.table} has {len(known)} labels of {len(set(file.labels[known]))} classes in "
                         f"{task.label!r}; --simulate needs at least 4 labels of 2 classes")
    test, pool = np.sort(order[:n_test]), np.sort(order[n_test:])
    answers, truth, unseen = file.labels[pool], file.labels[test].tolist(), file.table.take(test)
    curve: list[Score] = []
    with _create(task, file, rules, pool, None, len(pool), simulated=True) as session:
        rounds = range(session.ppal.n_rounds)
        for _ in track(rounds, description="asking", transient=True, disable=not sys.stdout.isatty()):
            rows = _next_rows(session)
            if len(rows):
                session.tell(rows, answers[rows].tolist())
            if _done(session):
                session.finish()
            if hasattr(session.ppal, "learner_"):  # with a ledger there may be no model before the last round
                told = session.ppal.predict(unseen).tolist()
                scores = float(accuracy_score(truth, told)), float(balanced_accuracy_score(truth, told))
                curve.append((n_bought(session), *scores))
        write_accuracy(task.out / "accuracy.csv", curve)
        print_curve(curve, task.label, truth)
        conclude(session)


def ask(folder: Path) -> None:
    with Session(folder) as session:
        _write_sheet(session)


def tell(folder: Path, labels: Path) -> None:
    """Store the answers of a filled sheet. Rows answered before may be in it, with the same answer."""
    with Session(folder) as session:
        still_open = _open_rows(session)
        rows, answers = _new_answers(session, labels, set(still_open.tolist()))
        session.tell(rows, answers)
        n_open = len(still_open) - len(rows)
        print(f"{len(rows)} answers stored; {n_bought(session)} of {session.meta['budget']} labels bought")
        if n_open:
            print(f"{n_open} rows are still open in {_sheet(session)}")
        elif _done(session):
            session.finish()
            conclude(session)
        else:
            print(f"next: ppal-fast ask {folder}")


def _new_answers(session: Session, sheet: Path, still_open: set[int]) -> tuple[list[int], list[str]]:
    """Rows and answers of the sheet that are not stored yet; one that cannot be taken refuses the whole sheet."""
    meta, labels = session.meta, session.ppal.labels_
    row_of = {name: row for row, name in enumerate(session.ids)}
    rows, answers = [], []
    told = read_answers(sheet, id=meta["id"], label=meta["label"])
    if not told:
        raise InputError(f"{sheet} has no label in column {meta['label']!r}; fill at least one row")
    for name, answer in told.items():
        row = row_of.get(name)
        if row is None:
            problem = "which is not in the table"
        elif row in still_open:
            rows.append(row)
            answers.append(answer)
            continue
        elif labels[row] == answer:
            continue
        elif labels[row] is None:
            problem = "which was not asked"
        else:
            problem = f"which is stored as {labels[row]!r} and cannot be changed to {answer!r}"
        raise InputError(f"{sheet} answers {meta['id']} {name!r}, {problem}; nothing of the sheet was stored")
    return rows, answers


def report(folder: Path) -> None:
    with Session(folder) as session:
        print(write_page(session))


def kept(folder: Path) -> None:
    """The kept items as a sheet: their labels make them rows of the next table."""
    with Session(folder) as session:
        items, meta, path = session.kept(), session.meta, folder / "kept.csv"
        if not items:
            raise SessionError(f"{folder} has no kept items; ppal-fast line MODEL --session {folder} keeps them")
        names = list(session.ppal.table_.schema.names)
        names += sorted({name for item in items for name in item.cells} - set(names))
    if path.exists() and read_answers(path, id=meta["id"], label=meta["label"]):
        raise SessionError(f"{path} holds answers already; move it away, and the sheet is written anew")
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([meta["id"], meta["label"], *names])
        writer.writerows([item.item, "", *(item.cells.get(name, "") for name in names)] for item in items)
    print(f"{len(items)} items to label in {path}; add the labelled ones to the table of the next ppal-fast run")


def ledger(folder: Path, audit: bool) -> None:
    with Session(folder) as session:
        if session.ledger is None:
            raise SessionError(f"{folder} has no ledger: it was started without --epsilon, nothing in it is private")
        print(session.ledger.report())
    if audit:
        _audit()


def _audit() -> None:
    """Attack the door of this installation on made-up records: nothing is taken from a ledger."""
    from ..privacy.audit import check_door

    print("Audit of the door:")
    findings = check_door()
    for finding in findings:
        print(f"  {'holds ' if finding.passed else 'BROKEN'} {finding.check}: {finding.detail}")
    if not all(finding.passed for finding in findings):
        raise PrivacyError("the audit found the door broken; trust no number that left through it")


# --- starting ---------------------------------------------------------------------------------------------------


def _read(task: Task) -> tuple[TableFile, dict[str, ColumnRule]]:
    """The table and its public facts, after every check that needs no work."""
    if task.epsilon is None and (task.unit is not None or task.delta is not None):
        raise InputError("--unit and --delta were given without --epsilon; give a budget, or leave them out")
    if task.epsilon is not None and task.unit is None:
        raise InputError("--epsilon was given without --unit; say what is protected: label, record or owner")
    if (task.owner is not None) != (task.unit == "owner"):
        raise InputError("--owner and --unit owner go together: one names the column, the other what is protected")
    rules = read_schema(task.schema) if task.schema is not None else {}
    file = read_table(task.table, label=task.label, id=task.id, owner=task.owner, ignore=task.ignore, rules=rules)
    if task.unit in ("record", "owner"):
        _require_public_columns(task, file, rules)
    check_writable_folder(task.out)
    return file, rules


def _require_public_columns(task: Task, file: TableFile, rules: Mapping[str, ColumnRule]) -> None:
    for name, levels in zip(file.table.schema.names, file.table.schema.levels, strict=True):
        rule = rules.get(name)
        if rule is None or (rule.levels is None if levels is not None else rule.low is None):
            fact = "levels" if levels is not None else "range"
            raise InputError(
                f"--unit {task.unit} protects the cells too, so the {fact} of column {name!r} must be public before "
                "they are read: give --schema FILE, a CSV column,kind,low,high,levels with one line a column"
            )


def _create(
    task: Task,
    file: TableFile,
    rules: Mapping[str, ColumnRule],
    rows: NDArray[np.intp],
    labels: NDArray[np.object_] | None,
    n_open: int,
    *,
    simulated: bool,
) -> Session:
    if task.budget is not None and task.budget > n_open:
        raise InputError(f"--budget was {task.budget}; {n_open} rows are left to ask")
    budget = min(DEFAULT_BUDGET, n_open) if task.budget is None else task.budget
    privacy = {} if task.epsilon is None else {
        "epsilon": task.epsilon, "delta": 1e-5 if task.delta is None else task.delta, "unit": task.unit,
    }
    meta = {
        "table": task.table.name, "label": task.label, "id": file.id_name, "kinds": file.kinds,
        "budget": budget, "simulated": simulated,
    }
    return Session.create(
        task.out, file.table.take(rows), labels, ids=[file.ids[row] for row in rows], meta=meta,
        owners=None if file.owners is None else file.owners[rows],
        learner=task.learner, strategy=task.strategy, n_per_round=min(task.per_round, budget),
        n_rounds=math.ceil(budget / task.per_round), classes=file.classes, random_state=task.seed, **privacy,
    )


# --- rounds -----------------------------------------------------------------------------------------------------


def _done(session: Session) -> bool:
    return _n_closed(session) >= session.ppal.n_rounds or not _n_unlabelled(session)


def _n_closed(session: Session) -> int:
    return session.ppal.history_[-1].round if session.ppal.history_ else 0


def _n_unlabelled(session: Session) -> int:
    return sum(label is None for label in session.ppal.labels_)


def _open_rows(session: Session) -> NDArray[np.intp]:
    """Rows asked and not answered, without opening a round."""
    return session.ask() if session.ppal.round_ > _n_closed(session) else np.empty(0, dtype=np.intp)


def _next_rows(session: Session) -> NDArray[np.intp]:
    """The open rows, or those of a new round. How many it asks for follows from the plan, never from the answers:
    where each row flips its own coin (unit record and owner) the number asked so far is private."""
    still_open = _open_rows(session)
    if len(still_open):
        return still_open
    planned = session.meta["budget"] - session.ppal.n_per_round * session.ppal.round_
    n = min(session.ppal.n_per_round, planned, _n_unlabelled(session))
    return session.ask(n) if n else still_open


def _sheet(session: Session) -> Path:
    return session.path / f"to_label_{session.ppal.round_:02d}.csv"


def _write_sheet(session: Session) -> None:
    if _done(session):
        raise SessionError(f"{session.path} has all its {n_bought(session)} labels; ppal-fast report {session.path}")
    rows = _next_rows(session)
    while not len(rows) and not _done(session):  # item-local selection may ask nobody in a round
        rows = _next_rows(session)
    if not len(rows):
        session.finish()
        conclude(session)
        return
    path, meta = _sheet(session), session.meta
    if path.exists():
        told = read_answers(path, id=meta["id"], label=meta["label"])
        if any(session.ids[row] in told for row in rows):
            raise SessionError(f"{path} holds answers already; ppal-fast tell {session.path} {path} takes them")
    write_rows(
        path, session.ppal.table_, rows,
        ids=session.ids, id_name=meta["id"], label=meta["label"], kinds=meta["kinds"],
    )
    print(f"{len(rows)} rows to label in {path}; fill the column {meta['label']!r}, then: "
          f"ppal-fast tell {session.path} {path}")
