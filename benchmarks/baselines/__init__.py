"""What jaxtal is measured against: the published algorithms, and PyTorch modules."""
