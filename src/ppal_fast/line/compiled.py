"""From a fitted learner to the arrays of a model file: each learner's formula, laid flat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels.trees import LEAF, Forest
from ..learners import Learner
from ..learners.auto import UNIFORM, AutoClassifier
from ..learners.cells import CLIP, Cells
from ..learners.factor_analysis import FactorAnalysis
from ..learners.forest import RandomTreesClassifier, SplitTrees
from ..learners.gaussian_mixture import GaussianMixture
from ..learners.leaves import LeafComponents
from ..learners.mixture import MixtureClassifier
from ..learners.representation import (
    CONSTANT,
    ClustersAndFactors,
    Columns,
    FactorScores,
    Products,
    Representation,
    Responsibilities,
    TwoBlocks,
)
from . import image

Float = NDArray[np.float64]
Parts = dict[str, Any]
Latent = FactorAnalysis | GaussianMixture

NUMBER_CLIP = 3.0  # of the numbers in products


def cells_of(learner: Any) -> Cells | None:
    """How the learner reads an item's cells; None where there is one class and nothing is read."""
    if len(learner.classes_) < 2:
        return None
    representation: Representation | None = getattr(learner, "representation_", None)
    found: Cells = learner.cells_ if representation is None else representation.cells
    return found


def parts_of(learner: Any) -> Parts:
    """The arrays of image.ARRAYS and the numbers beside them. Raises InputError for a classifier of other people."""
    classes = getattr(learner, "classes_", ())
    parts: Parts = {"n_classes": len(classes), "log_classes": np.log(max(len(classes), 2))}
    cells = cells_of(learner) if isinstance(learner, Learner) or hasattr(learner, "representation_") else None
    if cells is None and len(classes) == 1:
        return parts | {"weights": np.zeros(1)}
    if cells is None:
        raise InputError(
            f"a {type(learner).__name__} has no compiled form; learners of ppal_fast.learners are expected "
            "(others decide through their own predict_proba)"
        )
    parts |= _cell_parts(cells)
    if isinstance(learner, RandomTreesClassifier):
        parts |= _split_parts(learner.trees_, learner.leaf_probabilities_, cells.width)
        return _watch(parts, cells, None)
    if isinstance(learner, MixtureClassifier):
        parts |= _mixture_parts((learner.mixture_,)) | {
            "encoder": image.MIXTURES, "head": image.POSTERIOR, "n_psi": len(classes), "weights": np.zeros(len(classes))
        }
        return _watch(parts, cells, learner.mixture_)
    representation = learner.representation_
    scores = getattr(learner, "class_mean_", learner)
    weights = scores.scores_.weights if hasattr(scores, "scores_") else scores.weights_
    encoded, model = _encoder_parts(representation.encoder, cells)
    parts |= encoded | _linear_parts(representation, weights)
    if isinstance(learner, AutoClassifier) and learner.forest_ is not None:
        assert learner.pool_map_ is not None
        fill = learner.pool_map_.fill
        parts |= _fill_parts(fill, parts, representation.encoder) | _forest_parts(learner.forest_)
        parts |= {
            "forest_share": learner.forest_share_, "forest_power": learner.forest_power_, "uniform_share": UNIFORM
        }
    return _watch(parts, cells, model)


def _cell_parts(cells: Cells) -> Parts:
    knots = [cells.scores.get(j, (np.empty(0), np.empty(0))) for j in range(len(cells.numeric))]
    categories = cells.categories
    cell_of = np.full(len(cells.coverage), -1)  # of each column: its cell; -1 none; -2 - c: category c
    cell_of[cells.numeric] = np.arange(len(cells.numeric))
    cell_of[[c.column for c in categories]] = -2 - np.arange(len(categories))
    return {
        "n_numeric": len(cells.numeric), "mean": cells.mean, "scale": cells.scale, "clip": CLIP, "cell_of": cell_of,
        "knot_start": _starts([len(k) for k, _ in knots]), "n_knots": sum(len(k) for k, _ in knots),
        "knots": _joined([k for k, _ in knots]), "knot_scores": _joined([s for _, s in knots]),
        "n_categories": len(categories),
        "level_start": _starts([len(c.levels) for c in categories]), "n_levels": sum(len(c.levels) for c in categories),
        "levels": _joined([c.levels for c in categories]), "frequency": _joined([c.frequency for c in categories]),
        "category_scale": np.array([c.scale for c in categories]),
    }


