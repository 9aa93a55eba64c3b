"""Annotations in ActivityNet form: one JSON file for all videos."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtal.data.dataset import (
    FOREVER,
    LEAST_POSITIVE,
    WTALC_GRID,
    Dataset,
    TimeGrid,
    Video,
    class_indices,
    contains_bool,
    with_seconds,
)
from jaxtal.data.io import json_files
from jaxtal.data.io.files import check_class, check_name
from jaxtal.data.reading import (
    NOTHING_STATED,
    PARTS,
    UNLISTED,
    ReadingOptions,
    assign_subsets,
)
from jaxtal.errors import DataError, short_repr

_FORM = (
    '{"database": {video: {"subset": ..., "duration": seconds, "annotations": [{"label": ..., '
    '"segment": [start, end]}]}}} (ActivityNet form)'
)
_GRID = {"feature_fps", "feature_stride", "feature_window"}
# The unit of the annotations, if the duration is in seconds, or in that of the segments.
_WITHOUT_DURATION = {
    "seconds": "seconds", "frames": "segment_frames", "segment_frames": "segment_frames",
    "duration_frames": "seconds",
}  # fmt: skip
_AS_SEGMENTS = {
    "seconds": "seconds", "frames": "frames", "segment_frames": "frames",
    "duration_frames": "seconds",
}  # fmt: skip
# Fields of other programs' annotations, which would be taken for video-level labels.
_TIMES = {"start", "end", "segments", "timestamp", "timestamps", "start_time", "end_time"}
_field = functools.partial(json_files.field, form=_FORM)
_DURATIONS = ("duration", "duration_second", "duration_seconds")  # BMN's and others' names
_OF_VIDEO = ("label", "labels", "class", "classes")  # fields with labels of the whole video


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """Options for files that lack fields of the ActivityNet form, or deviate from it.

    Attributes:
        stated: statements of the user about the subsets.
        split: video name -> subset, from lists beside the file; videos in no list are in the subset
            `UNLISTED`. None: use the field "subset".
        classes: the class names in order; (): the file's own list, or its labels sorted.
        duration: (video name, time grid of the file and the video) -> duration in seconds, for
            files without durations; None: the file must have them.
        grid: the time grid, unless the file states it.
        fps: (entry, duration in seconds) -> frames per second of the video's features, or None for
            those of `grid`; unused if the file states its time grid.
        ambiguous: label of annotated intervals in which detections are not evaluated.
    """

    stated: ReadingOptions = NOTHING_STATED
    split: Mapping[str, str] | None = None
    classes: tuple[str, ...] = ()
    duration: Callable[[str, TimeGrid], float | None] | None = None
    grid: TimeGrid = WTALC_GRID
    fps: Callable[[dict, float], Any] = lambda entry, seconds: None
    ambiguous: str = ""


class Annotations(NamedTuple):
    """The content of a file of annotations.

    Attributes:
        dataset: the videos, without features.
        has_time_grid: True if the file states the time grid.
        unused: names of the videos by the name of a subset that is in no part of the data set.
    """

    dataset: Dataset
    has_time_grid: bool
    unused: dict[str, list[str]]


def read(path: Path) -> Dataset:
    """Read the videos of an ActivityNet-form JSON file, without features.

    Args:
        path: the file.

    Returns:
        The data set with its time grid, by default 25 fps and a stride of 16 frames.

    Raises:
        DataError: the file is missing, malformed or contradictory.
    """
    return read_as(path, ReadOptions()).dataset


def read_as(path: Path, reading: ReadOptions) -> Annotations:
    """Read the videos of a JSON file that may deviate from ActivityNet form, without features.

    A video's labels are "video_labels", or else the classes of its instances; annotations without a
    segment and labels of the whole video are added to them. "parts" states the subset of each
    part, which otherwise follow from their names, see `reading.assign_subsets`. "feature_fps",
    "feature_stride" and "feature_window" are the time grid, by default 25, 16 and the stride.

    Args:
        path: the file.
        reading: options for deviating files.

    Returns:
        The data set, and what else the file states.

    Raises:
        DataError: the file is missing, malformed or contradictory.
    """
    content = json_files.load(path, _FORM)
    if not isinstance(content.get("database"), dict):
        raise DataError(f'{path}: no "database" of videos; wanted {_FORM}')
    parts, unused = _parts(content, path, reading)
    has_time_grid = bool(_GRID & content.keys())
    if has_time_grid:
        reading = dataclasses.replace(reading, fps=lambda entry, _: entry.get("feature_fps"))
    grid = _grid(content, reading.grid, f"{path}")
    reading = dataclasses.replace(reading, grid=grid)
    classes = reading.classes or _class_list(content, parts.values(), path, reading.ambiguous)
    videos = {
        part: [_to_video(path, *named, classes, reading) for named in entries.items()]
        for part, entries in parts.items()
    }
    name = content.get("name")
    # Conversion uses the name in file names.
    name = check_name(name, f'{path}, "name"') if isinstance(name, str) and name else path.stem
    dataset = Dataset(name, classes, (), (), grid).with_parts(videos)
    return Annotations(dataset, has_time_grid, unused)


def _parts(
    content: dict[str, Any], path: Path, reading: ReadOptions
) -> tuple[dict[str, dict[str, dict]], dict[str, list[str]]]:
    """Return {part: {video: entry}}, and the names of the videos of each unused subset."""
    subset_of: dict[str, str] = {}
    annotated = set()
    for name, entry in content["database"].items():
        check_name(name, f"{path}")
        if reading.split is None:
            where = f"{path}, video {name}"
            stated = json_files.as_text(_field(entry, "subset", where), "subset", where)
            subset_of[name] = stated
        else:
            subset_of[name] = reading.split.get(name, UNLISTED)
        if _has_segment(entry):
            annotated.add(subset_of[name])
    counts = dict(Counter(subset_of.values()))
    options = reading.stated
    if not any(getattr(options, f"{part}_subset") for part in PARTS):
        options = _stated_subsets(content, options, f"{path}")
    assigned = assign_subsets(counts, annotated, options, f'{path}, "subset" of the videos')
    parts: dict[str, dict[str, dict]] = {part: {} for part in PARTS}
    unused: dict[str, list[str]] = {one: [] for one in counts if one not in assigned}
    for name, subset in subset_of.items():
        if subset in assigned:
            parts[assigned[subset]][name] = content["database"][name]
        else:
            unused[subset].append(name)
    return parts, unused


def _stated_subsets(content: dict[str, Any], options: ReadingOptions, where: str) -> ReadingOptions:
    """Return the options with the subsets that the file assigns, see `activitynet_writer`."""
    if not isinstance(stated := content.get("parts"), dict):
        return options
    names: dict[str, Any] = {
        f"{part}_subset": (json_files.as_text(stated[part], "parts", where),)
        for part in PARTS
        if part in stated
    }
    return dataclasses.replace(options, **names)


def entries(path: Path) -> dict[str, Any]:
    """Return {video: its unchecked entry} of a JSON file; {} if it has no "database".

    Args:
        path: the file.

    Raises:
        DataError: the file is missing or no JSON object.
    """
    database = json_files.load(path, _FORM).get("database")
    return database if isinstance(database, dict) else {}


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


def _has_segment(entry: Any) -> bool:
    listed = entry.get("annotations") if isinstance(entry, dict) else ()
    known = listed if isinstance(listed, list) else ()
    return any(isinstance(one, dict) and "segment" in one for one in known)


def _instances(entry: Any, where: str) -> list[dict[str, Any]]:
    """Return a video's annotations, with or without a segment; a text is a label without one."""
    if isinstance(entry, dict) and "annotations" not in entry:
        return []
    listed = _list(entry, "annotations", where)
    for index, one in enumerate(listed):
        if isinstance(one, dict) and "segment" not in one and (other := _TIMES & one.keys()):
            raise DataError(
                f"{where}, annotation {index}: times in {', '.join(sorted(other))}; wanted "
                '"segment": [start, end]'
            )
    return [{"label": one} if isinstance(one, str) else one for one in listed]


