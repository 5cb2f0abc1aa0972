"""Clip and noise in fast floating point, to try a private training before paying for it. Never a release."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validate
from ..errors import InputError
from .units import PublicMask, check_columns, checked_mask


def masked_clip_noise(
    gradients: Any, mask: PublicMask, *, clip: float, sigma: float, random_state: Any = None, n_jobs: int = 1,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Each masked-in group clipped to L2 norm ``clip``, plus Gaussian noise of standard deviation clip * sigma.

    gradients (G, P) groups x parameters, float32 or float64 (anything else becomes float64), finite; mask a
    PublicMask of length G. Returns (G, P) of the same dtype: 0 outside the mask, where gradients are not read.
    out: a C-contiguous array of that shape and dtype, in which the other groups are left as they are; filling fresh
    memory costs more than the noise when the mask is sparse.

    NOT PRIVATE and not to be released: floating-point noise leaks its input through the values that it can take
    (Mironov 2012, doi:10.1145/2382196.2382264), and ``random_state`` may seed it. What is to be released goes
    through Ledger.release_sum. The same random_state gives the same result for every n_jobs.
    """
    array = np.asarray(gradients)
    if array.dtype not in (np.float32, np.float64):
        array = _validate.table(array, name="gradients")
    if array.ndim != 2:
        raise InputError(f"gradients has shape {array.shape}; (groups, parameters) is expected")
    if not isinstance(mask, PublicMask):
        raise InputError(f"mask was a {type(mask).__name__}; PublicMask(mask, source) is expected")
    groups = np.flatnonzero(checked_mask(mask, len(array), of="groups"))
    _validate.positive(clip=clip)
    _validate.non_negative(sigma=sigma)
    _validate.integer(1, n_jobs=n_jobs)
    if out is None:
        noisy = np.zeros(array.shape, dtype=array.dtype)
    elif out.shape != array.shape or out.dtype != array.dtype or not out.flags.c_contiguous or not out.flags.writeable:
        raise InputError(
            f"out has shape {out.shape} and dtype {out.dtype}; a writable C-contiguous array of shape {array.shape} "
            f"and dtype {array.dtype} is expected"
        )
    else:
        noisy = out
    if not groups.size or not array.shape[1]:
        return noisy

    from ..kernels import clipping, noise

    key = _key(random_state)
    array = np.require(array, requirements=["C", "W"])

    def work(start: int, stop: int) -> None:
        finite = clipping.masked_clip_noise(
            array, groups[start:stop], float(clip), float(clip * sigma), key, np.uint64(0), start, noisy
        )
        if not finite:
            raise InputError(
                "gradients has NaN, infinite or overflowing entries inside the mask; rows of finite norm are expected"
            )

    noise.in_chunks(work, len(groups), 1, n_jobs)
    return noisy


def sparse_clip_noise(
    rows: Any, residuals: Any, *, clip: float, sigma: float, mask: PublicMask | None = None, random_state: Any = None,
) -> NDArray[Any]:
    """One noisy step of a linear model: sum_i clip(residual_i * row_i) plus Gaussian noise of deviation clip * sigma.

    rows scipy sparse (n, d), float32 or float64 (anything else becomes float64); residuals (n,): derivative of the
    loss by the score, p - y for the logistic loss; mask a PublicMask of length d. Returns (d,) of the rows' dtype, 0
    outside the mask, where entries are not counted. No gradient of a single row is stored: its norm is
    |residual| |row|.

    NOT PRIVATE, for the reasons of masked_clip_noise; Ledger.release_sum(rows, weights=residuals) is what releases.
    """
    if not hasattr(rows, "tocsr"):
        raise InputError(f"rows was a {type(rows).__name__}; a scipy sparse matrix is expected")
    csr = rows.tocsr()
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    check_columns(csr)
    dtype = np.float32 if csr.dtype == np.float32 else np.float64
    factors = np.asarray(residuals)
    if factors.shape != csr.shape[:1] or factors.dtype.kind not in "biuf":
        raise InputError(
            f"residuals has shape {factors.shape} and dtype {factors.dtype}; ({csr.shape[0]},) numbers are expected"
        )
    allowed = checked_mask(mask, csr.shape[1])
    _validate.positive(clip=clip)
    _validate.non_negative(sigma=sigma)

    from ..kernels import clipping, noise

    noisy = np.empty(len(allowed) if mask is None else int(allowed.sum()), dtype=dtype)
    noise.fill_normals(noisy, float(clip * sigma), _key(random_state), np.uint64(0), np.uint64(0))
    if mask is not None:
        spread = np.zeros(len(allowed), dtype=dtype)
        spread[allowed] = noisy
        noisy = spread
    finite = clipping.sparse_clip_add(
        csr.indptr, csr.indices, np.require(csr.data, dtype, ["C", "W"]), np.require(factors, dtype, ["C", "W"]),
        np.require(allowed, requirements=["C", "W"]), float(clip), noisy,
    )
    if not finite:
        raise InputError(
            "rows times residuals has NaN, infinite or overflowing entries; rows of finite norm are expected"
        )
    return noisy


def _key(random_state: Any) -> NDArray[np.uint32]:
    if random_state is None:
        return np.frombuffer(bytearray(os.urandom(32)), dtype=np.uint32)
    return _validate.random_generator(random_state).integers(2**32, size=8, dtype=np.uint32)
