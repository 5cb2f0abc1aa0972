"""info and warmup: what is installed, and the Numba kernels compiled ahead of the first use."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from pathlib import Path

from .. import __version__

EXTRAS = {
    "cli": ("typer", "rich"),
    "report": ("matplotlib", "jinja2"),
    "tables": ("pandas", "pyarrow"),
    "accounting": ("dp_accounting",),
    "dimod": ("dimod",),
}


def info() -> None:
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts().items():
        grid.add_row(name, value)
    Console(soft_wrap=True).print(grid)


def facts() -> dict[str, str]:
    """What a bug report needs."""
    from ..kernels import _density

    machine = f"{platform.system()} {platform.machine()}"
    found = {"ppal_fast": __version__, "python": f"{platform.python_version()} on {machine}"}
    found |= {name: metadata.version(name) for name in ("numpy", "scipy", "scikit-learn", "numba")}
    found["C++ kernels"] = str(_density.simd_level())
    found["threads"] = f"{usable_threads()} usable; one is used where n_jobs does not say otherwise"
    found["Numba cache"] = numba_cache()
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        found[f"extra [{extra}]"] = "present" if not missing else f'absent: pip install "ppal_fast[{extra}]"'
    return found


def usable_threads() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def numba_cache() -> str:
    """Folder of the compiled kernels; Numba falls back to the user's cache where the package cannot be written."""
    from .. import kernels

    if os.environ.get("NUMBA_CACHE_DIR"):
        return os.environ["NUMBA_CACHE_DIR"]
    beside = Path(kernels.__file__).parent / "__pycache__"
    return str(beside) if os.access(beside.parent, os.W_OK) else "the user's cache folder (the package is read-only)"


def warmup() -> None:
    """Run every compiled path once on small input, which compiles and caches what is not cached yet."""
    import time

    from rich.progress import Progress

    with Progress(transient=True) as progress:
        start = time.perf_counter()
        task = progress.add_task("compiling", total=len(STEPS))
        for name, step in STEPS.items():
            progress.update(task, description=name)
            step()
            progress.advance(task)
    print(f"kernels ready in {time.perf_counter() - start:.1f} s; cached in {numba_cache()}")


def _private_loop() -> None:
    from .. import simulate
    from ..loop import PPAL

    drawn = simulate.drives(n_rows=300, random_state=0)
    PPAL(n_rounds=1, epsilon=1.0, unit="label", classes=[0, 1], random_state=0).run(
        drawn.table, lambda rows: drawn.y[rows].tolist()
    )


def _open_loop() -> None:
    from .. import simulate
    from ..loop import PPAL

    for draw in (simulate.drives, simulate.class_shift):
        drawn = draw(n_rows=300, random_state=0)
        PPAL(n_rounds=2, random_state=0).run(drawn.table, drawn.y.__getitem__)


def _solvers() -> None:
    import numpy as np

    from ..qubo import solve_qubo

    Q = np.random.default_rng(0).normal(size=(24, 24))
    for algorithm in ("bsb", "dsb", "annealing", "tabu"):
        solve_qubo(Q, algorithm=algorithm, n_replicas=2, n_steps=10, random_state=0)
    solve_qubo(Q, cardinality=6, prove=True, random_state=0)


STEPS = {"learning": _open_loop, "private sums": _private_loop, "QUBO": _solvers}
