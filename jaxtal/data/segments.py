"""Segments as column arrays, the common form of localization and evaluation."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from jaxtal.errors import DataError

if TYPE_CHECKING:
    from jaxtal.data.dataset import Video


@dataclasses.dataclass(frozen=True, eq=False)
class Segments:
    """n segments as column arrays: detections or ground truth.

    Attributes:
        video: (n,) int, index of the video.
        label: (n,) int, class index.
        start: (n,) float64, in seconds, snippets or positions; each function states the unit of
            its segments.
        end: (n,) float64, in the unit of `start`.
        score: (n,) float64, 1 for ground truth.
    """

    video: np.ndarray
    label: np.ndarray
    start: np.ndarray
    end: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: Any) -> "Segments":
        """Select segments.

        Args:
            index: (k,) int positions in any order, an (n,) boolean mask, or a slice.

        Returns:
            The k selected segments.
        """
        columns = (self.video, self.label, self.start, self.end, self.score)
        return Segments(*(column[index] for column in columns))

    def with_times(self, convert: Callable[[np.ndarray], np.ndarray]) -> "Segments":
        """Return the segments with converted times.

        Args:
            convert: function of (n,) times that returns (n,) times; applied to starts and to ends.
        """
        return dataclasses.replace(self, start=convert(self.start), end=convert(self.end))


def concatenate(parts: Sequence[Segments]) -> Segments:
    """Concatenate segments.

    Args:
        parts: segments in the same unit of time, possibly none.

    Returns:
        All segments, in the given order.
    """

    def column(name: str, dtype: DTypeLike) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts] or [np.empty(0)]).astype(
            dtype
        )

    return Segments(
        column("video", np.int64),
        column("label", np.int64),
        column("start", np.float64),
        column("end", np.float64),
        column("score", np.float64),
    )


def clip(detections: Segments, durations: ArrayLike) -> Segments:
    """Cut detections at the ends of their videos, and drop those that begin after them.

    Args:
        detections: detections in seconds.
        durations: (V,) duration of each video in seconds, infinite where it is unknown.

    Returns:
        The detections that begin in their video, in the given order.
    """
    limit = np.asarray(durations, np.float64)[detections.video]
    cut = dataclasses.replace(detections, end=np.minimum(detections.end, limit))
    return cut.take(detections.start < limit)


def ground_truth(videos: Sequence["Video"]) -> Segments:
    """Return every annotated instance of some videos.

    Args:
        videos: annotated videos.

    Returns:
        Instances in seconds, in the order of the videos; `video` indexes `videos`.
    """
    counts = [len(video.segment_labels) for video in videos]
    times = np.concatenate(
        [video.segments.reshape(-1, 2) for video in videos] or [np.empty((0, 2))]
    )
    labels = [video.segment_labels for video in videos]
    return Segments(
        video=np.repeat(np.arange(len(videos)), counts),
        label=np.concatenate(labels or [np.empty(0)]).astype(np.int64),
        start=times[:, 0].astype(np.float64),
        end=times[:, 1].astype(np.float64),
        score=np.ones(len(times)),
    )


def disjoint_offsets(group: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return per-group offsets that place the groups on one time axis, with gaps of 1.

    Args:
        group: (n,) int, sorted, the group of each segment: 0, 1, ...
        start: (n,) starts, in any unit of time.
        end: (n,) ends.

    Returns:
        (groups,) float, the number to add to the times of each group.
    """
    first = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    low = np.minimum.reduceat(np.minimum(start, end), first)
    high = np.maximum.reduceat(np.maximum(start, end), first)
    extent = np.cumsum(high - low + 1.0)
    return np.append(0, extent[:-1]) - low


_PAIRS = 1 << 20  # candidates per block, which bounds the memory
_MOST_PAIRS = 10**9  # candidates, which take a few minutes


