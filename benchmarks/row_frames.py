"""Evaluation as rows of pandas data frames, as the official and CO2-Net's programs hold them.

The same loop as `row_loops.average_precision`, which is 20 to 40 times as fast because it looks a
video's instances up in a dict of arrays. The field waits for this one.
"""

import numpy as np
import pandas as pd

from jaxtal.data.segments import Segments


def average_precision(
    truth: Segments, detections: Segments, thresholds, num_classes: int
) -> np.ndarray:
    """(K, C) interpolated average precision (METHODS 5.1), ties as numpy's argsort has them."""
    truths, found = (
        pd.DataFrame(
            {"video": s.video, "label": s.label, "start": s.start, "end": s.end, "score": s.score}
        )
        for s in (truth, detections)
    )
    result = np.full((len(thresholds), num_classes), np.nan)
    for label in range(num_classes):
        instances = truths.loc[truths["label"] == label].reset_index(drop=True)
        if len(instances):
            mine = found.loc[found["label"] == label].reset_index(drop=True)
            result[:, label] = _class_precision(instances, mine, thresholds)
    return result


def _class_precision(instances: pd.DataFrame, found: pd.DataFrame, thresholds) -> np.ndarray:
    """(K,) average precision of one class."""
    found = found.loc[found["score"].values.argsort()[::-1]].reset_index(drop=True)
    locked = np.full((len(thresholds), len(instances)), -1)
    true, false = np.zeros((2, len(thresholds), len(found)))
    by_video = instances.groupby("video")
    for row, detection in found.iterrows():
        try:
            others = by_video.get_group(detection["video"])
        except KeyError:
            false[:, row] = 1
            continue
        segment = detection["start"], detection["end"]
        overlap = _temporal_iou(segment, others[["start", "end"]].values)
        index = others.index.values
        order = overlap.argsort()[::-1]
        for level, threshold in enumerate(thresholds):
            for position in order:
                if overlap[position] < threshold:
                    false[level, row] = 1
                    break
                instance = index[position]
                if locked[level, instance] >= 0:
                    continue
                true[level, row] = 1
                locked[level, instance] = row
                break
            if true[level, row] == 0 and false[level, row] == 0:
                false[level, row] = 1
    hits, misses = np.cumsum(true, axis=1), np.cumsum(false, axis=1)
    recall, precision = hits / len(instances), hits / (hits + misses)
    return np.array([_area(p, r) for p, r in zip(precision, recall, strict=True)])


def _temporal_iou(one: tuple, others: np.ndarray) -> np.ndarray:
    first, last = np.maximum(one[0], others[:, 0]), np.minimum(one[1], others[:, 1])
    shared = (last - first).clip(0)
    with np.errstate(invalid="ignore"):
        return shared / ((others[:, 1] - others[:, 0]) + (one[1] - one[0]) - shared)


def _area(precision: np.ndarray, recall: np.ndarray) -> float:
    """Under the precision envelope."""
    precision = np.concatenate([[0], precision, [0]])
    recall = np.concatenate([[0], recall, [1]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    steps = np.where(recall[1:] != recall[:-1])[0] + 1
    return float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps]))
