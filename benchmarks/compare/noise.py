"""Noise and private sums: numpy, torch, OpenDP, diffprivlib; the noisy training steps are in noisy_steps.py.

Only noise on a grid may be released: floating-point noise leaks through the values that it can take. The column "off
the grid" is the share of values that are not whole multiples of the grid step, in per cent. numpy's and torch's noise
comes from a statistical generator; that of ppal_fast and OpenDP from a cryptographic one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.compare import noisy_steps
from benchmarks.compare.contest import Contestant, compete

N_NORMALS = 1_000_000
N_GRID, DEVIATION = 50_000, 1_000.0
N_ROWS, N_COLUMNS, CLIP, SIGMA = 10_000, 50, 1.0, 4.0
N_FINE, FINE_DEVIATION = 1_000_000, 2.0**30


def main() -> None:
    for dtype in ("float32", "float64"):
        compete(
            f"{N_NORMALS:,} standard normals, {dtype} (for simulation, not for release)",
            [
                Contestant("ppal_fast, ChaCha12", lambda dtype=dtype: _our_normals(dtype)),
                Contestant("numpy, SFC64", lambda dtype=dtype: _numpy_normals(dtype)),
                Contestant("torch normal_", lambda dtype=dtype: _torch_normals(dtype), ("torch",)),
            ],
            {},
        )
    compete(
        f"{N_GRID:,} draws of Gaussian noise with a deviation of {DEVIATION:,.0f} grid steps",
        [
            Contestant("ppal_fast, rounded Gaussian", _our_grid_noise),
            Contestant("numpy, floating point", _numpy_noise),
            Contestant("numpy, exact, Canonne et al.", _numpy_discrete),
            Contestant("OpenDP make_gaussian, integers", _opendp_noise, ("opendp",)),
            Contestant("diffprivlib GaussianDiscrete / 20", _diffprivlib_noise, ("diffprivlib",)),
        ],
        {"off the grid %": lambda x: 100 * float(np.mean(np.asarray(x) != np.round(x)))},
    )
    compete(
        f"one private sum of {N_ROWS:,} rows, {N_COLUMNS} columns",
        [
            Contestant("ppal_fast, ledger in memory", _our_sum),
            Contestant("numpy: no ledger, leaking noise", _numpy_sum),
            Contestant("OpenDP: sum unclipped, no ledger", _opendp_sum, ("opendp",)),
        ],
        {},
    )
    compete(
        f"{N_FINE:,} draws of Gaussian noise with a deviation of 2^30 grid steps",
        [
            Contestant("ppal_fast, rounded Gaussian", lambda: _our_grid_noise(N_FINE, FINE_DEVIATION)),
            Contestant("numpy, floating point", lambda: _numpy_noise(N_FINE, FINE_DEVIATION)),
        ],
        {},
    )
    noisy_steps.main()


def _our_normals(dtype: str) -> Callable[[], Any]:
    from ppal_fast.kernels.noise import fill_normals

    key, out = np.arange(8, dtype=np.uint32), np.empty(N_NORMALS, dtype=dtype)
    return lambda: fill_normals(out, 1.0, key, np.uint64(0), np.uint64(0))


def _numpy_normals(dtype: str) -> Callable[[], Any]:
    rng, out = np.random.Generator(np.random.SFC64(0)), np.empty(N_NORMALS, dtype=dtype)
    return lambda: rng.standard_normal(out=out, dtype=dtype)


def _torch_normals(dtype: str) -> Callable[[], Any]:
    import torch

    out = torch.empty(N_NORMALS, dtype=getattr(torch, dtype))
    return lambda: out.normal_()


def _our_grid_noise(n: int = N_GRID, deviation: float = DEVIATION) -> Callable[[], Any]:
    from ppal_fast.privacy.randomness import NoiseStream

    return lambda: NoiseStream().rounded_gaussian(n, deviation)


def _numpy_noise(n: int = N_GRID, deviation: float = DEVIATION) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    return lambda: rng.normal(0.0, deviation, n)


def _numpy_discrete() -> Callable[[], Any]:
    """The exact discrete Gaussian of Canonne, Kamath, Steinke 2020 (arXiv:2004.00010, algorithm 3) on whole arrays."""
    rng, square, t = np.random.default_rng(0), int(DEVIATION) ** 2, int(DEVIATION) + 1

    def below_one(numerator: Any, denominator: int) -> Any:
        """True with probability exp(-numerator / denominator), for a quotient of at most 1."""
        heads, tossed, k = np.ones(len(numerator), bool), np.arange(len(numerator)), 1
        while tossed.size:
            tossed = tossed[rng.integers(denominator * k, size=tossed.size) < numerator[tossed]]
            heads[tossed] = ~heads[tossed]
            k += 1
        return heads

    def coin(numerator: Any, denominator: int) -> Any:
        heads = below_one(numerator % denominator, denominator)
        for i in range(int(numerator.max() // denominator)):
            more = numerator // denominator > i
            heads[more] &= below_one(np.ones(int(more.sum()), np.int64), 1)
        return heads

    def run() -> Any:
        found: list[Any] = []
        while sum(map(len, found)) < N_GRID:
            rest = rng.integers(t, size=2 * N_GRID)
            rest = rest[coin(rest, t)]
            turns, going = np.zeros(len(rest), np.int64), np.arange(len(rest))
            while going.size:
                going = going[below_one(np.ones(going.size, np.int64), 1)]
                turns[going] += 1
            size, negative = rest + t * turns, rng.integers(2, size=len(rest)) == 1
            size, negative = (a[~(negative & (size == 0))] for a in (size, negative))
            kept = coin((size * t - square) ** 2, 2 * square * t**2)
            found.append(np.where(negative, -size, size)[kept])
        return np.concatenate(found)[:N_GRID]

    return run


def _diffprivlib_noise() -> Callable[[], Any]:
    """One value at a time: a twentieth of the job, so that a round ends."""
    from diffprivlib.mechanisms import GaussianDiscrete

    mechanism = GaussianDiscrete(epsilon=0.01, delta=1e-5, sensitivity=1)
    return lambda: [mechanism.randomise(0) for _ in range(N_GRID // 20)]


def _opendp_noise() -> Callable[[], Any]:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float)
    mechanism = dp.m.make_gaussian(*space, scale=DEVIATION)
    zeros = [0] * N_GRID
    return lambda: mechanism(zeros)


def _rows() -> Any:
    return np.random.default_rng(0).standard_normal((N_ROWS, N_COLUMNS))


def _our_sum() -> Callable[[], Any]:
    from ppal_fast import Ledger

    rows, names = _rows(), itertools.count()
    ledger = Ledger(":memory:", epsilon=100.0, delta=1e-5, unit="record")
    return lambda: ledger.release_sum(rows, clip=CLIP, sigma=SIGMA, name=f"sum {next(names)}")


def _numpy_sum() -> Callable[[], Any]:
    rows, rng = _rows(), np.random.default_rng(0)

    def run() -> Any:
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        return np.minimum(1.0, CLIP / norms) @ rows + rng.normal(0.0, SIGMA * CLIP, N_COLUMNS)

    return run


def _opendp_sum() -> Callable[[], Any]:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    rows = _rows()
    mechanism = dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T=float, nan=False)), dp.l2_distance(T=float), SIGMA)
    return lambda: mechanism(rows.sum(axis=0).tolist())
