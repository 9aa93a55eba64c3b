"""D2-Net's losses, localization and evaluation against the published program."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import d2net_anet12, d2net_thumos
from jaxtal.data.dataset import TimeGrid, Video
from jaxtal.data.layouts import wtalc
from jaxtal.data.segments import Segments
from jaxtal.evaluation import detection_map, protocols
from jaxtal.input_pipeline.packing import Batch
from jaxtal.localization import proposals
from jaxtal.methods import d2net
from jaxtal.nn import discriminative_loss
from jaxtal.nn.mutual_information import joint_matrix, log_singular_values, pdmi
from tests.helpers.contexts import context
from tests.parity.compare import close
from tests.parity.test_co2net_functions import ambiguous_intervals, assert_same_order, cases
from tests.parity.test_d2net_network import pairing_from


def test_snippet_level_pdmi(golden):
    gold = golden("fn_d2")
    for case in cases(gold, "pdmi_", "_label"):
        labels = jax.nn.one_hot(gold[f"pdmi_{case}_label"].astype(int), 2)

        def loss(predictions, labels=labels):
            return pdmi(joint_matrix(labels, predictions, conditional=True))

        predictions = jnp.asarray(gold[f"pdmi_{case}_pred"])
        value, gradient = jax.value_and_grad(loss)(predictions)
        np.testing.assert_allclose(value, gold[f"pdmi_{case}_value"], rtol=1e-4)
        close(gradient, gold[f"pdmi_{case}_grad"], 1e-3)


def test_video_level_pdmi(golden):
    gold = golden("fn_d2")
    for case in cases(gold, "vdmi_", "_label"):
        labels = jnp.asarray(gold[f"vdmi_{case}_label"])

        def joint(predictions, labels=labels):
            return joint_matrix(labels, predictions, conditional=True)

        predictions = jnp.asarray(gold[f"vdmi_{case}_pred"])
        value, gradient = jax.value_and_grad(lambda x: pdmi(joint(x), 1e-5))(predictions)
        np.testing.assert_allclose(value, gold[f"vdmi_{case}_value"], rtol=1e-4)
        close(gradient, gold[f"vdmi_{case}_grad"], 1e-3)
        ours = np.exp(log_singular_values(joint(predictions)))
        close(ours, gold[f"vdmi_{case}_singular_values"], 1e-5)


@pytest.fixture
def discriminative_case(golden, monkeypatch) -> types.SimpleNamespace:
    """Return the terms of the file's batch as a function of T-CAM and embeddings."""
    gold = golden("fn_d2")
    draws = [jnp.asarray(gold[f"dis_perm_{i}"]) for i in range(4)]
    monkeypatch.setattr(
        discriminative_loss, "draw_pairing", lambda key, fg, bg, pairs: pairing_from(draws, fg, bg)
    )
    config = d2net_thumos.get_config()
    config.loss.update(denoising_start=0, denoising_every=1)
    cas, embeddings = jnp.asarray(gold["dis_tcam"]), jnp.asarray(gold["dis_feat"])
    mask = jnp.arange(cas.shape[1])[None] < gold["dis_seq_len"][:, None]
    batch = Batch(embeddings, mask, jnp.asarray(gold["dis_y"]))
    state = {"running": {"background": jnp.asarray(gold["dis_bg_before"])}}

    def terms(cas, embeddings):
        outputs = {"cas": cas, "embeddings": embeddings}
        return d2net.loss_terms(outputs, batch, context(state), config)

    return types.SimpleNamespace(gold=gold, terms=terms, cas=cas, embeddings=embeddings, mask=mask)


def test_discriminative_loss(discriminative_case):
    case, gold = discriminative_case, discriminative_case.gold
    terms, state = case.terms(case.cas, case.embeddings)
    np.testing.assert_allclose(terms["discriminative"], gold["dis_loss"], rtol=1e-4)
    np.testing.assert_allclose(terms["video_denoising"], gold["dis_pdmi_video_pdmi"], rtol=1e-4)
    background = state["running"]["background"]
    for name in ("dis_bg_after", "dis_pdmi_bg_after"):
        np.testing.assert_allclose(background, gold[name], rtol=1e-4, atol=1e-5)
    bottom_up = discriminative_loss.bottom_up_attention(case.embeddings, background)
    np.testing.assert_allclose(
        bottom_up[case.mask], gold["bottom_up"][np.asarray(case.mask)], rtol=1e-4, atol=1e-5
    )
    for weight, name in ((0.0, "dis"), (0.1, "dis_pdmi")):

        def loss(cas, embeddings, weight=weight):
            terms, _ = case.terms(cas, embeddings)
            return terms["discriminative"] + weight * terms["video_denoising"]

        by_cas, by_embedding = jax.grad(loss, (0, 1))(case.cas, case.embeddings)
        close(by_cas, gold[f"{name}_grad_tcam"], 1e-3)
        close(by_embedding, gold[f"{name}_grad_feat"], 1e-3)


def test_snippet_level_loss(discriminative_case):
    case, gold = discriminative_case, discriminative_case.gold

    def loss(cas, embeddings):
        return case.terms(cas, embeddings)[0]["snippet_denoising"]

    value, (by_cas, by_embedding) = jax.value_and_grad(loss, (0, 1))(case.cas, case.embeddings)
    np.testing.assert_allclose(value, gold["snip_pdmi_loss"], rtol=1e-4)
    close(by_cas, gold["snip_pdmi_grad_tcam"], 1e-3)
    assert gold["snip_pdmi_grad_feat_is_none"]
    assert not np.any(by_embedding)


