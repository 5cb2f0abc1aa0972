"""The inner loops of a swap walk, written in LLVM's vector types as in _tile.py.

From loops over arrays LLVM makes one horizontal minimum for every row and checks which arrays overlap at every call:
190 ns a move at n = 50, k = 15 instead of 50. Rows are padded to a multiple of PAD, so that no loop has a remainder. No
branch depends on what is found: one that the processor guesses wrong would also throw away other walks' moves.

W (m, m) float32 holds the couplings. g, bar, lowest (walks, m) float32 and members (walks, k) int32 have a row for each
walk, of which ``a`` is the number: a view of a row would count references, with a locked instruction. All C-contiguous.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._extremes import FLAGS
from ._tile import WIDTH, alloca
from .fields import HUGE

PARTS = 4  # vectors of minima in registers
PAD = WIDTH * PARTS
VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
I32 = ir.IntType(32)


def _vector(builder: Any, base: Any, offset: Any) -> Any:
    return builder.bitcast(builder.gep(base, [offset]), VECTOR.as_pointer())


def _smaller(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b, flags=FLAGS), a, b, flags=FLAGS)


def _spread(builder: Any, value: Any) -> Any:
    none = ir.Constant(VECTOR, ir.Undefined)
    one = builder.insert_element(none, value, I32(0))
    return builder.shuffle_vector(one, none, ir.Constant(ir.VectorType(I32, WIDTH), [0] * WIDTH))


def _data(context: Any, builder: Any, signature: Any, arguments: Any) -> tuple[list[Any], Any, list[Any]]:
    """Row ``a`` of each of the leading arrays, where a is the number after them; the start of the first; columns."""
    kinds = [kind for kind in signature.args if isinstance(kind, types.Array)]
    arrays = [context.make_array(kind)(context, builder, value) for kind, value in zip(kinds, arguments, strict=False)]
    columns = [builder.extract_value(array.shape, 1) for array in arrays]
    offsets = [builder.mul(arguments[len(kinds)], count) for count in columns]
    rows = [builder.gep(array.data, [offset]) for array, offset in zip(arrays, offsets, strict=True)]
    return rows, arrays[0].data, columns


def _match(builder: Any, matches: Any, m: Any) -> Any:
    """A j of m whose bit is set; matches(j) is the vector of bits from j on."""
    index = m.type
    found = alloca(builder, index)
    builder.store(index(0), found)
    with cgutils.for_range_slice(builder, index(0), m, index(WIDTH), intp=index) as (first, _):
        bits = builder.bitcast(matches(first), ir.IntType(WIDTH))
        at = builder.add(first, builder.zext(builder.cttz(bits, ir.IntType(1)(0)), index))
        some = builder.icmp_signed("!=", bits, bits.type(0))
        builder.store(builder.select(some, at, builder.load(found)), found)
    return builder.load(found)


def _position(builder: Any, least: Any, values: Any, m: Any) -> Any:
    """A j of m at which values(j), a vector from j on, has the least element of the vector ``least``."""
    width = WIDTH
    while width > 1:
        width //= 2
        kind = ir.VectorType(I32, width)
        halves = (ir.Constant(kind, list(range(start, start + width))) for start in (0, width))
        least = _smaller(builder, *(builder.shuffle_vector(least, least, half) for half in halves))
    least_everywhere = _spread(builder, builder.extract_element(least, I32(0)))
    return _match(builder, lambda first: builder.fcmp_ordered("==", values(first), least_everywhere), m)


def _lowest_swap(_typing: Any, W: Any, members: Any, g: Any, bar: Any, lowest: Any, a: Any) -> Any:
    """lowest[j] = min over i in members of -g[i] - W[i, j]; returns a j of minimal lowest[j] + (g[j] + bar[j]).

    Cost: k m.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, W_at, (m, k, *_) = _data(context, builder, signature, arguments)
        _, members_at, g_at, bar_at, lowest_at = rows
        index = m.type
        minima = [alloca(builder, VECTOR) for _ in range(PARTS)]
        least = alloca(builder, VECTOR)
        huge = ir.Constant(VECTOR, [ir.Constant(ir.FloatType(), float("inf"))] * WIDTH)
        builder.store(huge, least)
        with cgutils.for_range_slice(builder, index(0), m, index(PAD), intp=index) as (first, _):
            for minimum in minima:
                builder.store(huge, minimum)
            with cgutils.for_range(builder, k, intp=index) as loop:
                i = builder.sext(builder.load(builder.gep(members_at, [loop.index])), index)
                leaving = _spread(builder, builder.fneg(builder.load(builder.gep(g_at, [i]))))
                row = builder.add(builder.mul(i, m), first)
                for part, minimum in enumerate(minima):
                    w = builder.load(_vector(builder, W_at, builder.add(row, index(part * WIDTH))), align=4)
                    builder.store(_smaller(builder, builder.load(minimum), builder.fsub(leaving, w)), minimum)
            for part, minimum in enumerate(minima):
                at = builder.add(first, index(part * WIDTH))
                value = builder.load(minimum)
                builder.store(value, _vector(builder, lowest_at, at), align=4)
                g_here, bar_here = (builder.load(_vector(builder, base, at), align=4) for base in (g_at, bar_at))
                value = builder.fadd(value, builder.fadd(g_here, bar_here))
                builder.store(_smaller(builder, builder.load(least), value), least)

        def values(first: Any) -> Any:
            value, g_here, bar_here = (
                builder.load(_vector(builder, base, first), align=4) for base in (lowest_at, g_at, bar_at)
            )
            return builder.fadd(value, builder.fadd(g_here, bar_here))

        return _position(builder, builder.load(least), values, m)

    return types.int64(W, members, g, bar, lowest, types.int64), generate


