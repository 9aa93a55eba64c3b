"""Statistics and findings of data sets."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data.dataset import Dataset, Video, count_annotation_errors, stream_widths
from jaxtal.data.examination import Facts, examine
from jaxtal.data.examination.facts import of_source
from jaxtal.data.findings import ERROR, WARNING, Finding, by_severity
from jaxtal.data.io import checksums
from jaxtal.data.lazy_dataset import LazyDataset
from jaxtal.errors import JaxtalError

QUANTILES = (0, 5, 25, 50, 75, 95, 100)
Progress = Callable[[int, int], AbstractContextManager]


def inspect(source: LazyDataset, features: bool, progress: Progress) -> dict[str, Any]:
    """Return counts, quantiles and findings of a data set.

    Args:
        source: the data set.
        features: also read the features of every video, one video at a time.
        progress: (videos, 0) -> context that yields a function, called once per video.

    Returns:
        "data": name, layout, grid; "subsets": {"train", "validation" if there is one, "test":
        counts, hours, quantiles}; "unused": videos by the name of an unused subset; "classes":
        {name: {subset: videos by label, instances}}; "findings": see `Finding.to_json`, errors
        first; "features": width, types and counts, or None; "notes": the reader's remarks.
    """
    dataset = source.bare
    facts = of_source(source)
    seen = _Features(source, progress, facts) if features and source.features else None
    names = [video.name for video in dataset.videos]
    found = [*(seen.findings() if seen else ()), *examine(dataset, facts)]
    snippets = dict(zip(names, facts.snippets.tolist(), strict=True))
    return {
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
        "subsets": {name: _subset(part, snippets) for name, part in dataset.parts.items()},
        "unused": dict(source.unused),
        "classes": count_classes(dataset),
        "features": seen.summary(dataset.stream_widths) if seen else None,
        "findings": [finding.to_json() for finding in by_severity(found)],
    }


def _subset(videos: Sequence[Video], lengths: dict[str, int]) -> dict[str, Any]:
    segments = np.concatenate([np.empty((0, 2)), *(video.segments for video in videos)])
    duration = [video.duration for video in videos]
    snippets = [length for video in videos if (length := lengths[video.name])]
    return {
        "videos": len(videos),
        "instances": len(segments),
        "instances_that_cannot_be_right": count_annotation_errors(videos) if videos else {},
        "overlapping_instances": sum(int(_overlapping(video).sum()) for video in videos),
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


def _overlapping(video: Video) -> np.ndarray:
    """Return (m,) bool: instances that begin before an earlier one of their class has ended."""
    overlapping = np.zeros(len(video.segments), bool)
    order = np.lexsort((video.segments[:, 0], video.segment_labels))
    borders = np.flatnonzero(np.diff(video.segment_labels[order])) + 1
    for mine in np.split(order, borders):
        ends = np.maximum.accumulate(video.segments[mine, 1])
        overlapping[mine[1:]] = video.segments[mine[1:], 0] < ends[:-1]
    return overlapping


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


class _Features:
    """Statistics and damages of all features, read video by video."""

    def __init__(self, source: LazyDataset, progress: Progress, facts: Facts):
        self._facts = facts
        self._types: Counter[str] = Counter()
        self._damaged: list[str] = []
        missing = set(source.missing)
        with progress(len(source.videos), 0) as advance:
            for index, video in enumerate(source.videos):
                if video.name not in missing:
                    self._add(source, index, video)
                advance()

    def _add(self, source: LazyDataset, index: int, video: Video) -> None:
        try:
            features = source.read(video).features
        except JaxtalError as error:
            self._damaged.append(str(error))
            return
        self._facts.add(index, features, source.dataset.stream_widths)
        self._types[str(features.dtype)] += 1

    def summary(self, stated: tuple[int, ...]) -> dict[str, Any]:
        """Return width, streams, types and counts over all videos; see `stream_widths`."""
        widths = Counter(self._facts.widths[self._facts.seen].tolist())
        width = max(widths, key=lambda width: widths[width], default=0)
        return {
            "width": width,
            "streams": list(stream_widths(stated, width)),
            "types": dict(self._types),
            "snippets": int(self._facts.snippets[self._facts.seen].sum()),
            "videos": int(self._facts.seen.sum()),
        }

    def findings(self) -> list[Finding]:
        """Return the findings about features that cannot be used."""
        found = []
        if self._damaged:
            message = f"{len(self._damaged)} videos have damaged features: {self._damaged[0]}"
            examples = tuple(self._damaged)
            found.append(Finding("videos with damaged features", ERROR, message, examples))
        widths = Counter(self._facts.widths[self._facts.seen].tolist())
        usual = max(widths, key=lambda width: widths[width], default=0)
        other = tuple(f"{n} videos of width {w}" for w, n in widths.items() if w != usual)
        if other:
            message = f"most videos have {usual} features per snippet, but there are {other[0]}"
            found.append(Finding("widths that differ", ERROR, message, other))
        return found


def changed_files(folder: Path) -> list[Finding]:
    """Return a finding if files differ from the folder's SHA256SUMS or are missing.

    Args:
        folder: a data set written by `convert`.

    Returns:
        No finding or one, whose examples are the files.

    Raises:
        DataError: SHA256SUMS names a file outside of the folder, or cannot be read.
    """
    if not os.path.lexists(folder / checksums.LIST):
        return []
    changed = checksums.find_changed(folder, checksums.read_list(folder))
    if not changed:
        return []
    message = f"{len(changed)} files differ from {checksums.LIST}: {changed[0]}"
    return [Finding(f"files that differ from {checksums.LIST}", WARNING, message, tuple(changed))]
