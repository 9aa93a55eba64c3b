"""A clean data set in any layout, and corruptions of it, each with the findings that name it.

docs/guides/data_check.md lists the corruptions; a test compares the two.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.data.io import object_arrays
from jaxtal.data.layouts import per_video, wtalc, wtalc_writer

CLASSES = ("Jump", "Run", "Throw")
WIDTH = 1024  # of each stream
GRID = TimeGrid(25, 16)
LAYOUTS = ("wtalc", "hamnet", "basnet", "acmnet", "opentad", "actionformer")
PER_VIDEO = ("basnet", "acmnet", "opentad", "actionformer")
JSON = ("opentad", "actionformer")


@functools.cache
def clean(seed: int = 0, count: int = 12) -> Dataset:
    """Return a data set without findings: `count` training and as many test videos."""
    rng = np.random.default_rng(seed)
    made = [_video(rng, f"vid_{index:03d}", index % len(CLASSES)) for index in range(2 * count)]
    return Dataset("Mine", CLASSES, tuple(made[:count]), tuple(made[count:]), GRID)


def _video(rng: np.random.Generator, name: str, label: int) -> Video:
    length = int(rng.integers(20, 120))
    seconds = length * 16 / 25
    starts = np.arange(0.05, 0.95, 0.15) * seconds
    segments = np.stack([starts, starts + rng.uniform(0.02, 0.1, len(starts)) * seconds], axis=1)
    features = rng.random((length, 2 * WIDTH), np.float32).astype(np.float16) + np.float16(0.01)
    return Video(
        name,
        seconds,
        np.array([label]),
        segments,
        np.full(len(segments), label),
        np.empty((0, 2)),
        features,
    )


Change = Callable[[Dataset, np.random.Generator], Dataset]
Edit = Callable[[Path], None]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One thing that is wrong with a data set.

    Attributes:
        what: the corruption in a few words, as in the documentation.
        kinds: kinds of findings of which one must name it; words of the error message for data sets
            that cannot be read.
        change: corrupts the data set before it is written.
        edit: changes the written folder.
        layouts: the layouts that can hold it.
        options: options with which the corrupted data set is read.
    """

    what: str
    kinds: tuple[str, ...]
    change: Change = lambda dataset, rng: dataset
    edit: Edit = lambda folder: None
    layouts: tuple[str, ...] = LAYOUTS
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def write(folder: Path, dataset: Dataset, layout: str) -> None:
    """Write a data set without checking it, as other programs do."""
    folder.mkdir(parents=True)
    if layout in ("wtalc", "hamnet"):
        wtalc_writer.write_annotations(folder, dataset)
        with open(folder / f"{dataset.name}-I3D-JOINTFeatures.npy", "wb") as file:
            writer = object_arrays.Writer(file, len(dataset.videos))
            for video in dataset.videos:
                writer.add(video.features)
            writer.end()
        if layout == "hamnet":
            (folder / "gt.json").write_text(wtalc.hamnet_ground_truth(dataset))
        return
    spec = next(spec for spec in per_video.LAYOUT_SPECS if spec.name == layout)
    for path, text in per_video.annotation_files(spec, dataset).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for subset, videos in (("train", dataset.train), ("test", dataset.test)):
        for video in videos:
            for path, part in _files(spec, dataset, video, subset).items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                np.save(folder / path, part)


def _files(spec, dataset: Dataset, video: Video, subset: str) -> dict[str, np.ndarray]:
    """Return the files of a video, also of features of a wrong form."""
    axis = int(np.argmax(video.features.shape)) if spec.name == "basnet" else 1
    if axis == 1 or spec.name != "basnet":
        return per_video.feature_files(spec, dataset, video, subset)
    halves = np.array_split(video.features, 2, axis=axis)
    paths = per_video.feature_files(
        spec, dataset, dataclasses.replace(video, features=np.zeros((1, 2))), subset
    )
    return dict(zip(paths, halves, strict=True))


# Changes of the data set in memory


def _annotated_twice(video: Video) -> Video:
    return dataclasses.replace(
        video,
        segments=np.concatenate([video.segments] * 2),
        segment_labels=np.concatenate([video.segment_labels] * 2),
    )


