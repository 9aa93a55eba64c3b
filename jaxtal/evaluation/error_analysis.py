"""Error analysis (Alwassel et al., "Diagnosing Error in Temporal Action Detectors", ECCV 2018).

At one t-IoU threshold, every detection is a true positive or one of five kinds of false positive:

- double detection: reaches the threshold with an instance of its class that is already matched;
- wrong label: reaches the threshold with an instance of another class only;
- localization: a t-IoU from 0.1 to the threshold with an instance of its class;
- confusion: the same with an instance of another class only;
- background: a t-IoU below 0.1 with every instance.

If several apply, the kind is the first of this list ([docs][evaluation-error-analysis]).
"""

import dataclasses
import functools

import numpy as np

from jaxtal import reprs
from jaxtal.data.dataset import Video
from jaxtal.data.segments import Segments, candidate_pairs, pair_iou
from jaxtal.errors import DataError
from jaxtal.evaluation.detection_map import Evaluation, matched_precision, rank_in_class
from jaxtal.evaluation.matching import video_and_label
from jaxtal.evaluation.protocols import Protocol

ERROR_TYPES = (
    "true positive",
    "double detection",
    "wrong label",
    "localization",
    "confusion",
    "background",
)
BACKGROUND_TIOU = 0.1  # below this t-IoU an instance does not count as overlapping
LENGTHS = ("XS", "S", "M", "L", "XL")
_Table = tuple[str, tuple[str, ...], list[tuple]]
_TOP = ("video", "label", "start", "end", "score", "kind")
MULTIPLES = tuple(range(1, 11))  # profile of the best M G detections, G instances of the class


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ErrorAnalysis:
    """Errors of n evaluated detections and m instances at one t-IoU threshold.

    Attributes:
        protocol: name of the protocol.
        threshold: the t-IoU threshold.
        kind: (n,) int, index into `ERROR_TYPES` of each detection.
        instance: (n,) int, the instance that decides the kind; -1 for background.
        overlap: (n,) t-IoU with that instance; for background the largest t-IoU with any.
        profile: (len(MULTIPLES), len(ERROR_TYPES)) int, detections of each kind among the best M G
            of every class with G instances (the paper's false positive profile).
        gain: (len(ERROR_TYPES),) mAP without the false positives of a kind, minus mAP, both
            without `stop_at_empty_class`; NaN for true positives.
        found: (len(LENGTHS),) int, matched instances by length.
        instances: (len(LENGTHS),) int, instances by length.
        lengths: bounds between the lengths in seconds, see `Protocol`.
        evaluation: the analyzed evaluation.
        top: the false positives with the highest scores, see `top_false_positives`.
    """

    protocol: str
    threshold: float
    kind: np.ndarray
    instance: np.ndarray
    overlap: np.ndarray
    profile: np.ndarray
    gain: np.ndarray
    found: np.ndarray
    instances: np.ndarray
    lengths: tuple[float, ...]
    evaluation: Evaluation
    top: list[dict]

    def __repr__(self) -> str:
        return "\n\n".join(reprs.plain(*table) for table in self._tables())

    def _repr_html_(self) -> str:
        return "".join(reprs.as_html(*table) for table in self._tables())

    def _tables(self) -> list[_Table]:
        """Return title, header and rows: kinds of error, recall by length, false positives."""
        report, at = self.report(), f"{self.protocol}, t-IoU {self.threshold:g}"
        kinds = [
            (name, one["detections"], one["among_best"]["1G"], reprs.per_cent(one["gain"]))
            for name, one in report["kinds"].items()
        ]
        lengths = [
            (name, one["instances"], one["found"], reprs.per_cent(one["recall"]))
            for name, one in report["recall_by_length"].items()
        ]
        found: list[_Table] = [
            (f"errors: {at}", ("kind of detection", "all", "1G", "mAP gain, %"), kinds),
            (f"recall: {at}", ("length", "instances", "found", "recall, %"), lengths),
        ]
        if self.top:
            found.append(("false positives with the highest scores", _TOP, self._top_rows()))
        return found

    def _top_rows(self) -> list[tuple]:
        return [
            (
                row["video"],
                row["label"],
                *(f"{time:.1f}" for time in row["segment"]),
                f"{row['score']:.4g}",
                row["kind"],
            )
            for row in self.top
        ]

    def report(self) -> dict:
        """Return counts, gains and recalls in the form of JSON files.

        Returns:
            {"t-IoU": threshold, "kinds": {kind: {"detections", "among_best", "gain"}},
            "recall_by_length": {length: {"seconds", "instances", "found", "recall"}}}; gains and
            recalls are fractions.
        """
        kinds = {
            name: {
                "detections": int((self.kind == index).sum()),
                "among_best": dict(
                    zip((f"{m}G" for m in MULTIPLES), self.profile[:, index].tolist(), strict=True)
                ),
                "gain": float(self.gain[index]),
            }
            for index, name in enumerate(ERROR_TYPES)
        }
        bounds = (0, *self.lengths, None)
        recall = {
            name: {
                "seconds": [bounds[index], bounds[index + 1]],
                "instances": count,
                "found": found,
                "recall": found / count if count else float("nan"),
            }
            for index, (name, count, found) in enumerate(
                zip(LENGTHS, self.instances.tolist(), self.found.tolist(), strict=True)
            )
        }
        return {"t-IoU": self.threshold, "kinds": kinds, "recall_by_length": recall}


