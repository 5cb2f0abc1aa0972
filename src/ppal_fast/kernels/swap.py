"""Fixed cardinality by swap moves: one variable leaves the chosen set, another enters. The sum never changes.

A problem is W (m, m) float32 with zero diagonal and d (m,): f(x) = sum_i d_i x_i + sum_{i<j} W_ij x_i x_j, to minimise
with sum(x) = k. Behind its n variables d is HUGE and W zero, so that nothing there is chosen. The gradient
g_i = d_i + sum_{j chosen} W_ij is kept up to date; swapping i out and j in changes f by g_j - g_i - W_ij.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._exchange import PAD, exchange, join, leaver, lowest_entry, lowest_swap
from ._extremes import larger, smaller
from ._jit import jit
from .fields import BLOCK, FAST, HUGE, below, uniform

Array = NDArray[Any]
TENURE, STALL = 6, 10  # moves; a tenure of 3 missed twice as many problems, 8 or a stall of 16 took longer for the same
CLOSE = 1e-6  # two f within this fraction are the same, for float32
BARRED = np.float32(2e38)  # at who left; HUGE at members
OUT = 1e30  # f above it: only who is barred was left to enter
MOST_IDLE = 64  # with low rank, pairs among 128 and as many idle ones take 50 times as long as walks
LANES = 3  # walks that take turns: with two they took a tenth longer, with four as long


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
def couple(Q: Array, scale: float, W: Array, ready: Array | None, i: Any) -> None:
    """Row i of W from Q, if it is not there yet: of thousands of variables few ever enter a set.

    ready (m,) uint8, or None where all of W is there: then nothing of this is compiled, and a move takes two thirds.
    """
    if ready is None:
        return
    if not ready[i]:
        ready[i] = 1
        for j in range(Q.shape[0]):
            W[i, j] = np.float32(Q[i, j] * scale + Q[j, i] * scale)
        for j in range(Q.shape[0], W.shape[0]):
            W[i, j] = np.float32(0)
        W[i, i] = np.float32(0)


@jit()
def walks(
    Q: Array, scale: float, W: Array, ready: Array | None, d: Array, n: int, first: int, most: int, enough: int,
    in_pairs: bool, rng: Array, chosen: Array,
) -> None:
    """The best set of walks number ``first`` to ``most`` - 1, to chosen (k,) int32. No swap improves it.

    Number 0 starts from the greedy set, the others from sets that the greedy rule completes from a random half. Then
    come best swaps, until STALL of them brought no new best set; whoever left is barred from coming back for TENURE
    moves, which leads out of local minima. There are ``enough`` walks if all of them meet the best set, and ``enough``
    p^(-1/3) if a share p of them does: fewer for as few misses than meetings alone ask for. ``in_pairs``: of the best
    set two members are exchanged for two others as well, which low rank needs, where swaps are too coarse.

    LANES walks take turns, one move each: a move is a chain of steps that wait for each other, and chains of several
    walks overlap. It is one function because every call would count references to its arrays, with locked instructions.
    Q, scale, ready: as ``couple`` fills W. Cost: k m a move. Source: recency as in Glover, Kuo, Dhir 1998.
    """
    m, k = W.shape[0], chosen.shape[0]
    rows = aligned(3 * LANES, m)
    g, bar, lowest = rows[:LANES], rows[LANES : 2 * LANES], rows[2 * LANES :]
    members, best = np.empty((LANES, k), np.int32), np.empty((LANES, k), np.int32)
    place, left = np.empty((LANES, m), np.int32), np.empty((LANES, TENURE), np.int32)
    order = np.arange(n).astype(np.int32)
    tenure = max(1, min(TENURE, n - k - 1))  # somebody can always enter
    f, best_f, entry = np.empty(LANES), np.empty(LANES), np.empty(LANES, np.uint64)
    given, size, moves, last = np.empty((4, LANES), np.int64)
    walking, again = np.zeros(LANES, np.uint8), np.zeros(LANES, np.uint8)
    lowest_f, meetings, start, settled = 1e300, 0, first, True
    while True:
        for a in range(LANES):
            if not walking[a]:
                if not settled:  # its pairs, and swaps that were barred when it was met
                    settled = True
                    if in_pairs:
                        pair_descend(W, d, n, chosen, g[a], bar[a], lowest[a])
                    given[a] = k
                    for q in range(k):
                        members[a, q] = chosen[q]
                    again[a] = 1
                elif start < most and meetings * start**2 < enough**3:
                    given[a] = k // 2 if start else 0
                    random_set(order, members[a, : given[a]], rng)
                    start += 1
                    again[a] = 0
                else:
                    continue
                walking[a] = 1
                f[a], size[a] = 0.0, 0
                for j in range(m):
                    g[a, j] = d[j]
                    bar[a, j] = np.float32(0)
            if size[a] < given[a]:
                entry[a] = members[a, size[a]]
            elif size[a] < k:
                entry[a] = lowest_entry(g, bar, a)
            else:
                entry[a] = lowest_swap(W, members, g, bar, lowest, a)
        if not walking.any():
            break
        for a in range(LANES):
            if not walking[a]:
                continue
            enters = entry[a]
            couple(Q, scale, W, ready, enters)
            if size[a] < k:
                q = size[a]
                f[a] += float(g[a, enters])
                join(W, g, a, enters)
                size[a] += 1
                moves[a], last[a], best_f[a] = 0, 0, 1e300
            else:
                change = lowest[a, enters] + (g[a, enters] + bar[a, enters])
                f[a] += float(change)
                leaves = leaver(W, g, bar, a, enters, lowest[a, enters])
                exchange(W, g, a, enters, leaves)
                q = place[a, leaves]
                slot = moves[a] % tenure
                if moves[a] >= tenure:
                    bar[a, left[a, slot]] = np.float32(0)
                left[a, slot] = leaves
                bar[a, leaves] = BARRED
                moves[a] += 1
            members[a, q], place[a, enters], bar[a, enters] = enters, q, HUGE
            if size[a] < k:
                continue
            if f[a] < best_f[a] - CLOSE * abs(best_f[a]):
                best_f[a], last[a] = f[a], moves[a]
                for p in range(k):
                    best[a, p] = members[a, p]
            elif moves[a] - last[a] >= STALL or f[a] >= OUT or moves[a] > 10 * n + 100:  # in float32 it could circle
                walking[a] = 0
                if best_f[a] < lowest_f - CLOSE * abs(lowest_f):
                    settled = False
                    lowest_f, meetings = best_f[a], 0
                    for p in range(k):
                        chosen[p] = best[a, p]
                if not again[a]:
                    meetings += best_f[a] <= lowest_f + CLOSE * abs(lowest_f)


@jit(fastmath=FAST)
def pair_descend(W: Array, d: Array, n: int, members: Array, g: Array, cost: Array, row: Array) -> None:
    """Exchanges of two members for two others, in place, until none improves. W whole; g, cost, row (m,) scratch.

    A pair of members is passed over, and so is a variable that might enter, where even its lowest coupling cannot make
    an exchange improve; of idle members, without couplings or a weight, two stand for all. Cost: k^2 n / 2 where most
    are, at most k^2 n^2 / 4, for each round.
    """
    m, k = W.shape[0], members.shape[0]
    gradient(W, d, members, g)
    low_of, idle, spare = np.empty(n, np.float32), np.empty(n, np.uint8), np.empty(k, np.uint8)
    lowest = HUGE
    for i in range(n):
        low, high = HUGE, -HUGE
        for j in range(m):
            low, high = smaller(low, W[i, j]), larger(high, W[i, j])
        low_of[i], idle[i] = low, low == 0 and high == 0 and d[i] == 0
        lowest = smaller(lowest, low)
    first_idle = n
    while first_idle > 0 and idle[first_idle - 1]:
        first_idle -= 1
    scale = np.float32(0)
    for j in range(m):
        cost[j] = g[j]
        scale = larger(scale, abs(g[j]) if d[j] < HUGE else np.float32(0))
    for i in members:
        cost[i] = HUGE
    enough = np.float32(-8e-7) * scale  # the rounding of four rows: see swap_descend
    q, p, quiet, made = 1, 0, 0, 0
    while quiet < k * (k - 1) // 2 and made < 10 * n:  # in float32 it could go round in circles
        i, h = members[q], members[p]
        if quiet == 0:
            count = 0
            for v in range(k):
                count += idle[members[v]]
                spare[v] = count > 2 and idle[members[v]]
        base = W[i, h] - g[i] - g[h]
        low = HUGE
        quiet += 1
        if not (spare[q] or spare[p]):
            for j in range(m):
                row[j] = cost[j] - W[i, j] - W[h, j]
                low = smaller(low, row[j])
        if base + low + low + lowest < enough:
            for j in range(n):
                if base + row[j] + low + low_of[j] < enough:
                    partner = HUGE
                    for e in range(j + 1, m):
                        partner = smaller(partner, row[e] + W[j, e])
                    if base + row[j] + partner < enough:
                        e = j + 1
                        while row[e] + W[j, e] != partner:
                            e += 1
                        for v in range(m):
                            change = W[j, v] + W[e, v] - W[i, v] - W[h, v]
                            g[v] += change
                            cost[v] += change
                        members[q], members[p] = j, e
                        cost[i], cost[h], cost[j], cost[e] = g[i], g[h], HUGE, HUGE
                        quiet, made = 0, made + 1
                        break
                    if j >= first_idle:  # those after it are alike
                        break
        p += 1
        if p == q:
            q, p = q + 1 if q + 1 < k else 1, 0


@jit()
def swap_batch(Q: Array, idle: int, most: int, enough: int, seeds: Array, chosen: Array) -> None:
    """Walks on problems Q (b, n, n) float64 in turn: chosen (b, k) int32; seeds (b,) uint64.

    Variables from n to n + ``idle`` - 1 have neither couplings nor a diagonal: with n of them and k = n, every state of
    the first n is a set; pairs are then exchanged up to MOST_IDLE variables.
    """
    n = Q.shape[1]
    m = padded(n + idle)
    W, d = aligned(m, m), np.full(m, HUGE)
    d[n : n + idle] = np.float32(0)
    rng = np.empty(1, np.uint64)
    for p in range(Q.shape[0]):
        couplings_of(Q[p], W, d)
        rng[0] = seeds[p]
        walks(Q[p], 1.0, W, None, d, n + idle, 0, most, enough, idle <= MOST_IDLE, rng, chosen[p])


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
