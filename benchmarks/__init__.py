"""Benchmarks: python -m benchmarks.NAME. Each warms up, times, and prints a JSON row per case."""
