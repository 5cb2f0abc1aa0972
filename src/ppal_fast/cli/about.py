"""info and warmup: what is installed, and the Numba kernels compiled ahead of the first use."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

from .. import __version__

EXTRAS = {
    "cli": ("typer", "rich"),
    "report": ("matplotlib", "jinja2"),
    "tables": ("pandas", "pyarrow"),
    "accounting": ("dp_accounting",),
    "dimod": ("dimod",),
    "line": ("paho",),
    "opcua": ("asyncua",),
}


def info() -> None:
    found = facts()
    width = max(map(len, found)) + 2
    for name, value in found.items():
        print(f"{name:<{width}}{value}")


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
    from rich.progress import Progress

    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
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


def _sparse_noise() -> None:
    import numpy as np

    from ..privacy import PublicMask, masked_clip_noise

    mask = PublicMask(np.array([True, False]), "a warm-up")
    for dtype in (np.float32, np.float64):
        masked_clip_noise(np.ones((2, 3), dtype), mask, clip=1.0, sigma=1.0)


def _open_loop() -> None:
    from .. import simulate
    from ..loop import PPAL

    for draw in (simulate.drives, simulate.class_shift):
        drawn = draw(n_rows=300, random_state=0)
        PPAL(n_rounds=2, random_state=0).run(drawn.table, drawn.y.__getitem__)


def _solvers() -> None:
    import numpy as np
    from scipy import sparse

    from ..qubo import select_batch, solve_ising, solve_qubo, solve_qubo_batch

    Q = np.random.default_rng(0).normal(size=(24, 24))
    solve_qubo_batch(Q[None], cardinality=6, random_state=0)
    select_batch(Q[0], Q, 6, random_state=0)
    for algorithm in ("auto", "bsb"):
        solve_qubo_batch(Q[None], algorithm=algorithm, random_state=0)
    whole = np.round(3 * Q)
    few = sparse.diags_array(whole.diagonal(1), offsets=1)
    signs = np.triu(np.random.default_rng(0).choice((-1.0, 1.0), (128, 128)), 1)
    for couplings in (Q, whole, 1_000 * whole, signs, few, few / 3):  # each is kept in a type of its own
        for algorithm in ("bsb", "dsb", "annealing", "tabu"):
            solve_qubo(couplings, algorithm=algorithm, n_replicas=2, n_steps=10, random_state=0)
    ring = sparse.diags_array(np.ones(999), offsets=1)  # of whole weights, and large enough for many replicas at once
    solve_qubo(ring, n_replicas=2, n_steps=16, random_state=0)
    pairs = np.triu(whole, 1) + np.triu(whole, 1).T
    for couplings in (pairs, pairs / 3, signs + signs.T, (signs + signs.T).astype(np.int8)):
        solve_ising(couplings, n_replicas=1, n_steps=10, random_state=0)
    solve_qubo(Q, cardinality=6, prove=True, random_state=0)


STEPS = {"learning": _open_loop, "private sums": _private_loop, "sparse noise": _sparse_noise, "QUBO": _solvers}
