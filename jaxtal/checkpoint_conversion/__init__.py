"""Checkpoints of the published PyTorch programs, in both directions."""
