"""CO2-Net's losses, sampling, localization and evaluation against the published program."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import co2net_thumos
from jaxtal.data.dataset import TimeGrid, Video
from jaxtal.data.layouts import wtalc
from jaxtal.data.segments import Segments, ground_truth
from jaxtal.evaluation import detection_map
from jaxtal.input_pipeline import sampling
from jaxtal.localization import nms, proposals
from jaxtal.methods import co2net
from jaxtal.nn import losses
from tests.conftest import GOLDEN
from tests.helpers.localizing import localize
from tests.helpers.localizing import settings as localization_config
from tests.parity.compare import close


def cases(gold: dict, pattern: str, suffix: str) -> list[str]:
    """Return the case names X of all keys `pattern` + X + `suffix`."""
    found = [
        key.removeprefix(pattern).removesuffix(suffix)
        for key in gold
        if key.startswith(pattern) and key.endswith(suffix)
    ]
    assert found, f"the file has no {pattern}*{suffix}"
    return found


def test_top_k_mil(golden):
    gold = golden("fn_co2")
    for case in cases(gold, "mil_", "_logits"):
        logits = jnp.asarray(gold[f"mil_{case}_logits"])
        labels = jnp.asarray(gold[f"mil_{case}_y"])
        mask = jnp.ones(logits.shape[:2], bool)
        divisor = int(gold[f"mil_{case}_divisor"])
        for part, background in (("org", 1.0), ("supp", 0.0)):

            def loss(x, labels=labels, mask=mask, divisor=divisor, background=background):
                return losses.topk_mil(x, labels, mask, divisor, background)

            wanted = gold[f"mil_{case}_{part}_per_video"]
            np.testing.assert_allclose(loss(logits), wanted, rtol=1e-4)
            gradient = jax.grad(lambda x: loss(x).mean())(logits)
            close(gradient, gold[f"mil_{case}_{part}_grad_of_mean"], 1e-3)


def test_suppression(golden):
    gold = golden("fn_co2")
    logits, attention = jnp.asarray(gold["supp_logits"]), jnp.asarray(gold["supp_att"])
    ours = losses.suppress_cas(logits, attention[..., None])
    np.testing.assert_allclose(ours, gold["supp_out"], rtol=1e-4, atol=1e-5)


def test_co_activity(golden):
    gold = golden("fn_co2")
    for case in cases(gold, "cas_", "_loss"):
        x, logits, y = (jnp.asarray(gold[f"cas_{case}_{name}"]) for name in ("x", "logits", "y"))

        def loss(x, logits, y=y):
            pairs = [a[:6].reshape(3, 2, *a.shape[1:]) for a in (x, logits, y)]
            terms, shared = losses.co_activity(*pairs, jnp.ones((3, 2, x.shape[1]), bool))
            return terms.sum() / shared.sum()

        np.testing.assert_allclose(loss(x, logits), gold[f"cas_{case}_loss"], rtol=1e-4)
        gradients = jax.grad(loss, (0, 1))(x, logits)
        close(gradients[0], gold[f"cas_{case}_grad_x"], 1e-3)
        close(gradients[1], gold[f"cas_{case}_grad_logits"], 1e-3)


@pytest.mark.parametrize("metric", ["mse", "mae", "kl", "js"])
def test_mutual_learning(golden, metric):
    gold = golden("reference_only")
    rgb, flow = (
        jnp.asarray(gold[f"ml_{name}"], jnp.float32)[..., None] for name in ("rgb", "flow")
    )
    mask = jnp.ones(rgb.shape[:2], bool)

    def loss(rgb, flow):
        return losses.mutual_learning(rgb, flow, mask, metric).mean()

    np.testing.assert_allclose(loss(rgb, flow), gold[f"ml_{metric}"], rtol=1e-5)
    gradients = jax.grad(loss, (0, 1))(rgb, flow)
    for gradient, name in zip(gradients, ("rgb", "flow"), strict=True):
        close(gradient[..., 0], gold[f"ml_{metric}_grad_{name}"], 1e-5)


def test_snippet_sampling_bounds(golden):
    gold = golden("fn_co2")
    for case in cases(gold, "sample_", "_draw"):
        length, count = (int(part[1:]) for part in case.split("_"))
        low, high = sampling.bin_bounds(jnp.array([length]), count)
        np.testing.assert_array_equal(low[0], gold[f"sample_{case}_lo"])
        np.testing.assert_array_equal(high[0], gold[f"sample_{case}_hi"])
        keys = jax.random.split(jax.random.key(0), 64)
        sample = functools.partial(
            sampling.sample_snippets, lengths=jnp.array([length]), count=count
        )
        draws = jax.vmap(sample)(keys)[:, 0]
        assert (draws >= low).all()
        assert (draws <= high).all()
        assert (jnp.diff(draws, axis=-1) >= 0).all()


def test_nms(golden):
    gold = golden("fn_co2")
    _, score, start, end = gold["nms_in"].T
    for name, settings in (
        ("softnms_out", localization_config(sigma=0.3)),
        ("hardnms_out_0.45", localization_config(nms="hard", nms_threshold=0.45)),
    ):
        kept, _, final = nms.nms(start, end, score, np.zeros(len(score), int), settings)
        np.testing.assert_allclose(final, gold[name][:, 1], rtol=0, atol=1e-9)
        np.testing.assert_array_equal(start[kept], gold[name][:, 2])
        np.testing.assert_array_equal(end[kept], gold[name][:, 3])


def test_classification_map(golden):
    gold = golden("fn_co2")
    ours = 100 * detection_map.classification_map(gold["cmap_conf"], gold["cmap_labels"])
    # The published function sums in float32; nothing else differs.
    np.testing.assert_allclose(ours, gold["cmap_value"], rtol=8 * np.finfo(np.float32).eps)


def ambiguous_intervals(name: str) -> np.ndarray:
    """Return the ambiguous intervals (a, 2) of a THUMOS14 test video, in seconds."""
    path = GOLDEN / "thumos14" / "Thumos14reduced-Annotations" / "Ambiguous_test.txt"
    fields = [line.split() for line in path.read_text().splitlines()]
    return np.array([row[1:] for row in fields if row[0] == name], float).reshape(-1, 2)


def test_localization(golden):
    gold = golden("loc_co2")
    for case in cases(gold, "v", "_tcam"):
        cas, attention = gold[f"v{case}_tcam"], gold[f"v{case}_att"]
        scores = proposals.softmax(
            proposals.topk_mean(attention[:, None].astype(float) * cas, max(1, len(cas) // 10))
        )[:-1]
        np.testing.assert_allclose(scores, gold[f"v{case}_class_score"], rtol=0, atol=1e-5)
        outputs = {"cas": cas, "attention": attention[:, None]}
        found = localize(co2net.METHOD, outputs, co2net_thumos.get_config())
        assert len(found) == gold[f"v{case}_n_before_ambiguous_filter"]
        name, wanted = str(gold[f"v{case}_name"]), gold[f"v{case}_proposals"]
        if len(wanted) < len(found):
            video = Video(name, 1e9, *[np.empty(0, int)] * 3, ambiguous_intervals(name))
            found = found.take(~detection_map.touches_ambiguous(found, [video], TimeGrid()))
        assert len(found) == len(wanted)
        ours = np.stack([found.start, found.end, found.label, found.score], axis=1)
        assert_same_order(ours, wanted)


def assert_same_order(ours: np.ndarray, wanted: np.ndarray) -> None:
    """Compare rows [start, end, class, score] in order; those of equal scores may be swapped."""
    np.testing.assert_allclose(ours[:, 3], wanted[:, 3], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours[:, 2], wanted[:, 2])
    different = np.flatnonzero((ours[:, :2] != wanted[:, :2]).any(axis=1))
    for row in different:
        tied = np.abs(wanted[:, 3] - wanted[row, 3]) < 1e-5
        assert ours[row, :3].tolist() in wanted[tied, :3].tolist()


@pytest.mark.parametrize("name", ["eval_thumos", "eval_anet12"])
def test_detection_map(golden, name):
    gold = golden(name)
    truth, detections = (
        Segments(
            video=gold[f"{part}_video"].astype(int),
            label=gold[f"{part}_class"].astype(int),
            start=gold[f"{part}_start"].astype(float),
            end=gold[f"{part}_end"].astype(float),
            score=gold["det_score"] if part == "det" else np.ones(len(gold["gt_start"])),
        )
        for part in ("gt", "det")
    )
    precision = detection_map.average_precision(
        truth, detections, gold["tiou"], len(gold["classes"]), matching="published"
    )
    np.testing.assert_allclose(precision, gold["ap"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(precision.mean(axis=1), gold["map"], rtol=0, atol=1e-9)


def thumos14_truth(folder: Path) -> tuple[list[str], tuple[str, ...], Segments]:
    """Return names of test videos, classes and instances in seconds, from the annotations."""
    data = wtalc.read(folder, "Thumos14reduced", features=False)
    return [video.name for video in data.test], data.classes, ground_truth(data.test)


def activitynet12_truth() -> tuple[list[str], tuple[str, ...], Segments]:
    """Return names of validation videos, classes and instances in seconds, as stored."""
    with np.load(GOLDEN / "evaluation" / "activitynet12_validation.npz") as file:
        video, label = file["gt_video"].astype(int), file["gt_class"].astype(int)
        truth = Segments(video, label, file["gt_start"], file["gt_end"], np.ones(len(video)))
        return file["wtalc_names"].tolist(), tuple(file["classes"].tolist()), truth


@pytest.mark.parametrize("name", ["eval_thumos", "eval_anet12"])
def test_ground_truth_rounding(golden, thumos14, name):
    """The published program's ground truth in whole snippets, from annotations in seconds."""
    gold = golden(name)
    names, classes, truth = (
        thumos14_truth(thumos14) if name == "eval_thumos" else activitynet12_truth()
    )
    rounded = truth.with_times(TimeGrid().round_to_snippets)
    ours = {(names[v], c, s, e) for v, c, s, e in zip(*columns(rounded), strict=True)}
    stored = [gold[f"gt_{key}"] for key in ("video", "class", "start", "end")]
    wanted = {(str(gold["videos"][v]), c, s, e) for v, c, s, e in zip(*stored, strict=True)}
    assert [str(label) for label in gold["classes"]] == list(classes)
    assert ours == wanted


def columns(segments: Segments):
    return segments.video, segments.label, segments.start, segments.end
