"""Sampling of training batches as published: on the host, one random call per bin of a video.

This is the sampling of CO2-Net's published code (docs/methods/co2net.md, "Sampling"), the baseline
for the speed of `jaxtal.input_pipeline.sampling`, which draws from the same distribution on the
device. The published programs choose from a Python range in each bin; `randint` is the fastest way
to draw bin by bin and takes a sixth to a third of the time.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np


def from_range(low: int, high: int, rng: np.random.RandomState) -> int:
    """Draw an integer from the closed range [low, high] with `choice`, as published."""
    return rng.choice(range(low, high + 1))


def from_randint(low: int, high: int, rng: np.random.RandomState) -> int:
    """Draw an integer from the closed range [low, high] with `randint`."""
    return rng.randint(low, high + 1)


def snippets(
    length: int, count: int, rng: np.random.RandomState, between: Callable = from_range
) -> np.ndarray:
    """Sample one snippet from each bin of a video.

    No random number is drawn for a bin of one snippet, as in the published code.

    Args:
        length: number of snippets of the video.
        count: number of bins.
        rng: random generator.
        between: draws an integer from a closed range.

    Returns:
        [count] non-decreasing indices below `length`.
    """
    if length == count:
        return np.arange(length)
    edges = [i * length // count for i in range(count)] + [length - 1]
    bins = itertools.pairwise(edges)
    return np.array([between(low, high, rng) if high > low else low for low, high in bins])


def indices(
    lengths: np.ndarray,
    labels: np.ndarray,
    pairs: int,
    batch_size: int,
    count: int,
    rng: np.random.RandomState,
    between: Callable = from_range,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample the videos and snippets of a batch.

    Args:
        lengths: [V] number of snippets of each video.
        labels: [V, C] multi-hot.
        pairs: number of pairs of different videos of a class, in rows (0, 1), (2, 3), ...
        batch_size: B; the videos after the pairs are drawn with replacement.
        count: T, number of snippets drawn from each video.
        rng: random generator.
        between: draws an integer from a closed range.

    Returns:
        videos [B], snippets [B, T].
    """
    eligible = np.flatnonzero(labels.sum(axis=0) >= 2)
    videos: list[int] = []
    for label in rng.choice(eligible, pairs) if pairs else ():
        videos.extend(rng.choice(np.flatnonzero(labels[:, label]), 2, replace=False))
    videos.extend(rng.randint(len(lengths), size=batch_size - 2 * pairs))
    rows = [snippets(int(lengths[v]), count, rng, between) for v in videos]
    return np.array(videos), np.stack(rows)


def batch(
    features: Sequence[np.ndarray],
    lengths: np.ndarray,
    labels: np.ndarray,
    pairs: int,
    batch_size: int,
    count: int,
    rng: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample and gather a batch.

    Args:
        features: [L, 2D] features of each of the V videos.
        lengths: [V] number of snippets of each video.
        labels: [V, C] multi-hot.
        pairs: number of pairs, see `indices`.
        batch_size: B.
        count: T, number of snippets drawn from each video.
        rng: random generator.

    Returns:
        Features [B, T, 2D] float32 and labels [B, C].
    """
    videos, rows = indices(lengths, labels, pairs, batch_size, count, rng)
    gathered = [features[v][row] for v, row in zip(videos, rows, strict=True)]
    return np.stack(gathered).astype(np.float32), labels[videos]
