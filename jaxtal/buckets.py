"""Videos of many lengths in batches of few shapes."""

from typing import Any

import numpy as np

SHORTEST = 64  # rows in the smallest bucket, which divides all others
_PER_BATCH = 8192  # rows in a batch, unless a single video is longer


def length_buckets(
    lengths: np.ndarray, included: Any = True, parts: int = 1
) -> list[tuple[int, np.ndarray]]:
    """Group videos into batches of one padded length each.

    Args:
        lengths: (V,) rows of every video.
        included: (V,) bool or one for all; others are in no batch.
        parts: B is a multiple of it.

    Returns:
        [(T, (B,) video indices)]: T is a power of two, B the same for every batch of a T; an index
        of -1 fills up a batch. As many programs are compiled as there are different T.
    """
    padded = np.maximum(SHORTEST, 2 ** np.ceil(np.log2(lengths)).astype(int))
    batches = []
    padded = np.where(included, padded, 0)
    for time in np.unique(padded[padded > 0]):
        members = np.flatnonzero(padded == time)
        size = -(-min(len(members), max(1, _PER_BATCH // time)) // parts) * parts
        members = np.pad(members, (0, -len(members) % size), constant_values=-1)
        batches += [(int(time), row) for row in members.reshape(-1, size)]
    return batches
