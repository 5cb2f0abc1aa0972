"""Walks of best swaps, a few at a time, and exchanges of pairs: the search of batches and of small problems.

Problems are those of swap.py: W (m, m) float32, d (m,), the chosen set of fixed size, its gradient g.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._exchange import exchange, join, leaver, lowest_entry, lowest_swap
from ._extremes import larger, smaller
from ._jit import jit
from .fields import FAST, HUGE
from .swap import aligned, couplings_of, gradient, padded, random_set

Array = NDArray[Any]
TENURE, STALL = 6, 10  # moves; a tenure of 3 missed twice as many problems, 8 or a stall of 16 took longer for the same
CLOSE = 1e-6  # two f within this fraction are the same, for float32
BARRED = np.float32(2e38)  # at who left; HUGE at members
OUT = 1e30  # f above it: only who is barred was left to enter
MOST_IDLE = 64  # with low rank, pairs among 128 and as many idle ones take 50 times as long as walks
LANES = 3  # walks that take turns: with two they took a tenth longer, with four as long


@jit()
def walk_batch(Q: Array, idle: int, most: int, enough: int, seeds: Array, chosen: Array) -> None:
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
        best_of_walks(Q[p], 1.0, W, None, d, n + idle, 0, most, enough, idle <= MOST_IDLE, rng, chosen[p])


@jit()
def best_of_walks(
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
