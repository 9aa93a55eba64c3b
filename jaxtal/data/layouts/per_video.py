"""Layouts with one JSON file of annotations, and one or two feature files per video.

| layout of | annotations | features |
|---|---|---|
| `basnet`: BaSNet, CoLA | `gt.json`, times are strings; split lists | see below |
| `acmnet`: ACM-Net, ASM-Loc | `gt.json`; split lists take precedence | `{train,test}/VIDEO.npy` |
| `actionformer` | `annotations/*.json` | `*_features/VIDEO.npy` |
| `opentad` | `annotations/*.json`, `category_idx.txt` | `features/SET/VIDEO.npy` |

Joint files are (T, 2D), RGB first. BaSNet's are `features/{train,test}/{rgb,flow}/VIDEO.npy`. Other
forms, places and names of feature files are recognized, see `video_files` and `array_files`.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data import activitynet, activitynet_writer
from jaxtal.data.dataset import FOREVER, WTALC_GRID, Dataset, TimeGrid, Video, stream_widths
from jaxtal.data.io.files import check_class, check_name, check_unique
from jaxtal.data.layouts import split_lists
from jaxtal.data.layouts.video_files import PREFIX, VideoFiles, has_files, unusable
from jaxtal.data.lazy_dataset import LazyDataset, with_features
from jaxtal.data.reading import NOTHING_STATED, ReadingOptions
from jaxtal.errors import DataError

_MOST_TOO_SHORT = 0.75  # 24 of 30 fps, and some more; others are of another time grid
_FIT = 0.9  # share of the videos
_FEW = 3  # [videos] may have the same length by chance
_FRAMES_AS_DURATION = 2.0  # frames / duration up to it, of a duration that is itself in frames


@dataclasses.dataclass(frozen=True)
class LayoutSpec:
    """Specification of one of the layouts.

    Attributes:
        name: the layout's name.
        streams: patterns of the feature files, one for joint files, two for RGB and flow;
            {subset} is train or test, {set} any folder.
        annotations: pattern of the JSON file.
        subsets: names of the training and the test subset in it.
        split: True if split_train.txt and split_test.txt list the videos.
        text: True if segments are written as text.
        categories: the file with the class names, or "".
        grid: time grid of THUMOS14's features in this layout. If its windows overlap, features are
            on native frame rates, and a video may have its own fps.
        short_durations: True if durations may be too short, because frames were divided by 30 fps
            although some videos have 24 or 25 fps.
    """

    name: str
    streams: tuple[str, ...]
    annotations: str
    subsets: tuple[str, str] = ("train", "test")
    split: bool = False
    text: bool = False
    categories: str = ""
    grid: TimeGrid = WTALC_GRID
    short_durations: bool = False


LAYOUT_SPECS = (
    LayoutSpec(
        "basnet",
        ("features/{subset}/rgb/{video}.npy", "features/{subset}/flow/{video}.npy"),
        "gt.json",
        split=True,
        text=True,
    ),
    LayoutSpec("acmnet", ("{subset}/{video}.npy",), "gt.json", split=True, short_durations=True),
    LayoutSpec(
        "opentad",
        ("features/{set}/{video}.npy",),
        "annotations/*.json",
        ("training", "validation"),
        categories="annotations/category_idx.txt",
        grid=TimeGrid(30, 4, 16),
    ),
    LayoutSpec(
        "actionformer",
        ("{set}_features/{video}.npy",),
        "annotations/*.json",
        ("Validation", "Test"),
        grid=TimeGrid(30, 4, 16),
    ),
)


def recognizes(spec: LayoutSpec, folder: Path) -> bool:
    """Return True if a folder has a layout; the first match in `LAYOUT_SPECS` is used.

    Args:
        spec: the layout.
        folder: the folder.
    """
    if not any(folder.glob(spec.annotations)):
        return False
    if spec.categories:
        return os.path.lexists(folder / spec.categories)
    if has_files(folder, spec.streams):
        return True
    others = [other.streams for other in LAYOUT_SPECS if other.annotations == spec.annotations]
    if spec.split and any(has_files(folder, streams) for streams in others):
        return False
    if spec.split:  # annotations only: in BaSNet's, segments are text
        return _segments_are_text(folder / spec.annotations) == spec.text
    return spec.name == "actionformer"


def _segments_are_text(path: Path) -> bool:
    for entry in activitynet.entries(path).values():
        listed = entry.get("annotations") if isinstance(entry, dict) else ()
        for one in listed if isinstance(listed, list) else ():
            segment = one.get("segment") if isinstance(one, dict) else ()
            return isinstance(segment, list) and bool(segment) and isinstance(segment[0], str)
    return False


def source(
    spec: LayoutSpec,
    folder: Path,
    wanted: bool | None = None,
    options: ReadingOptions = NOTHING_STATED,
) -> LazyDataset:
    """Return the data set in a folder with one of the layouts.

    Args:
        spec: the layout.
        folder: the data set's folder.
        wanted: True: require features; None: use them if present; False: annotations only.
        options: statements of the user about the data set. The name also selects one of several
            annotation files; its default is the name in the file, or else the folder's. The time
            grid determines durations that are computed from the number of snippets.

    Returns:
        The data set, whose features are read on demand.

    Raises:
        DataError: annotations or features are missing, malformed or contradictory.
    """
    path = _annotation_file(spec, folder, options.name)
    entries = activitynet.entries(path)
    names = list(entries)
    index = VideoFiles(folder, spec.streams, names, options.axes)
    if wanted and names and not index.matched:
        raise DataError(f"{folder}: {unusable(folder, spec.streams, names)}")
    of_videos = index if all(index.streams) and wanted is not False else None
    computed: set[str] = set()
    split = split_lists.read(folder, names) if spec.split else None
    reading = _reading(spec, folder, index, options, computed, split)
    dataset, has_time_grid, unused = activitynet.read_as(path, reading)
    if spec.split and dataset.name == path.stem:
        dataset = dataclasses.replace(dataset, name=folder.resolve().name)
    longer: tuple[str, ...] = ()
    notes = list(index.notes if of_videos else ())
    if wanted is None and not index.matched:
        notes.append(unusable(folder, spec.streams, names))
    if spec.short_durations and not has_time_grid and options.time == "grid":
        grid = dataset.grid.replaced(options.fps, options.stride, options.window)
        own = dataset if options.fps else _with_own_rates(dataset, entries, grid, index)
        dataset, longer = _longer(own, grid, index)
    known = [video.name for video in dataset.videos]
    known += [name for names in unused.values() for name in names]
    if unknown := sorted(set(split or ()) - set(known)):
        notes.append(f"{len(unknown)} listed videos are not in {path.name}, {unknown[0]} first")
    bare = LazyDataset(
        layout=spec.name,
        path=folder,
        dataset=dataset,
        has_time_grid=has_time_grid,
        notes=tuple(notes),
        unused={subset: len(names) for subset, names in unused.items()},
        computed_durations=len(computed),
        contradictory=split_lists.contradictory(split or {}, entries),
        lengthened=longer,
    )
    return _with_features(bare, of_videos, known) if of_videos else bare


def _with_features(source: LazyDataset, files: VideoFiles, known: list[str]) -> LazyDataset:
    """Return the data set with its features; `known` are the names of all annotated videos."""
    absent = tuple(v.name for v in source.videos if not files.paths(v.name))
    used = {path for name in known for path in files.paths(name) or ()}
    widths = files.widths if len(files.streams) == 2 else None
    return dataclasses.replace(
        with_features(source, files, files.shape, widths),
        missing=absent,
        declared_missing=tuple(sorted(set(absent) & _declared_missing(source.path))),
        unannotated=tuple(name for name, at in files.streams[0].items() if at not in used),
    )


def _annotation_file(spec: LayoutSpec, folder: Path, name: str) -> Path:
    """Return the only annotation file, or the one with the data set's name."""
    found = sorted(folder.glob(spec.annotations))
    named = [path for path in found if path.stem == name]
    if len(named or found) != 1:
        raise DataError(
            f"{folder / spec.annotations}: {len(found)} files; wanted one, or one named like "
            f"the data set: {', '.join(path.name for path in found)}"
        )
    return (named or found)[0]


