"""Data sets in the form of TensorFlow Datasets."""
