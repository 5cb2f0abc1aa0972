"""The only Numba decorator of the project: lazy, cached on disk where possible, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def jit(*, fastmath: bool | set[str] = False) -> Callable[[F], F]:
    """Compile on first call. ``fastmath`` is off unless the kernel's error analysis allows it."""

    def decorate(function: F) -> F:
        options: dict[str, Any] = {
            "nogil": True, "error_model": "numpy", "boundscheck": False, "fastmath": fastmath,
        }
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # a read-only install without a home folder: numba finds no place for its cache
            return numba.njit(cache=False, **options)(function)

    return decorate
