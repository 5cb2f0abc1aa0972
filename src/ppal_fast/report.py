"""What a loop did, for people: learning curves, budget spent, and one self-contained HTML page.

Displays follow scikit-learn: build with ``from_...``, draw with ``plot(ax=None)``. Needs matplotlib and jinja2
(extra [report]). Every page states the ceiling where it is known and what privacy was promised.
"""

from __future__ import annotations

import html
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validate
from .errors import InputError

# mid tones that keep a contrast of at least 3 on white and on near-black; grey is for the weakest comparison
COLOURS = ("#2f7fd1", "#d9730d", "#2a9468", "#9065b0", "#c4554d", "#84888f")
INK = "#010203"  # stands for the page's own text colour, so that one picture serves light and dark


@dataclass(frozen=True)
class Curve:
    """Accuracy on rows that were never asked, by number of labels, over independent runs.

    n_labels (m,) ascending; accuracy (r, m), one row a run; note: one line about how the points came about.
    """

    name: str
    n_labels: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    note: str = ""

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.accuracy.mean(axis=0)

    @property
    def half_width(self) -> NDArray[np.float64]:
        """Half of the 95 % Student interval of the mean over runs; NaN for a single run."""
        runs = len(self.accuracy)
        if runs < 2:
            return np.full(len(self.n_labels), np.nan)
        from scipy.special import stdtrit

        return stdtrit(runs - 1, 0.975) * self.accuracy.std(axis=0, ddof=1) / np.sqrt(runs)

    def at(self, n_labels: int) -> tuple[float, float]:
        """Mean and half width at a number of labels; NaN where it was not measured."""
        found = np.flatnonzero(self.n_labels == n_labels)
        return (float(self.mean[found[0]]), float(self.half_width[found[0]])) if found.size else (np.nan, np.nan)


class LearningCurveDisplay:
    """Accuracy against labels, one line a method, with the 95 % band over runs and the ceiling.

    Attributes after ``plot``: ax_, figure_, lines_.
    """

    def __init__(self, curves: Iterable[Curve], *, ceiling: float | None = None) -> None:
        self.curves = tuple(curves)
        self.ceiling = ceiling
        if not self.curves:
            raise InputError("curves was empty; at least one Curve is expected")

    @classmethod
    def from_histories(
        cls,
        histories: Mapping[str, Sequence[Sequence[Any]]],
        accuracy: Mapping[str, ArrayLike],
        *,
        ceiling: float | None = None,
    ) -> LearningCurveDisplay:
        """From ``PPAL.history_`` of one or more runs a method, and the accuracies (runs, rounds) of their models.

        The rounds of the runs of one method must have asked for equally many labels.
        """
        curves = []
        for name, runs in histories.items():
            totals = np.array([np.cumsum([len(record.asked) for record in history]) for history in runs])
            measured = np.atleast_2d(np.asarray(accuracy[name], dtype=np.float64))
            if measured.shape != totals.shape or (totals != totals[0]).any():
                raise InputError(
                    f"accuracy[{name!r}] has shape {measured.shape}; {totals.shape} is expected, runs of equal rounds"
                )
            curves.append(Curve(name, totals[0], measured))
        return cls(curves, ceiling=ceiling)

    def plot(self, ax: Any = None) -> LearningCurveDisplay:
        """Draw on ``ax``, or on new axes. Returns self."""
        self.ax_ = ax = _axes(ax)
        self.figure_ = ax.figure
        self.lines_ = []
        for curve, colour in zip(self.curves, _colours(len(self.curves)), strict=True):
            marker = "o" if len(curve.n_labels) < 16 else None
            (line,) = ax.plot(curve.n_labels, curve.mean, color=colour, marker=marker, ms=3.5, lw=1.8)
            low, high = curve.mean - curve.half_width, curve.mean + curve.half_width
            ax.fill_between(curve.n_labels, low, high, color=colour, alpha=0.16, lw=0)
            self.lines_.append(line)
        if self.ceiling is not None:
            ax.axhline(self.ceiling, color=ax.xaxis.label.get_color(), lw=1, ls=(0, (5, 4)), alpha=0.6)
        heights = np.concatenate([curve.mean for curve in self.curves] + [[self.ceiling or np.nan]])
        low, high = np.nanmin(heights), np.nanmax(heights)
        pad = max(0.08 * (high - low), 0.01)
        ax.set_ylim(low - 2 * pad, high + pad)  # the means decide: a band from few runs may be wider than the picture
        _label_ends(ax, self.curves, self.lines_, self.ceiling)
        ax.set_xlabel("labels bought")
        ax.set_ylabel("accuracy on rows never asked")
        return self


