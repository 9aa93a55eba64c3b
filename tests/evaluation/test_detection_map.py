"""Evaluation against plain loops over rows and the official evaluator's numbers; properties."""

import dataclasses
import json
import tracemalloc
import unittest.mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.baselines import pandas_frames, python_loops
from jaxtal.data import activitynet
from jaxtal.data import detections as detection_files
from jaxtal.data import segments as segments_module
from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.data.segments import Segments, candidate_pairs, concatenate, temporal_iou
from jaxtal.evaluation import detection_map, protocols
from jaxtal.evaluation.matching import match
from tests.conftest import GOLDEN

THRESHOLDS = np.arange(0.1, 0.95, 0.1)
SEEDS = st.integers(0, 2**20)


def draw(seed: int, videos=4, classes=3, instances=30, detections=80, grid=1.0, scores=80):
    """Draw random segments on a coarse grid, so that equal t-IoU and zero lengths occur.

    Returns:
        Ground truth, and detections with `scores` different scores.
    """
    rng = np.random.default_rng(seed)

    def segments(n):
        start = np.round(rng.uniform(0, 40, n) / grid) * grid
        length = np.round(rng.uniform(0, 9, n) / grid) * grid
        return rng.integers(videos, size=n), rng.integers(classes, size=n), start, start + length

    truth, found = Segments(*segments(instances), np.ones(instances)), segments(detections)
    return truth, Segments(*found, score=rng.permutation(detections) % scores / scores)


@settings(max_examples=150, deadline=None)
@given(
    seed=SEEDS,
    matching=st.sampled_from(["nearest", "first", "published"]),
    videos=st.integers(1, 5),
    instances=st.integers(0, 40),
    detections=st.integers(0, 90),
    scores=st.sampled_from([1, 5, 90]),
)
def test_equal_to_the_row_loop(seed, matching, videos, instances, detections, scores):
    """Cases with equal scores, equal t-IoU, zero lengths, dense segments and empty inputs."""
    scores = 90 if matching == "published" else scores
    case = draw(seed, videos, 3, instances, detections, scores=scores)
    ours = detection_map.average_precision(*case, THRESHOLDS, 4, matching)
    wanted = python_loops.average_precision(*case, THRESHOLDS, 4, matching)
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-12)


def test_pandas_reference_agrees_with_the_loops():
    """The published programs loop over pandas frames."""
    case = draw(5, scores=80)
    wanted = python_loops.average_precision(*case, THRESHOLDS, 4, "published")
    frames = pandas_frames.average_precision(*case, THRESHOLDS, 4)
    np.testing.assert_allclose(frames, wanted, rtol=0, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, reversed_too=st.booleans(), block=st.sampled_from([1, 7, 1 << 20]))
def test_candidate_pairs_are_complete(seed, reversed_too, block):
    """No pair has different keys, for every block size."""
    (one, other), rng = draw(seed), np.random.default_rng(seed)
    if reversed_too:
        other = other.with_times(lambda t: t + rng.normal(0, 5, len(t)))
    case = one.video, one.start, one.end, other.video, other.start, other.end
    with unittest.mock.patch.object(segments_module, "_PAIRS", block):
        found = candidate_pairs(*case)
        few = candidate_pairs(*case, lambda index, other: (index + other) % 3 == 0)
    np.testing.assert_array_equal(few, np.stack(found)[:, (found[0] + found[1]) % 3 == 0])
    assert (np.diff(found[0]) >= 0).all()
    assert (one.video[found[0]] == other.video[found[1]]).all()
    shared = np.minimum(one.end[:, None], other.end) - np.maximum(one.start[:, None], other.start)
    wanted = np.argwhere((one.video[:, None] == other.video) & (shared >= 0))
    assert {tuple(pair) for pair in wanted} <= set(zip(*found, strict=True))


