"""What a data set is to the rest of the package: videos on a time grid."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxtal import reprs
from jaxtal.errors import DataError, short_repr, warn


@dataclasses.dataclass(frozen=True)
class TimeGrid:
    """Where snippets lie in time.

    Snippet i is seen through frames i * stride to i * stride + window and stands for the `stride`
    frames around their middle, so that snippets tile the time also where windows overlap.

    Attributes:
        fps: frames per second of the video that the features were extracted from; (V,) for videos
            that differ, see `of`.
        stride: frames from the start of one snippet to the start of the next.
        window: frames that a snippet's features were computed from; as many as `stride` if None.
    """

    fps: Any = 25.0
    stride: float = 16
    window: float | None = None

    def __post_init__(self):
        if self.window is None:
            object.__setattr__(self, "window", self.stride)

    @property
    def times(self) -> tuple[float, float, float]:
        """Fps, stride and window."""
        assert self.window is not None
        return self.fps, self.stride, self.window

    @property
    def offset(self) -> float:
        """Frames before the first snippet's."""
        assert self.window is not None
        return (self.window - self.stride) / 2

    def to_snippets(self, seconds):
        """Seconds to (fractional) snippets, in float64 as ``(seconds * fps - offset) / stride``."""
        return (np.asarray(seconds, np.float64) * self.fps - self.offset) / self.stride

    def to_seconds(self, snippets):
        """(Fractional) snippets to seconds."""
        return (np.asarray(snippets, np.float64) * self.stride + self.offset) / self.fps

    def of(self, videos) -> "TimeGrid":
        """The grids of several videos as one, whose fps is (V,): some have an fps of their own."""
        fps = [self.fps if video.fps is None else video.fps for video in videos]
        return dataclasses.replace(self, fps=np.array(fps, np.float64))

    def replaced(self, fps: float = 0, stride: float = 0, window: float = 0) -> "TimeGrid":
        """The grid with other numbers where they are not 0.

        A stride without a window changes both where they were one.

        Raises:
            DataError: a number is negative, NaN or infinite.
        """
        for name, value in (("fps", fps), ("stride", stride), ("window", window)):
            if not 0 <= value < float("inf"):
                raise DataError(f"{name} is {value}; wanted a number above 0, or 0 to leave it")
        together = stride and self.window == self.stride
        return TimeGrid(
            fps or self.fps,
            stride or self.stride,
            window or (stride if together else self.window),
        )

    def take(self, video) -> "TimeGrid":
        """Of a grid made by `of`, that of the videos at an index; any other is the same for all."""
        return dataclasses.replace(self, fps=self.fps[video]) if np.ndim(self.fps) else self

    def round_to_snippets(self, seconds):
        """Seconds to whole snippets, halves to even, as the published programs evaluate."""
        return np.rint(self.to_snippets(seconds))


