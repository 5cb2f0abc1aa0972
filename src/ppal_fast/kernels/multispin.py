"""Annealing of 512 replicas of one sparse problem of small whole weights at once, one bit each: multi-spin coding.

Every spin is a register of eight words. Of how many of its bonds are satisfied, a counter is kept in bit slices, all
replicas side by side; a Metropolis test compares it with a whole number. A coupling of weight w is w bonds, and a bias
is bonds to one more spin that never turns.
Source: Isakov, Zintchenko, Ronnow, Troyer 2015, doi:10.1016/j.cpc.2015.02.015.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._jit import jit
from ._lanes import WORDS as WORDS
from ._lanes import both, full, load, majority, mask_of_bit, odd, raised, store, wished
from .fields import below

Array = NDArray[Any]
REPLICAS = 64 * WORDS
MOST_BONDS = 63  # of a spin: what six slices count
PLANES = 40  # of the energy counters


@jit()
def anneal_replicas(
    bonds: Array, indptr: Array, state: Array, rng: Array, exponentials: Array, temperatures: Array
) -> None:
    """One Metropolis sweep of all replicas at each temperature: the even spins, then the odd ones, since neighbours in
    a grid would wait for each other (7.7 ns a spin instead of 14).

    bonds (m,) int32: 2 j + (1 where J_ij < 0) for each bond of spin i, from indptr[i] to indptr[i + 1] - 1.
    state (n, WORDS) or more rows, uint64: bit r of row i is spin i of replica r. The 64 replicas of a word share one
    exponential e a test: a spin with k of d bonds satisfied turns when 2 (2 k - d) <= T e.
    """
    n = indptr.shape[0] - 1
    evens = (n + 1) // 2
    slack, places = np.empty(exponentials.shape[0], np.int64), exponentials.shape[0] - WORDS
    for sweep in range(temperatures.shape[0]):
        half = np.float32(0.5) * temperatures[sweep]
        for q in range(slack.shape[0]):
            slack[q] = np.int64(min(half * exponentials[q], np.float32(MOST_BONDS)))
        for turn in range(n):
            i = 2 * turn if turn < evens else 2 * (turn - evens) + 1
            mine, p, last = load(state, i), indptr[i], indptr[i + 1]
            a = odd(mine, mine)
            b, c, d, e, f = a, a, a, a, a
            while p + 4 <= last:
                u, v = odd(mine, wished(state, bonds, p)), odd(mine, wished(state, bonds, p + 1))
                x, y = odd(mine, wished(state, bonds, p + 2)), odd(mine, wished(state, bonds, p + 3))
                carry, more = majority(a, u, v), odd(odd(a, u), v)
                carry, more, a = majority(more, x, y), carry, odd(odd(more, x), y)
                b, carry = odd(odd(b, carry), more), majority(b, carry, more)
                c, carry = odd(c, carry), both(c, carry)
                d, carry = odd(d, carry), both(d, carry)
                e, carry = odd(e, carry), both(e, carry)
                f = odd(f, carry)
                p += 4
            while p < last:
                a, b, c, d, e, f = _one_more(odd(mine, wished(state, bonds, p)), a, b, c, d, e, f)
                p += 1
            most = raised(slack, below(rng, places), last - indptr[i])
            turns = full()
            turns = _at_most(a, turns, most, 0)
            turns = _at_most(b, turns, most, 1)
            turns = _at_most(c, turns, most, 2)
            turns = _at_most(d, turns, most, 3)
            turns = _at_most(e, turns, most, 4)
            turns = _at_most(f, turns, most, 5)
            store(state, i, odd(mine, turns))


@jit()
def _one_more(carry: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    a, carry = odd(a, carry), both(a, carry)
    b, carry = odd(b, carry), both(b, carry)
    c, carry = odd(c, carry), both(c, carry)
    d, carry = odd(d, carry), both(d, carry)
    e, carry = odd(e, carry), both(e, carry)
    return a, b, c, d, e, odd(f, carry)


@jit()
def _at_most(slice: Any, lower: Any, most: Any, place: int) -> Any:
    """Whether a number is at most ``most``, from one slice of it and the answer for the slices below."""
    return majority(odd(slice, full()), lower, mask_of_bit(most, place))


@jit()
def _count(bonds: Array, indptr: Array, state: Array, slices: Array) -> int:
    """The satisfied bonds of each replica as bit slices from the lowest, (PLANES, WORDS) uint64; returns the number of
    bonds. Every bond is looked at from its lower end."""
    slices[:] = 0
    total = 0
    for i in range(indptr.shape[0] - 1):
        mine = load(state, i)
        none = odd(mine, mine)
        a, b, c, d, e, f = none, none, none, none, none, none
        for p in range(indptr[i], indptr[i + 1]):
            if bonds[p] >> 1 > i:
                a, b, c, d, e, f = _one_more(odd(mine, wished(state, bonds, p)), a, b, c, d, e, f)
                total += 1
        carry = none
        for t, part in enumerate((a, b, c, d, e, f)):
            old = load(slices, t)
            store(slices, t, odd(odd(old, part), carry))
            carry = majority(old, part, carry)
        for t in range(6, PLANES):
            old = load(slices, t)
            store(slices, t, odd(old, carry))
            carry = both(old, carry)
    return total


def energies(bonds: Array, indptr: Array, state: Array) -> Array:
    """(REPLICAS,) int64: the number of bonds that are not satisfied less the number of those that are."""
    slices = np.empty((PLANES, WORDS), np.uint64)
    total = _count(bonds, indptr, state, slices)
    bits = np.unpackbits(slices.view(np.uint8), axis=1, bitorder="little")
    return total - 2 * ((1 << np.arange(PLANES)) @ bits)
