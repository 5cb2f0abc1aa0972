"""Local fields from couplings that take two values off the diagonal, such as +-1 or 0 and 1: a bit for each.

A complete problem of 2,000 spins is then 500 kB, which stays in a core's second cache, and the rows of up to 15 flipped
spins are first added up as bits: their sums come as four bit planes, and every field is read and written once.
Bits (n, chunks, WORDS) uint64: bit j of row i is set where 2 J_ij is values[1], else it is values[0]; the diagonal and
what is behind n are not set. n is at least BLOCK, fields and values fit int16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray  # type: ignore[attr-defined]
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ._accepts import BLOCK
from ._jit import jit
from ._lanes import WORDS as WORDS  # of the model too
from ._lanes import both, majority, odd, store, turned

Array = NDArray[Any]
MOST = 15  # rows that are added up at once: what PLANES bits count
PLANES = 4
CHUNK = BLOCK * WORDS
MOST_WORDS = 32768 // BLOCK  # whole fields of more spins overflow int16
_ALL = ~np.uint64(0)
_alloca: Any = cgutils.alloca_once
_I16, _I64 = ir.IntType(16), ir.IntType(64)


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    one = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def _mask(builder: Any, word: Any) -> Any:
    return builder.bitcast(word, ir.VectorType(ir.IntType(1), BLOCK))


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Where the BLOCK entries of an array from the flat index ``at`` are, as one vector."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), ir.VectorType(data.type.pointee, BLOCK).as_pointer())


def _raise_block(_typing: Any, h: Any, at: Any, where: Any, base: Any, step: Any, words: Any) -> Any:
    """h[at:at + BLOCK] += base + step (words[0] + 2 words[1] + 4 words[2] ...), bit by bit, in lanes of ``where``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, at, where, base, step, words = arguments
        place = _place(context, builder, signature.args[0], arguments[0], at)
        total = builder.load(place, align=2)
        raised = builder.add(total, _splat(builder, base, BLOCK))
        for p in range(signature.args[5].count):
            part = _splat(builder, builder.shl(step, ir.Constant(_I16, p)), BLOCK)
            raised = builder.select(_mask(builder, builder.extract_value(words, p)), builder.add(raised, part), raised)
        builder.store(builder.select(_mask(builder, where), raised, total), place, align=2)
        return context.get_dummy_value()

    return types.void(h, types.int64, types.uint64, types.int16, types.int16, words), generate


def _raise_blocks(number: int) -> Any:
    def raise_blocks(
        _typing: Any, h: Any, first: Any, last: Any, base: Any, step: Any, words: Any, at: Any, apart: Any, turn: Any
    ) -> Any:
        """``_raise_block`` of the whole blocks from ``first`` to ``last`` - 1; word p of a block is
        words.ravel()[at + p * apart + block] ^ turn. A loop of Numba's takes twice the time for its indices."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _, first, last, base, step, _, at, apart, turn = arguments
            base = _splat(builder, base, BLOCK)
            parts = [_splat(builder, builder.shl(step, ir.Constant(_I16, p)), BLOCK) for p in range(number)]
            data = context.make_array(signature.args[5])(context, builder, arguments[5]).data
            starts = [builder.gep(data, [builder.add(at, builder.mul(apart, _I64(p)))]) for p in range(number)]
            with cgutils.for_range_slice(builder, first, last, _I64(1), _I64) as (block, _):
                place = _place(context, builder, signature.args[0], arguments[0], builder.mul(block, _I64(BLOCK)))
                total = builder.add(builder.load(place, align=2), base)
                for start, part in zip(starts, parts, strict=True):
                    word = builder.xor(builder.load(builder.gep(start, [block])), turn)
                    total = builder.select(_mask(builder, word), builder.add(total, part), total)
                builder.store(total, place, align=2)
            return context.get_dummy_value()

        long = types.int64
        return types.void(h, long, long, types.int16, types.int16, words, long, long, types.uint64), generate

    return intrinsic(raise_blocks)


def _compare(_typing: Any, entries: Any, at: Any, value: Any) -> Any:
    """Bit q: entries.ravel()[at + q] == value, for BLOCK entries."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], arguments[0], arguments[1])
        value = _splat(builder, arguments[2], BLOCK)
        found = builder.load(place, align=1)
        is_float = isinstance(signature.args[0].dtype, types.Float)
        same = builder.fcmp_ordered("==", found, value) if is_float else builder.icmp_signed("==", found, value)
        return builder.bitcast(same, _I64)

    return types.uint64(entries, types.int64, entries.dtype), generate


