"""Data sets in TensorFlow Datasets' form: records, reader, builders."""
