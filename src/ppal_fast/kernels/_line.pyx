# cython: language_level=3
"""The decision for one item."""
