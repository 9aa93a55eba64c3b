"""Evaluation against the row loop of METHODS 5.1, the official evaluator's numbers, properties."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtal import evaluation
from jaxtal.data import activitynet
from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.segments import Segments, concatenate, ground_truth, temporal_iou

THRESHOLDS = np.arange(0.1, 0.95, 0.1)


def loop_average_precision(truth, detections, threshold, label, first=False) -> float:
    """One class and threshold by the official row loop; equal t-IoU: the nearest centre.

    With `first`, D2-Net's: the first instance in the list that overlaps enough.
    """
    mine = np.flatnonzero(detections.label == label)
    mine = mine[np.argsort(-detections.score[mine], kind="stable")]
    locked, hits = set(), []
    for d in mine:
        instances = np.flatnonzero((truth.video == detections.video[d]) & (truth.label == label))
        segment = detections.start[d], detections.end[d]
        ious = temporal_iou(*segment, truth.start[instances], truth.end[instances])
        distance = abs(truth.start[instances] + truth.end[instances] - sum(segment))
        ious = np.where(np.isnan(ious), np.inf, ious)
        hit = False
        for i in range(len(ious)) if first else np.lexsort((distance, -ious)):
            if ious[i] < threshold:
                continue
            if instances[i] not in locked:
                locked.add(instances[i])
                hit = True
                break
        hits.append(hit)
    hits = np.array(hits, bool)
    recall = np.concatenate([[0], np.cumsum(hits) / (truth.label == label).sum(), [1]])
    precision = np.concatenate([[0], np.cumsum(hits) / np.arange(1, len(hits) + 1), [0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    step = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[step] - recall[step - 1]) * precision[step]).sum())


def draw(seed: int, videos=4, classes=3, instances=30, detections=80, grid=1.0):
    """Random segments on a coarse grid, so that equal t-IoU and zero lengths do occur."""
    rng = np.random.default_rng(seed)

    def segments(n):
        start = np.round(rng.uniform(0, 40, n) / grid) * grid
        length = np.round(rng.uniform(0, 9, n) / grid) * grid
        return rng.integers(videos, size=n), rng.integers(classes, size=n), start, start + length

    truth, found = Segments(*segments(instances), np.ones(instances)), segments(detections)
    return truth, Segments(*found, score=rng.permutation(detections) / detections)


def test_a_reversed_instance_is_never_found():
    """Its length, -2, and a detection's, 2, have a union of 0; 0 / 0 would count as a hit."""
    one = np.zeros(1, int)
    truth = Segments(one, one, np.array([6.0]), np.array([4.0]), np.ones(1))
    found = Segments(one, one, np.array([4.0]), np.array([6.0]), np.ones(1))
    assert evaluation.average_precision(truth, found, [0.1, 0.5], 1).tolist() == [[0], [0]]
    assert temporal_iou(4.0, 6.0, 6.0, 4.0) == 0
    assert temporal_iou(4.0, 6.0, 4.0, 6.0) == 1
    assert np.isnan(temporal_iou(4.0, 4.0, 4.0, 4.0))


@pytest.mark.parametrize("matching", ["nearest", "first"])
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_the_row_loop(seed, matching):
    truth, detections = draw(seed)
    ours = evaluation.average_precision(truth, detections, THRESHOLDS, 4, matching)
    assert np.isnan(ours[:, 3]).all()
    for k, threshold in enumerate(THRESHOLDS):
        for label in range(3):
            first = matching == "first"
            wanted = loop_average_precision(truth, detections, threshold, label, first)
            assert ours[k, label] == pytest.approx(wanted, abs=1e-12)


def test_the_first_instance_may_be_the_worse_one():
    """D2-Net's rule spends it, so that the second detection finds nothing."""
    zero = np.zeros(2, int)
    truth = Segments(zero, zero, np.array([0.0, 4.0]), np.array([10.0, 14.0]), np.ones(2))
    found = Segments(zero, zero, np.array([4.0, 0.0]), np.array([14.0, 10.0]), np.array([2.0, 1]))
    assert evaluation.average_precision(truth, found, [0.4], 1, "first")[0, 0] == 1
    found = found.take(np.array([0])), found.take(np.array([1]))
    second = found[1].with_times(lambda t: t - 3)  # -3 to 7: overlaps the first only
    found = concatenate([found[0], second])
    assert evaluation.average_precision(truth, found, [0.4], 1, "first")[0, 0] == 0.5
    assert evaluation.average_precision(truth, found, [0.4], 1)[0, 0] == 1


