"""Inputs of predictions: files, data sets and arrays, all as `FeatureFile` videos."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtal.data import axes as feature_axes
from jaxtal.data import layouts
from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.data.examination import examine_inputs, of_dataset, of_source
from jaxtal.data.findings import ERROR, WARNING, report
from jaxtal.data.io import feature_files
from jaxtal.data.io.array_files import Place
from jaxtal.data.io.feature_files import FeatureFile
from jaxtal.data.io.files import check_name, check_unique
from jaxtal.data.lazy_dataset import LazyDataset, select_streams
from jaxtal.data.reading import NOTHING_STATED, ReadingOptions, from_keywords
from jaxtal.errors import DataError, short_repr, warn

_OF_DATA_SETS = ("time", "unit", "train_subset", "validation_subset", "test_subset")
_TIMES = ("fps", "stride", "window")
_OF_MODEL = "the training data's"
_FORM = (
    "wanted a path, a Dataset, a (T, 2D) array of features, a list of such arrays, or a dict of "
    "them by video name"
)


class Inputs(NamedTuple):
    """Videos to predict.

    Attributes:
        reads: one function per video, which returns it or raises DataError if it is unusable. It
            reads the features only if their shape cannot be found otherwise.
        grid: the time grid of the features; a video's own fps overrides its fps.
        origin: the source of the time grid, for messages.
    """

    reads: list[Callable[[], FeatureFile]]
    grid: TimeGrid
    origin: str


def find(
    inputs: Any, default: TimeGrid, time_grid: TimeGrid | None = None, **options: Any
) -> Inputs:
    """Return the videos in `inputs`.

    Args:
        inputs: a path (see `in_path`), a `Dataset` (all its videos, training videos first), a
            (T, 2D) array of features, a list of arrays (their names are video_0, video_1, ...), a
            dict of arrays by video name, or a list of `FeatureFile` videos.
        default: the time grid of inputs that state none.
        time_grid: overrides the time grid of the inputs; None: keep it.
        **options: fields of `ReadingOptions`, for a path or a data set.

    Returns:
        One function per video, and the time grid.

    Raises:
        DataError: `inputs` is empty or has an unsupported type, or an option does not exist.
    """
    grid, origin = time_grid or default, "given" if time_grid else _OF_MODEL
    stated = from_keywords("predict", time_grid, **options)
    if isinstance(inputs, str | os.PathLike):
        return in_path(Path(inputs), default, stated)
    if isinstance(inputs, Dataset):
        dataset = _dataset(inputs, default, stated)
        reads: list = [partial(_in_memory, video) for video in dataset.videos]
        return Inputs(_not_empty(reads), dataset.grid, _named(_given(stated), "the data set's"))
    layouts.refuse(stated, options, "inputs are arrays, which time_grid=... is for")
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
        raise DataError(f"inputs: no videos; {_FORM}")
    return reads


def in_path(path: Path, default: TimeGrid, options: ReadingOptions = NOTHING_STATED) -> Inputs:
    """Return the videos of a file, a folder or a data set.

    Args:
        path: a feature file, a folder of such files, a folder with rgb/ and flow/, or a data set in
            one of the known layouts (all its videos with features are returned).
        default: the time grid of files that do not state one.
        options: statements of the user about the files; a time grid replaces `default`, too.

    Returns:
        One function per video, and the time grid.

    Raises:
        DataError: no video is found, or files are missing, malformed or contradictory.
    """
    reads: list
    if options.layout or layouts.detect(path):
        source, origin = _source(path, default, options)
        missing = {*source.declared_missing}
        wanted = [video for video in source.videos if video.name not in missing]
        reads = [partial(_annotated, source, video) for video in wanted]
        grid = source.dataset.grid
    elif options.name:
        raise DataError(
            f"name={options.name}: {path} is not detected as a data set; omit it, or give "
            "layout=..."
        )
    else:
        layouts.refuse(options, _OF_DATA_SETS, f"{path} is not a data set with annotations")
        found, axes = feature_files.find_feature_files(path), feature_axes.check(options.axes)
        others = [places[0] for _, places in found[: feature_files.COMPARED + 1]]
        reads = [partial(_in_files, *files, axes, others, options) for files in found]
        given = _given(options)
        grid, origin = default.replaced(**given), _named(given, _OF_MODEL)
    return Inputs(reads, grid, origin)


def _source(path: Path, default: TimeGrid, options: ReadingOptions) -> tuple[LazyDataset, str]:
    """Return a data set on that of its `_grids` with the mildest findings, and its origin."""
    unstated = layouts.read(path, options, fps=0.0, stride=0.0, window=0.0)
    choices = [
        (layouts.read(path, options, **times) if times else unstated, origin)
        for origin, times in _grids(unstated.bare, default, options)
    ]
    found = [examine_inputs(source.bare, of_source(source), origin) for source, origin in choices]
    counts = [[sum(f.severity == s for f in one) for s in (ERROR, WARNING)] for one in found]
    chosen = counts.index(min(counts))
    report(found[chosen], f"{path}")
    source, origin = choices[chosen]
    if chosen:
        warn(f"{path}: the time grid of {source.dataset.grid.in_words} is {origin}")
    return source, origin


def _dataset(inputs: Dataset, default: TimeGrid, options: ReadingOptions) -> Dataset:
    """Return a data set in memory with the user's statements, after its examination."""
    dataset, where = layouts.in_memory(inputs, options, "inputs are in memory"), inputs.origin
    report(examine_inputs(dataset, of_dataset(dataset)), f"data set {dataset.name}")
    assumed = where and not where.has_time_grid and not _given(options)
    if where and assumed and dataset.grid.times != default.times:
        warn(
            f"data set {dataset.name}: the time grid of {dataset.grid.in_words} is assumed for "
            f"the layout {where.layout}, {_OF_MODEL} is {default.in_words}; give the right one "
            "to load_dataset, as time_grid=..."
        )
    return dataset


