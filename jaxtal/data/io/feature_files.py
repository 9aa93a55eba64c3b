"""Feature files: snippet features of single videos, in one of the forms of `array_files`."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data import axes as feature_axes
from jaxtal.data.io.array_files import HDF5, SUFFIXES, Place, array_shape, read_array, video_names
from jaxtal.data.io.files import check_name, contents
from jaxtal.errors import DataError

COMPARED = 8  # other videos whose shapes help to recognize axes


def load_features(
    place: Place, axes: str = feature_axes.DEFAULT, others: Sequence[Place] = ()
) -> np.ndarray:
    """Read the features of one video.

    Args:
        place: the file.
        axes: meaning of the axes in the file, see `feature_axes`.
        others: files of other videos, whose shapes help to recognize axes that do not fit.

    Returns:
        (T, 2D) or (T, D) float16 or float32 features, in memory.

    Raises:
        DataError: the file is missing, damaged or does not contain features.
    """

    def shapes() -> list[tuple[int, ...]]:
        compared = [other for other in others if other != place][:COMPARED]
        return [array_shape(other, axes.index("D")) for other in compared]

    array = read_array(place, axes.index("D"))
    features = check_features(feature_axes.apply(array, axes, f"{place}", shapes), f"{place}")
    # A copy, because mapped files stay open and the number of open files is limited.
    return np.array(features, order="C")


def feature_shape(place: Place, axes: str = feature_axes.DEFAULT) -> tuple[int, ...]:
    """Return the shape of a video's features, as `load_features` returns them.

    Only the header is read in forms that have one.

    Args:
        place: the file.
        axes: as for `load_features`.

    Returns:
        (T, 2D) or (T, D); another shape if the axes do not fit, which `load_features` reports.

    Raises:
        DataError: the file is missing or damaged.
    """
    return feature_axes.shape_after(array_shape(place, axes.index("D")), axes)


def by_name(paths: Iterable[Path]) -> dict[str, Place]:
    """Return {file name without suffix: file} of the feature files among `paths`.

    Args:
        paths: files of any kind.

    Raises:
        DataError: two files have the same name.
    """
    found: dict[str, Place] = {}
    for path in paths:
        if path.suffix.lower() in SUFFIXES:
            place = Place(path)
            if (other := found.setdefault(path.stem, place)) != place:
                raise DataError(
                    f"{path}: {other} has the features of {path.stem} too; remove one of them"
                )
    return found


def inside(places: Iterable[Place]) -> dict[str, Place]:
    """Return {video's name: place} of the videos in HDF5 files that have several.

    Args:
        places: the files; those of another form have no videos inside.

    Raises:
        DataError: a file is damaged, or two files have the same video.
    """
    found: dict[str, Place] = {}
    for path in (place.path for place in places if place.path.suffix.lower() in HDF5):
        for name in video_names(path):
            place = Place(path, name)
            if (other := found.setdefault(name, place)) != place:
                raise DataError(f"{path}: {other.path} has {name} too; remove it from one of them")
    return found


def check_features(value: Any, where: str) -> np.ndarray:
    """Validate one video's features.

    Args:
        value: an array (T, 2D) or (T, D); float64 becomes float32.
        where: file and video, for the error message.

    Returns:
        The features, float16 or float32.

    Raises:
        DataError: `value` is not a floating-point array of two axes, is empty or is not finite.
    """
    features = value if isinstance(value, np.ndarray) else np.empty(0, object)
    if features.ndim != 2 or features.dtype.kind != "f":
        raise DataError(
            f"{where}: an array of shape {features.shape} and type {features.dtype}; wanted "
            "(T, 2D) float16 or float32 features"
        )
    if features.dtype.itemsize > 4:
        with np.errstate(over="ignore"):  # infinite values are reported below
            features = features.astype(np.float32)
    if not features.size:
        raise DataError(f"{where}: no snippets; remove the video or extract its features again")
    if not _all_finite(features):
        finite = np.isfinite(features).all(axis=1)
        snippet = int(np.argmin(finite))
        value = "NaN" if np.isnan(features[snippet]).any() else "infinite"
        raise DataError(
            f"{where}: {value} features in {np.sum(~finite)} of {len(features)} snippets, first in "
            f"snippet {snippet}; extract the video's features again"
        )
    return features


def _all_finite(features: np.ndarray) -> bool:
    """Return np.isfinite(features).all(), for float16 by its bits, which is 15 times as fast."""
    if features.dtype != np.float16 or not features.flags.c_contiguous:
        return bool(np.isfinite(features).all())
    return bool((features.view(np.uint16) & 0x7FFF).max() < 0x7C00)


def join_streams(rgb: np.ndarray, flow: np.ndarray, where: str) -> np.ndarray:
    """Concatenate RGB and flow features.

    Args:
        rgb: (T, D1) RGB features.
        flow: (T, D2) flow features.
        where: the video, for the error message.

    Returns:
        (T, D1 + D2) features, RGB first.

    Raises:
        DataError: the numbers of snippets differ.
    """
    if len(rgb) != len(flow):
        raise DataError(
            f"{where}: RGB features are {_describe_shape(rgb)}, flow features "
            f"{_describe_shape(flow)}; wanted the same number of snippets, from the same frames"
        )
    return np.concatenate([rgb, flow], axis=-1)


def _describe_shape(features: np.ndarray) -> str:
    return " x ".join(map(str, features.shape)) + " (snippets x width)"


_STREAMS = ("rgb", "flow")
_FORM = (
    "wanted VIDEO.npy, a folder of such files, a folder with rgb/VIDEO.npy and flow/VIDEO.npy, or "
    f"a data set in one of the known layouts; files may also be {', '.join(SUFFIXES[1:])}"
)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureFile:
    """Features of a video that are read on demand.

    Attributes:
        name: the video's name.
        shape: (T, 2D), shape of the features.
        read: a function that returns the checked float16 or float32 features, or raises DataError.
        where: the file, for messages.
        fps: frames per second of this video's features; None: those of the data set's grid.
        duration: of the video, in seconds; infinite if it is unknown.
    """

    name: str
    shape: tuple[int, int]
    read: Callable[[], np.ndarray]
    where: str
    fps: float | None = None
    duration: float = math.inf


def find_feature_files(path: Path) -> list[tuple[str, tuple[Place, ...]]]:
    """Return the name and the feature files of every video in `path`, sorted by name.

    Args:
        path: the file of a video, an HDF5 file of several videos, a folder of such files, which may
            be one level deeper, or a folder with rgb/ and flow/.

    Returns:
        [(name, (file,))], or [(name, (RGB file, flow file))] for a folder with rgb/ and flow/.

    Raises:
        DataError: no file is found, a video lacks one of the two streams, or a name is invalid.
    """
    folders = [path / stream for stream in _STREAMS]
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        streams = [by_name([path])]
    elif not path.is_dir():
        what = "not a feature file" if path.exists() else "no such file or folder"
        raise DataError(f"{path}: {what}; {_FORM}")
    elif all(folder.is_dir() for folder in folders):
        streams = [_in_folder(folder, "*") for folder in folders]
    else:
        streams = [_in_folder(path, "*") or _in_folder(path, "*/*")]
    streams = [_expanded(stream) for stream in streams]
    if not any(streams):
        raise DataError(f"{path}: no feature files among {contents(path)}; {_FORM}")
    if lonely := sorted(streams[0].keys() ^ streams[-1].keys()):
        folder = folders[lonely[0] in streams[0]]
        raise DataError(
            f"{folder}: no {lonely[0]}.npy ({len(lonely)} videos have only one of the two "
            "streams); add it, or remove the other stream's file"
        )
    names = sorted(check_name(name, f"{path}") for name in streams[0])
    return [(name, tuple(stream[name] for stream in streams)) for name in names]


def _in_folder(folder: Path, pattern: str) -> dict[str, Place]:
    return by_name(path for path in sorted(folder.glob(pattern)) if not path.name.startswith("."))


def _expanded(stream: dict[str, Place]) -> dict[str, Place]:
    """Return the videos in an HDF5 file, if it is the only file and has several."""
    only = next(iter(stream.values())) if len(stream) == 1 else None
    if only is None or only.path.suffix.lower() not in HDF5:
        return stream
    try:
        array_shape(only)
    except DataError:  # no single array of features
        return inside([only])
    return stream


def read_streams(places: tuple[Place, ...], axes: str, others: Sequence[Place] = ()) -> np.ndarray:
    """Read the features of a video from its joint file, or from its RGB and flow files.

    Args:
        places: (joint file,), or (RGB file, flow file).
        axes: meaning of the axes in the files.
        others: files of other videos, see `load_features`.

    Returns:
        (T, 2D) float16 or float32 features, RGB first.

    Raises:
        DataError: a file is missing or damaged, or the two streams differ in length.
    """
    first, *second = (load_features(place, axes, others) for place in places)
    return join_streams(first, second[0], f"{places[0]}") if second else first


def feature_file(
    name: str,
    places: tuple[Place, ...],
    axes: str = feature_axes.DEFAULT,
    others: Sequence[Place] = (),
) -> FeatureFile:
    """Return a video found by `find_feature_files`; only the headers of its files are read.

    Args:
        name: the video's name.
        places: its joint file, or its RGB and flow files.
        axes: meaning of the axes in the files.
        others: files of other videos, see `load_features`.

    Raises:
        DataError: a file is missing, damaged or does not contain features.
    """
    shapes = stream_shapes(places, axes, others)
    shape = shapes[0][0], sum(width for _, width in shapes)
    read = functools.partial(read_streams, places, axes, others)
    return FeatureFile(name, shape, read, f"{places[0]}")


def stream_shapes(
    places: Sequence[Place], axes: str, others: Sequence[Place] = ()
) -> list[tuple[int, int]]:
    """Return the shape (T, D) of each stream of a video's features, from the headers of its files.

    Args:
        places: its joint file, or its RGB and flow files.
        axes: meaning of the axes in the files.
        others: files of other videos, see `load_features`.

    Raises:
        DataError: a file is missing, damaged or does not contain features.
    """
    shapes = [feature_shape(place, axes) for place in places]
    for place, shape in zip(places, shapes, strict=True):
        if len(shape) != 2 or 0 in shape:
            load_features(place, axes, others)  # raises the appropriate error
    return [(length, width) for length, width in shapes]
