"""Evaluation in length buckets: few compiled functions, the same outputs as one by one."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import co2net_demo, twostream_thumos
from jaxtal import methods
from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.data.segments import Segments, clip
from jaxtal.errors import JaxtalError
from jaxtal.evaluation import detection_map, protocols
from jaxtal.input_pipeline.packing import length_buckets
from jaxtal.input_pipeline.placement import place_features
from jaxtal.training.evaluator import Evaluator, evaluate_outputs
from jaxtal.training.evaluator import localize as localize_outputs
from jaxtal.training.train_state import hyperparams_from_config
from jaxtal.training.train_step import init_state
from tests.oracles.twostream import localize, softmax, test_indices

C, WIDTH = 3, 8


def test_every_video_is_in_one_batch_of_its_bucket():
    lengths = np.random.default_rng(0).integers(1, 3000, 200)
    batches = length_buckets(lengths)
    videos = np.concatenate([row for _, row in batches])
    assert sorted(videos[videos >= 0]) == list(range(200))
    sizes: dict[int, set[int]] = {}
    for time, row in batches:
        assert (lengths[row[row >= 0]] <= time).all()
        assert time == 64 or (lengths[row[row >= 0]] > time / 2).all()
        sizes.setdefault(time, set()).add(len(row))
    assert all(
        len(size) == 1 for size in sizes.values()
    )  # one shape, so one compiled function, per bucket
    assert set(sizes) == {64, 128, 256, 512, 1024, 2048, 4096}


CONFIG = co2net_demo.get_config()
METHOD = methods.get("co2net")
MODEL = METHOD.build(CONFIG.model, C)


@pytest.fixture(scope="module")
def variables() -> dict:
    return of_one({"params": init_state(MODEL, hyperparams_from_config(CONFIG), WIDTH).params})


def of_one(tree):
    """Return variables of a population of one."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def inference_on(videos, config=CONFIG, method=METHOD, model=MODEL) -> Evaluator:
    return Evaluator(method, model, videos, config, place_features(videos, C, config, "test"))


def draw(lengths) -> tuple[Video, ...]:
    rng = np.random.default_rng(1)
    empty = np.empty((0, 2))
    return tuple(
        Video(f"v{i}", 0.64 * length, np.array([0]), np.array([[0.64, 1.28]]), np.array([0]), empty,
              rng.random((length, WIDTH)).astype(np.float16))
        for i, length in enumerate(lengths)
    )  # fmt: skip


def test_as_many_traces_as_buckets(variables, monkeypatch):
    """200 lengths in any order: one compiled function per bucket, no transfer in between."""
    lengths = np.random.default_rng(0).permutation(np.arange(1, 2400, 12))
    traces, programs, compile = [], [], jax.stages.Lowered.compile
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda x: programs.append(1) or compile(x))

    def apply(variables, x, *arguments, **options):
        traces.append(x.shape)
        return MODEL.apply(variables, x, *arguments, **options)

    inference = inference_on(draw(lengths), model=types.SimpleNamespace(apply=apply))
    inference.compile(variables)
    with jax.transfer_guard("disallow"):
        (first,) = inference(variables)
        (second,) = inference(jax.tree.map(jnp.copy, variables))
    assert len(lengths) == len(first) == len(second) == 200
    assert sorted(time for _, time, _ in traces) == [64, 128, 256, 512, 1024, 2048, 4096]
    assert len(programs) == 7
    for output, length in zip(second, lengths, strict=True):
        assert output["cas"].shape == (length, C + 1)
    # A batch holds several videos wherever they are not long.
    assert all(videos > 1 for videos, time, _ in traces if time <= 2048)


def test_videos_that_are_too_short_are_skipped_but_count_as_ground_truth(variables):
    lengths = [10, 11, 64, 3]
    dataset = Dataset("Tiny", ("a", "b", "c"), (), draw(lengths))
    config = co2net_demo.get_config()
    config.data.min_snippets = 11
    inference = inference_on(dataset.test, config)
    inference.compile(variables)
    (outputs,) = inference(variables)
    assert [bool(output) for output in outputs] == [False, True, True, False]
    result, found = evaluate_outputs(METHOD, CONFIG, dataset, outputs)
    assert set(found.video) <= {1, 2}
    assert result["classification_map"] == 1  # of the two that were seen, both are of class 0
    # Detections that hit the two others exactly: the instances of the short ones are missed.
    perfect = Segments(np.array([1, 2]), np.zeros(2, int), np.ones(2), np.full(2, 2.0), np.ones(2))
    protocol, grid = protocols.get("co2"), TimeGrid()
    perfect = perfect.with_times(grid.to_seconds)
    result = detection_map.evaluate(dataset.test, perfect, protocol, C, grid).summary()
    assert result["map"]["0.5"] == 0.5


