"""Warnings about detections that cannot be right: in another unit, or of other videos."""

from collections.abc import Sequence

import numpy as np

from jaxtal.data.dataset import Video
from jaxtal.data.segments import Segments
from jaxtal.errors import warn

_MANY_BEYOND = 1 / 3  # share of detections that end after their videos
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
    elif detections.end.max() <= 1 < np.median(limit) / 10:
        warn(
            f"{where}: all {count} detections end within the first second; are they in fractions "
            "of the durations? Wanted seconds"
        )
    seen = len(np.unique(detections.video))
    if seen < len(videos) / 2:
        warn(
            f"{where}: detections for only {seen} of {len(videos)} test videos; the others count "
            "as missed"
        )


def _unit(detections: Segments, durations: np.ndarray) -> str:
    """Return a guess of the unit of detections that lie outside their videos, "" for none.

    The last detection of a video usually ends near its end.
    """
    last = np.zeros(len(durations))
    np.maximum.at(last, detections.video, detections.end)
    ratio = float(np.median((last / durations)[last > 0]))
    if ratio > 1000 / 2:
        return "; in milliseconds? Wanted seconds"
    above = _USUAL_FPS[0.95 * ratio <= _USUAL_FPS]
    if ratio < _USUAL_FPS[0] / 2 or not len(above):
        return ""
    return f"; in frames at about {above[0]} fps? Wanted seconds"
