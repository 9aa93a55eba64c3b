"""Training batches: what is drawn of which videos, and the gather that makes a batch of it.

The data set is one packed array. What is drawn depends on a key and on lengths and labels, never on
features, so that the same draws serve features on the device and features that are streamed to it.
Everything but `pack` is a pure function of traced arrays and runs inside the jitted step.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtal import mesh as meshes
from jaxtal.data.dataset import Video, multi_hot
from jaxtal.errors import UserError


class Index(NamedTuple):
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
    videos: Index


class Draw(NamedTuple):
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


def index_of(videos: tuple[Video, ...], num_classes: int) -> Index:
    """The index of `videos` (with features), packed in their order; on the default device."""
    lengths = np.array([len(video.features) for video in videos], np.int32)
    present = [(video.features != 0).any(axis=1) for video in videos]
    return Index(
        offsets=jnp.asarray(np.cumsum(lengths) - lengths, jnp.int32),
        lengths=jnp.asarray(lengths),
        labels=jnp.asarray(multi_hot(videos, num_classes)),
        nonzero=jnp.asarray([rows.sum() for rows in present], jnp.int32),
        present=jnp.asarray(np.concatenate(present)),
    )


def pack(videos: tuple[Video, ...], num_classes: int) -> PackedVideos:
    """Put `videos` (with features) onto the default device, in their own float type."""
    features = jax.device_put(pack_on_host(videos, ""))
    return PackedVideos(features, index_of(videos, num_classes))


def pack_on_host(videos, dtype: str, parts: int = 1) -> np.ndarray:
    """All features behind one another, [total snippets, 2D], filled video by video.

    Args:
        videos: with features.
        dtype: the float type to keep them in; "" for their own.
        parts: zeros are added until there are so many equal parts.

    Raises:
        UserError: a feature is too large for the type.
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
            raise UserError(
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


def locate(index: Index, draw: Draw) -> tuple[jax.Array, jax.Array]:
    """Rows of the packed features [B, T] and mask [B, T] of a draw; masked ones are at some row."""
    videos, snippets = draw
    mask = snippets < jnp.where(videos >= 0, index.lengths[videos], 0)[:, None]
    return index.offsets[videos][:, None] + jnp.where(mask, snippets, 0), mask


def gather(
    data: PackedVideos, draw: Draw, streamed: jax.Array | None = None, sharded: bool = False
) -> Batch:
    """The batch of a draw.

    Args:
        data: the packed videos.
        draw: what of them.
        streamed: [B, T, 2D] of any float type, the features of the draw's rows (see `locate`) where
            they are not on the device.
        sharded: see `mesh.take`.
    """
    rows, mask = locate(data.videos, draw)
    if data.features is not None:
        streamed = meshes.take(data.features, rows, sharded)
    features = jnp.where(mask[..., None], jnp.asarray(streamed, jnp.float32), 0)
    return meshes.divided(Batch(features, mask, data.videos.labels[draw.videos]))


def choose(key: jax.Array, allowed: jax.Array, count: int) -> jax.Array:
    """`count` different indices, uniform among those `allowed` [..., V] (bool): [..., count]."""
    priority = jnp.where(allowed, jax.random.uniform(key, allowed.shape), -1)
    return jax.lax.top_k(priority, count)[1]


def uniform(key: jax.Array, pool: jax.Array, count: int) -> jax.Array:
    """`count` indices drawn uniformly with replacement from those in `pool` [V] (bool): [count]."""
    rank = jax.random.randint(key, (count,), 0, pool.sum())
    return jnp.flatnonzero(pool, size=len(pool), fill_value=0)[rank]


def pairs_and_singles(
    key: jax.Array, labels: jax.Array, pool: jax.Array, pairs: int, singles: int
) -> jax.Array:
    """Batch composition of W-TALC and CO2-Net (METHODS 2.a).

    For each pair a class is drawn uniformly, with replacement, from those that two videos carry,
    and two different videos of it; the other rows are drawn uniformly with replacement.

    Args:
        labels: [V, C] multi-hot; a video whose row is 0 is in no pair.
        pool: [V] bool, the videos that the other rows are drawn from; at least one.

    Returns:
        [2 * pairs + singles] video indices; `in_pairs` finds the pairs among the rows.
    """
    class_key, pair_key, single_key = jax.random.split(key, 3)
    single = uniform(single_key, pool, singles)
    if not pairs:
        return single
    eligible = jnp.broadcast_to(labels.sum(0) >= 2, (pairs, labels.shape[1]))
    drawn = choose(class_key, eligible, 1)[:, 0]
    paired = choose(pair_key, labels.T[drawn] > 0, 2)
    parts = parts_with_pairs(pairs, singles)
    return jnp.concatenate([paired.reshape(parts, -1), single.reshape(parts, -1)], 1).reshape(-1)


def parts_with_pairs(pairs: int, singles: int) -> int:
    """Into how many parts a batch can be divided, each with as many pairs and other videos."""
    return math.gcd(pairs, singles) or 1


def in_pairs(rows: jax.Array, pairs: int) -> jax.Array:
    """The pairs of a batch of `pairs_and_singles`: [B, ...] to [pairs, 2, ...].

    Each of the batch's parts begins with its pairs, so that no pair is on two devices that share
    the batch. With 3 pairs and 4 other videos there is one part.
    """
    parts = parts_with_pairs(pairs, len(rows) - 2 * pairs)
    rows = rows.reshape(parts, -1, *rows.shape[1:])[:, : 2 * pairs // parts]
    return rows.reshape(pairs, 2, *rows.shape[2:])


def bin_bounds(lengths: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Closed index range [low, high] that each of `count` snippets is drawn from (METHODS 2.a).

    Bin i of a video of length L begins at floor(i * L / count) and ends with the first index of the
    next bin; a video of exactly `count` snippets is taken as it is.

    Args:
        lengths: [B] int.

    Returns:
        low, high: [B, count] int.
    """
    lengths = lengths[:, None]
    edges = jnp.arange(count + 1)[None] * lengths // count
    low, high = edges[:, :-1], edges[:, 1:].at[:, -1].set(lengths[:, 0] - 1)
    return low, jnp.where(lengths == count, low, high)


def sample_snippets(key: jax.Array, lengths: jax.Array, count: int) -> jax.Array:
    """One random snippet from each bin: [B] lengths to [B, count] non-decreasing indices."""
    low, high = bin_bounds(lengths, count)
    return jax.random.randint(key, low.shape, low, high + 1)


def sample_sorted(key: jax.Array, lengths: jax.Array, count: int) -> jax.Array:
    """`count` snippets in order (two-stream network; METHODS 4.a).

    A longer video gives one snippet from each bin, the last one from whatever follows the one
    before it; a shorter one gives snippets drawn with replacement, sorted.

    Args:
        lengths: [B] int.

    Returns:
        [B, count] int, non-decreasing.
    """
    bins_key, last_key, few_key = jax.random.split(key, 3)
    snippets = sample_snippets(bins_key, lengths, count)
    before = snippets[:, -2:-1] if count > 1 else jnp.zeros_like(snippets)
    lengths = lengths[:, None]
    last = jax.random.randint(last_key, lengths.shape, before, lengths)
    long = jnp.concatenate([snippets[:, :-1], last], axis=1)
    few = jnp.sort(jax.random.randint(few_key, snippets.shape, 0, lengths))
    return jnp.where(lengths > count, long, jnp.where(lengths == count, snippets, few))


def evenly(lengths: jax.Array, counts: jax.Array, size: int) -> jax.Array:
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


def epochs(run_key: jax.Array, step: jax.Array, pool: jax.Array, count: int) -> jax.Array:
    """The videos of a step where every epoch goes through all of them in a new random order.

    Args:
        run_key: the same at every step.
        step: int32 scalar.
        pool: [V] bool, the videos that take part; at least one.
        count: videos a batch.

    Returns:
        [count] indices; -1 fills up the last batch of an epoch.
    """
    total = pool.sum()
    batches = -(-total // count)
    epoch, batch = step // batches, step % batches
    priority = jax.random.uniform(jax.random.fold_in(run_key, epoch), pool.shape)
    order = jnp.argsort(jnp.where(pool, priority, 2))
    rank = batch * count + jnp.arange(count)
    return jnp.where(rank < total, order[jnp.minimum(rank, len(pool) - 1)], -1)


def crop(key: jax.Array, lengths: jax.Array, count: int) -> jax.Array:
    """`count` consecutive snippets at random (D2-Net, METHODS 3.a).

    A longer video is cut at a start uniform on [0, L - count - 1]: the last possible one is never
    drawn, as published. A shorter one begins at 0 and the indices run beyond its end.

    Args:
        lengths: [B] int.

    Returns:
        [B, count] int.
    """
    start = jax.random.randint(key, lengths.shape, 0, jnp.maximum(lengths - count, 1))
    return start[:, None] + jnp.arange(count)[None]
