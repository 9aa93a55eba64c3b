"""Activations and ground truth of many untrimmed videos, as a trained model might give them."""

import dataclasses

import numpy as np

from jaxtal.data.segments import Segments, concatenate


@dataclasses.dataclass(frozen=True)
class Size:
    """How much there is of a data set's test part; lengths are in snippets, log-normal."""

    videos: int
    classes: int
    median_length: float
    spread: float
    longest: int
    instance: float  # mean length of an instance
    share: float  # of a video that is action


THUMOS14 = Size(212, 20, 252, 0.75, 2614, 7, 0.29)  # 71,691 snippets, 3,358 instances
ACTIVITYNET13 = Size(4926, 200, 182, 0.7, 1164, 78, 0.65)  # 7,654 instances
SIZES = {"thumos14": THUMOS14, "activitynet13": ACTIVITYNET13}


def draw(size: Size, seed: int = 0):
    """Instances and noisy activations around them.

    Returns:
        truth: Segments in snippets.
        outputs: for every video its T-CAM logits (T, C + 1) and attention (T, 1), float32, as
            CO2-Net gives them.
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
    """Starts and ends of instances of a video that do not overlap."""
    gap = size.instance * (1 - size.share) / size.share
    bounds, now = [], rng.exponential(gap)
    while now < length - 1:
        end = min(now + 0.5 + rng.exponential(size.instance), length)
        bounds.append((now, end))
        now = end + 0.5 + rng.exponential(gap)
    bounds = bounds or [(0.0, length / 2)]
    start, end = np.array(bounds).T
    return start, end
