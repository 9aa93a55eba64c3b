"""Synthetic workloads of any size: random features, compiled training steps, activations."""

import dataclasses
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
from jaxtal.data.segments import Segments, concatenate
from jaxtal.input_pipeline.packing import PackedVideos, pack
from jaxtal.parallel import sharding
from jaxtal.parallel.mesh import make_mesh
from jaxtal.training import population, train_step

# Configs of each method for the demo, THUMOS14 and ActivityNet.
CONFIGS = {
    "co2net": (co2net_demo, co2net_thumos, co2net_anet12),
    "d2net": (d2net_demo, d2net_thumos, d2net_anet12),
    "twostream": (twostream_demo, twostream_thumos, twostream_anet13),
}
# Batch size, snippets per video, features per snippet, classes.
SHAPES = {
    "demo": (10, 100, 256, 10),
    "thumos": (10, 500, 2048, 20),
    "anet": (10, 60, 2048, 100),
}
# Generator options for videos like THUMOS14's; minimum, median and maximum number of snippets.
THUMOS = "thumos14 min_snippets=14 median_snippets=240 max_snippets=2400"


def config_of(method: str, shape: str, batch: int, snippets: int) -> ConfigDict:
    """Return a method's config with the options that the PyTorch references implement.

    These have no moving average over the T-CAM, and the residual embedding; neither takes a large
    part of a step.

    Args:
        method: key of `CONFIGS`.
        shape: key of `SHAPES`.
        batch: videos per batch.
        snippets: snippets per video, T.
    """
    config = CONFIGS[method][list(SHAPES).index(shape)].get_config()
    config.train.batch_size = batch
    config.data.num_snippets = snippets
    if method == "co2net":
        config.model.pool_window = 1
    if method == "twostream":
        config.model.embedding = "residual"
    if method == "d2net":  # denoising always active; the program and its time are the same
        config.loss.update(denoising_start=0, denoising_every=1)
    return config


def videos(count: int, lengths: tuple[int, int], width: int, classes: int) -> tuple[Video, ...]:
    """Draw videos with random float16 features.

    Args:
        count: number of videos.
        lengths: minimum and maximum number of snippets, uniform, both included.
        width: features per snippet, 2 * D.
        classes: number of classes; video i has the label i modulo `classes`.
    """
    rng = np.random.default_rng(0)
    empty = np.empty((0, 2))
    return tuple(
        Video(f"v{i}", 1.0, np.array([i % classes]), empty, empty[:, 0], empty,
              rng.random((rng.integers(*lengths, endpoint=True), width), np.float32)
              .astype(np.float16))
        for i in range(count)
    )  # fmt: skip


def training_set(count: int, snippets: int, width: int, classes: int) -> PackedVideos:
    """Return random videos on the device, all longer than `snippets`: no batch has padding.

    Args:
        count: number of videos.
        snippets: snippets per video in a batch, T.
        width: features per snippet, 2 * D.
        classes: number of classes.
    """
    return pack(videos(count, (snippets + 2, 2 * snippets), width, classes), classes)


class Trainer:
    """Compiled training steps of a config's method on packed videos.

    Attributes:
        compiled: compiled program of a dispatch.
        state: training state of all members after the steps taken so far.
        hyper: their hyperparameters.
        data: the packed videos.
        model: the network.
    """

    def __init__(self, config, data: PackedVideos, steps: int = 1):
        method = methods.get(config.method)
        assert data.features is not None  # the features are on the device
        classes, width = data.videos.labels.shape[1], data.features.shape[1]
        self.model = method.build(config.model, classes)
        mesh = make_mesh(jax.devices(), 1, 1)
        hyper = population.hypers(population.members_of(config))
        self.hyper, self.data = sharding.device_put(mesh, (hyper, data))
        self.state = train_step.init_fn(self.model, config, mesh, width)(self.hyper)
        self._stop = sharding.device_put(mesh, np.int32(2**31 - 1))
        program = train_step.train_fn(self.model, method, config, mesh, steps)
        arguments = (self.state, self.hyper, self._stop, self.data, None)
        self.compiled = program.lower(*arguments).compile()

    def __call__(self) -> dict:
        """Take the next steps and return their mean metrics, on the device."""
        arguments = (self.state, self.hyper, self._stop, self.data, None)
        self.state, metrics, _ = self.compiled(*arguments)
        return metrics


