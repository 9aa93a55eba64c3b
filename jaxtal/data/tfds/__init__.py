"""Data sets in the format of TensorFlow Datasets."""
