"""Packed videos, and batches of few shapes from videos of many lengths."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxtal.data.dataset import Video, multi_hot
from jaxtal.errors import ConfigError
from jaxtal.parallel import sharding


class VideoIndex(NamedTuple):
    """Index of V packed videos: all data but the features; small, and always on the device.

    Attributes:
        offsets: [V] int32, row of each video's first snippet in the packed features.
        lengths: [V] int32, number of snippets of each video.
        labels: [V, C] float32, multi-hot video-level labels.
        nonzero: [V] int32, number of snippets of each video that have a nonzero feature.
        present: [total snippets] bool, true for snippets that have a nonzero feature.
    """

    offsets: jax.Array
    lengths: jax.Array
    labels: jax.Array
    nonzero: jax.Array
    present: jax.Array


class PackedVideos(NamedTuple):
    """Snippets of V videos, concatenated.

    Attributes:
        features: [total snippets, 2D] of any float type; None where they are streamed.
        videos: index of the videos.
    """

    features: jax.Array | None
    videos: VideoIndex


class BatchIndices(NamedTuple):
    """Indices of the videos and snippets of a batch.

    Attributes:
        videos: [B] int; negative for a row without a video.
        snippets: [B, T] or [1, T] int; indices not less than the video's length are masked.
    """

    videos: jax.Array
    snippets: jax.Array


class Batch(NamedTuple):
    """Training batch.

    Attributes:
        features: [B, T, 2D] float32, 0 where the mask is false.
        mask: [B, T] bool, true where a snippet exists.
        labels: [B, C] multi-hot video-level labels.
    """

    features: jax.Array
    mask: jax.Array
    labels: jax.Array


def build_index(videos: tuple[Video, ...], num_classes: int) -> VideoIndex:
    """Build the index of videos that are packed in the given order, on the default device.

    Args:
        videos: V videos with features (T, 2D).
        num_classes: C.
    """
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
    """Pack videos on the default device, in the float type of their features.

    Args:
        videos: V videos with features (T, 2D).
        num_classes: C.
    """
    features = jax.device_put(pack_features(videos, ""))
    return PackedVideos(features, build_index(videos, num_classes))


def pack_features(videos: Sequence[Video], dtype: str, parts: int = 1) -> np.ndarray:
    """Concatenate the features of videos on the host.

    Args:
        videos: videos with features (T, 2D).
        dtype: name of the float type of the result; "" for the type of the features.
        parts: zero rows are appended until the number of rows is a multiple of `parts`.

    Returns:
        [total snippets, 2D], 64-byte aligned.

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
    """Uninitialized array, 64-byte aligned so that the CPU backend can use it without a copy."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _still_finite(after: np.ndarray, before: np.ndarray) -> bool:
    """Return whether every finite entry of `before` is finite in `after`."""
    return bool((np.isfinite(after.astype(np.float32)) | ~np.isfinite(before)).all())


def row_indices(index: VideoIndex, draw: BatchIndices) -> tuple[jax.Array, jax.Array]:
    """Compute the rows in the packed features of a batch.

    Args:
        index: index of the packed videos.
        draw: indices of the batch.

    Returns:
        Rows [B, T] int and mask [B, T] bool; masked rows are arbitrary but valid.
    """
    videos, snippets = draw
    mask = snippets < jnp.where(videos >= 0, index.lengths[videos], 0)[:, None]
    return index.offsets[videos][:, None] + jnp.where(mask, snippets, 0), mask


def gather(
    data: PackedVideos, draw: BatchIndices, streamed: jax.Array | None = None, sharded: bool = False
) -> Batch:
    """Gather a batch from the packed videos.

    Args:
        data: packed videos.
        draw: indices of the batch.
        streamed: [B, T, 2D] of any float type, the features at the rows of `row_indices`; needed
            where the features are not on the device.
        sharded: the features are divided over devices, see `sharding.gather_rows`.

    Returns:
        The batch; its videos are divided over the axis `data` of the mesh.
    """
    rows, mask = row_indices(data.videos, draw)
    if data.features is not None:
        streamed = sharding.gather_rows(data.features, rows, sharded)
    features = jnp.where(mask[..., None], jnp.asarray(streamed, jnp.float32), 0)
    return sharding.shard_batch(Batch(features, mask, data.videos.labels[draw.videos]))


def all_snippets(config: ConfigDict) -> tuple[int, None]:
    """Return the limits (1, None) of the number of rows of a test video: all its snippets.

    Args:
        config: not used.
    """
    return 1, None


def subsample_uniformly(lengths: jax.Array, counts: jax.Array, size: int) -> jax.Array:
    """Subsample videos uniformly: snippets floor(i * L / n), i < n, of a video of L snippets.

    Source: two-stream network, test videos ([docs][twostream-sampling]).

    Args:
        lengths: [B] int, L of each video; a JAX or NumPy array.
        counts: [B] int, n of each video, at least 1. With n = L all snippets are selected, with
            n > L some of them repeatedly.
        size: number of columns of the result, at least the largest of `counts`.

    Returns:
        [B, size] int snippets; columns n and above are L.
    """
    xp = lengths.__array_namespace__()
    lengths, counts, index = lengths[:, None], counts[:, None], xp.arange(size)[None]
    # i * L overflows in long videos; with L = w * n + r, i * L / n is i * w + i * r / n.
    whole, rest = lengths // counts, lengths % counts
    snippets = index * whole + index * rest // counts
    return xp.where(index < counts, snippets, lengths)


MIN_BUCKET_ROWS = 64  # rows in the smallest bucket; all other buckets are multiples
_ROWS_PER_BATCH = 8192  # rows in a batch, unless a single video is longer


def length_buckets(
    lengths: np.ndarray, included: Any = True, parts: int = 1
) -> list[tuple[int, np.ndarray]]:
    """Group videos into batches of one padded length each.

    Args:
        lengths: (V,) number of rows of each video.
        included: (V,) bool, or one value for all; other videos are in no batch.
        parts: the number of videos of each batch is a multiple of `parts`.

    Returns:
        [(T, (B,) video indices)], where T is a power of two and at least `MIN_BUCKET_ROWS`, B is
        equal for all batches of a T, and an index of -1 pads a batch. One program is compiled for
        each T.
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
    """Compute a batch of test videos whose rows are spread uniformly over each video.

    Args:
        index: index of all test videos.
        videos: [B] int, negative for a row without a video.
        rows: [B] int, number of rows of each video.
        time: padded length T.

    Returns:
        The indices of the batch, and the rows [B, T] in the packed features.
    """
    indices = BatchIndices(videos, subsample_uniformly(index.lengths[videos], rows, time))
    return indices, row_indices(index, indices)[0]
