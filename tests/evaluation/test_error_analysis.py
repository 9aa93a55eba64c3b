"""Error analysis against its definitions in plain loops, and one example of every kind."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.baselines import python_loops
from jaxtal.data import segments as segment_arrays
from jaxtal.data.dataset import TimeGrid, Video
from jaxtal.data.io import json_files
from jaxtal.data.segments import Segments, concatenate
from jaxtal.errors import JaxtalError
from jaxtal.evaluation import detection_map, error_analysis, protocols

CLASSES = ("CliffDiving", "Diving", "Jump", "Throw")
PROTOCOLS = st.sampled_from(["official", "co2", "d2"])
THRESHOLDS = st.sampled_from([0.3, 0.5, 0.7])
SECONDS = np.array([0, 0.5, 2, 3, 3.5, 6, 6.5, 12, 12.5, 18, 18.5])  # on both sides of the bounds


def video(name: str, *rows, labels=None, ambiguous=()) -> Video:
    """Return a video of 60 s with instances (label, start, end)."""
    table = np.array(rows, float).reshape(-1, 3)
    instance_labels = table[:, 0].astype(int)
    labels = np.unique(instance_labels) if labels is None else np.array(labels)
    ambiguous = np.array(ambiguous, float).reshape(-1, 2)
    return Video(name, 60.0, labels, table[:, 1:], instance_labels, ambiguous)


def detections(*rows) -> Segments:
    """Return detections from rows (video, label, start, end, score)."""
    table = np.array(rows, float).reshape(-1, 5)
    return Segments(table[:, 0].astype(int), table[:, 1].astype(int), *table[:, 2:].T)


def judge(videos, found: Segments, protocol="official", threshold=0.5):
    """Return the evaluation and its error analysis."""
    rules = protocols.get(protocol)
    result = detection_map.evaluate(videos, found, rules, len(CLASSES), TimeGrid())
    return result, error_analysis.analyze_errors(result, threshold)


def kinds_of(errors: error_analysis.ErrorAnalysis) -> list[str]:
    return [error_analysis.ERROR_TYPES[kind] for kind in errors.kind]


def draw(seed: int, instances: int, count: int) -> tuple[tuple[Video, ...], Segments]:
    """Draw instances of three classes in three videos, and detections, most near an instance.

    Times are multiples of half a second, exact in seconds and in snippets, so that t-IoU at a
    threshold occurs; some instances have the times of another one.
    """
    rng = np.random.default_rng(seed)

    def segments(n, classes, lengths):
        start, length = rng.integers(80, size=n) / 2, rng.choice(lengths, n)
        return np.stack(
            [rng.integers(3, size=n), rng.integers(classes, size=n), start, start + length], axis=1
        )

    truth = segments(instances, 3, SECONDS)
    found = segments(count, 4, SECONDS[2:])
    if instances:
        again = np.flatnonzero(rng.random(instances) < 0.3)
        place = [0, 2, 3]  # all but the class
        truth[np.ix_(again, place)] = truth[rng.integers(instances, size=len(again))][:, place]
        near = np.flatnonzero(rng.random(count) < 0.8)
        copies = truth[rng.integers(instances, size=len(near))]
        copies[:, 1] = np.where(rng.random(len(near)) < 0.3, found[near, 1], copies[:, 1])
        copies[:, 2] += rng.choice([-2, -1, -0.5, 0, 0, 0, 0.5, 1, 2], len(near))
        copies[:, 3] += rng.choice([-3, -1, -0.5, 0, 0, 0, 0.5, 1, 3], len(near))
        # At least one second, more than a snippet, so that none is truncated to zero length.
        copies[:, 2] = np.maximum(copies[:, 2], 0)
        copies[:, 3] = np.maximum(copies[:, 3], copies[:, 2] + 1)
        found[near] = copies
    videos = tuple(video(str(v), *truth[truth[:, 0] == v, 1:]) for v in range(3))
    return videos, detections(*np.column_stack([found, rng.permutation(count) / max(count, 1)]))


def rows(segments: Segments) -> list[tuple]:
    """Return (video, label, start, end) of each segment."""
    columns = segments.video, segments.label, segments.start, segments.end
    return list(zip(*(column.tolist() for column in columns), strict=True))


def t_iou(one: tuple, other: tuple) -> float:
    """Compute the t-IoU of two rows; 0 if they are disjoint."""
    common = min(one[3], other[3]) - max(one[2], other[2])
    if one[0] != other[0] or common <= 0:
        return 0.0
    return common / ((one[3] - one[2]) + (other[3] - other[2]) - common)


def owners(result: detection_map.Evaluation, threshold: float) -> dict[int, int]:
    """Return {instance: detection}, matched sequentially by the protocol's rule."""
    truth, taken = rows(result.truth), {}
    for d, row in enumerate(rows(result.detections)):
        free = [
            i
            for i, other in enumerate(truth)
            if i not in taken and other[1] == row[1] and t_iou(row, other) >= threshold
        ]
        if result.protocol.matching != "first":
            free.sort(key=lambda i, row=row: abs(sum(truth[i][2:]) - sum(row[2:])))
            free.sort(key=lambda i, row=row: -t_iou(row, truth[i]))
        if free:
            taken[free[0]] = d
    return taken


