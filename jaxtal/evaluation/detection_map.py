"""Detection mAP under named protocols, and video-level classification mAP, in NumPy.

In descending order of score, each detection is matched to the best instance of its class and video
that is still free and overlaps enough, as in the official ActivityNet evaluator
([docs][evaluation-matching]). The definition is sequential; the computation is not: as every
instance prefers the detection with the higher score, the result is the unique stable assignment,
and deferred acceptance (Gale and Shapley 1962) finds it in a few rounds over all classes and videos
at once.

Ties are broken by fixed rules: of equal scores the detection given first is matched first, and of
free instances with equal t-IoU the one with the nearest center is taken, then the one listed first.
In the published programs both depend on numpy's unstable argsort and on the machine; the protocol
switch ``numpy_ties`` reproduces that.
"""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxtal import reprs
from jaxtal.data.dataset import TimeGrid, Video
from jaxtal.data.segments import Segments, candidate_pairs, ground_truth
from jaxtal.evaluation.matching import match, score_order
from jaxtal.evaluation.protocols import Protocol


def average_precision(
    truth: Segments,
    detections: Segments,
    thresholds: Collection[float],
    num_classes: int,
    matching: str = "nearest",
    ap: str = "interpolated",
) -> np.ndarray:
    """Compute the average precision of every class, as the official ActivityNet evaluator does.

    Args:
        truth: ground truth, in any unit of time.
        detections: detections in the same unit, with scores.
        thresholds: (K,) t-IoU thresholds.
        num_classes: C.
        matching: the rule of matching, see `Protocol`.
        ap: the form of average precision, see `Protocol`.

    Returns:
        (K, C) float64; NaN for a class without ground truth, 0 for one without detections.

    Source: [docs][evaluation-average-precision].
    """
    detections = detections.take(score_order(detections, matching))
    matched_detection = match(truth, detections, thresholds, matching)
    return matched_precision(truth, detections, matched_detection, num_classes, ap)


def matched_precision(
    truth: Segments, detections: Segments, matched_detection: np.ndarray, num_classes: int, ap: str
) -> np.ndarray:
    """Compute the average precision of matched detections, from the true positives alone.

    Args:
        truth: m instances.
        detections: n detections, by descending score.
        matched_detection: (K, m) int, as `match` returns it.
        num_classes: C.
        ap: the form of average precision, see `Protocol`.

    Returns:
        (K, C) float64; NaN for a class without ground truth, 0 for one without detections.

    Source: [docs][evaluation-average-precision].
    """
    result = np.full((len(matched_detection), num_classes), np.nan)
    rank = np.append(rank_in_class(detections.label), -1)
    order = np.argsort(truth.label, kind="stable")
    bounds = np.searchsorted(truth.label[order], np.arange(num_classes + 1))
    single = np.flatnonzero(np.diff(bounds) == 1)  # in one step: there may be very many
    mine = matched_detection[:, order[bounds[single]]]
    result[:, single] = 1 / (np.where(mine >= 0, rank[mine], np.inf) + 1)
    for label in np.flatnonzero(np.diff(bounds) > 1):
        mine = matched_detection[:, order[bounds[label] : bounds[label + 1]]]
        ranks = np.sort(np.where(mine >= 0, rank[mine], np.inf), axis=1)
        precision = np.arange(1, ranks.shape[1] + 1) / (ranks + 1)
        if ap == "interpolated":
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        result[:, label] = precision.sum(axis=1, where=ranks < np.inf) / ranks.shape[1]
    return result


