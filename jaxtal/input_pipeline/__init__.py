"""Input pipeline from a data set to batches on the devices: packing, sampling, placement."""
