"""Matching of detections to ground-truth instances."""

import numpy as np

from jaxtal.data.segments import Segments, candidate_pairs, pair_iou


def match(
    truth: Segments, detections: Segments, thresholds, matching: str = "nearest"
) -> np.ndarray:
    """Which detection takes which instance.

    Args:
        truth: instances, any unit of time.
        detections: in the same unit, by descending score.
        thresholds: (K,) t-IoU thresholds; each has its own assignment.
        matching: what a detection prefers, see `Protocol`.

    Returns:
        (K, m) int, for every instance the position of the detection that takes it, or -1.
    """
    found, instance, overlap = _preferences(truth, detections, min(thresholds), matching)
    return np.stack(
        [
            _stable_matching(found[enough], instance[enough], len(truth))
            for enough in (overlap >= threshold for threshold in thresholds)
        ]
    )


def _preferences(truth, detections, least: float, matching: str):
    """Pairs of detection, instance and t-IoU >= `least`, by detection and then by preference."""
    key, truth_key = _video_and_label(detections, truth)
    found, instance = candidate_pairs(
        key, detections.start, detections.end, truth_key, truth.start, truth.end,
        lambda *pairs: pair_iou(detections, truth, *pairs) >= least,
    )  # fmt: skip
    if matching != "first":
        found, instance = _with_points(found, instance, detections, truth, key, truth_key)
    overlap = pair_iou(detections, truth, found, instance)
    # 0 / 0, two points: a hit at every threshold, as the official evaluator has it.
    overlap = np.where(np.isnan(overlap), np.inf, overlap)
    first = np.append(True, found[1:] != found[:-1])[: len(found)]
    alone = first & np.append(first[1:], True)[: len(found)]
    several = np.flatnonzero(~alone)  # others have nothing to prefer
    d, g, iou = found[several], instance[several], overlap[several]
    # Sort by detection first, then by what it prefers; lexsort takes the last key first.
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
    """The pairs, and all of two segments without length.

    Their t-IoU is 0 / 0, which the official evaluator counts as a hit (its own sample has such
    instances), even when they lie apart.
    """
    mine, theirs = (np.flatnonzero(part.start == part.end) for part in (detections, truth))
    if not len(mine) or not len(theirs):
        return found, instance
    here, there = np.zeros(len(mine)), np.zeros(len(theirs))
    index, other = candidate_pairs(key[mine], here, here, truth_key[theirs], there, there)
    found, instance = np.append(found, mine[index]), np.append(instance, theirs[other])
    order = np.argsort(found, kind="stable")
    return found[order], instance[order]


def _video_and_label(*parts: Segments) -> list[np.ndarray]:
    """A number for each segment that tells its video and class."""
    classes = 1 + max(int(part.label.max(initial=0)) for part in parts)
    return [part.video.astype(np.int64) * classes + part.label for part in parts]


def _argsort_position(truth, detections, truth_key, key, found, instance, overlap) -> np.ndarray:
    """Where numpy's argsort, reversed, of a detection's t-IoU puts an instance of its group.

    Only for the detections to which two instances are equally good; 0 for the others.
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
    """Deferred acceptance: (instances,) the detection that takes each, or -1.

    Args:
        found, instance: (pairs,) what each detection wants, by detection and then by preference.
    """
    # Greedy matching gives each instance to the first detection, by score, that wants it and got
    # none it likes better. That is a stable matching where every instance prefers the detection
    # that comes first, so deferred acceptance finds it for all detections at once.
    begin = np.flatnonzero(np.append(True, found[1:] != found[:-1])[: len(found)])
    chooser = found[begin]
    stop = np.append(begin[1:], len(found))
    holder = np.full(instances, len(chooser))  # nobody
    asking, wish = np.arange(len(chooser)), begin.copy()
    while len(asking):
        wanted = instance[wish[asking]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, asking)
        now = holder[wanted]
        # Who was displaced by an earlier detection asks for its next choice in the next round.
        evicted = np.unique(before[(now < before) & (before < len(chooser))])
        asking = np.concatenate([asking[now != asking], evicted])
        wish[asking] += 1
        asking = asking[wish[asking] < stop[asking]]
    return np.append(chooser, -1)[holder]


def score_order(detections: Segments, matching: str) -> np.ndarray:
    """Indices by descending score; ties as given, or in a class as numpy's argsort, reversed."""
    if matching != "published":
        return np.argsort(-detections.score, kind="stable")
    members = [np.flatnonzero(detections.label == label) for label in np.unique(detections.label)]
    order = [mine[detections.score[mine].argsort()[::-1]] for mine in members]
    by_class = np.concatenate([np.empty(0, np.int64), *order])
    return by_class[np.argsort(-detections.score[by_class], kind="stable")]