# Rows, inner size and columns of products like those of the wide layers.
_PRODUCTS = ((1000, 6144, 2048), (5000, 2048, 2048), (2048, 2048, 2048), (4096, 4096, 4096))


def matmul_rates(
    ones: Callable, product: Callable, repeats: int, finish: Callable = lambda: None
) -> list[float]:
    """Measure the rate of several large matrix products, in floating-point operations per second.

    Args:
        ones: function of (rows, columns) that returns a matrix of ones.
        product: function that multiplies two matrices.
        repeats: measurements of each product; the median counts.
        finish: function that waits until asynchronous products are finished.

    Returns:
        FLOP/s of each product.
    """
    # On an accelerator many products run back to back, so that dispatch time does not count.
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


@dataclasses.dataclass(frozen=True)
class Size:
    """Size of a data set's test subset; lengths are log-normal, in snippets.

    Attributes:
        videos: number of videos.
        classes: number of classes.
        median_length: median length of a video.
        spread: standard deviation of the logarithm of the lengths.
        longest: maximum length of a video.
        instance: mean length of an instance.
        share: fraction of a video that is action.
    """

    videos: int
    classes: int
    median_length: float
    spread: float
    longest: int
    instance: float
    share: float


THUMOS14 = Size(212, 20, 252, 0.75, 2614, 7, 0.29)  # 71,691 snippets, 3,358 instances
ACTIVITYNET13 = Size(4926, 200, 182, 0.7, 1164, 78, 0.65)  # 7,654 instances
SIZES = {"thumos14": THUMOS14, "activitynet13": ACTIVITYNET13}


def draw_activations(size: Size, seed: int = 0):
    """Draw instances and noisy activations around them, like those of a trained model.

    Args:
        size: size of the data set.
        seed: seed of the random numbers.

    Returns:
        Ground truth in snippets, and for each video CO2-Net's outputs: "cas", T-CAM logits
        (T, C + 1), and "attention" (T, 1), both float32.
    """
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.normal(np.log(size.median_length), size.spread, size.videos))
    lengths = np.clip(lengths, 8, size.longest).astype(int)
    parts, outputs = [], []
    for video, length in enumerate(lengths):
        label = rng.integers(size.classes)
        start, end = _instances(rng, size, length)
        count = len(start)
        parts.append(
            Segments(np.full(count, video), np.full(count, label), start, end, np.ones(count))
        )
        time = np.arange(length)[:, None]
        action = ((start <= time) & (time < end)).any(axis=1)
        noise = rng.normal(size=(2, length + 4))
        smooth = np.stack([np.convolve(row, np.ones(5) / 5, "valid") for row in noise])
        attention = 1 / (1 + np.exp(-3 * (action - 0.5) - 4 * smooth[0]))
        cas = rng.normal(0, 1, (length, size.classes + 1))
        cas[:, label] += 6 * action + 2 * smooth[1] + 2
        outputs.append(
            {
                "cas": cas.astype(np.float32),
                "attention": attention[:, None].astype(np.float32),
            }
        )
    return concatenate(parts), outputs


def _instances(rng, size: Size, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw starts and ends of disjoint instances of a video."""
    gap = size.instance * (1 - size.share) / size.share
    bounds, now = [], rng.exponential(gap)
    while now < length - 1:
        end = min(now + 0.5 + rng.exponential(size.instance), length)
        bounds.append((now, end))
        now = end + 0.5 + rng.exponential(gap)
    bounds = bounds or [(0.0, length / 2)]
    start, end = np.array(bounds).T
    return start, end
