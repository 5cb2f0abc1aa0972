"""larger(a, b) and smaller(a, b) of two floats, neither NaN, for reductions that LLVM may vectorise.

Numba's max and min compile to a select without fast-math flags, which LLVM takes for an ordered, scalar reduction:
1 ns an element. With the flags (no NaN, zeros of either sign alike) it is 0.05 ns.
"""

from __future__ import annotations

from typing import Any

from numba.extending import intrinsic

FLAGS = ("nnan", "nsz")


def _extreme(relation: str, a: Any, b: Any) -> Any:
    if a != b:
        return None  # of one type only

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        holds = builder.fcmp_ordered(relation, *arguments, flags=FLAGS)
        return builder.select(holds, *arguments, flags=FLAGS)

    return a(a, b), generate


def _larger(_typing: Any, a: Any, b: Any) -> Any:
    return _extreme(">", a, b)


def _smaller(_typing: Any, a: Any, b: Any) -> Any:
    return _extreme("<", a, b)


larger: Any = intrinsic(_larger)
smaller: Any = intrinsic(_smaller)
