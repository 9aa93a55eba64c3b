"""Detection mAP under named protocols, and video-level classification mAP, in NumPy.

The matching rule is the official ActivityNet evaluator's: detections of a class in descending
order of score, each matched to the best instance of its video that is still free and overlaps
enough. It is computed for all thresholds, classes and videos at once: groups of one video and one
class are independent, so the n-th detections of all groups are matched together. D2-Net's evaluator
takes the first instance in the list that overlaps enough (``matching="first"``).

Ties are broken by a stated rule: detections with equal scores keep the order in which they are
given, and of free instances with equal t-IoU the one with the nearest centre is taken (the first
of those). The published programs leave the second to the order of numpy's unstable argsort, which
depends on the machine; ``matching="published"`` reproduces that.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from jaxtal.data.dataset import TimeGrid, Video
from jaxtal.segments import Segments, ground_truth, temporal_iou

_THUMOS = tuple(np.round(np.arange(0.1, 0.95, 0.1), 2).tolist())
_ACTIVITYNET = tuple(np.round(np.arange(0.5, 0.975, 0.05), 2).tolist())
_THUMOS_AVERAGES = ((0.1, 0.5), (0.1, 0.7), (0.1, 0.9))


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What a mAP is measured with.

    Attributes:
        name: as used in configs, results and on the command line.
        thresholds: t-IoU thresholds.
        averages: pairs (first, last) of thresholds; the mean over them is reported.
        snippets: compare in snippet units with the ground truth rounded to whole snippets, half to
            even (CO2-Net), instead of in seconds (the official evaluators).
        whole_detections: detections too are taken as ranges of whole snippets (D2-Net).
        ambiguous: leave out detections that touch an ambiguous interval of their video.
        labelled_only: leave out instances whose class is not among the labels of their video or
            that begin after its end (D2-Net's THUMOS14 list, 3,234 of 3,358 instances).
        matching: which of the instances that overlap enough a detection takes, see `MATCHINGS`.
        stop_at_empty_class: D2-Net's published evaluator does not move on from a class without
            detections, so that this one and every later class get an AP of 0. Off by default.
        exclude: names of videos that are left out, ground truth and detections.
    """

    name: str
    thresholds: tuple[float, ...] = _THUMOS
    averages: tuple[tuple[float, float], ...] = _THUMOS_AVERAGES
    snippets: bool = False
    whole_detections: bool = False
    ambiguous: bool = False
    labelled_only: bool = False
    matching: str = "nearest"
    stop_at_empty_class: bool = False
    exclude: tuple[str, ...] = ()


_activitynet = functools.partial(Protocol, thresholds=_ACTIVITYNET, averages=((0.5, 0.95),))
# D2-Net's own evaluator (METHODS 5.3).
_d2 = functools.partial(Protocol, snippets=True, whole_detections=True, matching="first")
_MISLABELLED = ("video_test_0000270", "video_test_0001496")
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("thumos14"),
        Protocol("thumos_co2", snippets=True, ambiguous=True),
        Protocol("thumos_210", exclude=_MISLABELLED),
        _activitynet("anet12"),
        _activitynet("anet13"),
        _activitynet("anet12_co2", snippets=True),
        Protocol("official"),
        Protocol("co2", snippets=True, ambiguous=True),
        _d2("thumos_d2", ambiguous=True, labelled_only=True),
        _d2("anet12_d2", thresholds=_ACTIVITYNET, averages=((0.5, 0.95),)),
        _d2("d2", ambiguous=True),
    )
}


def average_precision(
    truth: Segments, detections: Segments, thresholds, num_classes: int, matching: str = "nearest"
) -> np.ndarray:
    """Interpolated average precision (METHODS 5.1; the official ActivityNet evaluator).

    Args:
        truth: ground truth, any unit of time.
        detections: detections in the same unit, with scores.
        thresholds: (K,) t-IoU thresholds.
        num_classes: C.
        matching: which instance a detection takes, see `MATCHINGS`.

    Returns:
        (K, C) float64; NaN for a class without ground truth, 0 for one without detections.
    """
    detections = detections.take(np.argsort(-detections.score, kind="stable"))
    hits = _match(truth, detections, thresholds, num_classes, MATCHINGS[matching])
    instances = np.bincount(truth.label, minlength=num_classes)
    result = np.full((len(thresholds), num_classes), np.nan)
    for label in np.flatnonzero(instances):
        hit = hits[:, detections.label == label]
        precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        result[:, label] = (hit * envelope).sum(axis=1) / instances[label]
    return result


