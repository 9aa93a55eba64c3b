"""Localisation against plain loops, and at its edges."""

import numpy as np
import pytest

from configs import co2net_thumos, d2net_anet12, d2net_thumos
from jaxtal import localization
from jaxtal.localization import (
    LocalizationConfig,
    hard_nms,
    outer_inner_contrast,
    runs,
    soft_nms,
    top_mean,
)
from jaxtal.methods import co2net, d2net


def loop_localize(cas, attention, config: LocalizationConfig) -> list[tuple]:
    """METHODS 2.e, step by step, one threshold, class and run at a time."""
    time, columns = cas.shape
    z = attention[:, None] * cas
    k = max(1, time // config.topk_divisor)
    pooled = np.array([np.sort(z[:, c])[::-1][:k].mean() for c in range(columns)])
    probability = np.exp(pooled - pooled.max())
    probability = (probability / probability.sum())[:-1]
    classes = [c for c in range(columns - 1) if probability[c] >= config.class_threshold]
    found = []
    for c in classes or [int(probability.argmax())]:
        proposals = []
        for threshold in np.linspace(*config.thresholds):
            positions = [t for t in range(time) if attention[t] > threshold]
            if positions == [0] and config.skip_lone_zero:
                continue
            while positions:
                run = [positions.pop(0)]
                while positions and positions[0] == run[-1] + 1:
                    run.append(positions.pop(0))
                n, first, last = len(run), run[0], run[-1]
                outside = [t for t in range(first - int(np.ceil(n / 4)), first) if t >= 0]
                outside += [t for t in range(last + 1, last + 1 + n // 4) if t < time]
                outer = np.mean(z[outside, c]) if outside else 0.0
                score = z[run, c].mean() - outer + config.class_weight * probability[c]
                proposals.append([first, last + 1, score])
        while proposals:
            best = max(range(len(proposals)), key=lambda i: (proposals[i][2], -i))
            s, e, score = proposals.pop(best)
            found.append((c, s, e, score))
            for other in proposals:
                inter = max(0, min(e, other[1]) - max(s, other[0]) + 1)
                iou = inter / ((e - s + 1) + (other[1] - other[0] + 1) - inter)
                other[2] *= np.exp(-(iou**2) / config.sigma)
    return found


def co2(cas, attention, **fields):
    """CO2-Net's localisation with some numbers changed."""
    config = co2net_thumos.get_config()
    config.localization.update(fields)
    return co2net.localize({"cas": cas, "attention": attention[:, None]}, config)


def draw(seed: int, time: int):
    rng = np.random.default_rng(seed)
    smooth = np.convolve(rng.normal(size=time + 4), np.ones(5) / 2.2, "valid")
    return rng.normal(size=(time, 6)) * 2, 1 / (1 + np.exp(-2 * smooth))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("time", [1, 2, 7, 60, 173])
def test_equal_to_the_loops(seed, time):
    cas, attention = draw(seed, time)
    wanted = loop_localize(cas, attention, LocalizationConfig())
    ours = co2(cas, attention)
    assert len(ours) == len(wanted)
    rows = list(zip(ours.label, ours.start, ours.end, ours.score, strict=True))
    np.testing.assert_allclose(np.reshape(rows, (-1, 4)), np.reshape(wanted, (-1, 4)), atol=1e-9)


def test_runs():
    above = np.array([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
    row, start, end = runs(above)
    assert list(zip(row, start, end, strict=True)) == [(0, 1, 3), (0, 4, 5), (1, 0, 5)]


def test_contrast_of_a_segment_that_fills_the_video_has_no_outside():
    sequence = np.arange(8.0)[:, None]
    whole = outer_inner_contrast(sequence, np.array([0]), np.array([8]))
    assert whole[0, 0] == pytest.approx(3.5)
    # 4 snippets: one on the left, one on the right, one mean over both.
    part = outer_inner_contrast(sequence, np.array([2]), np.array([6]))
    assert part[0, 0] == pytest.approx(3.5 - (1 + 6) / 2)


def test_a_lone_first_snippet_is_ignored_unless_asked_for():
    attention = np.array([0.95, 0.05, 0.05])
    cas = np.ones((3, 3))
    assert len(co2(cas, attention)) == 0
    assert len(co2(cas, attention, skip_lone_zero=False)) > 0


def test_no_attention_gives_no_detections():
    assert len(co2(np.ones((5, 3)), np.zeros(5))) == 0


def test_weak_detections_can_be_dropped():
    cas, attention = draw(1, 90)
    every = co2(cas, attention)
    some = co2(cas, attention, min_score=0.5)
    assert 0 < len(some) < len(every)
    assert (some.score >= 0.5).all()


def test_soft_nms_of_far_segments_changes_no_score_and_handles_complete_overlap():
    start, end = np.array([0, 100, 200]), np.array([10, 110, 210])
    order, score = soft_nms(start, end, np.array([[1.0, 3.0, 2.0]]), 0.3)
    assert order.tolist() == [[1, 2, 0]]
    assert score.tolist() == [[3.0, 2.0, 1.0]]
    _, score = soft_nms(np.zeros(3), np.ones(3), np.ones((1, 3)), 1e-300)
    assert np.isfinite(score[0, 0])
    assert (score[0, 1:] < 1e-300).all()


def test_top_mean():
    assert top_mean(np.array([[1.0], [5.0], [3.0]]), 2) == [4.0]


def loop_d2(cas, attention, anet: bool = False) -> list[tuple]:
    """METHODS 3.e, step by step: (class, start, end, score)."""
    time, classes = cas.shape
    if anet:
        attention = 2 * attention / attention.max()
    r = cas * attention[:, None]
    k = max(1, time // (4 if anet else 8))
    score = [np.sort(r[:, c])[::-1][:k].mean() for c in range(classes)]
    if anet:
        floor = max(1 if max(score) > 1 else 0.5, sorted(score)[-3])
        selected = [c for c in range(classes) if score[c] > floor]
    else:
        selected = [c for c in range(classes) if score[c] > max(score) / 2 and score[c] > 0]
    found = []
    for c in selected:
        proposals = []
        for step in range(1, 20):
            above = [*(r[:, c] > step / 40), False]
            start = None
            for t, inside in enumerate(above):
                if inside and start is None:
                    start = t
                if not inside and start is not None:
                    proposals.append((start, t))
                    start = None
        scored = []
        for s, e in proposals:
            if e - s < 2:
                continue
            width = max(1, (e - s) // 4)
            sides = [r[max(0, s - width) : s, c], r[e : min(time, e + width), c]]
            means = [side.mean() for side in sides if len(side)]
            inner = r[s:e, c].mean()
            if means and (np.mean(means) - inner + 1) / 2 > 0.7:
                continue
            scored.append((inner - np.mean(means) if means else inner, s, e))
        scored.sort(key=lambda p: -p[0])
        kept = []
        for value, s, e in scored:
            ranges = [set(range(a, b)) for _, a, b in kept]
            mine = set(range(s, e))
            if all(len(mine & other) / len(mine | other) < 0.3 for other in ranges):
                kept.append((value, s, e))
        found += [(c, s, e, v) for v, s, e in kept if v >= 0.1 * kept[0][0]]
    return found


@pytest.mark.parametrize("anet", [False, True])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("time", [1, 2, 7, 60, 173])
def test_d2net_equal_to_the_loops(seed, time, anet):
    logits, attention = draw(seed, time)
    smooth = np.apply_along_axis(lambda x: np.convolve(x, np.ones(5) / 3, "same"), 0, logits)
    cas = 1 / (1 + np.exp(-smooth[:time]))
    config = (d2net_anet12 if anet else d2net_thumos).get_config()
    ours = d2net.localize({"cas": cas, "attention": attention[:, None]}, config)
    wanted = loop_d2(cas, attention, anet)
    rows = list(zip(ours.label, ours.start, ours.end, ours.score, strict=True))
    np.testing.assert_allclose(np.reshape(rows, (-1, 4)), np.reshape(wanted, (-1, 4)), atol=1e-9)


def test_flanks_by_sides():
    sequence = np.arange(8.0)[:, None]
    start, end = np.array([0, 1, 0, 5]), np.array([8, 6, 2, 8])
    ours = outer_inner_contrast(sequence, start, end, 0.25, "sides")[:, 0]
    # No side; one snippet on either; one on the right only; one on the left only.
    np.testing.assert_allclose(ours, [3.5, 3 - (0 + 6) / 2, 0.5 - 2, 6 - 4])


def test_hard_nms_keeps_the_best_of_what_overlaps():
    start, end = np.array([0.0, 1, 10, 6]), np.array([10.0, 11, 20, 10])
    kept = hard_nms(start, end, np.array([1.0, 2, 0.5, 0.7]), 0.4)
    assert kept.tolist() == [1, 2]  # the last overlaps the second by 4 / 10, not by less
    assert hard_nms(start, end, np.array([1.0, 2, 0.5, 0.7]), 0.41).tolist() == [1, 3, 2]
    assert hard_nms(start[:0], end[:0], start[:0], 0.5).tolist() == []


def test_what_lies_lower_than_its_surroundings_is_dropped():
    """The gate finds two segments, the sequence is far lower inside the second than outside it."""
    gate = np.array([[0.0], [1], [1], [0], [0], [1], [1], [0]])
    sequence = np.array([[0.1], [0.9], [0.9], [0.1], [0.9], [0.3], [0.3], [0.9]])
    scores = np.ones(1)
    for least, wanted in ((None, 2), (-0.7, 2), (-0.4, 1)):
        settings = LocalizationConfig(
            thresholds=(0.5, 0.5, 1), min_contrast=least, class_weight=5.0, outer="sides"
        )
        found = localization.localize(sequence, gate, scores, settings)
        assert len(found) == wanted
    np.testing.assert_allclose(found.score, 5 + 0.9 - 0.1)


def test_class_rules():
    rules = localization.CLASS_RULES
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


def test_what_is_weak_beside_the_best():
    """Of the same class, or of the whole video; a negative best leaves nothing."""
    rng = np.random.default_rng(0)
    activity = rng.random((80, 3)) * [0.9, 0.3, 0.2]
    scores = np.ones(3)

    def found(**fields):
        fields = {"class_threshold": 0.5, "class_weight": 0.0, "nms": "hard", **fields}
        settings = LocalizationConfig(thresholds=(0.01, 0.8, 9), **fields)
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


def test_what_equals_a_threshold():
    sequence = np.array([[0.2, 0.5, 0.5, 0.2, 0.8]]).T
    fields = {"thresholds": (0.5, 0.5, 1), "class_rule": "above", "nms": "hard"}
    for inclusive, wanted in ((False, [(4, 5)]), (True, [(1, 3), (4, 5)])):
        config = LocalizationConfig(inclusive=inclusive, **fields)
        found = localization.localize(sequence, sequence, np.array([0.9]), config)
        assert sorted(zip(found.start, found.end, strict=True)) == wanted


def test_what_equals_the_class_threshold():
    for score, above, more in (
        ([0.1, 0.3, 0.05], [0, 1], [1]),
        ([0.1, 0.1, 0.05], [0, 1], [0]),  # nothing exceeds it: the first of the best
        ([0.01, 0.02, 0.05], [2], [2]),
    ):
        for rule, wanted in (("above", above), ("more_than", more)):
            chosen = localization.CLASS_RULES[rule](np.array(score), 0.1)
            assert np.flatnonzero(chosen).tolist() == wanted


def test_upsampling_by_hand():
    sequence = np.array([[0.0, 1.0], [2.0, 1.0], [1.0, 3.0]])
    wanted = [[0, 1], [1, 1], [2, 1], [1.5, 2], [1, 3], [0.5, 4]]  # the last slope goes on
    np.testing.assert_array_equal(localization.upsample(sequence, 2), wanted)
    np.testing.assert_array_equal(localization.upsample(sequence[:1], 3), [[0, 1]] * 3)
    assert localization.upsample(sequence, 1) is sequence
