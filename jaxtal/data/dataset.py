"""Data sets in memory: videos, their annotations and the time grid of their features."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxtal import reprs
from jaxtal.data.reading import THREE
from jaxtal.errors import DataError, short_repr


@dataclasses.dataclass(frozen=True)
class TimeGrid:
    """Positions of snippets in time.

    The features of snippet i are computed from the frames i * stride to i * stride + window. The
    snippet represents the `stride` frames in their middle, so snippets never overlap, even if
    their windows do.

    Attributes:
        fps: frames per second of the video that the features were extracted from; (V,) for the
            grids of several videos, see `of`.
        stride: frames from the start of one snippet to the start of the next.
        window: frames that a snippet's features are computed from; None: `stride`.
    """

    fps: Any = 25.0
    stride: float = 16
    window: float | None = None

    def __post_init__(self):
        if self.window is None:
            object.__setattr__(self, "window", self.stride)

    @property
    def times(self) -> tuple[float, float, float]:
        """The tuple (fps, stride, window)."""
        assert self.window is not None
        return self.fps, self.stride, self.window

    @property
    def in_words(self) -> str:
        """Frame rate and stride, such as "25 fps and stride 16"."""
        return f"{self.fps:g} fps and stride {self.stride:g}"

    @property
    def offset(self) -> float:
        """Frames from the start of the video to the first frame that snippet 0 represents."""
        assert self.window is not None
        return (self.window - self.stride) / 2

    def to_snippets(self, seconds: ArrayLike) -> np.ndarray:
        """Convert seconds to fractional snippets: ``(seconds * fps - offset) / stride``.

        Args:
            seconds: times in seconds, of any shape; with fps (V,) their shape must broadcast to it.

        Returns:
            Times in snippets, float64.
        """
        return (np.asarray(seconds, np.float64) * self.fps - self.offset) / self.stride

    def to_seconds(self, snippets: ArrayLike) -> np.ndarray:
        """Convert fractional snippets to seconds, the inverse of `to_snippets`.

        Args:
            snippets: times in snippets, of any shape; with fps (V,) it must broadcast to that.

        Returns:
            Times in seconds, float64.
        """
        return (np.asarray(snippets, np.float64) * self.stride + self.offset) / self.fps

    def of(self, videos: Iterable[Any]) -> "TimeGrid":
        """Return one grid for several videos.

        Args:
            videos: V objects with an attribute fps, such as `Video` or `FeatureFile`.

        Returns:
            The grid with fps (V,) float64: the fps of each video, or the grid's where that is None.
        """
        fps = [self.fps if video.fps is None else video.fps for video in videos]
        return dataclasses.replace(self, fps=np.array(fps, np.float64))

    def replaced(self, fps: float = 0, stride: float = 0, window: float = 0) -> "TimeGrid":
        """Return the grid with the numbers replaced that are given and not 0.

        A new stride without a new window also replaces the window if both were equal.

        Args:
            fps: frames per second; 0 keeps the present value.
            stride: frames; 0 keeps the present value.
            window: frames; 0 keeps the present value.

        Raises:
            DataError: a number is negative, NaN or infinite.
        """
        for name, value in (("fps", fps), ("stride", stride), ("window", window)):
            if not 0 <= value < float("inf"):
                raise DataError(f"{name} is {value}; wanted a number above 0, or 0 to keep it")
        together = stride and self.window == self.stride
        return TimeGrid(
            fps or self.fps,
            stride or self.stride,
            window or (stride if together else self.window),
        )

    def take(self, video: Any) -> "TimeGrid":
        """Select videos of a grid made by `of`; any other grid is returned unchanged.

        Args:
            video: index into fps (V,): an int, an int array or a boolean mask.

        Returns:
            The grid with fps of the shape of the index.
        """
        return dataclasses.replace(self, fps=self.fps[video]) if np.ndim(self.fps) else self

    def round_to_snippets(self, seconds: ArrayLike) -> np.ndarray:
        """Convert seconds to whole snippets, halves rounded to even, as published evaluations do.

        Args:
            seconds: times in seconds, as for `to_snippets`.

        Returns:
            Times in snippets, float64 with integer values.
        """
        return np.rint(self.to_snippets(seconds))


FOREVER = 1e9  # seconds, 32 years: more than any time in a video
LEAST_POSITIVE, MOST_POSITIVE = 1e-3, 1e9  # bounds of frames per second, strides and windows
WTALC_GRID = TimeGrid()  # assumed by the published weakly supervised programs
NO_FEATURES = np.empty((0, 0), np.float32)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Video:
    """One untrimmed video.

    Attributes:
        name: unique in the data set.
        duration: seconds.
        labels: (n,) int, sorted distinct class indices; the only annotation used for training.
        segments: (m, 2) float64, start and end in seconds of every annotated instance.
        segment_labels: (m,) int, class index of every instance.
        ambiguous: (a, 2) float64, seconds, intervals in which detections are not evaluated.
        features: (T, 2D) float16 or float32, RGB first; (0, 0) if only annotations were read.
        fps: frames per second of this video's features; None: those of the data set's grid.
    """

    name: str
    duration: float
    labels: np.ndarray
    segments: np.ndarray
    segment_labels: np.ndarray
    ambiguous: np.ndarray
    features: np.ndarray = dataclasses.field(default_factory=lambda: NO_FEATURES)
    fps: float | None = None

    def __repr__(self) -> str:
        length, width = self.features.shape
        shape = f"{length} snippets x {width}" if width else "no features"
        return (
            f"Video({self.name!r}, {self.duration:.1f} s, {len(self.segments)} instances, {shape})"
        )


def with_seconds(video: Video, rate: float, unit: str) -> Video:
    """Return a video whose annotated times were frames with its times in seconds.

    Args:
        video: the video.
        rate: frames per second of the annotations.
        unit: `ReadingOptions.unit`.
    """
    of_duration = rate if unit in ("frames", "duration_frames") else 1
    of_segments = rate if unit in ("frames", "segment_frames") else 1
    return dataclasses.replace(
        video,
        duration=video.duration / of_duration,
        segments=video.segments / of_segments,
        ambiguous=video.ambiguous / of_segments,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """Origin of a data set that was read from files.

    Attributes:
        layout: the layout's name, see `layouts.LAYOUTS`.
        path: the folder or file.
        has_time_grid: True if the files or the user state the time grid; False if it is the one
            that programs which read the layout assume.
        has_streams: True if the files or the user state how the columns are split into streams.
        notes: remarks about assumptions and inconsistencies, a sentence each.
        missing: names of the videos with annotations but without features.
        declared_missing: the part of `missing` that the data set itself lists as missing.
        unannotated: names of the feature files without a video in the data set.
        computed_durations: number of videos whose duration is not stated, but computed from the
            length of their features.
        unused: number of annotated videos by the name of a subset that is in no part of the data
            set.
        contradictory: names of the videos for which the files state two different parts.
        lengthened: names of the videos whose durations are too short, so that the extent of their
            features is used.
    """

    layout: str
    path: Path
    has_time_grid: bool = False
    has_streams: bool = False
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    declared_missing: tuple[str, ...] = ()
    unannotated: tuple[str, ...] = ()
    computed_durations: int = 0
    unused: Mapping[str, int] = dataclasses.field(default_factory=dict)
    contradictory: tuple[str, ...] = ()
    lengthened: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training and test videos over one list of classes.

    Attributes:
        name: as in the file names, e.g. ``Thumos14reduced``.
        classes: class names; the position is the class index.
        train: training videos.
        test: test videos; their segments are the ground truth.
        grid: the time grid of the features; `Video.fps` overrides its fps.
        validation: videos that are evaluated during training in place of the test videos; may be
            empty.
        stream_widths: features per snippet of each stream; (): two equal halves, RGB first.
        origin: how it was read; None: made in memory.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[Video, ...]
    test: tuple[Video, ...]
    grid: TimeGrid = TimeGrid()
    validation: tuple[Video, ...] = ()
    stream_widths: tuple[int, ...] = ()
    origin: Origin | None = None

    @property
    def videos(self) -> tuple[Video, ...]:
        """All videos: training, validation, test."""
        return (*self.train, *self.validation, *self.test)

    def map(self, change: Callable[[Video], Video]) -> "Dataset":
        """Return the data set with a function applied to every video.

        Args:
            change: function of a video that returns the video to put in its place.
        """
        return self.with_parts({part: map(change, videos) for part, videos in self.parts.items()})

    def with_parts(self, parts: Mapping[str, Iterable[Video]]) -> "Dataset":
        """Return the data set with other videos.

        Args:
            parts: videos of "train", "validation" and "test"; an absent part is kept.
        """
        changed: dict[str, Any] = {part: tuple(videos) for part, videos in parts.items()}
        return dataclasses.replace(self, **changed)

    @property
    def parts(self) -> dict[str, tuple[Video, ...]]:
        """The videos of "train", "validation", if there are any, and "test"."""
        between = {"validation": self.validation} if self.validation else {}
        return {"train": self.train, **between, "test": self.test}

    @property
    def has_ground_truth(self) -> bool:
        """True if a test video has an annotated instance."""
        return any(len(video.segments) for video in self.test)

    @property
    def counts_in_words(self) -> str:
        """The number of videos in each part, as text."""
        between = f", {len(self.validation)} validation" if self.validation else ""
        return f"{len(self.train)} training{between} and {len(self.test)} test videos"

    @property
    def feature_width(self) -> int:
        """Features per snippet of all streams together (2D); 0 without features."""
        return next((video.features.shape[-1] for video in self.videos), 0)

    @property
    def streams(self) -> tuple[int, ...]:
        """Features per snippet of each stream, (D,) or (D1, D2); () without features."""
        return stream_widths(self.stream_widths, self.feature_width)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, {self.counts_in_words}, "
            f"{len(self.classes)} classes, {self._grid_in_words()})"
        )

    def _grid_in_words(self) -> str:
        stated = in_words(self.stream_widths) or self.feature_width
        width = f"{stated} features a snippet" if self.feature_width else "no features"
        return f"{width}, {self.grid.fps:g} fps, stride {self.grid.stride:g}"

    def _repr_html_(self) -> str:
        rows = [
            (
                THREE[part],
                len(videos),
                sum(len(video.segments) for video in videos),
                f"{sum(video.duration for video in videos) / 3600:.2f}",
                f"{sum(len(video.features) for video in videos):,}",
            )
            for part, videos in self.parts.items()
        ]
        title = f"{self.name}: {len(self.classes)} classes, {self._grid_in_words()}"
        return reprs.as_html(title, ("", "videos", "instances", "hours", "snippets"), rows)


def stream_widths(stated: tuple[int, ...], width: int) -> tuple[int, ...]:
    """Return the width of each stream.

    Args:
        stated: `Dataset.stream_widths`; (): two equal halves.
        width: features per snippet of all streams together; 0 without features.

    Returns:
        (D,) or (D1, D2); () without features.
    """
    halves = (width // 2, width - width // 2)
    return (stated or halves) if width else ()


def as_stream_widths(value: Any, where: str) -> tuple[int, ...]:
    """Return `Dataset.stream_widths` from a file, option or argument.

    Args:
        value: the value to check.
        where: its place, for the error message.

    Raises:
        DataError: it is not a list of up to two whole numbers above 0.
    """
    sequence = isinstance(value, list | tuple) and len(value) <= 2
    if not sequence or not all(isinstance(width, int) and width > 0 for width in value):
        raise DataError(
            f"{where}: stream_widths is {short_repr(value)}; wanted (D,) for one stream, (D1, D2) "
            "for two, or () for two equal halves"
        )
    return tuple(value)


def in_words(streams: tuple[int, ...]) -> str:
    """Return the widths of streams for a message, such as "768" or "1024 + 1024"."""
    return " + ".join(map(str, streams))


def count_annotation_errors(videos: Sequence[Video]) -> dict[str, int]:
    """Count the annotated instances with impossible times.

    They are kept in the ground truth, as in the published evaluations; no detection can match them.

    Args:
        videos: at least one video.

    Returns:
        {"outside": instances that begin after the end of their video or end before its start,
        "reversed": instances that end before they begin, "total": all instances}.
    """
    segments = np.concatenate([video.segments for video in videos])
    end_of_video = np.repeat(
        [video.duration for video in videos], [len(video.segments) for video in videos]
    )
    start, end = segments.T
    return {
        "outside": int(((start > end_of_video) | (end < 0)).sum()),
        "reversed": int((end < start).sum()),
        "total": len(segments),
    }


def multi_hot(videos: Sequence[Video], num_classes: int) -> np.ndarray:
    """Return the video-level labels as a multi-hot array.

    Args:
        videos: V videos.
        num_classes: C.

    Returns:
        (V, C) float32: 1 for the labels of each video, otherwise 0.
    """
    labels = np.zeros((len(videos), num_classes), np.float32)
    for row, video in zip(labels, videos, strict=True):
        row[video.labels] = 1
    return labels


def class_indices(labels: Sequence[str], classes: tuple[str, ...], where: str) -> np.ndarray:
    """Return the positions of class names in a list of classes.

    Args:
        labels: n class names.
        classes: all class names.
        where: file and video, for the error message.

    Returns:
        (n,) int64 class indices.

    Raises:
        DataError: a name is not among `classes`.
    """
    known = _positions(classes)
    if unknown := [index for index, label in enumerate(labels) if label not in known]:
        raise DataError(
            f"{where}: label {short_repr(labels[unknown[0]])} is not among the "
            f"{len(classes)} classes; "
            f"add it to the class list or correct the label (number {unknown[0]}, counted from 0)"
        )
    return np.array([known[label] for label in labels], np.int64)


@functools.lru_cache(maxsize=4)  # the classes of all videos of a data set are the same
def _positions(classes: tuple[str, ...]) -> dict[str, int]:
    return {label: index for index, label in enumerate(classes)}


def contains_bool(value: Any) -> bool:
    """Return True for true or false, and for lists and arrays that contain one.

    Args:
        value: a value from an untrusted file, where a number or nested lists of numbers are wanted.
    """
    waiting = [value]  # not recursive: the file chooses the depth
    for one in waiting:
        kind = getattr(getattr(one, "dtype", None), "kind", "b" if isinstance(one, bool) else "")
        if kind == "b":
            return True
        if isinstance(one, list | tuple) or kind == "O":
            waiting.extend(np.ravel(one).tolist() if kind == "O" else one)
    return False
