"""Detection mAP under named protocols, and video-level classification mAP, in NumPy.

Detections choose in descending order of score, each the best instance of its class and video that
is still free and overlaps enough (METHODS 5.1; the official ActivityNet evaluator). One after the
other is how it is defined, not how it is computed: as all instances prefer the same detection, the
better scored one, the result is the only stable assignment, and deferred acceptance (Gale and
Shapley 1962) finds it in a few rounds over all classes and videos at once.

Ties are broken by a stated rule: of equal scores the detection given first chooses first, and of
free instances with equal t-IoU the one with the nearest center is taken, then the one listed first.
The published programs leave both to numpy's unstable argsort, which depends on the machine; the
protocol switch ``numpy_ties`` reproduces that.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxtal import reprs
from jaxtal.data.dataset import TimeGrid, Video
from jaxtal.data.segments import Segments, candidate_pairs, ground_truth
from jaxtal.evaluation.matching import match, score_order
from jaxtal.evaluation.protocols import Protocol


def average_precision(
    truth: Segments,
    detections: Segments,
    thresholds,
    num_classes: int,
    matching: str = "nearest",
    ap: str = "interpolated",
) -> np.ndarray:
    """Average precision (METHODS 5.1; the official ActivityNet evaluator).

    Args:
        truth: ground truth, any unit of time.
        detections: detections in the same unit, with scores.
        thresholds: (K,) t-IoU thresholds.
        num_classes: C.
        matching, ap: see `Protocol`.

    Returns:
        (K, C) float64; NaN for a class without ground truth, 0 for one without detections.
    """
    detections = detections.take(score_order(detections, matching))
    matched_detection = match(truth, detections, thresholds, matching)
    return matched_precision(truth, detections, matched_detection, num_classes, ap)


def matched_precision(
    truth, detections, matched_detection, num_classes: int, ap: str
) -> np.ndarray:
    """(K, C) average precision of matched detections; only true positives need to be looked at.

    Args:
        truth, detections, matched_detection: as `match` has them.
        num_classes, ap: as in `average_precision`.
    """
    result = np.full((len(matched_detection), num_classes), np.nan)
    rank = np.append(rank_in_class(detections.label), -1)
    order = np.argsort(truth.label, kind="stable")
    bounds = np.searchsorted(truth.label[order], np.arange(num_classes + 1))
    for label in np.flatnonzero(np.diff(bounds)):
        mine = matched_detection[:, order[bounds[label] : bounds[label + 1]]]
        ranks = np.sort(np.where(mine >= 0, rank[mine], np.inf), axis=1)
        precision = np.arange(1, ranks.shape[1] + 1) / (ranks + 1)
        if ap == "interpolated":
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        result[:, label] = precision.sum(axis=1, where=ranks < np.inf) / ranks.shape[1]
    return result


def rank_in_class(label: np.ndarray) -> np.ndarray:
    """(n,) int, how many earlier entries are equal."""
    order = np.argsort(label, kind="stable")
    counts = np.bincount(label)
    rank = np.empty(len(label), np.int64)
    rank[order] = np.arange(len(label)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


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


def whole_snippets(times: np.ndarray) -> np.ndarray:
    """Snippet units cut to whole snippets, what rounding has moved put back first (METHODS 1.3)."""
    return np.trunc(_unmoved(times))


def _unmoved(times: np.ndarray) -> np.ndarray:
    """Snippet units that came from seconds; what lies within 1e-6 of a whole number is that."""
    nearest = np.rint(times)
    return np.where(np.abs(times - nearest) < 1e-6, nearest, times)


def touches_ambiguous(detections: Segments, videos, grid: TimeGrid) -> np.ndarray:
    """(n,) bool: detections (snippet units) that touch an ambiguous interval of their video.

    Both are taken as ranges of whole snippets (METHODS 1.3): the detection truncated, the interval
    rounded half to even.
    """
    counts = [len(video.ambiguous) for video in videos]
    intervals = np.concatenate([video.ambiguous for video in videos] or [np.empty((0, 2))])
    video = np.repeat(np.arange(len(videos)), counts)
    low, high = map(grid.of(videos).take(video).round_to_snippets, intervals.T)
    start, end = whole_snippets(detections.start), whole_snippets(detections.end)
    index, other = candidate_pairs(detections.video, start, end, video, low, high)
    common = np.minimum(end[index], high[other]) - np.maximum(start[index], low[other])
    touched = np.zeros(len(detections), bool)
    touched[index[common > 0]] = True
    return touched


def labeled_instances(videos: tuple[Video, ...]) -> Segments:
    """The instances whose class is a label of their video and that begin before its end."""
    truth = ground_truth(videos)
    known = [set(video.labels.tolist()) for video in videos]
    durations = np.array([video.duration for video in videos])
    in_labels = [c in known[v] for v, c in zip(truth.video, truth.label.tolist(), strict=True)]
    return truth.take(np.array(in_labels, bool) & (truth.start < durations[truth.video]))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Average precision of detections under a protocol.

    m instances, n detections, K thresholds, C classes; numbers are fractions.

    Attributes:
        protocol: what was measured with.
        truth: the instances, in the protocol's unit of time.
        seconds: the same instances, in seconds as annotated.
        detections: those that were judged, in the same unit, by descending score.
        given: (n,) int, which of the given detections each of them is.
        matched_detection: (K, m) int, position of the detection that takes each instance, or -1.
        precision: (K, C) average precision; NaN for classes without instances.
        f1: (C,) F1 of all detections, whatever their scores, at a t-IoU of 0.5 (D2-Net, Table 3;
            METHODS 5.3): 2 TP / (detections + instances); NaN for classes without instances.
        left_out: how many given detections were not judged, and why.
        source: all given detections, in seconds.
        videos: names of the test videos.
        classes: names of the classes; their numbers where they are not known.
    """

    protocol: Protocol
    truth: Segments
    seconds: Segments
    detections: Segments
    given: np.ndarray
    matched_detection: np.ndarray
    precision: np.ndarray
    f1: np.ndarray
    left_out: dict[str, int]
    source: Segments
    videos: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def map(self) -> dict[float, float]:
        """Mean average precision at every t-IoU threshold of the protocol."""
        return dict(zip(self.protocol.thresholds, self.summary()["map"].values(), strict=True))

    @property
    def average(self) -> dict[str, float]:
        """Means of `map` over ranges of thresholds, e.g. {"0.1:0.7": ...}."""
        return self.summary()["average"]

    @property
    def per_class(self) -> dict[str, dict]:
        """For each class with instances: "map", "average", "f1", "instances", "detections"."""
        return self.report(self.classes)["per_class"]

    def __repr__(self) -> str:
        return reprs.plain(*self._table())

    def _repr_html_(self) -> str:
        return reprs.as_html(*self._table())

    def _table(self) -> tuple[str, list[str], list[list[str]]]:
        summary = self.summary()
        values = {**summary["map"], **summary["average"], "F1": summary["f1"]}
        title = (
            f"{self.protocol.name}: {len(self.detections)} detections, {len(self.truth)} instances "
            f"in {len(self.videos)} videos"
        )
        return title, ["t-IoU", *values], [["mAP, %", *map(reprs.per_cent, values.values())]]

    def summary(self) -> dict:
        """Means over the classes that have instances, as fractions.

        Returns:
            {"protocol": name, "map": {"0.1": ..}, "average": {"0.1:0.5": ..}, "f1": ..}
        """
        present = ~np.isnan(self.f1)
        return {
            "protocol": self.protocol.name,
            **self._by_threshold(
                self.precision[:, present].mean(axis=1)
                if present.any()
                else np.full(len(self.precision), np.nan)
            ),
            "f1": float(self.f1[present].mean()) if present.any() else float("nan"),
        }

    def report(self, classes: tuple[str, ...]) -> dict:
        """The summary with AP of every class that has instances, and counts."""
        instances, found = (
            np.bincount(part.label, minlength=len(classes)).tolist()
            for part in (self.truth, self.detections)
        )
        per_class = {
            classes[label]: {
                **self._by_threshold(self.precision[:, label]),
                "f1": float(self.f1[label]),
                "instances": instances[label],
                "detections": found[label],
            }
            for label in np.flatnonzero(instances).tolist()
        }
        return {
            **self.summary(),
            "per_class": per_class,
            "counts": {
                "classes": len(per_class),
                "instances": len(self.truth),
                "instances_without_length": int((self.truth.end <= self.truth.start).sum()),
                "videos_with_instances": len(np.unique(self.truth.video)),
                "detections": len(self.detections),
                "detections_left_out": self.left_out,
                "videos_with_detections": len(np.unique(self.detections.video)),
            },
        }

    def _by_threshold(self, values: np.ndarray) -> dict:
        """{"map": {"0.5": value}, "average": {"0.5:0.95": value}} of (K,) values."""
        mean_ap = dict(zip(self.protocol.thresholds, values.tolist(), strict=True))
        return {
            "map": {f"{threshold:g}": value for threshold, value in mean_ap.items()},
            "average": {
                f"{low:g}:{high:g}": float(
                    np.mean([value for t, value in mean_ap.items() if low <= t <= high])
                )
                for low, high in self.protocol.averages
            },
        }


