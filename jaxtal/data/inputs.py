"""Inputs of predictions: files, data sets and arrays, all as `FeatureFile` videos."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtal.data import layouts
from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.data.io import feature_files
from jaxtal.data.io.feature_files import FeatureFile
from jaxtal.data.io.files import check_name, check_unique
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.errors import DataError, short_repr

Times = tuple[float, float, float]
_FORM = (
    "wanted a path, a Dataset, a (T, 2D) array of features, a list of such arrays, or a dict of "
    "them by video name"
)


class Inputs(NamedTuple):
    """Videos to predict.

    Attributes:
        reads: a function for each video, which returns it, or raises DataError if it cannot be
            used; features are read only where their shape is not known otherwise.
        grid: the time grid of the features, but for what videos say themselves.
        origin: who says so, for a message.
    """

    reads: list[Callable[[], FeatureFile]]
    grid: TimeGrid
    origin: str


def find(inputs: Any, default: TimeGrid, time_grid: TimeGrid | None = None) -> Inputs:
    """Return the videos that `inputs` holds or names.

    Args:
        inputs: a path (see `in_path`), a `Dataset` (all its videos, training videos first), a
            (T, 2D) array of features, a list of arrays (videos video_0, video_1, ...), a dict of
            arrays by video name, or `FeatureFile` videos.
        default: the time grid where the inputs state none.
        time_grid: of the features, whatever the inputs say.

    Raises:
        DataError: there is no video, or `inputs` is something else.
    """
    grid, origin = time_grid or default, "given" if time_grid else "the training data's"
    if isinstance(inputs, str | os.PathLike):
        times = (0.0, 0.0, 0.0) if time_grid is None else time_grid.times
        return in_path(Path(inputs), default, times)
    if isinstance(inputs, Dataset):
        videos = (*inputs.train, *inputs.test)
        reads: list = [partial(_in_memory, video, time_grid is not None) for video in videos]
        return Inputs(_not_empty(reads), time_grid or inputs.grid, "the data set's")
    if isinstance(inputs, Mapping):
        named = [(check_name(str(name), "inputs"), inputs[name]) for name in inputs]
        check_unique([name for name, _ in named], "inputs")
    elif isinstance(inputs, list | tuple):
        if inputs and all(isinstance(video, FeatureFile) for video in inputs):
            return Inputs([partial(_itself, video) for video in inputs], grid, origin)
        named = [(f"video_{index}", value) for index, value in enumerate(inputs)]
    elif hasattr(inputs, "__array__"):
        named = [("video_0", inputs)]
    else:
        raise DataError(f"inputs: {short_repr(inputs)}; {_FORM}")
    reads = [partial(from_array, name, value) for name, value in named]
    return Inputs(_not_empty(reads), grid, origin)


def _not_empty(reads: list) -> list:
    if not reads:
        raise DataError(f"inputs: there is no video in it; {_FORM}")
    return reads


def in_path(
    path: Path, default: TimeGrid, times: Times = (0, 0, 0), layout: str = "", name: str = ""
) -> Inputs:
    """Return the videos of a file, a folder or a data set.

    Args:
        path: VIDEO.npy, a folder of such files, one with rgb/ and flow/, or a data set in one of
            the known layouts, of which all videos with features are meant.
        default: the time grid of what is no data set.
        times: fps, stride and window of the features; 0 for what the data set or `default` says.
        layout: of a data set; "" for the one that is detected, if any.
        name: of a data set; "" for what its files say.

    Raises:
        DataError: there is no video; something is missing, malformed or contradictory.
    """
    reads: list
    if layout or layouts.detect(path):
        source = layouts.read(path, layout, name, *times)
        missing = {*source.declared_missing}
        wanted = [video for video in source.videos if video.name not in missing]
        reads = [partial(_annotated, source, video) for video in wanted]
        grid = source.dataset.grid
        origin = "the data set's" if source.has_time_grid else f"assumed for {source.layout}"
    elif name:
        raise DataError(
            f"name={name}: {path} is not recognized as a data set; leave it out, or give layout=..."
        )
    else:
        reads = [
            partial(feature_files.feature_file, *files)
            for files in feature_files.find_feature_files(path)
        ]
        grid, origin = default.replaced(*times), "the training data's"
    given = [what for what, value in zip(("fps", "stride", "window"), times, strict=True) if value]
    return Inputs(reads, grid, f"{', '.join(given)} given" if given else origin)


def _annotated(source: LazyDataset, video: Video) -> FeatureFile:
    """Return an annotated video; its features are read unless the layout knows their shape."""

    def read() -> np.ndarray:
        return source.read(video).features

    shape = source.snippets(video) if source.snippets else read().shape
    return FeatureFile(video.name, shape, read, f"{source.path}, video {video.name}", video.fps)


def _in_memory(video: Video, without_fps: bool) -> FeatureFile:
    stored = from_array(video.name, video.features)
    return stored if without_fps else dataclasses.replace(stored, fps=video.fps)


def _itself(video: FeatureFile) -> FeatureFile:
    return video


def from_array(name: str, value: Any) -> FeatureFile:
    """Return a video whose features are in memory.

    Raises:
        DataError: they are not (T, 2D) finite floating-point numbers.
    """
    where = f"inputs, video {name}"
    if not hasattr(value, "__array__"):
        raise DataError(f"{where}: {short_repr(value)}; wanted a (T, 2D) array of features")
    array = feature_files.check_features(np.asarray(value), where)
    return FeatureFile(name, array.shape, lambda: array, where)
