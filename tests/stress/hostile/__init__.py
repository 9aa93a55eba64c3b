"""Hostile files, each made from its number, and a worker that reads them under guard.

python -m tests.stress.hostile --only 1234  # one of them again, with what went wrong
"""
