"""Clipped and noisy training steps in floating point, for simulation: numpy, torch, scipy, Opacus.

Everybody writes into memory that stands ready (out=). "clip and copy" is the same loop without noise: the least that
any of them has to do. Opacus clips the gradients of torch.nn.Linear, which takes dense rows, in each mode that it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.compare.contest import Contestant, compete

CLIP, SIGMA = 1.0, 1.0
N_GROUPS, N_NOISY, N_PARAMETERS = 10_000, 200, 1_000
BATCH, N_COLUMNS, PER_ROW, STEPS = 256, 20_000, 50, 20
OPACUS_MODES = ("hooks", "functorch", "ew", "ghost")


def main() -> None:
    for dtype in ("float32", "float64"):
        compete(
            f"clip and noise on {N_NOISY} of {N_GROUPS:,} groups of {N_PARAMETERS:,} parameters, {dtype}",
            [
                Contestant("ppal_fast, masked", lambda dtype=dtype: _our_masked(dtype)),
                Contestant("numpy, masked", lambda dtype=dtype: _numpy_masked(dtype)),
                Contestant("torch, masked", lambda dtype=dtype: _torch_masked(dtype), ("torch",)),
                Contestant("numba, clip and copy, no noise", lambda dtype=dtype: _bare(dtype)),
            ],
            {},
        )
    compete(
        f"{STEPS} logistic steps on batches of {BATCH} sparse rows x {N_COLUMNS:,} columns, {PER_ROW} entries a row",
        [
            Contestant("ppal_fast, sparse", _our_steps),
            Contestant("scipy.sparse, norms from its arrays", lambda: _scipy_steps(_norms_of_arrays)),
            Contestant("scipy.sparse, norms by multiply", lambda: _scipy_steps(_norms_by_multiply)),
            *(
                Contestant(f"Opacus, {mode}", lambda mode=mode: _opacus_steps(mode), ("torch", "opacus"))
                for mode in OPACUS_MODES
            ),
        ],
        {},
    )


def _gradients(dtype: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    mask = np.zeros(N_GROUPS, dtype=bool)
    mask[rng.choice(N_GROUPS, N_NOISY, replace=False)] = True
    return rng.standard_normal((N_GROUPS, N_PARAMETERS)).astype(dtype), mask


def _our_masked(dtype: str) -> Callable[[], Any]:
    from ppal_fast.privacy import PublicMask, masked_clip_noise

    gradients, mask = _gradients(dtype)
    public, out = PublicMask(mask, "drawn for this benchmark"), np.zeros_like(gradients)
    return lambda: masked_clip_noise(gradients, public, clip=CLIP, sigma=SIGMA, out=out)


def _numpy_masked(dtype: str) -> Callable[[], Any]:
    gradients, mask = _gradients(dtype)
    rng, groups, out = np.random.Generator(np.random.SFC64(0)), np.flatnonzero(mask), np.zeros_like(gradients)
    chosen, noise = (np.empty((N_NOISY, N_PARAMETERS), dtype) for _ in range(2))

    def run() -> Any:
        np.take(gradients, groups, axis=0, out=chosen, mode="clip")
        scale = np.minimum(1.0, CLIP / np.sqrt(np.einsum("ij,ij->i", chosen, chosen)))
        rng.standard_normal(out=noise, dtype=dtype)
        np.multiply(chosen, scale[:, None], out=chosen)
        np.add(chosen, noise, out=chosen)  # CLIP * SIGMA is 1
        out[groups] = chosen
        return out

    return run


def _torch_masked(dtype: str) -> Callable[[], Any]:
    import torch

    gradients, mask = (torch.as_tensor(a) for a in _gradients(dtype))
    groups, out = mask.nonzero().squeeze(1), torch.zeros_like(gradients)
    chosen, noise = (torch.empty((N_NOISY, N_PARAMETERS), dtype=gradients.dtype) for _ in range(2))

    def run() -> Any:
        torch.index_select(gradients, 0, groups, out=chosen)
        scale = (CLIP / chosen.norm(dim=1)).clamp_(max=1.0)
        chosen.mul_(scale[:, None]).add_(noise.normal_())
        out.index_copy_(0, groups, chosen)
        return out

    return run


def _bare(dtype: str) -> Callable[[], Any]:
    import numba

    gradients, mask = _gradients(dtype)
    groups, out = np.flatnonzero(mask), np.zeros_like(gradients)

    @numba.njit(fastmath={"contract", "reassoc"})  # type: ignore[untyped-decorator]
    def clip_and_copy(gradients: Any, groups: Any, clip: float, out: Any) -> None:
        for g in groups:
            row, copy = gradients[g], out[g]
            squares = gradients.dtype.type(0)
            for x in row:
                squares += x * x
            scale = gradients.dtype.type(min(1.0, clip / np.sqrt(squares)))
            for j in range(row.size):
                copy[j] = scale * row[j]

    return lambda: clip_and_copy(gradients, groups, CLIP, out)


def _batch() -> tuple[Any, Any]:
    from scipy import sparse

    rows = sparse.random(
        BATCH, N_COLUMNS, density=PER_ROW / N_COLUMNS, format="csr", random_state=0, dtype=np.float32
    )
    return rows, np.random.default_rng(0).standard_normal(BATCH).astype(np.float32)


def _our_steps() -> Callable[[], Any]:
    from ppal_fast.privacy import sparse_clip_noise

    rows, residuals = _batch()
    return lambda: [sparse_clip_noise(rows, residuals, clip=CLIP, sigma=SIGMA) for _ in range(STEPS)][-1]


def _norms_of_arrays(rows: Any) -> Any:
    return np.sqrt(np.add.reduceat(rows.data * rows.data, rows.indptr[:-1]))


def _norms_by_multiply(rows: Any) -> Any:
    return np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())


def _scipy_steps(norms: Callable[[Any], Any]) -> Callable[[], Any]:
    rows, residuals = _batch()
    rng = np.random.Generator(np.random.SFC64(0))

    def step() -> Any:
        scale = np.minimum(1.0, CLIP / np.maximum(norms(rows) * np.abs(residuals), 1e-12)).astype(np.float32)
        return rows.T @ (residuals * scale) + rng.standard_normal(N_COLUMNS, dtype=np.float32)

    return lambda: [step() for _ in range(STEPS)][-1]


def _opacus_steps(mode: str) -> Callable[[], Any]:
    import warnings

    import torch
    from opacus import PrivacyEngine

    warnings.simplefilter("ignore")
    rows, residuals = _batch()
    inputs, labels = torch.as_tensor(rows.toarray()), torch.as_tensor((residuals > 0).astype(np.float32))
    model, loss_of = torch.nn.Linear(N_COLUMNS, 1, bias=False), torch.nn.BCEWithLogitsLoss()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, labels), batch_size=BATCH)
    private = PrivacyEngine().make_private(
        module=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), data_loader=loader, criterion=loss_of,
        noise_multiplier=SIGMA, max_grad_norm=CLIP, poisson_sampling=False, grad_sample_mode=mode,
    )
    module, optimizer = private[0], private[1]
    criterion = private[2] if mode == "ghost" else loss_of

    def run() -> Any:
        for _ in range(STEPS):
            optimizer.zero_grad()
            criterion(module(inputs).squeeze(1), labels).backward()
            optimizer.step()
        return model.weight

    return run
