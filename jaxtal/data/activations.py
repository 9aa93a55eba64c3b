"""Saved T-CAMs and attentions of videos: one .npz file, without pickles.

`grid` holds frames per second, stride in frames and window in frames, for all videos together (3,)
or for each video (V, 3). The default is 25, 16, 16; in a grid (2,) the window equals the stride.

| array | content |
|---|---|
| `videos` | (V,) names |
| `classes` | (C,) names |
| `rows` | (V,) int, rows of each video's arrays; 0 for a video without outputs |
| `snippets` | (V,) int, snippets that each video's rows cover; optional, default `rows` |
| `durations` | (V,) float, in seconds, above 0; optional |
| `grid` | (2,), (3,) or (V, 3) float; optional |
| `members` | names of all arrays in the file, so that a lost one is noticed; optional |
| `cas`, `attention`, ... | (sum of rows, n) float, the method's outputs, videos concatenated |
| `scores`, ... | (V, 1, n) float, outputs with a single row per video |
"""

import dataclasses
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from jaxtal.data.dataset import LEAST_POSITIVE, MOST_POSITIVE, TimeGrid
from jaxtal.data.io import object_arrays
from jaxtal.data.io.files import atomic_write, check_class, check_name, check_unique, open_regular
from jaxtal.data.io.zip_files import check_disjoint, read_member
from jaxtal.errors import DataError, short_repr

_FORM = "wanted the arrays videos, classes, rows, and the method's outputs, e.g. cas and attention"
_UNPACKED, _TIMES = 2**26, 64  # bytes, and times the file's own size, that may be unpacked
_MOST_SNIPPETS = 10**7  # per video: 74 days at 25 fps and a stride of 16 frames
_OURS = ("videos", "classes", "rows", "snippets", "durations", "grid", "members")


@dataclasses.dataclass(frozen=True, eq=False)
class Activations:
    """Outputs of a model for V videos.

    Attributes:
        videos: names of the videos.
        classes: names of the classes.
        outputs: {name: (T, n)} for every video, with (1, n) for an output that a video has once;
            {} for a video without outputs.
        snippets: (V,) int, number of snippets of every video.
        grid: the time grid of the snippets.
        durations: (V,) float64, duration of every video in seconds, infinite if it is unknown.
    """

    videos: tuple[str, ...]
    classes: tuple[str, ...]
    outputs: list[dict[str, np.ndarray]]
    snippets: np.ndarray
    grid: TimeGrid
    durations: np.ndarray


def write(path: Path, activations: Activations) -> None:
    """Write `activations` to a file atomically.

    Args:
        path: the .npz file.
        activations: outputs of a model.

    Raises:
        DataError: the file cannot be written.
    """
    seen = [output for output in activations.outputs if output]
    rows = np.array([max(map(len, output.values()), default=0) for output in activations.outputs])
    arrays = {
        "videos": np.array(activations.videos),
        "classes": np.array(activations.classes),
        "rows": rows,
        "snippets": np.asarray(activations.snippets),
        "durations": np.asarray(activations.durations),
        "grid": np.stack(np.broadcast_arrays(*dataclasses.astuple(activations.grid)), -1),
    }
    for name in seen[0] if seen else ():
        arrays[name] = np.concatenate([output[name] for output in seen])
        if len(arrays[name]) != rows.sum():  # one row per video
            full = np.zeros((len(rows), 1, arrays[name].shape[1]), arrays[name].dtype)
            full[rows > 0, 0] = arrays[name]
            arrays[name] = full
    arrays["members"] = np.array(sorted(arrays))
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read(path: Path, wanted: tuple[str, ...]) -> Activations:
    """Read a file written by `write` or by another program.

    Args:
        path: the .npz file.
        wanted: names of the outputs to read, see `Method.localization_inputs`.

    Returns:
        The outputs in `wanted`, with names, counts and time grid.

    Raises:
        DataError: the file is missing, malformed or inconsistent.
    """
    arrays = _load(path, (*_OURS, *wanted))
    for name in ("videos", "classes", "rows", *wanted):
        if name not in arrays:
            raise DataError(f"{path}: no array {name!r}, only {', '.join(arrays)}; {_FORM}")
    for name in np.ravel(arrays.get("members", ())).tolist():
        if name in _OURS and name not in arrays:
            raise DataError(f"{path}: damaged: its array {name!r} is missing; copy it again")
    videos = _names(arrays["videos"], f"{path}, videos", check_name)
    classes = _names(arrays["classes"], f"{path}, classes", check_class)
    check_unique(list(videos), f"{path}, videos")
    check_unique(list(classes), f"{path}, classes")
    rows = _counts(arrays["rows"], f"{path}, rows", len(videos))
    snippets = _counts(arrays.get("snippets", rows), f"{path}, snippets", len(videos))
    if ((rows > 0) & (snippets == 0)).any():
        video = videos[int(np.argmax((rows > 0) & (snippets == 0)))]
        raise DataError(
            f"{path}, snippets, video {video}: 0 snippets for its rows; wanted 1 or more"
        )
    grid = arrays.get("grid", np.array([25.0, 16]))
    shapes = (2,), (3,), (len(videos), 3)
    numbers = grid.astype(np.float64) if grid.dtype.kind in "iuf" else np.array(np.nan)
    positive = ((numbers >= LEAST_POSITIVE) & (numbers < MOST_POSITIVE)).all()
    if grid.shape not in shapes or not positive:
        raise DataError(
            f"{path}: grid is {short_repr(grid.tolist())}; wanted frames per second, stride and "
            "window (in frames, above 0), for all videos (3,) or for each video (V, 3)"
        )
    fps, *frames = np.moveaxis(numbers, -1, 0)
    if any(np.ptp(of_videos) for of_videos in frames):
        raise DataError(f"{path}: grid has videos with different strides or windows; wanted one")
    grids = TimeGrid(fps if fps.ndim else float(fps), *(float(np.ravel(x)[0]) for x in frames))
    ends = np.cumsum(rows)
    for name in wanted:
        _check(arrays[name], name, path, videos, rows)
    outputs = []
    for index, (end, count) in enumerate(zip(ends.tolist(), rows.tolist(), strict=True)):
        outputs.append(
            {
                name: array[index] if array.ndim == 3 else array[end - count : end]
                for name, array in ((name, arrays[name]) for name in wanted)
            }
            if count
            else {}
        )
    durations = _durations(arrays.get("durations"), path, len(videos))
    return Activations(videos, classes, outputs, snippets, grids, durations)