class BudgetDisplay:
    """Epsilon spent by the ledger after each round, beneath the cap."""

    def __init__(self, n_labels: ArrayLike, spent: ArrayLike, *, epsilon: float) -> None:
        _validate.positive(epsilon=epsilon)
        self.n_labels = _validate.vector(n_labels, name="n_labels")
        self.spent = _validate.vector(spent, name="spent", length=len(self.n_labels))
        self.epsilon = epsilon

    @classmethod
    def from_history(cls, history: Sequence[Any], *, epsilon: float) -> BudgetDisplay:
        """From ``PPAL.history_`` of a loop with a ledger whose cap is epsilon."""
        spent = [record.epsilon_spent for record in history]
        if not spent or any(value is None for value in spent):
            raise InputError("history has rounds without a ledger; a loop that was run with a ledger is expected")
        return cls(np.cumsum([len(record.asked) for record in history]), spent, epsilon=epsilon)

    def plot(self, ax: Any = None) -> BudgetDisplay:
        """Draw on ``ax``, or on new axes. Returns self."""
        self.ax_ = ax = _axes(ax)
        self.figure_ = ax.figure
        labels = np.concatenate([[0.0], self.n_labels])
        spent = np.concatenate([[0.0], self.spent])
        ax.step(labels, spent, where="post", color=COLOURS[0], lw=1.8)
        ax.fill_between(labels, spent, step="post", color=COLOURS[0], alpha=0.16, lw=0)
        ax.plot(labels[-1], spent[-1], "o", color=COLOURS[0], ms=4)
        ax.axhline(self.epsilon, color=ax.xaxis.label.get_color(), lw=1, ls=(0, (5, 4)), alpha=0.6)
        ax.annotate(f"cap {self.epsilon:g}", (0, self.epsilon), xytext=(4, 4), textcoords="offset points")
        ax.set_ylim(0, 1.18 * self.epsilon)
        ax.set_xlabel("labels bought")
        ax.set_ylabel("epsilon spent")
        return self


@dataclass(frozen=True)
class Asked:
    """One round as the report tells it."""

    round: int
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    observed: float  # share of the cells of these rows that are observed
    entropy: float  # mean entropy of the model about them when they were asked; NaN before the first model
    epsilon_spent: float | None

    @property
    def by_label(self) -> str:
        names, counts = np.unique(self.labels, return_counts=True)
        return ", ".join(f"{n} {c}" for n, c in zip(names.tolist(), counts.tolist(), strict=True))


def asked_rounds(history: Sequence[Any], observed: NDArray[np.bool_], ids: Sequence[str] | None = None) -> list[Asked]:
    """The rounds of ``PPAL.history_`` for write_report; observed (n, d) of the pool, ids of its rows."""
    rounds = []
    for record in history:
        rows = record.asked.tolist()
        scores = np.asarray([] if record.scores is None else record.scores, dtype=np.float64)
        known = scores[~np.isnan(scores)]
        rounds.append(
            Asked(
                round=record.round,
                ids=tuple(str(row) if ids is None else str(ids[row]) for row in rows),
                labels=tuple(str(label) for label in np.asarray(record.labels).tolist()),
                observed=float(observed[rows].mean()) if rows else np.nan,
                entropy=float(known.mean()) if known.size else np.nan,
                epsilon_spent=record.epsilon_spent,
            )
        )
    return rounds


@dataclass(frozen=True)
class Page:
    """What write_report prints. ``privacy`` is mandatory: the sentences of the ledger, or why nothing is private.

    curves, ceiling   accuracies and the most that any learner could reach (None: not known)
    checkpoints       numbers of labels at which the table shows the curves; the last one of each curve if empty
    asked             the rounds of one run; budget: its BudgetDisplay where a ledger was kept
    private           some of what the page shows is protected by the ledger, and the page says who may see it
    features          (name, relevance) of the chosen columns, the most relevant first
    """

    title: str
    lead: str
    privacy: str
    settings: Mapping[str, str] = field(default_factory=dict)
    curves: Sequence[Curve] = ()
    ceiling: float | None = None
    checkpoints: Sequence[int] = ()
    asked: Sequence[Asked] = ()
    asked_note: str = ""
    budget: BudgetDisplay | None = None
    features: Sequence[tuple[str, float]] = ()
    features_note: str = ""
    private: bool = False