def test_candidate_pairs_with_reversed_segments():
    """Reversed segments overlap nothing and do not hide the segments behind them."""
    rng = np.random.default_rng(0)
    key, start = rng.integers(0, 5, 300), rng.uniform(0, 1000, 300)
    end = start + rng.normal(0, 300, 300)
    found = {tuple(pair) for pair in zip(*candidate_pairs(key, start, end, key, start, end),
                                         strict=True)}  # fmt: skip
    shared = np.minimum(end[:, None], end) - np.maximum(start[:, None], start)
    forward = (end >= start)[:, None] & (end >= start)
    wanted = np.argwhere((key[:, None] == key) & (shared >= 0) & forward)
    assert {tuple(pair) for pair in wanted} <= found


def test_candidate_pairs_are_few_also_for_distant_times():
    """Disjoint segments have only themselves as candidates."""
    start = np.arange(0, 1000, 2.0)
    key = np.zeros(500, int)
    index, _ = candidate_pairs(key, start, start + 1.5, key, start, start + 1.5)
    assert len(index) == 500
    far = np.array([1e12, -1e12])
    index, other = candidate_pairs(key[:2], far, far + 10, key[:2], far + 5, far + 15)
    assert set(zip(index, other, strict=True)) >= {(0, 0), (1, 1)}


def test_thresholds_in_any_order():
    case = draw(1)
    wanted = detection_map.average_precision(*case, THRESHOLDS, 3)
    ours = detection_map.average_precision(*case, THRESHOLDS[::-1], 3)
    np.testing.assert_array_equal(ours[::-1], wanted)


def test_numpy_order_of_equal_scores():
    """Many detections with few scores, in the order of numpy's reversed argsort in each class."""
    case = draw(7, instances=60, detections=400, scores=3)
    ours = detection_map.average_precision(*case, THRESHOLDS, 4, "published")
    np.testing.assert_allclose(
        ours, pandas_frames.average_precision(*case, THRESHOLDS, 4), rtol=0, atol=1e-12
    )
    stable = detection_map.average_precision(*case, THRESHOLDS, 4)
    assert np.nanmax(np.abs(ours - stable)) > 0.01


def test_narrow_integers_do_not_wrap():
    """Video 512 of 128 classes is not video 0 in 16 bits."""
    found = Segments(*np.array([[512], [0]], np.int16), np.zeros(1), np.ones(1), np.ones(1))
    truth = Segments(*np.array([[0, 512], [0, 127]], np.int16), np.zeros(2), np.ones(2), np.ones(2))
    assert detection_map.average_precision(truth, found, [0.5], 128)[0, 0] == 0


def test_a_reversed_instance_is_never_found():
    """Its length, -2, and a detection's, 2, have a union of 0; 0 / 0 would count as a hit."""
    one = np.zeros(1, int)
    truth = Segments(one, one, np.array([6.0]), np.array([4.0]), np.ones(1))
    found = Segments(one, one, np.array([4.0]), np.array([6.0]), np.ones(1))
    assert detection_map.average_precision(truth, found, [0.1, 0.5], 1).tolist() == [[0], [0]]
    assert temporal_iou(4.0, 6.0, 6.0, 4.0) == 0
    assert temporal_iou(4.0, 6.0, 4.0, 6.0) == 1
    assert np.isnan(temporal_iou(4.0, 4.0, 4.0, 4.0))


def test_first_match_may_take_the_worse_instance():
    """D2-Net's rule then has no instance for the second detection."""
    zero = np.zeros(2, int)
    truth = Segments(zero, zero, np.array([0.0, 4.0]), np.array([10.0, 14.0]), np.ones(2))
    found = Segments(zero, zero, np.array([4.0, 0.0]), np.array([14.0, 10.0]), np.array([2.0, 1]))
    assert detection_map.average_precision(truth, found, [0.4], 1, "first")[0, 0] == 1
    found = found.take(np.array([0])), found.take(np.array([1]))
    second = found[1].with_times(lambda t: t - 3)  # -3 to 7: overlaps the first only
    found = concatenate([found[0], second])
    assert detection_map.average_precision(truth, found, [0.4], 1, "first")[0, 0] == 0.5
    assert detection_map.average_precision(truth, found, [0.4], 1)[0, 0] == 1


