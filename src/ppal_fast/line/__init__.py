"""A learned model embedded in a sorting line: one call decides one item, in compiled code, from one file.

Everything here is post-processing of a learned model: a model that was released privately costs nothing more.
"""

from __future__ import annotations

from .scorer import VERDICT, Decision, Drift, LineScorer

__all__ = ["VERDICT", "Decision", "Drift", "LineScorer"]
