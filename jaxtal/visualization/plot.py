"""Figures of data sets, training, detections and errors: `jaxtal.plot`.

Every function returns a `matplotlib.figure.Figure` without a window or an interactive backend:
`figure.savefig("name.png")` writes it, and a notebook with `%matplotlib inline` shows it.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure

from jaxtal.data import inspection
from jaxtal.data.dataset import Dataset
from jaxtal.data.detections import Detections
from jaxtal.errors import DataError
from jaxtal.evaluation.error_analysis import ErrorAnalysis
from jaxtal.visualization import plots

__all__ = ["dataset", "detections", "errors", "training"]

_MOST_CLASSES = 6  # lanes of a video without ground truth


class _HasMetrics(Protocol):
    """An object with metrics, such as a `TrainResult`."""

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl."""


def training(result: "_HasMetrics | Sequence[dict[str, Any]]") -> Figure:
    """Draw loss terms and, below, test mAP by step, or validation mAP where there is one.

    Args:
        result: as `train` returns it, or the lines of a metrics.jsonl.

    Returns:
        The figure.
    """
    lines = result if isinstance(result, Sequence) else result.metrics
    return plots.draw_training(list(lines))


def errors(analysis: ErrorAnalysis) -> Figure:
    """Draw the kinds of false positive, the mAP that each costs, recall by length, and mAP.

    Args:
        analysis: as `analyze_errors` returns it.

    Returns:
        The figure.
    """
    return plots.draw_errors(analysis.evaluation, analysis)


def dataset(data: Dataset) -> Figure:
    """Draw classes, lengths of videos and instances, and the fraction of action in the videos.

    Args:
        data: a data set, with or without features.

    Returns:
        The figure.
    """
    return plots.draw_dataset(data, {"classes": inspection.count_classes(data)})


def detections(
    found: Detections,
    videos: str | Sequence[str] | None = None,
    *,
    dataset: Dataset | None = None,
    most: int = 4,
) -> Figure:
    """Draw the detections in some videos; the opacity of a detection is its score.

    Args:
        found: as `Model.predict` or `localize` returns them.
        videos: one or more names of videos; None: the first `most` videos with detections.
        dataset: a data set whose annotations are drawn above the detections.
        most: maximum number of videos if `videos` is None.

    Returns:
        The figure, with one row per video.

    Raises:
        DataError: a video is not among the detections', or there are no detections.
    """
    names = [videos] if isinstance(videos, str) else videos
    if names is None:
        names = [found.videos[index] for index in np.unique(found.segments.video)[:most]]
    if not names:
        raise DataError("there are no detections to draw; give videos=...")
    truths = _instances(dataset) if dataset else {}
    figure = Figure(figsize=(12, 1.6 * len(names) + 0.6), layout="constrained")
    axes = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=True):
        _draw_video(axis, found.of(name), truths.get(name, []))
    axes[0].barh(0, 0, color="C4", label="detections (opacity = score)")
    if any(truths.get(name) for name in names):
        axes[0].barh(0, 0, color="C2", label="ground truth")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    axes[-1].set_xlabel("seconds")
    return figure


_Instance = tuple[str, float, float]  # class, start, end


def _instances(dataset: Dataset) -> dict[str, list[_Instance]]:
    return {
        video.name: [
            (dataset.classes[label], float(start), float(end))
            for label, (start, end) in zip(
                video.segment_labels.tolist(), video.segments, strict=True
            )
        ]
        for video in dataset.videos
    }


def _draw_video(axis: Any, found: Detections, truth: list[_Instance]) -> None:
    """Draw a lane per annotated class, or per class of the best detections."""
    segments = found.segments
    order = np.argsort(-segments.score, kind="stable")
    best = [found.classes[label] for label in segments.label[order].tolist()]
    lanes = sorted({one[0] for one in truth}) or [*dict.fromkeys(best)][:_MOST_CLASSES]
    strongest = max(segments.score.max(initial=0), 1e-9)
    for height, name in enumerate(lanes):
        label = found.classes.index(name) if name in found.classes else -1
        mine = segments.take(segments.label == label)
        opacity = mine.score.clip(0) / strongest
        plots.draw_bars(axis, height, (mine.start, mine.end), "C4", opacity, 0.25)
        spans = np.array([one[1:] for one in truth if one[0] == name]).reshape(-1, 2).T
        plots.draw_bars(axis, height + 0.3, spans, "C2", np.ones(spans.shape[1]), 0.25)
    axis.set_yticks(range(len(lanes)), lanes, parse_math=False)
    axis.set(ylim=(-0.4, max(len(lanes), 1) - 0.2))
    axis.set_xlim(left=0)
    axis.set_title(found.videos[0], loc="left", size=9, parse_math=False)
