"""Videos of many lengths in batches of few shapes."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxtal.data.dataset import Video, multi_hot
from jaxtal.errors import ConfigError
from jaxtal.parallel import sharding


class VideoIndex(NamedTuple):
    """What is known of V packed videos besides their features; small, and always on the device.

    Attributes:
        offsets: [V] int32, row of each video's first snippet in the packed features.
        lengths: [V] int32, its number of snippets.
        labels: [V, C] float32, multi-hot video-level labels.
        nonzero: [V] int32, its number of snippets with a feature other than 0.
        present: [total snippets] bool, which snippets these are.
    """

    offsets: jax.Array
    lengths: jax.Array
    labels: jax.Array
    nonzero: jax.Array
    present: jax.Array


class PackedVideos(NamedTuple):
    """All snippets of V videos behind one another.

    Attributes:
        features: [total snippets, 2D] of any float type; None where they are streamed.
        videos: where whose snippets are, and their labels.
    """

    features: jax.Array | None
    videos: VideoIndex


class BatchIndices(NamedTuple):
    """Which snippets of which videos a batch is made of.

    Attributes:
        videos: [B] int; negative for a row without a video.
        snippets: [B, T] or [1, T] int; from a video's length on they are masked.
    """

    videos: jax.Array
    snippets: jax.Array


class Batch(NamedTuple):
    """What a model is trained on: features [B, T, 2D] float32, mask [B, T] bool, labels [B, C]."""

    features: jax.Array
    mask: jax.Array
    labels: jax.Array


def build_index(videos: tuple[Video, ...], num_classes: int) -> VideoIndex:
    """The index of `videos` (with features), packed in their order; on the default device."""
    lengths = np.array([len(video.features) for video in videos], np.int32)
    present = [(video.features != 0).any(axis=1) for video in videos]
    return VideoIndex(
        offsets=jnp.asarray(np.cumsum(lengths) - lengths, jnp.int32),
        lengths=jnp.asarray(lengths),
        labels=jnp.asarray(multi_hot(videos, num_classes)),
        nonzero=jnp.asarray([rows.sum() for rows in present], jnp.int32),
        present=jnp.asarray(np.concatenate(present)),
    )


def pack(videos: tuple[Video, ...], num_classes: int) -> PackedVideos:
    """Put `videos` (with features) onto the default device, in their own float type."""
    features = jax.device_put(pack_features(videos, ""))
    return PackedVideos(features, build_index(videos, num_classes))


def pack_features(videos, dtype: str, parts: int = 1) -> np.ndarray:
    """All features behind one another, [total snippets, 2D], filled video by video.

    Args:
        videos: with features.
        dtype: the float type to keep them in; "" for their own.
        parts: zeros are added until there are so many equal parts.

    Raises:
        ConfigError: a feature is too large for the type.
    """
    first = videos[0].features
    own = np.result_type(*{video.features.dtype for video in videos})
    lengths = [len(video.features) for video in videos]
    total = -(-sum(lengths) // parts) * parts
    packed = _aligned((total, first.shape[1]), jnp.dtype(dtype or own))
    packed[sum(lengths) :] = 0
    for video, end in zip(videos, np.cumsum(lengths), strict=True):
        with np.errstate(over="ignore"):
            rows = packed[end - len(video.features) : end]
            rows[:] = video.features
        if packed.dtype != own and not _still_finite(rows, video.features):
            raise ConfigError(
                f"a feature of {video.name} is {np.abs(video.features).max():g}, too large for "
                f"config.data.device_dtype={dtype}; use bfloat16 or float32"
            )
    return packed


def _aligned(shape: tuple[int, int], dtype) -> np.ndarray:
    """An empty array that begins where JAX can take it over as it is, if it computes on the CPU."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _still_finite(after: np.ndarray, before: np.ndarray) -> bool:
    return bool((np.isfinite(after.astype(np.float32)) | ~np.isfinite(before)).all())


def row_indices(index: VideoIndex, draw: BatchIndices) -> tuple[jax.Array, jax.Array]:
    """Rows of the packed features [B, T] and mask [B, T] of a draw; masked ones are at some row."""
    videos, snippets = draw
    mask = snippets < jnp.where(videos >= 0, index.lengths[videos], 0)[:, None]
    return index.offsets[videos][:, None] + jnp.where(mask, snippets, 0), mask


def gather(
    data: PackedVideos, draw: BatchIndices, streamed: jax.Array | None = None, sharded: bool = False
) -> Batch:
    """The batch of a draw.

    Args:
        data: the packed videos.
        draw: what of them.
        streamed: [B, T, 2D] of any float type, the features of the draw's rows (see `row_indices`)
            where they are not on the device.
        sharded: see `sharding.gather_rows`.
    """
    rows, mask = row_indices(data.videos, draw)
    if data.features is not None:
        streamed = sharding.gather_rows(data.features, rows, sharded)
    features = jnp.where(mask[..., None], jnp.asarray(streamed, jnp.float32), 0)
    return sharding.shard_batch(Batch(features, mask, data.videos.labels[draw.videos]))


def all_snippets(config: ConfigDict) -> tuple[int, None]:
    """Return the limits (1, None) of the number of rows of a test video: all its snippets."""
    return 1, None


def subsample_uniformly(lengths: jax.Array, counts: jax.Array, size: int) -> jax.Array:
    """Snippet floor(i * L / n), i < n, of videos of L snippets (METHODS 4.a, test).

    Args:
        lengths: [B] int, L, of JAX or NumPy.
        counts: [B] int, n, at least 1; as many as L are all of them, 2 of 1 the same one twice.
        size: at least the largest of `counts`.

    Returns:
        [B, size] int, L from the n-th on.
    """
    xp = lengths.__array_namespace__()
    lengths, counts, index = lengths[:, None], counts[:, None], xp.arange(size)[None]
    # i * L would overflow in long videos; with L = w * n + r, i * L / n is i * w + i * r / n.
    whole, rest = lengths // counts, lengths % counts
    snippets = index * whole + index * rest // counts
    return xp.where(index < counts, snippets, lengths)


MIN_BUCKET_ROWS = 64  # rows in the smallest bucket, which divides all others
_ROWS_PER_BATCH = 8192  # rows in a batch, unless a single video is longer


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
    padded = np.maximum(MIN_BUCKET_ROWS, 2 ** np.ceil(np.log2(lengths)).astype(int))
    batches = []
    padded = np.where(included, padded, 0)
    for time in np.unique(padded[padded > 0]):
        members = np.flatnonzero(padded == time)
        size = -(-min(len(members), max(1, _ROWS_PER_BATCH // time)) // parts) * parts
        members = np.pad(members, (0, -len(members) % size), constant_values=-1)
        batches += [(int(time), row) for row in members.reshape(-1, size)]
    return batches


def subsampled_batch_indices(
    index: VideoIndex, videos: jax.Array, rows: jax.Array, *, time: int
) -> tuple[BatchIndices, jax.Array]:
    """Return the batch of test videos whose rows are spread uniformly over each video.

    Args:
        index: of all test videos.
        videos: [B], negative where there is none.
        rows: [B], the number of rows of each video.
        time: padded length T.

    Returns:
        The batch indices, and the rows [B, T] of the packed features.
    """
    indices = BatchIndices(videos, subsample_uniformly(index.lengths[videos], rows, time))
    return indices, row_indices(index, indices)[0]
