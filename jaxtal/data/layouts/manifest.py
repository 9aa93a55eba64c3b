"""jaxtal.json, the manifest of a data set written by `jaxtal data convert`.

Every layout can be read without it, but some cannot represent everything, for example the time
grid.

{"layout": ..., "name": ..., "grid": {"fps": ..., "stride": ..., "window": ...}, "stream_widths":
features per snippet of each stream, [] for two equal halves, "videos": {name: {"snippets": T,
"crc32": of the features, "fps": only if it differs from the grid's}}, "annotations": {file:
SHA-256}, "conversion": checksum of the source and the target layout, "sha256": of all this}
"""

import dataclasses
import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data.dataset import (
    LEAST_POSITIVE,
    MOST_POSITIVE,
    Dataset,
    TimeGrid,
    Video,
    as_stream_widths,
)
from jaxtal.data.io import checksums, json_files
from jaxtal.data.io.files import check_name
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.errors import DataError, short_repr

NAME = "jaxtal.json"
_LACKS = (
    f"there are no checksums in {NAME}; convert the data set again (jaxtal data convert), or state "
    "verify=auto"
)
_REMEDY = "copy or convert the data set again, or, if the change is intended, state verify=never"
_FORM = "a file of jaxtal data convert; delete it to read the folder without it"


def content(
    layout: str,
    dataset: Dataset,
    videos: dict[str, dict[str, int]],
    annotations: dict[str, str],
    conversion: int,
) -> dict[str, Any]:
    """Return the content of the manifest.

    Args:
        layout: name of the layout.
        dataset: the videos, grid and name.
        videos: video name -> {"snippets": T, "crc32": as returned by `checksum`}; empty for
            annotations only.
        annotations: SHA-256 of each file of annotations.
        conversion: checksum that identifies the conversion.

    Returns:
        The JSON object in the module's docstring.
    """
    return {
        "conversion": conversion,
        "layout": layout,
        "name": dataset.name,
        "grid": dataclasses.asdict(dataset.grid),
        "stream_widths": list(dataset.stream_widths),
        "videos": {
            video.name: {"snippets": 0}
            | videos.get(video.name, {})
            | ({} if video.fps is None else {"fps": video.fps})
            for video in dataset.videos
        },
        "annotations": annotations,
    }


def checksum(features: np.ndarray) -> int:
    """Return the CRC-32 of features, which takes a few percent of the time of reading them.

    Args:
        features: (T, 2D) features, of the dtype in the files.
    """
    return zlib.crc32(np.ascontiguousarray(features).data)


def layout(folder: Path) -> str:
    """Return the layout in a folder's manifest.

    Args:
        folder: the data set's folder.

    Raises:
        DataError: the manifest is malformed.
    """
    stated = json_files.field(_load(folder), "layout", f"{folder / NAME}", _FORM)
    return json_files.as_text(stated, "layout", f"{folder / NAME}")


def name(folder: Path) -> str:
    """Return the name of the data set in a folder's manifest.

    Args:
        folder: the data set's folder.

    Raises:
        DataError: the manifest is missing or malformed.
    """
    stated = json_files.field(_load(folder), "name", f"{folder / NAME}", _FORM)
    return check_name(str(stated), f"{folder / NAME}")


def conversion(folder: Path) -> int | None:
    """Return the checksum of the conversion that wrote a folder, None without a manifest.

    Args:
        folder: the data set's folder.

    Raises:
        DataError: the manifest is malformed.
    """
    return _load(folder).get("conversion") if (folder / NAME).is_file() else None


def _entries(stated: dict[str, Any], path: Path) -> dict[str, Any]:
    entries = stated.get("videos")
    if not isinstance(entries, dict):
        raise DataError(f'{path}: "videos" is {short_repr(entries)}; wanted {_FORM}')
    return entries


def _load(folder: Path) -> dict[str, Any]:
    return json_files.load(folder / NAME, _FORM)


def apply(source: LazyDataset, verify: str = "auto") -> LazyDataset:
    """Return a data set with the time grid and the streams in its folder's manifest.

    Args:
        source: the data set, whose folder has a manifest.
        verify: as in `ReadingOptions`; unless "never", the features of each video are compared with
            their checksum when they are read.

    Raises:
        DataError: the manifest is malformed.
    """
    path, stated = source.path / NAME, _load(source.path)
    entries = _entries(stated, path)
    if verify != "never":
        check = functools.partial(_check, source.path, entries, verify == "always")
        source = dataclasses.replace(source, check=check)
    numbers = json_files.field(stated, "grid", f"{path}", _FORM)
    fps, stride, window = (
        _positive(json_files.field(numbers, name, f"{path}", _FORM), name, path)
        for name in ("fps", "stride", "window")
    )

    def with_fps(video: Video) -> Video:
        entry = entries.get(video.name)
        own = entry.get("fps") if isinstance(entry, dict) else None
        return dataclasses.replace(video, fps=None if own is None else _positive(own, "fps", path))

    dataset = source.dataset.map(with_fps)
    dataset = dataclasses.replace(dataset, grid=TimeGrid(fps, stride, window))
    if widths := as_stream_widths(stated.get("stream_widths", []), f"{path}"):
        dataset = dataclasses.replace(dataset, stream_widths=widths)
    has_streams = source.has_streams or bool(widths)
    return dataclasses.replace(source, dataset=dataset, has_time_grid=True, has_streams=has_streams)


def check_annotations(folder: Path, verify: str) -> None:
    """Compare the files of annotations of a converted data set with their checksums.

    Args:
        folder: the data set's folder.
        verify: as in `ReadingOptions`.

    Raises:
        DataError: a file has changed, or there are no checksums and `verify` is "always".
    """
    exists = (folder / NAME).is_file()
    sums = _load(folder).get("annotations") if exists and verify != "never" else None
    if isinstance(sums, dict):
        if not (folder / checksums.LIST).exists():  # which only other programs need
            sums.pop(checksums.LIST, None)
        if changed := checksums.find_changed(folder, sums):
            raise DataError(f"{folder}: {changed[0]} since the conversion; {_REMEDY}")
    elif verify == "always":
        raise DataError(f"{folder}: verify=always, but {_LACKS}")


def _check(folder: Path, entries: dict[str, Any], required: bool, video: Video) -> None:
    """Raise DataError unless a video's features match the checksum in its entry, if it has one."""
    entry = entries.get(video.name)
    wanted = entry.get("crc32") if isinstance(entry, dict) else None
    if wanted is None and required:
        raise DataError(f"{folder}, video {video.name}: verify=always, but {_LACKS}")
    if wanted is not None and checksum(video.features) != wanted:
        raise DataError(
            f"{folder}, video {video.name}: the features have changed since the conversion; "
            f"{_REMEDY}"
        )


def _positive(value: Any, what: str, path: Path) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not LEAST_POSITIVE <= value < MOST_POSITIVE:
        raise DataError(f"{path}: {what} is {short_repr(value)}; wanted a number above 0, {_FORM}")
    return float(value)