def _leaver(_typing: Any, W: Any, g: Any, bar: Any, a: Any, enters: Any, value: Any) -> Any:
    """The j with bar[j] == HUGE, a member, for which -g[j] - W[enters, j] == value, lowest[enters]. Cost: m."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (_, g_at, bar_at), W_at, (m, *_) = _data(context, builder, signature, arguments)
        row, wanted = builder.mul(arguments[4], m), _spread(builder, arguments[5])
        huge = ir.Constant(VECTOR, [ir.Constant(ir.FloatType(), float(HUGE))] * WIDTH)

        def matches(first: Any) -> Any:
            w = builder.load(_vector(builder, W_at, builder.add(row, first)), align=4)
            g_here, bar_here = (builder.load(_vector(builder, base, first), align=4) for base in (g_at, bar_at))
            equal = builder.fcmp_ordered("==", builder.fsub(builder.fneg(g_here), w), wanted)
            return builder.and_(equal, builder.fcmp_ordered("==", bar_here, huge))

        return _match(builder, matches, m)

    return types.int64(W, g, bar, types.int64, types.uint64, types.float32), generate


def _exchange(_typing: Any, W: Any, g: Any, a: Any, enters: Any, leaves: Any) -> Any:
    """g += W[enters] - W[leaves]. Cost: m."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (_, g_at), W_at, (m, _) = _data(context, builder, signature, arguments)
        index = m.type
        entering, leaving = (builder.mul(row, m) for row in arguments[3:])
        with cgutils.for_range_slice(builder, index(0), m, index(WIDTH), intp=index) as (first, _step):
            new, old = (
                builder.load(_vector(builder, W_at, builder.add(row, first)), align=4) for row in (entering, leaving)
            )
            place = _vector(builder, g_at, first)
            builder.store(builder.fadd(builder.load(place, align=4), builder.fsub(new, old)), place, align=4)
        return context.get_dummy_value()

    return types.void(W, g, types.int64, types.int64, types.int64), generate


def _lowest_entry(_typing: Any, g: Any, bar: Any, a: Any) -> Any:
    """A j of minimal g[j] + bar[j]. Cost: m."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, _, (m, _) = _data(context, builder, signature, arguments)
        index, least = m.type, alloca(builder, VECTOR)
        builder.store(ir.Constant(VECTOR, [ir.Constant(ir.FloatType(), float("inf"))] * WIDTH), least)

        def values(first: Any) -> Any:
            here = (builder.load(_vector(builder, row, first), align=4) for row in rows)
            return builder.fadd(*here)

        with cgutils.for_range_slice(builder, index(0), m, index(WIDTH), intp=index) as (first, _):
            builder.store(_smaller(builder, builder.load(least), values(first)), least)
        return _position(builder, builder.load(least), values, m)

    return types.int64(g, bar, types.int64), generate


def _join(_typing: Any, W: Any, g: Any, a: Any, enters: Any) -> Any:
    """g += W[enters]. Cost: m."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (_, g_at), W_at, (m, _) = _data(context, builder, signature, arguments)
        index = m.type
        entering = builder.mul(arguments[3], m)
        with cgutils.for_range_slice(builder, index(0), m, index(WIDTH), intp=index) as (first, _step):
            new = builder.load(_vector(builder, W_at, builder.add(entering, first)), align=4)
            place = _vector(builder, g_at, first)
            builder.store(builder.fadd(builder.load(place, align=4), new), place, align=4)
        return context.get_dummy_value()

    return types.void(W, g, types.int64, types.int64), generate


leaver: Any = intrinsic(_leaver)
lowest_swap: Any = intrinsic(_lowest_swap)
lowest_entry: Any = intrinsic(_lowest_entry)
exchange: Any = intrinsic(_exchange)
join: Any = intrinsic(_join)
