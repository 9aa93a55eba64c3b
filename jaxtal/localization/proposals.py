"""Localization of all methods, in NumPy: from activation sequences to detections.

Proposals are the runs of snippets above each of several thresholds. A proposal's score is the
outer-inner contrast of the class's activations plus a weighted class score of the video. NMS
removes or down-weights duplicates. The methods differ only in their `LocalizationConfig`.

`generate_proposals` processes all classes and thresholds of a video at once; `apply_nms` processes
the proposals of any number of videos at once. Times are positions (rows of the activations times
`config.upsample`) until `apply_nms` returns rows; a row is a snippet unless the method subsamples
long videos. Segments are half-open: [start, end).
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from jaxtal.data.dataset import TimeGrid
from jaxtal.data.segments import Segments, concatenate
from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.nms import apply_nms


def topk_mean(sequence: np.ndarray, k: int) -> np.ndarray:
    """Return the mean of the k largest entries over time.

    Args:
        sequence: (T, C) activations.
        k: number of entries, from 1 to T.

    Returns:
        (C,) means.
    """
    return np.partition(sequence, len(sequence) - k, axis=0)[-k:].mean(axis=0)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute the softmax over the last axis, in a numerically stable form.

    Args:
        logits: (..., C) floats.

    Returns:
        (..., C) probabilities.
    """
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def threshold_runs(level: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the maximal runs of positions above each of several ascending thresholds.

    Args:
        level: (N, P) int, number of thresholds that each of P positions exceeds.

    Returns:
        Row, threshold, start and end of each run, (n,) int each, half-open, sorted by row,
        threshold and time.

    Source: [docs][localization-thresholds].
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
    order = np.lexsort((threshold, row[edge]))  # stable: by time, starts and ends alternate
    start, end = edge[order[0::2]], edge[order[1::2]]
    return row[start], threshold[order[0::2]], at[start], at[end]


def outer_inner_contrast(
    sequence: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    column: np.ndarray | int = 0,
    outer_ratio: float = 0.25,
    outer: str = "joint",
) -> np.ndarray:
    """Compute the mean inside each segment minus the mean over its flanks.

    Flanks are truncated at the video's ends. Without any flank the outer mean is 0.

    Args:
        sequence: (P, C) activations.
        start: (n,) int, starts, in positions.
        end: (n,) int, exclusive ends, in positions.
        column: (n,) int or one int for all, the column of `sequence` that scores a segment.
        outer_ratio: length of a flank relative to the segment's length.
        outer: with a flank of f = outer_ratio * length positions, "joint": ceil(f) on the left and
            floor(f) on the right, one mean over both (CO2-Net's program); "sides": max(1, floor(f))
            on either side, the mean of the two sides' means (D2-Net's program); "symmetric": f on
            either side, parts of positions included, one mean over both (the papers' text);
            "padded": the same, but always divided by 2 f, as if the sequence were 0 outside of the
            video (two-stream network, eq. 9 as printed); "peak": the largest value inside, without
            flanks (W-TALC's program).

    Returns:
        (n,) float64 contrasts.

    Source: CO2-Net, section 3.6; D2-Net, section 3.3; two-stream network, eq. 9
    ([docs][localization-outer-inner-contrast]).
    """
    if outer == "peak":
        return _largest_inside(sequence, start, end, column)
    total = np.pad(np.cumsum(sequence, axis=0, dtype=np.float64), ((1, 0), (0, 0)))
    length = end - start
    before, after = OUTER_RULES[outer](length * outer_ratio)
    left = np.maximum(0, start - before)
    right = np.minimum(len(sequence), end + after)
    at_left, at_start, at_end, at_right = (
        _sum_before(total, at, column) for at in (left, start, end, right)
    )
    inner = (at_end - at_start) / length
    if outer != "sides":
        exists = (start - left) + (right - end)
        outside = before + after if outer == "padded" else exists
        surrounding = at_right - at_left - (at_end - at_start)
        return inner - surrounding / np.where(outside > 0, outside, np.inf)
    counts = np.stack([start - left, right - end])
    means = np.stack([at_start - at_left, at_right - at_end]) / np.maximum(counts, 1)
    return inner - means.sum(axis=0) / np.maximum((counts > 0).sum(axis=0), 1)


def _largest_inside(
    sequence: np.ndarray, start: np.ndarray, end: np.ndarray, column: np.ndarray | int
) -> np.ndarray:
    """Return the maximum of each segment's column from start to end."""
    if not len(start):
        return np.zeros(0)
    flat = np.append(sequence.T.ravel(), -np.inf)  # the last segment may end behind the columns
    bounds = np.stack([start, end], axis=1) + len(sequence) * np.reshape(column, (-1, 1))
    return np.maximum.reduceat(flat, bounds.ravel())[::2]


def _sum_before(total: np.ndarray, at: np.ndarray, column: np.ndarray | int) -> np.ndarray:
    """Return the sums before positions; a part of a position counts by its share."""
    if at.dtype.kind == "i":
        return total[at, column]
    whole = np.floor(at).astype(int)
    after = np.minimum(whole + 1, len(total) - 1)
    low = total[whole, column]
    return low + (at - whole) * (total[after, column] - low)


# Lengths of the left and the right flank, in positions, given outer_ratio * length.
OUTER_RULES = {
    "joint": lambda width: (np.ceil(width).astype(int), np.floor(width).astype(int)),
    "sides": lambda width: (np.maximum(1, np.floor(width).astype(int)),) * 2,
    "symmetric": lambda width: (width, width),
    "padded": lambda width: (width, width),
}
SEGMENT_SCORES = (*OUTER_RULES, "peak")


def upsample(sequence: np.ndarray, factor: int) -> np.ndarray:
    """Interpolate linearly at 0, 1 / factor, 2 / factor, ...

    Positions beyond the last row are extrapolated with the last slope; a single row is repeated.

    Args:
        sequence: (T, n) values.
        factor: positions per row.

    Returns:
        (factor * T, n) values; the given array if the factor is 1.

    Source: [docs][localization-upsampling].
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


CLASS_RULES = {
    # At least the threshold (CO2-Net), or above it (two-stream network); if none is, the best.
    "above": lambda score, threshold: _or_best(score >= threshold, score),
    "more_than": lambda score, threshold: _or_best(score > threshold, score),
    "share_of_best": _share_of_best,  # above this fraction of the best score (D2-Net, THUMOS14)
    "top_two": _top_two,  # at most two, above the threshold, or above 1 if any score is (D2-Net,
    # ActivityNet)
}
"""Rules that select classes, functions of the class scores (C,) of a video and `class_threshold`.

Source: [docs][localization-class-selection].
"""


def generate_proposals(
    sequence: np.ndarray, gate: np.ndarray, class_score: np.ndarray, config: LocalizationConfig
) -> Segments:
    """Generate the proposals of one video.

    Args:
        sequence: (T, C) or (T, 1) float64 activations that score the proposals.
        gate: (T, C), or (T, 1) for all classes: the activations that the thresholds apply to.
        class_score: (C,) class scores of the video.
        config: options of the localization.

    Returns:
        Proposals in positions, `video` 0; classes ascending, then by threshold, then by time.

    Source: [docs][localization-thresholds].
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
    """Generate the proposals of many videos, numbered in their order.

    Args:
        evidence: sequence, gate and class scores of each video, as for `generate_proposals`; None
            for a video without proposals.
        config: options of the localization.

    Returns:
        Proposals in positions; videos ascending.
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
    """Localize one video: `generate_proposals`, then `apply_nms`.

    Args:
        sequence: (T, C) or (T, 1) float64 activations that score the proposals.
        gate: (T, C), or (T, 1) for all classes: the activations that the thresholds apply to.
        class_score: (C,) class scores of the video.
        config: options of the localization.

    Returns:
        Detections in rows, `video` 0.

    Source: [docs][localization].
    """
    return apply_nms(generate_proposals(sequence, gate, class_score, config), config)


def localize_videos(
    evidence: Iterable,
    rows: ArrayLike,
    snippets: ArrayLike,
    grid: TimeGrid,
    config: LocalizationConfig,
) -> Segments:
    """Localize many videos; return detections in seconds.

    Times are at least 0: where windows are shorter than strides, the first snippet begins before
    its video.

    Args:
        evidence: sequence, gate and class scores of each video, as for `generate_all_proposals`.
        rows: (V,) number of rows of each video's evidence; any number where it is None.
        snippets: (V,) number of snippets of each video, over which its rows are spread.
        grid: the `TimeGrid` of all videos, or one per video, as `TimeGrid.of` returns it.
        config: options of the localization.

    Returns:
        Detections in seconds; videos ascending.

    Source: [docs][localization-units].
    """
    detections = apply_nms(generate_all_proposals(evidence, config), config)
    scale = (np.asarray(snippets) / np.asarray(rows))[detections.video]
    own = grid.take(detections.video)
    return detections.with_times(lambda at: np.maximum(own.to_seconds(at * scale), 0.0))