@pytest.mark.parametrize(
    ("prefix", "config"), [("v", d2net_thumos), ("anet_v", d2net_anet12)], ids=["thumos", "anet"]
)
def test_localization(golden, prefix, config):
    gold = golden("loc_d2")
    settings = d2net.D2Localization(**config.get_config().localization)
    some_found = False
    for case in cases(gold, prefix, "_refined_tcam"):
        refined = gold[f"{prefix}{case}_refined_tcam"].astype(float)
        scores = proposals.topk_mean(refined, max(1, len(refined) // settings.topk_divisor))
        found = proposals.localize(refined, refined, scores, settings)
        if prefix == "anet_v":
            selected = gold[f"anet_v{case}_selected_classes"]
            rule = proposals.CLASS_RULES[settings.class_rule]
            assert np.flatnonzero(rule(scores, settings.class_threshold)).tolist() == list(selected)
            found = found.take(np.isin(found.label, gold["anet_evaluated_classes"]))
        else:
            name = str(gold[f"v{case}_name"])
            intervals = ambiguous_intervals(name)
            video = Video(name, 1e9, *[np.empty(0, int)] * 3, intervals)
            found = found.take(~detection_map.touches_ambiguous(found, (video,), TimeGrid()))
        label, start, end, score = gold[f"{prefix}{case}_proposals"].reshape(-1, 4).T
        ours = np.stack([found.start, found.end, found.label, found.score], axis=1)
        assert len(ours) == len(label)
        assert_same_order(ours, np.stack([start, end, label, score], axis=1))
        some_found |= len(ours) > 0
    assert some_found


def columns(gold: dict, part: str, start, end) -> Segments:
    score = gold["det_score"] if part == "det" else np.ones(len(start))
    return Segments(
        gold[f"{part}_video"].astype(int), gold[f"{part}_class"].astype(int),
        start.astype(float), end.astype(float), score,
    )  # fmt: skip


def evaluation_case(gold: dict) -> tuple[tuple[Video, ...], Segments]:
    """Return the file's videos with their ground truth, and the detections."""
    times = np.stack([gold["gt_start_norm"], gold["gt_end_norm"]], axis=1)
    times = times * gold["duration"][gold["gt_video"], None]
    labels = gold["gt_class"].astype(int)
    videos = []
    for index, (name, duration) in enumerate(zip(gold["videos"], gold["duration"], strict=True)):
        mine = gold["gt_video"] == index
        videos.append(
            Video(str(name), float(duration), np.unique(labels[mine]), times[mine], labels[mine],
                  np.empty((0, 2)))
        )  # fmt: skip
    return tuple(videos), columns(gold, "det", gold["det_start"], gold["det_end"])


@pytest.mark.parametrize("skip", ["map", "map_class7_empty_official", "map_class7_empty_fixed"])
def test_detection_map(golden, skip):
    gold = golden("eval_d2")
    videos, detections = evaluation_case(gold)
    if skip != "map":
        detections = detections.take(detections.label != 7)
    protocol = protocols.get(
        "thumos_d2+stop_at_empty_class" if skip.endswith("official") else "thumos_d2"
    )
    np.testing.assert_allclose(protocol.thresholds, gold["tiou"])
    grid = TimeGrid()
    seconds = detections.with_times(grid.to_seconds)
    result = detection_map.evaluate(videos, seconds, protocol, 20, grid).summary()
    ours = 100 * np.array(list(result["map"].values()))
    np.testing.assert_allclose(ours, gold[skip], rtol=0, atol=1e-9)
    if skip == "map":
        truth = columns(gold, "gt", *(
            TimeGrid().round_to_snippets(
                gold[f"gt_{side}_norm"] * gold["duration"][gold["gt_video"]]
            )
            for side in ("start", "end")
        ))  # fmt: skip
        ap = detection_map.average_precision(truth, detections, gold["tiou"], 20, "first")
        np.testing.assert_allclose(ap, gold["ap"] / (100 if gold["ap"].max() > 1 else 1), atol=1e-9)


def test_the_reduced_list_of_instances(golden, thumos14):
    """The instances of labeled classes equal the file's, each to within a snippet."""
    gold = golden("eval_d2")
    data = wtalc.read(thumos14, "Thumos14reduced", features=False)
    truth = detection_map.labeled_instances(data.test)
    assert (len(truth), len(np.unique(truth.video))) == (3234, 210)
    names = [video.name for video in data.test]
    assert names == [str(name) for name in gold["videos"]]
    times = [gold[f"gt_{side}_norm"] * gold["duration"][gold["gt_video"]] for side in
             ("start", "end")]  # fmt: skip
    wanted = np.stack([gold["gt_video"], gold["gt_class"], *times], axis=1)
    ours = np.stack([truth.video, truth.label, truth.start, truth.end], axis=1)
    ours, wanted = (rows[np.lexsort(rows.T[::-1])] for rows in (ours, wanted))
    np.testing.assert_array_equal(ours[:, :2], wanted[:, :2])
    assert np.abs(ours[:, 2:] - wanted[:, 2:]).max() < 0.64