def _load(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    with open_regular(path, "an .npz file") as stream:
        if stream.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
            raise DataError(f"{path}: a single array; {_FORM}")
        try:
            with zipfile.ZipFile(stream) as archive:
                check_disjoint(archive)
                members = _members(archive, os.fstat(stream.fileno()).st_size, names)
                return {
                    name: object_arrays.plain(read_member(archive, m))
                    for name, m in members.items()
                }
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}; wanted an .npz file") from None
        except Exception as error:  # parsing an untrusted file may raise any exception
            raise DataError(
                f"{path}: not a complete .npz file without pickles "
                f"({short_repr(str(error), 120)}); "
                f"{_FORM}"
            ) from None


def _members(archive: zipfile.ZipFile, size: int, names) -> dict[str, zipfile.ZipInfo]:
    """Return the members with these names; ValueError if they would decompress to too much."""
    listed = {info.filename: info for info in archive.infolist()}
    members = {name: listed[f"{name}.npy"] for name in names if f"{name}.npy" in listed}
    # The memory that other compression methods need is chosen by the file.
    if any(
        m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members.values()
    ):
        raise ValueError("a compression method that numpy.savez_compressed does not use")
    unpacked = sum(member.file_size for member in members.values())
    if unpacked > max(_UNPACKED, _TIMES * size):
        raise ValueError(f"{unpacked} bytes compressed to {size}")
    return members


def _names(values: np.ndarray, where: str, check: Callable[[str, str], str]) -> tuple[str, ...]:
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind != "U" or values.ndim != 1 or not len(values):
        raise DataError(f"{where}: {values.shape} of type {values.dtype}; wanted (n,) names")
    return tuple(check(name, where) for name in values.tolist())


def _counts(values: Any, where: str, count: int) -> np.ndarray:
    values = np.ravel(values)
    fits = values.dtype.kind in "iu" and ((values >= 0) & (values <= _MOST_SNIPPETS)).all()
    if len(values) != count or not fits:
        raise DataError(
            f"{where}: {len(values)} values of type {values.dtype}; wanted {count} whole numbers, "
            f"0 to {_MOST_SNIPPETS}, one for every video"
        )
    return values.astype(np.int64)


def _durations(values: Any, path: Path, count: int) -> np.ndarray:
    if values is None:
        return np.full(count, np.inf)
    if values.shape != (count,) or values.dtype.kind != "f" or not (values > 0).all():
        raise DataError(
            f"{path}: durations are {values.shape} of type {values.dtype}; wanted ({count},) "
            "floats above 0, in seconds"
        )
    return values.astype(np.float64)


def _check(array: np.ndarray, name: str, path: Path, videos: tuple[str, ...], rows) -> None:
    """Raise DataError unless an output has the right shape and is finite."""
    if name.startswith("attention") and array.shape[-1:] != (1,):
        raise DataError(f"{path}, {name}: an array of shape {array.shape}; wanted (..., 1)")
    shapes = (int(rows.sum()),), (len(rows), 1)
    if array.ndim < 2 or array.shape[:-1] not in shapes or array.dtype.kind != "f":
        raise DataError(
            f"{path}, {name}: an array of shape {array.shape} and type {array.dtype}; wanted "
            f"({rows.sum()}, n) floats, as many as the videos have rows, or ({len(rows)}, 1, n)"
        )
    finite = np.isfinite(array).all(axis=-1)
    if not finite.all():
        video = row = int(np.argmin(finite))
        if array.ndim == 2:
            video = int(np.searchsorted(np.cumsum(rows), row, "right"))
            row -= int(rows[:video].sum())
        raise DataError(
            f"{path}, {name}, video {videos[video]}: not a finite number, row {row} (counted from "
            "0)"
        )
