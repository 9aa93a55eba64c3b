"""Statistics and defects of data sets."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data.dataset import Dataset, Video, count_annotation_errors
from jaxtal.data.io.files import open_regular, sha256
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.errors import DataError, JaxtalError

QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_NAMED = 5  # examples of each defect
Progress = Callable[[int, int], AbstractContextManager]


def inspect(source: LazyDataset, features: bool, progress: Progress) -> dict[str, Any]:
    """Return counts, quantiles and defects of a data set.

    Args:
        source: the data set.
        features: also read the features of every video, one video at a time.
        progress: (videos, 0) -> context that yields a function, called once per video.

    Returns:
        "data": name, layout, grid; "subsets": {"train", "validation" if there is one, "test":
        counts, hours, quantiles}; "unused": videos by the name of an unused subset; "classes":
        {name: {subset: videos by label, instances}}; "defects": {kind: {"count": n, "first":
        examples}}, with count 0 for kinds that do not occur; "features": width, types and counts,
        or None; "notes": the reader's remarks.
    """
    dataset = source.dataset
    seen = _Features(source, progress) if features and source.features else None
    report: dict[str, Any] = {
        "data": {
            "name": dataset.name,
            "layout": source.layout,
            "path": str(source.path),
            "fps": dataset.grid.fps,
            "stride": dataset.grid.stride,
            "window": dataset.grid.window,
            "videos_with_their_own_fps": sum(video.fps is not None for video in source.videos),
            "grid_is_stated": source.has_time_grid,
        },
        "notes": list(source.notes),
        "subsets": {name: _subset(part, seen) for name, part in dataset.parts.items()},
        "unused": dict(source.unused),
        "classes": count_classes(dataset),
        "features": seen.summary() if seen else None,
    }
    found = _annotation_defects(source) | (seen.defects() if seen else {})
    report["defects"] = {
        what: {"count": len(names), "first": names[:_NAMED]} for what, names in found.items()
    }
    return report


def _subset(videos: Sequence[Video], seen: "_Features | None") -> dict[str, Any]:
    segments = np.concatenate([np.empty((0, 2)), *(video.segments for video in videos)])
    duration = [video.duration for video in videos]
    snippets = [seen.snippets[v.name] for v in videos if v.name in seen.snippets] if seen else []
    return {
        "videos": len(videos),
        "instances": len(segments),
        "instances_that_cannot_be_right": count_annotation_errors(videos) if videos else {},
        "ambiguous_intervals": sum(len(video.ambiguous) for video in videos),
        "labels_a_video": np.bincount([len(video.labels) for video in videos]).tolist()
        if videos
        else [],
        "hours": sum(duration) / 3600,
        "quantiles": {
            "seconds a video": _quantiles(duration),
            "snippets a video": _quantiles(snippets),
            "instances a video": _quantiles([len(video.segments) for video in videos]),
            "seconds an instance": _quantiles(segments[:, 1] - segments[:, 0]),
        },
    }


def _quantiles(values) -> list[float] | None:
    return np.percentile(values, QUANTILES).tolist() if len(values) else None


def count_classes(dataset: Dataset) -> dict[str, Any]:
    """Count videos and instances by class.

    Args:
        dataset: a data set, with or without features.

    Returns:
        {class: {part of the data set: {"videos": number by video-level label, "instances":
        number}}}.
    """
    names = dataset.classes
    counts = {
        subset: (
            _count([video.labels for video in videos], len(names)),
            _count([video.segment_labels for video in videos], len(names)),
        )
        for subset, videos in dataset.parts.items()
    }
    return {
        name: {
            subset: {"videos": int(videos[index]), "instances": int(instances[index])}
            for subset, (videos, instances) in counts.items()
        }
        for index, name in enumerate(names)
    }


def _count(labels: list[np.ndarray], classes: int) -> np.ndarray:
    flat = np.concatenate([np.empty(0, np.int64), *labels]).astype(np.int64)
    return np.bincount(flat, minlength=classes)


def _annotation_defects(source: LazyDataset) -> dict[str, list[str]]:
    """Return {kind of defect: occurrences} for defects that are visible without features."""
    found: dict[str, list[str]] = {
        "videos without features": [
            name for name in source.missing if name not in source.declared_missing
        ],
        "videos listed as missing by the data set": list(source.declared_missing),
        "feature files without a video": list(source.unannotated),
        "videos without a label": [v.name for v in source.videos if not len(v.labels)],
        "instances outside their video": [],
        "instances that end after their video": [],
        "instances that end before they begin": [],
        "instances of no length": [],
        "instances whose class is not a label of the video": [],
        "labels without an instance": [],
        "overlapping instances of a class": [],
        "videos in both subsets": sorted(
            name
            for name, count in Counter(video.name for video in source.videos).items()
            if count > 1
        ),
    }
    for video in source.videos:
        start, end = video.segments.T
        wrong = {
            "instances outside their video": (start > video.duration) | (end < 0),
            "instances that end after their video": (end > video.duration + 0.05)
            & (start <= video.duration),
            "instances that end before they begin": end < start,
            "instances of no length": end == start,
            "instances whose class is not a label of the video": ~np.isin(
                video.segment_labels, video.labels
            ),
            "overlapping instances of a class": _overlapping(video),
        }
        for what, which in wrong.items():
            found[what] += [
                f"{video.name} {s:g}-{e:g} s {source.dataset.classes[label]}"
                for (s, e), label in zip(
                    video.segments[which], video.segment_labels[which], strict=True
                )
            ]
        without = np.setdiff1d(video.labels, video.segment_labels)
        found["labels without an instance"] += [
            f"{video.name} {source.dataset.classes[label]}" for label in without
        ]
    return found


def _overlapping(video: Video) -> np.ndarray:
    """Return (m,) bool: instances that begin before an earlier one of their class has ended."""
    overlapping = np.zeros(len(video.segments), bool)
    for label in np.unique(video.segment_labels):
        mine = np.flatnonzero(video.segment_labels == label)
        mine = mine[np.argsort(video.segments[mine, 0], kind="stable")]
        ends = np.maximum.accumulate(video.segments[mine, 1])
        overlapping[mine[1:]] = video.segments[mine[1:], 0] < ends[:-1]
    return overlapping


class _Features:
    """Statistics and defects of all features, read video by video."""

    def __init__(self, source: LazyDataset, progress: Progress):
        self.snippets: dict[str, int] = {}
        self._widths: dict[int, int] = {}
        self._types: dict[str, int] = {}
        self._damaged: list[str] = []
        self._other_length: list[str] = []
        self._zero: list[str] = []
        missing = set(source.missing)
        with progress(len(source.videos), 0) as advance:
            for video in source.videos:
                if video.name not in missing:
                    self._add(source, video)
                advance()
        self._width = max(self._widths, key=lambda width: self._widths[width], default=0)

    def _add(self, source: LazyDataset, video: Video) -> None:
        try:
            features = source.read(video).features
        except JaxtalError as error:
            self._damaged.append(str(error))
            return
        count, width = features.shape
        self.snippets[video.name] = count
        self._widths[width] = self._widths.get(width, 0) + 1
        self._types[str(features.dtype)] = self._types.get(str(features.dtype), 0) + 1
        seconds = float(source.dataset.grid.of([video]).to_seconds(count)[0])
        if abs(seconds - video.duration) > max(0.05 * video.duration, 2):
            self._other_length.append(
                f"{video.name} {seconds:.1f} s of features, {video.duration:.1f} s of video"
            )
        empty = int((~features.any(axis=1)).sum())
        if empty:
            self._zero.append(f"{video.name} {empty} of {count}")

    def summary(self) -> dict[str, Any]:
        """Return width, types and counts over all videos."""
        return {
            "width": self._width,
            "types": self._types,
            "snippets": sum(self.snippets.values()),
            "videos": len(self.snippets),
        }

    def defects(self) -> dict[str, list[str]]:
        """Return {kind of defect: occurrences}."""
        other = [f"{n} videos of width {w}" for w, n in self._widths.items() if w != self._width]
        return {
            "videos with damaged features": self._damaged,
            "widths that differ": other,
            "features much longer or shorter than the video": self._other_length,
            "videos with snippets of zeros": self._zero,
        }


def changed_files(folder: Path) -> list[str] | None:
    """Return the files that differ from the folder's SHA256SUMS or are missing.

    Args:
        folder: a data set written by `convert`.

    Returns:
        One remark per file; None if the folder has no SHA256SUMS.

    Raises:
        DataError: SHA256SUMS lists a file outside of the folder, or cannot be read.
    """
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        return None
    with open_regular(sums) as file:
        lines = file.read().decode("utf-8", "replace").splitlines()
    changed = []
    for line in lines:
        wanted, _, name = line.partition("  ")
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{sums}: {name!r:.80} is outside of the folder; wanted files in it")
        if not path.is_file():
            changed.append(f"{name} is missing")
            continue
        if sha256(path) != wanted:
            changed.append(f"{name} has changed")
    return changed
