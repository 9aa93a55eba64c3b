"""Compact data for the page's script: videos with ground truth, detections and curves.

A video has at most `DETECTIONS` detections per model; curves are means over equal spans of time,
quantized to 255 levels from 0 to 1.
"""

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtal.data.dataset import Video
from jaxtal.evaluation.error_analysis import ERROR_TYPES
from jaxtal.reporting.runs import Curves, Group, Model

DETECTIONS = 200  # maximum per video and model
POINTS = 300  # maximum per curve
CLASSES = 4  # maximum of T-CAM curves per video and model
SHARES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100)  # percent of detections to show


def content(groups: Sequence[Group], most: int) -> dict[str, Any]:
    """Return the data of the page's script, in the form of JSON files.

    Args:
        groups: as `runs.groups` returns them; groups without models are omitted.
        most: maximum number of videos per group, evenly spaced.

    Returns:
        {"shares": `SHARES`, "kinds": names of the kinds of detections, "groups": [{"title",
        "classes": names, "of": number of videos, "models": see `_model`, "videos": see `_video`}]}
    """
    return {
        "shares": SHARES,
        "kinds": [*ERROR_TYPES, "not judged"],
        "groups": [_group(group, most) for group in groups if group.models],
    }


def pick(count: int, most: int) -> list[int]:
    """Pick at most `most` evenly spaced indices.

    Args:
        count: number of videos.
        most: maximum number of indices.

    Returns:
        Ascending indices.
    """
    return [number * count // min(count, most) for number in range(min(count, most))]


def _group(group: Group, most: int) -> dict[str, Any]:
    assert group.truth is not None
    videos = group.truth.test
    ranked = [_ranked(model, len(videos)) for model in group.models]
    return {
        "title": group.title,
        "classes": list(group.truth.classes),
        "of": len(videos),
        "models": [_model(model) for model in group.models],
        "videos": [
            _video(index, videos[index], group.models, [order[index] for order in ranked])
            for index in pick(len(videos), most)
        ],
    }


def _ranked(model: Model, videos: int) -> list[np.ndarray]:
    """Return the indices of each video's detections, by descending score."""
    order = np.lexsort((-model.found.score, model.found.video))
    bounds = np.searchsorted(model.found.video[order], np.arange(1, videos))
    return np.split(order, bounds)


def _model(model: Model) -> dict[str, Any]:
    """Return a model's name, number of detections, and the least score of each of `SHARES`."""
    scores = np.sort(model.found.score)[::-1]
    last = [max(math.ceil(share / 100 * len(scores)), 1) - 1 for share in SHARES]
    return {
        "name": model.name,
        "count": len(scores),
        "least": [_short(scores[index]) for index in last] if len(scores) else [],
        "range": [_short(scores[-1]), _short(scores[0])] if len(scores) else [0, 1],
    }


def _video(
    index: int, video: Video, models: Sequence[Model], ranked: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Return a video's data.

    Keys: "name", "duration", "truth" (list of [label, start, end]), "ambiguous" (list of [start,
    end]), "found" (per model, see `_found`), "curves" (per model, see `_curves`, or null).
    """
    instances = zip(video.segment_labels.tolist(), video.segments.tolist(), strict=True)
    return {
        "name": video.name,
        "duration": _seconds(video.duration),
        "truth": [[label, *map(_seconds, times)] for label, times in instances],
        "ambiguous": [[*map(_seconds, times)] for times in video.ambiguous.tolist()],
        "found": [_found(model, order) for model, order in zip(models, ranked, strict=True)],
        "curves": [
            model.curves and _curves(model.curves, index, video, model.found.label[order])
            for model, order in zip(models, ranked, strict=True)
        ],
    }


def _found(model: Model, order: np.ndarray) -> dict[str, Any]:
    """Return the best detections of a video as columns; "kind" indexes `ERROR_TYPES`."""
    best = order[:DETECTIONS]
    found = model.found.take(best)
    return {
        "all": len(order),
        "label": found.label.tolist(),
        "start": [*map(_seconds, found.start)],
        "end": [*map(_seconds, found.end)],
        "score": [*map(_short, found.score)],
        "kind": model.kind[best].tolist(),
    }


def _curves(curves: Curves, index: int, video: Video, best: np.ndarray) -> dict[str, Any] | None:
    """Return curves of the annotated classes and those of the best detections.

    Keys: "span" (seconds of the first and the last point), "attention" (values or null), "classes"
    (list of [label, values]). None for a video without outputs.
    """
    saved, score_spec = curves
    if not (output := saved.outputs[index]):
        return None
    activation = score_spec.activations(output)
    rows = len(activation)
    width = -(-rows // POINTS)  # rows per point
    first = np.arange(0, rows, width)
    middle = (first + np.minimum(first + width, rows)) / 2
    seconds = saved.grid.take(index).to_seconds(middle[[0, -1]] * saved.snippets[index] / rows)
    labels = dict.fromkeys([*video.segment_labels.tolist(), *best.tolist()])

    def packed(values: np.ndarray) -> str:
        means = np.add.reduceat(values, first) / np.diff(np.append(first, rows))
        steps = np.rint(255 * means.clip(0, 1)).astype(np.uint8)
        return base64.b64encode(steps.tobytes()).decode()

    return {
        "span": [*map(_seconds, seconds)],
        "attention": packed(output["attention"][:, 0]) if "attention" in output else None,
        "classes": [[label, packed(activation[:, label])] for label in [*labels][:CLASSES]],
    }


def _seconds(value: float) -> float:
    return round(float(value), 2)


def _short(value: float) -> float:
    """Round a score to four digits; rounding is monotonic, so thresholds still apply."""
    return float(f"{value:.4g}")
