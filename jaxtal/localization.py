"""From activation sequences to detections, in NumPy, for every method.

Proposals are the runs of snippets above each of several thresholds; a proposal's score is the
outer-inner contrast of the class's activations plus a share of the video's class score; NMS thins
them out. What differs between the methods is `LocalizationConfig`. Everything is in rows of the
activations, which are snippets where all of them were fed, and half-open: [start, end).
"""

import dataclasses
from collections.abc import Collection

import numpy as np

from jaxtal import checks
from jaxtal.errors import UserError
from jaxtal.segments import Segments, concatenate, temporal_iou


@dataclasses.dataclass(frozen=True)
class LocalizationConfig:
    """Numbers of a localisation; the defaults are CO2-Net's (METHODS 2.e).

    Attributes:
        thresholds: (first, last, count) of the evenly spaced thresholds.
        inclusive: an activation that equals a threshold counts as above it.
        upsample: sequence and gate are interpolated linearly to so many positions a row.
        min_length: shorter runs (in rows, up-sampled ones) are no proposals.
        skip_lone_zero: a threshold that only snippet 0 exceeds yields nothing, as published.
        class_rule: which classes are localised, see `CLASS_RULES`.
        class_threshold: what the rule compares the video's class scores with.
        topk_divisor: the video score pools the floor(T / divisor) largest activations.
        class_weight: share of the video score in a proposal's score (gamma).
        flank: the outer region is this fraction of the proposal's length on either side.
        outer: how the two flanks are taken together, see `outer_inner_contrast`.
        min_contrast: proposals with less outer-inner contrast are dropped before NMS.
        nms: "soft", Gaussian soft-NMS, or "hard".
        sigma: width of the Gaussian soft-NMS.
        nms_threshold: t-IoU from which the hard NMS drops the worse of two.
        min_score: detections with less are dropped after NMS; None keeps all, as published.
        relative_score: detections with less than this fraction of the best score are dropped after
            NMS, and all of them if the best is negative; None keeps all.
        relative_to: the best score of the video's same "class", or of the whole "video".
    """

    thresholds: tuple[float, float, int] = (0.1, 0.9, 10)
    inclusive: bool = False
    upsample: int = 1
    min_length: int = 1
    skip_lone_zero: bool = True
    class_rule: str = "above"
    class_threshold: float = 0.2
    topk_divisor: int = 10
    class_weight: float = 0.2
    flank: float = 0.25
    outer: str = "joint"
    min_contrast: float | None = None
    nms: str = "soft"
    sigma: float = 0.3
    nms_threshold: float = 0.5
    min_score: float | None = None
    relative_score: float | None = None
    relative_to: str = "class"


_MINIMUMS = {
    "upsample": 1,
    "min_length": 1,
    "topk_divisor": 1,
    "flank": 0,
    "sigma": 1e-6,
    "nms_threshold": 0,
}


