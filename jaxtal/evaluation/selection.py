"""The number of a result that stands for it, and the one that selects the best step."""

from collections.abc import Mapping

from jaxtal.evaluation import protocols


def average_name(result: Mapping) -> str:
    """Return the name of the average that stands for a whole result.

    Args:
        result: an `Evaluation.summary`.

    Returns:
        "0.1:0.7" (THUMOS14 style) if there is such an average, otherwise the last one.
    """
    return "0.1:0.7" if "0.1:0.7" in result["average"] else list(result["average"])[-1]


def selection_metric_name(result: Mapping) -> str:
    """Return the name of the number that selects the best step.

    Args:
        result: an `Evaluation.summary`.

    Returns:
        The t-IoU threshold of the protocol's `best_by`, such as "0.5"; `average_name` without one.
    """
    threshold = protocols.get(result["protocol"]).best_by
    return average_name(result) if threshold is None else f"{threshold:g}"


def selection_metric(result: Mapping) -> float:
    """Return the number that selects the best step on the test set.

    Args:
        result: an `Evaluation.summary`.

    Returns:
        A mAP or a mean of mAP over t-IoU thresholds, as a fraction.
    """
    return {**result["average"], **result["map"]}[selection_metric_name(result)]
