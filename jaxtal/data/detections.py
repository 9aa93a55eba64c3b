"""Detections, in memory and in ActivityNet form: one JSON file for all videos."""

import dataclasses
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtal import reprs
from jaxtal.data.affixes import recognize
from jaxtal.data.dataset import FOREVER, Dataset
from jaxtal.data.io import checksums, json_files
from jaxtal.data.reading import THREE
from jaxtal.data.segments import Segments
from jaxtal.errors import DataError, short_repr, warn

if TYPE_CHECKING:
    import pandas

_FORM = (
    '{"results": {video: [{"label": ..., "segment": [start, end] in seconds, "score": ...}]}} '
    "(ActivityNet form)"
)


_SHOWN = 10  # detections in a repr


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """Detections with the names of their videos and classes.

    Attributes:
        segments: the detections as columns, in seconds; `video` and `label` are positions in
            `videos` and `classes`.
        videos: names of all processed videos, including videos without detections.
        classes: names of the classes.
    """

    segments: Segments
    videos: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.segments)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_records())

    def of(self, video: str) -> "Detections":
        """Return the detections in one video.

        Args:
            video: name of the video.

        Returns:
            The detections, with this video as the only one in `videos`.

        Raises:
            DataError: the video is not among `videos`.
        """
        if video not in self.videos:
            raise DataError(
                f"video {short_repr(video)}: not among the {len(self.videos)} videos of these "
                f"detections: {', '.join(self.videos[:5])}, ..."
            )
        mine = self.segments.take(self.segments.video == self.videos.index(video))
        segments = dataclasses.replace(mine, video=np.zeros(len(mine), np.int64))
        return Detections(segments, (video,), self.classes)

    def to_records(self) -> list[dict[str, Any]]:
        """Return a list of dicts with the keys video, label, start, end (in seconds) and score."""
        columns = (
            getattr(self.segments, name).tolist()
            for name in ("video", "label", "start", "end", "score")
        )
        return [
            {
                "video": self.videos[video],
                "label": self.classes[label],
                "start": start,
                "end": end,
                "score": score,
            }
            for video, label, start, end, score in zip(*columns, strict=True)
        ]

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a pandas DataFrame with one row per detection.

        Columns: video, label, start and end in seconds, score.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError(
                "Detections.to_pandas needs pandas, which is not installed; pip install pandas"
            ) from None
        names = ["video", "label", "start", "end", "score"]
        return pandas.DataFrame(self.to_records(), columns=names)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the detections as JSON text in ActivityNet form, and write it to `path` if given.

        Args:
            path: the file to write; None: write no file.

        Returns:
            The JSON text, times in seconds.

        Raises:
            DataError: the file cannot be written.
        """
        text = to_json(self.segments, self.videos, self.classes)
        if path is not None:
            json_files.write(Path(path), text)
        return text

    @classmethod
    def from_json(
        cls, path: str | os.PathLike[str], *, classes: Sequence[str] | None = None
    ) -> "Detections":
        """Read a JSON file in ActivityNet form, from any program.

        Args:
            path: the file.
            classes: class names in the required order; None: the file's labels, sorted.

        Returns:
            The detections, times in seconds, in the file's order.

        Raises:
            DataError: the file is missing or malformed, or has a detection that is invalid or of a
                class that is not among `classes`.
        """
        path = Path(path)
        results = _results(path)
        rows = [
            (number, label, *numbers, where)
            for number, (name, found) in enumerate(results.items())
            for label, numbers, where in _entries(path, name, found)
        ]
        names = sorted({row[1] for row in rows}) if classes is None else list(classes)
        known = {name: index for index, name in enumerate(names)}
        if unknown := [row for row in rows if row[1] not in known]:
            raise DataError(
                f"{unknown[0][-1]}: label {short_repr(unknown[0][1])} is not among "
                f"the {len(names)} classes; correct it, or omit classes=..."
            )
        columns = [(row[0], known[row[1]], *row[2:-1]) for row in rows]
        return cls(_columns(columns), tuple(results), tuple(names))

    def __repr__(self) -> str:
        rows = self._strongest()
        title = self._title()
        return reprs.plain(title, _HEADER, rows) if rows else title

    def _repr_html_(self) -> str:
        return reprs.as_html(self._title(), _HEADER, self._strongest())

    def _title(self) -> str:
        more = f"; the {_SHOWN} with the highest scores" if len(self) > _SHOWN else ""
        where = f"{len(self.videos)} videos, {len(self.classes)} classes"
        return f"{len(self)} detections in {where}{more}"

    def _strongest(self) -> list[tuple[str, ...]]:
        order = np.argsort(-self.segments.score, kind="stable")[:_SHOWN]
        best = Detections(self.segments.take(order), self.videos, self.classes)
        return [
            (
                row["video"],
                row["label"],
                f"{row['start']:.2f}",
                f"{row['end']:.2f}",
                f"{row['score']:.4g}",
            )
            for row in best.to_records()
        ]


_HEADER = ("video", "label", "start", "end", "score")


def _columns(rows: Sequence[tuple[float, ...]]) -> Segments:
    columns = np.array(rows, np.float64).reshape(-1, 5).T
    return Segments(*columns[:2].astype(np.int64), *columns[2:])


def _results(path: Path) -> dict[str, Any]:
    """Return the object "results" of a file: {video: detections}."""
    results = json_files.field(json_files.load(path, _FORM), "results", f"{path}", _FORM)
    if not isinstance(results, dict):
        raise DataError(f'{path}: "results" is {short_repr(results)}; wanted {_FORM}')
    return results


def _check_list(path: Path, name: str, found: Any) -> None:
    if not isinstance(found, list):
        raise DataError(f"{path}, video {name:.80}: {short_repr(found)}; wanted a list, {_FORM}")


def _entries(
    path: Path, name: str, found: Any
) -> Iterator[tuple[str, tuple[float, float, float], str]]:
    """Yield label, (start, end, score) and location in the file of a video's detections."""
    _check_list(path, name, found)
    for index, entry in enumerate(found):
        where = f"{path}, video {name}, detection {index} (counted from 0)"
        yield *_parse(entry, where), where


