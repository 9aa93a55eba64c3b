"""Examination of a data set: everything about it that a user should know before using it.

The same examination is made by training, prediction, evaluation and `jaxtal data inspect`.
"""

import dataclasses

from jaxtal.data.dataset import Dataset
from jaxtal.data.examination import annotations, features, times
from jaxtal.data.examination.facts import Facts, of_dataset, of_source
from jaxtal.data.findings import Finding, by_severity
from jaxtal.data.lazy_dataset import LazyDataset


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


def examine_inputs(source: LazyDataset) -> tuple[Finding, ...]:
    """Examine a data set whose videos are inputs of a trained model, by the shapes of the features.

    Labels are not needed, and the model determines how columns are divided into streams.

    Args:
        source: the data set; its features are not read.

    Returns:
        The findings, errors first.
    """
    whole = source.bare
    origin = dataclasses.replace(source.origin, has_streams=True)
    videos = dataclasses.replace(whole, train=(), validation=(), test=whole.videos, origin=origin)
    return examine(videos, of_source(source))
