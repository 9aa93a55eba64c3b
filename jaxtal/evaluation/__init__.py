"""Evaluation protocols, mean average precision and error analysis, in NumPy ([docs][evaluation])."""