def write_report(path: str | os.PathLike[str], page: Page) -> Path:
    """Write the page as one HTML file without outside resources; an older file is replaced in one step."""
    _require()
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ppal_fast", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda value: "–" if np.isnan(value) else f"{100 * value:.1f} %"
    environment.filters["fixed"] = lambda value: "–" if value is None or np.isnan(value) else f"{value:.3f}"
    environment.globals["svg"] = lambda display: Markup(_svg(display))
    pictures = {"curves": LearningCurveDisplay(page.curves, ceiling=page.ceiling) if _draws(page.curves) else None}
    largest = max((abs(relevance) for _, relevance in page.features), default=1.0) or 1.0
    text = environment.get_template("report.html.j2").render(
        page=page, pictures=pictures, rows=table_rows(page), columns=_checkpoints(page), largest=largest,
        entropy_known=any(not np.isnan(r.entropy) for r in page.asked),
        privacy=[line for line in page.privacy.splitlines() if line.strip()],
    )
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
    return path


def table_rows(page: Page) -> list[tuple[str, str, list[tuple[float, float]]]]:
    """Name, note and (mean, half width) at each checkpoint, one row a curve."""
    return [(c.name, c.note, [c.at(n) for n in _checkpoints(page)]) for c in page.curves]


def save_picture(display: LearningCurveDisplay | BudgetDisplay, path: str | os.PathLike[str]) -> Path:
    """The picture alone, as PNG or SVG by its suffix, on white."""
    _require()
    import matplotlib

    path = Path(path)
    with matplotlib.rc_context(_style("#1d2126")):
        figure = _figure()
        display.plot(figure.subplots())
        figure.savefig(path, dpi=160, facecolor="white", metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


# --- drawing ----------------------------------------------------------------------------------------------------


def _require() -> None:
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise InputError('reports need matplotlib and jinja2: pip install "ppal_fast[report]"') from None


def _figure() -> Any:
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window system

    return Figure(figsize=(8.2, 4.3), layout="constrained")


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    _require()
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(8.2, 4.3), layout="constrained")[1]


def _style(ink: str) -> Any:
    return {
        "svg.fonttype": "none", "svg.hashsalt": "ppal_fast", "font.size": 10, "text.color": ink,
        "axes.labelcolor": ink, "axes.edgecolor": ink, "xtick.color": ink, "ytick.color": ink,
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7,
        "axes.grid": True, "axes.grid.axis": "y", "grid.color": ink, "grid.alpha": 0.13, "grid.linewidth": 0.7,
    }


def _svg(display: LearningCurveDisplay | BudgetDisplay) -> str:
    """The picture as inline SVG that takes its text colour and typeface from the page."""
    import matplotlib

    with matplotlib.rc_context(_style(INK)):
        figure = _figure()
        display.plot(figure.subplots())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = text.replace("'DejaVu Sans'", "inherit")
    title = html.escape(type(display).__name__.removesuffix("Display"))
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _colours(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _draws(curves: Sequence[Curve]) -> bool:
    return any(len(curve.n_labels) > 1 for curve in curves)


def _checkpoints(page: Page) -> list[int]:
    return list(page.checkpoints) or sorted({int(curve.n_labels[-1]) for curve in page.curves})


def _label_ends(ax: Any, curves: Sequence[Curve], lines: Sequence[Any], ceiling: float | None) -> None:
    """Name each line at its right end, pushed apart where they would overlap: no legend to match colours with."""
    ends = [(float(c.mean[-1]), c.name, line.get_color()) for c, line in zip(curves, lines, strict=True)]
    if ceiling is not None:
        ends.append((ceiling, f"ceiling {ceiling:.3f}", ax.xaxis.label.get_color()))
    ends.sort(key=lambda end: end[0])
    low, high = ax.get_ylim()
    gap = (high - low) * 0.055
    places = np.array([end[0] for end in ends])
    for _ in range(100):  # relax: neighbours closer than a line of text push each other away
        close = np.flatnonzero(np.diff(places) < gap - 1e-9)
        if not close.size:
            break
        for i in close:
            push = (gap - (places[i + 1] - places[i])) / 2
            places[i] -= push
            places[i + 1] += push
    for place, (_, name, colour) in zip(places, ends, strict=True):
        ax.annotate(
            name, (1.0, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", color=colour, annotation_clip=False,
        )
    ax.set_ylim(low, high)
