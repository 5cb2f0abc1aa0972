"""Gaussian kernel densities in C++ (csrc/, include/ppal_fast/density.hpp)."""

import numpy as np
from numpy.typing import NDArray

def simd_level() -> str:
    """The instruction set in use: "baseline", "avx2" or "avx512"; the environment variable PPAL_SIMD forces one."""

class Double:
    """Density in float64: log densities are right to 1e-9 against a float64 log-sum-exp."""

    def __init__(
        self, references: NDArray[np.float64], bandwidth: NDArray[np.float64],
        weights: NDArray[np.float64] | None = None,
    ) -> None: ...
    def log_density(
        self, queries: NDArray[np.float64], out: NDArray[np.float64], left_out: NDArray[np.intp] | None = None
    ) -> None:
        """Write the log density of queries (m, d) into out (m,); reference left_out[i] is absent for row i."""

class Single(Double):
    """Density with float32 sums; rows on which those underflow or cancel are redone in float64."""
