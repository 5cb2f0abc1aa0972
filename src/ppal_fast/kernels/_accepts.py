"""64 Metropolis tests as one mask, and the first set bit of a mask, written in LLVM's vector types.

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


def _lowest(_typing: Any, mask: Any) -> Any:
    """The position of the lowest set bit of a uint64 that is not zero."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


accepts: Any = intrinsic(_accepts)
lowest: Any = intrinsic(_lowest)
