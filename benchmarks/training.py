"""What the benchmarks of training share: random data of any size, and compiled steps on it."""

import statistics
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.timing import interleaved
from configs import (
    co2net_anet12,
    co2net_demo,
    co2net_thumos,
    d2net_anet12,
    d2net_demo,
    d2net_thumos,
    twostream_anet13,
    twostream_demo,
    twostream_thumos,
)
from jaxtal import methods
from jaxtal.data.dataset import Video
from jaxtal.input_pipeline.packing import PackedVideos, pack
from jaxtal.parallel import sharding
from jaxtal.parallel.mesh import make_mesh
from jaxtal.train import population, train_step

# Of each method the configs for the demo, THUMOS14 and ActivityNet.
CONFIGS = {
    "co2net": (co2net_demo, co2net_thumos, co2net_anet12),
    "d2net": (d2net_demo, d2net_thumos, d2net_anet12),
    "twostream": (twostream_demo, twostream_thumos, twostream_anet13),
}
# Batch, snippets, features a snippet, classes.
SHAPES = {
    "demo": (10, 100, 256, 10),
    "thumos": (10, 500, 2048, 20),
    "anet": (10, 60, 2048, 100),
}


def config_of(method: str, shape: str, batch: int, snippets: int) -> ConfigDict:
    """A method's config for a shape of `SHAPES`, with another batch size and number of snippets.

    With what the PyTorch references have at every shape: no moving average over the T-CAM, the
    residual embedding; neither is a large part of a step.
    """
    config = CONFIGS[method][list(SHAPES).index(shape)].get_config()
    config.train.batch_size = batch
    config.data.num_snippets = snippets
    if method == "co2net":
        config.model.pool_window = 1
    if method == "twostream":
        config.model.embedding = "residual"
    if method == "d2net":  # its denoising always active: the same program, the same time
        config.loss.update(denoising_start=0, denoising_every=1)
    return config


def videos(count: int, lengths: tuple[int, int], width: int, classes: int) -> tuple[Video, ...]:
    """Random float16 features of `count` videos, lengths uniform in the closed range."""
    rng = np.random.default_rng(0)
    empty = np.empty((0, 2))
    return tuple(
        Video(f"v{i}", 1.0, np.array([i % classes]), empty, empty[:, 0], empty,
              rng.random((rng.integers(*lengths, endpoint=True), width), np.float32)
              .astype(np.float16))
        for i in range(count)
    )  # fmt: skip


def training_set(count: int, snippets: int, width: int, classes: int) -> PackedVideos:
    """Videos on the device, all longer than `snippets`, so that batches have no padding."""
    return pack(videos(count, (snippets + 2, 2 * snippets), width, classes), classes)


class Trainer:
    """Compiled steps of a config's method on packed videos.

    Attributes:
        compiled: the program.
        state: of all members, after the steps so far.
    """

    def __init__(self, config, data: PackedVideos, steps: int = 1):
        method = methods.get(config.method)
        assert data.features is not None  # they are on the device
        classes, width = data.videos.labels.shape[1], data.features.shape[1]
        model = method.build(config.model, classes)
        mesh = make_mesh(jax.devices(), 1, 1)
        hyper = population.hypers(population.members_of(config))
        self._hyper, self._data = sharding.device_put(mesh, (hyper, data))
        self.state = train_step.init_fn(model, config, mesh, width)(self._hyper)
        self._stop = sharding.device_put(mesh, np.int32(2**31 - 1))
        program = train_step.train_fn(model, method, config, mesh, steps)
        arguments = (self.state, self._hyper, self._stop, self._data, None)
        self.compiled = program.lower(*arguments).compile()

    def __call__(self) -> dict:
        """Take the next steps; their mean metrics, still on the device."""
        arguments = (self.state, self._hyper, self._stop, self._data, None)
        self.state, metrics, _ = self.compiled(*arguments)
        return metrics


# Rows, inner size and columns of products like those of the wide layers.
_PRODUCTS = ((1000, 6144, 2048), (5000, 2048, 2048), (2048, 2048, 2048), (4096, 4096, 4096))


def matmul_rates(
    ones: Callable, product: Callable, repeats: int, finish: Callable = lambda: None
) -> list[float]:
    """Floating-point operations a second of several large matrix products.

    Args:
        ones: (rows, columns) to a matrix of ones.
        product: of two matrices.
        repeats: of each; the median counts.
        finish: waits for what products have begun, where they do not wait themselves.
    """
    # On an accelerator many of them one behind the other, so that starting one does not count.
    times, largest = (1, ()) if jax.default_backend() == "cpu" else (20, ((8192, 8192, 8192),))

    def several(x, y):
        result = [product(x, y) for _ in range(times)][-1]
        finish()
        return result

    rates = []
    for rows, inner, columns in (*_PRODUCTS, *largest):
        call = partial(several, ones(rows, inner), ones(inner, columns))
        seconds = interleaved({"product": call}, repeats)["product"]
        rates.append(times * 2 * rows * inner * columns / statistics.median(seconds))
    return rates
