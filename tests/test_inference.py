"""Whole videos in length buckets: nothing lost, few programs, the same numbers as one by one."""

import jax
import numpy as np

from configs import co2net_demo
from jaxtal import methods
from jaxtal.data.dataset import Video
from jaxtal.inference import Inference, length_buckets
from jaxtal.step import hyper_from, init_state

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
    assert all(len(size) == 1 for size in sizes.values())  # one shape, so one program, a bucket
    assert set(sizes) == {64, 128, 256, 512, 1024, 2048, 4096}


def test_outputs_equal_those_of_single_videos():
    config = co2net_demo.get_config()
    method = methods.get("co2net")
    model = method.build(config.model, C)
    rng = np.random.default_rng(1)
    empty = np.empty((0, 2))
    videos = tuple(
        Video(f"v{i}", 1.0, np.array([0]), empty, empty[:, 0], empty,
              rng.random((length, WIDTH)).astype(np.float16))
        for i, length in enumerate((3, 64, 65, 200, 7))
    )  # fmt: skip
    state = init_state(model, hyper_from(config), WIDTH)
    variables = {"params": state.params}
    inference = Inference(method, model, videos, C)
    inference.compile(variables)
    outputs = inference(variables)
    for video, output in zip(videos, outputs, strict=True):
        x = video.features.astype(np.float32)[None]
        wanted = jax.jit(model.apply)(variables, x, np.ones(x.shape[:2], bool))
        assert set(output) == set(method.outputs)
        for name, value in output.items():
            np.testing.assert_allclose(value, wanted[name][0], atol=1e-5)
