"""False positives at equal recall against plain counting, and the properties of the comparison."""

import dataclasses

import numpy as np
import pytest

from jaxtal.data.dataset import TimeGrid, Video
from jaxtal.data.segments import Segments
from jaxtal.errors import DataError
from jaxtal.evaluation import protocols
from jaxtal.evaluation.detection_map import evaluate
from jaxtal.evaluation.equal_recall import compare, false_positives

CLASSES, VIDEOS, INSTANCES = 2, 6, 5


def videos() -> tuple[Video, ...]:
    """Videos of 100 s with instances of 10 s, [20 i, 20 i + 10), of alternating classes."""
    segments = np.array([[20.0 * i, 20.0 * i + 10] for i in range(INSTANCES)])
    labels = np.arange(INSTANCES) % CLASSES
    return tuple(
        Video(f"v{i}", 100.0, np.array([0, 1]), segments, labels, np.empty((0, 2)))
        for i in range(VIDEOS)
    )


def detections(seed: int, count: int) -> Segments:
    """Detections at random instances, some shifted far enough to be false positives."""
    rng = np.random.default_rng(seed)
    video, place = rng.integers(VIDEOS, size=count), rng.integers(INSTANCES, size=count)
    start = 20.0 * place + rng.choice([0.0, 1.0, 8.0], size=count)
    score = rng.permutation(count).astype(float)  # no ties
    return Segments(video, place % CLASSES, start, start + 10, score)


def evaluated(found: Segments):
    return evaluate(videos(), found, protocols.get("official"), CLASSES, TimeGrid())


def counted(found: Segments) -> list[int]:
    """Go through the detections in descending order of score and count the false ones."""
    free = {(v, p) for v in range(VIDEOS) for p in range(INSTANCES)}
    false, before = 0, []
    for index in np.argsort(-found.score):
        video, start = found.video[index], found.start[index]
        place = int(start // 20)
        hit = start % 20 <= 1 and (video, place) in free
        if hit:
            free.remove((video, place))
            before.append(false)
        false += not hit
    return before


@pytest.mark.parametrize("seed", range(5))
def test_counts_against_a_loop(seed):
    found = detections(seed, 60)
    assert false_positives(evaluated(found)).tolist() == counted(found)


def test_rows_are_the_recalls_that_both_reach():
    one, other = detections(0, 60), detections(1, 20)
    rows = compare(evaluated(one), evaluated(other))
    mine, theirs = counted(one), counted(other)
    most = min(len(mine), len(theirs))
    total = VIDEOS * INSTANCES
    wanted = [found for found in range(3, 30, 3) if found < most]
    assert [row["found"] for row in rows] == [*wanted, most]
    for row in rows:
        found = row["found"]
        assert row["recall"] == pytest.approx(found / total)
        assert row["false_positives"] == mine[found - 1]
        assert row["false_positives_against"] == theirs[found - 1]
        if theirs[found - 1]:
            assert row["change"] == pytest.approx(mine[found - 1] / theirs[found - 1] - 1)
        else:
            assert np.isnan(row["change"])


def test_a_model_against_itself_changes_nothing():
    result = evaluated(detections(2, 60))
    assert {row["change"] for row in compare(result, result) if row["false_positives"]} == {0.0}


def test_nothing_found_is_nothing_to_compare():
    one, none = evaluated(detections(0, 60)), evaluated(detections(0, 60).take(np.arange(0)))
    assert compare(one, none) == compare(none, one) == []


def test_other_instances_are_an_error():
    other = dataclasses.replace(evaluated(detections(0, 60)), truth=detections(1, 3))
    with pytest.raises(DataError, match="30 and 3 instances; evaluate both against the same"):
        compare(evaluated(detections(0, 60)), other)
