"""`python -m benchmarks.learning [--seeds 30] [--jobs 2] [--cache DIR]`: run what is missing, then write the page.

Results are kept by code version, table, method and seed; an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> None:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # before numpy is loaded
    from . import conformance, drift, page, plan
    from .peers import installed
    from .runs import Store, code_version, run_all

    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "ppal_fast" / "learning")
    parser.add_argument("--page", action="store_true", help="write the page from what has run, and run nothing")
    given = parser.parse_args()
    store = Store(given.cache / code_version())
    if not given.page:
        work = drift.work(given.seeds) + conformance.work(given.seeds) + plan.work(given.seeds, installed())
        run_all(work, store, given.jobs, lambda line: print(line, flush=True))
    page.write(store, given.seeds, DOCS, installed())
    print(DOCS / "learning_benchmark.md")


if __name__ == "__main__":
    main()
