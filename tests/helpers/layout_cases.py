"""A small data set with every property that a layout may lose, for the tests of layouts."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxtal.data import synthetic
from jaxtal.data.dataset import Dataset, TimeGrid
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.data.synthetic import config

SMALL = config.SyntheticConfig(
    num_train=6, num_test=4, num_classes=4, feature_width=3, max_snippets=60, ambiguous=0.9
)


def dataset(grid: TimeGrid = TimeGrid(), name: str = "Tiny", own_fps: bool = False) -> Dataset:  # noqa: B008
    """Generate a data set with odd labels and segments, and a class without a video."""
    made = synthetic.generate(SMALL)
    first, second, *others = made.train
    first = dataclasses.replace(first, labels=np.array([0, 3]))
    odd = np.array([[1 / 3, 2.000000123], [-1.0, 0.0], [5.0, 4.0], [1e4, 2e4]])
    second = dataclasses.replace(
        second, segments=odd, segment_labels=np.zeros(4, np.int64), labels=np.array([], np.int64)
    )
    if own_fps:
        others[0] = dataclasses.replace(others[0], fps=29.97)
    classes = (*made.classes, "Never seen, with a comma")
    return Dataset(name, classes, (first, second, *others), made.test, grid)


def source(data: Dataset, features: bool = True) -> LazyDataset:
    """Return the data set as a lazy one, as if read from a folder."""
    whole = {video.name: video.features for video in data.videos}
    bare = data.map(lambda video: dataclasses.replace(video, features=np.empty((0, 0))))
    of_video = (lambda video: whole[video.name]) if features else None
    return LazyDataset("made", Path("nowhere"), bare, of_video)


def assert_same(ours: LazyDataset, wanted: LazyDataset) -> None:
    """Check that classes, grid, order of videos, segments and features are identical."""
    assert ours.dataset.name == wanted.dataset.name
    assert ours.dataset.classes == wanted.dataset.classes
    assert ours.dataset.grid == wanted.dataset.grid
    assert len(ours.dataset.train) == len(wanted.dataset.train)
    for one, other in zip(ours.videos, wanted.videos, strict=True):
        assert (one.name, one.duration, one.fps) == (other.name, other.duration, other.fps)
        for field in ("labels", "segments", "segment_labels", "ambiguous"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field), one.name)
        if ours.features and wanted.features:
            found, features = ours.read(one).features, wanted.read(other).features
            assert found.dtype == features.dtype
            np.testing.assert_array_equal(found, features)
