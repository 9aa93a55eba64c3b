"""Snippet features of single videos: .npy files and what must hold of them."""

from pathlib import Path

import numpy as np

from jaxtal.data import object_arrays
from jaxtal.errors import UserError, shown


def load(path: Path) -> np.ndarray:
    """(T, 2D) or (T, D) features of one video from its .npy file.

    Raises:
        UserError: the file is missing or damaged, or holds something else.
    """
    # A copy: every mapped file would stay open, and a process may open only so many.
    return np.array(check(object_arrays.load(path), f"{path}"))


def shape(path: Path) -> tuple[int, ...]:
    """The shape of a .npy file's plain array, of which only the header is read.

    Raises:
        UserError: the file is missing or damaged.
    """
    return object_arrays.load(path).shape


def check(value, where: str) -> np.ndarray:
    """One video's features as they are, float16 or float32; UserError if they cannot be used."""
    features = value if isinstance(value, np.ndarray) else np.empty(0, object)
    if features.ndim != 2 or features.dtype.kind != "f":
        raise UserError(
            f"{where}: an array of shape {features.shape} and type {features.dtype}; wanted "
            "(T, 2D) float16 or float32 features"
        )
    if features.dtype.itemsize > 4:
        with np.errstate(over="ignore"):  # infinite is said below
            features = features.astype(np.float32)
    if not features.size:
        raise UserError(f"{where}: no snippets; remove the video or extract its features again")
    if not _all_finite(features):
        finite = np.isfinite(features).all(axis=1)
        snippet = int(np.argmin(finite))
        value = "NaN" if np.isnan(features[snippet]).any() else "infinite"
        raise UserError(
            f"{where}: {value} features in {np.sum(~finite)} of {len(features)} snippets, first in "
            f"snippet {snippet}; extract the video's features again"
        )
    return features


def _all_finite(features: np.ndarray) -> bool:
    """What NumPy's isfinite says, for float16 by its bits: 15 times as fast."""
    if features.dtype != np.float16 or not features.flags.c_contiguous:
        return bool(np.isfinite(features).all())
    return bool((features.view(np.uint16) & 0x7FFF).max() < 0x7C00)


def join_streams(rgb: np.ndarray, flow: np.ndarray, where: str) -> np.ndarray:
    """(T, D) RGB and (T, D) flow features of a video as (T, 2D); UserError if they do not fit."""
    if rgb.shape != flow.shape:
        raise UserError(
            f"{where}: RGB features are {_shape(rgb)}, flow features {_shape(flow)}; wanted the "
            "same number of snippets and the same width, from the same frames"
        )
    return np.concatenate([rgb, flow], axis=-1)


def _shape(features: np.ndarray) -> str:
    return " x ".join(map(str, features.shape)) + " (snippets x width)"


_MOST_NAME = 200  # bytes


def check_name(name: str, where: str) -> str:
    """`name`, if a file can be called so and lies where it should; UserError otherwise."""
    blank = name != name.strip()
    if not _is_line(name) or blank or name in (".", "..") or "/" in name or "\\" in name:
        raise UserError(
            f"{where}: {shown(name)} cannot be a name; wanted 1 to {_MOST_NAME} bytes without "
            "slashes, control characters and outer blanks, as files are called so"
        )
    return name


def check_class(name: str, where: str) -> str:
    """`name`, if a class can be called so: lists of classes have a line for each."""
    if not _is_line(name):
        raise UserError(
            f"{where}: {shown(name)} cannot be the name of a class; wanted 1 to {_MOST_NAME} bytes "
            "without control characters"
        )
    return name


def _is_line(name: str) -> bool:
    """Whether it is not blank, printable, so that it can be encoded, and short."""
    return bool(name.strip()) and name.isprintable() and len(name.encode()) <= _MOST_NAME
