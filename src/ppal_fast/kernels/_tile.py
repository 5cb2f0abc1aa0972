"""The inner tile of a matrix product with LANES columns, written in LLVM's vector types.

From loops over arrays LLVM loads and stores the sums at every step; here they stay in registers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 32  # two vectors of 16 floats
ROWS = 4  # with two vectors of sums each: enough to hide the latency of the multiply-add
WIDTH = 16
alloca: Any = cgutils.alloca_once


def _multiply_rows(_typing: Any, J: Any, X: Any, b: Any, F: Any, i: Any) -> Any:
    """F[i:i + ROWS] = b[i:i + ROWS] + J[i:i + ROWS] X; X, F (n, LANES) and J (n, n), all C-contiguous float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:4], arguments[:4], strict=True)
        ]
        J_at, X_at, b_at, F_at = (array.data for array in arrays)
        n = builder.extract_value(arrays[1].shape, 0)
        first, index = arguments[4], arguments[4].type
        vector = ir.VectorType(ir.FloatType(), WIDTH)

        def place(base: Any, *factors: Any) -> Any:
            return builder.gep(base, [builder.add(builder.mul(factors[0], factors[1]), factors[2])])

        def vectors(base: Any, row: Any) -> list[Any]:
            return [
                builder.bitcast(place(base, row, index(LANES), index(part * WIDTH)), vector.as_pointer())
                for part in range(LANES // WIDTH)
            ]

        def spread(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
            mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)

        rows = [builder.add(first, index(a)) for a in range(ROWS)]
        sums = [[alloca(builder, vector) for _ in range(LANES // WIDTH)] for _ in rows]
        for row, parts in zip(rows, sums, strict=True):
            bias = spread(builder.load(builder.gep(b_at, [row])))
            for part in parts:
                builder.store(bias, part)
        with cgutils.for_range(builder, n, intp=index) as loop:
            xs = [builder.load(at, align=4) for at in vectors(X_at, loop.index)]
            for row, parts in zip(rows, sums, strict=True):
                weight = spread(builder.load(place(J_at, row, n, loop.index)))
                for x, part in zip(xs, parts, strict=True):
                    product = builder.fmul(weight, x, flags=("contract",))
                    builder.store(builder.fadd(builder.load(part), product, flags=("contract",)), part)
        for row, parts in zip(rows, sums, strict=True):
            for at, part in zip(vectors(F_at, row), parts, strict=True):
                builder.store(builder.load(part), at, align=4)
        return context.get_dummy_value()

    return types.void(J, X, b, F, i), generate


multiply_rows: Any = intrinsic(_multiply_rows)
