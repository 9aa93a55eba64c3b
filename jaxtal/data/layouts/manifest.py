"""jaxtal.json, the manifest of a data set written by `jaxtal data convert`.

Every layout can be read without it, but some cannot represent everything, for example the time
grid.

{"layout": ..., "name": ..., "grid": {"fps": ..., "stride": ..., "window": ...}, "stream_widths":
features per snippet of each stream, [] for two equal halves, "videos": {name: {"snippets": T,
"fps": only if it differs from the grid's}}, "conversion": checksum of the source and the target
layout}
"""

import dataclasses
from pathlib import Path
from typing import Any

from jaxtal.data.dataset import (
    LEAST_POSITIVE,
    MOST_POSITIVE,
    Dataset,
    TimeGrid,
    Video,
    as_stream_widths,
)
from jaxtal.data.io import json_files
from jaxtal.data.io.files import check_name
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.errors import DataError, short_repr

NAME = "jaxtal.json"
_FORM = "a file of jaxtal data convert; delete it to read the folder without it"


def content(
    layout: str, dataset: Dataset, snippets: dict[str, int], conversion: int
) -> dict[str, Any]:
    """Return the content of the manifest.

    Args:
        layout: name of the layout.
        dataset: the videos, grid and name.
        snippets: video name -> number of snippets T; empty for annotations only.
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
            video.name: {"snippets": snippets.get(video.name, 0)}
            | ({} if video.fps is None else {"fps": video.fps})
            for video in dataset.videos
        },
    }


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


def apply(source: LazyDataset) -> LazyDataset:
    """Return a data set with the time grid and the streams in its folder's manifest.

    Args:
        source: the data set, whose folder has a manifest.

    Raises:
        DataError: the manifest is malformed.
    """
    path, stated = source.path / NAME, _load(source.path)
    entries = _entries(stated, path)
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


def _positive(value: Any, what: str, path: Path) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not LEAST_POSITIVE <= value < MOST_POSITIVE:
        raise DataError(f"{path}: {what} is {short_repr(value)}; wanted a number above 0, {_FORM}")
    return float(value)