def check_threshold(protocol: Protocol, threshold: float) -> None:
    """Check that a protocol has a t-IoU threshold.

    Args:
        protocol: the protocol.
        threshold: the t-IoU threshold.

    Raises:
        DataError: the protocol does not have the threshold.
    """
    if threshold not in protocol.thresholds:
        known = ", ".join(f"{value:g}" for value in protocol.thresholds)
        raise DataError(
            f"t-IoU {threshold:g} is not a threshold of {protocol.name}; wanted one of {known}"
        )


def analyze_errors(evaluation: Evaluation, tiou: float = 0.5, top: int = 10) -> ErrorAnalysis:
    """Classify the detections of `evaluation` by kind of error.

    Args:
        evaluation: as `evaluate` returns it.
        tiou: the t-IoU threshold that separates true and false positives.
        top: maximum number of false positives in `ErrorAnalysis.top`.

    Returns:
        Kinds, gains and recalls.

    Raises:
        DataError: the protocol does not have the threshold.

    Source: Alwassel et al. 2018 ([docs][evaluation-error-analysis]).
    """
    protocol, threshold = evaluation.protocol, tiou
    check_threshold(protocol, threshold)
    matched_detection = evaluation.matched_detection[protocol.thresholds.index(threshold)]
    kind, instance, overlap = _kinds(evaluation, threshold, matched_detection)
    edges = np.array(protocol.lengths)
    length = evaluation.seconds.end - evaluation.seconds.start
    size = np.searchsorted(edges, length, side="left")
    analysis = ErrorAnalysis(
        protocol=protocol.name,
        threshold=threshold,
        kind=kind,
        instance=instance,
        overlap=overlap,
        profile=_profile(evaluation, kind),
        gain=np.append(
            np.nan,
            [_gain(evaluation, matched_detection, kind, k) for k in range(1, len(ERROR_TYPES))],
        ),
        found=np.bincount(size[matched_detection >= 0], minlength=len(LENGTHS)),
        instances=np.bincount(size, minlength=len(LENGTHS)),
        lengths=protocol.lengths,
        evaluation=evaluation,
        top=[],
    )
    names = evaluation.videos, evaluation.classes
    return dataclasses.replace(analysis, top=_false_positives(analysis, *names, top))


def _kinds(evaluation: Evaluation, threshold: float, matched_detection: np.ndarray):
    """Return kind, instance and t-IoU of every evaluated detection."""
    found = evaluation.detections
    detection, instance = _deciding_pairs(evaluation, threshold)
    kinds, instances = np.full(len(found), 5), np.full(len(found), -1)
    overlaps = np.zeros(len(found))
    kind, overlap = _kinds_of_pairs(evaluation, threshold, detection, instance)
    kinds[detection], overlaps[detection] = kind, overlap
    instances[detection] = np.where(kind < 5, instance, -1)
    true = np.flatnonzero(matched_detection >= 0)
    kinds[matched_detection[true]], instances[matched_detection[true]] = 0, true
    overlaps[matched_detection[true]] = _overlap(evaluation, matched_detection[true], true)
    return kinds, instances, overlaps