def sort_out(result: detection_map.Evaluation, taken: dict[int, int], threshold: float) -> list:
    """Return (kind, t-IoU, admissible instances) of every detection."""
    truth, verdicts = rows(result.truth), []
    for d, row in enumerate(rows(result.detections)):
        share = {i: t_iou(row, other) for i, other in enumerate(truth)}
        own = {i: share[i] for i in share if truth[i][1] == row[1]}
        others = {i: share[i] for i in share if truth[i][1] != row[1]}
        mine = {i: share[i] for i in share if taken.get(i) == d}
        enough = {i: own[i] for i in own if own[i] >= threshold}
        if mine:
            kind, reasons = "true positive", mine
        elif enough and all(taken.get(i, d) != d for i in enough):
            kind, reasons = "double detection", enough
        elif reasons := {i: others[i] for i in others if others[i] >= threshold}:
            kind = "wrong label"
        elif reasons := {i: own[i] for i in own if own[i] >= 0.1}:
            kind = "localization"
        elif reasons := {i: others[i] for i in others if others[i] >= 0.1}:
            kind = "confusion"
        else:
            verdicts.append(("background", max(share.values(), default=0.0), {-1}))
            continue
        most = max(reasons.values())
        verdicts.append((kind, most, {i for i in reasons if reasons[i] == most}))
    return verdicts


def mean_ap(result: detection_map.Evaluation, found: Segments, threshold: float) -> float:
    """Return the mean AP over the classes that have instances."""
    matching = result.protocol.matching
    every = python_loops.average_precision(
        result.truth, found, np.array([threshold]), len(CLASSES), matching
    )
    values = [every[0, label] for label in sorted(set(result.truth.label.tolist()))]
    return sum(values) / len(values) if values else float("nan")


def size_of(length: float) -> int:
    """Return the index in `error_analysis.LENGTHS`; a bound belongs to the shorter length."""
    return sum(length > bound for bound in (3, 6, 12, 18))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    protocol=PROTOCOLS,
    threshold=THRESHOLDS,
    instances=st.sampled_from([24, 12, 2, 0]),
    count=st.sampled_from([50, 25, 5, 0]),
)
def test_equal_to_the_definitions(seed, protocol, threshold, instances, count):
    """Compare all results, also without instances or detections."""
    videos, found = draw(seed, instances, count)
    result, errors = judge(videos, found, protocol, threshold)
    taken = owners(result, threshold)
    wanted = sort_out(result, taken, threshold)
    kinds = [kind for kind, _, _ in wanted]
    assert kinds_of(errors) == kinds
    assert errors.overlap.tolist() == pytest.approx([share for _, share, _ in wanted], abs=1e-12)
    assert all(
        instance in possible
        for instance, (_, _, possible) in zip(errors.instance, wanted, strict=True)
    )

    profile = np.zeros((10, len(error_analysis.ERROR_TYPES)), int)
    labels, truth_labels = result.detections.label.tolist(), result.truth.label.tolist()
    for label in range(len(CLASSES)):
        mine = [kind for kind, other in zip(kinds, labels, strict=True) if other == label]
        for multiple in range(1, 11):
            for kind in mine[: multiple * truth_labels.count(label)]:
                profile[multiple - 1, error_analysis.ERROR_TYPES.index(kind)] += 1
    np.testing.assert_array_equal(errors.profile, profile)

    before = mean_ap(result, result.detections, threshold)
    assert np.isnan(errors.gain[0])
    for index, kind in enumerate(error_analysis.ERROR_TYPES[1:], start=1):
        kept = result.detections.take(np.array([other != kind for other in kinds], bool))
        gain = mean_ap(result, kept, threshold) - before
        assert errors.gain[index] == pytest.approx(gain, rel=0, abs=1e-12, nan_ok=True)

    sizes = [size_of(end - start) for each in videos for start, end in each.segments]
    assert errors.instances.tolist() == [sizes.count(size) for size in range(5)]
    taken_sizes = [sizes[i] for i in taken]
    assert errors.found.tolist() == [taken_sizes.count(size) for size in range(5)]


