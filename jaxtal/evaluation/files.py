"""Evaluate a file of detections against files of annotations under several protocols."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtal.data import detections as detection_files
from jaxtal.data import layouts
from jaxtal.data.dataset import Dataset
from jaxtal.data.examination import examine_truth
from jaxtal.data.reading import NOTHING_STATED, ReadingOptions
from jaxtal.errors import JaxtalError, warn
from jaxtal.evaluation import detection_map, equal_recall, error_analysis, protocols
from jaxtal.evaluation.detection_map import Evaluation
from jaxtal.evaluation.error_analysis import ErrorAnalysis
from jaxtal.evaluation.plausibility import warn_of_implausible
from jaxtal.evaluation.protocols import Protocol


class FileEvaluation(NamedTuple):
    """The result of `evaluate_files`.

    Attributes:
        report: all numbers, in the form of JSON files: "annotations" and "detections" (paths), and
            "protocols", which maps each protocol ("PROTOCOL @ PATH" if there are several
            annotations) to mAP, counts, errors and top false positives.
        first: the evaluation against the first annotations under the first protocol.
        first_errors: its error analysis.
    """

    report: dict[str, Any]
    first: Evaluation
    first_errors: ErrorAnalysis


def evaluate_files(
    annotations: Sequence[Path],
    detections: Path,
    names: Sequence[str],
    *,
    errors_at: float = 0.5,
    top: int = 10,
    skip_unknown: bool = False,
    options: ReadingOptions = NOTHING_STATED,
    against: Path | None = None,
) -> FileEvaluation:
    """Evaluate detections against each ground truth under each protocol.

    Args:
        annotations: one or more JSON files in ActivityNet form or data sets, of the same classes.
        detections: a JSON file in ActivityNet form, in seconds.
        names: one or more names of protocols, with switches as in "thumos_d2+stop_at_empty_class".
        errors_at: t-IoU threshold of the error analysis.
        top: maximum number of false positives in the report.
        skip_unknown: skip and count detections of unknown videos and classes; otherwise they are
            an error.
        options: statements of the user about the annotations.
        against: other detections of the same videos, with which the false positives at equal recall
            are compared under the first protocol: "equal_recall" in the report.

    Returns:
        The report, and the evaluation under the first protocol.

    Raises:
        JaxtalError: a file is missing or malformed, a protocol is unknown or lacks the threshold,
            or the annotations differ in their classes.
    """
    chosen = [protocols.get(name) for name in names]
    for protocol in chosen:
        error_analysis.check_threshold(protocol, errors_at)
    datasets = [layouts.load_annotations(path, options) for path in annotations]
    _check_classes(annotations, datasets)
    rows: dict[str, dict[str, Any]] = {}
    results: list[tuple[Evaluation, ErrorAnalysis]] = []
    for path, dataset in zip(annotations, datasets, strict=True):
        examine_truth(dataset, f"{path}")
        found, skipped = _read(detections, dataset, skip_unknown)
        warn_of_implausible(f"{detections}", found, dataset.test)
        for protocol in chosen:
            _warn_of_missing_information(path, dataset, protocol)
            result, errors, row = _evaluate(dataset, found, protocol, errors_at, top)
            row["counts"]["detections_left_out"] |= skipped
            rows[protocol.name + (f" @ {path}" if len(annotations) > 1 else "")] = row
            results.append((result, errors))
    report: dict[str, Any] = {
        "annotations": [str(path) for path in annotations],
        "detections": str(detections),
        "protocols": rows,
    }
    if against:
        found, _ = _read(against, datasets[0], skip_unknown)
        other, _, _ = _evaluate(datasets[0], found, chosen[0], errors_at, 0)
        report |= _comparison(results[0][0], other, against, errors_at)
    return FileEvaluation(report, *results[0])


def _read(path: Path, dataset: Dataset, skip_unknown: bool):
    """Read detections; return them and the number of skipped ones by kind."""
    skipped: Counter = Counter()
    found = detection_files.read(path, dataset, skipped if skip_unknown else None)
    for what, count in skipped.items():
        warn(f"{path}: {count} detections {what} are skipped")
    return found, dict(skipped)


def _evaluate(
    dataset: Dataset, found, protocol: Protocol, errors_at: float, top: int
) -> tuple[Evaluation, ErrorAnalysis, dict[str, Any]]:
    """Evaluate under one protocol; return the result, its error analysis and both as a report."""
    result = detection_map.evaluate(
        dataset.test, found, protocol, len(dataset.classes), dataset.grid
    )
    errors = error_analysis.analyze_errors(result, errors_at)
    report = result.report(dataset.classes)
    report["errors"] = errors.report()
    report["top_false_positives"] = error_analysis.top_false_positives(
        errors, result, found, dataset.test, dataset.classes, top
    )
    return result, errors, report


def _comparison(one: Evaluation, other: Evaluation, path: Path, threshold: float) -> dict[str, Any]:
    """Return the part of the report about other detections."""
    rows = equal_recall.compare(one, other, threshold)
    if not rows:
        warn(f"against={path}: one of the two finds no instance, so no recall is compared")
    return {"against": str(path), "equal_recall": rows}


def _warn_of_missing_information(path: Path, dataset: Dataset, protocol: Protocol) -> None:
    """Warn if annotations lack information that a THUMOS14 protocol needs."""
    if not protocol.name.startswith("thumos_"):
        return
    missing = []
    videos = dataset.test
    if protocol.ambiguous == "left_out" and not any(len(v.ambiguous) for v in videos):
        missing.append('no "ambiguous" intervals, so no detection is excluded')
    if protocol.truth == "labeled" and all(
        set(v.labels.tolist()) == set(v.segment_labels.tolist()) for v in videos
    ):
        missing.append('no "video_labels" that differ from its instances, so no label excludes one')
    if protocol.excluded_videos and not {v.name for v in videos} & set(protocol.excluded_videos):
        missing.append("none of the excluded videos")
    if missing:
        warn(f"{protocol.name}: {path} has {'; '.join(missing)}")


def _check_classes(paths: Sequence[Path], datasets: Sequence[Dataset]) -> None:
    """Raise JaxtalError if the annotations have different classes."""
    first = set(datasets[0].classes)
    for path, dataset in zip(paths, datasets, strict=True):
        if differing := sorted(first ^ set(dataset.classes)):
            owner = paths[0] if differing[0] in first else path
            raise JaxtalError(
                f"{paths[0]} has {len(first)} classes, {path} has {len(dataset.classes)}, and they "
                f"differ in {len(differing)}: {differing[0]!r} is only in {owner}; give "
                "annotations with the same class list, or evaluate against each separately"
            )