def each(change: Callable[[Video], Video], part: str = "all", share: float = 1.0) -> Change:
    """Return a change of the first videos of one or all parts."""

    def apply(dataset: Dataset, rng: np.random.Generator) -> Dataset:
        def of(videos: tuple[Video, ...]) -> tuple[Video, ...]:
            count = max(1, round(share * len(videos)))
            return (*map(change, videos[:count]), *videos[count:])

        parts = ("train", "test") if part == "all" else (part,)
        return dataclasses.replace(dataset, **{name: of(getattr(dataset, name)) for name in parts})

    return apply


def features(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Video], Video]:
    """Return a change of a video's features."""
    return lambda video: dataclasses.replace(video, features=change(video.features))


def duration(change: Callable[[float], float]) -> Callable[[Video], Video]:
    """Return a change of a video's duration."""
    return lambda video: dataclasses.replace(video, duration=change(video.duration))


def segments(change: Callable[[Video], np.ndarray]) -> Callable[[Video], Video]:
    """Return a change of a video's segments."""
    return lambda video: dataclasses.replace(video, segments=change(video))


def _rescaled(array: np.ndarray, count: int = 100) -> np.ndarray:
    at = np.linspace(0, len(array) - 1, count)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(array) - 1)
    share = (at - low)[:, None]
    return (array[low] * (1 - share) + array[high] * share).astype(array.dtype)


def _padded(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, np.zeros((150 - len(array), array.shape[1]), array.dtype)])


def _resampled(array: np.ndarray, factor: float) -> np.ndarray:
    return array[(np.arange(round(len(array) * factor)) / factor).astype(int)]


def _half(array: np.ndarray, stream: int) -> np.ndarray:
    array = array.copy()
    array[:, stream * WIDTH : (stream + 1) * WIDTH] = 0
    return array