def f1_score(
    truth: Segments,
    detections: Segments,
    threshold: float,
    num_classes: int,
    matching: str = "nearest",
) -> np.ndarray:
    """F1 of all detections, whatever their scores, at one t-IoU (D2-Net, Table 3; METHODS 5.3).

    Returns:
        (C,) 2 TP / (detections + instances); NaN for a class without ground truth.
    """
    detections = detections.take(np.argsort(-detections.score, kind="stable"))
    (hit,) = _match(truth, detections, [threshold], num_classes, MATCHINGS[matching])
    found, instances = (np.bincount(s.label, minlength=num_classes) for s in (detections, truth))
    positives = np.bincount(detections.label[hit], minlength=num_classes)
    f1 = 2 * positives / np.maximum(found + instances, 1)
    return np.where(instances > 0, f1, np.nan)


def _match(truth, detections, thresholds, num_classes: int, choose) -> np.ndarray:
    """(K, n) bool: which of the detections, sorted by descending score, are true positives."""
    thresholds = np.asarray(thresholds, np.float64)
    hits = np.zeros((len(thresholds), len(detections)), bool)
    truth_key = truth.video * num_classes + truth.label
    detection_key = detections.video * num_classes + detections.label
    keys, truth_group, sizes = np.unique(truth_key, return_inverse=True, return_counts=True)
    if not len(keys):
        return hits
    group = np.minimum(np.searchsorted(keys, detection_key), len(keys) - 1)
    judged = np.flatnonzero(keys[group] == detection_key)  # the others: no instance to find
    for members in _size_classes(sizes):
        width = sizes[members].max()
        position = np.full(len(keys), -1)
        position[members] = np.arange(len(members))
        mine = np.flatnonzero(position[truth_group] >= 0)
        slots = _table(position[truth_group[mine]], mine, len(members), width)
        own = judged[position[group[judged]] >= 0]
        row = position[group[own]]
        _match_groups(truth, detections, thresholds, slots, row, own, choose, hits)
    return hits


