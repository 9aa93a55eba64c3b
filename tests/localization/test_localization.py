"""Localization against plain loops over rows, and edge cases."""

import dataclasses
import functools
import unittest.mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.baselines import python_loops
from configs import co2net_thumos
from jaxtal import localization
from jaxtal.data.segments import concatenate
from jaxtal.localization import nms
from jaxtal.localization.proposals import (
    CLASS_RULES,
    generate_proposals,
    outer_inner_contrast,
    threshold_runs,
    topk_mean,
    upsample,
)
from jaxtal.methods import co2net
from tests.helpers.localizing import localize
from tests.helpers.localizing import settings as localization_config


def co2(cas, attention, **fields):
    """Localize as CO2-Net does, with some fields changed."""
    config = co2net_thumos.get_config()
    config.localization.update(fields)
    return localize(co2net.METHOD, {"cas": cas, "attention": attention[:, None]}, config)


def draw(seed: int, time: int):
    rng = np.random.default_rng(seed)
    smooth = np.convolve(rng.normal(size=time + 4), np.ones(5) / 2.2, "valid")
    return rng.normal(size=(time, 6)) * 2, 1 / (1 + np.exp(-2 * smooth))


SETTINGS = st.builds(
    localization_config,
    thresholds=st.sampled_from([(0.125, 0.875, 7), (0.5, 0.5, 1), (0.25, 0.75, 2)]),
    inclusive=st.booleans(),
    upsample=st.sampled_from([1, 4]),
    min_length=st.integers(1, 3),
    drop_first_snippet_only=st.booleans(),
    class_rule=st.sampled_from(list(CLASS_RULES)),
    class_threshold=st.sampled_from([0.25, 0.5]),
    class_weight=st.sampled_from([0.0, 0.25, -2.0]),
    outer_ratio=st.sampled_from([0.0, 0.25, 0.5]),
    outer=st.sampled_from(["joint", "sides"]),
    min_contrast=st.sampled_from([None, 0.0]),
    nms=st.sampled_from(list(nms.NMS)),
    sigma=st.sampled_from([0.3, 2.0]),
    nms_threshold=st.sampled_from([0.3, 0.5]),
    inclusive_iou=st.booleans(),
    min_score=st.sampled_from([None, 0.1]),
    relative_score=st.sampled_from([None, 0.5]),
    relative_to=st.sampled_from(["class", "video"]),
)


@settings(max_examples=400, deadline=None)
@given(
    config=SETTINGS,
    seed=st.integers(0, 2**20),
    time=st.integers(1, 60),
    levels=st.sampled_from([1, 2, 16]),
    shared=st.booleans(),
)
def test_equal_to_the_row_loops(config, seed, time, levels, shared):
    """Compare all columns bit by bit; on this grid sums are exact and ties are frequent."""
    rng = np.random.default_rng(seed)
    sequence = rng.integers(-levels, levels + 1, (time, 4)) / 16
    gate = rng.integers(0, levels + 1, (time, 1 if shared else 4)) / 16 * (1 if levels == 16 else 8)
    scores = rng.integers(0, 9, 4) / 8
    ours = localization.localize(sequence, gate, scores, config)
    rows = list(zip(ours.label, ours.start, ours.end, ours.score, strict=True))
    assert rows == python_loops.localize(sequence, gate, scores, config)


@settings(max_examples=40, deadline=None)
@given(config=SETTINGS, seed=st.integers(0, 2**20), count=st.integers(0, 6))
def test_many_videos_at_once_equal_single_videos(config, seed, count):
    rng = np.random.default_rng(seed)
    alone, proposals = [], []
    for video in range(count):
        sequence = rng.normal(size=(int(rng.integers(1, 90)), 3))
        scores = rng.random(3)
        parts = [
            function(sequence, sequence, scores, config)
            for function in (localization.localize, generate_proposals)
        ]
        for found, part in zip((alone, proposals), parts, strict=True):
            found.append(dataclasses.replace(part, video=part.video + video))
    together = nms.apply_nms(concatenate(proposals), config)
    for field in dataclasses.fields(together):
        wanted = getattr(concatenate(alone), field.name)
        np.testing.assert_array_equal(getattr(together, field.name), wanted)


