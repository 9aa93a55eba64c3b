"""Signals at random moments of all commands that write files.

python -m tests.stress.signals --signals 200
"""
