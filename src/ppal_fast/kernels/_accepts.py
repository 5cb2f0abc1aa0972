"""64 Metropolis tests or flags as one mask, and the first set bit of a mask, written in LLVM's vector types.

From a loop over arrays LLVM stores one flag a byte and a second loop looks for them: twice the cost of a flip.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

BLOCK = 64


def _accepts(_typing: Any, s: Any, h: Any, limits: Any, first: Any, at: Any) -> Any:
    """Bit q: s[first + q] h[first + q] >= limits[at + q]. s int8; h and limits of one type; BLOCK entries of each."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def load(which: int, start: Any) -> Any:
            array = context.make_array(signature.args[which])(context, builder, arguments[which])
            vector = ir.VectorType(array.data.type.pointee, BLOCK)
            place = builder.bitcast(builder.gep(array.data, [start]), vector.as_pointer())
            return builder.load(place, align=1)

        signs, fields, least = load(0, arguments[3]), load(1, arguments[3]), load(2, arguments[4])
        if isinstance(signature.args[1].dtype, types.Float):
            gains = builder.fmul(builder.sitofp(signs, fields.type), fields)
            passed = builder.fcmp_ordered(">=", gains, least)
        else:
            passed = builder.icmp_signed(">=", builder.mul(builder.sext(signs, fields.type), fields), least)
        return builder.bitcast(passed, ir.IntType(BLOCK))

    return types.uint64(s, h, limits, first, at), generate


def _accepts_up(_typing: Any, up: Any, h: Any, limits: Any, at: Any) -> Any:
    """``_accepts`` of whole fields h[:BLOCK] where bit q of ``up`` says that s is 1."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def load(which: int, start: Any) -> Any:
            array = context.make_array(signature.args[which])(context, builder, arguments[which])
            vector = ir.VectorType(array.data.type.pointee, BLOCK)
            return builder.load(builder.bitcast(builder.gep(array.data, [start]), vector.as_pointer()), align=1)

        fields, least = load(1, ir.IntType(64)(0)), load(2, arguments[3])
        signs = builder.bitcast(arguments[0], ir.VectorType(ir.IntType(1), BLOCK))
        gains = builder.select(signs, fields, builder.neg(fields))
        return builder.bitcast(builder.icmp_signed(">=", gains, least), ir.IntType(BLOCK))

    return types.uint64(types.uint64, h, limits, types.int64), generate


def _flags(_typing: Any, bytes: Any, first: Any) -> Any:
    """Bit q: bytes[first + q] is not zero; BLOCK entries of one byte."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        vector = ir.VectorType(ir.IntType(8), BLOCK)
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
        set = builder.icmp_unsigned("!=", builder.load(place, align=1), ir.Constant(vector, None))
        return builder.bitcast(set, ir.IntType(BLOCK))

    return types.uint64(bytes, types.int64), generate


def _lowest(_typing: Any, mask: Any) -> Any:
    """The position of the lowest set bit of a uint64 that is not zero."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


accepts: Any = intrinsic(_accepts)
accepts_up: Any = intrinsic(_accepts_up)
flags: Any = intrinsic(_flags)
lowest: Any = intrinsic(_lowest)
