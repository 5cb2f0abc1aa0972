"""Gaussian kernel densities in C++ (csrc/, include/ppal_fast/density.hpp)."""

import numpy as np
from numpy.typing import NDArray

def simd_level() -> str:
    """The instruction set in use: "baseline", "avx2" or "avx512"; the environment variable PPAL_SIMD forces one."""

def all_finite(table: NDArray[np.float64]) -> bool:
    """Whether no cell is infinite or NaN; for one row in a fraction of numpy's time."""

class Double:
    """Density in float64: log densities are right to 1e-9 against a float64 log-sum-exp."""

    def __init__(
        self, references: NDArray[np.float64], bandwidth: NDArray[np.float64],
        weights: NDArray[np.float64] | None = None, like: Double | None = None, prunable: bool = False,
    ) -> None: ...
    @property
    def references(self) -> NDArray[np.float64]:
        """(n, d) read-only view."""

    def log_density(
        self, queries: NDArray[np.float64], out: NDArray[np.float64], left_out: NDArray[np.intp] | None = None,
        threads: int = 1, rtol: float = 0.0,
    ) -> None:
        """Write the log density of queries (m, d) into out (m,); reference left_out[i] is absent for row i."""

    def log_ratio(
        self, denominator: Double, queries: NDArray[np.float64], out: NDArray[np.float64],
        left_out: NDArray[np.intp] | None = None, threads: int = 1,
    ) -> None:
        """log_density less that of the denominator, with queries prepared once for both."""

    def pruning_order(self, queries: NDArray[np.float64], rtol: float) -> NDArray[np.intp] | None:
        """(m,) an order for log_density with rtol; None where a probe says that it would not pay."""

    def likelihood_grid(
        self, queries: NDArray[np.float64], left_out: NDArray[np.intp], share: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(25,) sum of share times the leave-one-out log density, under the bandwidth times 2^(-i / 4)."""

class Single(Double):
    """Density with float32 sums; rows on which those underflow or cancel are redone in float64."""