def check(config) -> None:
    """Raise UserError for fields of `config.localization` that cannot be."""
    given = config.localization
    checks.at_least(
        config, {f"localization.{name}": low for name, low in _MINIMUMS.items() if name in given}
    )
    options: dict[str, Collection[str]] = {
        "class_rule": CLASS_RULES,
        "outer": _OUTER,
        "nms": ("soft", "hard"),
        "relative_to": ("class", "video"),
    }
    checks.one_of(
        config, {f"localization.{name}": known for name, known in options.items() if name in given}
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


def outer_inner_contrast(
    sequence: np.ndarray, start, end, flank: float = 0.25, outer: str = "joint"
) -> np.ndarray:
    """Mean inside each segment minus the mean over its flanks (METHODS 2.e, 3.e).

    Flanks are cut at the video's ends, and no outer region counts as 0.

    Args:
        sequence: (T, C) activations.
        start, end: (n,) int, half-open, in snippets.
        flank: length of a flank relative to the segment's.
        outer: "joint", ceil(flank * length) snippets on the left and floor(flank * length) on the
            right, one mean over both (CO2-Net); or "sides", max(1, floor(flank * length)) on either
            side, the mean of the two sides' means (D2-Net).

    Returns:
        (n, C) float64.
    """
    total = np.pad(np.cumsum(sequence, axis=0, dtype=np.float64), ((1, 0), (0, 0)))
    length = end - start
    before, after = _OUTER[outer](length * flank)
    left = np.maximum(0, start - before)
    right = np.minimum(len(sequence), end + after)
    inner = (total[end] - total[start]) / length[:, None]
    if outer == "joint":
        outside = (start - left) + (right - end)
        surrounding = total[right] - total[left] - (total[end] - total[start])
        return inner - surrounding / np.maximum(outside, 1)[:, None] * (outside > 0)[:, None]
    counts = np.stack([start - left, right - end])[..., None]
    means = np.stack([total[start] - total[left], total[right] - total[end]])
    means = means / np.maximum(counts, 1)
    return inner - means.sum(axis=0) / np.maximum((counts > 0).sum(axis=0), 1)


# Snippets of the left and the right flank from flank * length.
_OUTER = {
    "joint": lambda width: (np.ceil(width).astype(int), np.floor(width).astype(int)),
    "sides": lambda width: (np.maximum(1, np.floor(width).astype(int)),) * 2,
}


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


def hard_nms(start, end, score, threshold: float) -> np.ndarray:
    """Greedy NMS: what overlaps a better one by a t-IoU of at least `threshold` is dropped.

    Args:
        start, end, score: (n,).

    Returns:
        Indices of what is kept, best first; of equal scores the one given first is the better.
    """
    order = np.argsort(-score, kind="stable")
    start, end = start[order], end[order]
    overlap = temporal_iou(start[:, None], end[:, None], start, end) >= threshold
    alive = np.ones(len(order), bool)
    for best in range(len(order)):
        if alive[best]:
            alive[best + 1 :] &= ~overlap[best, best + 1 :]
    return order[alive]


def upsample(sequence: np.ndarray, factor: int) -> np.ndarray:
    """Linear interpolation: (T, n) to (factor * T, n), values at 0, 1 / factor, ... (METHODS 4.e).

    What lies beyond the last row continues with the last slope; a single row is repeated.
    """
    if factor == 1:
        return sequence
    index, offset = np.divmod(np.arange(factor * len(sequence)), factor)
    left = np.minimum(index, max(len(sequence) - 2, 0))
    right = np.minimum(left + 1, len(sequence) - 1)
    weight = (index - left + offset / factor)[:, None]
    return (1 - weight) * sequence[left] + weight * sequence[right]


def _or_best(chosen: np.ndarray, score: np.ndarray) -> np.ndarray:
    return chosen if chosen.any() else np.arange(len(score)) == score.argmax()


def _share_of_best(score: np.ndarray, threshold: float) -> np.ndarray:
    return (score > threshold * score.max()) & (score > 0)


def _top_two(score: np.ndarray, threshold: float) -> np.ndarray:
    lowest = 1.0 if (score > 1).any() else threshold
    third = np.sort(score)[-3] if len(score) > 2 else -np.inf
    return score > max(lowest, third)


# Which classes are localised, from the video's class scores (C,) and `class_threshold`:
CLASS_RULES = {
    # Those that reach it (CO2-Net), or exceed it (two-stream network); if none does, the best.
    "above": lambda score, threshold: _or_best(score >= threshold, score),
    "more_than": lambda score, threshold: _or_best(score > threshold, score),
    "share_of_best": _share_of_best,  # more than this share of the best score (D2-Net, THUMOS14)
    "top_two": _top_two,  # at most two; more than it, or than 1 if any is (D2-Net, ActivityNet)
}


def localize(
    sequence: np.ndarray, gate: np.ndarray, class_score: np.ndarray, config: LocalizationConfig
) -> Segments:
    """Detections of one video, without the ambiguous filter, which belongs to the protocols.

    Args:
        sequence: (T, C) or (T, 1) float64 activations that proposals are scored by.
        gate: (T, C) or, the same for all classes, (T, 1): what the thresholds apply to.
        class_score: (C,) the video's score for every class.
        config: the numbers.

    Returns:
        Detections in rows, `video` 0; classes ascending, NMS order within a class.
    """
    shape = len(sequence), len(class_score)
    sequence, gate = np.broadcast_to(sequence, shape), np.broadcast_to(gate, shape)
    classes = np.flatnonzero(CLASS_RULES[config.class_rule](class_score, config.class_threshold))
    found = concatenate(
        [
            _localize_class(int(c), sequence[:, [c]], gate[:, c], class_score[c], config)
            for c in classes
        ]
    )
    if config.relative_score is not None and config.relative_to == "video" and len(found):
        found = found.take(found.score >= config.relative_score * found.score.max())
    return found if config.min_score is None else found.take(found.score >= config.min_score)


def _localize_class(label: int, sequence, gate, class_score: float, config) -> Segments:
    """The same for one class: sequence (T, 1), gate (T,)."""
    sequence = upsample(sequence, config.upsample)
    gate = upsample(gate[:, None], config.upsample)[:, 0]
    thresholds = np.linspace(*config.thresholds)[:, None]
    above = gate >= thresholds if config.inclusive else gate > thresholds
    if config.skip_lone_zero:
        above[(above.sum(axis=1) == 1) & above[:, 0]] = False
    _, start, end = runs(above)
    long = end - start >= config.min_length
    start, end = start[long], end[long]
    score = outer_inner_contrast(sequence, start, end, config.flank, config.outer)[:, 0]
    if config.min_contrast is not None:
        clear = score >= config.min_contrast
        start, end, score = start[clear], end[clear], score[clear]
    score = score + config.class_weight * class_score
    if config.nms == "soft":
        (order,), (score,) = soft_nms(start, end, score[None], config.sigma)
    else:
        order = hard_nms(start, end, score, config.nms_threshold)
        score = score[order]
    if config.relative_score is not None and config.relative_to == "class" and len(score):
        strong = score >= config.relative_score * score.max()
        order, score = order[strong], score[strong]
    return Segments(
        video=np.zeros(len(order), np.int64),
        label=np.full(len(order), label, np.int64),
        start=start[order] / config.upsample,
        end=end[order] / config.upsample,
        score=score,
    )
