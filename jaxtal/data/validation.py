"""Validation of data sets made in memory, as strict as that of files."""

import dataclasses

import numpy as np

from jaxtal.data.dataset import Dataset, Video, as_stream_widths, contains_bool
from jaxtal.data.io import feature_files
from jaxtal.data.io.files import check_name, check_unique
from jaxtal.data.lazy_dataset import check_width
from jaxtal.data.reading import subsets_in_words
from jaxtal.errors import DataError, short_repr


def validated(dataset: Dataset) -> Dataset:
    """Validate a data set for training.

    Args:
        dataset: a data set with features.

    Returns:
        The data set with float16 or float32 features and int64 labels.

    Raises:
        DataError: the argument is not a `Dataset`, has no training videos, or a video lacks
            features or has invalid labels, segments or features.
    """
    if not isinstance(dataset, Dataset):
        raise DataError(f"dataset={short_repr(dataset)}; wanted a jaxtal.Dataset")
    check_trainable(dataset)
    where = f"data set {dataset.name}"
    check_unique([video.name for video in dataset.videos], where)
    check_unique(list(dataset.classes), f"{where}, classes")
    checked = dataset.map(lambda video: _validated_video(video, len(dataset.classes), where))
    widths, like = as_stream_widths(checked.stream_widths, where), None
    for video in checked.videos:
        like = check_width(video, where, like, widths)
    return dataclasses.replace(checked, stream_widths=widths)


def check_trainable(dataset: Dataset) -> None:
    """Check that there are training videos, and that validation videos can judge a model.

    Args:
        dataset: a data set.

    Raises:
        DataError: there is no training video, or no validation video has an instance.
    """
    unused = subsets_in_words(dataset.origin.unused) if dataset.origin else ""
    where = f"{dataset.name}: {dataset.counts_in_words}{f'; unused: {unused}' if unused else ''}"
    if not dataset.train:
        raise DataError(
            f"{where}; wanted some to train on; assign subsets, as in train_subset=NAME"
        )
    if dataset.validation and not any(len(video.segments) for video in dataset.validation):
        raise DataError(
            f"{where}; no validation video has an annotated instance, so none can judge a model; "
            "wanted some, or no validation videos"
        )


def _validated_video(video: Video, num_classes: int, where: str) -> Video:
    where = f"{where}, video {check_name(video.name, where)}"
    if contains_bool(video.duration) or not video.duration > 0:
        raise DataError(
            f"{where}: duration is {short_repr(video.duration)}; wanted seconds above 0"
        )
    labels = _class_indices(video.labels, num_classes, f"{where}: labels")
    segment_labels = _class_indices(video.segment_labels, num_classes, f"{where}: segment_labels")
    if contains_bool(video.segments):
        raise DataError(f"{where}: segments contain true or false; wanted [start, end] in seconds")
    segments = np.asarray(video.segments, np.float64).reshape(-1, 2)
    if len(segments) != len(segment_labels):
        raise DataError(
            f"{where}: {len(segments)} segments but {len(segment_labels)} segment_labels; wanted "
            "a label for every segment"
        )
    return dataclasses.replace(
        video,
        labels=labels,
        segments=segments,
        segment_labels=segment_labels,
        features=feature_files.check_features(video.features, where),
    )


def _class_indices(values: object, num_classes: int, where: str) -> np.ndarray:
    labels = np.asarray(values)
    if not labels.size:
        return np.empty(0, np.int64)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{where} are {short_repr(values)}; wanted (n,) class indices, integers")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{where} are {short_repr(labels.tolist())}; wanted class indices from 0 to "
            f"{num_classes - 1}"
        )
    return labels.astype(np.int64)
