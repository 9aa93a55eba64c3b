"""The W-TALC layout: <DS>-I3D-JOINTFeatures.npy beside <DS>-Annotations/.

W-TALC, CO2-Net, D2-Net and many others read it. Strings may be bytes or text, durations (N,) or
(N, 1), and object arrays Python 2 or Python 3 pickles. Streams that were extracted separately may
be in <DS>-I3D-RGBFeatures.npy and <DS>-I3D-FLOWFeatures.npy instead of the joint file.
"""

import dataclasses
import functools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from jaxtal.data import activitynet, activitynet_writer
from jaxtal.data import axes as feature_axes
from jaxtal.data.dataset import (
    FOREVER,
    WTALC_GRID,
    Dataset,
    Video,
    class_indices,
    with_seconds,
)
from jaxtal.data.io import object_arrays
from jaxtal.data.io.feature_files import check_features, join_streams
from jaxtal.data.io.files import (
    check_class,
    check_name,
    check_unique,
    contents,
    open_regular,
)
from jaxtal.data.lazy_dataset import LazyDataset, with_features
from jaxtal.data.reading import NOTHING_STATED, PARTS, ReadingOptions, assign_subsets
from jaxtal.errors import DataError, short_repr

_FILES = ("videoname", "subset", "classlist", "labels", "labels_all", "segments", "duration")
_OF_VIDEO = ("labels", "labels_all", "segments", "duration")
AMBIGUOUS = "Ambiguous_test.txt"


def find(folder: Path) -> list[str]:
    """Return the names <DS> of the data sets in a folder."""
    ending = "-Annotations"
    return sorted(
        path.name.removesuffix(ending)
        for path in folder.glob(f"*{ending}")
        if (path / "videoname.npy").is_file()
    )


def locate(path: Path, name: str) -> tuple[Path, str]:
    """Return folder and name of the data set in `path`.

    Args:
        path: the folder, or its annotation folder <DS>-Annotations.
        name: name of the data set; "": there must be only one.

    Returns:
        The folder that contains <DS>-Annotations, and <DS>.

    Raises:
        DataError: the folder contains no data set, or several and `name` is "".
    """
    ending = "-Annotations"
    if path.name.endswith(ending) and not name:
        return path.parent, path.name.removesuffix(ending)
    found = find(path)
    if not name and len(found) != 1:
        raise DataError(
            f"{path} holds {len(found)} folders <DS>{ending}; wanted one, or the name of one: "
            f"{', '.join(found) or 'found none'}"
        )
    return path, name or found[0]


def read(folder: Path, name: str, features: bool = True) -> Dataset:
    """Read data set `name` of `folder`, with all features in memory or with none.

    Args:
        folder: folder with the annotation folder and the feature file.
        name: <DS>, the prefix of both.
        features: read the features.

    Returns:
        The data set, with times in seconds.

    Raises:
        DataError: files are missing, malformed or contradictory.
    """
    found = source(folder, name, features)
    return found.load() if features else found.dataset


