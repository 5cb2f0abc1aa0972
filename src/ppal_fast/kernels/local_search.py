"""Annealing and one-flip tabu search over the local-field engine of fields.py.

Both run in slices: everything that they know lives in their arguments, so a caller may stop between two calls, look at
the clock and go on, and the result is the same however the work was sliced. ``energy`` is [now, best seen].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._accepts import BLOCK, accepts, accepts_up, flags, lowest
from ._extremes import larger
from ._jit import jit
from ._lanes import WORDS
from .bits import add_bit_rows, raise_block
from .fields import FAST, HUGE, PANEL, add_piece, add_pieces, add_row, below, descend, ising_of, start, uniform
from .pairs import sweep_pairs

Array = NDArray[Any]

# Metropolis accepts a rise of dE when dE <= T e with e ~ Exp(1). The e are read from a table of quantiles in random
# order, entered at a random place for every block of spins: no logarithm and no random number per spin.
_QUANTILES = -np.log((np.arange(2048) + 0.5) / 2048)
EXPONENTIALS = np.random.default_rng(0).permutation(_QUANTILES).astype(np.float32)
PAIRS = 4  # sweeps of sparse couplings to one of pairs, which is drawn by lot: slices do not matter


@jit(fastmath=FAST)
def anneal(
    couplings: Array, indptr: Array, indices: Array, s: Array, h: Array, energy: Array, best: Array,
    rng: Array, exponentials: Array, temperatures: Array, target: float,
) -> int:
    """One Metropolis sweep at each temperature; returns the number of sweeps made, fewer once ``target`` is met.

    Blocks of 64 spins are tested at once, and after a flip those that it reached again, so that the moves are those
    of a test spin by spin (on stale tests a grid of neighbours ended twice as far from its ground state). A dense
    flip first reaches the fields of its own panel of 256; those outside wait for the end of the panel and take its
    rows four at a time; where couplings are bits, the end of the block, and up to fifteen. Sparse pairs are tested
    after one sweep in four. Cost of a sweep: n tests;
    for each flip one row and 64 tests, or one for each neighbour.
    Source: Kirkpatrick, Gelatt, Vecchi 1983; Isakov et al. 2015.
    """
    limits = np.empty(exponentials.shape[0], h.dtype)
    flipped = np.empty(PANEL, np.int32)
    for sweep in range(temperatures.shape[0]):
        _limits(exponentials, temperatures[sweep], limits)
        if couplings.ndim == 3:
            _sweep_of_bits(couplings, indices, s, h, energy, rng, limits, flipped)
        else:
            _sweep(couplings, indptr, indices, s, h, energy, rng, limits, flipped)
            if couplings.ndim == 1 and below(rng, PAIRS) == 0:
                sweep_pairs(couplings, indptr, indices, s, h, energy, rng, limits)
        if energy[0] < energy[1]:
            energy[1] = energy[0]
            best[:] = s
            if energy[0] <= target:
                return sweep + 1
    return temperatures.shape[0]


@jit(fastmath=FAST)
def _sweep(
    couplings: Array, indptr: Array, indices: Array, s: Array, h: Array, energy: Array, rng: Array, limits: Array,
    flipped: Array,
) -> None:
    n = s.shape[0]
    places = limits.shape[0] - BLOCK
    end_s, end_h = np.ones(BLOCK, np.int8), np.zeros(BLOCK, h.dtype)  # of the last block, where it is not full
    one = np.uint64(1)
    count = 0
    for first in range(0, n, BLOCK):
        size = min(BLOCK, n - first)
        low = first // PANEL * PANEL
        high = min(n, low + PANEL)
        at = below(rng, places)
        untested = ~np.uint64(0) >> np.uint64(BLOCK - size)
        passed, stale = np.uint64(0), True
        while True:
            if stale and size == BLOCK:
                passed = untested & accepts(s, h, limits, first, at)
            elif stale:
                end_s[:size], end_h[:size] = s[first:], h[first:]
                passed = untested & accepts(end_s, end_h, limits, 0, at)
            if passed == 0:
                break
            q = lowest(passed)
            i = first + q
            energy[0] -= 2.0 * float(s[i]) * float(h[i])
            s[i] = -s[i]
            if couplings.ndim == 1:
                passed &= passed - one
                passed = _flip_in_block(couplings, indptr, indices, s, h, i, limits, first, at, passed)
                stale = False
            else:
                untested &= ~((one << np.uint64(q) << one) - one)
                add_piece(couplings, indices, h, i, s[i] > 0, low, high)
                flipped[count] = i
                count += 1
        if couplings.ndim == 2 and first + BLOCK >= high and count > 0:
            add_pieces(couplings, indices, h, flipped[:count], s, 0, low)
            add_pieces(couplings, indices, h, flipped[:count], s, high, n)
            count = 0


@jit()
def _sweep_of_bits(
    bits: Array, values: Array, s: Array, h: Array, energy: Array, rng: Array, limits: Array, flipped: Array
) -> None:
    """The sweep where couplings are bits: the flips of a block reach a copy of its fields one by one, and then all
    fields together."""
    n = s.shape[0]
    up, fields = np.zeros(BLOCK, np.uint8), np.zeros(BLOCK, h.dtype)
    one, change, step = np.uint64(1), 0, values[1] - values[0]
    for first in range(0, n, BLOCK):
        size, block = min(BLOCK, n - first), first // BLOCK
        for q in range(size):
            up[q] = np.uint8(s[first + q] > 0)
            fields[q] = h[first + q]
        ups, untested = flags(up, 0), ~np.uint64(0) >> np.uint64(BLOCK - size)
        at, count = below(rng, limits.shape[0] - BLOCK), 0
        while True:
            passed = untested & accepts_up(ups, fields, limits, at)
            if passed == 0:
                break
            q = lowest(passed)
            i, bit = first + q, one << np.uint64(q)
            untested &= ~((bit << one) - one)
            down = np.int64(ups >> np.uint64(q)) & 1
            ups ^= bit
            s[i] = 1 - 2 * down
            change += (1 - 2 * down) * fields[q]
            low = values[0] - down * (values[0] + values[1])  # a branch would be guessed wrong half the time
            word = bits[i, block // WORDS, block % WORDS] ^ np.uint64(-down)
            raise_block(fields, 0, ~bit, low, step, (word,))
            flipped[count] = i
            count += 1
        if count > 0:
            add_bit_rows(bits, values, h, flipped[:count], s, 0, n)
    energy[0] += 2.0 * change


@jit(fastmath=FAST)
def _flip_in_block(
    couplings: Array, indptr: Array, indices: Array, s: Array, h: Array, i: int, limits: Array, first: int, at: int,
    passed: Any,
) -> Any:
    """add_row of a sparse spin; its neighbours further on in the block are tested anew, one by one: reading the whole
    block just after single fields were written would wait for these writes."""
    turned = h.dtype.type(s[i])
    for p in range(indptr[i], indptr[i + 1]):
        j = indices[p]
        h[j] += turned * couplings[p]
        place = j - first
        if i - first < place < BLOCK:
            bit = np.uint64(1) << np.uint64(place)
            passed &= ~bit
            if h.dtype.type(s[j]) * h[j] >= limits[at + place]:
                passed |= bit
    return passed


@jit(fastmath=FAST)
def _limits(exponentials: Array, temperature: Any, limits: Array) -> None:
    """The lowest s h that is accepted at each exponential: whole and exact where the fields are whole."""
    half = np.float32(-0.5) * temperature
    if limits.dtype.type(0.5) > 0:
        for q in range(limits.shape[0]):
            limits[q] = half * exponentials[q]
    else:
        lowest = np.float32(-0.99 * 2.0 ** (8 * limits.itemsize - 1))  # nothing this unlikely need be accepted
        for q in range(limits.shape[0]):
            limits[q] = limits.dtype.type(np.ceil(max(half * exponentials[q], lowest)))


@jit(fastmath=FAST)
def tabu_search(
    couplings: Array, indptr: Array, indices: Array, s: Array, h: Array, energy: Array, best: Array,
    rng: Array, until: Array, counters: Array, iterations: int, tenure: int, stall: int, target: float,
) -> int:
    """Flip the best spin that is not tabu, again and again; returns the number of flips made.

    A flipped spin is tabu for ``tenure`` to ``tenure + 9`` flips (until (n,) int32) unless it leads below the best.
    After ``stall`` flips without a new best the search jumps: it flips a random set of spins. counters (2,) int64 hold
    [clock, last improvement]. Cost of a flip: one pass over n and one row.
    Source: Glover, Lu, Hao 2010; Palubeckis 2006 (iterated tabu search).
    """
    n = s.shape[0]
    n_blocks = (n + BLOCK - 1) // BLOCK
    free_top = np.empty(n_blocks, np.float32)
    any_top = np.empty(n_blocks, np.float32)
    for done in range(iterations):
        counters[0] += 1
        now = np.int32(counters[0])
        if counters[0] - counters[1] > stall:
            _jump(couplings, indptr, indices, s, h, energy, rng, until, now)
            counters[1] = counters[0]
        top_free, top_any = -HUGE, -HUGE
        for k in range(n_blocks):
            first, last = k * BLOCK, min(n, (k + 1) * BLOCK)
            free, either = _tops(s[first:last], h[first:last], until[first:last], now)
            free_top[k] = free
            any_top[k] = either
            top_free = max(top_free, free)
            top_any = max(top_any, either)
        aspires = energy[0] - 2.0 * float(top_any) < energy[1] or top_free == -HUGE
        chosen = _position(s, h, until, now, any_top if aspires else free_top, top_any if aspires else top_free,
                           aspires, below(rng, n_blocks), below(rng, BLOCK))
        energy[0] -= 2.0 * float(s[chosen]) * float(h[chosen])
        s[chosen] = -s[chosen]
        add_row(couplings, indptr, indices, h, chosen, s[chosen] > 0)
        until[chosen] = now + np.int32(tenure + below(rng, 10))
        if energy[0] < energy[1]:
            energy[1] = energy[0]
            best[:] = s
            counters[1] = counters[0]
            if energy[0] <= target:
                return done + 1
    return iterations


@jit(fastmath=FAST)
def _tops(s: Array, h: Array, until: Array, now: Any) -> tuple[Any, Any]:
    """The highest gain s h of the spins that are not tabu, and of all."""
    free, either = -HUGE, -HUGE
    for i in range(s.shape[0]):
        gain = np.float32(s[i]) * np.float32(h[i])
        either = larger(either, gain)
        free = larger(free, gain if until[i] < now else -HUGE)
    return free, either


@jit(fastmath=FAST)
def _position(
    s: Array, h: Array, until: Array, now: Any, tops: Array, top: Any, tabu_too: bool, block: int, place: int
) -> int:
    """The spin whose gain is ``top``; the search begins at a random block and place so that ties fall evenly."""
    n = s.shape[0]
    for k in range(tops.shape[0]):
        b = (block + k) % tops.shape[0]
        if tops[b] == top:
            for q in range(BLOCK):
                i = b * BLOCK + (place + q) % BLOCK
                if i < n and np.float32(s[i]) * np.float32(h[i]) == top and (tabu_too or until[i] < now):
                    return i
    return 0


@jit()
def _jump(
    couplings: Array, indptr: Array, indices: Array, s: Array, h: Array, energy: Array, rng: Array, until: Array,
    now: Any,
) -> None:
    """Flip 2 + n/50 to 2 + n/5 random spins."""
    n = s.shape[0]
    for _ in range(2 + n // 50 + int(uniform(rng) * (n // 5 - n // 50))):
        i = below(rng, n)
        energy[0] -= 2.0 * float(s[i]) * float(h[i])
        s[i] = -s[i]
        add_row(couplings, indptr, indices, h, i, s[i] > 0)
        until[i] = now + np.int32(below(rng, 10))


@jit()
def tabu_batch(Q: Array, starts: int, flips: int, seeds: Array, states: Array) -> None:
    """Problems x'Qx, Q (b, n, n) float64, in turn: the best of ``starts`` tabu searches of ``flips`` flips each.

    states (b, n) int8 takes the best x of each problem; seeds (b,) uint64. Cost: starts x flips x O(n) a problem.
    """
    n = Q.shape[1]
    J, C = np.empty((n, n), np.float32), np.empty((n, n), np.float32)
    b, h_up, h = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    s, best, none, until = np.empty(n, np.int8), np.empty(n, np.int8), np.empty(0, np.int32), np.empty(n, np.int32)
    energy, counters, rng = np.empty(2), np.empty(2, np.int64), np.empty(1, np.uint64)
    for p in range(Q.shape[0]):
        ising_of(Q[p], J, b, C, h_up)
        rng[0] = seeds[p]
        lowest = 1e300
        for _ in range(starts):
            for i in range(n):
                s[i] = 1 if uniform(rng) < np.float32(0.5) else -1
                until[i] = 0
            energy[:] = start(C, none, none, h_up, b, s, h)
            counters[:] = 0
            best[:] = s
            tabu_search(C, none, none, s, h, energy, best, rng, until, counters, flips, min(n // 100 + 10, n // 4),
                        5 * n + 100, -1e300)
            start(C, none, none, h_up, b, best, h)
            value = energy[1] + descend(C, none, none, best, h)
            if value < lowest:
                lowest = value
                for i in range(n):
                    states[p, i] = (best[i] + 1) // 2
