"""Tables and sizes that the benchmarks share; everything is drawn from fixed seeds.

Conventions of the suite:
  time_, peakmem_   as in asv; sizes come from ROWS, so that growth can be read off
  track_            a quality where LOWER IS BETTER (an error, a gap, a distance to the ceiling), because asv and
                    `make bench-regress` take a larger value for a loss; seeded, so that only a change of code moves it
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

ROWS = (1_000, 10_000, 100_000, 1_000_000)
N_COLUMNS = 50
MISSING = 0.8


def dense_table(n_rows: int, n_columns: int = 15, seed: int = 0) -> Float:
    """(n, d) standard normal rows, every cell observed."""
    return np.random.default_rng(seed).standard_normal((n_rows, n_columns))


def sparse_table(n_rows: int, n_columns: int = N_COLUMNS, missing: float = MISSING, seed: int = 0) -> Float:
    """(n, d) standard normal rows; each cell is NaN with probability ``missing``."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_columns))
    X[rng.random((n_rows, n_columns)) < missing] = np.nan
    return X


def labels(n_rows: int, n_classes: int = 2, seed: int = 0) -> NDArray[np.intp]:
    """(n,) class codes drawn at random."""
    return np.random.default_rng(seed).integers(n_classes, size=n_rows)


def qubo_matrix(n: int, density: float = 1.0, seed: int = 0) -> Float:
    """(n, n) symmetric, whole numbers from -100 to 100 in a share ``density`` of the pairs (the recipe of bqp)."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.integers(-100, 101, size=(n, n)) * (rng.random((n, n)) < density))
    return (upper + np.triu(upper, 1).T).astype(np.float64)


def complete_ising(n: int, seed: int = 0) -> Float:
    """(n, n) couplings -1 or +1 on every pair, zero diagonal (the recipe of K2000)."""
    upper = np.triu(np.random.default_rng(seed).choice((-1.0, 1.0), size=(n, n)), 1)
    return upper + upper.T
