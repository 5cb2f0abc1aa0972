"""Privacy-preserving active learning on extremely sparse tables.

The public names load on first use, so that ``import ppal_fast`` costs no more than ``import numpy``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np  # the one dependency that every path needs; loaded here so that its cost shows here

__version__ = "0.1.0"

_HOME = {
    "KernelDensity": "density",
    "DensityRatio": "density",
    "PrivateDensity": "density",
    "QUBOResult": "qubo",
    "QUBOBatchResult": "qubo",
    "solve_qubo": "qubo",
    "solve_qubo_batch": "qubo",
    "solve_ising": "qubo",
    "QUBOFeatureSelector": "features",
    "Ledger": "privacy",
    "PublicMask": "privacy",
    "PPAL": "loop",
    "Session": "session",
    "LineScorer": "line",
    "Schema": "table",
    "Table": "table",
}
_SUBMODULES = (
    "acquisition", "density", "errors", "features", "learners", "line", "loop", "privacy", "query", "qubo",
    "report", "session", "simulate", "table",
)

__all__ = ["__version__", "get_include", *_HOME, *_SUBMODULES]

if TYPE_CHECKING:
    from . import (
        acquisition,
        density,
        errors,
        features,
        learners,
        line,
        loop,
        privacy,
        qubo,
        query,
        report,
        session,
        simulate,
        table,
    )
    from .density import DensityRatio, KernelDensity, PrivateDensity
    from .features import QUBOFeatureSelector
    from .line import LineScorer
    from .loop import PPAL
    from .privacy import Ledger, PublicMask
    from .qubo import QUBOBatchResult, QUBOResult, solve_ising, solve_qubo, solve_qubo_batch
    from .session import Session
    from .table import Schema, Table


def get_include() -> str:
    """Folder of the C++ headers, for programs that call the kernels without Python."""
    from pathlib import Path

    return str(Path(__file__).parent / "include")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module 'ppal_fast' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