@pytest.mark.parametrize("protocol", ["official", "co2", "d2"])
def test_random_cases_cover_all_kinds(protocol):
    """Otherwise the comparison with the definitions would be vacuous."""
    _, errors = judge(*draw(4, 24, 50), protocol)
    assert set(kinds_of(errors)) == set(error_analysis.ERROR_TYPES)
    assert (errors.instances > errors.found).all()
    assert (errors.found > 0).all()
    assert (errors.gain[1:] > 0).sum() >= 3
    assert (errors.overlap[errors.instance < 0] > 0).any()


@pytest.mark.parametrize(
    ("label", "start", "end", "kind", "instance", "overlap"),
    [
        (0, 10, 20, "true positive", 0, 1),
        (0, 10, 15, "true positive", 0, 0.5),  # equal to the threshold
        (1, 10, 20, "wrong label", 0, 1),
        (1, 10, 15, "wrong label", 0, 0.5),
        (0, 10, 14.5, "localization", 0, 0.45),
        (0, 10, 11, "localization", 0, 0.1),
        (1, 10, 14.5, "confusion", 0, 0.45),
        (1, 10, 11, "confusion", 0, 0.1),
        (0, 10, 10.5, "background", -1, 0.05),
        (1, 10, 10.5, "background", -1, 0.05),
        (0, 20, 30, "background", -1, 0),  # touches it
        (0, 40, 50, "background", -1, 0),
    ],
)
def test_one_detection_of_every_kind(label, start, end, kind, instance, overlap):
    """At a t-IoU of 0.5, with one instance [10, 20) of class 0."""
    videos = video("a", (0, 10, 20)), video("b", (1, 40, 50))
    _, errors = judge(videos, detections((0, label, start, end, 1)))
    assert (kinds_of(errors), errors.instance.tolist()) == ([kind], [instance])
    assert errors.overlap.tolist() == pytest.approx([overlap])


def test_a_second_detection_of_an_instance_is_a_double_detection():
    """The detection with the highest score is the true positive, even if another fits better."""
    found = detections((0, 0, 10, 20, 0.8), (0, 0, 11, 20, 0.9), (0, 0, 10, 18, 0.7))
    _, errors = judge((video("a", (0, 10, 20)),), found)
    assert kinds_of(errors) == ["true positive", "double detection", "double detection"]
    assert errors.instance.tolist() == [0, 0, 0]
    assert errors.overlap.tolist() == pytest.approx([0.9, 1, 0.8])


def test_a_true_positive_names_the_matched_instance():
    """The instance that it overlaps most is matched already, or of another class."""
    truth = video("a", (0, 10, 20), (0, 12, 22), (1, 10.5, 20.5))
    _, errors = judge((truth,), detections((0, 0, 10, 20, 0.9), (0, 0, 10.5, 20.5, 0.8)))
    assert kinds_of(errors) == ["true positive"] * 2
    assert errors.instance.tolist() == [0, 1]
    assert errors.overlap.tolist() == pytest.approx([1, 8.5 / 11.5])


