"""`python -m benchmarks.compare [CONTEST ...]`: ratios of median times to peers, one thread each, one process.

A ratio above 1 says how many times longer the peer took; below 1 the peer was quicker. Absent peers are named.
"""

from __future__ import annotations

import importlib
import os
import sys

TOPICS = ("density", "qubo", "qubo_families", "noise", "loop", "line")


def main(topics: list[str]) -> int:
    unknown = [topic for topic in topics if topic not in TOPICS]
    if unknown:
        print(f"there is no contest {unknown[0]!r}; expected some of {', '.join(TOPICS)}", file=sys.stderr)
        return 2
    _one_thread()
    print(_machine())
    print("ratio: the peer's median time over that of ppal_fast; below 1 the peer is quicker. Lower is better in all.")
    for topic in topics or TOPICS:
        importlib.import_module(f"benchmarks.compare.{topic}").main()
    return 0


def _one_thread() -> None:
    """One core and one thread for everyone, before any of the libraries is loaded."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[variable] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _machine() -> str:
    """Versions, and the instruction set that numpy's BLAS chose: a peer held back by it would be an unfair win."""
    import platform

    import numpy as np
    import threadpoolctl

    import ppal_fast

    blas = {str(p.get("architecture")) for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"}
    return (
        f"ppal_fast {ppal_fast.__version__}, numpy {np.__version__} (BLAS for {', '.join(sorted(blas)) or 'unknown'}), "
        f"Python {platform.python_version()}, {platform.machine()}, one thread"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
