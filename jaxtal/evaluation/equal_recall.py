"""Compare the false positives of two sets of detections at equal recall.

The mAP is no count of the wrong detections that a user sees. D2-Net's section 4.2 counts them where
two models have found equally many instances.
"""

from typing import Any

import numpy as np

from jaxtal.errors import DataError
from jaxtal.evaluation.detection_map import Evaluation


def false_positives(evaluation: Evaluation, threshold: float = 0.5) -> np.ndarray:
    """Count the false positives before each true positive, in descending order of score.

    The detections of all classes and videos are in one order.

    Args:
        evaluation: result of `detection_map.evaluate`.
        threshold: t-IoU threshold of the protocol that makes a detection a true positive.

    Returns:
        (h,) int, of h true positives: entry i is the number at a recall of (i + 1) / instances.

    Raises:
        ValueError: the protocol has no such threshold.
    """
    matched = evaluation.matched_detection[evaluation.protocol.thresholds.index(threshold)]
    true = np.sort(matched[matched >= 0])
    return true - np.arange(len(true))


def compare(one: Evaluation, other: Evaluation, threshold: float = 0.5) -> list[dict[str, Any]]:
    """Compare two evaluations of the same instances at the recalls that both reach.

    Args:
        one: evaluation of the detections that are judged.
        other: evaluation of those that they are compared with.
        threshold: see `false_positives`.

    Returns:
        Rows with "recall", a fraction; "found", the number of instances; "false_positives" and
        "false_positives_against" of the two; "change", the relative difference, NaN where the
        other has none. Recalls are the multiples of 0.1 and the largest that both reach; there is
        no row if one of the two finds no instance.

    Raises:
        DataError: the instances differ.
    """
    instances = len(one.truth)
    if instances != len(other.truth):
        raise DataError(
            f"the two evaluations have {instances} and {len(other.truth)} instances; evaluate both "
            "against the same annotations under the same protocol"
        )
    counts = [false_positives(evaluation, threshold) for evaluation in (one, other)]
    most = min(map(len, counts))
    return [
        _row(found, instances, *(int(count[found - 1]) for count in counts))
        for found in _steps(instances, most)
    ]


def _steps(instances: int, most: int) -> list[int]:
    """Return the numbers of found instances at which rows are made."""
    tenths = np.ceil(np.arange(1, 10) * instances / 10 - 1e-9).astype(int)
    return [*dict.fromkeys([*tenths[tenths < most].tolist(), *([most] * (most > 0))])]


def _row(found: int, instances: int, mine: int, theirs: int) -> dict[str, Any]:
    return {
        "recall": found / instances,
        "found": found,
        "false_positives": mine,
        "false_positives_against": theirs,
        "change": mine / theirs - 1 if theirs else float("nan"),
    }
