"""Warnings about detections that cannot be right: in another unit, or of other videos."""

from collections.abc import Sequence

import numpy as np

from jaxtal.data.dataset import Video
from jaxtal.data.segments import Segments
from jaxtal.errors import warn

_MANY_BEYOND = 0.1  # share of detections that end after their videos
_ENOUGH = 6  # [videos] fewer allow no conclusion from where their last detections end
_EARLY = 0.3  # share of the duration, in the median video
_USUAL_FPS = np.array([15, 25, 30, 50, 60])  # rates that a ratio can distinguish


def warn_of_implausible(where: str, detections: Segments, videos: Sequence[Video]) -> None:
    """Log a warning if most detections lie outside their videos, or most videos have none.

    Args:
        where: the file of the detections, for the message.
        detections: detections in seconds; `video` indexes `videos`.
        videos: the test videos.
    """
    count = len(detections)
    if not count:
        warn(f"{where}: no detection is in one of the {len(videos)} test videos")
        return
    durations = np.array([video.duration for video in videos])
    limit = durations[detections.video]
    outside = detections.start >= limit
    if outside.sum() > count / 2:
        first = int(np.argmax(outside))
        start, end = detections.start[first], detections.end[first]
        warn(
            f"{where}: {outside.sum()} of {count} detections begin after the end of their video, "
            f"where no instance can match them (one from {start:.1f} to {end:.1f} s in "
            f"{videos[int(detections.video[first])].name}, which lasts {limit[first]:.1f} s)"
            f"{_unit(detections, durations)}"
        )
    elif (beyond := detections.end > np.maximum(1.05 * limit, limit + 2)).mean() > _MANY_BEYOND:
        warn(
            f"{where}: {beyond.sum()} of {count} detections end after the end of their video; are "
            "they on another time grid? Wanted seconds"
        )
    elif detections.end.max() <= 1.1 < np.median(limit) / 10:
        warn(
            f"{where}: all {count} detections end within the first second; are they in fractions "
            "of the durations? Wanted seconds"
        )
    else:
        ratios = _last(detections, durations)
        if len(ratios) >= _ENOUGH and (ratio := float(np.median(ratios))) < _EARLY:
            warn(
                f"{where}: the last detection of a video ends after {100 * ratio:.2g} % of it "
                "(median); are the detections, or the annotations, in another unit or on another "
                "time grid? Wanted seconds"
            )
    seen = len(np.unique(detections.video))
    if seen < len(videos) / 2:
        warn(
            f"{where}: detections for only {seen} of {len(videos)} test videos; the others count "
            "as missed"
        )


def _last(detections: Segments, durations: np.ndarray) -> np.ndarray:
    """Return the end of the last detection of each video that has one, as share of the duration."""
    last = np.zeros(len(durations))
    np.maximum.at(last, detections.video, detections.end)
    return (last / durations)[last > 0]


def _unit(detections: Segments, durations: np.ndarray) -> str:
    """Return a guess of the unit of detections that lie outside their videos, "" for none.

    The last detection of a video usually ends near its end.
    """
    ratio = float(np.median(_last(detections, durations)))
    if ratio > 1000 / 2:
        return "; in milliseconds? Wanted seconds"
    above = _USUAL_FPS[0.95 * ratio <= _USUAL_FPS]
    if ratio < _USUAL_FPS[0] / 2 or not len(above):
        return ""
    return f"; in frames at about {above[0]} fps? Wanted seconds"
