"""The E step of factor analysis against whole matrices, one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppal_fast.kernels import reference
from ppal_fast.kernels.posterior import posterior


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12), q=st.integers(1, 9), size=st.integers(-3, 5))
def test_posterior_is_that_of_each_matrix(seed: int, n: int, q: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    root = 10.0**size * rng.normal(size=(n, q, q))
    precision, b = np.eye(q) + root @ root.transpose(0, 2, 1), rng.normal(size=(n, q))
    i, j = np.tril_indices(q)
    mean, second, log_determinant = posterior(precision[:, i, j], b)
    slow_mean, slow_second, slow_determinant = reference.posterior(precision, b)
    scale = float(np.linalg.cond(precision).max())
    assert mean == pytest.approx(slow_mean, rel=1e-8, abs=1e-13 * scale)
    assert second == pytest.approx(slow_second[:, i, j], rel=1e-8, abs=1e-13 * scale)
    assert log_determinant == pytest.approx(slow_determinant, rel=1e-8, abs=1e-8)
