"""From activation sequences to detections, in NumPy, for every method.

Proposals are the runs of snippets above each of several thresholds; a proposal's score is the
outer-inner contrast of the class's activations plus a share of the video's class score; NMS thins
them out. What differs between the methods is `LocalizationConfig`.

`generate_proposals` does a video, all classes and thresholds at once; `apply_nms` thins out the
proposals of any number of videos at once. Times are positions, rows of the activations times
`config.upsample`, until `apply_nms` returns rows, which are snippets where all of them were fed.
Segments are half-open: [start, end).
"""

from collections.abc import Iterable

import numpy as np

from jaxtal.data.segments import Segments, concatenate
from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.nms import apply_nms


def topk_mean(sequence: np.ndarray, k: int) -> np.ndarray:
    """Mean of the k largest entries over time: (T, C) to (C,)."""
    return np.partition(sequence, len(sequence) - k, axis=0)[-k:].mean(axis=0)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def threshold_runs(level: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Maximal runs above every one of several ascending thresholds.

    Args:
        level: (N, P) int, how many of the thresholds each of P positions exceeds.

    Returns:
        row, threshold, start, end: (n,) int each, half-open, sorted by row, threshold and time.
    """
    padded = np.pad(level, ((0, 0), (1, 1)))
    step = np.diff(padded, axis=1)
    row, at = np.nonzero(step)
    before, after = padded[row, at], padded[row, at + 1]
    count = np.abs(after - before)
    # A step from level 2 to 5 begins a run above thresholds 2, 3 and 4; from 5 to 2 it ends one.
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    threshold = np.repeat(np.minimum(before, after), count) + place
    edge = np.repeat(np.arange(len(row)), count)
    order = np.lexsort((threshold, row[edge]))  # stable: in time, beginnings and ends in turn
    start, end = edge[order[0::2]], edge[order[1::2]]
    return row[start], threshold[order[0::2]], at[start], at[end]


def outer_inner_contrast(
    sequence: np.ndarray, start, end, column=0, outer_ratio: float = 0.25, outer: str = "joint"
) -> np.ndarray:
    """Mean inside each segment minus the mean over its flanks (METHODS 2.e, 3.e).

    Flanks are cut at the video's ends, and no outer region counts as 0.

    Args:
        sequence: (P, C) activations.
        start, end: (n,) int, half-open, in positions.
        column: (n,) int or one for all, the column of `sequence` that a segment is scored by.
        outer_ratio: length of a flank relative to the segment's.
        outer: with a flank of f = outer_ratio * length positions, "joint": ceil(f) on the left and
            floor(f) on the right, one mean over both (CO2-Net); "sides": max(1, floor(f)) on either
            side, the mean of the two sides' means (D2-Net).

    Returns:
        (n,) float64.
    """
    total = np.pad(np.cumsum(sequence, axis=0, dtype=np.float64), ((1, 0), (0, 0)))
    length = end - start
    before, after = OUTER_RULES[outer](length * outer_ratio)
    left = np.maximum(0, start - before)
    right = np.minimum(len(sequence), end + after)
    at_left, at_start, at_end, at_right = (total[at, column] for at in (left, start, end, right))
    inner = (at_end - at_start) / length
    if outer == "joint":
        outside = (start - left) + (right - end)
        surrounding = at_right - at_left - (at_end - at_start)
        return inner - surrounding / np.maximum(outside, 1) * (outside > 0)
    counts = np.stack([start - left, right - end])
    means = np.stack([at_start - at_left, at_right - at_end]) / np.maximum(counts, 1)
    return inner - means.sum(axis=0) / np.maximum((counts > 0).sum(axis=0), 1)


# Snippets of the left and the right flank from outer_ratio * length.
OUTER_RULES = {
    "joint": lambda width: (np.ceil(width).astype(int), np.floor(width).astype(int)),
    "sides": lambda width: (np.maximum(1, np.floor(width).astype(int)),) * 2,
}


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


# Which classes are localized, from the video's class scores (C,) and `class_threshold`:
CLASS_RULES = {
    # Those that reach it (CO2-Net), or exceed it (two-stream network); if none does, the best.
    "above": lambda score, threshold: _or_best(score >= threshold, score),
    "more_than": lambda score, threshold: _or_best(score > threshold, score),
    "share_of_best": _share_of_best,  # more than this share of the best score (D2-Net, THUMOS14)
    "top_two": _top_two,  # at most two; more than it, or than 1 if any is (D2-Net, ActivityNet)
}


def generate_proposals(
    sequence: np.ndarray, gate: np.ndarray, class_score: np.ndarray, config: LocalizationConfig
) -> Segments:
    """Proposals of one video.

    Args:
        sequence: (T, C) or (T, 1) float64 activations that proposals are scored by.
        gate: (T, C) or, the same for all classes, (T, 1): what the thresholds apply to.
        class_score: (C,) the video's score for every class.
        config: the numbers.

    Returns:
        Proposals in positions, `video` 0; classes ascending, then by threshold, then by time.
    """
    classes = np.flatnonzero(CLASS_RULES[config.class_rule](class_score, config.class_threshold))
    if not len(classes):
        return concatenate([])
    sequence, gate = (
        upsample(columns[:, classes] if columns.shape[1] > 1 else columns, config.upsample)
        for columns in (sequence, gate)
    )
    thresholds = np.sort(np.linspace(*config.thresholds))
    level = np.searchsorted(thresholds, gate, "right" if config.inclusive else "left")
    level[np.isnan(gate)] = 0
    row, threshold, start, end = threshold_runs(level.T)
    wanted = end - start >= config.min_length
    if config.drop_first_snippet_only:
        key = row * len(thresholds) + threshold
        wanted &= (end != 1) | (np.bincount(key, minlength=1)[key] > 1)
    row, start, end = row[wanted], start[wanted], end[wanted]
    if gate.shape[1] < len(classes):  # the same runs for every class
        row = np.repeat(np.arange(len(classes)), len(start))
        start, end = np.tile(start, len(classes)), np.tile(end, len(classes))
    column = row if sequence.shape[1] > 1 else 0
    score = outer_inner_contrast(sequence, start, end, column, config.outer_ratio, config.outer)
    label = classes[row]
    if config.min_contrast is not None:
        clear = score >= config.min_contrast
        label, start, end, score = label[clear], start[clear], end[clear], score[clear]
    score = score + config.class_weight * class_score[label]
    times = start.astype(np.float64), end.astype(np.float64)
    return Segments(np.zeros(len(label), np.int64), label, *times, score)


def generate_all_proposals(evidence: Iterable, config: LocalizationConfig) -> Segments:
    """Proposals of many videos, numbered in their order.

    Args:
        evidence: sequence, gate and class scores of each, as for `generate_proposals`; None for a
            video that has no proposals.
    """
    parts = []
    for index, one in enumerate(evidence):
        if one is not None:
            sequence, gate, class_score = one
            parts.append(generate_proposals(sequence, gate, class_score, config))
            parts[-1].video[:] = index
    return concatenate(parts)


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
