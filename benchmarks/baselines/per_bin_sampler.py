"""A training batch sampled as published: on the host, one random call for every bin of a video.

CO2-Net's sampling (METHODS 2.a), a reference for the speed of `jaxtal.input_pipeline.sampling`,
which draws from the same distribution on the device. The field's programs choose from a Python
range in every bin; calls of `randint` are the leanest way to draw bin by bin, and take a sixth to a
third of the time.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np


def from_range(low: int, high: int, rng: np.random.RandomState) -> int:
    """A whole number of the closed range, as the field's programs draw it."""
    return rng.choice(range(low, high + 1))


def from_randint(low: int, high: int, rng: np.random.RandomState) -> int:
    """The same, leaner."""
    return rng.randint(low, high + 1)


def snippets(
    length: int, count: int, rng: np.random.RandomState, between: Callable = from_range
) -> np.ndarray:
    """One snippet from each bin of a video: [count] non-decreasing indices below `length`.

    There is no random call where a bin has no choice, as published.
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
    """Videos and snippets of a batch.

    Args:
        lengths: [V] snippets of each video.
        labels: [V, C] multi-hot.
        pairs: how many of 2 different videos of a class; rows (0, 1), (2, 3), ...
        batch_size: B; the rows after the pairs are drawn with replacement.
        count: T, snippets of each video.
        rng: NumPy's generator of random calls one by one.
        between: draws from a closed range.

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
    """Features [B, T, 2D] float32 and labels [B, C] of a batch, arguments as of `indices`.

    Args:
        features: [L, 2D] of each of the V videos.
    """
    videos, rows = indices(lengths, labels, pairs, batch_size, count, rng)
    gathered = [features[v][row] for v, row in zip(videos, rows, strict=True)]
    return np.stack(gathered).astype(np.float32), labels[videos]
