"""Annotations for the generator of untrimmed videos, generated or from a file."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxtal.data import activitynet
from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.data.synthetic.config import CLASS_NAMES, SyntheticConfig, random_stream, validate


def annotations(config: SyntheticConfig) -> Dataset:
    """Generate the annotations of a data set, or read them from `config.annotations`.

    Args:
        config: parameters of the generator.

    Returns:
        The data set without features.

    Raises:
        DataError: a field of `config` or the file `config.annotations` is invalid.
    """
    validate(config)
    return _annotated(Path(config.annotations)) if config.annotations else _drawn(config)


def _annotated(path: Path) -> Dataset:
    """Return the annotations of a file; the name marks the features as generated."""
    dataset = activitynet.read(path)
    return dataclasses.replace(dataset, name=f"Synthetic-{dataset.name}")


def _drawn(config: SyntheticConfig) -> Dataset:
    """Generate annotations similar to THUMOS14's; the videos have no features."""
    names = [f"action_{index:02d}" for index in range(config.num_classes)]
    names[: len(CLASS_NAMES)] = CLASS_NAMES[: config.num_classes]
    train, test = (
        tuple(_draw_video(config, subset, index) for index in range(count))
        for subset, count in (("train", config.num_train), ("test", config.num_test))
    )
    return Dataset("Synthetic", tuple(names), train, test)


def _draw_video(config: SyntheticConfig, subset: str, index: int) -> Video:
    name = f"{subset}_{index:05d}"
    rng = random_stream(config, "annotations", name)
    seconds = float(TimeGrid().to_seconds(1))
    snippets = config.median_snippets * np.exp(0.8 * rng.standard_normal())
    snippets = np.clip(snippets, config.min_snippets + 0.1, config.max_snippets + 0.9)
    duration = round(float(snippets) * seconds, 2)
    classes = _draw_classes(config, rng, index)
    segments = _draw_segments(config, rng, duration, classes[0])
    label = rng.choice(classes, len(segments))
    label[: len(classes)] = classes[: len(segments)]
    ambiguous = np.empty((0, 2))
    if subset == "test" and rng.random() < config.ambiguous:
        ambiguous = _draw_ambiguous(rng, segments, duration)
    return Video(name, duration, np.unique(label), segments, label, ambiguous)


def _draw_classes(config: SyntheticConfig, rng: np.random.Generator, index: int) -> np.ndarray:
    """Draw class index % C, so that every class occurs, and sometimes a second class."""
    first = index % config.num_classes
    if config.num_classes > 1 and rng.random() < config.second_class:
        other = (first + rng.integers(1, config.num_classes)) % config.num_classes
        return np.array([first, other])
    return np.array([first])


def _draw_segments(config: SyntheticConfig, rng, duration: float, label: int) -> np.ndarray:
    """Draw (n, 2) instances, n >= 1, in multiples of 0.1 s, with long tails as in THUMOS14."""
    typical = config.instance_seconds * np.exp(
        0.5 * random_stream(config, "class length", str(label)).standard_normal()
    )
    fraction = rng.beta(1.5, 1.5 / config.action_fraction - 1.5)
    most = int(duration / 0.3) + 1
    length = np.clip(typical * np.exp(0.7 * rng.standard_normal(most)), 0.3, duration / 2)
    gap = rng.lognormal(sigma=1.2, size=most) / np.exp(1.2**2 / 2)
    gap *= length.mean() * (1 - fraction) / max(fraction, 0.02)
    end = np.cumsum(gap + length)
    fits = end < duration
    if not fits.any():
        fits[0], end[0] = True, rng.uniform(length[0], duration)
    segments = np.round(np.stack([end - length, end], axis=1)[fits], 1)
    return np.clip(segments, 0, np.floor(duration * 10) / 10)


def _draw_ambiguous(rng: np.random.Generator, segments: np.ndarray, duration: float) -> np.ndarray:
    """Draw (a, 2) seconds: up to three intervals in the largest gaps between instances."""
    edges = np.concatenate([[0.0], segments.ravel(), [duration]]).reshape(-1, 2)
    gaps = edges[np.argsort(edges[:, 0] - edges[:, 1], kind="stable")][: rng.integers(1, 4)]
    span = gaps[:, 1] - gaps[:, 0]
    middle = gaps.mean(axis=1)
    half = np.minimum(span / 4, rng.uniform(0.5, 2.5, len(gaps)))
    intervals = np.round(np.stack([middle - half, middle + half], axis=1), 1)
    intervals = intervals[intervals[:, 1] > intervals[:, 0]]
    return intervals[np.argsort(intervals[:, 0])]