def source(
    path: Path,
    name: str,
    features: bool | None = True,
    options: ReadingOptions = NOTHING_STATED,
) -> LazyDataset:
    """Return data set `name` of a folder.

    Args:
        path: folder with the annotation folder and the feature file, or the annotation folder.
        name: <DS>, the prefix of both; "": there must be only one.
        features: True: require features; None: use them if present; False: annotations only.
        options: statements of the user about the data set.

    Returns:
        The data set, whose features are mapped from the file on demand.

    Raises:
        DataError: files are missing, malformed or contradictory; the message names file and video.
    """
    folder, name = locate(path, name)
    annotations, feature_files = _paths(folder, name, bool(features))
    columns = {key: object_arrays.load(annotations / f"{key}.npy") for key in _FILES}
    _check_counts(columns, annotations)
    classes = tuple(
        check_class(name, f"{annotations / 'classlist.npy'}")
        for name in _texts(columns["classlist"], f"{annotations / 'classlist.npy'}")
    )
    names = _texts(columns["videoname"], f"{annotations / 'videoname.npy'}")
    check_unique(list(classes), f"{annotations / 'classlist.npy'}")
    check_unique(names, f"{annotations / 'videoname.npy'}")
    for name_of_video in names:
        check_name(name_of_video, f"{annotations / 'videoname.npy'}")
    ambiguous = _read_ambiguous(annotations / AMBIGUOUS)
    subsets = _texts(columns["subset"], f"{annotations / 'subset.npy'}")
    counts = dict(Counter(subsets))
    annotated = zip(subsets, columns["segments"], strict=True)
    filled = {one for one, found in annotated if not _is_empty(found)}
    assigned = assign_subsets(counts, filled, options, f"{annotations / 'subset.npy'}")
    parts: dict[str, list[Video]] = {part: [] for part in PARTS}
    rate = options.annotation_fps or options.fps or WTALC_GRID.fps
    for row, video in enumerate(names):
        if subsets[row] in assigned:
            where = f"{annotations}, video {video}"
            about = {key: columns[key][row] for key in _OF_VIDEO}
            made = _video(video, about, classes, where)
            made = dataclasses.replace(made, ambiguous=ambiguous.get(video, np.empty((0, 2))))
            if options.unit != "seconds":
                made = with_seconds(made, rate, options.unit)
            parts[assigned[subsets[row]]].append(made)
    dataset = Dataset(name, classes, (), ()).with_parts(parts)
    unused = {one: count for one, count in counts.items() if one not in assigned}
    bare = LazyDataset("wtalc", folder, dataset, unused=unused)
    if features is None and not all(map(os.path.lexists, feature_files)):
        return dataclasses.replace(bare, notes=_missing(folder, feature_files))
    if features is False:
        return bare
    read = _Features(feature_files, names, options.axes)
    return with_features(bare, read, read.shape, read.widths if read.separate else None)


def _video(name: str, row: dict[str, Any], classes: tuple[str, ...], where: str) -> Video:
    """Return a video from its entries in the annotation files."""
    segments = _segments(row["segments"], where)
    labels = _labels(row["labels"], classes, where)
    if len(labels) != len(segments):
        raise DataError(f"{where}: {len(labels)} labels for {len(segments)} segments")
    return Video(
        name=name,
        duration=_duration(row["duration"], where),
        labels=np.unique(_labels(row["labels_all"], classes, where)),
        segments=segments,
        segment_labels=labels,
        ambiguous=np.empty((0, 2)),
    )


def _is_empty(entry: Any) -> bool:
    """Return True for no instances: an array without elements, or an empty list."""
    return not (entry.size if isinstance(entry, np.ndarray) else entry)


def _missing(folder: Path, feature_files: list[Path]) -> tuple[str, ...]:
    """Return a remark about the files of a folder without features."""
    names = " and ".join(path.name for path in feature_files)
    return (
        f"no features among {contents(folder)}; wanted {names}, an object array with the (T, 2D) "
        "features of every video in the order of videoname.npy",
    )


def _paths(folder: Path, name: str, features: bool) -> tuple[Path, list[Path]]:
    """Return the annotation folder and the feature files: the joint file, or RGB and flow."""
    annotations = folder / f"{name}-Annotations"
    joint, *streams = (folder / f"{name}-I3D-{s}Features.npy" for s in ("JOINT", "RGB", "FLOW"))
    separate = not os.path.lexists(joint) and any(path.is_file() for path in streams)
    feature_files = streams if separate else [joint]
    wanted = [annotations / f"{key}.npy" for key in _FILES] + feature_files * features
    if missing := [path for path in wanted if not path.is_file()]:
        raise DataError(
            f"no data set {name!r} in {folder}"
            + f": {missing[0].relative_to(folder)} is missing"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else "")
            + "; looked for the W-TALC layout: "
            + f"{joint.name} (object array of (T, 2D) float features, RGB first) and " * features
            + f"{annotations.name}/{{{','.join(_FILES)}}}.npy"
            + ". Without data, run configs/co2net_demo.py" * features
        )
    return annotations, feature_files