def test_detections_end_with_their_videos(variables):
    """Here the last quarter of the features lies beyond the end of the video."""
    videos = draw((64, 65))
    inference = inference_on(videos)
    inference.compile(variables)
    (outputs,) = inference(variables)
    dataset = Dataset("Tiny", ("a", "b", "c"), (), videos)
    whole = [48.0 * 0.64, 100.0]
    short = [dataclasses.replace(v, duration=d) for v, d in zip(videos, whole, strict=True)]
    grid = dataset.grid.of(videos)
    localized = localize_outputs(METHOD, CONFIG, outputs, [64, 65], grid)
    _, found = evaluate_outputs(METHOD, CONFIG, dataclasses.replace(dataset, test=short), outputs)
    assert (localized.end > np.array(whole)[localized.video]).any()
    wanted = clip(localized, whole)
    for name in ("video", "label", "start", "end", "score"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert (found.end <= np.array(whole)[found.video]).all()


def test_outputs_that_are_not_finite_are_an_error(variables):
    videos = draw((64, 65))
    inference = inference_on(videos)
    inference.compile(variables)
    (outputs,) = inference(variables)
    outputs[1] = {**outputs[1], "cas": outputs[1]["cas"] * np.float32(np.nan)}
    dataset = Dataset("Tiny", ("a", "b", "c"), (), videos)
    with pytest.raises(
        JaxtalError, match=r"the model's cas of evaluated video 1 .* is not finite: train"
    ):
        evaluate_outputs(METHOD, CONFIG, dataset, outputs)


def test_outputs_equal_those_of_single_videos(variables):
    videos = draw((3, 64, 65, 200, 7))
    inference = inference_on(videos)
    inference.compile(variables)
    (outputs,) = inference(variables)
    alone = jax.tree.map(lambda leaf: leaf[0], variables)
    for video, output in zip(videos, outputs, strict=True):
        x = video.features.astype(np.float32)[None]
        wanted = jax.jit(MODEL.apply)(alone, x, np.ones(x.shape[:2], bool))
        assert set(output) == set(METHOD.output_names)
        for name, value in output.items():
            np.testing.assert_allclose(value, wanted[name][0], atol=1e-5)


def test_long_videos_are_subsampled_and_detections_are_in_snippets():
    """The rows are floor(i L / T'); a single snippet is fed twice."""
    config = twostream_thumos.get_config()
    config.data.test_snippets = 70
    method = methods.get("twostream")
    model = method.build(config.model, C)
    params = of_one({"params": init_state(model, hyperparams_from_config(config), WIDTH).params})
    lengths = (1, 3, 70, 71, 500)
    videos = draw(lengths)
    inference = inference_on(videos, config, method, model)
    inference.compile(params)
    (outputs,) = inference(params)
    alone = jax.tree.map(lambda leaf: leaf[0], params)
    for video, output in zip(videos, outputs, strict=True):
        x = video.features.astype(np.float32)[test_indices(len(video.features), 70)][None]
        wanted = jax.jit(model.apply)(alone, x, np.ones(x.shape[:2], bool))
        assert set(output) == set(method.output_names)
        for name, value in output.items():
            assert value.shape == wanted[name].shape[1:]
            np.testing.assert_allclose(value, wanted[name][0], atol=1e-5)
    assert [len(output["cas"]) for output in outputs] == [2, 3, 70, 70, 70]
    _, found = evaluate_outputs(
        method, config, Dataset("Tiny", ("a", "b", "c"), (), videos), outputs
    )
    for index, (video, output) in enumerate(zip(videos, outputs, strict=True)):
        mine = found.take(found.video == index)
        cas, scores = (output[name].astype(np.float64) for name in ("cas", "scores"))
        cas = np.array([softmax(row) for row in cas])
        thresholds = np.linspace(*config.localization.thresholds)
        wanted = np.array(localize(cas, scores[0], len(video.features), thresholds))
        rows = np.stack([mine.label, mine.start, mine.end, mine.score], axis=1)
        assert len(rows) == len(wanted) > 0
        np.testing.assert_allclose(rows, wanted, rtol=1e-9, atol=1e-9)