@pytest.mark.parametrize(
    ("truth", "kind", "instance", "overlap"),
    [
        # The other class's instance fits better than a free one of its own class.
        ([(1, 30, 40), (0, 31, 40)], "true positive", 1, 0.9),
        # Its own is matched to the first detection; the other class's fits better.
        ([(0, 10, 20), (1, 11, 20)], "double detection", 0, 0.9),
        # A free one of its own class, which it overlaps a little.
        ([(0, 10, 20), (0, 5, 13)], "double detection", 0, 0.9),
        # Too little of its own class, enough of the other.
        ([(0, 16, 26), (1, 11, 20)], "wrong label", 1, 1),
        # Some of each, more of the other class.
        ([(1, 10, 15), (0, 18, 26)], "localization", 1, 2 / 15),
        # Among two of the same kind, the one that fits better is named.
        ([(0, 19, 26), (0, 10, 14), (0, 18, 20)], "localization", 1, 0.3),
        ([(1, 17, 22), (1, 10, 14), (2, 11, 15)], "confusion", 2, 4 / 9),
        ([(1, 12, 21), (2, 11, 19)], "wrong label", 1, 8 / 9),
        # Own class below 0.1, the other class above.
        ([(0, 19.5, 30), (1, 10, 14)], "confusion", 1, 0.3),
    ],
)
def test_the_first_kind_that_applies_wins(truth, kind, instance, overlap):
    """Check the second of two detections of class 0; the first matches [10, 20) if it exists."""
    place = (30, 40) if kind == "true positive" else (11, 20)
    found = detections((0, 0, 10, 20, 0.9), (0, 0, *place, 0.8))
    if kind not in ("true positive", "double detection"):
        found = found.take(np.array([1]))
    _, errors = judge((video("a", *truth),), found)
    assert kinds_of(errors)[-1] == kind
    assert errors.instance[-1] == instance
    assert errors.overlap[-1] == pytest.approx(overlap)


def test_coinciding_instances_of_two_classes_are_not_wrong_labels():
    """THUMOS14 annotates every CliffDiving instance as Diving, too."""
    truth = video("a", (0, 10, 20), (1, 10, 20))
    found = detections(
        (0, 0, 10, 20, 0.9), (0, 1, 10, 20, 0.8), (0, 0, 10, 20, 0.7), (0, 1, 10, 20, 0.6),
        (0, 0, 10, 12, 0.5), (0, 1, 10, 12, 0.4), (0, 2, 10, 20, 0.3), (0, 2, 10, 12, 0.2),
    )  # fmt: skip
    for videos in ((truth,), (video("a", (1, 10, 20), (0, 10, 20)),)):
        _, errors = judge(videos, found)
        assert kinds_of(errors) == [
            *["true positive"] * 2, *["double detection"] * 2, *["localization"] * 2,
            "wrong label", "confusion",
        ]  # fmt: skip
        held_against = videos[0].segment_labels[errors.instance[:6]]
        assert held_against.tolist() == [0, 1] * 3


def test_a_zero_length_instance_detected_twice_is_a_double_detection():
    """The official evaluator counts 0 / 0 as a match: the first detection is true."""
    videos, again = (video("a", (0, 10, 10)),), detections((0, 0, 10, 10, 1), (0, 0, 10, 10, 0.5))
    for alone in (0, 1):
        _, errors = judge(videos, again.take(np.array([alone])))
        assert kinds_of(errors) == ["true positive"]
    _, errors = judge(videos, again)
    assert kinds_of(errors) == ["true positive", "double detection"]


def test_lengths_are_in_annotated_seconds_with_the_protocols_bounds():
    """3.2 s are 5 snippets, as are 3 s after rounding; ActivityNet has other bounds."""
    truth = video("a", (0, 0, 3), (0, 10, 13.2), (1, 20, 20), (1, 20, 50), (2, 2, 59))
    found = detections((0, 0, 10, 13.2, 0.9), (0, 1, 20, 50, 0.8))
    for name, wanted, hits in (
        ("co2", [2, 1, 0, 0, 2], [0, 1, 0, 0, 1]),
        ("d2", [2, 1, 0, 0, 2], [0, 1, 0, 0, 1]),
        ("anet12_co2", [4, 1, 0, 0, 0], [2, 0, 0, 0, 0]),
    ):
        _, errors = judge((truth,), found, name)
        assert errors.instances.tolist() == wanted
        assert errors.found.tolist() == hits
    recall = errors.report()["recall_by_length"]
    bounds = [[0, 30], [30, 60], [60, 120], [120, 180], [180, None]]
    assert [row["seconds"] for row in recall.values()] == bounds
    assert list(recall) == ["XS", "S", "M", "L", "XL"]


