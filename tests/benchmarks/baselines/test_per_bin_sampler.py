"""The published per-bin sampler has the distribution that `input_pipeline.sampling` describes."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.baselines import per_bin_sampler
from jaxtal.input_pipeline.sampling import bin_bounds

LENGTHS = np.array([3, 8, 9, 20, 41, 1])
LABELS = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]], np.float32)
COUNT = 8


@pytest.fixture
def rng() -> np.random.RandomState:
    return np.random.RandomState(0)


def test_snippets_fill_their_closed_bins(rng):
    low, high = (np.asarray(x) for x in bin_bounds(jnp.asarray(LENGTHS), COUNT))
    for video, length in enumerate(LENGTHS.tolist()):
        drawn = np.stack([per_bin_sampler.snippets(length, COUNT, rng) for _ in range(200)])
        assert drawn.shape == (200, COUNT)
        np.testing.assert_array_equal(drawn.min(axis=0), low[video])
        np.testing.assert_array_equal(drawn.max(axis=0), high[video])


def test_every_index_of_a_bin_is_equally_likely(rng):
    drawn = np.stack([per_bin_sampler.snippets(20, COUNT, rng) for _ in range(3000)])
    assert set(drawn[:, 1]) == {2, 3, 4, 5}
    np.testing.assert_allclose(np.bincount(drawn[:, 1])[2:] / 3000, 0.25, atol=0.03)


def test_pairs_share_a_class_and_differ(rng):
    for _ in range(100):
        videos, snippets = per_bin_sampler.indices(LENGTHS, LABELS, 2, 6, COUNT, rng)
        assert videos.shape == (6,)
        assert snippets.shape == (6, COUNT)
        assert (snippets < LENGTHS[videos][:, None]).all()
        for first, second in videos[:4].reshape(2, 2):
            assert first != second
            assert (LABELS[first] * LABELS[second]).any()


def test_classes_of_one_video_are_in_no_pair(rng):
    drawn = [per_bin_sampler.indices(LENGTHS, LABELS, 1, 2, COUNT, rng)[0] for _ in range(600)]
    shared = np.stack([LABELS[a] * LABELS[b] for a, b in drawn]).mean(axis=0)
    np.testing.assert_allclose(shared, [0.5, 0.5, 0], atol=0.07)


def test_singles_are_uniform(rng):
    drawn = [per_bin_sampler.indices(LENGTHS, LABELS, 0, 10, COUNT, rng)[0] for _ in range(300)]
    np.testing.assert_allclose(np.bincount(np.ravel(drawn)) / 3000, 1 / 6, atol=0.03)


def test_batch_gathers_the_drawn_snippets():
    features = [100 * v + np.arange(n)[:, None] * np.ones(2) for v, n in enumerate(LENGTHS)]
    arguments = LENGTHS, LABELS, 2, 6, COUNT
    videos, snippets = per_bin_sampler.indices(*arguments, np.random.RandomState(3))
    x, labels = per_bin_sampler.batch(features, *arguments, np.random.RandomState(3))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[..., 0], 100 * videos[:, None] + snippets)
    np.testing.assert_array_equal(x[..., 0], x[..., 1])
    np.testing.assert_array_equal(labels, LABELS[videos])