def test_f1_counts_every_detection():
    truth, detections = draw(3)
    ours = evaluation.f1_score(truth, detections, 0.3, 4)
    assert np.isnan(ours[3])
    order = np.argsort(-detections.score)
    for label in range(3):
        locked = set()
        for d in order[detections.label[order] == label]:
            mine = (truth.video == detections.video[d]) & (truth.label == label)
            overlap = temporal_iou(detections.start[d], detections.end[d], truth.start, truth.end)
            free = [i for i in np.flatnonzero(mine & (overlap >= 0.3)) if i not in locked]
            if free:
                locked.add(max(free, key=lambda i: overlap[i]))
        both = (detections.label == label).sum() + (truth.label == label).sum()
        assert ours[label] == pytest.approx(2 * len(locked) / both)


def d2_videos() -> tuple[Video, ...]:
    """Two videos of 40 snippets; of five instances three are in D2-Net's list."""
    grid, none = TimeGrid(), np.empty((0, 2))

    def video(name, labels, segments, segment_labels):
        times = grid.to_seconds(np.array(segments, float))
        return Video(name, 25.6, np.array(labels), times, np.array(segment_labels), none)

    return (
        video("a", [0], [[2, 6], [10, 14]], [0, 1]),  # the second's class is no label of the video
        video("b", [0, 1], [[20, 30], [41, 44], [5, 9]], [1, 1, 0]),  # the second is beyond its end
    )


def test_d2nets_protocol():
    videos = d2_videos()
    kept = evaluation.labelled_instances(videos)
    assert list(zip(kept.video, kept.label, strict=True)) == [(0, 0), (1, 1), (1, 0)]
    found = Segments(
        np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([2.3, 20, 5]), np.array([6.4, 30, 9.0]),
        np.array([3.0, 2, 1]),
    )  # fmt: skip
    full, reduced = (
        evaluation.evaluate(videos, found, evaluation.PROTOCOLS[name], 2, TimeGrid())
        for name in ("d2", "thumos_d2")
    )
    assert reduced["map"]["0.9"] == reduced["f1"] == 1  # 2.3 to 6.4 is taken as 2 to 6
    assert full["map"]["0.9"] == pytest.approx((1 + 1 / 3) / 2)
    assert full["f1"] == pytest.approx((1 + 2 / 4) / 2)


def test_an_empty_class_silences_the_later_ones_only_if_asked_for():
    videos = d2_videos()
    found = Segments(np.array([1]), np.array([1]), np.array([20.0]), np.array([30.0]), np.ones(1))
    protocol = evaluation.PROTOCOLS["thumos_d2"]
    published = dataclasses.replace(protocol, stop_at_empty_class=True)
    fixed, quirk = (
        evaluation.evaluate(videos, found, p, 2, TimeGrid())["map"]["0.5"]
        for p in (protocol, published)
    )
    assert (fixed, quirk) == (0.5, 0)  # class 0 has no detection
    assert not any(p.stop_at_empty_class for p in evaluation.PROTOCOLS.values())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_order_of_the_input_and_unit_of_time_do_not_matter(seed):
    truth, detections = draw(seed, grid=1e-9)
    rng = np.random.default_rng(seed)
    wanted = evaluation.average_precision(truth, detections, THRESHOLDS, 3)
    shuffled = [part.take(rng.permutation(len(part))) for part in (truth, detections)]
    scaled = [part.with_times(lambda t: 4 * t) for part in shuffled]
    np.testing.assert_array_equal(evaluation.average_precision(*scaled, THRESHOLDS, 3), wanted)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_perfect_detections_give_one_zero_lengths_included(seed):
    truth, _ = draw(seed)
    rng = np.random.default_rng(seed)
    unique = truth.take(np.unique(np.stack([truth.video, truth.label, truth.start, truth.end]),
                                  axis=1, return_index=True)[1])  # fmt: skip
    perfect = Segments(
        unique.video, unique.label, unique.start, unique.end, rng.random(len(unique))
    )
    precision = evaluation.average_precision(unique, perfect, THRESHOLDS, 3)
    assert (precision[:, ~np.isnan(precision).any(0)] == 1).all()


def test_nothing_found_and_nothing_to_find():
    truth, detections = draw(0)
    nothing = concatenate([])
    assert (evaluation.average_precision(truth, nothing, [0.5], 3) == 0).all()
    assert np.isnan(evaluation.average_precision(nothing, detections, [0.5], 3)).all()


def test_a_detection_takes_the_second_best_instance():
    truth = Segments(
        np.zeros(2, int), np.zeros(2, int), np.array([0.0, 4.0]), np.array([10.0, 14.0]), np.ones(2)
    )
    found = Segments(
        *(np.zeros(2, int),) * 2, np.zeros(2), np.array([10.0, 10.5]), np.array([2.0, 1])
    )
    assert evaluation.average_precision(truth, found, [0.3], 1)[0, 0] == 1
    assert evaluation.average_precision(truth, found, [0.6], 1)[0, 0] == 0.5


