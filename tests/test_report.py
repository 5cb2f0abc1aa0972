"""Displays and the HTML page: what they show is what they were given, and nothing is fetched from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ppal_fast import report
from ppal_fast.errors import InputError
from ppal_fast.loop import RoundRecord

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def history(n_rounds: int = 3, epsilon: float | None = None) -> list[RoundRecord]:
    return [
        RoundRecord(
            round=k, asked=np.arange(5 * k, 5 * k + 5), labels=np.array(["low", "high", "low", "low", "high"]),
            epsilon_spent=None if epsilon is None else epsilon * k / n_rounds,
            scores=np.full(5, np.nan if k == 0 else 0.25), seconds=0.1,
        )
        for k in range(n_rounds + 1)
    ]


def curve(name: str = "loop", runs: int = 4) -> report.Curve:
    accuracy = np.array([[0.5, 0.6, 0.7]] * runs) + np.linspace(-0.02, 0.02, runs)[:, None]
    return report.Curve(name, np.array([20, 40, 60]), accuracy, note="a note")


def page(**changes: object) -> report.Page:
    content: dict[str, object] = {
        "title": "Grades <of> drives", "lead": "A lead.", "privacy": "epsilon 1, delta 1e-05\nunit label.",
        "settings": {"seed": "7"}, "curves": [curve()], "ceiling": 0.9,
        "asked": report.asked_rounds(history(epsilon=1.0), np.ones((20, 3), dtype=bool)),
        "budget": report.BudgetDisplay.from_history(history(epsilon=1.0), epsilon=1.0),
        "features": [("maker", 0.4), ("date", 0.1)], "private": True,
    }
    return report.Page(**(content | changes))  # type: ignore[arg-type]


def test_the_interval_is_students() -> None:
    from scipy import stats

    found = curve()
    low, high = stats.t.interval(0.95, 3, found.accuracy[:, 1].mean(), stats.sem(found.accuracy[:, 1]))
    mean, half = found.at(40)
    np.testing.assert_allclose([mean - half, mean + half], [low, high])
    assert np.isnan(found.at(41)).all()
    assert np.isnan(curve(runs=1).half_width).all()


def test_learning_curves_from_histories() -> None:
    runs = [history(), history()]
    accuracy = np.array([[0.5, 0.6, 0.7, 0.8], [0.6, 0.7, 0.8, 0.9]])
    display = report.LearningCurveDisplay.from_histories({"loop": runs}, {"loop": accuracy}, ceiling=0.95).plot()
    (line,) = display.lines_
    np.testing.assert_array_equal(line.get_xdata(), [5, 10, 15, 20])
    np.testing.assert_allclose(line.get_ydata(), [0.55, 0.65, 0.75, 0.85])
    assert {text.get_text() for text in display.ax_.texts} == {"loop", "ceiling 0.950"}
    with pytest.raises(InputError, match=r"shape \(2, 3\); \(2, 4\) is expected"):
        report.LearningCurveDisplay.from_histories({"loop": runs}, {"loop": accuracy[:, :3]})


def test_names_at_the_line_ends_do_not_overlap() -> None:
    same = [report.Curve(f"method {k}", np.array([20, 40]), np.array([[0.5, 0.7 + 1e-4 * k]])) for k in range(6)]
    display = report.LearningCurveDisplay(same, ceiling=0.701).plot()
    heights = np.sort([text.xy[1] for text in display.ax_.texts])
    low, high = display.ax_.get_ylim()
    assert np.diff(heights).min() > 0.05 * (high - low)


def test_budget_from_history() -> None:
    display = report.BudgetDisplay.from_history(history(epsilon=2.0), epsilon=2.0).plot()
    np.testing.assert_array_equal(display.n_labels, [5, 10, 15, 20])
    np.testing.assert_allclose(display.spent[-1], 2.0)
    with pytest.raises(InputError, match="without a ledger"):
        report.BudgetDisplay.from_history(history(), epsilon=1.0)


class Outside(HTMLParser):
    """Collects whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "data") and not (value or "").startswith(("#", "data:")):
                self.found.append(f"{tag} {value}")
        if tag in ("script", "link", "iframe", "object"):
            self.found.append(tag)


def test_the_page_says_it_all_and_fetches_nothing(tmp_path: Path) -> None:
    path = report.write_report(tmp_path / "report.html", page())
    text = path.read_text()
    reader = Outside()
    reader.feed(text)
    assert reader.found == [] and "@import" not in text and not re.search(r"url\((?!#)", text)
    for expected in (
        "Grades &lt;of&gt; drives", "epsilon 1, delta 1e-05", "unit label.", "Ceiling: 0.900", "a note", "0.700",
        "maker", "high 2, low 3", "inside the trust boundary", "seed", "prefers-color-scheme: dark",
    ):
        assert expected in text, expected
    assert report.INK not in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_page_without_privacy_curves_or_features(tmp_path: Path) -> None:
    bare = page(curves=[], ceiling=None, features=[], budget=None, private=False, privacy="not private", asked=[])
    text = report.write_report(tmp_path / "report.html", bare).read_text()
    assert "not private" in text and "trust boundary" not in text and "<svg" not in text


def test_an_unknown_ceiling_is_said(tmp_path: Path) -> None:
    text = report.write_report(tmp_path / "report.html", page(ceiling=None)).read_text()
    assert "The ceiling of this table is not known" in text


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_pictures(tmp_path: Path, suffix: str) -> None:
    path = report.save_picture(report.LearningCurveDisplay([curve()]), tmp_path / f"curves.{suffix}")
    assert path.stat().st_size > 1000


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r'pip install "ppal_fast\[report\]"'):
        report.write_report(tmp_path / "report.html", page())
