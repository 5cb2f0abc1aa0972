"""A line scorer on the wire: items in, decisions out, and what the expert should see kept on disk.

``Belt`` knows messages and nothing of how they travel; ``mqtt`` and ``opcua`` carry them and know nothing of models.
"""

from __future__ import annotations

from .belt import Belt, Reply
from .model_file import ModelFile

__all__ = ["Belt", "ModelFile", "Reply"]
