"""Feature files of all videos: an object array per file, in the order of the annotations."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from jaxtal.data import axes as feature_axes
from jaxtal.data.dataset import Video
from jaxtal.data.io import object_arrays
from jaxtal.data.io.feature_files import check_features, join_streams
from jaxtal.data.lazy_dataset import LazyDataset, of_first
from jaxtal.errors import DataError


def with_features(source: LazyDataset, features: "JointFeatures") -> LazyDataset:
    """Return a data set with its features, and with the widths of separate streams.

    Args:
        source: the data set without features.
        features: the reader of the features.
    """
    dataset, separate = source.dataset, features.separate
    if separate:
        widths = of_first(features.widths, dataset.videos) or ()
        dataset = dataclasses.replace(dataset, stream_widths=widths)
    return dataclasses.replace(
        source,
        dataset=dataset,
        features=features,
        has_streams=separate,
        snippets=features.shape,
    )


class JointFeatures:
    """Reader of a video's features from the joint file, or from the RGB and the flow file."""

    def __init__(self, paths: list[Path], names: list[str], axes: str):
        self._axes = axes
        self._files = {path: object_arrays.load(path) for path in paths}
        self._rows = {name: row for row, name in enumerate(names)}
        self.separate = len(paths) == 2
        for path, arrays in self._files.items():
            if np.ndim(arrays) == 0 or len(arrays) != len(names):
                raise DataError(
                    f"{path}: features of {np.size(arrays)} videos, but the annotations list "
                    f"{len(names)}; they must belong to the same data set, in the same order"
                )

    def _parts(self, video: Video) -> list[np.ndarray]:
        row, parts = self._rows[video.name], []
        for path, arrays in self._files.items():
            value, where = arrays[row], f"{path}, video {video.name}"
            if isinstance(value, np.ndarray) and (value.ndim == 3 or self._axes != "TD"):
                shapes = functools.partial(map, np.shape, arrays[:9])
                value = feature_axes.apply(value, self._axes, where, shapes)
            parts.append(check_features(value, where))
        return parts

    def _shapes(self, video: Video) -> list[tuple[int, ...]]:
        row = self._rows[video.name]
        shapes: list = [np.shape(arrays[row]) for arrays in self._files.values()]
        if self._axes != "TD":
            shapes = [feature_axes.shape_after(shape, self._axes) for shape in shapes]
        if any(len(shape) != 2 for shape in shapes):
            self._parts(video)  # raises the appropriate error
        return shapes

    def shape(self, video: Video) -> tuple[int, int]:
        """Return (T, 2D) without copying features."""
        return self._shapes(video)[0][0], sum(self.widths(video))

    def widths(self, video: Video) -> tuple[int, ...]:
        """Return the width of each file's features, without copying them."""
        return tuple(width for _, width in self._shapes(video))

    def __call__(self, video: Video) -> np.ndarray:
        """Return the (T, 2D) features of a video, joined from its streams."""
        joint, *flow = self._parts(video)
        where = f"{next(iter(self._files)).parent}, video {video.name}"
        return join_streams(joint, flow[0], where) if flow else joint
