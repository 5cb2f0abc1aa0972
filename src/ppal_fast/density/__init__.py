"""Kernel densities of tables with missing cells, their log ratio, and a density that may leave the trust boundary.

    KernelDensity    log p(x), exact, product Gaussian kernels
    DensityRatio     log p(x) - log q(x)
    PrivateDensity   log p(x) from one private sum of random features; evaluated anywhere at no further cost

With missing cells (NaN), o_x and o_y being what is observed of a query x and of a reference y_i,

    log p(x) = logsumexp_i [ log w_i + sum_{j in o_x} ( log N(x_j; y_ij, h_j^2) if j in o_{y_i} else log p_j(x_j) ) ]

where p_j is the one-dimensional density of column j over its observed reference cells. A query row without an observed
cell has log density 0, and a column without an observed reference cell is left out of the product.
"""

from __future__ import annotations

from .exact import DensityRatio, KernelDensity
from .private import PrivateDensity

__all__ = ["DensityRatio", "KernelDensity", "PrivateDensity"]
