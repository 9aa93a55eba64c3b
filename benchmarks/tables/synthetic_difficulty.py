"""Measure the difficulty of the generated videos with small linear models.

    python -m benchmarks.tables.synthetic_difficulty [--annotations FILE] [--width D] [--seed N]

Prints one JSON row per model: average mAP (t-IoU 0.1:0.7, protocol `official`) and video-level mAP,
in percent. The models are linear in single snippets and take a few seconds each: `mil` is trained
with video labels through top-k pooling, `supervised` with snippet labels; `rgb` and `flow` use one
modality.
"""

import argparse
import dataclasses
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtal.config import get_config
from jaxtal.data.dataset import Dataset, Video, multi_hot
from jaxtal.data.segments import Segments, concatenate
from jaxtal.data.synthetic import generate
from jaxtal.data.synthetic.config import PRESETS, SyntheticConfig
from jaxtal.evaluation import protocols
from jaxtal.evaluation.detection_map import classification_map, evaluate
from jaxtal.localization import nms, proposals
from jaxtal.localization.config import LocalizationConfig
from jaxtal.nn import losses

MOST_SNIPPETS = 320  # longer training videos are subsampled
DIVISOR = 8  # k = T / 8 snippets are pooled for a video's score
CLASS_THRESHOLD = 0.2


def adam(loss, params, steps: int, learning_rate: float):
    """Run full-batch Adam with a cosine schedule and return the trained parameters.

    Args:
        loss: function of the parameters.
        params: initial parameters, with "kernel" (columns, C).
        steps: number of updates.
        learning_rate: initial rate for 128 columns; it is scaled to the kernel's.
    """
    # Each weight moves by about the rate, so that logits move by the rate times sqrt(width).
    learning_rate *= (128 / len(params["kernel"])) ** 0.5
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]

    return run(params)


def linear(params: dict, features):
    """Compute class logits [..., C] of features [..., columns]."""
    return features @ params["kernel"] + params["bias"]


def initial(width: int, num_classes: int) -> dict:
    """Return zero parameters of `linear`; the problems are (nearly) convex."""
    return {"kernel": jnp.zeros((width, num_classes)), "bias": jnp.zeros(num_classes)}


def train_mil(dataset: Dataset, prepare, decay: float = 1e-4) -> dict:
    """Train a linear classifier by top-k pooling and softmax cross-entropy on video labels.

    Args:
        dataset: data set; its training videos are used.
        prepare: function of a video that returns its features (T, columns).
        decay: weight of the squared kernel in the loss.
    """
    videos, num_classes = dataset.train, len(dataset.classes)
    thinned = [prepare(video)[_thin(len(video.features))] for video in videos]
    longest = max(map(len, thinned))
    features = jnp.asarray(
        np.stack([np.pad(part, ((0, longest - len(part)), (0, 0))) for part in thinned])
    )
    mask = jnp.asarray(np.arange(longest) < np.array([[len(part)] for part in thinned]))
    labels = multi_hot(videos, num_classes)
    target = jnp.asarray(labels / np.maximum(labels.sum(axis=1, keepdims=True), 1))

    def loss(params):
        pooled = losses.topk_mean(linear(params, features), mask, DIVISOR)
        fit = optax.softmax_cross_entropy(pooled, target).mean()
        return fit + decay * (params["kernel"] ** 2).sum()

    return adam(loss, initial(features.shape[-1], num_classes), 300, 0.02)


def _thin(length: int) -> np.ndarray:
    return np.linspace(0, length - 1, min(length, MOST_SNIPPETS)).round().astype(int)


def train_supervised(dataset: Dataset, prepare, decay: float = 1e-5) -> dict:
    """Train one logistic regression per class on single snippets with snippet labels.

    Args:
        dataset: data set; its training videos are used.
        prepare: function of a video that returns its features (T, columns).
        decay: weight of the squared kernel in the loss.
    """
    num_classes = len(dataset.classes)
    features = jnp.asarray(np.concatenate([prepare(video) for video in dataset.train]))
    parts = [snippet_labels(video, num_classes, dataset.grid) for video in dataset.train]
    target = jnp.asarray(np.concatenate(parts))

    def loss(params):
        error = optax.sigmoid_binary_cross_entropy(linear(params, features), target)
        return error.mean(axis=0).sum() + decay * (params["kernel"] ** 2).sum()

    return adam(loss, initial(features.shape[-1], num_classes), 300, 0.05)


def snippet_labels(video: Video, num_classes: int, grid) -> np.ndarray:
    """Return labels (T, C): 1 where a snippet's center is inside an instance of the class."""
    center = np.arange(len(video.features))[:, None] + 0.5
    start, end = grid.to_snippets(video.segments).T
    inside = (start <= center) & (center < end)
    classes = np.eye(num_classes, dtype=np.float32)[video.segment_labels]
    return np.minimum(inside.astype(np.float32) @ classes, 1)


