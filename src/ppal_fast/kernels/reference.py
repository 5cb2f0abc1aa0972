"""The slow, obvious twin of every kernel: the oracle of the tests. Written to be right, not fast."""

from __future__ import annotations
