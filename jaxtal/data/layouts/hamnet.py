"""The HAM-Net layout: W-TALC's arrays, and `gt.json` beside them (DATA.md, L4).

gt.json is {"class-list": {index: name}, "database": ...} in BaSNet's form: segments as text. Its
instances are what is evaluated against; names, labels, subsets and features are W-TALC's.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.layouts import activitynet, wtalc
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.errors import DataError, short_repr


def ground_truth_file(folder: Path, name: str) -> Path | None:
    """gt.json, wherever the program's users have it."""
    places = folder, folder / f"{name}-Annotations", folder / name
    return next((place / "gt.json" for place in places if (place / "gt.json").is_file()), None)


def detects(folder: Path) -> bool:
    """Whether a folder is laid out like that."""
    return any(ground_truth_file(folder, name) for name in wtalc.find(folder))


def source(path: Path, name: str, features: bool | None) -> LazyDataset:
    """Data set `name` of a folder, see `wtalc.source`.

    Raises:
        DataError: also where gt.json has other classes, or lacks a video.
    """
    folder, name = wtalc.locate(path, name)
    truth = ground_truth_file(folder, name)
    if truth is None:
        raise DataError(f"{folder}: no gt.json; without it the layout is 'wtalc'")
    found = wtalc.source(folder, name, features)
    reading = activitynet.ReadOptions(training=False, duration=lambda name: None)
    told, _ = activitynet.read_as(truth, reading)
    if set(told.classes) != set(found.dataset.classes):
        differing = sorted(set(told.classes) ^ set(found.dataset.classes))
        raise DataError(
            f"{truth}: its classes are not those of {name}-Annotations/classlist.npy; "
            f"{short_repr(differing[0])} is in one of them only"
        )
    index = {name: number for number, name in enumerate(found.dataset.classes)}
    order = np.array([index[name] for name in told.classes], np.int64)
    entries = {video.name: video for video in (*told.train, *told.test)}
    absent = []

    def with_truth(video: Video) -> Video:
        entry = entries.get(video.name)
        if entry is None:
            absent.append(video.name)
            return video
        labels = order[entry.segment_labels]
        return dataclasses.replace(video, segments=entry.segments, segment_labels=labels)

    dataset = found.dataset.map(with_truth)
    notes = found.notes
    if absent:
        notes += (
            f"{truth} lacks {len(absent)} videos, {absent[0]} first; their instances are those of "
            f"{name}-Annotations",
        )
    return dataclasses.replace(found, dataset=dataset, notes=notes)


def ground_truth(dataset: Dataset) -> str:
    """What gt.json holds of a data set."""
    content = activitynet.to_content(dataset, ("train", "test"), activitynet.as_text)
    classes = dict(enumerate(content.pop("classes")))
    return json.dumps({"class-list": classes, **content})