FOREVER = 1e9  # seconds, 32 years: no time of a video
LEAST_POSITIVE, MOST_POSITIVE = 1e-3, 1e9  # of frames per second, strides and windows
WTALC_GRID = TimeGrid()  # what the weakly supervised programs assume everywhere
NO_FEATURES = np.empty((0, 0), np.float32)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Video:
    """One untrimmed video.

    Attributes:
        name: unique in the data set.
        duration: seconds.
        labels: (n,) int, sorted distinct class indices; all that training may see.
        segments: (m, 2) float64, start and end in seconds of every annotated instance.
        segment_labels: (m,) int, class index of every instance.
        ambiguous: (a, 2) float64, seconds, intervals in which detections are not judged.
        features: (T, 2D) float16 or float32, RGB first; (0, 0) where only annotations were read.
        fps: frames per second of this video's features, where they are not the data set's.
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


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training and test videos over one list of classes.

    Attributes:
        name: as in the file names, e.g. ``Thumos14reduced``.
        classes: class names; the position is the class index.
        train, test: videos; the test videos' segments are what is evaluated against.
        grid: the time grid of the features, but for what `Video.fps` says.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[Video, ...]
    test: tuple[Video, ...]
    grid: TimeGrid = TimeGrid()

    def map(self, change: Callable[[Video], Video]) -> "Dataset":
        """The same with another video for each."""
        train, test = (tuple(map(change, part)) for part in (self.train, self.test))
        return dataclasses.replace(self, train=train, test=test)

    @property
    def feature_width(self) -> int:
        """Numbers per snippet, both modalities together (2D); 0 where there are no features."""
        return next((video.features.shape[-1] for video in (*self.train, *self.test)), 0)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, {len(self.train)} training and {len(self.test)} test videos, "
            f"{len(self.classes)} classes, {self._grid_in_words()})"
        )

    def _grid_in_words(self) -> str:
        width = f"{self.feature_width} features a snippet" if self.feature_width else "no features"
        return f"{width}, {self.grid.fps:g} fps, stride {self.grid.stride:g}"

    def _repr_html_(self) -> str:
        rows = [
            (
                part,
                len(videos),
                sum(len(video.segments) for video in videos),
                f"{sum(video.duration for video in videos) / 3600:.2f}",
                f"{sum(len(video.features) for video in videos):,}",
            )
            for part, videos in (("training", self.train), ("test", self.test))
        ]
        title = f"{self.name}: {len(self.classes)} classes, {self._grid_in_words()}"
        return reprs.as_html(title, ("", "videos", "instances", "hours", "snippets"), rows)


def count_annotation_errors(videos) -> dict[str, int]:
    """How many annotated instances cannot be right, by kind.

    They stay in the ground truth, as in the published evaluations, where nothing can match them.

    Returns:
        {"outside": begin after the end of their video or end before its start, "reversed": end
        before they begin, "total": all instances}.
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


def warn_of_defects(name: str, videos) -> None:
    """Log a warning of how many annotated instances cannot be right, if any."""
    found = count_annotation_errors(videos)
    if found["outside"] or found["reversed"]:
        warn(
            f"{name}: of {found['total']} instances {found['outside']} lie outside their video and "
            f"{found['reversed']} end before they begin; they stay in the ground truth, where "
            "nothing can match them"
        )


def multi_hot(videos, num_classes: int) -> np.ndarray:
    """(V, C) float32, 1 where the video carries the class as a video-level label."""
    labels = np.zeros((len(videos), num_classes), np.float32)
    for row, video in zip(labels, videos, strict=True):
        row[video.labels] = 1
    return labels


_SPLITS = (
    ("training", "validation"),
    ("train", "test"),
    ("validation", "test"),
    ("train", "validation"),
    ("training", "test"),
)


def normalize_subset(text: str) -> str:
    """A subset's name as the rest of the package writes it: small letters, "val" written out."""
    return {"val": "validation"}.get(text.lower(), text.lower())


def train_and_test(subsets, where: str, training: bool = True) -> tuple[str, str]:
    """Which of a data set's subsets is trained on and which is tested on.

    Args:
        training: there must be something of both; else there may be a single subset, which is
            tested on unless it is called train or training.
        subsets: names of all subsets, as of `normalize_subset`: ActivityNet's (training,
            validation), THUMOS14's (validation, test), or train and test.
        where: for the message of the DataError if they are something else.
    """
    for pair in _SPLITS:
        if set(pair) <= set(subsets):
            return pair
    if not training and len(set(subsets)) == 1:
        only = next(iter(subsets))
        return (only, "test") if only in ("train", "training") else ("training", only)
    raise DataError(
        f"{where}: subsets are {short_repr(sorted(set(subsets)))}; wanted validation and test "
        "(THUMOS14), training and validation (ActivityNet), or train and test"
    )


def class_indices(labels, classes: tuple[str, ...], where: str) -> np.ndarray:
    """(n,) int, positions of class names in `classes`; DataError for an unknown one."""
    known = {label: index for index, label in enumerate(classes)}
    if unknown := [index for index, label in enumerate(labels) if label not in known]:
        raise DataError(
            f"{where}: label {short_repr(labels[unknown[0]])} is not among the "
            f"{len(classes)} classes; "
            f"add it to the class list or correct the label (number {unknown[0]}, counted from 0)"
        )
    return np.array([known[label] for label in labels], np.int64)