def localize(sequence: np.ndarray, score: np.ndarray) -> Segments:
    """Return the detections of one video.

    Args:
        sequence: class activations (T, C).
        score: class probabilities (C,) of the video; classes above CLASS_THRESHOLD, or else the
            most probable one, are localized.
    """
    classes = np.flatnonzero(score >= CLASS_THRESHOLD)
    if not len(classes):
        classes = np.array([score.argmax()])
    return concatenate([_localize_class(sequence[:, [c]], int(c), score[c]) for c in classes])


def _localize_class(sequence: np.ndarray, label: int, score: float) -> Segments:
    low, high = sequence.min(), sequence.max()
    levels = low + (high - low) * np.linspace(0.1, 0.9, 17)
    _, _, start, end = proposals.threshold_runs(np.searchsorted(levels, sequence.T))
    start, end = np.unique(np.stack([start, end]), axis=1)
    contrast = proposals.outer_inner_contrast(sequence, start, end) + 0.2 * score
    settings = LocalizationConfig(**get_config("co2net_thumos").localization)
    zero = np.zeros(len(start), int)
    order, _, contrast = nms.nms(start, end, contrast, zero, settings)
    times = start[order].astype(float), end[order].astype(float)
    return Segments(zero, np.full(len(start), label), *times, contrast)


def assess(dataset: Dataset, params: dict, prepare) -> dict:
    """Compute average mAP and video-level mAP of a linear model on the test videos, in percent.

    Args:
        dataset: data set.
        params: parameters of `linear`.
        prepare: function of a video that returns its features (T, columns).
    """
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])
    parts, scores = [], []
    for index, video in enumerate(dataset.test):
        logits = prepare(video) @ kernel + bias
        pooled = proposals.topk_mean(logits, max(1, len(logits) // DIVISOR))
        scores.append(pooled)
        probability = proposals.softmax(pooled)
        found = localize(logits, probability)
        parts.append(
            Segments(found.video + index, found.label, found.start, found.end, found.score)
        )
    num_classes = len(dataset.classes)
    found = concatenate(parts).with_times(dataset.grid.to_seconds)
    protocol = protocols.get("official")
    result = evaluate(dataset.test, found, protocol, num_classes, dataset.grid).summary()
    video_map = classification_map(np.stack(scores), multi_hot(dataset.test, num_classes))
    return {
        "average": round(100 * result["average"]["0.1:0.7"], 1),
        "at_0.5": round(100 * result["map"]["0.5"], 1),
        "video_map": round(100 * video_map, 1),
    }


def standardized(dataset: Dataset):
    """Return a function that standardizes a video's features.

    Over the training snippets each column has mean 0 and the same variance; the variances sum to
    128.
    """
    every = np.concatenate([video.features for video in dataset.train]).astype(np.float32)
    mean, deviation = every.mean(axis=0), every.std(axis=0) + 1e-6
    # Weight decay then has the same effect at every width; see `adam` for the learning rate.
    deviation *= np.sqrt(every.shape[1] / 128)
    return lambda video: (video.features.astype(np.float32) - mean) / deviation


def columns_of(dataset: Dataset, modality: str):
    """Return a function that selects a model's features: "both" modalities, "rgb" or "flow"."""
    prepare, half = standardized(dataset), dataset.feature_width // 2
    part = {"both": slice(None), "rgb": slice(half), "flow": slice(half, None)}[modality]
    return lambda video: prepare(video)[:, part]


def measure(dataset: Dataset, kind: str, modality: str) -> dict:
    """Train and evaluate one model and return its row.

    Args:
        dataset: data set.
        kind: "mil" or "supervised".
        modality: "both", "rgb" or "flow".
    """
    began = time.perf_counter()
    prepare = columns_of(dataset, modality)
    train = {"mil": train_mil, "supervised": train_supervised}[kind]
    result = assess(dataset, train(dataset, prepare), prepare)
    seconds = round(time.perf_counter() - began, 1)
    return {"model": kind, "modality": modality, **result, "seconds": seconds}


def main() -> None:
    """Generate the videos and print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--annotations",
        default="",
        metavar="FILE",
        help="ActivityNet-form JSON to generate videos for; default: the demo's",
    )
    parser.add_argument(
        "--width", type=int, default=64, help="features per modality, D; default: 64"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the generator; default: 0")
    arguments = parser.parse_args()
    config = dataclasses.replace(
        SyntheticConfig(annotations=arguments.annotations)
        if arguments.annotations
        else PRESETS["demo"],
        feature_width=arguments.width,
        seed=arguments.seed,
    )
    began = time.perf_counter()
    dataset = generate(config)
    seconds = round(time.perf_counter() - began, 1)
    row = {"data": dataset.name, "width": config.feature_width, "seed": config.seed}
    print(json.dumps({**row, "generated_seconds": seconds}), flush=True)
    for kind in ("mil", "supervised"):
        for modality in ("both", "rgb", "flow"):
            print(json.dumps(measure(dataset, kind, modality)), flush=True)


if __name__ == "__main__":
    main()
