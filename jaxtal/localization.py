"""From activation sequences to detections, in NumPy, for every method.

Proposals are the runs of snippets above each of several thresholds; a proposal's score is the
outer-inner contrast of the class's activations plus a share of the video's class score; NMS thins
them out. What differs between the methods is `LocalizationConfig`.

`propose` does a video, all classes and thresholds at once; `suppress` thins out the proposals of
any number of videos at once. Times are positions, rows of the activations times
`config.upsample`, until `suppress` returns rows, which are snippets where all of them were fed.
Segments are half-open: [start, end).
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np

from jaxtal import checks
from jaxtal.errors import UserError
from jaxtal.segments import Segments, concatenate, one_line


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
        nms: what happens to what overlaps a better one, see `NMS`.
        sigma: width of the Gaussian soft-NMS.
        nms_threshold: t-IoU from which the hard NMS drops the worse of two and the linear soft-NMS
            scores it down.
        count_ends: the t-IoU of the NMS counts both ends of a segment (lengths + 1), as CO2-Net's
            published program does.
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
    nms: str = "gaussian"
    sigma: float = 0.3
    nms_threshold: float = 0.7
    count_ends: bool = True
    min_score: float | None = None
    relative_score: float | None = None
    relative_to: str = "class"


_LARGEST = 1e6  # that any number of a localisation may be, for or against
_NUMBERS = (
    "class_threshold",
    "class_weight",
    "flank",
    "min_contrast",
    "min_score",
    "relative_score",
    "sigma",
)
_MINIMUMS = {
    "upsample": 1,
    "min_length": 1,
    "topk_divisor": 1,
    "flank": 0,
    "sigma": 1e-6,
    "nms_threshold": 1e-6,
}


def check(config) -> None:
    """Raise UserError for fields of `config.localization` that cannot be."""
    given = config.localization
    checks.at_least(
        config, {f"localization.{name}": low for name, low in _MINIMUMS.items() if name in given}
    )
    checks.finite(config, {f"localization.{name}": _LARGEST for name in _NUMBERS if name in given})
    options: dict[str, Collection[str]] = {
        "class_rule": CLASS_RULES,
        "outer": _OUTER,
        "nms": NMS,
        "relative_to": ("class", "video"),
    }
    checks.one_of(
        config, {f"localization.{name}": known for name, known in options.items() if name in given}
    )
    thresholds = config.localization.thresholds
    numbers = all(
        isinstance(value, (int, float)) and abs(value) <= _LARGEST for value in thresholds
    )
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


def runs(level: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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
    sequence: np.ndarray, start, end, column=0, flank: float = 0.25, outer: str = "joint"
) -> np.ndarray:
    """Mean inside each segment minus the mean over its flanks (METHODS 2.e, 3.e).

    Flanks are cut at the video's ends, and no outer region counts as 0.

    Args:
        sequence: (P, C) activations.
        start, end: (n,) int, half-open, in positions.
        column: (n,) int or one for all, the column of `sequence` that a segment is scored by.
        flank: length of a flank relative to the segment's.
        outer: "joint", ceil(flank * length) positions on the left and floor(flank * length) on the
            right, one mean over both (CO2-Net); or "sides", max(1, floor(flank * length)) on either
            side, the mean of the two sides' means (D2-Net).

    Returns:
        (n,) float64.
    """
    total = np.pad(np.cumsum(sequence, axis=0, dtype=np.float64), ((1, 0), (0, 0)))
    length = end - start
    before, after = _OUTER[outer](length * flank)
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


# Snippets of the left and the right flank from flank * length.
_OUTER = {
    "joint": lambda width: (np.ceil(width).astype(int), np.floor(width).astype(int)),
    "sides": lambda width: (np.maximum(1, np.floor(width).astype(int)),) * 2,
}


# What the score of a segment is multiplied by because of its t-IoU with a selected one (Bodla et
# al. 2017). "hard" drops what it multiplies by 0; "none" leaves even the order as it is.
NMS: dict[str, Callable[..., np.ndarray]] = {
    "gaussian": lambda iou, config: np.exp(-(iou**2) / config.sigma),
    "linear": lambda iou, config: np.where(iou >= config.nms_threshold, 1 - iou, 1.0),
    "hard": lambda iou, config: np.where(iou >= config.nms_threshold, 0.0, 1.0),
    "none": lambda iou, config: np.ones(iou.shape),
}
_BLOCK = 1 << 16  # segments that are thinned out side by side, so that they fit a cache
_STEPS = 32  # of the NMS, after which what is done with may be left behind


def nms(
    start, end, score, group, config: LocalizationConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Greedy non-maximum suppression in every group by itself, all groups at once.

    The best of what remains in a group is selected, of equally good ones the first, and what
    overlaps it is dropped or scored down (`NMS`). A selection concerns only what it overlaps. So
    clusters of overlapping segments are thinned out side by side, in as many steps as the largest
    has members, and then merged in the order in which one after the other selects them.

    Args:
        start, end, score, group: (n,) segments, of a length above 0 unless their ends are counted,
            and the int >= 0 that each belongs to.

    Raises:
        ValueError: a score is not finite.

    Returns:
        kept, group, final: indices of what is selected, its groups, its final scores; groups
        ascending, in each the order of selection.
    """
    if not np.isfinite(score).all():
        raise ValueError(f"{(~np.isfinite(score)).sum()} of {len(score)} scores are not finite")
    if config.nms == "none" or not len(score):
        kept = np.argsort(group, kind="stable")
        return kept, group[kept], score[kept]
    parts = [
        _select(start, end, score, slots, config) for slots in _tables(clusters(start, end, group))
    ]
    kept, final, lowest, leader, turn = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    order = np.lexsort((turn, leader, -lowest, group[kept]))
    kept = kept[order]
    return kept, group[kept], final[order]