def _labels(instances: list[dict[str, Any]], where: str) -> list[str]:
    """Return the class name of every annotation."""
    return [
        json_files.as_text(_field(one, "label", within), "label", within)
        for index, one in enumerate(instances)
        for within in [f"{where}, annotation {index}"]
    ]


def _labels_of_video(entry: dict[str, Any], where: str) -> list[str]:
    """Return the class names in the fields `_OF_VIDEO`."""
    values = [(key, entry.get(key) or []) for key in _OF_VIDEO]
    listed = [(key, value if isinstance(value, list) else [value]) for key, value in values]
    return [json_files.as_text(one, key, where) for key, value in listed for one in value]


def _video_labels(entry: dict[str, Any], where: str) -> list[str]:
    listed = _list(entry, "video_labels", where) if "video_labels" in entry else []
    return [json_files.as_text(label, "video_labels", where) for label in listed]


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
            where = f"{path}, video {name}"
            labels |= {*_labels(_instances(entry, where), where)}
            labels |= {*_labels_of_video(entry, where), *_video_labels(entry, where)}
    return tuple(check_class(name, f"{path}, labels") for name in sorted(labels - {ambiguous}))


def _to_video(path: Path, name: str, entry: dict[str, Any], classes, reading: ReadOptions) -> Video:
    where = f"{path}, video {name}"
    instances = _instances(entry, where)
    labels = [*zip(instances, _labels(instances, where), strict=True)]
    timed = [label for one, label in labels if "segment" in one]
    evaluated = np.array([label != reading.ambiguous for label in timed], bool)
    instance_labels = [label for label in timed if label != reading.ambiguous]
    segment_labels = class_indices(instance_labels, classes, where)
    listed = _video_labels(entry, where) if "video_labels" in entry else instance_labels
    untimed = [label for one, label in labels if "segment" not in one]
    named = [label for label in untimed if label != reading.ambiguous]
    named += [*listed, *_labels_of_video(entry, where)]
    segments = np.reshape(
        [
            _numbers(one["segment"], (2,), "segment", f"{where}, annotation {index}")
            for index, one in enumerate(instances)
            if "segment" in one
        ],
        (-1, 2),
    )
    duration, unit = _duration(entry, name, segments, reading, where)
    ambiguous = _numbers(entry.get("ambiguous", []), (-1, 2), "ambiguous", where)
    fps = reading.fps(entry, duration)
    if fps is not None:
        fps = float(_numbers(fps, (), "fps", where))
    if fps is not None and fps < LEAST_POSITIVE:
        raise DataError(f"{where}: fps is {fps}; wanted frames per second, above 0")
    own = entry.get("fps")  # only the unit of annotated frames; of features, layouts decide
    if contains_bool(own):
        raise DataError(f"{where}: fps is {short_repr(own)}; wanted frames per second, above 0")
    known = isinstance(own, int | float) and 0 < own < FOREVER
    rate = reading.stated.annotation_fps or (own if known else 0) or fps
    rate = rate or reading.stated.fps or reading.grid.fps
    video = Video(
        name=name,
        duration=duration,
        labels=np.unique(class_indices(named, classes, where)),
        segments=segments[evaluated],
        segment_labels=segment_labels,
        ambiguous=np.concatenate([ambiguous, segments[~evaluated]]),
        fps=fps,
    )
    return with_seconds(video, rate, unit)


