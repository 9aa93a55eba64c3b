"""The W-TALC layout: <DS>-I3D-JOINTFeatures.npy beside <DS>-Annotations/ (DATA.md, L1).

It is what W-TALC, CO2-Net, D2-Net and many others read. Strings may be bytes or text, durations
(N,) or (N, 1), the object arrays Python 2 or Python 3 pickles.
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
    train_and_test,
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
    annotations, feature_file = _paths(folder, name, features)
    columns = {key: object_arrays.load(annotations / f"{key}.npy") for key in _FILES}
    _check_counts(columns, annotations)
    classes = tuple(_text(value) for value in columns["classlist"])
    names = [_text(value) for value in columns["videoname"]]
    ambiguous = _read_ambiguous(annotations / _AMBIGUOUS)
    arrays = _read_features(feature_file, names) if features else [NO_FEATURES] * len(names)
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
                    duration=float(np.ravel(columns["duration"][row])[0]),
                    labels=np.unique(_labels(columns["labels_all"][row], classes, where)),
                    segments=segments,
                    segment_labels=labels,
                    ambiguous=ambiguous.get(video, np.empty((0, 2))),
                    features=arrays[row],
                )
            )
    return Dataset(name, classes, tuple(parts[train_name]), tuple(parts[test_name]), TimeGrid())


def _paths(folder: Path, name: str, features: bool) -> tuple[Path, Path]:
    annotations = folder / f"{name}-Annotations"
    feature_file = folder / f"{name}-I3D-JOINTFeatures.npy"
    wanted = [annotations / f"{key}.npy" for key in _FILES] + [feature_file] * features
    if missing := [path for path in wanted if not path.is_file()]:
        raise UserError(
            f"no data set {name!r} in {folder} (config.data.dir, config.data.name): "
            f"{missing[0].relative_to(folder)} is missing"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else "")
            + f"; looked for the W-TALC layout: {feature_file.name} (object array of (T, 2D) float "
            f"features, RGB first) and {annotations.name}/{{{','.join(_FILES)}}}.npy. "
            "Without data, run configs/co2net_demo.py"
        )
    return annotations, feature_file


def _text(value) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _check_counts(columns: dict[str, np.ndarray], annotations: Path) -> None:
    count = len(columns["videoname"])
    for key in _FILES:
        if key != "classlist" and len(columns[key]) != count:
            raise UserError(
                f"{annotations / key}.npy has {len(columns[key])} entries, but videoname.npy has "
                f"{count}; they must be of the same data set"
            )


def _labels(names, classes: tuple[str, ...], where: str) -> np.ndarray:
    return class_indices([_text(name) for name in names], classes, where)


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


def _read_features(path: Path, names: list[str]) -> list[np.ndarray]:
    """Each video's (T, 2D) features, checked."""
    arrays = object_arrays.load(path)
    if len(arrays) != len(names):
        raise UserError(
            f"{path}: features of {len(arrays)} videos, but the annotations list {len(names)}; "
            "they must be of the same data set, in the same order"
        )
    result = [
        _check_features(np.asarray(features), f"{path}, video {video}")
        for features, video in zip(arrays, names, strict=True)
    ]
    widths = [features.shape[1] for features in result]
    for video, width in zip(names, widths, strict=True):
        if width != widths[0]:
            raise UserError(
                f"{path}, video {video}: {width} features a snippet, but {names[0]} has {widths[0]}"
            )
    return result


def _check_features(features: np.ndarray, where: str) -> np.ndarray:
    """One video's features as they are, float16 or float32; UserError if they cannot be used."""
    if features.ndim != 2 or features.dtype.kind != "f":
        raise UserError(
            f"{where}: an array of shape {features.shape} and type {features.dtype}; wanted "
            "(T, 2D) float16 or float32 features"
        )
    if features.dtype.itemsize > 4:
        features = features.astype(np.float32)
    if not len(features):
        raise UserError(f"{where}: no snippets; remove the video or extract its features again")
    if features.shape[1] % 2:
        raise UserError(
            f"{where}: {features.shape[1]} features a snippet; wanted an even number, RGB then flow"
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        snippet = int(np.argmin(finite))
        value = "NaN" if np.isnan(features[snippet]).any() else "infinite"
        raise UserError(
            f"{where}: {value} features in {np.sum(~finite)} of {len(features)} snippets, first in "
            f"snippet {snippet}; extract the video's features again"
        )
    return features
