"""What a data set is to the rest of the package: videos on a time grid."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxtal.errors import UserError, shown


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
            UserError: a number is negative, NaN or infinite.
        """
        for name, value in (("fps", fps), ("stride", stride), ("window", window)):
            if not 0 <= value < float("inf"):
                raise UserError(f"{name} is {value}; wanted a number above 0, or 0 to leave it")
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


@dataclasses.dataclass(frozen=True, eq=False)
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


@dataclasses.dataclass(frozen=True, eq=False)
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
        """Numbers per snippet, both modalities together (2D)."""
        return self.train[0].features.shape[-1]


def unique(names: list[str], where: str) -> None:
    """Raise UserError if a name occurs twice."""
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            raise UserError(
                f"{where}: {shown(name)} is listed twice, as entry {first[name]} and as entry "
                f"{row} (counted from 0); names must be unique, so rename or remove one"
            )


def defects(videos) -> dict[str, int]:
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


def fingerprint(dataset: Dataset, generated: bool) -> dict[str, int]:
    """What must stay the same for a run on `dataset` to be continued: sizes and a checksum.

    The checksum is over names, training labels and every video's first snippet, so that it costs
    nothing and still tells features that were extracted again. Test annotations are not in it:
    evaluating a run with corrected ones is legitimate. Neither are `generated` features: they
    follow from the config, but on another processor the last bit may differ.
    """
    videos = (*dataset.train, *dataset.test)
    checksum = zlib.crc32(repr(dataset.classes).encode())
    for video in dataset.train:
        checksum = zlib.crc32(video.labels.astype("<i8").tobytes(), checksum)
    for video in videos:
        checksum = zlib.crc32(video.name.encode(), checksum)
        if not generated:
            checksum = zlib.crc32(video.features[:1].tobytes(), checksum)
    return {
        "classes": len(dataset.classes),
        "training videos": len(dataset.train),
        "test videos": len(dataset.test),
        "features a snippet": dataset.feature_width,
        "snippets": sum(len(video.features) for video in videos),
        "checksum": checksum,
    }


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


def subset_called(text: str) -> str:
    """A subset's name as the rest of the package writes it: small letters, "val" written out."""
    return {"val": "validation"}.get(text.lower(), text.lower())


def train_and_test(subsets, where: str, training: bool = True) -> tuple[str, str]:
    """Which of a data set's subsets is trained on and which is tested on.

    Args:
        training: there must be something of both; else there may be a single subset, which is
            tested on unless it is called train or training.
        subsets: names of all subsets, as of `subset_called`: ActivityNet's (training, validation),
            THUMOS14's (validation, test), or train and test.
        where: for the message of the UserError if they are something else.
    """
    for pair in _SPLITS:
        if set(pair) <= set(subsets):
            return pair
    if not training and len(set(subsets)) == 1:
        only = next(iter(subsets))
        return (only, "test") if only in ("train", "training") else ("training", only)
    raise UserError(
        f"{where}: subsets are {shown(sorted(set(subsets)))}; wanted validation and test "
        "(THUMOS14), training and validation (ActivityNet), or train and test"
    )


def class_indices(labels, classes: tuple[str, ...], where: str) -> np.ndarray:
    """(n,) int, positions of class names in `classes`; UserError for an unknown one."""
    known = {label: index for index, label in enumerate(classes)}
    if unknown := [index for index, label in enumerate(labels) if label not in known]:
        raise UserError(
            f"{where}: label {shown(labels[unknown[0]])} is not among the {len(classes)} classes; "
            f"add it to the class list or correct the label (number {unknown[0]}, counted from 0)"
        )
    return np.array([known[label] for label in labels], np.int64)
