"""Non-maximum suppression (NMS) of proposals."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from jaxtal.data.segments import Segments, disjoint_offsets
from jaxtal.localization.config import LocalizationConfig

NMS: dict[str, Callable[..., np.ndarray]] = {
    "gaussian": lambda iou, config: np.exp(-(iou**2) / config.sigma),
    "linear": lambda iou, config: np.where(iou >= config.nms_threshold, 1 - iou, 1.0),
    "hard": lambda iou, config: np.where(iou >= config.nms_threshold, 0.0, 1.0),
    "none": lambda iou, config: np.ones(iou.shape),
}
"""Factors of a segment's score, functions of its t-IoU with a selected one (Bodla et al. 2017).

"hard" drops segments with a factor of 0; "none" keeps all segments in the given order. Source:
[docs][localization-nms].
"""
_BLOCK = 1 << 16  # segments processed side by side, so that they fit a cache
_STEPS = 32  # NMS steps between removals of the columns whose segments are all processed


def nms(
    start: np.ndarray,
    end: np.ndarray,
    score: np.ndarray,
    group: np.ndarray,
    config: LocalizationConfig,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Apply greedy non-maximum suppression to every group of segments independently.

    Repeatedly select the remaining segment with the highest score of a group (the first on ties),
    and drop the segments that overlap it or lower their scores (`NMS`). A selection affects only
    the segments that it overlaps. Clusters of overlapping segments are therefore processed side by
    side, in as many steps as the largest cluster has members, and then merged in the order of a
    sequential NMS.

    Args:
        start: (n,) starts, in positions.
        end: (n,) ends; lengths are positive, or at least 0 with `config.inclusive_iou`.
        score: (n,) scores.
        group: (n,) int >= 0, the group of each segment.
        config: the form of NMS and its parameters.

    Returns:
        Indices of the k selected segments, their groups and their final scores, (k,) each; groups
        ascending, segments of a group in the order of selection.

    Raises:
        ValueError: a score is not finite.

    Source: [docs][localization-nms].
    """
    if not np.isfinite(score).all():
        raise ValueError(f"{(~np.isfinite(score)).sum()} of {len(score)} scores are not finite")
    if config.nms == "none" or not len(score):
        kept = np.argsort(group, kind="stable")
        return kept, group[kept], score[kept]
    parts = [
        _greedy_nms(start, end, score, slots, config)
        for slots in _tables(clusters(start, end, group))
    ]
    kept, final, lowest, leader, turn = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    # Clusters were processed independently; a sequential NMS would select in this order.
    order = np.lexsort((turn, leader, -lowest, group[kept]))
    kept = kept[order]
    return kept, group[kept], final[order]


