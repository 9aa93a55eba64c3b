"""Data of the page's script: the best detections, curves, picked videos."""

import base64
import dataclasses
import json
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtal.data.dataset import TimeGrid
from jaxtal.evaluation import error_analysis
from jaxtal.reporting import video_browser
from jaxtal.reporting.runs import groups
from tests.helpers.drawn_runs import drawn_runs


@pytest.fixture(scope="module")
def runs():
    return drawn_runs(6, 2, classes=8)


@pytest.fixture(scope="module")
def shown(runs):
    """Return the script's data, with every detection."""
    with mock.patch.object(video_browser, "DETECTIONS", 10**6):
        (group,) = video_browser.content(groups(runs), most=100)["groups"]
    return group


@given(st.integers(1, 300), st.integers(1, 300))
def test_videos_are_picked_evenly(count, most):
    picked = np.array(video_browser.pick(count, most))
    assert len(picked) == min(count, most)
    assert picked[0] == 0
    assert picked[-1] < count
    assert set(np.diff(picked)) <= {count // len(picked), -(-count // len(picked))}


def test_everything_is_json_without_nan(runs):
    json.dumps(video_browser.content(groups(runs), most=3), allow_nan=False)


def test_ground_truth(runs, shown):
    assert shown["classes"] == list(runs[0].truth.classes)
    for video, wanted in zip(shown["videos"], runs[0].truth.test, strict=True):
        assert (video["name"], video["duration"]) == (wanted.name, round(wanted.duration, 2))
        labels, *times = zip(*video["truth"], strict=True)
        assert [*labels] == wanted.segment_labels.tolist()
        np.testing.assert_allclose(np.transpose(times), wanted.segments, atol=0.0051)
        np.testing.assert_allclose(
            np.reshape(video["ambiguous"], (-1, 2)), wanted.ambiguous, atol=0.0051
        )


def test_the_best_detections_of_every_video(runs, shown, monkeypatch):
    model = runs[1].models[0]
    monkeypatch.setattr(video_browser, "DETECTIONS", 5)
    (few,) = video_browser.content(groups(runs), most=100)["groups"]
    for index, (video, cut) in enumerate(zip(shown["videos"], few["videos"], strict=True)):
        own = model.found.take(model.found.video == index)
        found = video["found"][1]
        assert found["all"] == len(own) == len(found["score"])
        order = np.argsort(-own.score, kind="stable")
        np.testing.assert_allclose(found["score"], own.score[order], rtol=5.1e-4)
        np.testing.assert_allclose(found["start"], own.start[order], atol=0.0051)
        np.testing.assert_allclose(found["end"], own.end[order], atol=0.0051)
        assert found["label"] == own.label[order].tolist()
        assert cut["found"][1]["score"] == found["score"][:5]
        assert cut["found"][1]["all"] == len(own)


def test_true_positives_are_the_matched_instances(runs, shown):
    for index, run in enumerate(runs):
        (model,) = run.models
        kinds = [kind for video in shown["videos"] for kind in video["found"][index]["kind"]]
        half = model.evaluation.protocol.thresholds.index(0.5)
        assert kinds.count(0) == (model.evaluation.matched_detection[half] >= 0).sum() > 0


def test_detections_that_the_protocol_excludes_have_a_kind_of_their_own(runs):
    model = dataclasses.replace(runs[0].models[0], protocol="thumos_co2")
    left_out = model.evaluation.left_out["ambiguous"]
    assert (model.kind == len(error_analysis.ERROR_TYPES)).sum() == left_out > 0


def test_a_share_of_the_detections_is_kept(runs, shown):
    for index, about in enumerate(shown["models"]):
        scores = [score for video in shown["videos"] for score in video["found"][index]["score"]]
        assert about["count"] == len(scores)
        assert about["range"] == [min(scores), max(scores)]
        for share, least in zip(video_browser.SHARES, about["least"], strict=True):
            kept = sum(score >= least for score in scores)
            # Rounded scores may tie at the threshold.
            assert 0 <= kept - share / 100 * len(scores) < 1 + scores.count(least)


def unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8) / 255


def test_curves_are_means_over_even_spans(runs, shown, monkeypatch):
    monkeypatch.setattr(video_browser, "POINTS", 40)
    (coarse,) = video_browser.content(groups(runs), most=100)["groups"]
    curves = runs[0].models[0].curves
    for index, video in enumerate(coarse["videos"]):
        output = curves.saved.outputs[index]
        activation = curves.score_spec.activations(output)
        width = -(-len(activation) // 40)
        assert width > 1
        spans = [slice(begin, begin + width) for begin in range(0, len(activation), width)]
        drawn = video["curves"][0]
        wanted = {None: output["attention"][:, 0]}
        wanted |= {label: activation[:, label] for label, _ in drawn["classes"]}
        for label, text in [(None, drawn["attention"]), *drawn["classes"]]:
            means = [wanted[label][span].mean() for span in spans]
            np.testing.assert_allclose(unpacked(text), means, atol=0.5 / 255 + 1e-6)
        assert drawn["span"][0] == round(0.64 * width / 2, 2)
        fine = shown["videos"][index]["curves"][0]
        assert len(unpacked(fine["attention"])) > len(spans)


def test_curves_of_annotated_and_found_classes(runs, shown):
    for index, video in enumerate(shown["videos"]):
        annotated = runs[0].truth.test[index].segment_labels
        labels = [label for label, _ in video["curves"][0]["classes"]]
        assert set(annotated) <= set(labels) <= {*annotated, *video["found"][0]["label"]}
        assert len(set(labels)) == len(labels) <= video_browser.CLASSES


def test_curves_lie_where_the_rows_do(runs):
    """40 rows of 10 s in 80 snippets of 5 s; the first window begins 2.5 s before its middle."""
    model = runs[0].models[0]
    rng = np.random.default_rng(0)
    output = {"cas": rng.normal(size=(40, 9)), "attention": rng.random((40, 1))}
    saved = dataclasses.replace(
        model.curves.saved, outputs=[output] + [{}] * 5, snippets=np.array([80] + [1] * 5),
        grid=TimeGrid(1.0, 5, 15),
    )  # fmt: skip
    model = dataclasses.replace(model, curves=model.curves._replace(saved=saved))
    run = dataclasses.replace(runs[0], models=[model])
    (group,) = video_browser.content(groups([run]), most=100)["groups"]
    first, *others = [video["curves"][0] for video in group["videos"]]
    assert first["span"] == [10.0, 400.0]  # 5 s before the first snippet, rows' middles
    np.testing.assert_allclose(unpacked(first["attention"]), output["attention"][:, 0], atol=0.002)
    assert others == [None] * 5  # videos without outputs