def test_gain_uses_the_protocols_average_precision():
    """Precision is 1/2 and 2/3 at the matches; without the background error both are 1."""
    videos = (video("a", (0, 0, 5), (0, 10, 15)), video("b", (1, 0, 5)))
    found = detections((0, 0, 40, 45, 3), (0, 0, 0, 5, 2), (0, 0, 10, 15, 1), (1, 1, 0, 5, 1))
    for ap, wanted in (("interpolated", 1 / 3), ("plain", 5 / 12)):
        protocol = dataclasses.replace(protocols.get("official"), ap=ap)
        result = detection_map.evaluate(videos, found, protocol, len(CLASSES), TimeGrid())
        gain = error_analysis.analyze_errors(result, 0.5).gain
        np.testing.assert_allclose(gain, [np.nan, 0, 0, 0, 0, wanted / 2], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("protocol", "poor", "good"),
    [("thumos_co2", 2.8125 / 9, 12 / 12.5), ("thumos_d2", 3 / 9, 12 / 13)],
)
def test_top_false_positives(protocol, poor, good):
    """Times are as given, t-IoU in the protocol's unit; one detection is not evaluated."""
    videos = (
        video("a", (3, 20, 25), (0, 1, 9), labels=[0]),  # the first is not in D2-Net's list
        video("b", (1, 2, 8), ambiguous=[(40, 50)]),
    )
    found = detections(
        (0, 2, 1.1, 9.1, 0.3), (1, 1, 40.1, 45, 0.9), (0, 0, 1.1, 9.1, 0.8),
        (1, 0, 30.1, 33.3, 0.7), (1, 1, 2.3, 4.1, 0.5), (0, 0, 1.28, 8.96, 0.2),
    )  # fmt: skip
    result, errors = judge(videos, found, protocol)

    def top(count):
        return error_analysis.top_false_positives(errors, result, found, videos, CLASSES, count)

    wanted = [
        {
            "video": "b", "label": "CliffDiving", "segment": [30.1, 33.3], "score": 0.7,
            "kind": "background", "t-IoU": 0, "instance": None,
        },
        {
            "video": "b", "label": "Diving", "segment": [2.3, 4.1], "score": 0.5,
            "kind": "localization", "t-IoU": pytest.approx(poor),
            "instance": {"label": "Diving", "segment": [2, 8]},
        },
        {
            "video": "a", "label": "Jump", "segment": [1.1, 9.1], "score": 0.3,
            "kind": "wrong label", "t-IoU": pytest.approx(good),
            "instance": {"label": "CliffDiving", "segment": [1, 9]},
        },
        {
            "video": "a", "label": "CliffDiving", "segment": [1.28, 8.96], "score": 0.2,
            "kind": "double detection", "t-IoU": pytest.approx(1),
            "instance": {"label": "CliffDiving", "segment": [1, 9]},
        },
    ]  # fmt: skip
    for count in (0, 1, 3, 4, 10):
        assert top(count) == wanted[:count]
    json.dumps(top(4), allow_nan=False)


@pytest.mark.parametrize(("protocol", "threshold"), [("anet13", 0.3), ("official", 0.95)])
def test_a_threshold_that_the_protocol_does_not_have(protocol, threshold):
    """The message names the threshold, the protocol and the protocol's thresholds."""
    with pytest.raises(JaxtalError) as caught:
        judge((video("a", (0, 10, 20)),), detections((0, 0, 10, 20, 1)), protocol, threshold)
    thresholds = [f"{value:g}" for value in protocols.get(protocol).thresholds]
    for part in (f"{threshold:g}", protocol, ", ".join(thresholds)):
        assert part in str(caught.value)


