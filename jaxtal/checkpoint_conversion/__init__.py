"""Conversion of checkpoints from and to the published PyTorch programs."""
