"""Fingerprints of data sets, and time grids."""

import numpy as np

from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.training.workdir import fingerprint


def test_fingerprints_distinguish_data():
    def dataset(label=0, name="v", value=1.0, second=1.0):
        features = np.array([[value, 0], [second, 0]], np.float32)
        empty = np.empty((0, 2))
        video = Video(name, 1.28, np.array([label]), empty, empty[:, 0], empty, features)
        return Dataset("Tiny", ("a", "b"), (video,), (video,))

    base = fingerprint(dataset(), generated=False)
    assert base == fingerprint(dataset(), generated=False)
    for change in ({"label": 1}, {"name": "w"}, {"value": 2.0}):
        assert fingerprint(dataset(**change), generated=False)["checksum"] != base["checksum"]
    # Generated features may differ in their last bits from machine to machine.
    other = dataset(value=np.nextafter(np.float32(1), 2))
    assert fingerprint(other, generated=True) == fingerprint(dataset(), generated=True)


def test_overlapping_windows():
    grid = TimeGrid(30, 4, 16)
    snippets = np.arange(6.0)
    # The middle of snippet i is at (i * stride + window / 2) / fps seconds.
    np.testing.assert_allclose(grid.to_seconds(snippets + 0.5), (snippets * 4 + 8) / 30)
    np.testing.assert_allclose(grid.to_snippets(grid.to_seconds(snippets)), snippets, atol=1e-12)
    assert TimeGrid(30, 4) == TimeGrid(30, 4, 4)
    # Without overlap snippets begin at 0, and nothing is rounded that was not before.
    seconds = np.arange(3000) / 10
    np.testing.assert_array_equal(TimeGrid().to_snippets(seconds), seconds * 25 / 16)


def test_videos_with_an_fps_of_their_own():
    empty = np.empty((0, 2))
    videos = [
        Video(name, 1.0, np.array([0]), empty, empty[:, 0], empty, fps=fps)
        for name, fps in (("a", None), ("b", 24.0))
    ]
    grids = TimeGrid(30, 4, 16).of(videos)
    np.testing.assert_array_equal(grids.fps, [30, 24])
    index = np.array([1, 0, 1])
    np.testing.assert_allclose(
        grids.take(index).to_seconds(np.array([0.0, 0, 6])) * 24, [6, 4.8, 30]
    )
    assert TimeGrid().take(index) == TimeGrid()