def test_the_report_adds_up():
    videos, found = draw(3, 24, 50)
    result, errors = judge(videos, found, "co2", 0.3)
    assert (errors.protocol, errors.threshold) == ("co2", 0.3)
    report = json.loads(json.dumps(json_files.finite(errors.report()), allow_nan=False))
    assert report["t-IoU"] == 0.3
    assert tuple(report["kinds"]) == error_analysis.ERROR_TYPES
    counts = {kind: row["detections"] for kind, row in report["kinds"].items()}
    assert counts == {kind: kinds_of(errors).count(kind) for kind in error_analysis.ERROR_TYPES}
    assert sum(counts.values()) == len(found)
    for multiple in range(1, 11):
        best = sum(
            min(multiple * (result.truth.label == c).sum(), (found.label == c).sum())
            for c in range(len(CLASSES))
        )
        among = [row["among_best"][f"{multiple}G"] for row in report["kinds"].values()]
        assert among == errors.profile[multiple - 1].tolist()
        assert sum(among) == best
    gains = [row["gain"] for row in report["kinds"].values()]
    assert gains[0] is None
    assert gains[1:] == errors.gain[1:].tolist()
    recall = report["recall_by_length"].values()
    assert sum(row["instances"] for row in recall) == 24
    assert sum(row["found"] for row in recall) == counts["true positive"]
    assert all(row["recall"] == row["found"] / row["instances"] for row in recall)


@pytest.mark.parametrize("protocol", ["official", "co2", "thumos_d2"])
def test_no_detections_and_no_instances(protocol):
    """Undefined values are NaN, null in JSON, without warnings."""
    truth, empty = video("a", (0, 10, 20)), video("a")
    found, nothing = detections((0, 3, 10, 20, 1)), concatenate([])
    for videos, given_ones, recall, gain in (
        ((), nothing, None, None),
        ((empty,), nothing, None, None),
        ((empty,), found, None, None),
        ((truth,), nothing, 0, 0),
    ):
        result, errors = judge(videos, given_ones, protocol)
        assert kinds_of(errors) == ["background"] * len(given_ones)
        report = json_files.finite(errors.report())
        json.dumps(report, allow_nan=False)
        assert report["recall_by_length"]["M"]["recall"] == recall
        assert [row["gain"] for row in report["kinds"].values()] == [None] + [gain] * 5
        assert errors.profile.tolist() == [[0] * 6] * 10
        top = error_analysis.top_false_positives(errors, result, given_ones, videos, CLASSES, 5)
        assert len(top) == len(given_ones)
        assert all((row["instance"], row["t-IoU"]) == (None, 0) for row in top)


def many_classes(classes: int, times: np.ndarray, found_times: np.ndarray):
    """Return an error analysis of an instance and a detection of each class in one video."""
    labels = np.arange(classes)
    truth = Video("many", 1000.0, labels, times, labels, np.empty((0, 2)))
    found = Segments(np.zeros(classes, int), labels, *found_times.T, labels / classes)
    rules = protocols.get("official")
    result = detection_map.evaluate((truth,), found, rules, classes, TimeGrid())
    return error_analysis.analyze_errors(result)


def test_very_many_classes_are_analyzed_without_all_pairs(monkeypatch):
    monkeypatch.setattr(segment_arrays, "_MOST_PAIRS", 5000)
    times = np.tile([10.0, 20.0], (1000, 1))
    assert set(kinds_of(many_classes(1000, times, times))) == {"true positive"}
    moved = np.tile([13.0, 23.0], (1000, 1))  # a t-IoU of 7 / 13
    assert set(kinds_of(many_classes(1000, times, moved))) == {"true positive"}
    background = many_classes(1000, times, np.tile([19.5, 29.5], (1000, 1)))
    assert set(kinds_of(background)) == {"background"}
    np.testing.assert_allclose(background.overlap, 0.5 / 19.5)


def test_too_many_pairs_are_one_line(monkeypatch):
    monkeypatch.setattr(segment_arrays, "_MOST_PAIRS", 5000)
    start = np.arange(1000) / 100
    times, found = np.stack([start, start + 20], 1), np.stack([start, start + 1], 1)
    with pytest.raises(JaxtalError, match=r"1,000 segments overlap 1,000 others in .* pairs"):
        many_classes(1000, times, found)