def _ones(_typing: Any, word: Any) -> Any:
    return types.int64(types.uint64), lambda _c, builder, _s, arguments: builder.ctpop(arguments[0])


def _scratch(_typing: Any) -> Any:
    """Room for PLANES bits of each of the most spins and for MOST codes, on the stack: arrays of their own would take
    as long as several rows."""

    def generate(_context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        room = _alloca(builder, _I64, size=PLANES * MOST_WORDS + MOST)
        room.align = 64
        return room

    pointer: Any = types.CPointer
    return pointer(types.int64)(), generate


scratch: Any = intrinsic(_scratch)
raise_block: Any = intrinsic(_raise_block)
raise_by_one, raise_by_two, raise_by_three, raise_by_four = (_raise_blocks(number) for number in (1, 2, 3, 4))
compare: Any = intrinsic(_compare)
ones: Any = intrinsic(_ones)


@jit()
def add_bit_row(bits: Array, values: Array, h: Array, i: int, up: bool, first: int, last: int) -> None:
    """h += row i if that spin went up, h -= it if it went down: the fields from ``first``, a multiple of BLOCK, to
    ``last`` - 1, another one or n."""
    low, high = (values[0], values[1]) if up else (-values[1], -values[0])
    turn = np.uint64(0) if up else _ALL
    words = bits.shape[1] * WORDS
    begin, end, own = first // BLOCK, last // BLOCK, i // BLOCK
    if begin <= own < end:
        raise_by_one(h, begin, own, low, high - low, bits, i * words, 0, turn)
        others = ~(np.uint64(1) << np.uint64(i - own * BLOCK))
        raise_block(h, own * BLOCK, others, low, high - low, (bits[i, own // WORDS, own % WORDS] ^ turn,))
        begin = own + 1
    raise_by_one(h, begin, end, low, high - low, bits, i * words, 0, turn)
    if end * BLOCK < last:
        where, shift = _behind(h, end)
        if own == end:
            where &= ~(np.uint64(1) << np.uint64(i - h.shape[0] + BLOCK))
        word = bits[i, end // WORDS, end % WORDS] ^ turn
        raise_block(h, h.shape[0] - BLOCK, where, low, high - low, (word << shift,))


@jit()
def _behind(h: Array, block: int) -> tuple[Any, Any]:
    """The lanes of the last BLOCK fields that are not in the blocks before ``block``, and the place of the first."""
    shift = np.uint64((block + 1) * BLOCK - h.shape[0])
    return _ALL << shift, shift


@jit()
def add_bit_rows(bits: Array, values: Array, h: Array, flipped: Array, s: Array, first: int, last: int) -> None:
    """``add_bit_row`` of the spins ``flipped``, now as in s. Cost: for MOST of them about four times that of one."""
    if first >= last:
        return
    step = values[1] - values[0]
    words = bits.shape[1] * WORDS
    begin, end = first // BLOCK, last // BLOCK
    room = carray(scratch(), PLANES * words + MOST)
    codes = PLANES * words
    none = np.uint64(0)
    for k in range(0, flipped.shape[0], MOST):
        m = min(MOST, flipped.shape[0] - k)
        downs: Any = 0  # counted, for a branch on each sign would be guessed wrong half of the time
        for p in range(m):
            i = flipped[k + p]
            down = np.int64(s[i] < 0)
            downs += down
            room[codes + p] = 2 * bits.shape[1] * i + down
        base = (m - downs) * values[0] - downs * values[1]
        _add_up(bits, room, m, begin // WORDS, (last + CHUNK - 1) // CHUNK)
        if m < 4:
            raise_by_two(h, begin, end, base, step, room, 0, words, none)
        elif m < 8:
            raise_by_three(h, begin, end, base, step, room, 0, words, none)
        else:
            raise_by_four(h, begin, end, base, step, room, 0, words, none)
        if end * BLOCK < last:
            where, shift = _behind(h, end)
            a, b = np.uint64(room[end]) << shift, np.uint64(room[words + end]) << shift
            c, d = np.uint64(room[2 * words + end]) << shift, np.uint64(room[3 * words + end]) << shift
            raise_block(h, h.shape[0] - BLOCK, where, base, step, (a, b, c, d))
    for i in flipped:  # the diagonal is not set, which stands for values[0]; at the end, as raise_blocks would wait
        if first <= i < last:
            h[i] -= values[0] * s[i]


@jit()
def _add_up(bits: Array, room: Array, m: int, first: int, last: int) -> None:
    """How many of m rows have each bit set, as PLANES bit planes, for the chunks from ``first`` to ``last`` - 1.
    Behind the planes are the codes of the rows: 2 chunks row + (1 where its bits are turned over)."""
    chunks = bits.shape[1]
    codes = PLANES * chunks * WORDS
    for chunk in range(first, last):
        a = turned(bits, room, codes, chunk)
        b = odd(a, a)
        c, d = b, b
        k = 1
        while k + 2 <= m:
            u, v = turned(bits, room, codes + k, chunk), turned(bits, room, codes + k + 1, chunk)
            a, carry = odd(odd(a, u), v), majority(a, u, v)
            b, carry = odd(b, carry), both(b, carry)
            c, d = odd(c, carry), odd(d, both(c, carry))
            k += 2
        if k < m:
            u = turned(bits, room, codes + k, chunk)
            a, carry = odd(a, u), both(a, u)
            b, carry = odd(b, carry), both(b, carry)
            c, d = odd(c, carry), odd(d, both(c, carry))
        store(room, chunk, a)
        store(room, chunks + chunk, b)
        store(room, 2 * chunks + chunk, c)
        store(room, 3 * chunks + chunk, d)


@jit()
def pack_bits(J: Array, low: Any, high: Any, bits: Array, counts: Array) -> bool:
    """bits of J (n, n), counts (n,) of those set in each row; False where J has other values off its diagonal, or
    anything but 0 on it."""
    n = J.shape[0]
    words = bits.reshape(n, -1)
    for i in range(n):
        row = words[i]
        row[:] = np.uint64(0)
        other = np.uint64(0)
        set_bits = 0
        for at in range(0, n, BLOCK):
            begin = min(at, n - BLOCK)
            shift = np.uint64(at - begin)
            word = compare(J, i * n + begin, high) >> shift
            rest = ~(word | compare(J, i * n + begin, low) >> shift) & (_ALL >> shift)
            if i - at < BLOCK and i >= at:
                own = ~(np.uint64(1) << np.uint64(i - at))
                word &= own
                rest &= own
            row[at // BLOCK] = word
            other |= rest
            set_bits += ones(word)
        if other != 0 or J[i, i] != 0:
            return False
        counts[i] = set_bits
    return True


@jit()
def are_symmetric(bits: Array) -> bool:
    """The bits equal their transpose: squares of 64 by 64 turned over. Source: Warren, Hacker's Delight, 7-3."""
    n = bits.shape[0]
    words = bits.reshape(n, -1)
    square = np.empty(BLOCK, np.uint64)
    for k in range((n + BLOCK - 1) // BLOCK):
        for q in range(k + 1):
            size = min(BLOCK, n - k * BLOCK)
            square[:] = np.uint64(0)
            for r in range(size):
                square[r] = words[k * BLOCK + r, q]
            width, mask = 32, np.uint64(0x00000000FFFFFFFF)
            while width:
                shift = np.uint64(width)
                for start in range(0, BLOCK, 2 * width):
                    for r in range(start, start + width):
                        moved = ((square[r] >> shift) ^ square[r + width]) & mask
                        square[r + width] ^= moved
                        square[r] ^= moved << shift
                width //= 2
                mask ^= mask << np.uint64(width)
            differ = np.uint64(0)
            for r in range(min(BLOCK, n - q * BLOCK)):
                differ |= square[r] ^ words[q * BLOCK + r, k]
            if differ:
                return False
    return True