def candidate_pairs(
    key: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    other_key: np.ndarray,
    other_start: np.ndarray,
    other_end: np.ndarray,
    keep: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of segments with equal keys that may overlap.

    Sorting replaces the comparison of all n * m pairs.

    Args:
        key: (n,) int, non-negative, e.g. the video of each segment.
        start: (n,) starts, in any unit of time.
        end: (n,) ends.
        other_key: (m,) int, keys of the other segments.
        other_start: (m,) their starts.
        other_end: (m,) their ends.
        keep: function of two (k,) int arrays, the pairs of a block, that returns a (k,) mask of
            the pairs to return; blocks bound the memory. None: all pairs.

    Returns:
        Positions in the first and in the other segments, (pairs,) int each, the former ascending.
        All pairs that overlap or touch are included, and few others.

    Raises:
        DataError: there are too many pairs.
    """
    keys, group = np.unique(other_key, return_inverse=True)
    index = np.flatnonzero(np.isin(key, keys))
    if not len(index):
        return index, index
    order = np.lexsort((other_start, group))
    first = np.searchsorted(group[order], np.arange(len(keys) + 1))
    mine = np.searchsorted(keys, key[index])
    shift = disjoint_offsets(group[order], other_start[order], other_end[order])
    slack = 4 * np.spacing(np.abs(shift).max() + max(np.abs(start).max(), np.abs(end).max()))
    begins = shift[group[order]] + other_start[order]
    reached = np.maximum.accumulate(shift[group[order]] + other_end[order])
    stop = np.searchsorted(begins, shift[mine] + end[index] + slack, "right")
    begin = np.searchsorted(reached, shift[mine] + start[index] - slack, "left")
    begin = np.maximum(begin, first[mine])
    count = np.maximum(np.minimum(stop, first[mine + 1]) - begin, 0)
    before = np.cumsum(count) - count
    _check_pairs(len(key), len(other_key), int(count.sum()))
    blocks = np.searchsorted(before, np.arange(_PAIRS, count.sum(), _PAIRS))
    pairs = []
    for block in np.split(np.arange(len(index)), blocks):
        many = count[block]
        place = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        pair = np.repeat(index[block], many), order[np.repeat(begin[block], many) + place]
        wanted = slice(None) if keep is None else keep(*pair)
        pairs.append([column[wanted] for column in pair])
    found, others = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return found, others


def _check_pairs(count: int, others: int, pairs: int) -> None:
    """Raise DataError if there are too many pairs of segments and others that overlap."""
    if pairs > _MOST_PAIRS:
        raise DataError(
            f"{count:,} segments overlap {others:,} others in {pairs:,} pairs; wanted at most "
            f"{_MOST_PAIRS:,}, so keep fewer detections of each video"
        )


def pair_iou(one: Segments, other: Segments, index: Any, other_index: Any) -> np.ndarray:
    """Compute the t-IoU of pairs of segments, see `temporal_iou`.

    Args:
        one: segments, in any unit of time.
        other: segments in the same unit.
        index: position in `one` of each pair: (k,) int, or an int that applies to all pairs.
        other_index: position in `other` of each pair, like `index`.

    Returns:
        (k,) float64 t-IoU of one[index] and other[other_index].
    """
    return temporal_iou(
        one.start[index], one.end[index], other.start[other_index], other.end[other_index]
    )


def temporal_iou(
    start: np.ndarray, end: np.ndarray, other_start: np.ndarray, other_end: np.ndarray
) -> np.ndarray:
    """Compute the temporal intersection over union (t-IoU) of continuous segments, elementwise.

    Two segments of zero length have t-IoU 0 / 0 = NaN, as in the official evaluator. A reversed
    segment, which ends before it begins, has t-IoU 0 with every other segment.

    Args:
        start: starts, in any unit of time; the four arrays broadcast against each other.
        end: ends.
        other_start: starts of the other segments, in the same unit.
        other_end: their ends.

    Returns:
        float64 t-IoU of the broadcast shape.
    """
    inter = np.maximum(0.0, np.minimum(end, other_end) - np.maximum(start, other_start))
    union = (other_end - other_start) + (end - start) - inter
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.minimum(end - start, other_end - other_start) < 0, 0, inter / union)
