"""Localization and evaluation as loops over rows, as in the published programs.

They are written from the equations of the Methods pages alone (docs/methods/localization.md and
evaluation.md) and share no code with `jaxtal.localization.proposals` and
`jaxtal.evaluation.detection_map`, whose results and speed are compared with theirs.
"""

import math

import numpy as np

from jaxtal.data.segments import Segments
from jaxtal.localization.config import LocalizationConfig


def localize(
    sequence: np.ndarray, gate: np.ndarray, class_score: np.ndarray, config: LocalizationConfig
) -> list[tuple[int, float, float, float]]:
    """Compute the detections of one video.

    Args:
        sequence: (T, C) or (T, 1) activations that score the proposals.
        gate: (T, C) or (T, 1) activations that the thresholds apply to.
        class_score: (C,) score of the video for each class.
        config: the fields of the localization.

    Returns:
        Rows (class, start, end, score), start and end in rows of the sequence; by ascending class,
        within a class in the order of selection by the NMS.
    """
    class_score = np.asarray(class_score, np.float64)
    sequence = _upsample(np.asarray(sequence, np.float64), config.upsample)
    gate = _upsample(np.asarray(gate, np.float64), config.upsample)
    detections = []
    for label in _classes(class_score, config):
        values = sequence[:, label if sequence.shape[1] > 1 else 0]
        gates = gate[:, label if gate.shape[1] > 1 else 0]
        proposals = []
        for threshold in np.linspace(*config.thresholds):
            for start, end in _runs(gates, threshold, config):
                contrast = _contrast(values, start, end, config)
                if config.min_contrast is None or contrast >= config.min_contrast:
                    score = contrast + config.class_weight * class_score[label]
                    proposals.append((start, end, float(score)))
        selected = suppress(proposals, config)
        if config.relative_to == "class":
            selected = _near_best(selected, config)
        for start, end, score in selected:
            detections.append((label, start / config.upsample, end / config.upsample, score))
    if config.relative_to == "video":
        detections = _near_best(detections, config)
    if config.min_score is not None:
        detections = [row for row in detections if row[-1] >= config.min_score]
    return detections