def _own_grid(entry: dict[str, Any], reading: ReadOptions, where: str) -> TimeGrid:
    """Return the time grid of a video without a duration."""
    rates = {name: entry[name] for name in ("fps", "feature_fps") if name in entry}
    return reading.grid.replaced(float(_numbers(reading.fps(rates, 1.0) or 0, (), "fps", where)))


def _duration(
    entry: dict[str, Any], name: str, segments, reading: ReadOptions, where: str
) -> tuple[float, str]:
    """Return a duration from the file, from `reading`, or the end of the last instance.

    The second value is the unit of the annotations for `with_seconds`, which must not convert a
    duration in seconds from `reading`.
    """
    unit = reading.stated.unit
    key = next((name for name in _DURATIONS if name in entry), "duration")
    if key in entry or reading.duration is None:
        duration = float(_numbers(_field(entry, key, where), (), key, where))
    elif seconds := reading.duration(name, _own_grid(entry, reading, where)):
        duration, unit = seconds, _WITHOUT_DURATION[unit]
    else:  # the end of the last instance, in the unit of segments
        duration = float(segments.max(initial=0.0)) or 1.0
        unit = _AS_SEGMENTS[unit]
    if duration <= 0:
        raise DataError(f"{where}: duration is {duration}; wanted seconds above 0")
    return duration, unit


def _numbers(value: Any, shape: tuple[int, ...], what: str, where: str) -> np.ndarray:
    try:
        numbers = np.array(np.nan if contains_bool(value) else value, np.float64).reshape(shape)
    except (TypeError, ValueError, OverflowError):
        numbers = np.array(np.nan)
    if not (np.abs(numbers) < FOREVER).all():
        wanted = "[start, end] in seconds" if shape else "a number"
        raise DataError(f'{where}: "{what}" is {short_repr(value)}; wanted {wanted}')
    return numbers
