"""Baselines of the benchmarks: the published algorithms and PyTorch modules."""