def evaluate(
    videos: tuple[Video, ...],
    detections: Segments,
    protocol: Protocol,
    num_classes: int,
    grid: TimeGrid,
    classes: tuple[str, ...] = (),
) -> Evaluation:
    """Judge `detections` on `videos` under `protocol`.

    Args:
        videos: the test videos; `detections.video` indexes into them.
        detections: in seconds, with scores.
        protocol: see `protocols.get`.
        num_classes: C.
        grid: converts between snippets and seconds.
        classes: names of the classes; their numbers by default.
    """
    source = detections
    seconds = labeled_instances(videos) if protocol.truth == "labeled" else ground_truth(videos)
    kept = np.array([video.name not in protocol.excluded_videos for video in videos], bool)
    seconds = seconds.take(kept[seconds.video])
    judged = kept[detections.video]
    left_out = {"video": int((~judged).sum())}
    grids = grid.of(videos)
    own = grids.take(detections.video)
    snippets = detections.with_times(lambda times: _unmoved(own.to_snippets(times)))
    if protocol.ambiguous == "left_out":
        touched = judged & touches_ambiguous(snippets, videos, grid)
        left_out["ambiguous"] = int(touched.sum())
        judged &= ~touched
    truth = seconds
    if protocol.times != "seconds":
        truth = seconds.with_times(grids.take(seconds.video).round_to_snippets)
        detections = snippets
        if protocol.times == "whole_snippets":
            detections = detections.with_times(whole_snippets)
    given = np.flatnonzero(judged)
    given = given[score_order(detections.take(given), protocol.matching)]
    detections = detections.take(given)
    matched = match(truth, detections, protocol.thresholds, protocol.matching)
    precision = matched_precision(truth, detections, matched, num_classes, protocol.ap)
    if protocol.stop_at_empty_class:
        counts = np.bincount(detections.label, minlength=num_classes)
        precision[:, np.cumsum(counts == 0) > 0] *= 0
    f1 = _f1(truth, detections, _at_half(truth, detections, matched, protocol), num_classes)
    return Evaluation(
        protocol,
        truth,
        seconds,
        detections,
        given,
        matched,
        precision,
        f1,
        left_out,
        source,
        tuple(video.name for video in videos),
        classes or tuple(map(str, range(num_classes))),
    )


def _at_half(truth, detections, matched_detection, protocol: Protocol) -> np.ndarray:
    """Return the matching at a t-IoU of 0.5, which may be among the protocol's thresholds."""
    half = np.flatnonzero(np.equal(protocol.thresholds, 0.5))
    if len(half):
        return matched_detection[half[0]]
    return match(truth, detections, [0.5], protocol.matching)[0]


def _f1(truth, detections, matched_detection, num_classes: int) -> np.ndarray:
    found, instances, hits = (
        np.bincount(labels, minlength=num_classes)
        for labels in (detections.label, truth.label, truth.label[matched_detection >= 0])
    )
    return np.where(instances > 0, 2 * hits / np.maximum(found + instances, 1), np.nan)


def selection_metric_name(result: Mapping) -> str:
    """Which average the best step is selected by: 0.1:0.7 (THUMOS14 style), or the last one."""
    return "0.1:0.7" if "0.1:0.7" in result["average"] else list(result["average"])[-1]


def selection_metric(result: Mapping) -> float:
    """The average that the best step on the test set is selected by (METHODS 2.d)."""
    return result["average"][selection_metric_name(result)]
