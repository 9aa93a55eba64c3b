"""What the page's script draws: videos with ground truth, detections and curves, small enough.

Of every video there are the best few detections; curves are means over even spans of time, in 255
steps from 0 to 1.
"""

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtal.data.dataset import Video
from jaxtal.evaluation.error_analysis import ERROR_TYPES
from jaxtal.reporting.runs import Curves, Group, Model

DETECTIONS = 200  # of a video and a model
POINTS = 300  # of a curve
CLASSES = 4  # of a video and a model whose T-CAM is shown
SHARES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100)  # per cent of detections to keep


def content(groups: Sequence[Group], most: int) -> dict[str, Any]:
    """Everything that the script needs, as JSON has it.

    Args:
        groups: as of `runs.groups`; of those without models there are no videos.
        most: videos of a group, evenly picked where there are more.

    Returns:
        {"shares": `SHARES`, "kinds": names of what a detection is, "groups": [{"title", "classes":
        names, "of": how many videos there are, "models": see `_model`, "videos": see `_video`}]}
    """
    return {
        "shares": SHARES,
        "kinds": [*ERROR_TYPES, "not judged"],
        "groups": [_group(group, most) for group in groups if group.models],
    }


def pick(count: int, most: int) -> list[int]:
    """Of so many videos those that are shown: no more than `most`, evenly."""
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
    """For every video which detections are in it, by descending score."""
    order = np.lexsort((-model.found.score, model.found.video))
    bounds = np.searchsorted(model.found.video[order], np.arange(1, videos))
    return np.split(order, bounds)


def _model(model: Model) -> dict[str, Any]:
    """Its name, how many detections it has, and the scores that keep each share of them."""
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
    """{"name", "duration", "truth": [label, start, end] each, "ambiguous": [start, end] each,
    "found": for every model columns with the best first, "curves": for every model or null}.
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
    """{"span": seconds of the first and the last point, "attention": values, "classes": [label,
    values] each}, of the annotated classes and those of the best detections; null without outputs.
    """
    saved, score_spec = curves
    if not (output := saved.outputs[index]):
        return None
    activation = score_spec.activations(output)
    rows = len(activation)
    width = -(-rows // POINTS)  # rows that become a point
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
    """Four digits of a score; rounding keeps the order, so thresholds still part what they did."""
    return float(f"{value:.4g}")
