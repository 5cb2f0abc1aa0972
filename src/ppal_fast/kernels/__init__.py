"""Compiled hot paths: arrays in, arrays out. No policy, no files, no scikit-learn.

Callers hand over contiguous arrays of the documented dtype, already validated; nothing here checks again.
"""
