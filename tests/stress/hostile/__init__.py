"""Hostile files, each made from its number, and a worker that reads them under watch.

python -m tests.stress.hostile --only 1234  # one file again, with its faults
"""
