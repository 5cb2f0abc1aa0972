"""Noise and the clip-sum: samples a second, groups x parameters, and the distance of the sampler from its law."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from benchmarks.common import ROWS
from ppal_fast.kernels import clipping, noise
from ppal_fast.privacy import PublicMask, masked_clip_noise, sparse_clip_noise

KEY = np.arange(8, dtype=np.uint32)


class RoundedGaussian:
    """The released noise, at the largest deviation in use and at a small one."""

    params = (ROWS, (4.0, 2.0**30))
    param_names = ("samples", "deviation")

    def setup(self, samples: int, deviation: float) -> None:
        noise.draw_rounded_gaussian(1024, deviation, KEY)

    def time_draw(self, samples: int, deviation: float) -> None:
        noise.draw_rounded_gaussian(samples, deviation, KEY)

    def peakmem_draw(self, samples: int, deviation: float) -> None:
        noise.draw_rounded_gaussian(samples, deviation, KEY)


class RoundedGaussianLaw:
    def track_kolmogorov_distance(self) -> float:
        """Largest difference from Phi at S = 4 over 1e6 draws of a fixed key; about 0.0005 by chance."""
        samples = np.sort(noise.draw_rounded_gaussian(1_000_000, 4.0, KEY))
        cells = np.arange(-20, 21)
        law = np.array([0.5 * math.erfc(-(k + 0.5) / 4.0 / math.sqrt(2.0)) for k in cells])
        return float(np.abs(np.searchsorted(samples, cells, side="right") / len(samples) - law).max())


class SimulatedGaussian:
    params = (ROWS, ("float32", "float64"))
    param_names = ("samples", "dtype")

    def setup(self, samples: int, dtype: str) -> None:
        self.out = np.empty(samples, dtype)
        self.time_fill(samples, dtype)

    def time_fill(self, samples: int, dtype: str) -> None:
        noise.fill_normals(self.out, 1.0, KEY, np.uint64(0), np.uint64(0))


class MaskedClipNoise:
    """200 of 10,000 groups."""

    params = ((50, 1000), ("float32", "float64"), (1, 2))
    param_names = ("parameters", "dtype", "n_jobs")

    def setup(self, parameters: int, dtype: str, n_jobs: int) -> None:
        self.gradients = np.random.default_rng(0).standard_normal((10_000, parameters)).astype(dtype)
        self.mask = PublicMask(np.arange(10_000) % 50 == 0, "every fiftieth group")
        self.out = np.zeros_like(self.gradients)
        self.time_step(parameters, dtype, n_jobs)

    def time_step(self, parameters: int, dtype: str, n_jobs: int) -> None:
        masked_clip_noise(
            self.gradients, self.mask, clip=1.0, sigma=1.0, random_state=0, n_jobs=n_jobs, out=self.out
        )


class IntegerClipSum:
    """Rows of 50 numbers, clipped on the grid and summed."""

    params = (ROWS, (1, 10))
    param_names = ("rows", "rows_per_owner")

    def setup(self, rows: int, rows_per_owner: int) -> None:
        self.rows = np.random.default_rng(0).standard_normal((rows, 50))
        self.starts = np.arange(0, rows + 1, rows_per_owner)
        self.time_sum(rows, rows_per_owner)

    def time_sum(self, rows: int, rows_per_owner: int) -> None:
        total = np.zeros(50, np.int64)
        clipping.integer_clip_sum(self.rows, self.starts, 1.0, 2.0**26, 2**26, total)


class SparseStep:
    """256 sparse rows, 50 entries each: the step for simulation, and the integer sum of the same rows for release."""

    params = (1_000, 20_000, 1_000_000)
    param_names = ("columns",)

    def setup(self, columns: int) -> None:
        rng = np.random.default_rng(0)
        self.rows = sparse.random(256, columns, density=50 / columns, format="csr", random_state=0, dtype=np.float32)
        self.residuals = rng.standard_normal(256).astype(np.float32)
        self.starts, self.columns = self.rows.indptr.astype(np.intp), self.rows.indices.astype(np.intp)
        self.values, self.total = self.rows.data.astype(np.float64), np.zeros(columns, np.int64)
        self.time_simulated(columns)
        self.time_integer_sum(columns)

    def time_simulated(self, columns: int) -> None:
        sparse_clip_noise(self.rows, self.residuals, clip=1.0, sigma=1.0, random_state=0)

    def time_integer_sum(self, columns: int) -> None:
        clipping.sparse_integer_clip_sum(
            self.starts, self.columns, self.values, 1.0, 2.0**24, 2**24, self.total
        )
