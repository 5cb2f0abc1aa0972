"""Where noise comes from: a fresh key of the operating system for every release, used once, kept nowhere."""

from __future__ import annotations

import os
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import PrivacyError


class NoiseStream:
    """256 bits from the operating system, good for one draw.

    Because every release has its own key, no counter outlives a release: nothing can be reused by a second thread,
    a forked child or a restored session. A second draw, a draw in a forked child and pickling raise PrivacyError.
    """

    __slots__ = ("_key", "_process")

    def __init__(self) -> None:
        self._key: NDArray[np.uint32] | None = np.frombuffer(bytearray(os.urandom(32)), dtype=np.uint32)
        self._process = os.getpid()

    def rounded_gaussian(self, n: int, deviation: float) -> NDArray[np.int64]:
        """(n,) samples of round(N(0, deviation^2)); the key is overwritten before they are returned."""
        from ..kernels import noise

        key, self._key = self._key, None
        if key is None:
            raise PrivacyError("this noise stream was used before; draw every release from a NoiseStream of its own")
        if self._process != os.getpid():
            raise PrivacyError("this noise stream was made before a fork; make a NoiseStream in the child")
        try:
            return noise.draw_rounded_gaussian(n, deviation, key)
        finally:
            key[:] = 0

    def __reduce__(self) -> NoReturn:
        raise PrivacyError("a noise stream holds a key and is never copied or stored")
