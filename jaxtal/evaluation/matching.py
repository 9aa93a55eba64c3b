"""Matching of detections to ground-truth instances."""

from collections.abc import Collection

import numpy as np

from jaxtal.data.segments import Segments, candidate_pairs, pair_iou


def match(
    truth: Segments, detections: Segments, thresholds: Collection[float], matching: str = "nearest"
) -> np.ndarray:
    """Match detections to instances.

    Args:
        truth: m instances, in any unit of time.
        detections: in the same unit, by descending score.
        thresholds: (K,) t-IoU thresholds; each has its own assignment.
        matching: the rule by which a detection prefers instances, see `Protocol`.

    Returns:
        (K, m) int, position of the detection matched to each instance, or -1.

    Source: [docs][evaluation-matching].
    """
    found, instance, overlap = _preferences(truth, detections, min(thresholds), matching)
    return np.stack(
        [
            _stable_matching(found[enough], instance[enough], len(truth))
            for enough in (overlap >= threshold for threshold in thresholds)
        ]
    )


def _preferences(truth, detections, least: float, matching: str):
    """Return pairs of detection and instance with t-IoU >= `least`, and their t-IoU.

    Pairs are sorted by detection, then by the detection's preference.
    """
    key, truth_key = video_and_label(detections, truth)
    found, instance = candidate_pairs(
        key, detections.start, detections.end, truth_key, truth.start, truth.end,
        lambda *pairs: pair_iou(detections, truth, *pairs) >= least,
    )  # fmt: skip
    if matching != "first":
        found, instance = _with_points(found, instance, detections, truth, key, truth_key)
    overlap = pair_iou(detections, truth, found, instance)
    # 0 / 0, two segments of zero length: a match at every threshold, as in the official evaluator.
    overlap = np.where(np.isnan(overlap), np.inf, overlap)
    first = np.append(True, found[1:] != found[:-1])[: len(found)]
    alone = first & np.append(first[1:], True)[: len(found)]
    several = np.flatnonzero(~alone)  # detections with a single candidate need no sorting
    d, g, iou = found[several], instance[several], overlap[several]
    # Sort by detection first, then by its preference; lexsort's primary key is the last one.
    if matching == "first":
        order = np.lexsort((g, d))
    elif matching == "published":
        place = _argsort_position(truth, detections, truth_key, key, d, g, iou)
        order = np.lexsort((place, -iou, d))
    else:
        center, truth_center = detections.start + detections.end, truth.start + truth.end
        order = np.lexsort((g, np.abs(truth_center[g] - center[d]), -iou, d))
    instance[several], overlap[several] = g[order], iou[order]
    return found, instance, overlap


def _with_points(found, instance, detections, truth, key, truth_key):
    """Return the pairs together with all pairs of two segments of zero length.

    Their t-IoU is 0 / 0, which the official evaluator counts as a match (its own sample has such
    instances), even if their times differ.
    """
    mine, theirs = (np.flatnonzero(part.start == part.end) for part in (detections, truth))
    if not len(mine) or not len(theirs):
        return found, instance
    here, there = np.zeros(len(mine)), np.zeros(len(theirs))
    index, other = candidate_pairs(key[mine], here, here, truth_key[theirs], there, there)
    found, instance = np.append(found, mine[index]), np.append(instance, theirs[other])
    order = np.argsort(found, kind="stable")
    return found[order], instance[order]


def video_and_label(*parts: Segments) -> list[np.ndarray]:
    """Return keys that identify video and class, for each of the segment sets.

    Args:
        *parts: sets of segments.

    Returns:
        An (n,) int array for each set of n segments.
    """
    classes = 1 + max(int(part.label.max(initial=0)) for part in parts)
    return [part.video.astype(np.int64) * classes + part.label for part in parts]


def _argsort_position(truth, detections, truth_key, key, found, instance, overlap) -> np.ndarray:
    """Return positions of instances in numpy's reversed argsort of a detection's t-IoU.

    Positions are set only for detections with two instances of equal t-IoU; others have 0.
    """
    position = np.zeros(len(found), np.int64)
    by_group = np.argsort(truth_key, kind="stable")
    equal = np.lexsort((overlap, found))
    pairs = found[equal], overlap[equal]
    tied = np.all([column[1:] == column[:-1] for column in pairs], axis=0)
    for detection in np.unique(found[equal[1:][tied]]):
        bounds = np.searchsorted(truth_key[by_group], [key[detection], key[detection] + 1])
        group = by_group[slice(*bounds)]
        place = pair_iou(detections, truth, detection, group).argsort()[::-1].argsort()
        mine = slice(*np.searchsorted(found, [detection, detection + 1]))
        position[mine] = place[np.searchsorted(group, instance[mine])]
    return position


def _stable_matching(found, instance, instances: int) -> np.ndarray:
    """Match by deferred acceptance: return (instances,) the detection of each instance, or -1.

    `found` and `instance` are the acceptable pairs, by detection and then by its preference.
    """
    # Greedy matching assigns each instance to the first detection, by score, that accepts it and
    # has no instance that it prefers. That is a stable matching in which every instance prefers
    # the earlier detection, so deferred acceptance finds it for all detections at once.
    begin = np.flatnonzero(np.append(True, found[1:] != found[:-1])[: len(found)])
    chooser = found[begin]
    stop = np.append(begin[1:], len(found))
    holder = np.full(instances, len(chooser))  # unmatched
    proposing, wish = np.arange(len(chooser)), begin.copy()
    while len(proposing):
        wanted = instance[wish[proposing]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, proposing)
        now = holder[wanted]
        # A detection that an earlier one displaces proposes to its next choice in the next round.
        evicted = np.unique(before[(now < before) & (before < len(chooser))])
        proposing = np.concatenate([proposing[now != proposing], evicted])
        wish[proposing] += 1
        proposing = proposing[wish[proposing] < stop[proposing]]
    return np.append(chooser, -1)[holder]


def score_order(detections: Segments, matching: str) -> np.ndarray:
    """Return indices of the detections by descending score.

    Args:
        detections: n detections.
        matching: the rule of matching; under "published" ties within a class are in the order of
            numpy's reversed argsort, otherwise in the given order.

    Returns:
        (n,) int.

    Source: [docs][evaluation-ties].
    """
    if matching != "published":
        return np.argsort(-detections.score, kind="stable")
    by_label = np.argsort(detections.label, kind="stable")
    members = np.split(by_label, np.flatnonzero(np.diff(detections.label[by_label])) + 1)
    order = [mine[detections.score[mine].argsort()[::-1]] for mine in members]
    by_class = np.concatenate([np.empty(0, np.int64), *order])
    return by_class[np.argsort(-detections.score[by_class], kind="stable")]
