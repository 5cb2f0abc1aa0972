"""The inner loops of a swap walk, written in LLVM's vector types as in _tile.py.

From loops over arrays LLVM makes one horizontal minimum for every row and checks which arrays overlap at every call:
190 ns a move at n = 50, k = 15 instead of 50. Rows are padded to a multiple of PAD, so that no loop has a remainder.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._extremes import FLAGS
from ._tile import WIDTH, alloca

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


def _data(context: Any, builder: Any, signature: Any, arguments: Any) -> tuple[list[Any], Any, Any]:
    """Data pointers of the leading array arguments, columns of the first, elements of the second."""
    arrays = [
        context.make_array(kind)(context, builder, value)
        for kind, value in zip(signature.args, arguments, strict=True) if isinstance(kind, types.Array)
    ]
    columns, count = builder.extract_value(arrays[0].shape, 1), builder.extract_value(arrays[1].shape, 0)
    return [array.data for array in arrays], columns, count


def _position(builder: Any, least: Any, values: Any, m: Any) -> Any:
    """A j of m at which values(j), a vector from j on, has the least element of the vector ``least``."""
    index, width = m.type, WIDTH
    while width > 1:
        width //= 2
        kind = ir.VectorType(I32, width)
        halves = (ir.Constant(kind, list(range(start, start + width))) for start in (0, width))
        least = _smaller(builder, *(builder.shuffle_vector(least, least, half) for half in halves))
    least_everywhere = _spread(builder, builder.extract_element(least, I32(0)))
    found = alloca(builder, index)
    with cgutils.for_range_slice(builder, index(0), m, index(WIDTH), intp=index) as (first, _):
        equal = builder.bitcast(builder.fcmp_ordered("==", values(first), least_everywhere), ir.IntType(WIDTH))
        at = builder.add(first, builder.zext(builder.cttz(equal, ir.IntType(1)(0)), index))
        some = builder.icmp_signed("!=", equal, equal.type(0))
        builder.store(builder.select(some, at, builder.load(found)), found)
    return builder.load(found)


def _lowest_swap(_typing: Any, W: Any, members: Any, g: Any, bar: Any, lowest: Any) -> Any:
    """lowest[j] = min over i in members of -g[i] - W[i, j]; returns a j of minimal lowest[j] + (g[j] + bar[j]).

    W (m, m), g, bar, lowest (m,) C-contiguous float32 with m a multiple of PAD; members (k,) int32. Cost: k m.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (W_at, members_at, g_at, bar_at, lowest_at), m, k = _data(context, builder, signature, arguments)
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

    return types.int64(W, members, g, bar, lowest), generate


def _exchange(_typing: Any, W: Any, g: Any, enters: Any, leaves: Any) -> Any:
    """g += W[enters] - W[leaves]; W (m, m), g (m,) as above, enters and leaves int64. Cost: m."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (W_at, g_at), m, _ = _data(context, builder, signature, arguments)
        index = m.type
        entering, leaving = (builder.mul(row, m) for row in arguments[2:])
        with cgutils.for_range_slice(builder, index(0), m, index(WIDTH), intp=index) as (first, _step):
            new, old = (
                builder.load(_vector(builder, W_at, builder.add(row, first)), align=4) for row in (entering, leaving)
            )
            place = _vector(builder, g_at, first)
            builder.store(builder.fadd(builder.load(place, align=4), builder.fsub(new, old)), place, align=4)
        return context.get_dummy_value()

    return types.void(W, g, types.int64, types.int64), generate


def _lowest_entry(_typing: Any, g: Any, bar: Any) -> Any:
    """A j of minimal g[j] + bar[j], (m,) as above. Cost: m."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        m = builder.extract_value(arrays[0].shape, 0)
        index, least = m.type, alloca(builder, VECTOR)
        builder.store(ir.Constant(VECTOR, [ir.Constant(ir.FloatType(), float("inf"))] * WIDTH), least)

        def values(first: Any) -> Any:
            here = (builder.load(_vector(builder, array.data, first), align=4) for array in arrays)
            return builder.fadd(*here)

        with cgutils.for_range_slice(builder, index(0), m, index(WIDTH), intp=index) as (first, _):
            builder.store(_smaller(builder, builder.load(least), values(first)), least)
        return _position(builder, builder.load(least), values, m)

    return types.int64(g, bar), generate


def _join(_typing: Any, W: Any, g: Any, enters: Any) -> Any:
    """g += W[enters]; W (m, m), g (m,) as above, enters int64. Cost: m."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (W_at, g_at), m, _ = _data(context, builder, signature, arguments)
        index = m.type
        entering = builder.mul(arguments[2], m)
        with cgutils.for_range_slice(builder, index(0), m, index(WIDTH), intp=index) as (first, _step):
            new = builder.load(_vector(builder, W_at, builder.add(entering, first)), align=4)
            place = _vector(builder, g_at, first)
            builder.store(builder.fadd(builder.load(place, align=4), new), place, align=4)
        return context.get_dummy_value()

    return types.void(W, g, types.int64), generate


lowest_swap: Any = intrinsic(_lowest_swap)
lowest_entry: Any = intrinsic(_lowest_entry)
exchange: Any = intrinsic(_exchange)
join: Any = intrinsic(_join)
