"""`python -m benchmarks.regress`: speed and quality of this commit against the last tag; fails if either was lost.

asv builds both commits and runs the suite on them in interleaved rounds. Its own comparison covers time and memory
(factor 1.5). The track_ metrics, where lower is better (see common.py), are compared here without any allowance.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from asv.results import iter_results

REPOSITORY = Path(__file__).resolve().parents[1]
FACTOR = 1.5
ROUNDING = 1e-9  # relative; the two builds may add in another order

Metrics = dict[tuple[str, int], float | None]


def main() -> int:
    before, now = _git("describe", "--tags", "--abbrev=0", "HEAD^"), _git("rev-parse", "HEAD")
    if before is None or now is None:
        print("There is no tag before this commit, so there is nothing to compare with.")
        return 0
    asv = [sys.executable, "-m", "asv"]
    subprocess.run([*asv, "machine", "--yes"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    compared = subprocess.run(
        [*asv, "continuous", "--interleave-rounds", "--factor", str(FACTOR), before, now], cwd=REPOSITORY, check=False
    )
    lost = list(losses(_metrics(_git("rev-parse", f"{before}^{{commit}}")), _metrics(now)))
    print(f"\nQuality (track_) since {before}: " + ("nothing was lost." if not lost else f"{len(lost)} lost."))
    print("".join(f"  {line}\n" for line in lost), end="")
    return 1 if lost or compared.returncode else 0


def losses(before: Metrics, now: Metrics) -> Iterator[str]:
    """A line for each metric that rose, or that could be had before and cannot now; new metrics are not losses."""
    for key, old in before.items():
        if old is None or key not in now:
            continue
        new = now[key]
        if new is None or not new <= old + ROUNDING * abs(old):
            yield f"{key[0]} [{key[1]}]: {old:.6g} -> {'failed' if new is None else format(new, '.6g')}"


def _metrics(commit: str | None) -> Metrics:
    """The track_ values that asv stored for a commit, one for each combination of parameters."""
    folder = json.loads((REPOSITORY / "asv.conf.json").read_text())["results_dir"]
    found: Metrics = {}
    for result in iter_results(str(REPOSITORY / folder)):
        if result.commit_hash != commit:
            continue
        for name in result.get_all_result_keys():
            if name.split(".")[-1].startswith("track_"):
                values = result.get_result_value(name, result.get_result_params(name))
                found.update({(name, i): value for i, value in enumerate(values or [None])})
    return found


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