def _texts(values, where: str) -> list[str]:
    """Return names as text; they may be bytes. Raise DataError for other values."""
    texts = []
    for row, value in enumerate(values):
        if not isinstance(value, str | bytes | int | float | np.generic):
            raise DataError(
                f"{where}: entry {row} (counted from 0) is {short_repr(value)}; wanted text"
            )
        texts.append(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
    return texts


def _check_counts(columns: dict[str, np.ndarray], annotations: Path) -> None:
    for key, column in columns.items():
        if not np.ndim(column):
            raise DataError(f"{annotations / key}.npy holds a single value; wanted an array")
    count = len(columns["videoname"])
    for key in _FILES:
        if key != "classlist" and len(columns[key]) != count:
            raise DataError(
                f"{annotations / key}.npy has {len(columns[key])} entries, but videoname.npy has "
                f"{count}; they must belong to the same data set"
            )


def _labels(names, classes: tuple[str, ...], where: str) -> np.ndarray:
    if not isinstance(names, list) and not (isinstance(names, np.ndarray) and names.ndim == 1):
        raise DataError(
            f"{where}: labels are {short_repr(_plain(names))}; wanted a list of class names"
        )
    return class_indices(_texts(names, f"{where}, labels"), classes, where)


def _duration(value, where: str) -> float:
    try:
        seconds = float(_without_bools(np.ravel(value[0] if isinstance(value, list) else value))[0])
    except (TypeError, ValueError, IndexError):
        seconds = float("nan")
    if not 0 < seconds < FOREVER:
        raise DataError(f"{where}: duration is {short_repr(_plain(value))}; wanted seconds above 0")
    return seconds


def _without_bools(numbers: np.ndarray) -> np.ndarray:
    """Return an array, or raise TypeError if it contains true or false."""
    if {bool, np.bool_} & set(map(type, numbers.ravel().tolist())):
        raise TypeError
    return numbers


def _plain(value):
    """Return a value for a message, without NumPy's repr."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _segments(value, where: str) -> np.ndarray:
    try:
        if not isinstance(value, list | np.ndarray):
            raise TypeError
        segments = _without_bools(np.asarray(list(value), object)).astype(np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise DataError(f"{where}: segments must be a list of [start, end] in seconds") from None
    if not (np.abs(segments) < FOREVER).all():
        raise DataError(f"{where}: a segment's time is not a finite number of seconds")
    return segments


def _read_ambiguous(path: Path) -> dict[str, np.ndarray]:
    """Return {video: (a, 2) seconds} from lines `video start end`; ActivityNet has no such file."""
    intervals: dict[str, list[tuple[float, float]]] = {}
    if not os.path.lexists(path):
        if path.parent.name.startswith("Thumos14"):
            raise DataError(f"{path} is missing; without it THUMOS14 results are not comparable")
        return {}
    with open_regular(path) as file:
        text = file.read().decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        if fields := line.rsplit(maxsplit=2):
            try:
                video, start, end = fields[0], *map(float, fields[1:])
                if not max(abs(start), abs(end)) < FOREVER:
                    raise ValueError
                intervals.setdefault(video, []).append((start, end))
            except ValueError:
                raise DataError(
                    f"{path}, line {number}: {short_repr(line.strip())}; wanted: video start end, "
                    "in seconds"
                ) from None
    return {video: np.array(pairs) for video, pairs in intervals.items()}


class _Features:
    """Reader of a video's features from the joint file, or from the RGB and the flow file."""

    def __init__(self, paths: list[Path], names: list[str], axes: str):
        self._axes = axes
        self._seen = {path: _version(path) for path in paths}
        self._files = {path: object_arrays.load(path) for path in paths}
        self._rows = {name: row for row, name in enumerate(names)}
        self.separate = len(paths) == 2
        for path, arrays in self._files.items():
            if np.ndim(arrays) == 0 or len(arrays) != len(names):
                raise DataError(
                    f"{path}: features of {np.size(arrays)} videos, but the annotations list "
                    f"{len(names)}; they must belong to the same data set, in the same order"
                )

    def _parts(self, video: Video) -> list[np.ndarray]:
        row, parts = self._rows[video.name], []
        self._check_unchanged()  # reading a mapped file that was shortened kills the process
        for path, arrays in self._files.items():
            value, where = arrays[row], f"{path}, video {video.name}"
            if isinstance(value, np.ndarray) and (value.ndim == 3 or self._axes != "TD"):
                shapes = functools.partial(map, np.shape, arrays[:9])
                value = feature_axes.apply(value, self._axes, where, shapes)
            parts.append(check_features(value, where))
        self._check_unchanged()
        return parts

    def _check_unchanged(self) -> None:
        for path, seen in self._seen.items():
            if _version(path) != seen:
                raise DataError(
                    f"{path}: changed while it was in use; repeat the command when nothing writes "
                    "to the file"
                )

    def _shapes(self, video: Video) -> list[tuple[int, ...]]:
        row = self._rows[video.name]
        shapes = [getattr(arrays[row], "shape", ()) for arrays in self._files.values()]
        if self._axes != "TD":
            shapes = [feature_axes.shape_after(shape, self._axes) for shape in shapes]
        if any(len(shape) != 2 for shape in shapes):
            self._parts(video)  # raises the appropriate error
        return shapes

    def shape(self, video: Video) -> tuple[int, int]:
        """Return (T, 2D) without copying features."""
        return self._shapes(video)[0][0], sum(self.widths(video))

    def widths(self, video: Video) -> tuple[int, ...]:
        """Return the width of each file's features, without copying them."""
        return tuple(width for _, width in self._shapes(video))

    def __call__(self, video: Video) -> np.ndarray:
        """Return the (T, 2D) features of a video, joined from its streams."""
        joint, *flow = self._parts(video)
        where = f"{next(iter(self._files)).parent}, video {video.name}"
        return join_streams(joint, flow[0], where) if flow else joint


def _version(path: Path) -> tuple[int, ...]:
    """Return numbers that differ after a file was written to or replaced; () if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ino


def hamnet_ground_truth_file(folder: Path, name: str) -> Path | None:
    """Return the path of a HAM-Net data set's gt.json, or None if there is no such file.

    Args:
        folder: the data set's folder; gt.json is in it, in <DS>-Annotations or in <DS>.
        name: <DS>.
    """
    places = folder, folder / f"{name}-Annotations", folder / name
    return next((place / "gt.json" for place in places if os.path.lexists(place / "gt.json")), None)


def detects_hamnet(folder: Path) -> bool:
    """Return True if a folder has HAM-Net's layout."""
    return any(hamnet_ground_truth_file(folder, name) for name in find(folder))


def hamnet_source(path: Path, features: bool | None, options: ReadingOptions) -> LazyDataset:
    """Return a data set in HAM-Net's layout; gt.json has its instances.

    Args:
        path: the folder, or its annotation folder <DS>-Annotations.
        features: True: require features; None: use them if present; False: annotations only.
        options: statements of the user about the data set.

    Raises:
        DataError: as `source`; or gt.json is missing, malformed or has other classes.
    """
    folder, name = locate(path, options.name)
    truth = hamnet_ground_truth_file(folder, name)
    if truth is None:
        raise DataError(f"{folder}: no gt.json; without it the layout is 'wtalc'")
    found = source(folder, name, features, options)
    reading = activitynet.ReadOptions(options, duration=lambda *_: None)
    stated = activitynet.read_as(truth, reading).dataset
    if set(stated.classes) != set(found.dataset.classes):
        differing = sorted(set(stated.classes) ^ set(found.dataset.classes))
        raise DataError(
            f"{truth}: its classes are not those of {name}-Annotations/classlist.npy; "
            f"{short_repr(differing[0])} is in one of them only"
        )
    index = {name: number for number, name in enumerate(found.dataset.classes)}
    order = np.array([index[name] for name in stated.classes], np.int64)
    entries = {video.name: video for video in stated.videos}
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


def hamnet_ground_truth(dataset: Dataset) -> str:
    """Return the content of HAM-Net's gt.json as JSON text."""
    content = activitynet_writer.to_content(dataset, ("train", "test"), activitynet_writer.as_text)
    classes = dict(enumerate(content.pop("classes")))
    return json.dumps({"class-list": classes, **content})
