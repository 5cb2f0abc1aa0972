"""`python -m benchmarks.learning [--seeds 30] [--jobs 2] [--only PATTERN ...] [--list | --page]`: run, write the page.

Results are kept outside the repository by code version, table, method and seed: an interrupted run goes on where it
stopped, and what has run is never run again. ``--only "cwru@50: auto, *" "drift:*"`` runs the rows that match, then
writes the page from all that there is; ``--list`` names the rows and missing runs; ``--page`` runs nothing.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> None:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # before numpy is loaded
    from . import conformance, drift, page, plan
    from .peers import installed
    from .runs import CACHE, Store, code_version, run_all

    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="rows 'table: method' to run")
    parser.add_argument("--list", action="store_true", help="name the rows and how many of their runs are missing")
    parser.add_argument("--page", action="store_true", help="write the page from what has run, and run nothing")
    given = parser.parse_args()
    store = Store(given.cache / code_version())
    work = plan.work(given.seeds, installed()) + drift.work(given.seeds) + conformance.work(given.seeds)
    work = [item for item in work if any(fnmatch(f"{item[0]}: {item[1].name}", pattern) for pattern in given.only)]
    if given.list:
        missing: Counter[str] = Counter()
        for table, method, seed in work:
            missing[f"{table}: {method.name}"] += store.get(table, method, seed) is None
        print("\n".join(f"{n:4d}  {row}" for row, n in missing.items()))
        return
    if not given.page:
        run_all(work, store, given.jobs, lambda line: print(line, flush=True))
    page.write(store, given.seeds, DOCS, installed(), given.cache)
    print(DOCS / "learning_benchmark.md")


if __name__ == "__main__":
    main()
