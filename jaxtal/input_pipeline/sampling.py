"""Sampling of training batches: indices of videos and of their snippets.

The indices depend on a random key and on lengths and labels, never on features. Hence they are the
same for features on the device and for features that are streamed to it. All functions are pure
functions of traced arrays and run inside the compiled step.
"""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxtal.input_pipeline.packing import BatchIndices, VideoIndex


def sample_without_replacement(key: jax.Array, allowed: jax.Array, count: int) -> jax.Array:
    """Sample different indices, uniformly among the allowed ones.

    Args:
        key: random key.
        allowed: [..., V] bool.
        count: number of indices; `allowed` must have at least as many true entries.

    Returns:
        [..., count] int.
    """
    priority = jnp.where(allowed, jax.random.uniform(key, allowed.shape), -1)
    return jax.lax.top_k(priority, count)[1]


def sample_uniform(key: jax.Array, pool: jax.Array, count: int) -> jax.Array:
    """Sample indices uniformly with replacement.

    D2-Net samples its videos with it ([docs][d2net-sampling]).

    Args:
        key: random key.
        pool: [V] bool, the allowed indices; at least one must be true.
        count: number of indices.

    Returns:
        [count] int.
    """
    rank = jax.random.randint(key, (count,), 0, pool.sum())
    return jnp.flatnonzero(pool, size=len(pool), fill_value=0)[rank]


def pairs_and_singles(
    key: jax.Array, labels: jax.Array, pool: jax.Array, pairs: int, singles: int
) -> jax.Array:
    """Sample the videos of a batch: same-class pairs and single videos.

    The classes of the pairs are drawn uniformly, with replacement, from the classes that have at
    least two videos. The two videos of a pair are different videos of the class, drawn uniformly.
    Single videos are drawn uniformly with replacement. Source: W-TALC (Paul et al. 2018) and
    CO2-Net's published code ([docs][co2net-sampling]).

    Args:
        key: random key.
        labels: [V, C] multi-hot; a video whose row is 0 is in no pair.
        pool: [V] bool, the videos that single videos are drawn from; at least one must be true.
        pairs: number of pairs.
        singles: number of single videos.

    Returns:
        [2 * pairs + singles] video indices; `in_pairs` selects the pairs.
    """
    class_key, pair_key, single_key = jax.random.split(key, 3)
    single = sample_uniform(single_key, pool, singles)
    if not pairs:
        return single
    eligible = jnp.broadcast_to(labels.sum(0) >= 2, (pairs, labels.shape[1]))
    drawn = sample_without_replacement(class_key, eligible, 1)[:, 0]
    paired = sample_without_replacement(pair_key, labels.T[drawn] > 0, 2)
    parts = num_shards_with_pairs(pairs, singles)
    return jnp.concatenate([paired.reshape(parts, -1), single.reshape(parts, -1)], 1).reshape(-1)


def paired_videos(key: jax.Array, index: VideoIndex, config: ConfigDict) -> jax.Array:
    """Sample the videos [B] of a batch with `pairs_and_singles`.

    Videos whose features are all zero are in no pair. Videos with fewer than
    `config.data.min_snippets` snippets are in pairs only. Source: [docs][co2net-sampling].

    Args:
        key: random key.
        index: lengths, labels and numbers of nonzero snippets of the training videos.
        config: the whole config (`train.batch_size`, `train.pairs`, `data.min_snippets`).
    """
    pairs = config.train.pairs
    singles = config.train.batch_size - 2 * pairs
    labels = jnp.where(index.nonzero[:, None] > 0, index.labels, 0)
    pool = index.lengths >= config.data.min_snippets
    return pairs_and_singles(key, labels, pool, pairs, singles)


def num_shards_with_pairs(pairs: int, singles: int) -> int:
    """Return the number of equal parts of a batch, each with as many pairs and single videos.

    Args:
        pairs: number of pairs.
        singles: number of single videos.
    """
    return math.gcd(pairs, singles) or 1