def _reading(
    spec: LayoutSpec,
    folder: Path,
    index: VideoFiles,
    options: ReadingOptions,
    computed: set[str],
    split: dict[str, str] | None,
) -> activitynet.ReadOptions:
    """Return the options for reading the annotations; `computed` gets videos without durations."""
    times = options.fps, options.stride, options.window
    grid = WTALC_GRID if index.prefixed else spec.grid

    def seconds(name: str, own: TimeGrid) -> float | None:
        computed.add(name)
        snippets = index.snippets(name)
        return float(own.replaced(*times).to_seconds(snippets)) if snippets else None

    def fps(entry: dict[str, Any], duration: float) -> Any:
        if grid.stride == grid.window:
            return None
        frames = entry.get("frame")
        if not isinstance(frames, int | float):
            return entry.get("fps")
        rate = frames / duration if abs(frames) < FOREVER else frames
        return entry.get("fps") if 0 < rate <= _FRAMES_AS_DURATION else rate

    return activitynet.ReadOptions(
        options,
        split=split,
        classes=_categories(folder / spec.categories) if spec.categories else (),
        duration=seconds,
        grid=grid,
        fps=fps,
        ambiguous="Ambiguous",
    )


def _categories(path: Path) -> tuple[str, ...]:
    names = split_lists.lines(path)
    if not names:
        raise DataError(f"{path}: no class; wanted one name per line")
    check_unique(names, f"{path}")
    return tuple(check_class(name, f"{path}") for name in names)


def _declared_missing(folder: Path) -> set[str]:
    lists = [*folder.glob("missing_files.txt"), *folder.glob("*/missing_files.txt")]
    lists += folder.glob("features/*/missing_files.txt")
    names = {name for path in lists for name in split_lists.lines(path)}
    return names | {name.removeprefix(PREFIX) for name in names}


