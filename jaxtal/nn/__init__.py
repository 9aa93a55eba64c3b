"""Layers and losses: pure functions of arrays."""
