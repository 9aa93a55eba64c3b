"""Plans of training on TPU slices, computed without a TPU."""