def _factor_parts(model: FactorAnalysis, slot: int) -> Parts:
    """Per cell: l / v, the lower triangle of l l' / v column by column, and l."""
    weighted = model.loadings / model.noise[:, None]
    columns, rows = np.triu_indices(model.n_factors)
    return {
        f"n_factors_{slot}": model.n_factors, f"n_packed_{slot}": len(rows), f"by_value_{slot}": weighted,
        f"by_presence_{slot}": model.loadings[:, rows] * weighted[:, columns], f"loadings_{slot}": model.loadings,
    }


def _mixture_parts(models: tuple[GaussianMixture, ...], slot: int = 0) -> Parts:
    """Per cell and component: m / v and -m^2 / 2v; the components of all models side by side."""
    scaled = np.concatenate([m.means / m.variance for m in models])
    means = np.concatenate([m.means for m in models])
    parts = {
        f"n_components_{slot}": len(means), f"mixture_by_value_{slot}": scaled.T,
        f"mixture_by_presence_{slot}": -0.5 * (means * scaled).T,
        f"mixture_base_{slot}": np.concatenate([np.log(m.weights) for m in models]),
    }
    if slot:
        return parts | {f"mixture_mean_{slot}": means.T}
    return parts | {"n_mixtures_0": len(models), "mixture_start_0": _starts([len(m.weights) for m in models])}


def _encoder_parts(encoder: Any, cells: Cells) -> tuple[Parts, Latent | None]:
    """psi, and the model of the cells behind it that says how unusual an item is."""
    if isinstance(encoder, Columns):
        return {"encoder": image.COLUMNS, "n_psi": cells.width}, None
    if isinstance(encoder, FactorScores):
        parts = _factor_parts(encoder.model, 0)
        return parts | {"encoder": image.FACTORS, "n_psi": encoder.model.n_factors}, encoder.model
    if isinstance(encoder, Responsibilities):
        parts = _mixture_parts(encoder.models)
        return parts | {"encoder": image.MIXTURES, "n_psi": parts["n_components_0"]}, encoder.models[-1]
    if isinstance(encoder, ClustersAndFactors):
        model = encoder.factors.model
        parts = _mixture_parts(encoder.clusters.models) | _factor_parts(model, 0)
        return parts | {"encoder": image.BOTH, "n_psi": parts["n_components_0"] + model.n_factors}, model
    if isinstance(encoder, Products):
        levels = sum(len(encoder.cells.categories[k].levels) for k in encoder.categories)
        parts = {} if encoder.model is None else _factor_parts(encoder.model, 0)
        return parts | {
            "encoder": image.PRODUCTS, "n_psi": levels * (1 + len(encoder.numeric)), "number_clip": NUMBER_CLIP,
            "n_numbers": len(encoder.numeric), "numbers": encoder.numeric,
            "n_product_categories": len(encoder.categories), "product_category": np.array(sorted(encoder.categories)),
        }, encoder.model
    assert isinstance(encoder, LeafComponents)
    n_trees, n_leaves, width = encoder.projection.shape
    return _fill_parts(encoder.fill, {}, None) | {
        "encoder": image.LEAVES, "n_psi": width, "n_leaf_trees": n_trees, "leaf_depth": int(np.log2(n_leaves)),
        "n_leaf_nodes": n_trees * (n_leaves - 1), "n_leaf_rows": n_trees * n_leaves,
        "leaf_column": encoder.trees.column, "leaf_threshold": encoder.trees.threshold,
        "leaf_component": encoder.projection,
    }, encoder.fill


def _fill_parts(fill: Latent | None, parts: Parts, encoder: Any) -> Parts:
    """The model that fills missing cells; the encoder's own factors where they are the same."""
    if fill is None:
        return {"fill": image.NO_MODEL}
    if isinstance(fill, GaussianMixture):
        return _mixture_parts((fill,), 1) | {"fill": image.MIXTURE_1}
    found = _factor_parts(fill, 1)
    if "loadings_0" in parts and np.array_equal(parts["by_value_0"], found["by_value_1"]):
        return {"fill": image.FACTORS_0}
    return found | {"fill": image.FACTORS_1}


