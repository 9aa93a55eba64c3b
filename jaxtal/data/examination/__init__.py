"""Examination of a data set: everything about it that a user should know before using it.

The same examination is made by training, prediction, evaluation and `jaxtal data inspect`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxtal.data.dataset import Dataset
from jaxtal.data.examination import annotations, features, times
from jaxtal.data.examination.facts import Facts, of_dataset, of_source
from jaxtal.data.findings import Finding, by_severity, report
from jaxtal.errors import DataError

__all__ = ["Facts", "examine", "examine_inputs", "examine_truth", "of_dataset", "of_source"]


# Times of 1e300 seconds are read, and are findings.
_EXTREME = np.errstate(over="ignore", divide="ignore", invalid="ignore")


@_EXTREME
def examine(dataset: Dataset, facts: Facts | None = None) -> tuple[Finding, ...]:
    """Examine a data set.

    Args:
        dataset: videos with or without features.
        facts: the facts of the features; None: those of the features in memory.

    Returns:
        The findings, errors first.
    """
    known = of_dataset(dataset) if facts is None else facts
    found = _of_features(dataset, known)
    doubtful = any(one.kind in times.OF_DURATIONS for one in found)
    return tuple(by_severity([*found, *annotations.find(dataset, doubtful)]))


def _of_features(dataset: Dataset, facts: Facts, origin: str = "") -> Sequence[Finding]:
    """Return the findings about times and features; with exchanged axes, only that."""
    exchanged = tuple(features.find_exchanged(dataset, facts))
    return exchanged or (*times.find(dataset, facts, origin), *features.find(dataset, facts))


def examine_truth(dataset: Dataset, where: str) -> None:
    """Report the findings about the test videos of a data set that detections are evaluated on.

    Args:
        dataset: the data set.
        where: its file or name, for messages.

    Raises:
        DataError: a finding is an error, or no test video has an annotated instance.
    """
    report(examine(dataclasses.replace(dataset, train=(), validation=())), where)
    if not dataset.has_ground_truth:
        raise DataError(
            f"{where}: none of the {len(dataset.test)} test videos has an annotated instance, so "
            "there is no ground truth to evaluate detections on"
        )


@_EXTREME
def examine_inputs(dataset: Dataset, facts: Facts, origin: str = "") -> tuple[Finding, ...]:
    """Examine a data set whose videos are inputs of a trained model: times and features.

    Its labels are not needed, and the model determines how columns are divided into streams.

    Args:
        dataset: the videos.
        facts: the facts of the features.
        origin: the source of the time grid, for messages; "": that of the data set.

    Returns:
        The findings, errors first.
    """
    alike = dataclasses.replace(dataset, train=(), validation=(), test=dataset.videos)
    found = _of_features(alike, facts, origin)
    return tuple(by_severity([one for one in found if one.kind != features.ASSUMED_STREAMS]))
