"""Examination of a data set: everything about it that a user should know before using it.

The same examination is made by training, prediction, evaluation and `jaxtal data inspect`.
"""

import dataclasses

from jaxtal.data.dataset import Dataset
from jaxtal.data.examination import annotations, features, times
from jaxtal.data.examination.facts import Facts, of_dataset, of_source
from jaxtal.data.findings import Finding, by_severity

__all__ = ["Facts", "examine", "examine_inputs", "of_dataset", "of_source"]


def examine(dataset: Dataset, facts: Facts | None = None) -> tuple[Finding, ...]:
    """Examine a data set.

    Args:
        dataset: videos with or without features.
        facts: the facts of the features; None: those of the features in memory.

    Returns:
        The findings, errors first.
    """
    known = of_dataset(dataset) if facts is None else facts
    found = [
        *times.find(dataset, known),
        *features.find(dataset, known),
        *annotations.find(dataset),
    ]
    return tuple(by_severity(found))


def examine_inputs(dataset: Dataset, facts: Facts) -> tuple[Finding, ...]:
    """Examine a data set whose videos are inputs of a trained model: times and features.

    Its labels are not needed, and the model determines how columns are divided into streams.

    Args:
        dataset: the videos.
        facts: the facts of the features.

    Returns:
        The findings, errors first.
    """
    alike = dataclasses.replace(dataset, train=(), validation=(), test=dataset.videos)
    found = [*times.find(alike, facts), *features.find(alike, facts)]
    return tuple(by_severity([one for one in found if one.kind != features.ASSUMED_STREAMS]))
