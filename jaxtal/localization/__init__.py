"""Activation sequences to detections, in NumPy."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np

from jaxtal.data.segments import Segments
from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.nms import apply_nms
from jaxtal.localization.proposals import generate_all_proposals, generate_proposals


def localize(
    sequence: np.ndarray, gate: np.ndarray, class_score: np.ndarray, config: LocalizationConfig
) -> Segments:
    """Detections of one video, in rows: `generate_proposals`, then `apply_nms`."""
    return apply_nms(generate_proposals(sequence, gate, class_score, config), config)


def localize_videos(
    evidence: Iterable, rows, snippets, grid, config: LocalizationConfig
) -> Segments:
    """Detections in many videos, in seconds, none before 0.

    Where windows are shorter than strides, the first snippet stands for time before its video.

    Args:
        evidence: of each video, as for `generate_all_proposals`.
        rows: (V,) how many the evidence of each has; any number where it is None.
        snippets: (V,) number of snippets of each video, which its rows are spread over.
        grid: the `TimeGrid` of all videos or, as by `TimeGrid.of`, of each.
        config: the numbers.
    """
    detections = apply_nms(generate_all_proposals(evidence, config), config)
    scale = (np.asarray(snippets) / np.asarray(rows))[detections.video]
    own = grid.take(detections.video)
    return detections.with_times(lambda at: np.maximum(own.to_seconds(at * scale), 0.0))