@settings(max_examples=100, deadline=None)
@given(
    config=SETTINGS,
    seed=st.integers(0, 2**20),
    count=st.integers(1, 90),
    block=st.sampled_from([4, 100, 1 << 16]),
    steps=st.sampled_from([2, 5, 32]),
)
def test_nms_of_any_segments(config, seed, count, block, steps):
    """Segments that are not nested, in any order, with gaps below 1, ties and raised scores."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 120, count) / 4
    end = start + rng.integers(1, 40, count) / 4
    score, group = rng.integers(-3, 4, count) / 4, 7 * rng.integers(0, 3, count)
    with unittest.mock.patch.multiple(nms, _BLOCK=block, _STEPS=steps):
        kept, groups, final = nms.nms(start, end, score, group, config)
    wanted = []
    for number in np.unique(group):
        mine = np.flatnonzero(group == number)
        rows = list(zip(start[mine], end[mine], score[mine], strict=True))
        wanted += [(number, *row) for row in python_loops.suppress(rows, config)]
    ours = list(zip(groups, start[kept], end[kept], final, strict=True))
    np.testing.assert_allclose(ours, wanted, rtol=1e-12)


def test_nms_of_scores_that_it_raises_to_equal_values():
    """The second and the third have equal final scores; the one given first is selected first."""
    start, end = np.array([10.0, 5, 0]), np.array([16.0, 11, 6])
    config = localization_config(inclusive_iou=False)
    score = np.array([-0.25, -0.25, 0])
    kept, _, final = nms.nms(start, end, score, np.zeros(3, int), config)
    wanted = python_loops.suppress(list(zip(start, end, score, strict=True)), config)
    assert list(zip(start[kept], end[kept], final, strict=True)) == wanted
    assert final[1] == final[2] < 0


def test_nms_of_times_far_apart():
    """A long time axis of one group does not reduce the precision of the others."""
    start, end = np.zeros(2000), np.full(2000, 5.0)
    end[0] = 1e13
    config = localization_config(nms="hard", nms_threshold=0.5)
    kept, _, _ = nms.nms(start, end, np.ones(2000), np.arange(2000) // 2, config)
    assert len(kept) == 1001


def test_a_score_that_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        nms.nms(
            np.zeros(2), np.ones(2), np.array([1, np.nan]), np.zeros(2, int), localization_config()
        )


def test_nan_is_above_no_threshold():
    gate = np.array([[0.9], [np.nan], [0.9]])
    config = localization_config(thresholds=(0.5, 0.5, 1))
    found = localization.localize(np.ones((3, 1)), gate, np.ones(1), config)
    assert sorted(zip(found.start, found.end, strict=True)) == [(0, 1), (2, 3)]


@pytest.mark.parametrize("name", list(nms.NMS))
def test_forms_of_nms_by_hand(name):
    """Two segments with t-IoU 1/2 and one far away."""
    start, end = np.array([0.0, 2.0, 40.0]), np.array([8.0, 8.0, 44.0])
    end[1] = 6
    score, group = np.array([0.9, 0.8, 0.5]), np.zeros(3, int)
    config = localization_config(nms=name, sigma=0.5, nms_threshold=0.5, inclusive_iou=False)
    kept, _, final = nms.nms(start, end, score, group, config)
    wanted = {
        "gaussian": ([0, 2, 1], [0.9, 0.5, 0.8 * np.exp(-0.5)]),
        "linear": ([0, 2, 1], [0.9, 0.5, 0.4]),
        "hard": ([0, 2], [0.9, 0.5]),
        "none": ([0, 1, 2], [0.9, 0.8, 0.5]),
    }
    assert kept.tolist() == wanted[name][0]
    np.testing.assert_allclose(final, wanted[name][1], rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("time", [0, 1, 2, 50])
def test_constant_activations(value, time):
    """One proposal per threshold that all activations exceed, none for an empty video."""
    sequence = np.full((time, 2), value)
    config = localization_config(thresholds=(0.25, 0.75, 2))
    found = localization.localize(sequence, sequence, np.ones(2), config)
    above = 0 if value == 0 or time == 0 else 1 if value == 0.5 else 2
    above = 0 if time == 1 else above  # only the first snippet
    assert len(found) == 2 * above
    assert (found.start == 0).all()
    assert (found.end == time).all()


def test_runs():
    level = np.array([[0, 1, 1, 0, 2], [1, 1, 3, 1, 1], [0, 0, 0, 0, 0]])
    row, threshold, start, end = threshold_runs(level)
    assert list(zip(row, threshold, start, end, strict=True)) == [
        (0, 0, 1, 3), (0, 0, 4, 5), (0, 1, 4, 5), (1, 0, 0, 5), (1, 1, 2, 3), (1, 2, 2, 3),
    ]  # fmt: skip


def test_contrast_of_a_segment_that_fills_the_video_has_no_outside():
    sequence = np.arange(8.0)[:, None]
    whole = outer_inner_contrast(sequence, np.array([0]), np.array([8]))
    assert whole[0] == pytest.approx(3.5)
    # 4 snippets: one on the left, one on the right, one mean over both.
    part = outer_inner_contrast(sequence, np.array([2]), np.array([6]))
    assert part[0] == pytest.approx(3.5 - (1 + 6) / 2)


def test_a_run_of_only_the_first_snippet_is_ignored_by_default():
    attention = np.array([0.95, 0.05, 0.05])
    cas = np.ones((3, 3))
    assert len(co2(cas, attention)) == 0
    assert len(co2(cas, attention, drop_first_snippet_only=False)) > 0


def test_no_attention_gives_no_detections():
    assert len(co2(np.ones((5, 3)), np.zeros(5))) == 0


def test_weak_detections_can_be_dropped():
    cas, attention = draw(1, 90)
    every = co2(cas, attention)
    some = co2(cas, attention, min_score=0.5)
    assert 0 < len(some) < len(every)
    assert (some.score >= 0.5).all()


def test_gaussian_nms_of_far_segments_changes_no_score_and_handles_complete_overlap():
    start, end, group = np.array([0, 100, 200]), np.array([10, 110, 210]), np.zeros(3, int)
    score = np.array([1.0, 3.0, 2.0])
    order, _, final = nms.nms(start, end, score, group, localization_config())
    assert order.tolist() == [1, 2, 0]
    assert final.tolist() == [3.0, 2.0, 1.0]
    narrow = localization_config(sigma=1e-300)
    _, _, final = nms.nms(np.zeros(3), np.ones(3), np.ones(3), group, narrow)
    assert np.isfinite(final[0])
    assert (final[1:] < 1e-300).all()


def test_top_mean():
    assert topk_mean(np.array([[1.0], [5.0], [3.0]]), 2) == [4.0]


def test_flanks_by_sides():
    sequence = np.arange(8.0)[:, None]
    start, end = np.array([0, 1, 0, 5]), np.array([8, 6, 2, 8])
    ours = outer_inner_contrast(sequence, start, end, 0, 0.25, "sides")
    # No flank; one snippet on both sides; one on the right only; one on the left only.
    np.testing.assert_allclose(ours, [3.5, 3 - (0 + 6) / 2, 0.5 - 2, 6 - 4])


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.25, 1.5])
@pytest.mark.parametrize("outer", ["symmetric", "padded"])
def test_flanks_with_parts_of_positions(outer, ratio):
    """Compare with loops over twentieths of positions."""
    rng = np.random.default_rng(0)
    sequence = rng.random((23, 3))
    edges = np.sort(rng.integers(0, 24, (300, 2)))
    start, end = edges[edges[:, 0] < edges[:, 1]].T
    column = rng.integers(3, size=len(start))
    ours = outer_inner_contrast(sequence, start, end, column, ratio, outer)
    fine = np.repeat(sequence, 20, axis=0)
    for first, last, c, value in zip(20 * start, 20 * end, column, ours, strict=True):
        flank = round(ratio * (last - first))
        around = [*range(first - flank, first), *range(last, last + flank)]
        inside = [at for at in around if 0 <= at < len(fine)]
        count = len(around) if outer == "padded" else len(inside)
        mean = sum(fine[at, c] for at in inside) / count if count else 0
        assert value == pytest.approx(fine[first:last, c].mean() - mean, abs=1e-12)


def test_printed_flanks_by_hand():
    """At the start of a video half of the outer region is missing."""
    sequence = np.array([1, 1, 1, 1, 1, 0.5, 0.5])[:, None]
    start, end = np.array([0]), np.array([5])
    contrast = functools.partial(outer_inner_contrast, sequence, start, end, 0, 0.2)
    assert (contrast("symmetric"), contrast("padded")) == (0.5, 0.75)
    # Rounded as in CO2-Net, a proposal of 2 positions has no right flank.
    sequence = np.array([0.2, 1, 1, 0.8, 0.2])[:, None]
    contrast = functools.partial(
        outer_inner_contrast, sequence, np.array([1]), np.array([3]), 0, 0.25
    )
    assert contrast("joint") == pytest.approx([0.8])
    assert contrast("symmetric") == pytest.approx([0.5])


def test_hard_nms_keeps_the_best_of_what_overlaps():
    start, end = np.array([0.0, 1, 10, 6]), np.array([10.0, 11, 20, 10])
    score = np.array([1.0, 2, 0.5, 0.7])

    def kept(threshold, n=4):
        config = localization_config(nms="hard", nms_threshold=threshold, inclusive_iou=False)
        return nms.nms(start[:n], end[:n], score[:n], np.zeros(n, int), config)[0].tolist()

    assert kept(0.4) == [1, 2]  # the last overlaps the second by exactly 4 / 10
    assert kept(0.41) == [1, 3, 2]
    assert kept(0.5, n=0) == []


def test_proposals_below_the_minimum_contrast_are_dropped():
    """The gate has two runs; the sequence is far lower inside the second run than outside."""
    gate = np.array([[0.0], [1], [1], [0], [0], [1], [1], [0]])
    sequence = np.array([[0.1], [0.9], [0.9], [0.1], [0.9], [0.3], [0.3], [0.9]])
    scores = np.ones(1)
    for least, wanted in ((None, 2), (-0.7, 2), (-0.4, 1)):
        settings = localization_config(
            thresholds=(0.5, 0.5, 1), min_contrast=least, class_weight=5.0, outer="sides"
        )
        found = localization.localize(sequence, gate, scores, settings)
        assert len(found) == wanted
    np.testing.assert_allclose(found.score, 5 + 0.9 - 0.1)


def test_class_rules():
    rules = CLASS_RULES
    score = np.array([0.1, 0.6, 0.9, 0.7])
    chosen = {
        "above": [[1, 2, 3], 0.6],
        "share_of_best": [[1, 2, 3], 0.5],
        "top_two": [[2, 3], 0.5],
    }
    for name, (wanted, threshold) in chosen.items():
        assert np.flatnonzero(rules[name](score, threshold)).tolist() == wanted, name
    assert np.flatnonzero(rules["above"](score, 0.95)).tolist() == [2]
    assert not rules["share_of_best"](-score, 0.5).any()
    assert not rules["top_two"](2 * score[:1], 0.5).any()  # 0.2
    assert np.flatnonzero(rules["top_two"](2 * score, 0.5)).tolist() == [2, 3]
    assert np.flatnonzero(rules["top_two"](1.2 * score, 0.5)).tolist() == [2]  # above 1 only


def test_relative_score_by_class_and_by_video():
    """A negative best score drops every detection."""
    rng = np.random.default_rng(0)
    activity = rng.random((80, 3)) * [0.9, 0.3, 0.2]
    scores = np.ones(3)

    def found(**fields):
        fields = {"class_threshold": 0.5, "class_weight": 0.0, "nms": "hard", **fields}
        settings = localization_config(thresholds=(0.01, 0.8, 9), **fields)
        return localization.localize(activity, activity, scores, settings)

    every = found()
    by_class = found(relative_score=0.5)
    by_video = found(relative_score=0.5, relative_to="video")
    assert len(every) > len(by_class) > len(by_video) > 0
    for label in range(3):
        best = every.score[every.label == label].max()
        kept = by_class.score[by_class.label == label]
        assert kept.tolist() == [s for s in every.score[every.label == label] if s >= 0.5 * best]
    assert by_video.score.min() >= 0.5 * every.score.max()
    assert len(found(relative_score=0.5, class_weight=-9.0)) == 0
    assert len(found(relative_score=0.5, class_weight=-9.0, relative_to="video")) == 0


def test_activations_equal_to_a_threshold():
    sequence = np.array([[0.2, 0.5, 0.5, 0.2, 0.8]]).T
    fields = {"thresholds": (0.5, 0.5, 1), "class_rule": "above", "nms": "hard"}
    for inclusive, wanted in ((False, [(4, 5)]), (True, [(1, 3), (4, 5)])):
        config = localization_config(inclusive=inclusive, **fields)
        found = localization.localize(sequence, sequence, np.array([0.9]), config)
        assert sorted(zip(found.start, found.end, strict=True)) == wanted


def test_class_scores_equal_to_the_threshold():
    for score, above, more in (
        ([0.1, 0.3, 0.05], [0, 1], [1]),
        ([0.1, 0.1, 0.05], [0, 1], [0]),  # none exceeds it: the first of the best
        ([0.01, 0.02, 0.05], [2], [2]),
    ):
        for rule, wanted in (("above", above), ("more_than", more)):
            chosen = CLASS_RULES[rule](np.array(score), 0.1)
            assert np.flatnonzero(chosen).tolist() == wanted


def test_upsampling_by_hand():
    sequence = np.array([[0.0, 1.0], [2.0, 1.0], [1.0, 3.0]])
    wanted = [[0, 1], [1, 1], [2, 1], [1.5, 2], [1, 3], [0.5, 4]]  # the last slope continues
    np.testing.assert_array_equal(upsample(sequence, 2), wanted)
    np.testing.assert_array_equal(upsample(sequence[:1], 3), [[0, 1]] * 3)
    assert upsample(sequence, 1) is sequence
