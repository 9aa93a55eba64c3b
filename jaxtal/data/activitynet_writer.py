"""Writing of annotations in ActivityNet form, which `activitynet.read` reads back."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.io import checksums
from jaxtal.data.reading import THREE


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
        subsets: names of the training and the test subset; with validation videos the subsets are
            named as in `reading.THREE`.
        segment: [start, end] in seconds -> the value of "segment".
        more: video -> further fields of its entry.
        of_instance: (video, class index, [start, end]) -> further fields of an instance.

    Returns:
        An object that `activitynet.read` reads back once it is written as JSON.
    """

    def entry(video: Video, subset: str) -> dict[str, Any]:
        instances = zip(video.segment_labels.tolist(), video.segments.tolist(), strict=True)
        return {
            "subset": subset,
            "duration": video.duration,
            "annotations": [
                {
                    "label": dataset.classes[label],
                    "segment": segment(times),
                    **of_instance(video, label, times),
                }
                for label, times in instances
            ],
            "video_labels": [dataset.classes[label] for label in video.labels.tolist()],
            "ambiguous": video.ambiguous.tolist(),
            **({} if video.fps is None else {"feature_fps": video.fps}),
            **more(video),
        }

    names = THREE if dataset.validation else dict(zip(("train", "test"), subsets, strict=True))
    database = {
        video.name: entry(video, names[part])
        for part, videos in dataset.parts.items()
        for video in videos
    }
    grid = {
        f"feature_{name}": float(value) for name, value in dataclasses.asdict(dataset.grid).items()
    }
    parts = {part: names[part] for part, videos in dataset.parts.items() if videos}
    return {
        "name": dataset.name,
        "classes": list(dataset.classes),
        **grid,
        **({"parts": parts} if dataset.validation else {}),
        "database": database,
    }


def as_text(times: list[float]) -> list[str]:
    """Return times as strings, as in BaSNet's and HAM-Net's files.

    Args:
        times: times in seconds.

    Returns:
        A string per time, from which `float` restores the exact value.
    """
    return [repr(time) for time in times]


def to_json(dataset: Dataset) -> str:
    """Return a data set's annotations as JSON text in ActivityNet form, with a checksum.

    Args:
        dataset: the videos, with or without features.
    """
    return json.dumps(checksums.seal(to_content(dataset)))
