"""Measurements of speed, the papers' tables, and plans for TPU slices."""
