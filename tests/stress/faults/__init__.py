"""Faults of training jobs: kills, signals, truncated checkpoints, full disks.

python -m tests.stress.faults --jobs 20 --events 100
"""