def _with_own_rates(
    dataset: Dataset, entries: Mapping[str, Any], grid: TimeGrid, index: VideoFiles
) -> Dataset:
    """Return the data set with the frame rates of its entries, if only these fit the durations."""
    rates = [entries[video.name].get("fps") for video in dataset.videos]
    if not rates or not all(isinstance(rate, int | float) and rate > 0 for rate in rates):
        return dataset
    snippets = np.array([index.snippets(video.name) for video in dataset.videos])
    durations = np.array([video.duration for video in dataset.videos])
    own = dataclasses.replace(grid, fps=np.array(rates, np.float64))
    fits = [
        (np.abs(one.to_seconds(snippets) - durations) <= 1.5 * one.stride / one.fps).mean()
        for one in (grid, own)
    ]
    if fits[0] >= _FIT or fits[1] < _FIT:
        return dataset
    return dataset.map(
        lambda video: dataclasses.replace(video, fps=float(entries[video.name]["fps"]))
    )


def _longer(dataset: Dataset, grid: TimeGrid, index: VideoFiles) -> tuple[Dataset, tuple[str, ...]]:
    """Replace durations that are more than 5 % shorter than the features by the features'.

    If those of most videos are, nothing is replaced: the time grid is another one. Nor is it if all
    features have one length, to which they were rescaled or padded.

    Returns:
        The data set, and the names of the changed videos.
    """
    changed = []

    def longer(video: Video) -> Video:
        seconds = float(grid.replaced(video.fps or 0).to_seconds(index.snippets(video.name)))
        if not _MOST_TOO_SHORT * seconds < video.duration <= 0.95 * seconds:
            return video
        changed.append(video.name)
        return dataclasses.replace(video, duration=seconds)

    replaced = dataset.map(longer)
    lengths = {index.snippets(video.name) for video in dataset.videos}
    fixed = len(lengths) == 1 and len(dataset.videos) > _FEW
    if fixed or len(changed) > len(dataset.videos) / 2:
        return dataset, ()
    return replaced, tuple(changed)


def feature_files(
    spec: LayoutSpec, dataset: Dataset, video: Video, subset: str
) -> dict[str, np.ndarray]:
    """Return {path in the data set's folder: features} of the files of one video.

    Args:
        spec: the layout.
        dataset: the data set, for its name.
        video: a video with features.
        subset: "train" or "test".

    Raises:
        DataError: the features cannot be split into RGB and flow.
    """
    stem = PREFIX * (dataset.name.startswith("ActivityNet") and "{set}" in spec.streams[0])
    widths = stream_widths(dataset.stream_widths, video.features.shape[1])
    if len(spec.streams) == 2 and len(widths) == 1:
        raise DataError(
            f"video {video.name}: one stream of {widths[0]} features a snippet, but the layout "
            f"{spec.name!r} has files of RGB and of flow; give another layout=..."
        )
    parts = np.split(video.features, widths[:1], axis=1) if len(spec.streams) == 2 else None
    return {
        stream.format(subset=subset, set="i3d", video=stem + video.name): part
        for stream, part in zip(spec.streams, parts or [video.features], strict=True)
    }


def annotation_files(spec: LayoutSpec, dataset: Dataset) -> dict[str, str]:
    """Return {path in the data set's folder: content} of the annotation files.

    Beyond the fields that the layout's programs read, the files have video-level labels, ambiguous
    intervals, durations, the class list and the time grid, so that no information is lost.

    Args:
        spec: the layout.
        dataset: the data set.

    Raises:
        DataError: a name cannot be represented in the layout.
    """
    subsets = spec.subsets
    if dataset.name.startswith("ActivityNet") and not spec.split:
        subsets = ("training", "validation")
    segment = activitynet_writer.as_text if spec.text else list
    more = {} if spec.split else _more(dataset)
    content = activitynet_writer.to_content(dataset, subsets, segment, **more)
    texts = {_file_name(spec, dataset): json.dumps(content)}
    if spec.split:
        for subset, videos in zip(split_lists.SUBSETS, (dataset.train, dataset.test), strict=True):
            texts[f"split_{subset}.txt"] = "".join(f"{video.name}\n" for video in videos)
    if spec.categories:
        if blank := [name for name in dataset.classes if name != name.strip()]:
            raise DataError(
                f"class {blank[0]!r} begins or ends with a blank, which the layout "
                f"{spec.name!r} cannot hold"
            )
        texts[spec.categories] = "".join(f"{name}\n" for name in dataset.classes)
    return texts


def _file_name(spec: LayoutSpec, dataset: Dataset) -> str:
    check_name(dataset.name, "the name of the data set")
    return spec.annotations.replace("*", dataset.name)


def _more(dataset: Dataset) -> dict[str, Callable]:
    """Return arguments of `activitynet_writer.to_content` for ActionFormer and OpenTAD."""

    def fps(video: Video) -> float:
        return float(dataset.grid.fps if video.fps is None else video.fps)

    def of_instance(video: Video, label: int, times: list[float]) -> dict[str, Any]:
        return {"label_id": label, "segment(frames)": [time * fps(video) for time in times]}

    def more(video: Video) -> dict[str, Any]:
        return {"fps": fps(video), "frame": round(video.duration * fps(video))}

    return {"more": more, "of_instance": of_instance}
