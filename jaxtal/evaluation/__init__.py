"""Evaluation: protocols, mean average precision, error analysis; NumPy ([docs][evaluation])."""
