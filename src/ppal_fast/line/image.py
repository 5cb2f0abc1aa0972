"""The bytes of a model file: their order, which is that of ppal_fast/line_file.h, and how they reach the disk.

    64 bytes    "PPALLINE", version, byte order, size, SHA-256 of all other bytes
    integers    int64, in the order of INTEGERS; then the numbers, float64, in the order of REALS
    arrays      in the order of ARRAYS, each padded with zeros to a multiple of 8 bytes; the last is a text in JSON
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..kernels._line import check

VERSION = 1
MAGIC = b"PPALLINE"
BYTE_ORDER = 0x01020304

CONSTANT, COLUMNS, FACTORS, MIXTURES, PRODUCTS, BOTH, LEAVES = range(7)  # encoder
LINEAR, POSTERIOR, SPLITS = range(3)  # head
NO_MODEL, INDEPENDENT, FACTORS_0, FACTORS_1, MIXTURE_0, MIXTURE_1 = range(6)  # fill, watched

INTEGERS = (
    "n_columns", "n_classes", "n_numeric", "n_categories", "n_levels", "n_knots",
    "encoder", "head", "fill", "watched", "n_psi",
    "n_factors_0", "n_packed_0", "n_factors_1", "n_packed_1",
    "n_components_0", "n_mixtures_0", "n_components_1",
    "n_numbers", "n_product_categories",
    "n_blocks", "n_coordinates", "n_projection",
    "n_leaf_trees", "leaf_depth", "n_leaf_nodes", "n_leaf_rows",
    "n_split_trees", "split_depth", "n_split_nodes", "n_split_observed", "n_split_leaves",
    "n_roots", "n_nodes", "n_shares",
    "n_labelled", "n_labelled_cells",
    "n_bins", "n_steps", "feedback", "n_text",
)
REALS = (
    "clip", "number_clip", "constant", "forest_share", "forest_power", "uniform_share", "threshold", "queries_per_hour",
    "log_classes", "log_labelled",
)
AT_TEXT_LENGTH = 64 + 8 * INTEGERS.index("n_text")
NODE = np.dtype([("column", "i4"), ("threshold", "f4"), ("next", "i4"), ("share", "i4")])
ARRAYS: dict[str, Any] = {
    "cell_of": "i4", "mean": "f8", "scale": "f8", "knot_start": "i4", "knots": "f8", "knot_scores": "f8",
    "level_start": "i4", "levels": "f8", "frequency": "f8", "category_scale": "f8",
    "by_value_0": "f8", "by_presence_0": "f8", "loadings_0": "f8",
    "by_value_1": "f8", "by_presence_1": "f8", "loadings_1": "f8",
    "mixture_by_value_0": "f8", "mixture_by_presence_0": "f8", "mixture_base_0": "f8", "mixture_start_0": "i4",
    "mixture_by_value_1": "f8", "mixture_by_presence_1": "f8", "mixture_base_1": "f8", "mixture_mean_1": "f8",
    "numbers": "i4", "product_category": "i4",
    "block_psi": "i4", "block_coordinate": "i4", "block_radius": "f8", "block_scale": "f8",
    "centre": "f8", "projection": "f8", "weights": "f8",
    "leaf_column": "i4", "leaf_threshold": "f8", "leaf_component": "f8",
    "split_right": "f8", "split_start": "i4", "split_node": "i4", "split_threshold": "f8", "split_share": "f8",
    "roots": "i4", "nodes": NODE, "shares": "f4",
    "cell_precision": "f8", "cell_log_scale": "f8",
    "inverse_bandwidth": "f8", "bandwidth_log": "f8", "labelled_log": "f8",
    "labelled_start": "i4", "labelled_row": "i4", "labelled_value": "f8",
    "bin_edge": "f8", "bin_count": "i8", "step_threshold": "f8", "step_share": "f8",
}
EMPTY: dict[str, Any] = dict.fromkeys((*INTEGERS, *REALS), 0) | {
    name: np.zeros(int(name in ("knot_start", "level_start", "mixture_start_0", "block_psi", "block_coordinate")))
    for name in ARRAYS
}


def packed(parts: dict[str, Any], text: dict[str, Any]) -> bytes:
    """The file's bytes. ``parts`` has what differs from EMPTY; ``text`` is for people and for Python."""
    whole = EMPTY | parts
    words = json.dumps(text, sort_keys=True, allow_nan=False).encode()
    whole["n_text"] = len(words)
    body = struct.pack(f"={len(INTEGERS)}q", *(int(whole[name]) for name in INTEGERS))
    body += struct.pack(f"={len(REALS)}d", *(float(whole[name]) for name in REALS))
    arrays = [np.ascontiguousarray(whole[name], dtype=dtype).tobytes() for name, dtype in ARRAYS.items()]
    return _sealed(body + b"".join(map(_padded, [*arrays, words])))


def paced(image: bytes, queries_per_hour: float) -> bytes:
    """The same model with another target of the query rule, which makes it another file: its digest differs."""
    text = text_of(image) | {"queries_per_hour": float(queries_per_hour)}
    words = json.dumps(text, sort_keys=True, allow_nan=False).encode()
    (length,) = struct.unpack_from("=q", image, AT_TEXT_LENGTH)
    body = bytearray(image[64 : len(image) - length - -length % 8] + _padded(words))
    struct.pack_into("=q", body, AT_TEXT_LENGTH - 64, len(words))
    struct.pack_into("=d", body, 8 * (len(INTEGERS) + REALS.index("queries_per_hour")), queries_per_hour)
    return _sealed(bytes(body))


def _sealed(body: bytes) -> bytes:
    head = MAGIC + struct.pack("=IIqq", VERSION, BYTE_ORDER, 64 + len(body), 0)
    return head + hashlib.sha256(head + body).digest() + body


def _padded(array: bytes) -> bytes:
    return array + bytes(-len(array) % 8)


def text_of(image: bytes) -> dict[str, Any]:
    """The text of a checked image."""
    (length,) = struct.unpack_from("=q", image, AT_TEXT_LENGTH)
    padded = length + -length % 8
    return json.loads(image[len(image) - padded:len(image) - padded + length])


def write(image: bytes, path: str | os.PathLike[str]) -> None:
    """All of it or nothing: a reader finds the old file or the new one, after a power cut too."""
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(image)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
        if sys.platform != "win32":
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise InputError(f"the model could not be written to {str(path)!r}: {error.strerror or error}") from None


def read(path: str | os.PathLike[str]) -> bytes:
    """The checked bytes of a model file."""
    try:
        image = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"the model {str(path)!r} could not be read: {error.strerror or error}") from None
    reason = check(image)
    if reason is not None:
        raise InputError(f"the model {str(path)!r} cannot be used: {reason}; save it again from the loop")
    return image