def _deciding_pairs(evaluation: Evaluation, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of detection and instance that determine the detections' kinds.

    With very many classes there are too many pairs of a detection and an instance of any class. But
    a detection that reaches the threshold with its own class needs no other class, and of instances
    of several classes with the same times the first one suffices.
    """
    found, truth = evaluation.detections, evaluation.truth
    best = functools.partial(_best_pairs, evaluation, threshold)
    keys = video_and_label(found, truth)
    mine, own = candidate_pairs(
        keys[0], found.start, found.end, keys[1], truth.start, truth.end, best
    )
    kind, _ = _kinds_of_pairs(evaluation, threshold, mine, own)
    rest = np.setdiff1d(np.arange(len(found)), mine[kind == 1])
    times = np.stack([truth.video, truth.start, truth.end], axis=1)
    first = np.unique(times, axis=0, return_index=True)[1]
    some, other = found.take(rest), truth.take(first)
    index, place = candidate_pairs(
        some.video, some.start, some.end, other.video, other.start, other.end,
        lambda index, place: best(rest[index], first[place]),
    )  # fmt: skip
    detection, instance = np.append(mine, rest[index]), np.append(own, first[place])
    chosen = best(detection, instance)
    return detection[chosen], instance[chosen]


def _best_pairs(
    evaluation: Evaluation, threshold: float, detection: np.ndarray, instance: np.ndarray
) -> np.ndarray:
    """Return a mask of the pair of each detection that determines its kind."""
    kind, overlap = _kinds_of_pairs(evaluation, threshold, detection, instance)
    order = np.lexsort((instance, -overlap, kind, detection))
    first = np.unique(detection[order], return_index=True)[1]
    mask = np.zeros(len(order), bool)
    mask[order[first]] = True
    return mask


def _kinds_of_pairs(
    evaluation: Evaluation, threshold: float, detection: np.ndarray, instance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first kind of error that applies to each pair, and its t-IoU."""
    overlap = _overlap(evaluation, detection, instance)
    same = evaluation.detections.label[detection] == evaluation.truth.label[instance]
    kind = np.select(
        [same & (overlap >= threshold), overlap >= threshold, same & (overlap >= BACKGROUND_TIOU)],
        [1, 2, 3],
        np.where(overlap >= BACKGROUND_TIOU, 4, 5),
    )
    return kind, overlap


def _overlap(evaluation: Evaluation, detection, instance) -> np.ndarray:
    """Return the t-IoU of pairs; 0 / 0 is 1 or 0, as the protocol's matching counts it."""
    overlap = pair_iou(evaluation.detections, evaluation.truth, detection, instance)
    return np.where(np.isnan(overlap), evaluation.protocol.matching != "first", overlap)


def _profile(evaluation: Evaluation, kind: np.ndarray) -> np.ndarray:
    labels = evaluation.detections.label
    instances = np.bincount(evaluation.truth.label, minlength=labels.max(initial=0) + 1)
    rank = rank_in_class(labels)
    return np.stack(
        [
            np.bincount(kind[rank < multiple * instances[labels]], minlength=len(ERROR_TYPES))
            for multiple in MULTIPLES
        ]
    )


def _gain(
    evaluation: Evaluation, matched_detection: np.ndarray, kind: np.ndarray, removed: int
) -> float:
    kept = np.flatnonzero(kind != removed)
    position = np.full(len(kind) + 1, -1)
    position[kept] = np.arange(len(kept))
    without, present = (
        matched_precision(
            evaluation.truth, found, takers[None], evaluation.precision.shape[1],
            evaluation.protocol.ap,
        )
        for found, takers in (
            (evaluation.detections.take(kept), position[matched_detection]),
            (evaluation.detections, matched_detection),
        )
    )  # fmt: skip
    gain = (without - present)[~np.isnan(present)]  # classes without instances have none
    return float(gain.mean()) if len(gain) else float("nan")


def top_false_positives(
    diagnosis: ErrorAnalysis,
    evaluation: Evaluation,
    detections: Segments,
    videos: tuple[Video, ...],
    classes: tuple[str, ...],
    count: int,
) -> list[dict]:
    """Return the false positives with the highest scores.

    Args:
        diagnosis: the error analysis of `evaluation`.
        evaluation: as `evaluate` returns it.
        detections: the detections given to `evaluate`, in seconds.
        videos: the test videos.
        classes: names of the classes.
        count: maximum number of false positives.

    Returns:
        A list of {"video", "label", "segment" (seconds), "score", "kind", "t-IoU", "instance"}, the
        instance that decides the kind as {"label", "segment"}, None for background.
    """
    found = dataclasses.replace(evaluation, source=detections)
    names = tuple(video.name for video in videos)
    return _false_positives(dataclasses.replace(diagnosis, evaluation=found), names, classes, count)


def _false_positives(
    diagnosis: ErrorAnalysis, videos: tuple[str, ...], classes: tuple[str, ...], count: int
) -> list[dict]:
    evaluation, detections = diagnosis.evaluation, diagnosis.evaluation.source
    rows = []
    for index in np.flatnonzero(diagnosis.kind > 0)[:count].tolist():
        given, instance = evaluation.given[index], diagnosis.instance[index]
        truth = evaluation.seconds
        rows.append(
            {
                "video": videos[detections.video[given]],
                "label": classes[detections.label[given]],
                "segment": [float(detections.start[given]), float(detections.end[given])],
                "score": float(detections.score[given]),
                "kind": ERROR_TYPES[diagnosis.kind[index]],
                "t-IoU": float(diagnosis.overlap[index]),
                "instance": None
                if instance < 0
                else {
                    "label": classes[truth.label[instance]],
                    "segment": [float(truth.start[instance]), float(truth.end[instance])],
                },
            }
        )
    return rows
