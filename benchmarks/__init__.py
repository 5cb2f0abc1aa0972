"""asv benchmarks of ppal_fast: bench_<topic>.py per kernel, compare/ beside the peers, regress.py against the last tag."""