def rank_in_class(label: np.ndarray) -> np.ndarray:
    """Return the number of earlier equal entries of each entry.

    Args:
        label: (n,) int >= 0.

    Returns:
        (n,) int ranks, from 0.
    """
    order = np.argsort(label, kind="stable")
    counts = np.bincount(label)
    rank = np.empty(len(label), np.int64)
    rank[order] = np.arange(len(label)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def classification_map(confidence: ArrayLike, labels: ArrayLike) -> float:
    """Compute the video-level classification mAP, not interpolated, as a fraction.

    Args:
        confidence: (V, C) class scores.
        labels: (V, C) multi-hot video-level labels; classes without positives are excluded.

    Returns:
        The mean over the classes; NaN if no class has a positive.

    Source: [docs][evaluation-classification-map].
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
    """Truncate times to whole snippets, after snapping values within 1e-6 of an integer to it.

    Without the snap, rounding errors of the conversion from seconds would lose snippets.

    Args:
        times: times in snippets.

    Returns:
        The truncated times, float64.

    Source: [docs][localization-ambiguous-filter].
    """
    return np.trunc(_snap_to_integers(times))


def _snap_to_integers(times: np.ndarray) -> np.ndarray:
    """Replace times within 1e-6 of an integer by it."""
    nearest = np.rint(times)
    return np.where(np.abs(times - nearest) < 1e-6, nearest, times)


def touches_ambiguous(detections: Segments, videos: Sequence[Video], grid: TimeGrid) -> np.ndarray:
    """Return a mask of the detections that touch an ambiguous interval of their video.

    Both are ranges of whole snippets: detections are truncated, intervals rounded half to even.

    Args:
        detections: n detections, in snippets.
        videos: the V test videos; `detections.video` indexes them.
        grid: converts seconds to snippets.

    Returns:
        (n,) bool.

    Source: [docs][localization-ambiguous-filter].
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
    """Return the instances whose class is a label of their video and that begin before its end.

    This is D2-Net's list of THUMOS14 test instances.

    Args:
        videos: the test videos.

    Returns:
        Instances in seconds; `video` indexes `videos`.

    Source: [docs][evaluation-reduced-list].
    """
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
        protocol: the protocol.
        truth: the m instances, in the protocol's unit of time.
        seconds: the same instances, in seconds as annotated.
        detections: the n evaluated detections, in the protocol's unit, by descending score.
        given: (n,) int, index in `source` of each evaluated detection.
        matched_detection: (K, m) int, position of the detection matched to each instance, or -1.
        precision: (K, C) average precision; NaN for classes without instances.
        f1: (C,) F1 of all detections at a t-IoU of 0.5, 2 TP / (detections + instances); NaN for
            classes without instances ([docs][evaluation-f1]).
        left_out: number of detections in `source` that were not evaluated, by reason.
        source: all detections that were passed to `evaluate`, in seconds.
        videos: names of the test videos.
        classes: names of the classes; their numbers if they are unknown.
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
        """Mean average precision at every t-IoU threshold of the protocol, as fractions."""
        return dict(zip(self.protocol.thresholds, self.summary()["map"].values(), strict=True))

    @property
    def average(self) -> dict[str, float]:
        """Means of `map` over ranges of thresholds, as fractions, e.g. {"0.1:0.7": 0.44}."""
        return self.summary()["average"]

    @property
    def per_class(self) -> dict[str, dict]:
        """Values of each class with instances: map, average, f1, instances, detections."""
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
        """Return the means over the classes that have instances, as fractions.

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
        """Return the summary, AP of every class that has instances, and counts.

        Args:
            classes: names of the C classes.

        Returns:
            `summary()` with "per_class" and "counts"; numbers are fractions.
        """
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
                "test_videos": len(self.videos),
                "test_videos_with_detections": len(np.unique(self.source.video)),
                "detections": len(self.detections),
                "detections_left_out": self.left_out,
                "videos_with_detections": len(np.unique(self.detections.video)),
            },
        }

    def _by_threshold(self, values: np.ndarray) -> dict:
        """Return {"map": {"0.5": value}, "average": {"0.5:0.95": value}} from (K,) values."""
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
    """Return the average precision by threshold and class, with the matching behind it.

    Args:
        videos: the test videos; `detections.video` indexes them.
        detections: in seconds, with scores.
        protocol: as `protocols.get` returns it.
        num_classes: C.
        grid: converts between snippets and seconds.
        classes: names of the classes; their numbers by default.

    Source: [docs][evaluation].
    """
    source = detections
    seconds = labeled_instances(videos) if protocol.truth == "labeled" else ground_truth(videos)
    kept = np.array([video.name not in protocol.excluded_videos for video in videos], bool)
    seconds = seconds.take(kept[seconds.video])
    judged = kept[detections.video]
    left_out = {"video": int((~judged).sum())}
    grids = grid.of(videos)
    own = grids.take(detections.video)
    snippets = detections.with_times(lambda times: _snap_to_integers(own.to_snippets(times)))
    if protocol.ambiguous == "left_out":
        touched = judged & touches_ambiguous(snippets, videos, grid)
        left_out["ambiguous"] = int(touched.sum())
        judged &= ~touched
    truth = seconds
    if protocol.times != "seconds":
        truth = seconds.with_times(grids.take(seconds.video).round_to_snippets)
        whole = protocol.times == "whole_snippets"
        detections = snippets.with_times(whole_snippets) if whole else snippets
    given = np.flatnonzero(judged)
    given = given[score_order(detections.take(given), protocol.matching)]
    detections = detections.take(given)
    matched = match(truth, detections, protocol.thresholds, protocol.matching)
    precision = matched_precision(truth, detections, matched, num_classes, protocol.ap)
    if protocol.stop_at_empty_class:
        precision[:, _from_first_empty_class(detections, num_classes)] *= 0
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


def _from_first_empty_class(detections: Segments, num_classes: int) -> np.ndarray:
    """Return (C,) bool, the classes from the first one without detections on."""
    counts = np.bincount(detections.label, minlength=num_classes)
    return np.cumsum(counts == 0) > 0


def _at_half(truth, detections, matched_detection, protocol: Protocol) -> np.ndarray:
    """Return the matching at a t-IoU of 0.5, computing it if the protocol lacks the threshold."""
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
