"""Annotations in ActivityNet form: one JSON file for all videos."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data import json_files
from jaxtal.data.dataset import Dataset, TimeGrid, Video, class_indices, train_and_test
from jaxtal.errors import UserError

_FORM = (
    '{"database": {video: {"subset": ..., "duration": seconds, "annotations": [{"label": ..., '
    '"segment": [start, end]}]}}} (ActivityNet form)'
)
_FOREVER = 1e9  # seconds, 32 years: no time of a video
_field = functools.partial(json_files.field, form=_FORM)


def read(path: Path, training: bool = True) -> Dataset:
    """Videos without features from an ActivityNet-form JSON file.

    Without "video_labels" a video's labels are those of its instances. Subsets other than the
    training and the test subset (ActivityNet's withheld "testing") are left out. "feature_fps" and
    "feature_stride" are the time grid, by default 25 and 16.

    Args:
        training: there must be training videos; else a single subset is the test videos.

    Raises:
        UserError: the file is missing, is not JSON, or lacks or contradicts something.
    """
    content = json_files.load(path, _FORM)
    if not isinstance(content.get("database"), dict):
        raise UserError(f'{path}: no "database" of videos; wanted {_FORM}')
    subsets: dict[str, dict[str, dict]] = {}
    for name, entry in content["database"].items():
        subset = str(_field(entry, "subset", f"{path}, video {name}")).lower()
        subsets.setdefault(subset, {})[name] = entry
    split = train_and_test(subsets, f'{path}, "subset" of the videos', training)
    parts = [subsets.get(part, {}) for part in split]
    classes = _class_list(content, parts, path)
    train, test = (
        tuple(_to_video(path, name, entry, classes) for name, entry in part.items())
        for part in parts
    )
    return Dataset(path.stem, classes, train, test, _grid(content, f"{path}"))


def _grid(content: dict[str, Any], where: str) -> TimeGrid:
    names, default = ("feature_fps", "feature_stride"), TimeGrid()
    fps, stride = (
        float(_numbers(content.get(name, value), (), name, where))
        for name, value in zip(names, (default.fps, default.stride), strict=True)
    )
    if min(fps, stride) <= 0:
        raise UserError(f"{where}: {' and '.join(names)} are {fps}, {stride}; wanted above 0")
    return TimeGrid(fps, stride)


def _list(entry: Any, key: str, where: str) -> list:
    values = _field(entry, key, where)
    if not isinstance(values, list):
        raise UserError(f'{where}: "{key}" is {values!r:.80}; wanted a list, {_FORM}')
    return values


def _labels(entry: Any, where: str) -> list[str]:
    """The class of every annotated instance."""
    return [
        str(_field(one, "label", f"{where}, annotation {index}"))
        for index, one in enumerate(_list(entry, "annotations", where))
    ]


def _class_list(content: dict[str, Any], subsets: list[dict], path: Path) -> tuple[str, ...]:
    """The file's own list, which fixes the order, or else all labels in alphabetical order."""
    if "classes" in content:
        classes = content["classes"]
        if (
            not classes
            or not isinstance(classes, list)
            or len(set(map(str, classes))) < len(classes)
        ):
            raise UserError(
                f'{path}: "classes" is {str(classes)[:80]}; wanted a list of distinct names'
            )
        return tuple(map(str, classes))
    labels = set()
    for videos in subsets:
        for name, entry in videos.items():
            labels |= set(_labels(entry, f"{path}, video {name}"))
    return tuple(sorted(labels))


def _to_video(path: Path, name: str, entry: dict[str, Any], classes: tuple[str, ...]) -> Video:
    where = f"{path}, video {name}"
    segment_labels = class_indices(_labels(entry, where), classes, where)
    labels = segment_labels
    if "video_labels" in entry:
        labels = class_indices([*map(str, _list(entry, "video_labels", where))], classes, where)
    duration = _numbers(_field(entry, "duration", where), (), "duration", where)
    if duration <= 0:
        raise UserError(f"{where}: duration is {duration}; wanted seconds above 0")
    segments = [
        _numbers(_field(one, "segment", where), (2,), "segment", f"{where}, annotation {index}")
        for index, one in enumerate(entry["annotations"])
    ]
    return Video(
        name=name,
        duration=float(duration),
        labels=np.unique(labels),
        segments=np.reshape(segments, (-1, 2)),
        segment_labels=segment_labels,
        ambiguous=_numbers(entry.get("ambiguous", []), (-1, 2), "ambiguous", where),
    )


def _numbers(value: Any, shape: tuple[int, ...], what: str, where: str) -> np.ndarray:
    try:
        numbers = np.array(value, np.float64).reshape(shape)
    except (TypeError, ValueError, OverflowError):
        numbers = np.array(np.nan)
    if not (np.abs(numbers) < _FOREVER).all():
        wanted = "[start, end] in seconds" if shape else "a number"
        raise UserError(f'{where}: "{what}" is {str(value)[:80]}; wanted {wanted}')
    return numbers


def to_json(dataset: Dataset) -> str:
    """A data set's annotations as text, which `read` reads back."""
    database = {
        video.name: {
            "subset": subset,
            "duration": video.duration,
            "annotations": [
                {"label": dataset.classes[label], "segment": segment}
                for label, segment in zip(
                    video.segment_labels.tolist(), video.segments.tolist(), strict=True
                )
            ],
            "video_labels": [dataset.classes[label] for label in video.labels.tolist()],
            "ambiguous": video.ambiguous.tolist(),
        }
        for subset, videos in (("training", dataset.train), ("validation", dataset.test))
        for video in videos
    }
    grid = {"feature_fps": float(dataset.grid.fps), "feature_stride": float(dataset.grid.stride)}
    return json.dumps({"classes": dataset.classes, **grid, "database": database})
