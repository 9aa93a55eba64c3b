"""Stress tests: hostile files, faults of training jobs, killed conversions."""