def _with(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[3, 5] = value
    return array


def exchange(part: str, field: str) -> Change:
    """Return a change that exchanges a field of a part's shortest and longest video."""

    def apply(dataset: Dataset, rng: np.random.Generator) -> Dataset:
        videos = list(getattr(dataset, part))
        order = sorted(range(len(videos)), key=lambda index: videos[index].duration)
        first, last = videos[order[0]], videos[order[-1]]
        videos[order[0]] = dataclasses.replace(first, **{field: getattr(last, field)})
        videos[order[-1]] = dataclasses.replace(last, **{field: getattr(first, field)})
        return dataclasses.replace(dataset, **{part: tuple(videos)})

    return apply


def _shift_durations(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """Give every video the duration of the next one."""
    durations = np.roll([video.duration for video in dataset.videos], 1).tolist()
    return dataset.map(lambda video: dataclasses.replace(video, duration=durations.pop(0)))


def _same_features(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """Give all videos the beginning of the longest one's features."""
    longest = max(dataset.videos, key=lambda video: len(video.features)).features
    return dataset.map(
        lambda video: dataclasses.replace(video, features=longest[: len(video.features)])
    )


def _copies(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """Put copies of three training videos with other names among the test videos."""
    copies = [dataclasses.replace(video, name=f"{video.name}_b") for video in dataset.train[:3]]
    return dataclasses.replace(dataset, test=(*copies, *dataset.test[3:]))


def _misspelled(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """Spell a class differently in the training videos."""
    other = len(dataset.classes)

    def change(video: Video) -> Video:
        labels, instances = (
            np.where(of == 0, other, of) for of in (video.labels, video.segment_labels)
        )
        return dataclasses.replace(video, labels=labels, segment_labels=instances)

    changed = each(change, "train")(dataset, rng)
    return dataclasses.replace(changed, classes=(*dataset.classes, "jump"))


def _without_labels(video: Video) -> Video:
    return dataclasses.replace(
        video,
        labels=np.empty(0, np.int64),
        segments=np.empty((0, 2)),
        segment_labels=np.empty(0, np.int64),
    )


# Edits of the written files


def edit_json(change: Callable[[dict[str, Any]], None]) -> Edit:
    """Return an edit of the folder's JSON file of annotations."""

    def edit(folder: Path) -> None:
        found = [*folder.glob("gt.json"), *folder.glob("annotations/*.json")]
        content = json.loads(found[0].read_text())
        change(content)
        found[0].write_text(json.dumps(content))

    return edit


def _exchange_listed(folder: Path) -> None:
    """Exchange the first videos of the two split lists."""
    train, test = (folder / f"split_{part}.txt" for part in ("train", "test"))
    first, *others = train.read_text().splitlines()
    other, *more = test.read_text().splitlines()
    train.write_text("\n".join([other, *others]))
    test.write_text("\n".join([first, *more]))


def drop_grid(content: dict[str, Any]) -> None:
    """Remove everything that states the time grid."""
    for key in ("feature_fps", "feature_stride", "feature_window"):
        content.pop(key)
    for entry in content["database"].values():
        entry.pop("fps", None)
        entry.pop("frame", None)


def _state_grid(content: dict[str, Any]) -> None:
    content.update(feature_stride=4, feature_window=16)


def _subset(name: str, count: int | None = None) -> Callable[[dict[str, Any]], None]:
    """Return a change that puts the last `count` videos into a subset."""

    def change(content: dict[str, Any]) -> None:
        entries = list(content["database"].values())
        for entry in entries[-count:] if count else entries:
            entry["subset"] = name

    return change


def _feature_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.npy") if "Annotations" not in str(path))


def _remove_some(folder: Path) -> None:
    for path in _feature_files(folder)[:2]:
        path.unlink()


def _rename_all(folder: Path) -> None:
    for index, path in enumerate(_feature_files(folder)):
        path.rename(path.with_name(f"clip{index}.npy"))


def _trimmed(video: Video) -> Video:
    whole = np.array([[0.0, video.duration]])
    return dataclasses.replace(video, segments=whole, segment_labels=video.segment_labels[:1])


def _normalized(array: np.ndarray) -> np.ndarray:
    """Divide every snippet by its Euclidean norm."""
    wide = array.astype(np.float32)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(array.dtype)


def _truncate(folder: Path) -> None:
    path = _feature_files(folder)[0]
    path.write_bytes(path.read_bytes()[:-100])


def _rename_as_thumos(folder: Path) -> None:
    for path in sorted(folder.glob("Mine*")):
        path.rename(folder / path.name.replace("Mine", "ActivityNet1.2"))


CORRUPTIONS = (
    Corruption(
        "every second snippet is missing (stride of 32 frames)",
        ("other time grid",),
        each(features(lambda array: array[::2])),
    ),
    Corruption(
        "four snippets in place of one (stride of 4 frames)",
        ("other time grid",),
        each(features(lambda array: np.repeat(array, 4, axis=0))),
    ),
    Corruption(
        "two snippets in place of one in the test videos",
        ("parts on different time grids",),
        each(features(lambda array: np.repeat(array, 2, axis=0)), "test"),
    ),
    Corruption(
        "features at 30 instead of 25 fps",
        ("time grid that fits badly",),
        each(features(lambda array: _resampled(array, 1.2))),
    ),
    Corruption(
        "features at 30 instead of 25 fps, and nothing states a time grid",
        ("time grid that fits badly",),
        each(features(lambda array: _resampled(array, 1.2))),
        edit=edit_json(drop_grid),
        layouts=("acmnet",),
    ),
    Corruption(
        "features at 24 instead of 25 fps",
        ("time grid that fits badly",),
        each(features(lambda array: _resampled(array, 0.96))),
    ),
    Corruption(
        "one snippet per second",
        ("other time grid",),
        each(features(lambda array: _resampled(array, 0.64))),
    ),
    Corruption(
        "features at 10 instead of 25 fps",
        ("other time grid",),
        each(features(lambda array: _resampled(array, 0.4))),
    ),
    Corruption(
        "a time grid is assumed that is not the features'",
        ("other time grid",),
        edit=edit_json(drop_grid),
        layouts=JSON,
    ),
    Corruption(
        "a wrong time grid is stated in the annotations",
        ("other time grid",),
        edit=edit_json(_state_grid),
        layouts=("basnet", *JSON),
    ),
    Corruption(
        "a wrong stride is stated by the user",
        ("other time grid",),
        options={"stride": 8},
    ),
    Corruption(
        "features rescaled to 100 snippets",
        ("rescaled features",),
        each(features(_rescaled)),
    ),
    Corruption(
        "features padded with zeros to one length", ("padded features",), each(features(_padded))
    ),
    Corruption(
        "features padded with copies of the last snippet to one length",
        ("padded features",),
        each(features(lambda array: np.pad(array, ((0, 120 - len(array)), (0, 0)), "edge"))),
    ),
    Corruption(
        "features of one video cover its first half only",
        ("features much longer or shorter than the video",),
        each(features(lambda array: array[: len(array) // 2]), "train", 0.01),
    ),
    Corruption(
        "features of half of the videos cover their first half only",
        ("time that does not fit",),
        each(features(lambda array: array[: len(array) // 2]), share=0.5),
    ),
    Corruption(
        "durations in frames",
        ("durations in frames",),
        each(duration(lambda seconds: seconds * 25)),
        layouts=("wtalc", "basnet", "acmnet", *JSON),
    ),
    Corruption(
        "durations and segments in frames, and a time grid is assumed that is not the features'",
        ("durations in frames",),
        each(
            lambda video: dataclasses.replace(
                video, duration=video.duration * 25, segments=video.segments * 25
            )
        ),
        edit=edit_json(drop_grid),
        layouts=JSON,
    ),
    Corruption(
        "durations and segments in frames",
        ("durations in frames",),
        each(
            lambda video: dataclasses.replace(
                video, duration=video.duration * 25, segments=video.segments * 25
            )
        ),
    ),
    Corruption(
        "segments in frames",
        ("segments in frames",),
        each(segments(lambda video: video.segments * 25)),
    ),
    Corruption(
        "segments in snippets",
        ("segments in another unit",),
        each(segments(lambda video: video.segments * 25 / 16)),
    ),
    Corruption(
        "segments in milliseconds",
        ("segments in another unit",),
        each(segments(lambda video: video.segments * 1000)),
    ),
    Corruption(
        "segments in minutes",
        ("instances at the beginning only",),
        each(segments(lambda video: video.segments / 60)),
    ),
    Corruption(
        "segments as fractions of the duration in the test videos",
        ("instances at the beginning only",),
        each(segments(lambda video: video.segments / video.duration), "test"),
    ),
    Corruption(
        "segments without a length",
        ("instances of no length",),
        each(segments(lambda video: video.segments[:, [0, 0]]), "test"),
    ),
    Corruption(
        "segments as fractions of the duration",
        ("instances at the beginning only",),
        each(segments(lambda video: video.segments / video.duration)),
    ),
    Corruption(
        "durations in milliseconds",
        ("durations in another unit",),
        each(duration(lambda seconds: seconds * 1000)),
    ),
    Corruption(
        "durations in minutes",
        ("durations in another unit",),
        each(duration(lambda seconds: seconds / 60)),
    ),
    Corruption(
        "test videos are trimmed to their instances",
        ("instances as long as their video",),
        each(_trimmed, "test"),
    ),
    Corruption(
        "two durations exchanged",
        ("features much longer or shorter than the video",),
        exchange("train", "duration"),
    ),
    Corruption(
        "every video has the duration of the next one",
        ("time that does not fit",),
        _shift_durations,
    ),
    Corruption(
        "all durations are the same",
        ("time that does not fit",),
        each(duration(lambda seconds: 60.0)),
    ),
    Corruption(
        "the instances of a video begin after its end",
        ("instances outside their video",),
        each(segments(lambda video: video.segments + 2 * video.duration), "test", 0.01),
    ),
    Corruption(
        "instances end before they begin",
        ("instances that end before they begin",),
        each(segments(lambda video: video.segments[:, ::-1]), "test", 0.01),
    ),
    Corruption(
        "instances begin before their video",
        ("instances that begin before their video",),
        each(segments(lambda video: video.segments - video.segments[0].mean()), "test", 0.01),
    ),
    Corruption(
        "test videos are annotated twice",
        ("instances annotated more than once",),
        each(_annotated_twice, "test"),
    ),
    Corruption(
        "features with exchanged axes",
        ("axes",),
        each(features(lambda array: np.ascontiguousarray(array.T))),
        layouts=("wtalc", "acmnet", *JSON),
    ),
    Corruption(
        "features of ten crops",
        ("axes=TCD",),
        each(features(lambda array: np.repeat(array[:, None], 10, axis=1))),
        layouts=("wtalc", "acmnet", *JSON),
    ),
    Corruption(
        "features with an axis of length 1",
        ("axes=1TD",),
        each(features(lambda array: array[None])),
        layouts=("wtalc", "acmnet", *JSON),
    ),
    Corruption(
        "all features are zero", ("zero features",), each(features(lambda array: array * 0))
    ),
    Corruption(
        "features of some videos are zero",
        ("videos of zeros",),
        each(features(lambda array: array * 0), share=0.2),
    ),
    Corruption(
        "all flow features are zero",
        ("stream of zeros",),
        each(features(lambda array: _half(array, 1))),
    ),
    Corruption(
        "RGB features of some videos are zero",
        ("stream of zeros",),
        each(features(lambda array: _half(array, 0)), "test", 0.2),
    ),
    Corruption(
        "NaN in the features of a video",
        ("NaN features",),
        each(features(lambda array: _with(array, np.nan)), "train", 0.01),
    ),
    Corruption(
        "an infinite number in the features of a video",
        ("infinite features",),
        each(features(lambda array: _with(array, np.inf)), "test", 0.01),
    ),
    Corruption(
        "features that do not change over time",
        ("constant features",),
        each(features(lambda array: np.repeat(array[:1], len(array), axis=0)), share=0.5),
    ),
    Corruption("all videos have the same features", ("equal features",), _same_features),
    Corruption(
        "features of two videos exchanged",
        ("features much longer or shorter than the video",),
        exchange("test", "features"),
    ),
    Corruption(
        "features of one video are half as wide",
        ("features per snippet", "features a snippet"),
        each(features(lambda array: array[:, ::2]), "test", 0.01),
    ),
    Corruption(
        "one stream in place of two",
        ("assumed streams",),
        each(features(lambda array: array[:, :WIDTH])),
        layouts=("wtalc", "acmnet"),
    ),
    Corruption(
        "features are integers",
        ("wanted",),
        each(features(lambda array: (100 * array).astype(np.uint8))),
    ),
    Corruption(
        "a video without snippets",
        ("no snippets",),
        each(features(lambda array: array[:0]), "train", 0.01),
    ),
    Corruption(
        "features of two videos are missing",
        ("no feature file",),
        edit=_remove_some,
        layouts=PER_VIDEO,
    ),
    Corruption(
        "feature files with other names",
        ("no feature file", "no features"),
        edit=_rename_all,
        layouts=("acmnet", *JSON),
    ),
    Corruption("a truncated feature file", (".npy",), edit=_truncate, layouts=PER_VIDEO),
    Corruption(
        "features of the test videos are normalized, those of the training videos are not",
        ("features of another scale",),
        each(features(_normalized), "test"),
    ),
    Corruption(
        "every snippet is there four times, as its stride states",
        ("repeated snippets",),
        each(features(lambda array: np.repeat(array, 4, axis=0))),
        options={"stride": 4.0},
    ),
    Corruption(
        "RGB features in the place of flow",
        ("equal streams",),
        each(features(lambda array: np.concatenate([array[:, :WIDTH]] * 2, axis=1))),
    ),
    Corruption(
        "every training video has every label",
        ("every label in every video",),
        each(lambda video: dataclasses.replace(video, labels=np.arange(len(CLASSES))), "train"),
    ),
    Corruption(
        "the background is a class",
        ("background as a class",),
        lambda dataset, rng: dataclasses.replace(dataset, classes=("Background", *CLASSES[1:])),
    ),
    Corruption(
        "labels of the videos in another order than the segments'",
        ("labels that contradict the instances",),
        each(
            lambda video: dataclasses.replace(video, labels=(video.labels + 1) % len(CLASSES)),
        ),
    ),
    Corruption("no training label", ("no training label",), each(_without_labels, "train")),
    Corruption(
        "classes that differ in capitals only",
        ("classes of one name",),
        _misspelled,
    ),
    Corruption(
        "some training videos without a label",
        ("training videos without a label",),
        each(_without_labels, "train", 0.2),
    ),
    Corruption(
        "a class is spelled differently in training",
        ("classes without a training video",),
        _misspelled,
    ),
    Corruption(
        "no test video has ground truth",
        ("no ground truth",),
        each(_without_labels, "test"),
    ),
    Corruption("test videos that are copies of training videos", ("equal features",), _copies),
    Corruption(
        "some videos of a third subset",
        ("unused subsets",),
        edit=edit_json(_subset("spare", 2)),
        layouts=JSON,
    ),
    Corruption(
        "split lists that contradict the JSON file",
        ("contradictory subsets",),
        edit=_exchange_listed,
        layouts=("basnet", "acmnet"),
    ),
    Corruption(
        "all videos in one subset",
        ("wanted some to train on",),
        edit=edit_json(_subset("test")),
        layouts=JSON,
    ),
    Corruption(
        "no test videos",
        ("no test video",),
        edit=edit_json(_subset("training")),
        layouts=JSON,
    ),
    Corruption(
        "the name of another data set",
        ("name of another data set",),
        edit=_rename_as_thumos,
        layouts=("wtalc",),
    ),
)
