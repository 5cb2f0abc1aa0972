"""Branch and bound for min sum_i d_i x_i + sum_{i<j} W_ij x_i x_j, with sum(x) = k or without it.

Variables are decided in one fixed order, so that everything about the quadratic form that is left at a depth can be
tabulated before the search (Buchheim, Caprara, Lodi 2012). qubo/proof.py makes the tables and says why they bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import jit
from .fields import FAST

Array = NDArray[Any]


@jit(fastmath=FAST)
def branch(
    W: Array, d: Array, is_free: bool, P: Array, rows: Array, total: Array, half: Array, stride: int, twin: Array,
    tolerance: float, nodes: int, best_f: Array, best: Array, x: Array, g: Array, f: Array, left: Array, forced: Array,
    bound: Array, tried: Array, level: int,
) -> int:
    """Depth first, one before zero, for at most ``nodes`` nodes; returns the level to go on from, or -1.

    Tables of depth s = t stride for the variables from s on: P[t] (n, n) the inverse of A = W + diag(2 half) on
    sum(y) = 0, rows[t] (n,) = A 1, total[t] = 1'A 1, half[t] (n,). With m variables left, ``left`` of them ones, q =
    left / m, b = g - half and v = q A 1 + b, the node's bound is f + q^2 total / 2 + q 1'b - v'P v / 2, reached at
    y = q - P v; deciding y_j otherwise adds (x_j - y_j)^2 / 2 P_jj. Without a cardinality (is_free) q = 0.
    State, all carried between calls: x (n,), g (n + 1, n) gradients, f, left, bound, tried (n + 1,) and forced
    (n + 1, n) (-1: open) of the path. twin (n,): an earlier variable with the same d and W, or -1; of twins the first
    are chosen first. best_f (1,), best (n,) int8 take the incumbent. A branch is cut when its bound >= best_f -
    tolerance.
    While unfinished, the minimum is at least the lowest ``bound`` of the levels on the path with tried < 2.
    Cost: m^2 a node.
    """
    n = W.shape[0]
    v, y = np.empty(n), np.empty(n)
    for _ in range(nodes):
        if level < 0:
            return -1
        if tried[level] == 2 or bound[level] >= best_f[0] - tolerance:
            level -= 1
            continue
        value = 1 - tried[level]
        tried[level] += 1
        s = level + 1
        m, ones = n - s, left[level] - value
        if forced[level, level] == 1 - value or (value == 1 and twin[level] >= 0 and x[twin[level]] == 0):
            continue
        if not is_free and (ones < 0 or ones > m):
            continue
        x[level] = value
        f_here = f[level] + value * g[level, level]
        for j in range(s, n):
            g[s, j] = g[level, j] + value * W[level, j]
        if m == 0 or (not is_free and (ones == 0 or ones == m)):  # the rest is decided: all zeros or all ones
            rest = 0 if is_free or ones == 0 else 1
            if rest == 1:
                for i in range(s, n):
                    f_here += g[s, i]
                    for j in range(s, i):
                        f_here += W[i, j]
            if f_here < best_f[0] - tolerance:
                best_f[0] = f_here
                for j in range(n):
                    best[j] = x[j] if j < s else rest
            continue
        limit = bound[level]
        for j in range(s, n):
            forced[s, j] = forced[level, j]
        if s % stride == 0:
            t = s // stride
            q = 0.0 if is_free else ones / m
            linear, quadratic = 0.0, 0.0
            for j in range(s, n):
                b = g[s, j] - half[t, j]
                linear += b
                v[j] = q * rows[t, j] + b
            for i in range(s, n):
                z = 0.0
                for j in range(s, n):
                    z += P[t, i, j] * v[j]
                quadratic += z * v[i]
                y[i] = q - z
            here = f_here + 0.5 * q * q * total[t] + q * linear - 0.5 * quadratic
            limit = max(limit, here)
            if limit >= best_f[0] - tolerance:
                continue
            spare = 2.0 * (best_f[0] - tolerance - here)
            contradicts = False
            for j in range(s, n):
                room = spare * P[t, j, j]
                no_one, no_zero = (1.0 - y[j]) ** 2 >= room, y[j] ** 2 >= room
                contradicts |= (no_one and (no_zero or forced[s, j] == 1)) or (no_zero and forced[s, j] == 0)
                if no_one:
                    forced[s, j] = 0
                elif no_zero:
                    forced[s, j] = 1
            if contradicts:
                continue
        f[s], left[s], bound[s], tried[s] = f_here, ones, limit, 0
        level = s
    return level