@pytest.mark.parametrize(
    ("truth_file", "name", "protocol"),
    [
        ("thumos14/thumos14.json", "thumos14_test", "thumos14"),
        ("activitynet/activitynet_1.2.json", "activitynet_1.2_val", "anet12"),
        ("activitynet/activitynet_1.3.json", "activitynet_1.3_val", "anet13"),
    ],
)
def test_equal_to_the_official_evaluator(shared, truth_file, name, protocol):
    data = activitynet.read(shared / truth_file)
    detections = read_detections(shared / "reference_eval" / f"{name}_pred.json", data)
    wanted = json.loads((shared / "reference_eval" / "expected.json").read_text())[name]
    detections = detections.with_times(data.grid.to_snippets)
    ours = evaluation.evaluate(
        data.test, detections, evaluation.PROTOCOLS[protocol], len(data.classes), data.grid
    )
    np.testing.assert_allclose(list(ours["map"].values()), wanted["mAP"], rtol=0, atol=1e-9)


def test_the_official_sample_is_perfect(shared):
    folder = shared / "activitynet"
    data = activitynet.read(folder / "activitynet_1.3.json")
    detections = read_detections(folder / "sample_detection_prediction.json", data)
    precision = evaluation.average_precision(
        ground_truth(data.test), detections, np.arange(0.5, 1, 0.05), len(data.classes)
    )
    assert (np.nanmean(precision, axis=1) == 1).all()


def read_detections(path, dataset: Dataset) -> Segments:
    """Detections of an ActivityNet-form JSON file, in seconds."""
    number = {video.name: index for index, video in enumerate(dataset.test)}
    label = {name: index for index, name in enumerate(dataset.classes)}
    rows = [
        (number[name], label[found["label"]], *found["segment"], found["score"])
        for name, detections in json.loads(path.read_text())["results"].items()
        for found in detections
    ]
    video, label, *numbers = (np.array(column) for column in zip(*rows, strict=True))
    return Segments(video, label, *(column.astype(float) for column in numbers))


def video(name="v", segments=(), ambiguous=()) -> Video:
    segments = np.array(segments, float).reshape(-1, 2)
    labels = np.zeros(len(segments), int)
    return Video(
        name, 60.0, labels[:1], segments, labels, np.array(ambiguous, float).reshape(-1, 2)
    )


def detection(start, end) -> Segments:
    return Segments(np.zeros(1, int), np.zeros(1, int), np.array([float(start)]),
                    np.array([float(end)]), np.ones(1))  # fmt: skip


def test_the_co2_protocol_rounds_halves_to_even():
    # 0.32 s is half a snippet: to 0; 0.96 s is 1.5: to 2. Only the rounded instance is [0, 2).
    videos, grid = (video(segments=[(0.32, 0.96)]),), TimeGrid()
    result = evaluation.evaluate(videos, detection(0, 2), evaluation.PROTOCOLS["co2"], 1, grid)
    assert result["map"]["0.9"] == 1
    result = evaluation.evaluate(videos, detection(0, 2), evaluation.PROTOCOLS["official"], 1, grid)
    assert result["map"]["0.4"] == 1
    assert result["map"]["0.6"] == 0


def test_ambiguous_intervals_are_not_judged_by_whole_snippets():
    grid = TimeGrid()
    videos = (video(ambiguous=[grid.to_seconds([10, 20])]),)

    def touched(start, end):
        return bool(evaluation.touches_ambiguous(detection(start, end), videos, grid)[0])

    assert touched(19, 25)
    assert touched(0, 11)
    assert not touched(20, 25)
    assert not touched(0, 10)
    assert touched(12, 13)
    # An end that rounding noise has put a hair below 11 is 11; 10.9 is cut to 10.
    assert touched(0, 11 - 1e-9)
    assert not touched(0, 10.9)


def test_protocol_210_leaves_two_videos_out():
    videos = (video("video_test_0000270", [(0, 6.4)]), video("video_test_0000004", [(0, 6.4)]))
    protocol = evaluation.PROTOCOLS["thumos_210"]
    result = evaluation.evaluate(videos, detection(0, 10), protocol, 1, TimeGrid())
    assert result["map"]["0.5"] == 0  # the only detection was in a video that is left out


def test_classification_map():
    confidence = np.array([[0.9, 0.1, 0.3], [0.8, 0.7, 0.2], [0.1, 0.6, 0.1]])
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    # Class 0: ranks 1 and 3; class 1: ranks 1 and 2; class 2 has no positive.
    wanted = np.mean([(1 + 2 / 3) / 2, 1.0])
    assert evaluation.classification_map(confidence, labels) == pytest.approx(wanted)