def read(
    path: str | os.PathLike[str], dataset: Dataset, skipped: Counter | None = None
) -> Segments:
    """Read the detections in the test videos of a data set.

    Args:
        path: a JSON file in ActivityNet form.
        dataset: its test videos and classes define the indices in the result.
        skipped: a counter that receives the numbers of skipped detections by reason; None: raise an
            error for detections in unknown videos or of unknown classes.

    Returns:
        The detections in seconds, in the file's order.

    Raises:
        DataError: the file is missing or malformed, or has an invalid detection, or without
            `skipped` one in an unknown video or of an unknown class.
    """
    path = Path(path)
    results = _results(path)
    names = spelled_as_in(dataset, [*results], f"{path}")
    results = dict(zip(names, results.values(), strict=True))
    videos = {video.name: index for index, video in enumerate(dataset.test)}
    labels = {name: index for index, name in enumerate(dataset.classes)}
    rows: list[tuple[float, ...]] = []
    if len(results) > 1 and not any(name in videos for name in results):
        raise DataError(
            f"{path}: none of its {len(results)} videos, {next(iter(results))!r:.80} first, is one "
            f"of the {len(videos)} test videos of {dataset.name}, "
            f"{next(iter(videos), 'none')!r:.80} first; spell the names alike"
        )
    for name, found in results.items():
        _check_list(path, name, found)
        if name not in videos:
            if skipped is None and found:
                raise DataError(_unknown_video(path, name, found, dataset))
            if skipped is not None:
                skipped["of unknown videos"] += len(found)
            continue
        for label, numbers, where in _entries(path, name, found):
            if label in labels:
                rows.append((videos[name], labels[label], *numbers))
            elif skipped is None:
                raise DataError(
                    f"{where}: label {short_repr(label)} is not among the {len(labels)} classes of "
                    f"{dataset.name}; correct it, or skip such detections with "
                    "skip_unknown=True"
                )
            else:
                skipped["of unknown classes"] += 1
    return _columns(rows)


def spelled_as_in(dataset: Dataset, names: Sequence[str], where: str) -> Sequence[str]:
    """Return names of videos as a data set spells them, with or without a prefix or suffix.

    A warning is logged if they change.

    Args:
        dataset: the data set.
        names: names of videos, for example of detections.
        where: their file, for the warning.

    Returns:
        The names, of which those change that one prefix or suffix makes names of the data set's
        videos, if no given name is one and at least half of them become one. Names of test videos
        come first.
    """
    known = {video.name for video in dataset.videos}
    if known.intersection(names):
        return names
    for wanted in ({video.name for video in dataset.test}, known):
        if affix := recognize(names, wanted):
            found = {name: new for name in names if (new := affix.file_name(name)) in wanted}
            if len(found) >= len(names) / 2:
                old, new = map(short_repr, next(iter(found.items())))
                warn(f"{where}: no video is named as in {dataset.name}; {old} is taken for {new}")
                return [found.get(name) or name for name in names]
    return names


def _unknown_video(path: Path, name: str, found: list, dataset: Dataset) -> str:
    other = [part for part, videos in dataset.parts.items() if name in {v.name for v in videos}]
    return (
        f"{path}, video {name:.80}: {len(found)} detections in "
        f"{f'a {THREE[other[0]]} video' if other else 'no video'} of {dataset.name}; wanted one "
        f"of its {len(dataset.test)} test videos; remove them, or skip such detections with "
        "skip_unknown=True (the official evaluator counts them as false)"
    )


def _parse(entry: Any, where: str) -> tuple[str, tuple[float, float, float]]:
    """Return the label, and (start, end, score), of a detection."""
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
    """Return a number, also from text, as some files have them; NaN for any other value."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def to_json(detections: Segments, videos: Sequence[str], classes: Sequence[str]) -> str:
    """Return detections as JSON text in ActivityNet form, with a checksum.

    Args:
        detections: n segments in seconds.
        videos: names of the videos; `detections.video` indexes them.
        classes: names of the classes; `detections.label` indexes them.
    """
    results: dict[str, list] = {name: [] for name in videos}
    columns = (
        detections.video, detections.label, detections.start, detections.end, detections.score
    )  # fmt: skip
    for video, label, *times, score in zip(*(c.tolist() for c in columns), strict=True):
        results[videos[video]].append({"score": score, "segment": times, "label": classes[label]})
    content = {"version": "VERSION 1.3", "results": results, "external_data": {}}
    return json.dumps(checksums.seal(content))