def _size_classes(sizes: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of groups by size within a factor of two, so that padding at most doubles them."""
    magnitude = np.frexp(sizes)[1]
    for value in np.unique(magnitude):
        yield np.flatnonzero(magnitude == value)


def _table(row: np.ndarray, value: np.ndarray, rows: int, width: int | None = None) -> np.ndarray:
    """(rows, width) table holding each row's values in their given order, padded with -1."""
    order = np.argsort(row, kind="stable")
    counts = np.bincount(row, minlength=rows)
    column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((rows, counts.max(initial=0) if width is None else width), -1)
    table[row[order], column] = value[order]
    return table


def _match_groups(truth, detections, thresholds, slots, row, index, choose, hits) -> None:
    """Match the detections `index` (group `row` each) to the instances in `slots`; sets `hits`."""
    order = _table(row, index, len(slots))
    free = np.broadcast_to(slots >= 0, (len(thresholds), *slots.shape)).copy()
    for nth in order.T:
        active = np.flatnonzero(nth >= 0)
        mine, instances = nth[active, None], slots[active]
        segment = detections.start[mine], detections.end[mine]
        overlap = temporal_iou(*segment, truth.start[instances], truth.end[instances])
        # 0 / 0 (identical segments of zero length) sorts first and counts as a hit.
        overlap = np.where(np.isnan(overlap), np.inf, overlap)
        candidate = np.where(free[:, active], overlap, -1.0)
        enough = candidate >= thresholds[:, None, None]
        if choose is None:
            candidate = enough
        best = candidate.argmax(axis=-1)
        value = np.take_along_axis(candidate, best[..., None], -1)
        hit = enough.any(axis=-1)
        tied = (candidate == value) & hit[..., None]
        for level, group in np.argwhere(tied.sum(axis=-1) > 1) if choose else ():
            real = instances[group] >= 0
            distance = truth.start[instances[group]] + truth.end[instances[group]]
            distance = np.abs(distance - sum(segment)[group])[real]
            best[level, group] = choose(tied[level, group, real], overlap[group, real], distance)
        hits[:, nth[active]] = hit
        level, group = np.nonzero(hit)
        free[level, active[group], best[level, group]] = False


def _nearest(tied: np.ndarray, overlap: np.ndarray, distance: np.ndarray) -> int:
    return int(np.where(tied, distance, np.inf).argmin())


def _published(tied: np.ndarray, overlap: np.ndarray, distance: np.ndarray) -> int:
    order = np.where(np.isinf(overlap), np.nan, overlap).argsort()[::-1]
    return int(order[tied[order]][0])


# Of the free instances that overlap enough, which one a detection takes: the best, and of equally
# good ones "nearest", that with the nearest centre, or "published", what numpy's unstable argsort
# puts last; or the "first" in the order of the ground truth, good or not (D2-Net).
MATCHINGS = {"nearest": _nearest, "published": _published, "first": None}


def classification_map(confidence, labels) -> float:
    """Video-level classification mAP (METHODS 5.4), not interpolated, as a fraction.

    Args:
        confidence: (V, C) class scores, higher is surer.
        labels: (V, C) multi-hot video-level labels; classes without positives are left out.
    """
    order = np.argsort(-np.asarray(confidence, np.float64), axis=0, kind="stable")
    positive = np.take_along_axis(np.asarray(labels) > 0, order, axis=0)
    rank = np.arange(1, len(positive) + 1)[:, None]
    precision = np.cumsum(positive, axis=0) / rank
    count = positive.sum(axis=0)
    present = count > 0
    if not present.any():
        return float("nan")
    return float(((precision * positive).sum(axis=0)[present] / count[present]).mean())


def touches_ambiguous(detections: Segments, videos, grid: TimeGrid) -> np.ndarray:
    """(n,) bool: detections (snippet units) that touch an ambiguous interval of their video.

    Both are taken as ranges of whole snippets (METHODS 1.3): the detection truncated, after
    snapping what lies within 1e-6 of an integer to it, the interval rounded half to even.
    """
    start, end = _whole_snippets(detections.start), _whole_snippets(detections.end)
    touched = np.zeros(len(detections), bool)
    for index, video in enumerate(videos):
        if len(video.ambiguous):
            mine = np.flatnonzero(detections.video == index)
            low, high = grid.round_to_snippets(video.ambiguous).T
            overlap = np.maximum(start[mine, None], low) < np.minimum(end[mine, None], high)
            touched[mine] = overlap.any(axis=1)
    return touched


def _whole_snippets(times: np.ndarray) -> np.ndarray:
    nearest = np.rint(times)
    return np.where(np.abs(times - nearest) < 1e-6, nearest, np.trunc(times))


def evaluate(
    videos: tuple[Video, ...],
    detections: Segments,
    protocol: Protocol,
    num_classes: int,
    grid: TimeGrid,
) -> dict:
    """Mean average precision of `detections` on `videos` under `protocol`.

    Args:
        videos: the test videos; `detections.video` indexes into them.
        detections: in snippet units, with scores.
        protocol: one of PROTOCOLS.
        num_classes: C.
        grid: converts between snippets and seconds.

    Returns:
        {"protocol": name, "map": {"0.1": fraction, ...}, "average": {"0.1:0.5": fraction, ...},
        "f1": fraction}, F1 at t-IoU 0.5.
    """
    truth = labelled_instances(videos) if protocol.labelled_only else ground_truth(videos)
    if protocol.exclude:
        kept = np.array([video.name not in protocol.exclude for video in videos])
        truth, detections = truth.take(kept[truth.video]), detections.take(kept[detections.video])
    if protocol.ambiguous:
        detections = detections.take(~touches_ambiguous(detections, videos, grid))
    if protocol.snippets:
        truth = truth.with_times(grid.round_to_snippets)
        if protocol.whole_detections:
            detections = detections.with_times(_whole_snippets)
    else:
        detections = detections.with_times(grid.to_seconds)
    found = truth, detections
    precision = average_precision(*found, protocol.thresholds, num_classes, protocol.matching)
    if protocol.stop_at_empty_class:
        counts = np.bincount(detections.label, minlength=num_classes)
        precision[:, np.cumsum(counts == 0) > 0] *= 0
    f1 = f1_score(*found, 0.5, num_classes, protocol.matching)
    present = ~np.isnan(f1)
    by_threshold = precision[:, present].mean(axis=1) if present.any() else precision[:, 0] * 0
    mean_ap = dict(zip(protocol.thresholds, by_threshold.tolist(), strict=True))
    return {
        "protocol": protocol.name,
        "map": {f"{threshold:g}": value for threshold, value in mean_ap.items()},
        "average": {
            f"{low:g}:{high:g}": float(np.mean([v for t, v in mean_ap.items() if low <= t <= high]))
            for low, high in protocol.averages
        },
        "f1": float(f1[present].mean()) if present.any() else 0.0,
    }


def labelled_instances(videos: tuple[Video, ...]) -> Segments:
    """The instances whose class is a label of their video and that begin before its end."""
    truth = ground_truth(videos)
    known = [set(video.labels.tolist()) for video in videos]
    durations = np.array([video.duration for video in videos])
    in_labels = [c in known[v] for v, c in zip(truth.video, truth.label.tolist(), strict=True)]
    return truth.take(np.array(in_labels, bool) & (truth.start < durations[truth.video]))
