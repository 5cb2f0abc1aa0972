"""`python -m benchmarks.regress`: speed and quality of this commit against the last tag; fails if either was lost.

asv builds both commits and runs the suite on them in interleaved rounds. Lost is: a time or a peak of memory that grew
by FACTOR beyond its confidence interval, and any track_ metric, where lower is better (see common.py), that rose.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FACTOR = 1.5
RELATIVE, ABSOLUTE = 1e-9, 1e-12  # rounding: two runs may add in another order
# These cannot be seeded (a clock, or noise drawn for privacy): lost is what grew by FACTOR and by this much.
UNSEEDED = {"track_seconds": 0.05, "track_gap_percent": 0.1, "track_share_of_the_claim_not_shown": 0.1}


@dataclass(frozen=True)
class Measured:
    """A value of asv with its 99 % confidence interval; None where the benchmark failed."""

    value: float | None
    low: float | None = None
    high: float | None = None


Results = dict[str, Measured]


def main() -> int:
    before, now = _git("describe", "--tags", "--abbrev=0", "HEAD^"), _git("rev-parse", "HEAD")
    if before is None or now is None:
        print("There is no tag before this commit, so there is nothing to compare with.")
        return 0
    asv = [sys.executable, "-m", "asv"]
    subprocess.run([*asv, "machine", "--yes"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    # its exit status is not asked: asv takes any rise of a metric from zero for a loss
    compare = ["continuous", "--interleave-rounds", "--factor", str(FACTOR), *sys.argv[1:], before, now]
    subprocess.run([*asv, *compare], cwd=REPOSITORY, check=False)
    old, new = _results(_git("rev-parse", f"{before}^{{commit}}")), _results(now)
    if not any(measured.value is not None for measured in new.values()):
        print("asv measured nothing: see its messages above.")
        return 1
    lost = list(losses(old, new))
    print(f"\nSince {before}: " + (f"{len(lost)} lost." if lost else f"nothing of {len(new)} benchmarks was lost."))
    print("".join(f"  {line}\n" for line in lost), end="")
    return 1 if lost else 0


def losses(before: Results, now: Results) -> Iterator[str]:
    """A line for each benchmark that is worse than before, or that fails now; new benchmarks are not losses."""
    for name, old in before.items():
        new = now.get(name)
        if old.value is None or new is None:
            continue
        if new.value is None:
            yield f"{name}: {old.value:.6g} -> failed"
        elif _is_loss(name.split("[")[0].split(".")[-1], old, new):
            yield f"{name}: {old.value:.6g} -> {new.value:.6g}"


def _is_loss(kind: str, old: Measured, new: Measured) -> bool:
    assert old.value is not None and new.value is not None
    if kind in UNSEEDED:
        return new.value > max(FACTOR * old.value, old.value + UNSEEDED[kind])
    if kind.startswith("track_"):
        return not new.value <= old.value + RELATIVE * abs(old.value) + ABSOLUTE
    apart = old.high is None or new.low is None or new.low > old.high
    return apart and new.value >= FACTOR * old.value


def _results(commit: str | None) -> Results:
    """What asv stored for a commit, one entry for each combination of parameters."""
    from asv.results import iter_results  # here, as asv imports this file where it is not installed itself

    folder = json.loads((REPOSITORY / "asv.conf.json").read_text())["results_dir"]
    found: Results = {}
    for result in iter_results(str(REPOSITORY / folder)):
        if result.commit_hash != commit:
            continue
        for name in result.get_all_result_keys():
            parameters = result.get_result_params(name)
            values = result.get_result_value(name, parameters) or [None]
            stats = result.get_result_stats(name, parameters) or [None] * len(values)
            for i, (value, interval) in enumerate(zip(values, stats, strict=True)):
                interval = interval or {}
                found[f"{name}[{i}]"] = Measured(value, interval.get("ci_99_a"), interval.get("ci_99_b"))
    return found


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
