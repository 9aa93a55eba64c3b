"""Plans of training on TPU slices, made without a TPU."""
