"""Features of videos of which nothing else is known: .npy files, one or two for every video.

| path | what |
|---|---|
| `VIDEO.npy` | (T, 2D) features of one video, RGB columns before flow |
| a folder | such files, `VIDEO.npy` each |
| a folder with `rgb/` and `flow/` | (T, D) each, `rgb/VIDEO.npy` and `flow/VIDEO.npy` |
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxtal.data import features
from jaxtal.errors import UserError

_STREAMS = ("rgb", "flow")
_FORM = (
    "wanted VIDEO.npy, a folder of such files, a folder with rgb/VIDEO.npy and flow/VIDEO.npy, or "
    "a data set in one of the known layouts"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """A video's features where they lie.

    Attributes:
        name: of the video.
        shape: (T, 2D) of the features, known without reading them.
        read: returns them, float16 or float32, checked; raises UserError.
        where: for messages.
        fps: frames per second, where they are this video's own.
    """

    name: str
    shape: tuple[int, int]
    read: Callable[[], np.ndarray]
    where: str
    fps: float | None = None


def find(path: Path) -> list[tuple[str, tuple[Path, ...]]]:
    """Names of all videos below `path`, sorted, and the file or the RGB and flow file of each.

    Raises:
        UserError: there is none; a video lacks one of two streams; a name cannot be one.
    """
    if path.is_file() and path.suffix == ".npy":
        return [(features.check_name(path.stem, f"{path}"), (path,))]
    if not path.is_dir():
        what = "is no .npy file" if path.exists() else "no such file or folder"
        raise UserError(f"{path}: {what}; {_FORM}")
    streams = [path / stream for stream in _STREAMS]
    if not all(stream.is_dir() for stream in streams):
        streams = [path]
    names = [_names(stream) for stream in streams]
    if not any(names):
        raise UserError(f"{path}: no .npy files in it; {_FORM}")
    if lonely := sorted(set(names[0]) ^ set(names[-1])):
        stream = streams[lonely[0] in names[0]]
        raise UserError(
            f"{stream}: no {lonely[0]}.npy ({len(lonely)} videos have only one of the two "
            "streams); add it, or remove the other stream's file"
        )
    return [(name, tuple(stream / f"{name}.npy" for stream in streams)) for name in names[0]]


def _names(folder: Path) -> list[str]:
    files = sorted(file for file in folder.glob("*.npy") if not file.name.startswith("."))
    return [features.check_name(file.stem, f"{folder}") for file in files]


def read(paths: tuple[Path, ...]) -> np.ndarray:
    """(T, 2D) features of a video from its file, or from its RGB and flow file.

    Raises:
        UserError: a file is missing or damaged, or two do not fit.
    """
    first, *second = (features.load(path) for path in paths)
    return features.join_streams(first, second[0], f"{paths[0]}") if second else first


def stored(name: str, paths: tuple[Path, ...]) -> Stored:
    """A video found by `find`, of which nothing is read but the files' headers.

    Raises:
        UserError: a file is missing or damaged, or holds something else.
    """
    shapes = [_shape(path) for path in paths]
    shape = shapes[0][0], sum(width for _, width in shapes)
    return Stored(name, shape, functools.partial(read, paths), f"{paths[0]}")


def _shape(path: Path) -> tuple[int, int]:
    shape = features.shape(path)
    if len(shape) != 2 or 0 in shape:
        features.load(path)  # says what is wrong
    return shape[0], shape[1]
