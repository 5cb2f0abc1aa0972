"""Noise and private sums: numpy, torch, OpenDP.

Only noise on a grid may be released: floating-point noise leaks through the values that it can take. The column "off
the grid" is the share of values that are not whole multiples of the grid step, in per cent. numpy's and torch's noise
comes from a statistical generator; that of ppal_fast and OpenDP from a cryptographic one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.compare.contest import Contestant, compete

N_NORMALS = 1_000_000
N_GRID, DEVIATION = 20_000, 1_000.0
N_ROWS, N_COLUMNS, CLIP, SIGMA = 10_000, 50, 1.0, 4.0
N_GROUPS, N_NOISY, N_PARAMETERS = 10_000, 200, 50


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
            Contestant("OpenDP make_gaussian, integers", _opendp_noise, ("opendp",)),
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
        f"clip and noise on {N_NOISY} of {N_GROUPS:,} groups of {N_PARAMETERS} parameters (for simulation)",
        [
            Contestant("ppal_fast, masked", _our_masked),
            Contestant("numpy, masked", _numpy_masked),
            Contestant("torch, masked", _torch_masked, ("torch",)),
            Contestant("numpy, every group", _numpy_every_group),
        ],
        {},
    )


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


def _our_grid_noise() -> Callable[[], Any]:
    from ppal_fast.privacy.randomness import NoiseStream

    return lambda: NoiseStream().rounded_gaussian(N_GRID, DEVIATION)


def _numpy_noise() -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    return lambda: rng.normal(0.0, DEVIATION, N_GRID)


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


def _gradients() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    mask = np.zeros(N_GROUPS, dtype=bool)
    mask[rng.choice(N_GROUPS, N_NOISY, replace=False)] = True
    return rng.standard_normal((N_GROUPS, N_PARAMETERS)), mask


def _our_masked() -> Callable[[], Any]:
    from ppal_fast.privacy import PublicMask, masked_clip_noise

    gradients, mask = _gradients()
    public = PublicMask(mask, "drawn for this benchmark")
    return lambda: masked_clip_noise(gradients, public, clip=CLIP, sigma=SIGMA)


def _numpy_masked() -> Callable[[], Any]:
    gradients, mask = _gradients()
    rng = np.random.Generator(np.random.SFC64(0))

    def run() -> Any:
        noisy = np.zeros_like(gradients)
        chosen = gradients[mask]
        scale = np.minimum(1.0, CLIP / np.sqrt(np.einsum("ij,ij->i", chosen, chosen)))
        noisy[mask] = chosen * scale[:, None] + rng.normal(0.0, SIGMA * CLIP, chosen.shape)
        return noisy

    return run


def _torch_masked() -> Callable[[], Any]:
    import torch

    gradients, mask = (torch.as_tensor(a) for a in _gradients())

    def run() -> Any:
        noisy = torch.zeros_like(gradients)
        chosen = gradients[mask]
        scale = (CLIP / chosen.norm(dim=1)).clamp(max=1.0)
        noisy[mask] = chosen * scale[:, None] + SIGMA * CLIP * torch.randn_like(chosen)
        return noisy

    return run


def _numpy_every_group() -> Callable[[], Any]:
    gradients, _ = _gradients()
    rng = np.random.Generator(np.random.SFC64(0))

    def run() -> Any:
        scale = np.minimum(1.0, CLIP / np.sqrt(np.einsum("ij,ij->i", gradients, gradients)))
        return gradients * scale[:, None] + rng.normal(0.0, SIGMA * CLIP, gradients.shape)

    return run