def test_equal_scores_are_matched_in_the_given_order():
    """The first detection is matched; an unmatched one before it lowers the precision."""
    one = np.zeros(1, int)
    truth = Segments(one, one, np.zeros(1), np.ones(1), np.ones(1))
    hit, miss = (
        Segments(one, one, np.array([t]), np.array([t + 1.0]), np.array([0.5])) for t in (0.0, 9.0)
    )
    for pair, wanted in (((hit, miss), 1), ((miss, hit), 0.5)):
        assert detection_map.average_precision(truth, concatenate(pair), [0.5], 1)[0, 0] == wanted


def test_equal_overlap_matches_the_nearest_center_then_the_first():
    """Two instances, t-IoU 1/2 each with [4, 8); the second's center is nearer."""
    zero = np.zeros(2, int)
    truth = Segments(zero, zero, np.array([2.0, 4.0]), np.array([8.0, 6.0]), np.ones(2))
    truth = truth.with_times(lambda t: np.where(t == 2, 0, t))  # [0, 8) and [4, 6)
    found = Segments(zero[:1], zero[:1], np.array([4.0]), np.array([8.0]), np.ones(1))
    assert match(truth, found, [0.5]).tolist() == [[-1, 0]]
    twins = truth.take(np.array([1, 1, 0]))
    assert match(twins, found, [0.5]).tolist() == [[0, -1, -1]]


def test_plain_average_precision():
    """Precision 1/2 and 2/3 at the two hits; the envelope raises the first to 2/3."""
    zero = np.zeros(3, int)
    at = np.array([20.0, 0, 10])
    truth = Segments(zero[:2], zero[:2], at[1:], at[1:] + 5, np.ones(2))
    found = Segments(zero, zero, at, at + 5, np.array([3.0, 2, 1]))
    for ap, wanted in (("plain", (1 / 2 + 2 / 3) / 2), ("interpolated", 2 / 3)):
        ours = detection_map.average_precision(truth, found, [0.5], 1, ap=ap)
        assert ours[0, 0] == pytest.approx(wanted)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_order_of_the_input_and_unit_of_time_do_not_matter(seed):
    """Permute detections, instances and videos with distinct scores, and scale the times."""
    truth, detections = draw(seed, grid=1e-9)
    rng = np.random.default_rng(seed)
    wanted = detection_map.average_precision(truth, detections, THRESHOLDS, 3)
    number = rng.permutation(4)
    shuffled = [
        dataclasses.replace(part, video=number[part.video]).take(rng.permutation(len(part)))
        for part in (truth, detections)
    ]
    scaled = [part.with_times(lambda t: 4 * t) for part in shuffled]
    np.testing.assert_array_equal(detection_map.average_precision(*scaled, THRESHOLDS, 3), wanted)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, factor=st.floats(1e-3, 1e3))
def test_scaling_all_times_changes_nothing_under_the_official_rule(seed, factor):
    """Scale the lengths of videos, instances and detections by any factor."""
    truth, detections = draw(seed, grid=1e-9)
    results = []
    for scale in (1.0, factor):
        videos = tuple(
            Video(str(v), 60 * scale, mine.label, scale * np.stack([mine.start, mine.end], axis=1),
                  mine.label, np.empty((0, 2)))
            for v, mine in ((v, truth.take(truth.video == v)) for v in range(4))
        )  # fmt: skip
        found = detections.with_times(lambda t, scale=scale: scale * t)
        protocol = protocols.get("official")
        result = detection_map.evaluate(videos, found, protocol, 3, TimeGrid())
        results.append(result.precision)
    np.testing.assert_allclose(*results, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_perfect_detections_give_one_zero_lengths_included(seed):
    truth, _ = draw(seed)
    rng = np.random.default_rng(seed)
    unique = truth.take(np.unique(np.stack([truth.video, truth.label, truth.start, truth.end]),
                                  axis=1, return_index=True)[1])  # fmt: skip
    perfect = Segments(
        unique.video, unique.label, unique.start, unique.end, rng.random(len(unique))
    )
    precision = detection_map.average_precision(unique, perfect, THRESHOLDS, 3)
    assert (precision[:, ~np.isnan(precision).any(0)] == 1).all()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, matching=st.sampled_from(["nearest", "first"]))
