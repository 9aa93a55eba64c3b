"""Trained models on new videos: restore, predict, export."""