def _upsample(rows: np.ndarray, factor: int) -> np.ndarray:
    """Interpolate linearly, (T, N) to (T * factor, N); extrapolate with the last slope."""
    if factor == 1 or len(rows) < 2:
        return np.repeat(rows, factor, axis=0)
    positions = np.arange(len(rows) * factor)
    low = np.minimum(positions // factor, len(rows) - 2)
    return rows[low] + (rows[low + 1] - rows[low]) * (positions / factor - low)[:, None]


def _classes(score: np.ndarray, config: LocalizationConfig) -> list[int]:
    """Return the classes to localize, ascending, from their scores (C,)."""
    threshold = config.class_threshold
    if config.class_rule == "above":
        chosen = np.where(score >= threshold)[0]
    elif config.class_rule == "more_than":
        chosen = np.where(score > threshold)[0]
    elif config.class_rule == "share_of_best":
        chosen = np.where((score > threshold * score.max()) & (score > 0))[0]
    elif config.class_rule == "top_two":
        bound = 1 if np.any(score > 1) else threshold
        if len(score) >= 3:
            bound = max(bound, np.sort(score)[-3])
        chosen = np.where(score > bound)[0]
    else:
        raise ValueError(f"no such class rule: {config.class_rule!r}")
    if len(chosen) == 0 and config.class_rule in ("above", "more_than"):
        return [int(np.argmax(score))]
    return chosen.tolist()


def _runs(gate: np.ndarray, threshold: float, config: LocalizationConfig) -> list[tuple[int, int]]:
    """Return the half-open runs of positions whose gate (T,) exceeds the threshold, in order."""
    active = gate >= threshold if config.inclusive else gate > threshold
    positions = np.argwhere(active)[:, 0]
    if len(positions) == 0 or (config.drop_first_snippet_only and positions[-1] == 0):
        return []
    runs = np.split(positions, np.where(np.diff(positions) != 1)[0] + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs if len(run) >= config.min_length]


def _contrast(values: np.ndarray, start: int, end: int, config: LocalizationConfig) -> float:
    """Mean of values (T,) inside [start, end) minus the mean of its flanks."""
    inner = values[start:end].mean()
    outer_ratio = config.outer_ratio * (end - start)
    if config.outer == "joint":
        left = values[max(0, start - math.ceil(outer_ratio)) : start]
        right = values[end : end + math.floor(outer_ratio)]
        outer = np.concatenate((left, right))
        return inner - outer.mean() if len(outer) else inner
    if config.outer == "sides":
        width = max(1, math.floor(outer_ratio))
        sides = (values[max(0, start - width) : start], values[end : end + width])
        means = [side.mean() for side in sides if len(side)]
        return inner - sum(means) / len(means) if means else inner
    raise ValueError(f"no such outer region: {config.outer!r}")


def suppress(proposals: list[tuple], config: LocalizationConfig) -> list[tuple]:
    """Apply NMS to the proposals of one class.

    Args:
        proposals: rows (start, end, score).
        config: the fields of the localization.

    Returns:
        Selected rows with their new scores, in the order of selection.
    """
    if config.nms == "none" or not proposals:
        return proposals
    rest = np.array(proposals, np.float64)
    extra = 1 if config.inclusive_iou else 0
    selected = []
    while len(rest):
        best = int(np.argmax(rest[:, 2]))
        start, end, score = rest[best].tolist()
        selected.append((start, end, score))
        # Shifting the rows before it, instead of a swap with the first, keeps the order of ties.
        rest[1 : best + 1] = rest[:best]
        rest = rest[1:]
        shared = np.minimum(end, rest[:, 1]) - np.maximum(start, rest[:, 0]) + extra
        inter = np.maximum(0.0, shared)
        lengths = rest[:, 1] - rest[:, 0] + extra
        iou = inter / ((end - start + extra) + lengths - inter)
        if config.nms == "gaussian":
            rest[:, 2] *= np.exp(-(iou**2) / config.sigma)
        elif config.nms == "linear":
            rest[:, 2] *= np.where(iou >= config.nms_threshold, 1 - iou, 1.0)
        elif config.nms == "hard":
            rest = rest[iou < config.nms_threshold]
        else:
            raise ValueError(f"no such NMS: {config.nms!r}")
    return selected


def _near_best(rows: list[tuple], config: LocalizationConfig) -> list[tuple]:
    """Keep the rows, score last, with at least `relative_score` of the best score."""
    if config.relative_score is None or not rows:
        return rows
    # A soft NMS raises negative scores, so the best need not be the first.
    bound = config.relative_score * max(row[-1] for row in rows)
    return [row for row in rows if row[-1] >= bound]


def average_precision(
    truth: Segments,
    detections: Segments,
    thresholds: np.ndarray,
    num_classes: int,
    matching: str = "nearest",
) -> np.ndarray:
    """Compute the interpolated average precision of every t-IoU threshold and class.

    Args:
        truth: instances of all videos.
        detections: detections of all videos, in the same unit of time.
        thresholds: (K,) t-IoU thresholds.
        num_classes: C.
        matching: order in which a detection is compared with the instances of its video.
            "nearest": by descending t-IoU, ties by the nearest center, then list order;
            "published": by the argsort of the official evaluator; "first": list order (D2-Net).

    Returns:
        (K, C); NaN for a class without ground truth, 0 for a class without detections.
    """
    if matching not in ("nearest", "published", "first"):
        raise ValueError(f"no such matching: {matching!r}")
    result = np.full((len(thresholds), num_classes), np.nan)
    for label in range(num_classes):
        instances = truth.take(truth.label == label)
        if len(instances) == 0:
            continue
        found = detections.take(detections.label == label)
        found = found.take(np.argsort(-found.score, kind="stable"))
        hit = _match(instances, found, thresholds, matching)
        for k in range(len(thresholds)):
            result[k, label] = interpolated(hit[k], len(instances))
    return result


def _match(instances: Segments, found: Segments, thresholds, matching: str) -> np.ndarray:
    """Mark the true positives among the n sorted detections of a class: (K, n) bool."""
    in_video = {}
    for video in set(instances.video.tolist()):
        indices = np.where(instances.video == video)[0]
        in_video[video] = indices.tolist(), instances.take(indices)
    locked = np.zeros((len(thresholds), len(instances)), bool)
    hit = np.zeros((len(thresholds), len(found)), bool)
    for row, video in enumerate(found.video.tolist()):
        if video not in in_video:
            continue
        indices, others = in_video[video]
        start, end = found.start[row], found.end[row]
        iou = _temporal_iou(start, end, others)
        order = _order(iou, (start + end) / 2, others, matching).tolist()
        for k, threshold in enumerate(thresholds):
            for position in order:
                if matching == "first" and not iou[position] >= threshold:
                    continue
                # NaN, the t-IoU of two identical empty segments, is not less: it is a match.
                if iou[position] < threshold:
                    break
                if not locked[k, indices[position]]:
                    locked[k, indices[position]] = hit[k, row] = True
                    break
    return hit


def _temporal_iou(start: float, end: float, others: Segments) -> np.ndarray:
    """Compute the t-IoU (n,) of one segment with n others; 0 where either has negative length."""
    inter = np.maximum(0.0, np.minimum(end, others.end) - np.maximum(start, others.start))
    union = (others.end - others.start) + (end - start) - inter
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = inter / union
    iou[(others.end < others.start) | (end < start)] = 0.0
    return iou


def _order(iou: np.ndarray, center: float, others: Segments, matching: str) -> np.ndarray:
    """Return the order (n,) in which a detection is compared with the n instances of its video."""
    if matching == "first":
        return np.arange(len(iou))
    if matching == "published":
        return np.argsort(iou)[::-1]
    distance = np.abs(center - (others.start + others.end) / 2)
    return np.lexsort((distance, np.where(np.isnan(iou), -np.inf, -iou)))


def interpolated(hit: np.ndarray, num_instances: int) -> float:
    """Compute the interpolated average precision of a class.

    Args:
        hit: (n,) bool, true positives among the detections by descending score.
        num_instances: number of ground-truth instances.

    Returns:
        The area under the precision envelope.
    """
    true, false = np.cumsum(hit), np.cumsum(~hit)
    precision = [0.0, *(true / (true + false)).tolist(), 0.0]
    recall = np.array([0.0, *(true / num_instances).tolist(), 1.0])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    steps = np.where(recall[1:] != recall[:-1])[0] + 1
    return float(np.sum((recall[steps] - recall[steps - 1]) * np.array(precision)[steps]))
