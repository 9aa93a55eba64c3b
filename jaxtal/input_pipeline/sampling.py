"""Training batches: what is drawn of which videos, and the gather that makes a batch of it.

The data set is one packed array. What is drawn depends on a key and on lengths and labels, never on
features, so that the same draws serve features on the device and features that are streamed to it.
Everything but `pack` is a pure function of traced arrays and runs inside the jitted step.
"""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxtal.input_pipeline.packing import BatchIndices, VideoIndex


def sample_without_replacement(key: jax.Array, allowed: jax.Array, count: int) -> jax.Array:
    """`count` different indices, uniform among those `allowed` [..., V] (bool): [..., count]."""
    priority = jnp.where(allowed, jax.random.uniform(key, allowed.shape), -1)
    return jax.lax.top_k(priority, count)[1]


def sample_uniform(key: jax.Array, pool: jax.Array, count: int) -> jax.Array:
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
    single = sample_uniform(single_key, pool, singles)
    if not pairs:
        return single
    eligible = jnp.broadcast_to(labels.sum(0) >= 2, (pairs, labels.shape[1]))
    drawn = sample_without_replacement(class_key, eligible, 1)[:, 0]
    paired = sample_without_replacement(pair_key, labels.T[drawn] > 0, 2)
    parts = num_shards_with_pairs(pairs, singles)
    return jnp.concatenate([paired.reshape(parts, -1), single.reshape(parts, -1)], 1).reshape(-1)


def num_shards_with_pairs(pairs: int, singles: int) -> int:
    """Into how many parts a batch can be divided, each with as many pairs and other videos."""
    return math.gcd(pairs, singles) or 1


def in_pairs(rows: jax.Array, pairs: int) -> jax.Array:
    """The pairs of a batch of `pairs_and_singles`: [B, ...] to [pairs, 2, ...].

    Each of the batch's parts begins with its pairs, so that no pair is on two devices that share
    the batch. With 3 pairs and 4 other videos there is one part.
    """
    parts = num_shards_with_pairs(pairs, len(rows) - 2 * pairs)
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


def epoch_batch(run_key: jax.Array, step: jax.Array, pool: jax.Array, count: int) -> jax.Array:
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


def random_crop(key: jax.Array, lengths: jax.Array, count: int) -> jax.Array:
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


class Context(NamedTuple):
    """What a batch may depend on besides the data, and a loss besides the batch.

    Attributes:
        step: int32 scalar, the number of updates done before this one.
        key: for random choices of this step alone.
        run_key: the same at every step, for choices that outlast one, such as an epoch's order.
        state: the model's variables without gradient (a dict), to be returned updated.
    """

    step: jax.Array
    key: jax.Array
    run_key: jax.Array
    state: Any


class StepRngs(NamedTuple):
    """The random keys of a step: for what is drawn, dropout, losses; and that of the whole run."""

    sample: jax.Array
    dropout: jax.Array
    loss: jax.Array
    run: jax.Array


def step_rngs(seed: jax.Array, step: jax.Array) -> StepRngs:
    """All randomness of a run follows from these, so from (seed, step)."""
    seed_key = jax.random.key(seed)
    sample_key, dropout_key, loss_key = jax.random.split(jax.random.fold_in(seed_key, step), 3)
    run_key = jax.random.fold_in(seed_key, jnp.uint32(2**32 - 1))  # no step has this number
    return StepRngs(sample_key, dropout_key, loss_key, run_key)


class SampleBatch(Protocol):
    """Choose the training videos and snippets of a batch (a method's own rule)."""

    def __call__(
        self, context: Context, index: VideoIndex, config: ConfigDict, /
    ) -> BatchIndices: ...


def sample_batch_indices(
    seed: jax.Array, step: jax.Array, index: VideoIndex, sample: SampleBatch, config: ConfigDict
) -> BatchIndices:
    """Return the videos and snippets of a step's batch."""
    rngs = step_rngs(seed, step)
    return sample(Context(step, rngs.sample, rngs.run, {}), index, config)
