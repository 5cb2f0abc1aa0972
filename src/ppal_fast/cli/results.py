"""What a session came to: predictions, accuracies of a simulation, the report page."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..session import Session
from ..table import Table

MOST_COLUMNS_CHOSEN = 15
Score = tuple[int, float, float]  # labels bought, accuracy, balanced accuracy


def conclude(session: Session) -> None:
    """All labels are bought: say so, predict every row of the pool, write the report."""
    path = session.path / "predictions.csv"
    probabilities = session.ppal.predict_proba(session.ppal.table_)
    classes = session.ppal.classes_
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([session.meta["id"], session.meta["label"], "probability"])
        for name, p in zip(session.ids, probabilities, strict=True):
            writer.writerow([name, classes[p.argmax()], f"{p.max():.4f}"])
    print(session.ppal.privacy_)
    print(f"{path}: the predicted {session.meta['label']} of {len(session.ids):,} rows")
    print(f"{write_page(session)}: what was asked and learned")
    curves = _read_accuracy(session.path / "accuracy.csv")
    if curves and len(curves[0].n_labels) > 1:
        from ..report import LearningCurveDisplay, save_picture

        save_picture(LearningCurveDisplay(curves), session.path / "accuracy.png")


def n_bought(session: Session) -> int:
    """Answers paid for so far; the labels that the table came with are none of them."""
    n_initial = sum(len(record.asked) for record in session.ppal.history_ if record.round == 0)
    return sum(label is not None for label in session.ppal.labels_) - n_initial


def write_page(session: Session) -> Path:
    from .. import report as pages

    history, meta, ppal = session.ppal.history_, session.meta, session.ppal
    budget = None
    if session.ledger is not None and history:
        budget = pages.BudgetDisplay.from_history(history, epsilon=session.ledger.epsilon)
    features = [] if session.ledger is not None else chosen_columns(ppal.table_, ppal.labels_)
    n_columns, observed = len(ppal.table_.schema.names), ppal.table_.observed
    lead = (f"{n_bought(session)} of {meta['budget']} labels bought for {len(session.ids):,} rows of {n_columns} "
            f"columns, {100 * observed.mean():.0f} % of the cells observed.")
    if meta["simulated"]:
        lead += " Simulated: the table's own labels answered; accuracy is on rows held out."
    page = pages.Page(
        title=f"{meta['label']} in {meta['table']}",
        lead=lead,
        privacy=ppal.privacy_,
        private=session.ledger is not None,
        curves=_read_accuracy(session.path / "accuracy.csv"),
        asked=pages.asked_rounds(history, observed, session.ids),
        budget=budget,
        features=features,
        features_note="Chosen by QUBOFeatureSelector from the labelled rows: mutual information, less redundancy.",
        settings={
            "table": meta["table"], "learner": ppal.learner, "strategy": ppal.strategy,
            "labels a round": str(ppal.n_per_round), "seed": str(ppal.random_state), "ppal_fast": __version__,
        },
    )
    return pages.write_report(session.path / "report.html", page)


def chosen_columns(table: Table, labels: NDArray[np.object_]) -> list[tuple[str, float]]:
    """Columns that the labels (n,) speak for, the most relevant first; none where there is nothing to choose from."""
    from ..features import QUBOFeatureSelector

    rows = np.flatnonzero([label is not None for label in labels])
    varies = [j for j in range(table.values.shape[1]) if len(np.unique(_seen(table.values[rows, j]))) > 1]
    if len(set(labels[rows])) < 2 or len(varies) < 2:
        return []
    selector = QUBOFeatureSelector(min(MOST_COLUMNS_CHOSEN, len(varies) - 1), random_state=0)
    selector.fit(table.values[rows][:, varies], np.array(labels[rows].tolist()))
    found = [(table.schema.names[varies[k]], float(selector.relevance_[k])) for k in np.flatnonzero(selector.support_)]
    return sorted(found, key=lambda pair: -pair[1])


def _seen(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    return cells[~np.isnan(cells)]


def write_accuracy(path: Path, curve: list[Score]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("labels", "accuracy", "balanced accuracy"), *curve])


def _read_accuracy(path: Path) -> list[Any]:
    from ..report import Curve

    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    values = np.array(rows, dtype=np.float64).reshape(-1, len(header))
    n_labels = values[:, 0].astype(np.int64)
    return [Curve(name, n_labels, values[:, [j]].T) for j, name in enumerate(header) if j and len(rows)]


def print_curve(curve: list[Score], label: str, truth: list[str]) -> None:
    """Accuracies by labels bought, beside what always naming the commonest class would score."""
    from rich.console import Console
    from rich.table import Table as Grid

    names, counts = np.unique(truth, return_counts=True)
    share = f"{names[counts.argmax()]} alone would score {counts.max() / len(truth):.3f}"
    grid = Grid()
    for name in ("labels", "accuracy", "balanced accuracy"):
        grid.add_column(name, justify="right")
    for n, *scores in curve:
        grid.add_row(str(n), *(f"{score:.3f}" for score in scores))
    print(f"{label} of {len(truth):,} rows held out; {share}")
    Console().print(grid)
