"""Feature files: snippet features of single videos in .npy files."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data.io import object_arrays
from jaxtal.data.io.files import check_name
from jaxtal.errors import DataError


def load_features(path: Path) -> np.ndarray:
    """Read the features of one video from a .npy file.

    Args:
        path: the file.

    Returns:
        (T, 2D) or (T, D) float16 or float32 features, in memory.

    Raises:
        DataError: the file is missing, damaged or does not contain features.
    """
    # A copy, because mapped files stay open and the number of open files is limited.
    return np.array(check_features(object_arrays.load(path), f"{path}"))


def feature_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the array in a .npy file.

    The content is mapped from the file: for a plain array, only the header is read.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing or damaged.
    """
    return object_arrays.load(path).shape


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
        rgb: (T, D) RGB features.
        flow: (T, D) flow features.
        where: the video, for the error message.

    Returns:
        (T, 2D) features, RGB first.

    Raises:
        DataError: the shapes differ.
    """
    if rgb.shape != flow.shape:
        raise DataError(
            f"{where}: RGB features are {_describe_shape(rgb)}, flow features "
            f"{_describe_shape(flow)}; wanted the same number of snippets and the same width, from "
            "the same frames"
        )
    return np.concatenate([rgb, flow], axis=-1)


def _describe_shape(features: np.ndarray) -> str:
    return " x ".join(map(str, features.shape)) + " (snippets x width)"


_STREAMS = ("rgb", "flow")
_FORM = (
    "wanted VIDEO.npy, a folder of such files, a folder with rgb/VIDEO.npy and flow/VIDEO.npy, or "
    "a data set in one of the known layouts"
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


def find_feature_files(path: Path) -> list[tuple[str, tuple[Path, ...]]]:
    """Return the name and the feature files of every video in `path`, sorted by name.

    Args:
        path: VIDEO.npy, a folder of such files, or a folder with rgb/ and flow/.

    Returns:
        [(name, (file,))], or [(name, (RGB file, flow file))] for a folder with rgb/ and flow/.

    Raises:
        DataError: no file is found, a video lacks one of the two streams, or a name is invalid.
    """
    if path.is_file() and path.suffix == ".npy":
        return [(check_name(path.stem, f"{path}"), (path,))]
    if not path.is_dir():
        what = "not a .npy file" if path.exists() else "no such file or folder"
        raise DataError(f"{path}: {what}; {_FORM}")
    streams = [path / stream for stream in _STREAMS]
    if not all(stream.is_dir() for stream in streams):
        streams = [path]
    names = [_names(stream) for stream in streams]
    if not any(names):
        raise DataError(f"{path}: no .npy files in it; {_FORM}")
    if lonely := sorted(set(names[0]) ^ set(names[-1])):
        stream = streams[lonely[0] in names[0]]
        raise DataError(
            f"{stream}: no {lonely[0]}.npy ({len(lonely)} videos have only one of the two "
            "streams); add it, or remove the other stream's file"
        )
    return [(name, tuple(stream / f"{name}.npy" for stream in streams)) for name in names[0]]


def _names(folder: Path) -> list[str]:
    files = sorted(file for file in folder.glob("*.npy") if not file.name.startswith("."))
    return [check_name(file.stem, f"{folder}") for file in files]


def read_streams(paths: tuple[Path, ...]) -> np.ndarray:
    """Read the features of a video from its joint file, or from its RGB and flow files.

    Args:
        paths: (joint file,), or (RGB file, flow file).

    Returns:
        (T, 2D) float16 or float32 features, RGB first.

    Raises:
        DataError: a file is missing or damaged, or the two streams differ in shape.
    """
    first, *second = (load_features(path) for path in paths)
    return join_streams(first, second[0], f"{paths[0]}") if second else first


def feature_file(name: str, paths: tuple[Path, ...]) -> FeatureFile:
    """Return a video found by `find_feature_files`; only the headers of its files are read.

    Args:
        name: the video's name.
        paths: its joint file, or its RGB and flow files.

    Raises:
        DataError: a file is missing, damaged or does not contain features.
    """
    shapes = [_stacked_shape(path) for path in paths]
    shape = shapes[0][0], sum(width for _, width in shapes)
    return FeatureFile(name, shape, functools.partial(read_streams, paths), f"{paths[0]}")


def _stacked_shape(path: Path) -> tuple[int, int]:
    shape = feature_shape(path)
    if len(shape) != 2 or 0 in shape:
        load_features(path)  # raises the appropriate error
    return shape[0], shape[1]
