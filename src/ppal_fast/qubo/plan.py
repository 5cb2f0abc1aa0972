"""The plan of a QUBO search: which driver each run takes, how long it runs, and how annealing cools.

Everything comes from the instance: its size, its density and the norms of its rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import bifurcation
from .model import Model

Array = NDArray[Any]
# one-flip tabu looks at all n before every flip: ahead of annealing at n = 1000 (bqp), far behind at 2000 (K2000)
MOST_FOR_TABU = 1500
DEGREE_FOR_TABU = 30  # of sparse couplings: with 6 couplings a spin (n = 1500) tabu ended 5 % above annealing
REHEAT = 200  # sweeps
DENSE_WORK, SPARSE_SWEEPS = 0.2, 5e7  # see ``sweeps_of``


def runs(model: Model, algorithm: str, n_replicas: int | None, n_steps: int | None) -> Iterator[tuple[str, int]]:
    """(driver, steps) of each run, endless where n_replicas is None."""
    if algorithm == "bsb" and n_replicas is not None:
        n_replicas = -(-n_replicas // bifurcation.LANES)
    if algorithm != "auto":
        cycle: tuple[str, ...] = (algorithm,)
    elif model.n <= MOST_FOR_TABU and (
        model.couplings.ndim == 2 or model.couplings.size >= DEGREE_FOR_TABU * model.n
    ):
        cycle = ("tabu", "annealing")
    else:
        cycle = ("annealing", "annealing", "dsb")
    unit = {"tabu": 20 * model.n, "annealing": sweeps_of(model), "dsb": max(100, model.n // 5), "bsb": 200}
    for r in itertools.count() if n_replicas is None else range(n_replicas):
        name = cycle[r % len(cycle)]
        yield name, n_steps or luby(r // len(cycle)) * unit[name]


def sweeps_of(model: Model) -> int:
    """Sweeps of the shortest annealing: n/8, and up to 20 times that where sparse rows make them cheap, as long as
    that is at most SPARSE_SWEEPS tests of a spin, about a tenth of a second."""
    density = model.couplings.size / model.n**2 if model.couplings.ndim == 1 else 1.0
    cheaper = min(max(DENSE_WORK / max(density, 1e-9), 1.0), 20.0)
    return int(max(100, min(model.n / 8 * cheaper, SPARSE_SWEEPS / model.n)))


def luby(run: int) -> int:
    """1 1 2 1 1 2 4 ...: lengths within a constant of the best fixed one (Luby, Sinclair, Zuckerman 1993)."""
    while True:
        size = (run + 1).bit_length()
        if run + 1 == 2**size - 1:
            return int(2 ** (size - 1))
        run -= 2 ** (size - 1) - 1


def cooling(model: Model, sweeps: int) -> Array:
    """The temperature of each sweep, float32.

    From 0.8 of the row rms (at 1 a mean-field spin glass freezes; above it sweeps are wasted) linearly to 0.05 of it,
    or geometrically where some rows are so weak that they freeze below that. On sparse couplings, where a sweep is
    cheap and a fall soon ends in some deep valley, half of the sweeps are short reheats that search that valley.
    """
    hot, cold = 0.8 * model.row_rms, min(0.05 * model.row_rms, 0.1 * model.row_low)
    reheats = sweeps // 2 // REHEAT if model.couplings.ndim == 1 else 0
    fall = sweeps - reheats * REHEAT
    steep = cold < 0.02 * hot
    temperatures = np.geomspace(hot, cold, fall) if steep else np.linspace(hot, cold, fall)
    if reheats:
        again = np.geomspace(0.5 * hot, cold, REHEAT) if steep else np.linspace(0.5 * hot, 2.0 * cold, REHEAT)
        temperatures = np.concatenate([temperatures, np.tile(again, reheats)])
    return temperatures.astype(np.float32)
