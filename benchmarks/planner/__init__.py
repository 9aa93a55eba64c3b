"""What training on a TPU slice takes, without a TPU."""
