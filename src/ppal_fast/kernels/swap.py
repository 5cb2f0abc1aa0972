"""Fixed cardinality by swap moves: one variable leaves the chosen set, another enters. The sum never changes.

A problem is W (m, m) float32 with zero diagonal and d (m,): f(x) = sum_i d_i x_i + sum_{i<j} W_ij x_i x_j, to minimise
with sum(x) = k. Behind its n variables d is HUGE and W zero, so that nothing there is chosen. The gradient
g_i = d_i + sum_{j chosen} W_ij is kept up to date; swapping i out and j in changes f by g_j - g_i - W_ij.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._exchange import PAD
from ._extremes import larger, smaller
from ._jit import jit
from .fields import BLOCK, FAST, HUGE, below, uniform

Array = NDArray[Any]


@jit(fastmath=FAST)
def gradient(W: Array, d: Array, members: Array, g: Array) -> float:
    """g for the chosen set ``members`` (k,); returns f = sum over members of (d + g) / 2. Cost: k rows."""
    for j in range(g.shape[0]):
        g[j] = d[j]
    for q in range(members.shape[0]):
        i = np.uint64(members[q])
        for j in range(g.shape[0]):
            g[j] += W[i, j]
    f = 0.0
    for i in members:
        f += 0.5 * (float(d[i]) + float(g[i]))
    return f


@jit(fastmath=FAST)
def best_swap(W: Array, g: Array, members: Array, cost: Array, free: Array, highest: Array) -> tuple[Any, int, int]:
    """(change, position in members, variable that enters) of the best swap; position -1 if every swap is barred.

    ``cost`` (n,): g of the variables that may enter, HUGE elsewhere. ``free`` (k,): members that may leave.
    Exact in at most k n operations: a member is passed over when even its highest W cannot make it the best
    (``highest`` (n,) holds max_j W_ij). Only the winning row is searched for its column.
    """
    n = g.shape[0]
    least = HUGE
    for j in range(n):
        least = smaller(least, cost[j])
    change, position = HUGE, -1
    for q in range(members.shape[0]):
        i = members[q]
        if free[q] and least - g[i] - highest[i] < change:
            row = W[i]
            low = HUGE
            for j in range(n):
                low = smaller(low, cost[j] - row[j])
            if low - g[i] < change:
                change, position = low - g[i], q
    if position < 0 or least >= HUGE:
        return HUGE, -1, -1
    row = W[members[position]]
    enters, low = -1, HUGE
    for j in range(n):
        value = cost[j] - row[j]
        if value < low:
            low, enters = value, j
    return change, position, enters


@jit(fastmath=FAST)
def swap(W: Array, g: Array, members: Array, inside: Array, position: int, enters: int) -> None:
    """Exchange and update the gradient: two rows."""
    leaves = members[position]
    row_in, row_out = W[enters], W[leaves]
    for j in range(g.shape[0]):
        g[j] += row_in[j] - row_out[j]
    members[position] = enters
    inside[leaves] = 0
    inside[enters] = 1


@jit(fastmath=FAST)
def swap_descend(W: Array, d: Array, members: Array, g: Array, cost: Array, moves: int) -> tuple[float, int]:
    """Improving swaps until none is left, at most ``moves``, in place; returns (f, swaps made). g, cost (n,) scratch.

    Each member in turn leaves for its best replacement if that improves: a third of the work of looking for the best of
    all swaps, and the end is a local minimum of the same kind. Cost: n for a member looked at, four rows for a swap.
    """
    n, k = W.shape[0], members.shape[0]
    f = gradient(W, d, members, g)
    scale = np.float32(0)
    for j in range(n):
        scale = larger(scale, abs(g[j]) if d[j] < HUGE else np.float32(0))
        cost[j] = g[j]
    for i in members:
        cost[i] = HUGE
    enough = np.float32(-4e-7) * scale  # the rounding of g in float32: within it a descent could turn in circles
    q, quiet, made = 0, 0, 0
    while quiet < k and made < moves:
        i = members[q]
        row = W[i]
        low = HUGE
        for j in range(n):
            low = smaller(low, cost[j] - row[j])
        quiet += 1
        if low - g[i] < enough:
            enters = 0
            while cost[enters] - row[enters] != low:
                enters += 1
            f += float(low - g[i])
            row_in = W[enters]
            for j in range(n):
                g[j] += row_in[j] - row[j]
                cost[j] += row_in[j] - row[j]
            members[q], cost[i], cost[enters] = enters, g[i], HUGE
            quiet, made = 0, made + 1
        q = q + 1 if q + 1 < k else 0
    return f, made


@jit(fastmath=FAST)
def swap_tabu(
    W: Array, d: Array, highest: Array, members: Array, best: Array, until: Array, rng: Array, moves: int
) -> float:
    """``moves`` best swaps that are not tabu, from ``members`` on, in place and through local minima.

    Returns the lowest f; the lowest set goes to ``best`` (k,). until (n,) int32 is scratch.
    Source: swap moves with recency, as in Glover, Kuo, Dhir 1998.
    """
    n, k = W.shape[0], members.shape[0]
    g, cost = np.empty(n, np.float32), np.empty(n, np.float32)
    inside, free = np.zeros(n, np.uint8), np.ones(k, np.uint8)
    for i in members:
        inside[i] = 1
    f = gradient(W, d, members, g)
    until[:] = 0
    best_f = f
    best[:] = members
    for move in range(1, moves + 1):
        for j in range(n):
            cost[j] = HUGE if inside[j] or until[j] >= move else g[j]
        for q in range(k):
            free[q] = until[members[q]] < move
        change, position, enters = best_swap(W, g, members, cost, free, highest)
        if position < 0:
            break
        leaves = members[position]
        swap(W, g, members, inside, position, enters)
        f += float(change)
        until[leaves] = move + 3 + below(rng, 1 + k // 4)
        until[enters] = move + 1 + below(rng, 1 + k // 8)
        if f < best_f - 1e-6 * abs(best_f):
            best_f = f
            best[:] = members
    return best_f


@jit()
def first_set(W: Array, d: Array, start: int, champion: Array, members: Array, order: Array, rng: Array) -> None:
    """Where descent number ``start`` begins: greedy, then in turn the perturbed champion and a random set."""
    if start == 0:
        _greedy(W, d, members)
    elif start % 2 == 1:
        _perturb(champion, members, order.shape[0], rng)
    else:
        random_set(order, members, rng)


@jit()
def aligned(rows: int, columns: int) -> Array:
    """Zeros (rows, columns) float32 from the start of a cache line on, so that no vector is on two of them."""
    size = rows * columns
    room = np.zeros(size + 15, np.float32)
    skip = (-np.int64(room.ctypes.data)) % 64 // 4
    return room[skip : skip + size].reshape(rows, columns)


@jit()
def padded(n: int) -> int:
    """Rows and columns of W for n variables: a multiple of PAD. Rows at a distance of 2 kB evict each other from the
    cache while W is transposed."""
    m = (n + PAD - 1) // PAD * PAD
    return m + PAD if m % 512 == 0 else m


@jit()
def _greedy(W: Array, d: Array, members: Array) -> None:
    n = W.shape[0]
    g = d.copy()
    for q in range(members.shape[0]):
        chosen = 0
        for j in range(n):
            if g[j] < g[chosen]:
                chosen = j
        members[q] = chosen
        for j in range(n):
            g[j] += W[chosen, j]
        for p in range(q + 1):
            g[members[p]] = HUGE


@jit()
def random_set(order: Array, members: Array, rng: Array) -> None:
    """The first k of a partial Fisher-Yates shuffle."""
    n = order.shape[0]
    for q in range(members.shape[0]):
        p = q + below(rng, n - q)
        order[q], order[p] = order[p], order[q]
        members[q] = order[q]


@jit()
def _perturb(champion: Array, members: Array, n: int, rng: Array) -> None:
    """The champion with about a third of its members (two at least) exchanged at random."""
    k = champion.shape[0]
    inside = np.zeros(n, np.uint8)
    members[:] = champion
    for i in members:
        inside[i] = 1
    for _ in range(min(n - k, k, max(2, k // 3))):
        q = below(rng, k)
        enters = below(rng, n)
        while inside[enters]:
            enters = below(rng, n)
        inside[members[q]] = 0
        inside[enters] = 1
        members[q] = enters


@jit(fastmath=FAST)
def swap_anneal(
    W: Array, d: Array, members: Array, g: Array, inside: Array, energy: Array, best: Array, rng: Array,
    temperatures: Array,
) -> None:
    """Metropolis over random swaps: n attempts at each temperature. energy [now, best] float64; best (k,)."""
    n, k = inside.shape[0], members.shape[0]
    for t in temperatures:
        for _ in range(n):
            q = below(rng, k)
            enters = below(rng, n)
            if inside[enters]:
                continue
            leaves = members[q]
            change = g[enters] - g[leaves] - W[leaves, enters]
            if change <= 0 or uniform(rng) < np.exp(-change / t):
                swap(W, g, members, inside, q, enters)
                energy[0] += float(change)
                if energy[0] < energy[1]:
                    energy[1] = energy[0]
                    best[:] = members


@jit(fastmath=FAST)
def couplings_of(Q: Array, W: Array, d: Array) -> None:
    """W = Q + Q' with zero diagonal, d = diag Q, divided by the largest magnitude of Q; in tiles, for the caches.

    W (m, m) and d (m,) may be larger than Q (n, n): what is beyond n stays as it is.
    """
    n = Q.shape[0]
    largest = 1e-300
    for i in range(n):
        row = Q[i]
        for j in range(n):
            largest = larger(largest, abs(row[j]))
    scale = 1.0 / largest
    for first in range(0, n, BLOCK):
        for left in range(0, first + 1, BLOCK):
            for i in range(first, min(n, first + BLOCK)):
                for j in range(left, min(left + BLOCK, i)):
                    w = np.float32(Q[i, j] * scale + Q[j, i] * scale)
                    W[i, j] = w
                    W[j, i] = w
    for i in range(n):
        d[i] = np.float32(Q[i, i] * scale)
        W[i, i] = np.float32(0)
