"""Detections in ActivityNet form: one JSON file for all videos."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data.dataset import FOREVER, Dataset
from jaxtal.data.io import json_files
from jaxtal.data.segments import Segments
from jaxtal.errors import DataError, short_repr

_FORM = (
    '{"results": {video: [{"label": ..., "segment": [start, end] in seconds, "score": ...}]}} '
    "(ActivityNet form)"
)


def read(path: Path, dataset: Dataset, skipped: Counter | None = None) -> Segments:
    """Detections in the test videos of `dataset`, in seconds, in the file's order.

    Args:
        skipped: where detections of unknown videos and classes are counted, by kind; without it
            they are errors.

    Raises:
        DataError: the file is missing, is not JSON, lacks something, or has a detection that
            cannot be one.
    """
    results = json_files.field(json_files.load(path, _FORM), "results", f"{path}", _FORM)
    if not isinstance(results, dict):
        raise DataError(f'{path}: "results" is {short_repr(results)}; wanted {_FORM}')
    videos = {video.name: index for index, video in enumerate(dataset.test)}
    labels = {name: index for index, name in enumerate(dataset.classes)}
    rows: list[tuple[float, ...]] = []
    for name, found in results.items():
        if not isinstance(found, list):
            raise DataError(
                f"{path}, video {name:.80}: {short_repr(found)}; wanted a list, {_FORM}"
            )
        if name not in videos:
            if skipped is None and found:
                raise DataError(_unknown_video(path, name, found, dataset))
            if skipped is not None:
                skipped["of unknown videos"] += len(found)
            continue
        for index, entry in enumerate(found):
            where = f"{path}, video {name}, detection {index} (counted from 0)"
            label, numbers = _parse(entry, where)
            if label in labels:
                rows.append((videos[name], labels[label], *numbers))
            elif skipped is None:
                raise DataError(
                    f"{where}: label {short_repr(label)} is not among the {len(labels)} classes of "
                    f"{dataset.name}; correct it, or leave such detections out with --skip_unknown"
                )
            else:
                skipped["of unknown classes"] += 1
    columns = np.array(rows, np.float64).reshape(-1, 5).T
    return Segments(*columns[:2].astype(np.int64), *columns[2:])


def _unknown_video(path: Path, name: str, found: list, dataset: Dataset) -> str:
    training = any(video.name == name for video in dataset.train)
    return (
        f"{path}, video {name:.80}: its {len(found)} detections, from detection 0 on, are in "
        f"{'a training video' if training else 'no video'} of {dataset.name}, wanted one of its "
        f"{len(dataset.test)} test videos; remove them, or leave such detections out with "
        "--skip_unknown (the official evaluator counts them as false)"
    )


def _parse(entry: Any, where: str) -> tuple[str, tuple[float, float, float]]:
    """Label, and start, end and score."""
    label, segment, score = (
        json_files.field(entry, key, where, _FORM) for key in ("label", "segment", "score")
    )
    pair = isinstance(segment, list) and len(segment) == 2
    start, end = map(_number, segment) if pair else (math.nan, math.nan)
    if not (abs(start) < FOREVER and abs(end) < FOREVER):
        raise DataError(
            f"{where}: segment is {short_repr(segment)}; wanted [start, end] in seconds"
        )
    if end < start:
        raise DataError(
            f"{where}: segment {short_repr(segment)} ends before it begins; wanted [start, end]"
        )
    if start < 0:
        raise DataError(
            f"{where}: segment {short_repr(segment)} begins before its video; cut it at 0"
        )
    if not math.isfinite(value := _number(score)):
        raise DataError(f"{where}: score is {short_repr(score)}; wanted a finite number")
    return json_files.as_text(label, "label", where), (start, end, value)


def _number(value: Any) -> float:
    """NaN for what is none; numbers as text, as in some files, are numbers."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def to_json(detections: Segments, videos: Sequence[str], classes: Sequence[str]) -> str:
    """Detections (seconds) as text in ActivityNet form; every video and class by its name."""
    results: dict[str, list] = {name: [] for name in videos}
    columns = (
        detections.video, detections.label, detections.start, detections.end, detections.score
    )  # fmt: skip
    for video, label, *times, score in zip(*(c.tolist() for c in columns), strict=True):
        results[videos[video]].append({"score": score, "segment": times, "label": classes[label]})
    content = {"version": "VERSION 1.3", "results": results, "external_data": {}}
    return json.dumps(content)
