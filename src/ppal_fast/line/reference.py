"""What a scorer may know of the items to come: the pool where its features are public, else rows drawn from what was
released. From it follow the steps of the query rate, the bins of the drift watch, and the labelled rows' density.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..learners.cells import Cells
from ..learners.representation import FactorScores, Representation
from ..table import Schema

Float = NDArray[np.float64]
Parts = dict[str, Any]

N_SYNTHETIC = 5000
N_BINS = 100  # PPAL_LINE_BINS
N_STEPS = 128


def synthetic_items(learner: Any, schema: Schema) -> Float | None:
    """Items (n, d) drawn from a released model; None where nothing of the pool was released (public ranges alone)."""
    representation: Representation | None = getattr(learner, "representation_", None)
    if representation is None or representation.kind == "columns":
        return None
    cells = representation.cells
    rng = np.random.default_rng(0)
    values = np.zeros((N_SYNTHETIC, len(schema.names)))
    z = rng.standard_normal((N_SYNTHETIC, len(cells.numeric)))
    if isinstance(representation.encoder, FactorScores):
        model = representation.encoder.model
        z = z * np.sqrt(model.noise) + rng.standard_normal((N_SYNTHETIC, model.n_factors)) @ model.loadings.T
    values[:, cells.numeric] = cells.mean + cells.scale * z
    for category in cells.categories:
        shares = category.frequency / category.frequency.sum()
        values[:, category.column] = rng.choice(category.levels, N_SYNTHETIC, p=shares)
    values[rng.random(values.shape) > cells.coverage] = np.nan
    return values


def rate_steps(uncertainty: Float) -> Parts:
    """Thresholds, falling, and the share of the reference at or above each; without a reference, everything."""
    if not len(uncertainty):
        return {"n_steps": 1, "step_threshold": np.zeros(1), "step_share": np.ones(1)}
    shares = np.geomspace(0.002, 1, N_STEPS)
    threshold = np.unique(np.append(np.quantile(uncertainty, 1 - shares), 0.0))[::-1]
    share = (uncertainty >= threshold[:, None]).mean(axis=1)
    kept = share > 0
    return {"n_steps": int(kept.sum()), "step_threshold": threshold[kept], "step_share": share[kept]}


def drift_bins(unusual: Float, *, counted: bool) -> Parts:
    """Bins of about equal shares of the reference, and how many of its rows are in each (none where it is not real)."""
    edges = np.unique(np.quantile(unusual[~np.isnan(unusual)], np.arange(1, N_BINS) / N_BINS))
    counts = np.bincount(np.searchsorted(edges, unusual[~np.isnan(unusual)]), minlength=len(edges) + 1)
    return {"n_bins": len(counts), "bin_edge": edges, "bin_count": counts if counted else np.zeros_like(counts)}


def labelled_density(cells: Cells, values: Float) -> Parts:
    """The labelled rows' standardised cells, column by column, with Scott's bandwidth (docs/density.md)."""
    Z = cells(values)
    observed = ~np.isnan(Z)
    count = observed.sum(axis=0)
    deviation = np.ones(Z.shape[1])
    for j in np.flatnonzero(count):
        spread = Z[observed[:, j], j].std()
        deviation[j] = spread if spread > 1e-9 else 1.0
    bandwidth = deviation * np.maximum(count, 1) ** (-1 / (Z.shape[1] + 4))
    column, row = np.nonzero(observed.T)
    return {
        "n_labelled": len(Z), "log_labelled": np.log(len(Z)), "n_labelled_cells": len(row),
        "inverse_bandwidth": 1 / bandwidth, "bandwidth_log": -np.log(bandwidth * np.sqrt(2 * np.pi)),
        "labelled_log": np.log(np.maximum(count, 1)),
        "labelled_start": np.r_[0, np.cumsum(count)], "labelled_row": row,
        "labelled_value": (Z / bandwidth)[row, column],
    }
