"""The W-TALC layout: <DS>-I3D-JOINTFeatures.npy beside <DS>-Annotations/ (DATA.md, L1).

It is what W-TALC, CO2-Net, D2-Net and many others read. Strings may be bytes or text, durations
(N,) or (N, 1), the object arrays Python 2 or Python 3 pickles. Who extracted the streams apart may
have <DS>-I3D-RGBFeatures.npy and <DS>-I3D-FLOWFeatures.npy instead of the joint file.
"""

from pathlib import Path

import numpy as np

from jaxtal.data import object_arrays
from jaxtal.data.dataset import (
    NO_FEATURES,
    Dataset,
    TimeGrid,
    Video,
    class_indices,
    join_streams,
    train_and_test,
    unique,
)
from jaxtal.errors import UserError

_FILES = ("videoname", "subset", "classlist", "labels", "labels_all", "segments", "duration")
_AMBIGUOUS = "Ambiguous_test.txt"


def read(folder: Path, name: str, features: bool = True) -> Dataset:
    """Read data set `name` from `folder`.

    Args:
        folder: holds the annotation folder and the feature file.
        name: <DS>, the prefix of both.
        features: read the features too; otherwise every video's are empty.

    Raises:
        UserError: for anything missing, malformed or contradictory, naming file and video.
    """
    annotations, feature_files = _paths(folder, name, features)
    columns = {key: object_arrays.load(annotations / f"{key}.npy") for key in _FILES}
    _check_counts(columns, annotations)
    classes = tuple(_text(value) for value in columns["classlist"])
    names = [_text(value) for value in columns["videoname"]]
    unique(list(classes), f"{annotations / 'classlist.npy'}")
    unique(names, f"{annotations / 'videoname.npy'}")
    ambiguous = _read_ambiguous(annotations / _AMBIGUOUS)
    arrays = _read_features(feature_files, names) if features else [NO_FEATURES] * len(names)
    subsets = [_text(value) for value in columns["subset"]]
    train_name, test_name = train_and_test(subsets, f"{annotations / 'subset.npy'}")
    parts: dict[str, list[Video]] = {train_name: [], test_name: []}
    for row, video in enumerate(names):
        if subsets[row] in parts:
            where = f"{annotations}, video {video}"
            segments = _segments(columns["segments"][row], where)
            labels = _labels(columns["labels"][row], classes, where)
            if len(labels) != len(segments):
                raise UserError(f"{where}: {len(labels)} labels for {len(segments)} segments")
            parts[subsets[row]].append(
                Video(
                    name=video,
                    duration=_duration(columns["duration"][row], where),
                    labels=np.unique(_labels(columns["labels_all"][row], classes, where)),
                    segments=segments,
                    segment_labels=labels,
                    ambiguous=ambiguous.get(video, np.empty((0, 2))),
                    features=arrays[row],
                )
            )
    return Dataset(name, classes, tuple(parts[train_name]), tuple(parts[test_name]), TimeGrid())


def _paths(folder: Path, name: str, features: bool) -> tuple[Path, list[Path]]:
    """The annotation folder and the feature files: the joint one, or RGB and flow."""
    annotations = folder / f"{name}-Annotations"
    joint, *streams = (folder / f"{name}-I3D-{s}Features.npy" for s in ("JOINT", "RGB", "FLOW"))
    apart = not joint.is_file() and any(path.is_file() for path in streams)
    feature_files = streams if apart else [joint]
    wanted = [annotations / f"{key}.npy" for key in _FILES] + feature_files * features
    if missing := [path for path in wanted if not path.is_file()]:
        raise UserError(
            f"no data set {name!r} in {folder}"
            + " (config.data.dir, config.data.name)" * features
            + f": {missing[0].relative_to(folder)} is missing"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else "")
            + "; looked for the W-TALC layout: "
            + f"{joint.name} (object array of (T, 2D) float features, RGB first) and " * features
            + f"{annotations.name}/{{{','.join(_FILES)}}}.npy"
            + ". Without data, run configs/co2net_demo.py" * features
        )
    return annotations, feature_files


