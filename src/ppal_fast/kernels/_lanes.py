"""Eight uint64 words as one LLVM vector, a Numba type of its own: a register each, whatever LLVM makes of loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.datamodel.registry import register_default
from numba.extending import intrinsic

WORDS = 8
_WORD = ir.IntType(64)
_VECTOR = ir.VectorType(_WORD, WORDS)


class Lanes(types.Type):
    pass


lanes: Any = Lanes("Lanes")


@register_default(Lanes)
class LanesModel(PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)  # type: ignore[no-untyped-call]


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    made = context.make_array(kind)(context, builder, array)
    return builder.bitcast(builder.gep(made.data, [at]), _VECTOR.as_pointer())


def _constant(value: int) -> Any:
    return ir.Constant(_VECTOR, [value] * WORDS)


def _broadcast(builder: Any, word: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), word, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), WORDS), [0] * WORDS))


def _load(_typing: Any, array: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = builder.mul(context.cast(builder, arguments[1], signature.args[1], types.int64), ir.Constant(_WORD, WORDS))
        return builder.load(_place(context, builder, signature.args[0], arguments[0], at), align=8)

    return lanes(array, row), generate


def _store(_typing: Any, array: Any, row: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = builder.mul(context.cast(builder, arguments[1], signature.args[1], types.int64), ir.Constant(_WORD, WORDS))
        builder.store(arguments[2], _place(context, builder, signature.args[0], arguments[0], at), align=8)
        return context.get_dummy_value()

    return types.void(array, row, value), generate


def _wished(_typing: Any, state: Any, bonds: Any, at: Any) -> Any:
    """Row bonds[at] // 2 of state, each bit turned where bonds[at] is odd: without Numba's test for an index below 0,
    which costs as much as the rest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[1])(context, builder, arguments[1])
        at = context.cast(builder, arguments[2], signature.args[2], types.int64)
        bond = builder.sext(builder.load(builder.gep(made.data, [at])), _WORD)
        row = builder.shl(builder.lshr(bond, ir.Constant(_WORD, 1)), ir.Constant(_WORD, 3))
        read = builder.load(_place(context, builder, signature.args[0], arguments[0], row), align=8)
        return builder.xor(read, _broadcast(builder, builder.neg(builder.and_(bond, ir.Constant(_WORD, 1)))))

    return lanes(state, bonds, at), generate


def _turned(_typing: Any, array: Any, codes: Any, at: Any, further: Any) -> Any:
    """Row codes[at] // 2 + further of WORDS words, every bit turned over where codes[at] is odd; codes int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[1])(context, builder, arguments[1])
        code = builder.load(builder.gep(made.data, [arguments[2]]))
        row = builder.add(builder.lshr(code, ir.Constant(_WORD, 1)), arguments[3])
        place = builder.mul(row, ir.Constant(_WORD, WORDS))
        read = builder.load(_place(context, builder, signature.args[0], arguments[0], place), align=8)
        return builder.xor(read, _broadcast(builder, builder.neg(builder.and_(code, ir.Constant(_WORD, 1)))))

    return lanes(array, codes, types.int64, types.int64), generate


def _raised(_typing: Any, array: Any, at: Any, by: Any) -> Any:
    """(array[at + lane] + by) // 2 in each lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        read = builder.load(_place(context, builder, signature.args[0], arguments[0], arguments[1]), align=8)
        by = _broadcast(builder, context.cast(builder, arguments[2], signature.args[2], types.int64))
        return builder.lshr(builder.add(read, by), _constant(1))

    return lanes(array, at, by), generate


def _full(_typing: Any) -> Any:
    return lanes(), lambda _context, _builder, _signature, _arguments: _constant(-1)


def _mask_of_bit(_typing: Any, value: Any, bit: Any) -> Any:
    """All ones in each lane whose ``bit`` is set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bit = context.cast(builder, arguments[1], signature.args[1], types.int64)
        left = _broadcast(builder, builder.sub(ir.Constant(_WORD, 63), bit))
        return builder.ashr(builder.shl(arguments[0], left), _constant(63))

    return lanes(value, bit), generate


def _of(make: Callable[..., Any], number: int) -> Any:
    def two(_typing: Any, a: Any, b: Any) -> Any:
        return lanes(a, b), lambda _context, builder, _signature, arguments: make(builder, *arguments)

    def three(_typing: Any, a: Any, b: Any, c: Any) -> Any:
        return lanes(a, b, c), lambda _context, builder, _signature, arguments: make(builder, *arguments)

    return intrinsic(two if number == 2 else three)


load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
wished: Any = intrinsic(_wished)
turned: Any = intrinsic(_turned)
raised: Any = intrinsic(_raised)
full: Any = intrinsic(_full)
mask_of_bit: Any = intrinsic(_mask_of_bit)
odd: Any = _of(lambda builder, a, b: builder.xor(a, b), 2)
both: Any = _of(lambda builder, a, b: builder.and_(a, b), 2)
majority: Any = _of(lambda builder, a, b, c: builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b))), 3)