def test_a_duplicate_never_raises_ap(seed, matching):
    """With one instance per class and video, a copy with a lower score is a false positive."""
    rng = np.random.default_rng(seed)
    truth, detections = draw(seed, grid=0.1)
    _, single = np.unique(truth.video * 3 + truth.label, return_index=True)
    truth = truth.take(single)
    wanted = detection_map.average_precision(truth, detections, THRESHOLDS, 3, matching)
    some = rng.random(len(detections)) < 0.3
    copies = dataclasses.replace(detections, score=detections.score - 1e-3).take(some)
    both = concatenate([detections, copies])
    ours = detection_map.average_precision(truth, both, THRESHOLDS, 3, matching)
    assert (ours[:, ~np.isnan(wanted[0])] <= wanted[:, ~np.isnan(wanted[0])]).all()


def test_no_detections_and_no_instances():
    truth, detections = draw(0)
    nothing = concatenate([])
    assert (detection_map.average_precision(truth, nothing, [0.5], 3) == 0).all()
    assert np.isnan(detection_map.average_precision(nothing, detections, [0.5], 3)).all()
    empty = detection_map.evaluate((), nothing, protocols.get("co2"), 3, TimeGrid())
    assert np.isnan(empty.summary()["map"]["0.5"])
    assert empty.report(("a", "b", "c"))["counts"]["detections"] == 0


def test_a_detection_takes_the_second_best_instance():
    truth = Segments(
        np.zeros(2, int), np.zeros(2, int), np.array([0.0, 4.0]), np.array([10.0, 14.0]), np.ones(2)
    )
    found = Segments(
        *(np.zeros(2, int),) * 2, np.zeros(2), np.array([10.0, 10.5]), np.array([2.0, 1])
    )
    assert detection_map.average_precision(truth, found, [0.3], 1)[0, 0] == 1
    assert detection_map.average_precision(truth, found, [0.6], 1)[0, 0] == 0.5


