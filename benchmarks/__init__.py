"""Benchmarks: asv's in bench_<topic>.py, compare/ beside the peers, regress.py against the last tag."""
