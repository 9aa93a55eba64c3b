"""Inference with trained models: restoring, prediction, export."""