def _given(options: ReadingOptions) -> dict[str, float]:
    """Return the numbers of the time grid that the user states."""
    return {name: value for name in _TIMES if (value := getattr(options, name))}


def _grids(
    unstated: Dataset, default: TimeGrid, options: ReadingOptions
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the origins of the time grids that a data set may have, and options that state them.

    What neither the user nor the files state of the grid is that of `default`, or if this fits the
    durations worse, the one that programs which read the layout assume.

    Args:
        unstated: the data set without statements about the grid.
        default: the time grid of the model.
        options: statements of the user.
    """
    given, where = _given(options), unstated.origin
    if where is None or where.has_time_grid:
        yield _named(given, "the data set's"), given
        return
    model = default.replaced(**given)
    known = {} if any(video.fps is not None for video in unstated.videos) else {"fps": model.fps}
    known |= {"stride": model.stride, "window": model.window, **given}
    if known.items() <= dataclasses.asdict(unstated.grid).items() and not given:
        known = {}
    yield _named(given, _OF_MODEL), known
    if known != given:
        yield _named(given, f"assumed for {where.layout}, as {_OF_MODEL} does not fit"), given


def _named(given: dict[str, float], rest: str) -> str:
    """Return the origin of a time grid of which some numbers are given."""
    if len(given) == len(_TIMES):
        return "given"
    return f"{', '.join(given)} given, otherwise {rest}" if given else rest


def _in_files(
    name: str,
    places: tuple[Place, ...],
    axes: str,
    others: Sequence[Place],
    options: ReadingOptions,
) -> FeatureFile:
    """Return the video in a joint file, or in an RGB and a flow file."""
    if options.modality and len(places) == 2:
        places = (places[options.modality == "flow"],)
        return feature_files.feature_file(name, places, axes, others)
    found = feature_files.feature_file(name, places, axes, others)
    if not options.modality:
        return found
    length, width = found.shape
    columns, (kept,) = select_streams(options, (), width, found.where)
    return dataclasses.replace(
        found, shape=(length, kept), read=lambda: columns(found.read(), name)
    )


def _annotated(source: LazyDataset, video: Video) -> FeatureFile:
    """Return an annotated video; read its features only if their shape is not known otherwise."""

    def read() -> np.ndarray:
        return source.read(video).features

    shape = source.snippets(video) if source.snippets else read().shape
    where = f"{source.path}, video {video.name}"
    return FeatureFile(video.name, shape, read, where, video.fps, video.duration)


def _in_memory(video: Video) -> FeatureFile:
    stored = from_array(video.name, video.features)
    return dataclasses.replace(stored, fps=video.fps, duration=video.duration)


def _itself(video: FeatureFile) -> FeatureFile:
    return video


def from_array(name: str, value: Any) -> FeatureFile:
    """Return a video with features in memory.

    Args:
        name: the video's name.
        value: (T, 2D) floating-point features, a NumPy array or convertible to one.

    Returns:
        The video, whose `read` returns the checked float16 or float32 features.

    Raises:
        DataError: `value` is not a (T, 2D) array of finite floating-point numbers.
    """
    where = f"inputs, video {name}"
    if not hasattr(value, "__array__"):
        raise DataError(f"{where}: {short_repr(value)}; wanted a (T, 2D) array of features")
    array = feature_files.check_features(np.asarray(value), where)
    return FeatureFile(name, array.shape, lambda: array, where)
