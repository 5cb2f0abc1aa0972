"""Simulated bifurcation: positions x and momenta y of n coupled oscillators whose signs settle into a low energy.

    y += dt (-(1 - a) x - c F),   x += dt y,   |x| > 1: x = sign(x), y = 0,   a rising from 0 to 1
    ballistic: F = J x + b        discrete: F = J sign(x) + b

Discrete replicas of large problems run one at a time on the local fields of fields.py: only rows whose sign changed
are added. Everything else runs in LANES replicas side by side, where J x is a matrix product held in registers.
Source: Goto et al. 2021, Science Advances 7, eabe7953.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._accepts import BLOCK, flags, lowest
from ._jit import jit
from ._tile import LANES as LANES  # of every caller too
from ._tile import ROWS, multiply_rows
from .fields import FAST, add_rows, descend, energy_of, ising_of, uniform

Array = NDArray[Any]
# forces of the lanes over that of the source: replicas of one strength settle alike where there are biases
SPREAD = np.geomspace(0.4, 2.5, LANES).astype(np.float32)
PAD = ROWS  # the lane kernels take n in multiples of this; the padding has no couplings


@jit(fastmath=FAST)
def discrete(
    couplings: Array, indptr: Array, indices: Array, b: Array, s: Array, h: Array, x: Array, y: Array,
    energy: Array, best: Array, pump: Array, dt: float, c: float, target: float,
) -> int:
    """One discrete step for each value of ``pump``; returns the steps made, fewer once ``target`` is met.

    x, y (n,) float32; energy [now, best]. Cost of a step: n and one row per changed sign.
    """
    n = s.shape[0]
    changed = np.zeros((n + BLOCK - 1) // BLOCK * BLOCK, np.uint8)
    flipped = np.empty(n, np.int32)
    step, strength = np.float32(dt), np.float32(c)
    one, zero = np.float32(1), np.float32(0)
    for t in range(pump.shape[0]):
        back = one - pump[t]
        for i in range(n):
            momentum = y[i] - step * (strength * np.float32(h[i]) + back * x[i])
            position = x[i] + step * momentum
            outside = abs(position) > one
            x[i] = min(max(position, -one), one)
            y[i] = zero if outside else momentum
            sign = np.int8(1) if position >= zero else np.int8(-1)
            changed[i] = np.uint8(sign != s[i])
            s[i] = sign
        count = 0
        for first in range(0, n, BLOCK):
            turned = flags(changed, first)
            while turned != 0:
                flipped[count] = first + lowest(turned)
                count += 1
                turned &= turned - np.uint64(1)
        if count > 0:
            add_rows(couplings, indptr, indices, h, flipped[:count], s)
            energy[0] = energy_of(b, s, h)
            if energy[0] < energy[1]:
                energy[1] = energy[0]
                best[:] = s
                if energy[0] <= target:
                    return t + 1
    return pump.shape[0]


@jit(fastmath=FAST)
def multiply(J: Array, indptr: Array, indices: Array, b: Array, X: Array, F: Array) -> None:
    """F = b + J X, X (n, LANES) float32, J dense (n, n) or CSR weights. Cost: 2 nnz LANES flops.

    Dense: n in multiples of PAD, ROWS rows at a time with their sums in registers.
    """
    n = X.shape[0]
    if J.ndim == 2:
        for i in range(0, n, ROWS):
            multiply_rows(J, X, b, F, i)
    else:
        for i in range(n):
            p = F[i]
            p[:] = b[i]
            for at in range(indptr[i], indptr[i + 1]):
                weight, x = J[at], X[indices[at]]
                for r in range(LANES):
                    p[r] += weight * x[r]


@jit(fastmath=FAST)
def lanes(
    J: Array, indptr: Array, indices: Array, b: Array, X: Array, Y: Array, F: Array, S: Array,
    pump: Array, dt: float, strengths: Array, is_discrete: bool, mean: float, pull: float,
) -> None:
    """Steps of LANES replicas, each with its own c in strengths (LANES,). X, Y, F, S (n, LANES), all float32.

    With ``pull`` > 0 the mean position of every replica is drawn to ``mean``: the cardinality as a soft guide for
    a later exact choice. Cost of a step: 2 n^2 LANES flops and a few passes over n LANES.
    """
    n = X.shape[0]
    step, soft = np.float32(dt), np.float32(pull)
    one, zero = np.float32(1), np.float32(0)
    drift = np.zeros(LANES, np.float32)
    for t in range(pump.shape[0]):
        back = one - pump[t]
        if is_discrete:
            for i in range(n):
                for r in range(LANES):
                    S[i, r] = one if X[i, r] >= zero else -one
            multiply(J, indptr, indices, b, S, F)
        else:
            multiply(J, indptr, indices, b, X, F)
        if soft > zero:
            drift[:] = -np.float32(n * mean)
            for i in range(n):
                for r in range(LANES):
                    drift[r] += X[i, r]
            for r in range(LANES):
                drift[r] *= soft / np.float32(n)
        for i in range(n):
            x, y, force = X[i], Y[i], F[i]
            for r in range(LANES):
                momentum = y[r] - step * (strengths[r] * force[r] + back * x[r] + drift[r])
                position = x[r] + step * momentum
                x[r] = min(max(position, -one), one)
                y[r] = zero if abs(position) > one else momentum


@jit(fastmath=FAST)
def lane_energies(
    J: Array, indptr: Array, indices: Array, b: Array, X: Array, F: Array, S: Array, lowest: Array, best: Array
) -> None:
    """Energies of the signs of X; a lane that is below its ``lowest`` (LANES,) stores its signs in best (LANES, n)."""
    n = X.shape[0]
    for i in range(n):
        for r in range(LANES):
            S[i, r] = np.float32(1) if X[i, r] >= np.float32(0) else np.float32(-1)
    multiply(J, indptr, indices, b, S, F)
    twice = np.zeros(LANES)
    for i in range(n):
        for r in range(LANES):
            twice[r] += float(S[i, r]) * (float(F[i, r]) + float(b[i]))
    for r in range(LANES):
        if 0.5 * twice[r] < lowest[r]:
            lowest[r] = 0.5 * twice[r]
            for i in range(best.shape[1]):
                best[r, i] = np.int8(S[i, r])


@jit(fastmath=FAST)
def bifurcation_batch(
    Q: Array, pump: Array, spread: Array, is_discrete: bool, seeds: Array, states: Array
) -> None:
    """Problems x'Qx, Q (b, n, n) float64, one after another in LANES replicas, each polished by one-flip descent.

    states (b, n) int8 takes the best x of each problem; seeds (b,) uint64; spread as SPREAD. The problem's own row rms
    scales its forces; the step keeps the fastest oscillation (bounded by the largest row sum) below its limit.
    """
    n = Q.shape[1]
    m = (n + PAD - 1) // PAD * PAD
    J, b = np.zeros((m, m), np.float32), np.zeros(m, np.float32)
    C, h_up = np.empty((n, n), np.float32), np.empty(n, np.float32)
    X, Y, F, S = (np.empty((m, LANES), np.float32), np.empty((m, LANES), np.float32),
                  np.empty((m, LANES), np.float32), np.empty((m, LANES), np.float32))
    lowest, best = np.empty(LANES), np.empty((LANES, n), np.int8)
    h, s, rng, none = np.empty(n, np.float32), np.empty(n, np.int8), np.empty(1, np.uint64), np.empty(0, np.int32)
    for p in range(Q.shape[0]):
        rms, norm = ising_of(Q[p], J, b, C, h_up)
        strengths = spread * np.float32(0.5 / rms)
        dt = min(1.0, 1.5 / np.sqrt(1.0 + strengths.max() * norm))
        rng[0] = seeds[p]
        for i in range(m):
            for r in range(LANES):
                X[i, r] = np.float32(2) * uniform(rng) - np.float32(1)
                Y[i, r] = np.float32(2) * uniform(rng) - np.float32(1)
        lowest[:] = 1e300
        lanes(J, none, none, b, X, Y, F, S, pump, dt, strengths, is_discrete, 0.0, 0.0)
        lane_energies(J, none, none, b, X, F, S, lowest, best)
        top = 1e300
        for r in range(LANES):
            s[:] = best[r]
            for i in range(n):
                h[i] = F[i, r]
            value = lowest[r] + descend(C, none, none, s, h)
            if value < top:
                top = value
                for i in range(n):
                    states[p, i] = (s[i] + 1) // 2