def _linear_parts(representation: Representation, weights: Float) -> Parts:
    whitening = representation.whitening
    blocks = (whitening.main, whitening.second) if isinstance(whitening, TwoBlocks) else (whitening,)
    squares = (1.0, whitening.second_weight) if isinstance(whitening, TwoBlocks) else (1.0,)
    length = np.sqrt(sum(squares) + CONSTANT**2)
    return {
        "head": image.LINEAR, "constant": CONSTANT / length, "n_blocks": len(blocks),
        "block_psi": _starts([len(b.mean) for b in blocks]),
        "block_coordinate": _starts([b.projection.shape[1] for b in blocks]),
        "block_radius": np.array([max(b.radius, 1e-12) for b in blocks]), "block_scale": np.sqrt(squares) / length,
        "n_coordinates": sum(b.projection.shape[1] for b in blocks),
        "n_projection": sum(b.projection.size for b in blocks),
        "centre": _joined([b.mean @ b.projection for b in blocks]),
        "projection": _joined([b.projection.ravel() for b in blocks]), "weights": weights,
    }


def _split_parts(trees: SplitTrees, leaf_probabilities: Float, n_cells: int) -> Parts:
    """Nodes level by level, all trees of a level together, right children behind all left ones; by column for items."""
    n_trees, n_nodes = trees.column.shape
    depth = int(np.log2(n_nodes + 1))
    place = np.empty((n_trees, 2 * n_nodes + 1), dtype=np.intp)  # of a node within its level
    place[:, 0] = np.arange(n_trees)
    for node in range(n_nodes):
        level = int(np.log2(node + 1))
        place[:, 2 * node + 1] = place[:, node]
        place[:, 2 * node + 2] = place[:, node] + n_trees * 2**level
    first = n_trees * (2 ** np.floor(np.log2(np.arange(1, n_nodes + 1))).astype(np.intp) - 1)  # of a node's level
    position = (place[:, :n_nodes] + first).ravel()
    # of a column by threshold, so that an item's comparisons change their answer once
    order = np.lexsort((trees.threshold.ravel(), trees.column.ravel()))
    right = np.empty(len(position))
    right[position] = trees.right.ravel()
    share = np.empty_like(leaf_probabilities)
    share[:, place[:, n_nodes:].ravel()] = leaf_probabilities
    return {
        "head": image.SPLITS, "n_split_trees": n_trees, "split_depth": depth, "n_split_nodes": len(position),
        "n_split_leaves": n_trees * (n_nodes + 1), "split_right": right, "split_share": share,
        "split_start": np.r_[0, np.cumsum(np.bincount(trees.column.ravel(), minlength=n_cells))] * bool(n_cells),
        "n_split_observed": len(order) * bool(n_cells), "split_node": position[order][: len(order) * bool(n_cells)],
        "split_threshold": trees.threshold.ravel()[order][: len(order) * bool(n_cells)],
        "weights": np.zeros(len(leaf_probabilities)),
    }


def _forest_parts(forest: Forest) -> Parts:
    """A leaf becomes a node that leads to itself."""
    nodes = np.zeros(len(forest.column), image.NODE)
    leaf = forest.column == LEAF
    nodes["column"] = np.where(leaf, 0, forest.column)
    nodes["threshold"] = np.where(leaf, np.inf, forest.threshold)
    nodes["next"] = np.where(leaf, np.arange(len(nodes)), forest.next)
    nodes["share"] = np.where(leaf, forest.next, 0)
    return {
        "n_roots": len(forest.roots), "roots": forest.roots, "n_nodes": len(nodes), "nodes": nodes,
        "n_shares": len(forest.shares), "shares": forest.shares,
    }


def _watch(parts: Parts, cells: Cells, model: Latent | None) -> Parts:
    """Which model says how unusual an item is; standardised columns taken as independent where there is none."""
    variance = np.ones(cells.width)
    watched = image.INDEPENDENT
    if isinstance(model, FactorAnalysis):
        variance = model.noise
        watched = image.FACTORS_0 if parts.get("n_factors_0") else image.FACTORS_1
    elif isinstance(model, GaussianMixture):
        variance = model.variance
        watched = image.MIXTURE_0 if parts.get("n_components_0") else image.MIXTURE_1
    return parts | {
        "watched": watched, "cell_precision": 1 / variance, "cell_log_scale": np.log(2 * np.pi * variance)
    }


def _joined(arrays: list[Float]) -> Float:
    return np.concatenate([np.empty(0), *arrays])


def _starts(lengths: list[int]) -> NDArray[np.intp]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)
