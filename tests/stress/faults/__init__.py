"""Faults of training jobs: kills, signals, damaged checkpoints, full disks.

python -m tests.stress.faults --jobs 20 --events 100
"""
