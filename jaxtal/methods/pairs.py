"""Checks of the pairs of videos that share a class: CO2-Net, the hybrid and W-TALC."""

from ml_collections import ConfigDict

from jaxtal.data.dataset import Dataset, multi_hot
from jaxtal.errors import ConfigError
from jaxtal.input_pipeline import sampling


def num_batch_shards(config: ConfigDict) -> int:
    """Return the number of equal parts of a batch that split no pair."""
    pairs = config.train.pairs
    return sampling.num_shards_with_pairs(pairs, config.train.batch_size - 2 * pairs)


def check_pairs(config: ConfigDict) -> None:
    """Raise ConfigError if a batch is too small for its pairs."""
    batch_size, pairs = config.train.batch_size, config.train.pairs
    if batch_size < 2 * pairs:
        raise ConfigError(
            f"config.train.batch_size is {batch_size}, but config.train.pairs={pairs} pairs need "
            f"at least {2 * pairs} videos; raise batch_size or lower pairs"
        )


def validate_dataset(dataset: Dataset, config: ConfigDict) -> None:
    """Raise ConfigError without a class of two videos with nonzero features, which pairs need."""
    usable = [video for video in dataset.train if video.features.any()]
    carriers = multi_hot(usable, len(dataset.classes)).sum(axis=0)
    if config.train.pairs and carriers.max(initial=0) < 2:
        raise ConfigError(
            f"{dataset.name}: no class is carried by two training videos, which same-class pairs "
            "need; set config.train.pairs=0 or add videos"
        )
