"""The E step of factor analysis: the Gaussian posterior of each row's factors, one small system a row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._jit import jit

Float = NDArray[np.float64]


@jit()
def posterior(precision: Float, b: Float) -> tuple[Float, Float, Float]:
    """Of f ~ N(A^-1 b, A^-1) with A positive definite, for each row: the mean, E[f f'] and log |A|.

    precision (n, q (q + 1) / 2) the lower triangles of A row by row, as np.tril_indices gives them; b (n, q).
    Returns (n, q), (n, q (q + 1) / 2) in the same order, and (n,). Cost n q^3; by Cholesky, A = L L', in place of a
    general inverse. Source: Golub, Van Loan, Matrix Computations, section 4.2.
    """
    n, q = b.shape
    mean = np.empty((n, q))
    second = np.empty(precision.shape)
    log_determinant = np.empty(n)
    L, R = np.zeros((q, q)), np.zeros((q, q))  # R = L^-1
    for row in range(n):
        log_determinant[row] = 0.0
        at = 0
        for i in range(q):
            for j in range(i + 1):
                total = precision[row, at]
                at += 1
                for k in range(j):
                    total -= L[i, k] * L[j, k]
                if j < i:
                    L[i, j] = total * R[j, j]
                else:
                    R[i, i] = 1.0 / np.sqrt(total)
                    log_determinant[row] += np.log(total)
            for j in range(i):
                total = 0.0
                for k in range(j, i):
                    total -= L[i, k] * R[k, j]
                R[i, j] = total * R[i, i]
        for i in range(q):  # R b, then R' R b
            L[i, i] = 0.0
            for j in range(i + 1):
                L[i, i] += R[i, j] * b[row, j]
        for j in range(q):
            mean[row, j] = 0.0
            for i in range(j, q):
                mean[row, j] += R[i, j] * L[i, i]
        at = 0
        for i in range(q):
            for j in range(i + 1):
                total = mean[row, i] * mean[row, j]
                for k in range(i, q):
                    total += R[k, i] * R[k, j]
                second[row, at] = total
                at += 1
    return mean, second, log_determinant