def test_memory_is_linear_in_detections():
    """Ten times the detections take about ten times the memory, not a hundred times."""

    def peak(count: int) -> int:
        rng = np.random.default_rng(0)
        video, start = rng.integers(count // 10, size=count), rng.uniform(0, 100, count)
        found = Segments(video, video % 5, start, start + 3, rng.random(count))
        truth = found.take(np.arange(0, count, 10))
        tracemalloc.start()
        detection_map.average_precision(truth, found, THRESHOLDS, 5)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(30_000) < 15 * peak(3_000)


def check_official(name: str, protocol: str, dataset: Dataset, found: Segments) -> None:
    """Compare mAP and AP with the numbers of the official evaluator."""
    wanted = json.loads((GOLDEN / "evaluation" / "expected.json").read_text())[name]
    ours = detection_map.evaluate(
        dataset.test, found, protocols.get(protocol), len(dataset.classes), dataset.grid
    ).report(dataset.classes)
    np.testing.assert_allclose(list(ours["map"].values()), wanted["mAP"], rtol=0, atol=1e-9)
    assert np.mean(list(ours["map"].values())) == pytest.approx(wanted["average_mAP"], abs=1e-9)
    first = next(iter(ours["map"]))
    for label, precision in wanted["AP_first_threshold"].items():
        assert ours["per_class"][label]["map"][first] == pytest.approx(precision, abs=1e-9)
    assert ours["counts"]["detections"] == wanted["predictions"]
    assert ours["counts"]["instances"] == wanted["gt_instances"]


def test_equal_to_the_official_evaluator_on_thumos14(thumos14):
    data = activitynet.read(thumos14 / "thumos14.json")
    found = detection_files.read(GOLDEN / "evaluation" / "thumos14_test_pred.json", data)
    check_official("thumos14_test", "thumos14", data, found)


def test_equal_to_the_official_evaluator_on_activitynet12():
    with np.load(GOLDEN / "evaluation" / "activitynet12_validation.npz") as file:
        gold = {key: file[key] for key in file.files}
    videos = []
    for index, (name, duration) in enumerate(zip(gold["videos"], gold["duration"], strict=True)):
        mine = gold["gt_video"] == index
        times = np.stack([gold["gt_start"][mine], gold["gt_end"][mine]], axis=1)
        labels = gold["gt_class"][mine].astype(int)
        none = np.empty((0, 2))
        videos.append(Video(str(name), float(duration), np.unique(labels), times, labels, none))
    found = Segments(
        gold["det_video"].astype(int), gold["det_class"].astype(int),
        gold["det_start"], gold["det_end"], gold["det_score"],
    )  # fmt: skip
    dataset = Dataset("ActivityNet1.2", tuple(map(str, gold["classes"])), (), tuple(videos))
    check_official("activitynet_1.2_val", "anet12", dataset, found)


@pytest.mark.parametrize(
    ("truth_file", "name", "protocol"),
    [
        ("activitynet/activitynet_1.2.json", "activitynet_1.2_val", "anet12"),
        ("activitynet/activitynet_1.3.json", "activitynet_1.3_val", "anet13"),
    ],
)
def test_equal_to_the_official_evaluator_on_files(shared, truth_file, name, protocol):
    data = activitynet.read(shared / truth_file)
    found = detection_files.read(shared / "reference_eval" / f"{name}_pred.json", data)
    check_official(name, protocol, data, found)


def test_the_official_sample_is_perfect(shared):
    folder = shared / "activitynet"
    data = activitynet.read(folder / "activitynet_1.3.json")
    found = detection_files.read(folder / "sample_detection_prediction.json", data)
    result = detection_map.evaluate(data.test, found, protocols.get("anet13"), 200, data.grid)
    assert list(result.summary()["map"].values()) == [1.0] * 10


def test_f1_counts_every_detection():
    truth, detections = draw(3)
    videos = tuple(
        Video(str(v), 60.0, mine.label, np.stack([mine.start, mine.end], axis=1), mine.label,
              np.empty((0, 2)))
        for v, mine in ((v, truth.take(truth.video == v)) for v in range(4))
    )  # fmt: skip
    ours = detection_map.evaluate(videos, detections, protocols.get("official"), 4, TimeGrid()).f1
    assert np.isnan(ours[3])
    order = np.argsort(-detections.score, kind="stable")
    for label in range(3):
        locked = set()
        for d in order[detections.label[order] == label]:
            mine = (truth.video == detections.video[d]) & (truth.label == label)
            overlap = temporal_iou(detections.start[d], detections.end[d], truth.start, truth.end)
            free = [i for i in np.flatnonzero(mine & (overlap >= 0.5)) if i not in locked]
            if free:
                locked.add(max(free, key=lambda i: overlap[i]))
        both = (detections.label == label).sum() + (truth.label == label).sum()
        assert ours[label] == pytest.approx(2 * len(locked) / both)


def d2_videos() -> tuple[Video, ...]:
    """Return two videos of 40 snippets; three of five instances are in D2-Net's list."""
    grid, none = TimeGrid(), np.empty((0, 2))

    def video(name, labels, segments, segment_labels):
        times = grid.to_seconds(np.array(segments, float))
        return Video(name, 25.6, np.array(labels), times, np.array(segment_labels), none)

    return (
        video("a", [0], [[2, 6], [10, 14]], [0, 1]),  # the second's class is not a label
        video("b", [0, 1], [[20, 30], [41, 44], [5, 9]], [1, 1, 0]),  # the second is beyond its end
    )


def test_d2nets_protocol():
    videos = d2_videos()
    kept = detection_map.labeled_instances(videos)
    assert list(zip(kept.video, kept.label, strict=True)) == [(0, 0), (1, 1), (1, 0)]
    found = Segments(
        np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([2.3, 20, 5]), np.array([6.4, 30, 9.0]),
        np.array([3.0, 2, 1]),
    ).with_times(TimeGrid().to_seconds)  # fmt: skip
    full, reduced = (
        detection_map.evaluate(videos, found, protocols.get(name), 2, TimeGrid()).summary()
        for name in ("d2", "thumos_d2")
    )
    assert reduced["map"]["0.9"] == reduced["f1"] == 1  # 2.3 to 6.4 is truncated to 2 to 6
    assert full["map"]["0.9"] == pytest.approx((1 + 1 / 3) / 2)
    assert full["f1"] == pytest.approx((1 + 2 / 4) / 2)


def test_an_empty_class_zeroes_later_classes_only_with_the_switch():
    found = Segments(np.array([1]), np.array([1]), np.array([20.0]), np.array([30.0]), np.ones(1))
    found = found.with_times(TimeGrid().to_seconds)
    fixed, quirk = (
        detection_map.evaluate(d2_videos(), found, protocols.get(name), 2, TimeGrid()).summary()
        for name in ("thumos_d2", "thumos_d2+stop_at_empty_class")
    )
    assert (fixed["map"]["0.5"], quirk["map"]["0.5"]) == (0.5, 0)  # class 0 has no detection
    assert quirk["protocol"] == "thumos_d2+stop_at_empty_class"


def video(name="v", segments=(), ambiguous=()) -> Video:
    segments = np.array(segments, float).reshape(-1, 2)
    labels = np.zeros(len(segments), int)
    return Video(
        name, 60.0, labels[:1], segments, labels, np.array(ambiguous, float).reshape(-1, 2)
    )


def detection(start, end) -> Segments:
    return Segments(np.zeros(1, int), np.zeros(1, int), np.array([float(start)]),
                    np.array([float(end)]), np.ones(1))  # fmt: skip


def mean_ap(videos, found: Segments, protocol: str) -> dict:
    """Return mAP by threshold of detections in snippets."""
    grid = TimeGrid()
    seconds = found.with_times(grid.to_seconds)
    return detection_map.evaluate(videos, seconds, protocols.get(protocol), 1, grid).summary()[
        "map"
    ]


def test_the_co2_protocol_rounds_halves_to_even():
    # 0.32 s is half a snippet: to 0; 0.96 s is 1.5: to 2. Only the rounded instance is [0, 2).
    videos = (video(segments=[(0.32, 0.96)]),)
    assert mean_ap(videos, detection(0, 2), "co2")["0.9"] == 1
    official = mean_ap(videos, detection(0, 2), "official")
    assert (official["0.4"], official["0.6"]) == (1, 0)


def test_snippets_survive_conversion_to_seconds():
    """Some of the first 3,000 indices come back below an integer; the protocols snap them."""
    grid, numbers = TimeGrid(), np.arange(3000.0)
    for seconds, lost in ((0.64 * numbers, 44), (grid.to_seconds(numbers), 144)):
        back = grid.to_snippets(seconds)
        assert (np.trunc(back) != numbers).sum() == lost
        np.testing.assert_array_equal(detection_map.whole_snippets(back), numbers)


def test_detections_touch_ambiguous_intervals_by_whole_snippets():
    grid = TimeGrid()
    videos = (video(ambiguous=[grid.to_seconds([10, 20])]),)

    def touched(start, end):
        return bool(detection_map.touches_ambiguous(detection(start, end), videos, grid)[0])

    assert touched(19, 25)
    assert touched(0, 11)
    assert not touched(20, 25)
    assert not touched(0, 10)
    assert touched(12, 13)
    # An end that rounding errors have moved just below 11 is 11; 10.9 is truncated to 10.
    assert touched(0, 11 - 1e-9)
    assert not touched(0, 10.9)


def test_protocol_210_excludes_two_videos():
    videos = (video("video_test_0000270", [(0, 6.4)]), video("video_test_0000004", [(0, 6.4)]))
    # The only detection is in an excluded video.
    assert mean_ap(videos, detection(0, 10), "thumos_210")["0.5"] == 0


def test_excluded_detections_are_counted():
    """One of four detections is in an excluded video and ambiguous; it counts once."""
    grid = TimeGrid()
    spans = grid.to_seconds([10, 20])
    videos = tuple(video(name, [(0, 6.4), (3, 3)], [spans]) for name in ("video_test_0000270", "v"))
    starts, ones = grid.to_seconds([12, 11, 21, 30]), np.ones(4)
    found = Segments(np.array([0, 1, 1, 1]), np.zeros(4, int), starts, starts + 0.64, ones)
    protocol = dataclasses.replace(
        protocols.get("thumos_co2"), excluded_videos=("video_test_0000270",)
    )
    counts = detection_map.evaluate(videos, found, protocol, 1, grid).report(("a",))["counts"]
    assert counts["detections_left_out"] == {"video": 1, "ambiguous": 1}
    assert (counts["detections"], counts["instances"]) == (2, 2)
    assert (counts["instances_without_length"], counts["videos_with_detections"]) == (1, 1)


def test_whole_snippets_from_seconds_are_snapped_under_co2():
    """Some indices come back slightly too low from 0.64 s times them; a t-IoU of 0.5 must match."""
    grid = TimeGrid()
    numbers = np.arange(3000.0)
    number = numbers[grid.to_snippets(0.64 * numbers) < numbers][0]
    videos = (video(segments=[0.64 * np.array([number - 1, number + 1])]),)
    found = detection(0.64 * number, 0.64 * (number + 1))
    protocol = protocols.get("co2")
    result = detection_map.evaluate(videos, found, protocol, 1, grid)
    assert result.detections.start[0] == np.rint(result.detections.start[0])
    assert result.summary()["map"]["0.5"] == 1


def test_classification_map():
    confidence = np.array([[0.9, 0.1, 0.3], [0.8, 0.7, 0.2], [0.1, 0.6, 0.1]])
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    # Class 0: ranks 1 and 3; class 1: ranks 1 and 2; class 2 has no positive.
    wanted = np.mean([(1 + 2 / 3) / 2, 1.0])
    assert detection_map.classification_map(confidence, labels) == pytest.approx(wanted)


def test_videos_with_an_fps_of_their_own_are_rounded_on_their_own_grid():
    grid, none = TimeGrid(), np.empty((0, 2))
    label = np.zeros(1, np.int64)
    segments = np.array([[1.0, 3.0]])
    videos = tuple(
        Video(name, 9.0, label, segments, label, none, fps=fps)
        for name, fps in (("a", None), ("b", 50.0))
    )
    # In snippets of 0.64 s the instance is 2 to 5, in those of 0.32 s 3 to 9.
    found = Segments(
        np.array([0, 1]), np.zeros(2, np.int64), *np.array([[2, 3], [5, 9]]), np.ones(2)
    )
    found = found.with_times(lambda times: grid.of(videos).take(found.video).to_seconds(times))
    result = detection_map.evaluate(videos, found, protocols.get("co2"), 1, grid)
    assert result.truth.start.tolist() == [2, 3]
    assert result.truth.end.tolist() == [5, 9]
    assert result.summary()["map"]["0.9"] == 1
