"""Warnings about detections in another unit, and of only a part of the videos."""

import re

import numpy as np
import pytest

from jaxtal.data.dataset import Video
from jaxtal.data.segments import Segments
from jaxtal.evaluation.plausibility import warn_of_implausible

NONE = np.empty(0, np.int64)


def videos(rng, count=20):
    return [
        Video(f"video_{index}", float(duration), NONE, np.empty((0, 2)), NONE, np.empty((0, 2)))
        for index, duration in enumerate(rng.uniform(20, 400, count))
    ]


def drawn(rng, among, per_video=12):
    """Return detections in seconds, inside their videos and of many lengths."""
    video = np.repeat(np.arange(len(among)), per_video)
    durations = np.array([one.duration for one in among])[video]
    times = np.sort(rng.random((2, len(video))), axis=0) * durations
    return Segments(video, 0 * video, times[0], times[1], rng.random(len(video)))


@pytest.fixture
def warnings(caplog):
    def of(detections, among):
        caplog.clear()
        warn_of_implausible("found.json", detections, among)
        return [record.getMessage() for record in caplog.records]

    return of


@pytest.mark.parametrize("seed", range(5))
def test_detections_in_seconds(warnings, seed):
    """Also if a twelfth of them lies beyond the ends of the videos."""
    rng = np.random.default_rng(seed)
    among = videos(rng)
    found = drawn(rng, among)
    assert warnings(found, among) == []
    later = found.with_times(lambda at: at + np.where(np.arange(len(at)) % 12, 0, 1000))
    assert warnings(later, among) == []
    (message,) = warnings(found.take(np.empty(0, np.int64)), among)
    assert message == "found.json: no detection is in one of the 20 test videos"


@pytest.mark.parametrize("fps", [15, 25, 30, 50, 60])
@pytest.mark.parametrize("seed", range(3))
def test_detections_in_frames(warnings, fps, seed):
    rng = np.random.default_rng(seed)
    among = videos(rng)
    found = drawn(rng, among).with_times(lambda at: at * fps)
    (message,) = warnings(found, among)
    outside = sum(
        start >= among[video].duration
        for start, video in zip(found.start, found.video, strict=True)
    )
    assert outside > len(found) / 2
    assert f"found.json: {outside} of {len(found)} detections begin after the end of" in message
    guess = int(re.search(r"; in frames at about (\d+) fps\? Wanted seconds", message)[1])
    assert 0.9 < guess / fps < 1.1


def test_other_units(warnings):
    rng = np.random.default_rng(0)
    among = videos(rng)
    found = drawn(rng, among)
    (message,) = warnings(found.with_times(lambda at: at * 1000), among)
    assert "; in milliseconds? Wanted seconds" in message
    (message,) = warnings(found.with_times(lambda at: at + 1000), among)
    assert "begin after the end of their video" in message
    assert "frames" not in message
    durations = np.array([one.duration for one in among])[found.video]
    (message,) = warnings(found.with_times(lambda at: at / durations), among)
    assert f"all {len(found)} detections end within the first second" in message


@pytest.mark.parametrize("factor", [1 / 60, 1 / 25, 1 / 4])
def test_detections_at_the_beginning_of_their_videos(warnings, factor):
    """Minutes, annotations in frames, and a time grid with a quarter of the stride."""
    rng = np.random.default_rng(0)
    among = videos(rng)
    found = drawn(rng, among).with_times(lambda at: at * factor)
    (message,) = warnings(found, among)
    assert re.search(r"the last detection of a video ends after \S+ % of it \(median\)", message)
    few = found.video < 3
    assert "the last detection" not in " ".join(warnings(found.take(few), among))


def test_detections_that_are_too_long(warnings):
    rng = np.random.default_rng(0)
    among = videos(rng)
    (message,) = warnings(drawn(rng, among).with_times(lambda at: at * 1.2), among)
    assert "detections end after the end of their video" in message


def test_detections_for_a_part_of_the_videos(warnings):
    rng = np.random.default_rng(0)
    among = videos(rng)
    found = drawn(rng, among)
    assert warnings(found.take(found.video < 10), among) == []
    (message,) = warnings(found.take(found.video < 9), among)
    assert "detections for only 9 of 20 test videos" in message