def in_pairs(rows: jax.Array, pairs: int) -> jax.Array:
    """Select the pairs of a batch that `pairs_and_singles` has sampled.

    Each part of the batch begins with its pairs, so that no pair is split between devices that
    share the batch. With 3 pairs and 4 single videos there is one part.

    Args:
        rows: [B, ...] values of each video.
        pairs: number of pairs.

    Returns:
        [pairs, 2, ...].
    """
    parts = num_shards_with_pairs(pairs, len(rows) - 2 * pairs)
    rows = rows.reshape(parts, -1, *rows.shape[1:])[:, : 2 * pairs // parts]
    return rows.reshape(pairs, 2, *rows.shape[2:])


def bin_bounds(lengths: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Compute the closed index range [low, high] of each bin that a snippet is drawn from.

    Bin i of a video of L snippets begins at floor(i * L / count) and ends with the first index of
    the next bin; the last bin ends with L - 1. With L = count each bin is one snippet. Source:
    CO2-Net's published code ([docs][co2net-sampling]).

    Args:
        lengths: [B] int, L of each video.
        count: number of bins.

    Returns:
        low, high: [B, count] int.
    """
    lengths = lengths[:, None]
    edges = jnp.arange(count + 1)[None] * lengths // count
    low, high = edges[:, :-1], edges[:, 1:].at[:, -1].set(lengths[:, 0] - 1)
    return low, jnp.where(lengths == count, low, high)


def sample_snippets(key: jax.Array, lengths: jax.Array, count: int) -> jax.Array:
    """Sample one snippet uniformly from each bin of `bin_bounds` ([docs][co2net-sampling]).

    Args:
        key: random key.
        lengths: [B] int, snippets of each video.
        count: number of bins.

    Returns:
        [B, count] int, non-decreasing.
    """
    low, high = bin_bounds(lengths, count)
    return jax.random.randint(key, low.shape, low, high + 1)


def sample_sorted(key: jax.Array, lengths: jax.Array, count: int) -> jax.Array:
    """Sample snippets in order, as the two-stream network does.

    From a video of more than `count` snippets, one snippet is drawn from each bin of `bin_bounds`;
    the last one is drawn uniformly from all snippets that are not before its predecessor. From a
    shorter video, snippets are drawn uniformly with replacement and sorted. Source: ACM-Net's
    sampling ([docs][twostream-sampling]).

    Args:
        key: random key.
        lengths: [B] int, snippets of each video.
        count: number of snippets of the result.

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


def epoch_batch(run_key: jax.Array, step: jax.Array, pool: jax.Array, count: int) -> jax.Array:
    """Select the videos of a step; each epoch visits all videos once, in a new random order.

    Source: two-stream network ([docs][twostream-sampling]).

    Args:
        run_key: random key that is the same at every step.
        step: int32 scalar, number of updates done before this one.
        pool: [V] bool, the videos of an epoch; at least one must be true.
        count: number of videos of a batch.

    Returns:
        [count] video indices; -1 pads the last batch of an epoch.
    """
    total = pool.sum()
    batches = -(-total // count)
    epoch, batch = step // batches, step % batches
    priority = jax.random.uniform(jax.random.fold_in(run_key, epoch), pool.shape)
    order = jnp.argsort(jnp.where(pool, priority, 2))
    rank = batch * count + jnp.arange(count)
    return jnp.where(rank < total, order[jnp.minimum(rank, len(pool) - 1)], -1)


def random_crop(key: jax.Array, lengths: jax.Array, count: int) -> jax.Array:
    """Sample consecutive snippets, as D2-Net does.

    The start in a video of L > count snippets is uniform on [0, L - count - 1]; the last possible
    start is never drawn, as in the published code. A shorter video starts at 0, and the indices
    continue beyond its end. Source: D2-Net's published code ([docs][d2net-sampling]).

    Args:
        key: random key.
        lengths: [B] int, snippets of each video.
        count: number of consecutive snippets.

    Returns:
        [B, count] int.
    """
    start = jax.random.randint(key, lengths.shape, 0, jnp.maximum(lengths - count, 1))
    return start[:, None] + jnp.arange(count)[None]


class Context(NamedTuple):
    """Context of a training step for sampling and losses.

    Attributes:
        step: int32 scalar, the number of updates done before this one.
        key: random key of this step.
        run_key: random key of the run, the same at every step, for example for the order of the
            videos in an epoch.
        state: the model's variables without gradient (a dict); losses return them updated.
    """

    step: jax.Array
    key: jax.Array
    run_key: jax.Array
    state: Any


class StepRngs(NamedTuple):
    """Random keys of a step.

    Attributes:
        sample: for sampling the batch.
        dropout: for dropout.
        loss: for the losses.
        run: key of the run, the same at every step.
    """

    sample: jax.Array
    dropout: jax.Array
    loss: jax.Array
    run: jax.Array


def step_rngs(seed: jax.Array, step: jax.Array) -> StepRngs:
    """Derive the random keys of a step; all randomness of a run depends on (seed, step) only.

    Args:
        seed: uint32 scalar.
        step: int32 scalar, number of updates done before this one.
    """
    seed_key = jax.random.key(seed)
    sample_key, dropout_key, loss_key = jax.random.split(jax.random.fold_in(seed_key, step), 3)
    run_key = jax.random.fold_in(seed_key, jnp.uint32(2**32 - 1))  # no step has this number
    return StepRngs(sample_key, dropout_key, loss_key, run_key)


class SampleBatch(Protocol):
    """Sampling rule of a method."""

    def __call__(self, context: Context, index: VideoIndex, config: ConfigDict, /) -> BatchIndices:
        """Sample the videos and snippets of a batch.

        Args:
            context: step number and random keys; its state is empty.
            index: lengths and labels of the training videos.
            config: the whole config of the run.
        """


def sample_batch_indices(
    seed: jax.Array, step: jax.Array, index: VideoIndex, sample: SampleBatch, config: ConfigDict
) -> BatchIndices:
    """Sample the videos and snippets of a step's batch.

    Args:
        seed: uint32 scalar.
        step: int32 scalar, number of updates done before this one.
        index: index of the training videos.
        sample: the method's sampling rule.
        config: the whole config of the run.
    """
    rngs = step_rngs(seed, step)
    return sample(Context(step, rngs.sample, rngs.run, {}), index, config)
