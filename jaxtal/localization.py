"""From activation sequences to detections, in NumPy.

Proposals are the runs of snippets above each of several thresholds; a proposal's score is the
outer-inner contrast of the class's activations plus a share of the video's class score; NMS thins
them out. Everything is in snippet units and half-open: [start, end).
"""

import dataclasses

import numpy as np

from jaxtal import checks
from jaxtal.errors import UserError
from jaxtal.segments import Segments


@dataclasses.dataclass(frozen=True)
class LocalizationConfig:
    """Numbers of CO2-Net's localisation (METHODS 2.e).

    Attributes:
        thresholds: (first, last, count) of the evenly spaced attention thresholds.
        class_threshold: classes with at least this video score are localised; if none, the best.
        topk_divisor: the video score pools the floor(T / divisor) largest activations.
        class_weight: share of the video score in a proposal's score (gamma).
        flank: the outer region is this fraction of the proposal's length on either side.
        sigma: width of the Gaussian soft-NMS.
        min_score: detections with less are dropped after NMS; None keeps all, as published.
        skip_lone_zero: a threshold that only snippet 0 exceeds yields nothing, as published.
    """

    thresholds: tuple[float, float, int] = (0.1, 0.9, 10)
    class_threshold: float = 0.2
    topk_divisor: int = 10
    class_weight: float = 0.2
    flank: float = 0.25
    sigma: float = 0.3
    min_score: float | None = None
    skip_lone_zero: bool = True


def check(config) -> None:
    """Raise UserError for fields of `config.localization` that cannot be."""
    checks.at_least(
        config,
        {"localization.topk_divisor": 1, "localization.flank": 0, "localization.sigma": 1e-6},
    )
    thresholds = config.localization.thresholds
    numbers = all(isinstance(value, (int, float)) for value in thresholds)
    whole = len(thresholds) == 3 and isinstance(thresholds[2], int)
    if not numbers or not whole or thresholds[2] < 1:
        raise UserError(
            f"config.localization.thresholds is {thresholds}; wanted (first, last, how many), "
            "e.g. (0.1, 0.9, 10)"
        )


def top_mean(sequence: np.ndarray, k: int) -> np.ndarray:
    """Mean of the k largest entries over time: (T, C) to (C,)."""
    return np.partition(sequence, len(sequence) - k, axis=0)[-k:].mean(axis=0)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def runs(above: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maximal runs of true along the last axis of (N, T).

    Returns:
        row, start, end: (n,) int each, half-open, sorted by row and then by time.
    """
    edge = np.diff(np.pad(above, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(edge == 1)
    _, end = np.nonzero(edge == -1)
    return row, start, end


def outer_inner_contrast(sequence: np.ndarray, start, end, flank: float = 0.25) -> np.ndarray:
    """Mean inside each segment minus the mean over both flanks together (METHODS 2.e).

    The left flank is ceil(flank * length) snippets, the right one floor(flank * length), as in
    the published program; both are cut at the video's ends, and no outer region counts as 0.

    Args:
        sequence: (T, C) activations.
        start, end: (n,) int, half-open, in snippets.
        flank: length of a flank relative to the segment's.

    Returns:
        (n, C) float64.
    """
    total = np.pad(np.cumsum(sequence, axis=0, dtype=np.float64), ((1, 0), (0, 0)))
    length = end - start
    left = np.maximum(0, start - np.ceil(length * flank).astype(int))
    right = np.minimum(len(sequence), end + np.floor(length * flank).astype(int))
    inner = (total[end] - total[start]) / length[:, None]
    outside = (start - left) + (right - end)
    outer = total[right] - total[left] - (total[end] - total[start])
    return inner - outer / np.maximum(outside, 1)[:, None] * (outside > 0)[:, None]


def soft_nms(start, end, score, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian soft-NMS (Bodla et al. 2017): what overlaps a better one is scored down.

    The t-IoU counts both ends of a segment (lengths + 1), as the published program does.
    Several classes that share their segments are treated at once.

    Args:
        start, end: (n,) segments.
        score: (G, n) scores, a row for each class.
        sigma: a remaining score is multiplied by exp(-iou^2 / sigma).

    Returns:
        order, score: (G, n), indices of the segments as they are selected, and final scores.
    """
    span = end - start + 1
    inter = np.minimum(end[:, None], end) - np.maximum(start[:, None], start) + 1
    inter = np.maximum(0.0, inter)
    decay = np.exp(-((inter / (span[:, None] + span - inter)) ** 2) / sigma)
    decay = np.maximum(decay, np.finfo(np.float64).tiny)  # -inf marks what is taken: never times 0
    remaining = np.array(score, np.float64)
    groups = np.arange(len(remaining))
    order = np.empty(remaining.shape, np.int64)
    final = np.empty(remaining.shape)
    for step in range(remaining.shape[1]):
        best = remaining.argmax(axis=1)
        order[:, step], final[:, step] = best, remaining[groups, best]
        remaining *= decay[best]
        remaining[groups, best] = -np.inf
    return order, final


def localize(cas: np.ndarray, attention: np.ndarray, config: LocalizationConfig) -> Segments:
    """Detections of one video (CO2-Net, METHODS 2.e, without the ambiguous filter).

    Args:
        cas: (T, C + 1) raw T-CAM logits, background last.
        attention: (T,) or (T, 1) attention, 0 to 1.
        config: the numbers.

    Returns:
        Detections in snippet units, `video` 0; classes ascending, soft-NMS order within a class.
    """
    attention = np.asarray(attention, np.float64).reshape(-1)
    suppressed = attention[:, None] * np.asarray(cas, np.float64)
    k = max(1, len(cas) // config.topk_divisor)
    class_score = softmax(top_mean(suppressed, k))[:-1]
    classes = np.flatnonzero(class_score >= config.class_threshold)
    if not len(classes):
        classes = np.array([class_score.argmax()])
    above = attention > np.linspace(*config.thresholds)[:, None]
    if config.skip_lone_zero:
        above[(above.sum(axis=1) == 1) & above[:, 0]] = False
    _, start, end = runs(above)
    score = outer_inner_contrast(suppressed[:, classes], start, end, config.flank)
    score += config.class_weight * class_score[classes]
    order, score = soft_nms(start, end, score.T, config.sigma)
    found = Segments(
        video=np.zeros(order.size, np.int64),
        label=np.repeat(classes, order.shape[1]),
        start=start[order].ravel().astype(np.float64),
        end=end[order].ravel().astype(np.float64),
        score=score.ravel(),
    )
    return found if config.min_score is None else found.take(score.ravel() >= config.min_score)
