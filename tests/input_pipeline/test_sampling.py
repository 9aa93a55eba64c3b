"""Distributions of batch composition and snippet sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxtal.data.dataset import Video
from jaxtal.input_pipeline import sampling
from jaxtal.input_pipeline.packing import BatchIndices, gather, pack, subsample_uniformly

KEYS = jax.random.split(jax.random.key(7), 20_000)
ALPHA = 1e-4  # probability of a false alarm; the draws of the tests are fixed


def uniform(counts) -> bool:
    return stats.chisquare(counts).pvalue > ALPHA


def test_pairs_are_uniform_over_classes_and_videos():
    labels = np.zeros((9, 4), np.float32)
    labels[[0, 1, 2], 0] = 1
    labels[[2, 3, 4, 5], 1] = 1
    labels[6, 2] = 1  # a class of one video is never drawn; class 3 has none
    pool = jnp.ones(9, bool)
    draw = jax.jit(
        jax.vmap(lambda key: sampling.pairs_and_singles(key, jnp.asarray(labels), pool, 3, 4))
    )
    videos = np.asarray(draw(KEYS))
    assert videos.shape == (20_000, 10)
    pairs = videos[:, :6].reshape(-1, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    first = (labels[pairs[:, 0]] * labels[pairs[:, 1]])[:, :2]
    assert (first.sum(1) == 1).all()
    assert uniform(first.sum(0))
    for label, members in ((0, [0, 1, 2]), (1, [2, 3, 4, 5])):
        chosen = pairs[first[:, label] > 0]
        code = chosen[:, 0] * 9 + chosen[:, 1]  # every ordered pair equally often
        _, counts = np.unique(code, return_counts=True)
        assert len(counts) == len(members) * (len(members) - 1)
        assert uniform(counts)
    for column in range(6, 10):
        assert uniform(np.bincount(videos[:, column], minlength=9))
    # With replacement: two single rows agree once in nine.
    same = int((videos[:, 6] == videos[:, 7]).sum())
    assert stats.binomtest(same, len(videos), 1 / 9).pvalue > ALPHA


def test_without_pairs_every_row_is_a_single():
    videos = sampling.pairs_and_singles(KEYS[0], jnp.zeros((1, 3)), jnp.ones(1, bool), 0, 5)
    assert videos.tolist() == [0] * 5


def test_singles_are_uniform_among_their_pool():
    pool = jnp.array([False, True, True, False, True, False])
    draw = jax.jit(
        jax.vmap(lambda key: sampling.pairs_and_singles(key, jnp.zeros((6, 2)), pool, 0, 3))
    )
    counts = np.bincount(np.asarray(draw(KEYS)).ravel(), minlength=6)
    assert (counts[[0, 3, 5]] == 0).all()
    assert uniform(counts[[1, 2, 4]])


@pytest.mark.parametrize("length", [1, 5, 7, 8, 9, 23, 100])
def test_snippets_are_uniform_in_their_bins(length):
    count = 8
    lengths = jnp.array([length])
    draw = jax.jit(jax.vmap(lambda key: sampling.sample_snippets(key, lengths, count)[0]))
    snippets = np.asarray(draw(KEYS))
    if length == count:
        assert (snippets == np.arange(count)).all()
    for i, column in enumerate(snippets.T):
        low = i * length // count
        high = (i + 1) * length // count if i < count - 1 else length - 1
        high = low if length == count else max(low, high)
        counts = np.bincount(column - low, minlength=high - low + 1)
        assert len(counts) == high - low + 1
        assert len(counts) == 1 or uniform(counts)


def make_video(length: int, value: float) -> Video:
    empty = np.empty((0, 2))
    features = np.full((length, 4), value, np.float16) + np.arange(length)[:, None]
    return Video(f"v{value}", 1.0, np.array([0]), empty, np.empty(0, int), empty, features)


def test_gather_masks_missing_rows():
    data = pack((make_video(3, 100), make_video(5, 200)), 2)
    batch = gather(data, BatchIndices(jnp.array([1, 0, -1]), jnp.arange(6)[None]))
    np.testing.assert_array_equal(batch.mask.sum(1), [5, 3, 0])
    np.testing.assert_array_equal(batch.features[:, :, 0], [
        [200, 201, 202, 203, 204, 0], [100, 101, 102, 0, 0, 0], [0] * 6])  # fmt: skip
    assert batch.features.dtype == jnp.float32
    np.testing.assert_array_equal(batch.labels[0], [1, 0])


def test_crops_and_uniform_draws():
    lengths = jnp.array([3, 8, 9, 12])
    snippets = jax.vmap(lambda key: sampling.random_crop(key, lengths, 8))(KEYS)
    assert (jnp.diff(snippets, axis=-1) == 1).all()
    starts = np.asarray(snippets[..., 0])
    assert (starts[:, :3] == 0).all()  # of 9 snippets the start 1 is the last and never drawn
    assert len(np.bincount(starts[:, 3])) == 4
    assert uniform(np.bincount(starts[:, 3]))
    pool = jnp.array([True, False, True, True])
    drawn = np.asarray(jax.vmap(lambda key: sampling.sample_uniform(key, pool, 2))(KEYS))
    pairs = np.bincount(drawn[:, 0] * 4 + drawn[:, 1], minlength=16).reshape(4, 4)
    assert not pairs[1].any()
    assert not pairs[:, 1].any()
    assert uniform(pairs[[0, 2, 3]][:, [0, 2, 3]].ravel())


@pytest.mark.parametrize("length", [1, 3, 7, 8, 9, 23, 100])
def test_sorted_snippets(length):
    """Long videos are sampled bin by bin, short ones with replacement (`sample_sorted`)."""
    count = 8
    lengths = jnp.array([length])
    draw = jax.jit(jax.vmap(lambda key: sampling.sample_sorted(key, lengths, count)[0]))
    snippets = np.asarray(draw(KEYS))
    assert (np.diff(snippets, axis=1) >= 0).all()
    assert snippets.min() >= 0
    assert snippets.max() == length - 1
    if length == count:
        assert (snippets == np.arange(count)).all()
    elif length < count:  # the counts of the sorted snippets are multinomial
        assert length == 1 or uniform(np.bincount(snippets.ravel(), minlength=length))
        # The smallest of 8 draws: P(min >= m) = ((length - m) / length) ** 8.
        tail = ((length - np.arange(length + 1)) / length) ** count
        counts = np.bincount(snippets[:, 0], minlength=length)
        for found, chance in zip(counts, -np.diff(tail), strict=True):
            assert stats.binomtest(int(found), len(KEYS), chance).pvalue > ALPHA
    else:
        for i, column in enumerate(snippets[:, :-1].T):
            low, high = i * length // count, (i + 1) * length // count
            counts = np.bincount(column - low, minlength=high - low + 1)
            assert len(counts) == high - low + 1
            assert len(counts) == 1 or uniform(counts)
        before = snippets[:, -2]
        for value in np.unique(before)[:3]:
            counts = np.bincount(snippets[before == value, -1], minlength=length)[value:]
            assert len(counts) == length - value
            assert len(counts) == 1 or uniform(counts)


def test_single_sorted_snippets():
    snippets = jax.vmap(lambda key: sampling.sample_sorted(key, jnp.array([5, 1]), 1))(KEYS)
    assert uniform(np.bincount(np.asarray(snippets[:, 0, 0]), minlength=5))
    assert not snippets[:, 1].any()


def test_evenly_spread_snippets():
    lengths = np.array([1, 4, 10, 100_000, 60_001, 3_000_000])
    counts = np.array([2, 4, 4, 100_000, 46_340, 46_340])
    snippets = np.asarray(subsample_uniformly(jnp.asarray(lengths), jnp.asarray(counts), 100_000))
    assert snippets[0].tolist() == [0, 0] + [1] * 99_998
    assert snippets[1, :6].tolist() == [0, 1, 2, 3, 4, 4]
    assert snippets[2, :5].tolist() == [0, 2, 5, 7, 10]
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        wanted = np.arange(count) * length // count  # in 64 bits; ours has 32
        np.testing.assert_array_equal(snippets[row, :count], wanted)
        assert (snippets[row, count:] == length).all()


def test_orders_of_epochs_are_uniform():
    """All 6 orders of 3 videos of the pool occur equally often, with -1 after the last video."""
    pool = jnp.array([True, False, True, True])
    steps = jnp.arange(2 * 6000)
    draw = jax.jit(jax.vmap(lambda step: sampling.epoch_batch(KEYS[0], step, pool, 2)))
    epochs = np.asarray(draw(steps)).reshape(6000, 4)
    assert (epochs[:, 3] == -1).all()
    assert (np.sort(epochs[:, :3], axis=1) == [0, 2, 3]).all()
    _, counts = np.unique(epochs[:, :3], axis=0, return_counts=True)
    assert len(counts) == 6
    assert uniform(counts)
