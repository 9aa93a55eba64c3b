"""Annotations in ActivityNet form: one JSON file for all videos."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data.dataset import (
    FOREVER,
    LEAST_POSITIVE,
    WTALC_GRID,
    Dataset,
    TimeGrid,
    Video,
    class_indices,
    normalize_subset,
    train_and_test,
)
from jaxtal.data.io import json_files
from jaxtal.data.io.files import check_class, check_name
from jaxtal.errors import DataError, short_repr

_FORM = (
    '{"database": {video: {"subset": ..., "duration": seconds, "annotations": [{"label": ..., '
    '"segment": [start, end]}]}}} (ActivityNet form)'
)
_GRID = {"feature_fps", "feature_stride", "feature_window"}
_field = functools.partial(json_files.field, form=_FORM)


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """Options for files that lack fields of the ActivityNet form, or deviate from it.

    Attributes:
        training: require training videos; otherwise a single subset becomes the test videos.
        split: video name -> subset, from lists beside the file; videos in no list are skipped.
            None: use the field "subset".
        classes: the class names in order; (): the file's own list, or its labels sorted.
        duration: video name -> duration in seconds, for files without durations; None: the file
            must have them.
        grid: the time grid, unless the file states it.
        fps: (entry, duration in seconds) -> frames per second of the video's features, or None for
            those of `grid`; unused if the file states its time grid.
        ambiguous: label of annotated intervals in which detections are not evaluated.
    """

    training: bool = True
    split: Mapping[str, str] | None = None
    classes: tuple[str, ...] = ()
    duration: Callable[[str], float | None] | None = None
    grid: TimeGrid = WTALC_GRID
    fps: Callable[[dict, float], Any] = lambda entry, seconds: None
    ambiguous: str = ""


def read(path: Path, training: bool = True) -> Dataset:
    """Read the videos of an ActivityNet-form JSON file, without features.

    Args:
        path: the file.
        training: require training videos; otherwise a single subset becomes the test videos.

    Returns:
        The data set with its time grid, by default 25 fps and a stride of 16 frames.

    Raises:
        DataError: the file is missing, malformed or contradictory.
    """
    return read_as(path, ReadOptions(training))[0]


def read_as(path: Path, reading: ReadOptions) -> tuple[Dataset, bool]:
    """Read the videos of a JSON file that may deviate from ActivityNet form, without features.

    Without "video_labels" a video's labels are the classes of its instances. Subsets other than
    the training and the test subset (ActivityNet's withheld "testing") are skipped. "feature_fps",
    "feature_stride" and "feature_window" are the time grid, by default 25, 16 and the stride.

    Args:
        path: the file.
        reading: options for deviating files.

    Returns:
        The data set, and True if the file states its time grid.

    Raises:
        DataError: the file is missing, malformed or contradictory.
    """
    content = json_files.load(path, _FORM)
    if not isinstance(content.get("database"), dict):
        raise DataError(f'{path}: no "database" of videos; wanted {_FORM}')
    subsets: dict[str, dict[str, dict]] = {}
    for name, entry in content["database"].items():
        where = f"{path}, video {check_name(name, f'{path}')}"
        if reading.split is None:
            stated = json_files.as_text(_field(entry, "subset", where), "subset", where)
            subset = normalize_subset(stated)
        elif name in reading.split:
            subset = reading.split[name]
        else:
            continue
        subsets.setdefault(subset, {})[name] = entry
    has_time_grid = bool(_GRID & content.keys())
    if has_time_grid:
        reading = dataclasses.replace(reading, fps=lambda entry, _: entry.get("feature_fps"))
    split = train_and_test(subsets, f'{path}, "subset" of the videos', reading.training)
    parts = [subsets.get(part, {}) for part in split]
    classes = reading.classes or _class_list(content, parts, path, reading.ambiguous)
    train, test = (
        tuple(_to_video(path, name, entry, classes, reading) for name, entry in part.items())
        for part in parts
    )
    name = content.get("name")
    # Conversion uses the name in file names.
    name = check_name(name, f'{path}, "name"') if isinstance(name, str) and name else path.stem
    grid = _grid(content, reading.grid, f"{path}")
    return Dataset(name, classes, train, test, grid), has_time_grid


def video_names(path: Path) -> list[str]:
    """Return the names of all videos in a JSON file; none if it has no "database".

    Args:
        path: the file.

    Raises:
        DataError: the file is missing or no JSON object.
    """
    database = json_files.load(path, _FORM).get("database")
    return list(database) if isinstance(database, dict) else []


def _grid(content: dict[str, Any], default: TimeGrid, where: str) -> TimeGrid:
    names = ("feature_fps", "feature_stride", "feature_window")
    stride = content.get(names[1], default.stride)
    window = default.window if names[1] not in content else stride
    values = content.get(names[0], default.fps), stride, content.get(names[2], window)
    fps, stride, window = (
        float(_numbers(value, (), name, where)) for name, value in zip(names, values, strict=True)
    )
    if min(fps, stride, window) < LEAST_POSITIVE:
        raise DataError(
            f"{where}: {', '.join(names)} are {fps}, {stride}, {window}; wanted above 0"
        )
    return TimeGrid(fps, stride, window)


def _list(entry: Any, key: str, where: str) -> list:
    values = _field(entry, key, where)
    if not isinstance(values, list):
        raise DataError(f'{where}: "{key}" is {short_repr(values)}; wanted a list, {_FORM}')
    return values


def _labels(entry: Any, where: str) -> list[str]:
    """Return the class name of every annotated instance."""
    return [
        json_files.as_text(_field(one, "label", within), "label", within)
        for index, one in enumerate(_list(entry, "annotations", where))
        for within in [f"{where}, annotation {index}"]
    ]


def _class_list(content: dict[str, Any], subsets, path: Path, ambiguous: str) -> tuple[str, ...]:
    """Return the file's class list in its order, or else all labels sorted."""
    if "classes" in content or "class-list" in content:
        classes = content.get("classes", content.get("class-list"))
        if isinstance(classes, dict) and all(str(n) in classes for n in range(len(classes))):
            classes = [classes[str(n)] for n in range(len(classes))]
        names = [
            check_class(json_files.as_text(name, "classes", f"{path}"), f'{path}, "classes"')
            for name in (classes if isinstance(classes, list) else ())
        ]
        if not names or len(set(names)) < len(names):
            raise DataError(
                f'{path}: "classes" is {short_repr(classes)}; wanted a list of distinct names'
            )
        return tuple(names)
    labels = set()
    for videos in subsets:
        for name, entry in videos.items():
            labels |= set(_labels(entry, f"{path}, video {name}"))
    return tuple(check_class(name, f"{path}, labels") for name in sorted(labels - {ambiguous}))


def _to_video(path: Path, name: str, entry: dict[str, Any], classes, reading: ReadOptions) -> Video:
    where = f"{path}, video {name}"
    named = _labels(entry, where)
    evaluated = np.array([label != reading.ambiguous for label in named], bool)
    segment_labels = class_indices(
        [label for label in named if label != reading.ambiguous], classes, where
    )
    labels = segment_labels
    if "video_labels" in entry:
        listed = _list(entry, "video_labels", where)
        listed = [json_files.as_text(label, "video_labels", where) for label in listed]
        labels = class_indices(listed, classes, where)
    segments = np.reshape(
        [
            _numbers(_field(one, "segment", where), (2,), "segment", f"{where}, annotation {index}")
            for index, one in enumerate(entry["annotations"])
        ],
        (-1, 2),
    )
    duration = _duration(entry, name, segments, reading, where)
    ambiguous = _numbers(entry.get("ambiguous", []), (-1, 2), "ambiguous", where)
    fps = reading.fps(entry, duration)
    if fps is not None:
        fps = float(_numbers(fps, (), "fps", where))
    if fps is not None and fps < LEAST_POSITIVE:
        raise DataError(f"{where}: fps is {fps}; wanted frames per second, above 0")
    return Video(
        name=name,
        duration=duration,
        labels=np.unique(labels),
        segments=segments[evaluated],
        segment_labels=segment_labels,
        ambiguous=np.concatenate([ambiguous, segments[~evaluated]]),
        fps=fps,
    )


def _duration(
    entry: dict[str, Any], name: str, segments, reading: ReadOptions, where: str
) -> float:
    """Return seconds from the file, from `reading`, or the end of the last instance."""
    if "duration" in entry or reading.duration is None:
        duration = float(_numbers(_field(entry, "duration", where), (), "duration", where))
    else:
        duration = reading.duration(name) or float(segments.max(initial=0.0)) or 1.0
    if duration <= 0:
        raise DataError(f"{where}: duration is {duration}; wanted seconds above 0")
    return duration


def _numbers(value: Any, shape: tuple[int, ...], what: str, where: str) -> np.ndarray:
    try:
        numbers = np.array(value, np.float64).reshape(shape)
    except (TypeError, ValueError, OverflowError):
        numbers = np.array(np.nan)
    if not (np.abs(numbers) < FOREVER).all():
        wanted = "[start, end] in seconds" if shape else "a number"
        raise DataError(f'{where}: "{what}" is {short_repr(value)}; wanted {wanted}')
    return numbers


def to_content(
    dataset: Dataset,
    subsets: tuple[str, str] = ("training", "validation"),
    segment: Callable[[list[float]], list] = lambda times: times,
    more: Callable[[Video], dict[str, Any]] = lambda video: {},
    of_instance: Callable[[Video, int, list[float]], dict[str, Any]] = lambda *_: {},
) -> dict[str, Any]:
    """Return a data set's annotations as a JSON object in ActivityNet form.

    Args:
        dataset: the videos, with or without features.
        subsets: names of the training and the test subset.
        segment: [start, end] in seconds -> the value of "segment".
        more: video -> further fields of its entry.
        of_instance: (video, class index, [start, end]) -> further fields of an instance.

    Returns:
        An object that `read` reads back once it is written as JSON.
    """
    database = {
        video.name: {
            "subset": subset,
            "duration": video.duration,
            "annotations": [
                {
                    "label": dataset.classes[label],
                    "segment": segment(times),
                    **of_instance(video, label, times),
                }
                for label, times in zip(
                    video.segment_labels.tolist(), video.segments.tolist(), strict=True
                )
            ],
            "video_labels": [dataset.classes[label] for label in video.labels.tolist()],
            "ambiguous": video.ambiguous.tolist(),
            **({} if video.fps is None else {"feature_fps": video.fps}),
            **more(video),
        }
        for subset, videos in zip(subsets, (dataset.train, dataset.test), strict=True)
        for video in videos
    }
    grid = {
        f"feature_{name}": float(value) for name, value in dataclasses.asdict(dataset.grid).items()
    }
    classes = list(dataset.classes)
    return {"name": dataset.name, "classes": classes, **grid, "database": database}


def as_text(times: list[float]) -> list[str]:
    """Return times as strings, as in BaSNet's and HAM-Net's files.

    Args:
        times: times in seconds.

    Returns:
        A string per time, from which `float` restores the exact value.
    """
    return [repr(time) for time in times]


def to_json(dataset: Dataset) -> str:
    """Return a data set's annotations as JSON text in ActivityNet form, which `read` reads back.

    Args:
        dataset: the videos, with or without features.
    """
    return json.dumps(to_content(dataset))