def _text(value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _check_counts(columns: dict[str, np.ndarray], annotations: Path) -> None:
    for key, column in columns.items():
        if not np.ndim(column):
            raise UserError(f"{annotations / key}.npy holds a single value; wanted an array")
    count = len(columns["videoname"])
    for key in _FILES:
        if key != "classlist" and len(columns[key]) != count:
            raise UserError(
                f"{annotations / key}.npy has {len(columns[key])} entries, but videoname.npy has "
                f"{count}; they must be of the same data set"
            )


def _labels(names, classes: tuple[str, ...], where: str) -> np.ndarray:
    if not isinstance(names, (list, tuple)) and np.ndim(names) != 1:
        raise UserError(f"{where}: labels are {str(names)[:80]!r}; wanted a list of class names")
    return class_indices([_text(name) for name in names], classes, where)


def _duration(value, where: str) -> float:
    try:
        seconds = float(np.ravel(value)[0])
    except (TypeError, ValueError, IndexError):
        seconds = float("nan")
    if not 0 < seconds < float("inf"):
        raise UserError(f"{where}: duration is {str(value)[:80]}; wanted seconds above 0")
    return seconds


def _segments(value, where: str) -> np.ndarray:
    try:
        segments = np.asarray(list(value), np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise UserError(f"{where}: segments must be a list of [start, end] in seconds") from None
    if not np.isfinite(segments).all():
        raise UserError(f"{where}: a segment's time is not a finite number of seconds")
    return segments


def _read_ambiguous(path: Path) -> dict[str, np.ndarray]:
    """Intervals in seconds by video, from lines `video start end`; ActivityNet has no such file."""
    intervals: dict[str, list[tuple[float, float]]] = {}
    if not path.is_file():
        if path.parent.name.startswith("Thumos14"):
            raise UserError(f"{path} is missing; without it THUMOS14 results are not comparable")
        return {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if fields := line.split():
            try:
                video, start, end = fields
                intervals.setdefault(video, []).append((float(start), float(end)))
            except ValueError:
                raise UserError(
                    f"{path}, line {number}: {line.strip()[:80]!r}; wanted: video start end, "
                    "in seconds"
                ) from None
    return {video: np.array(pairs) for video, pairs in intervals.items()}


def _read_features(paths: list[Path], names: list[str]) -> list[np.ndarray]:
    """Each video's (T, 2D) features, checked, from the joint file or from RGB's and flow's."""
    result, *flow = (_read_arrays(path, names) for path in paths)
    if flow:
        result = [
            join_streams(rgb, other, f"{paths[0].parent}, video {video}")
            for video, rgb, other in zip(names, result, flow[0], strict=True)
        ]
    widths = [features.shape[1] for features in result]
    for video, width in zip(names, widths, strict=True):
        if width % 2:
            raise UserError(
                f"{paths[0]}, video {video}: {width} features a snippet; wanted an even number, "
                "RGB then flow"
            )
        if width != widths[0]:
            raise UserError(
                f"{paths[0]}, video {video}: {width} features a snippet, but {names[0]} has "
                f"{widths[0]}; extract all videos with the same network"
            )
    return result


def _read_arrays(path: Path, names: list[str]) -> list[np.ndarray]:
    """The file's (T, D or 2D) array of every video, checked."""
    arrays = object_arrays.load(path)
    if np.ndim(arrays) == 0 or len(arrays) != len(names):
        raise UserError(
            f"{path}: features of {np.size(arrays)} videos, but the annotations list "
            f"{len(names)}; they must be of the same data set, in the same order"
        )
    return [
        _check_features(features, f"{path}, video {video}")
        for features, video in zip(arrays, names, strict=True)
    ]


def _check_features(value, where: str) -> np.ndarray:
    """One video's features as they are, float16 or float32; UserError if they cannot be used."""
    try:
        features = np.asarray(value)
    except ValueError:  # lists of different lengths
        features = np.empty(0, object)
    if features.ndim != 2 or features.dtype.kind != "f":
        raise UserError(
            f"{where}: an array of shape {features.shape} and type {features.dtype}; wanted "
            "(T, 2D) float16 or float32 features"
        )
    if features.dtype.itemsize > 4:
        features = features.astype(np.float32)
    if not len(features):
        raise UserError(f"{where}: no snippets; remove the video or extract its features again")
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        snippet = int(np.argmin(finite))
        value = "NaN" if np.isnan(features[snippet]).any() else "infinite"
        raise UserError(
            f"{where}: {value} features in {np.sum(~finite)} of {len(features)} snippets, first in "
            f"snippet {snippet}; extract the video's features again"
        )
    return features