def clusters(start, end, group) -> np.ndarray:
    """(n,) int: which segments of a group hang together; between clusters lies a gap of 1.

    Args:
        start, end, group: (n,) as for `nms`.
    """
    _, group = np.unique(group, return_inverse=True)
    order = np.lexsort((start, group))
    group, begin, stop = group[order], start[order], end[order]
    shift = one_line(group, begin, stop)[group]
    reached = np.maximum.accumulate(shift + stop)
    apart = (shift + begin)[1:] - reached[:-1] >= 1 - 4 * np.spacing(np.abs(shift).max())
    cluster = np.empty(len(start), np.int64)
    cluster[order] = np.cumsum(np.append(0, apart))
    return cluster


def _tables(cluster: np.ndarray) -> Iterator[np.ndarray]:
    """(G, w) tables with the members of G clusters of like size, in order, padded with -1."""
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


def _select(start, end, score, slots: np.ndarray, config: LocalizationConfig):
    """Thin out the G clusters in `slots` (G, w) side by side.

    Returns:
        kept, final: what is selected, and its final score;
        lowest, leader, turn: where it comes among the selections of its group: with the last one
        that had the lowest score so far in its cluster, for what NMS has raised (a negative score)
        comes at once.
    """
    begin, stop = start[slots], end[slots]
    remaining = np.where(slots >= 0, score[slots], -np.inf)
    rows, extra = np.arange(len(slots)), float(config.count_ends)
    length = stop - begin + extra
    chosen, value = [], []
    for step in range(slots.shape[1]):
        if step % _STEPS == _STEPS - 1:  # go on with those that remain, if they are few
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
        else:  # what is taken stays -inf, also times 0
            np.multiply(remaining, factor, out=remaining, where=remaining > -np.inf)
        remaining[rows, best] = -np.inf
    kept, final = np.stack(chosen), np.stack(value)
    lowest = np.minimum.accumulate(final, axis=0)
    leader = kept.copy()
    for step in range(1, len(final)):  # of equally low ones, that which was given last
        equal = final[step] == lowest[step - 1]
        follows = (final[step] > lowest[step - 1]) | (equal & (kept[step] < leader[step - 1]))
        leader[step] = np.where(follows, leader[step - 1], kept[step])
    turn = np.broadcast_to(np.arange(len(final))[:, None], final.shape)
    real = final > -np.inf
    return kept[real], final[real], lowest[real], leader[real], turn[real]


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


def propose(
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
    row, threshold, start, end = runs(level.T)
    wanted = end - start >= config.min_length
    if config.skip_lone_zero:
        key = row * len(thresholds) + threshold
        wanted &= (end != 1) | (np.bincount(key, minlength=1)[key] > 1)
    row, start, end = row[wanted], start[wanted], end[wanted]
    if gate.shape[1] < len(classes):  # the same runs for every class
        row = np.repeat(np.arange(len(classes)), len(start))
        start, end = np.tile(start, len(classes)), np.tile(end, len(classes))
    column = row if sequence.shape[1] > 1 else 0
    score = outer_inner_contrast(sequence, start, end, column, config.flank, config.outer)
    label = classes[row]
    if config.min_contrast is not None:
        clear = score >= config.min_contrast
        label, start, end, score = label[clear], start[clear], end[clear], score[clear]
    score = score + config.class_weight * class_score[label]
    times = start.astype(np.float64), end.astype(np.float64)
    return Segments(np.zeros(len(label), np.int64), label, *times, score)


def propose_all(evidence: Iterable, config: LocalizationConfig) -> Segments:
    """Proposals of many videos, numbered in their order.

    Args:
        evidence: sequence, gate and class scores of each, as for `propose`; None for a video that
            has no proposals.
    """
    parts = []
    for index, one in enumerate(evidence):
        if one is not None:
            sequence, gate, class_score = one
            parts.append(propose(sequence, gate, class_score, config))
            parts[-1].video[:] = index
    return concatenate(parts)


def suppress(proposals: Segments, config: LocalizationConfig) -> Segments:
    """Detections from the proposals of any number of videos: NMS, then the weak ones dropped.

    Without the ambiguous filter, which belongs to the protocols.

    Args:
        proposals: in positions, see `propose`.
        config: the numbers.

    Returns:
        Detections in rows; videos ascending, then classes, NMS order within a class.
    """
    classes = 1 + int(proposals.label.max(initial=0))
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


def localize(
    sequence: np.ndarray, gate: np.ndarray, class_score: np.ndarray, config: LocalizationConfig
) -> Segments:
    """Detections of one video, in rows: `propose`, then `suppress`."""
    return suppress(propose(sequence, gate, class_score, config), config)


def localize_all(evidence: Iterable, rows, snippets, grid, config: LocalizationConfig) -> Segments:
    """Detections in many videos, in seconds, none before 0.

    Where windows are shorter than strides, the first snippet stands for time before its video.

    Args:
        evidence: of each video, as for `propose_all`.
        rows: (V,) how many the evidence of each has; any number where it is None.
        snippets: (V,) number of snippets of each video, which its rows are spread over.
        grid: the `TimeGrid` of all videos or, as by `TimeGrid.of`, of each.
        config: the numbers.
    """
    detections = suppress(propose_all(evidence, config), config)
    scale = (np.asarray(snippets) / np.asarray(rows))[detections.video]
    own = grid.take(detections.video)
    return detections.with_times(lambda at: np.maximum(own.to_seconds(at * scale), 0.0))