def clusters(start: np.ndarray, end: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Divide segments into clusters, separated by gaps of at least 1 position within a group.

    Args:
        start: (n,) starts, in positions.
        end: (n,) ends.
        group: (n,) int >= 0, the group of each segment.

    Returns:
        (n,) int cluster numbers, from 0.
    """
    _, group = np.unique(group, return_inverse=True)
    order = np.lexsort((start, group))
    group, begin, stop = group[order], start[order], end[order]
    # Place all groups on one time axis, so that one pass finds the gaps of every group.
    shift = disjoint_offsets(group, begin, stop)[group]
    reached = np.maximum.accumulate(shift + stop)
    # The offsets are rounded, so a computed gap may be a few units in the last place below 1.
    apart = (shift + begin)[1:] - reached[:-1] >= 1 - 4 * np.spacing(np.abs(shift).max())
    cluster = np.empty(len(start), np.int64)
    cluster[order] = np.cumsum(np.append(0, apart))
    return cluster


def _tables(cluster: np.ndarray) -> Iterator[np.ndarray]:
    """Yield (G, w) tables of the members of G clusters of similar size, padded with -1."""
    # Clusters whose sizes have the same power of two share a table: less than half is padding.
    sizes = np.bincount(cluster)
    order = np.argsort(cluster, kind="stable")
    first = np.cumsum(sizes) - sizes
    magnitude = np.frexp(sizes)[1]
    for value in np.unique(magnitude):
        alike = np.flatnonzero(magnitude == value)
        width = np.arange(sizes[alike].max())
        parts = min(len(alike), -(-len(alike) * len(width) // _BLOCK))
        for some in np.array_split(alike, parts):
            inside = width < sizes[some, None]
            place = np.where(inside, first[some, None] + width, 0)
            yield np.where(inside, order[place], -1)


def _greedy_nms(start, end, score, slots: np.ndarray, config: LocalizationConfig):
    """Apply NMS to the G clusters in `slots` (G, w) side by side.

    Returns:
        kept, final: the selected segments and their final scores;
        lowest, leader, turn: sort keys of the selections of a group: the lowest score so far in the
        cluster, the last segment that had it, and the step. A score that NMS has raised (a negative
        one) is selected immediately, so it takes the keys of its leader.
    """
    # One row per cluster: each step selects one segment of every cluster, as array operations.
    begin, stop = start[slots], end[slots]
    remaining = np.where(slots >= 0, score[slots], -np.inf)
    rows, extra = np.arange(len(slots)), float(config.inclusive_iou)
    length = stop - begin + extra
    chosen, value = [], []
    for step in range(slots.shape[1]):
        if step % _STEPS == _STEPS - 1:  # keep only the remaining columns, if they are few
            alive = remaining > -np.inf
            width = alive.sum(axis=1).max()
            if width < 0.75 * alive.shape[1]:
                some = np.argsort(~alive, axis=1, kind="stable")[:, :width]
                slots, begin, stop, length, remaining = (
                    np.take_along_axis(x, some, 1) for x in (slots, begin, stop, length, remaining)
                )
        if not remaining.size or remaining.max() == -np.inf:
            break
        best = remaining.argmax(axis=1)
        top = remaining[rows, best]
        chosen.append(slots[rows, best])
        value.append(top)
        left, right = begin[rows, best, None], stop[rows, best, None]
        shared = np.maximum(0.0, np.minimum(stop, right) - np.maximum(begin, left) + extra)
        factor = NMS[config.nms](shared / (length + length[rows, best, None] - shared), config)
        if config.nms == "hard":
            remaining[factor == 0] = -np.inf
        else:  # selected segments stay at -inf; -inf times 0 would be NaN
            np.multiply(remaining, factor, out=remaining, where=remaining > -np.inf)
        remaining[rows, best] = -np.inf
    # Soft-NMS can raise a negative score. Such a segment is selected right after the one that
    # raised it, independently of other clusters: its sort keys are those of its leader.
    kept, final = np.stack(chosen), np.stack(value)
    lowest = np.minimum.accumulate(final, axis=0)
    leader = kept.copy()
    for step in range(1, len(final)):  # of equal scores, the larger index leads
        equal = final[step] == lowest[step - 1]
        follows = (final[step] > lowest[step - 1]) | (equal & (kept[step] < leader[step - 1]))
        leader[step] = np.where(follows, leader[step - 1], kept[step])
    turn = np.broadcast_to(np.arange(len(final))[:, None], final.shape)
    real = final > -np.inf
    return kept[real], final[real], lowest[real], leader[real], turn[real]


def apply_nms(proposals: Segments, config: LocalizationConfig) -> Segments:
    """Turn the proposals of any number of videos into detections: NMS, then the score filters.

    The filter of ambiguous intervals is part of the evaluation protocols.

    Args:
        proposals: in positions, as `generate_proposals` returns them.
        config: options of NMS and of the filters.

    Returns:
        Detections in rows (positions / `config.upsample`); videos ascending, then classes, then in
        the order of NMS.

    Source: [docs][localization-nms] and [docs][localization-filters].
    """
    classes = 1 + int(proposals.label.max(initial=0))
    # NMS acts within a class of a video: one number encodes both.
    group = proposals.video.astype(np.int64) * classes + proposals.label
    kept, group, score = nms(proposals.start, proposals.end, proposals.score, group, config)
    if config.relative_score is not None:
        among = group if config.relative_to == "class" else group // classes
        _, among = np.unique(among, return_inverse=True)
        best = np.full(len(kept), -np.inf)
        np.maximum.at(best, among, score)
        strong = score >= config.relative_score * best[among]
        kept, score = kept[strong], score[strong]
    if config.min_score is not None:
        kept, score = kept[score >= config.min_score], score[score >= config.min_score]
    found = dataclasses.replace(proposals.take(kept), score=score)
    return found.with_times(lambda positions: positions / config.upsample)
