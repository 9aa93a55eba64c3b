"""Generation of the features of untrimmed videos."""

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxtal.data.dataset import TimeGrid, Video
from jaxtal.data.synthetic.config import Pair, SyntheticConfig, random_stream


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _blend(vectors: np.ndarray, other: np.ndarray, cosine: float) -> np.ndarray:
    """Return unit vectors with about this cosine to `vectors`, given nearly orthogonal ones."""
    return _unit(cosine * vectors + np.sqrt(1 - cosine**2) * other)


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """Vectors shared by all videos of a data set, of unit length except in the last four fields.

    Attributes:
        backgrounds: (2, K, L).
        venue: (2, C, L).
        action: (2, C, L), the part common to a class's sub-modes.
        core: (2, C, M, L).
        context: (2, C, L).
        generic: (2, L) actionness.
        still: (2, K', L) lighting and captions in RGB.
        motion: (2, K', L) pans and shakes in flow.
        gain: (2, C), gain of a class's actions in each modality.
        projection: (2, L, D) from the latent space to features.
        bias: (2, 1, D), added to the projected vectors.
        scale: (2, 1, D), factors of the features.
    """

    backgrounds: np.ndarray
    venue: np.ndarray
    action: np.ndarray
    core: np.ndarray
    context: np.ndarray
    generic: np.ndarray
    gain: np.ndarray
    still: np.ndarray
    motion: np.ndarray
    projection: np.ndarray
    bias: np.ndarray
    scale: np.ndarray

    @classmethod
    def draw(cls, config: SyntheticConfig, num_classes: int) -> "World":
        """Draw the vectors for `num_classes` classes."""

        def units(name: str, *shape: int) -> np.ndarray:
            rng = random_stream(config, "world", name)
            return _unit(rng.standard_normal((*shape, config.latent_width), np.float32))

        action = _confuse(config, units("action", 2, num_classes))
        modes = _confuse(config, units("modes", 2, num_classes, config.sub_modes))
        core = _blend(action[:, :, None], modes, np.sqrt(1 - config.sub_mode_share))
        own_context = units("context", 2, num_classes)
        generic = units("generic", 2)
        projection, bias, scale = _draw_output(config)
        return cls(
            backgrounds=units("backgrounds", 2, config.backgrounds),
            venue=units("venue", 2, num_classes),
            action=action,
            core=core,
            context=_blend(action, own_context, config.context_relation),
            generic=generic,
            gain=_class_gains(config, num_classes),
            still=units("still", 2, 4),
            motion=_blend(generic[1], units("motion", 2, 4), config.motion_relation),
            projection=projection,
            bias=bias,
            scale=scale,
        )


def _confuse(config: SyntheticConfig, vectors: np.ndarray) -> np.ndarray:
    """Make pairs of the first classes of (2, C, ..., L) similar, in RGB and flow alternately."""
    result = vectors.copy()
    for pair in range(int(vectors.shape[1] * config.confusable) // 2):
        modality, first, second = pair % 2, 2 * pair, 2 * pair + 1
        model, own = vectors[modality, first], vectors[modality, second]
        result[modality, second] = _blend(model, own, config.confusable_share)
    return result


def _class_gains(config: SyntheticConfig, num_classes: int) -> np.ndarray:
    """Return (2, C) gains: even classes are weak in RGB, odd classes in flow."""
    gain = np.ones((2, num_classes), np.float32)
    gain[0, ::2] = gain[1, 1::2] = config.weak_gain
    return gain


def _draw_output(config: SyntheticConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw projection, biases and gains of the columns; nothing else depends on D."""
    rng = random_stream(config, "output")
    spread = np.maximum(_latent_norm(config), 0.1)[:, None, None]
    shape = (2, config.latent_width, config.feature_width)
    # A vector of norm r, projected on a random direction of variance 1, has standard deviation r.
    projection = rng.standard_normal(shape, np.float32) / spread
    bias = config.bias_spread * rng.standard_normal((2, 1, shape[2]), np.float32)
    gain = np.exp(config.gain_spread * rng.standard_normal((2, 1, shape[2]), np.float32))
    half_normal_mean = 0.4 * np.exp(config.gain_spread**2 / 2)
    return projection, bias, (gain * config.mean_feature / half_normal_mean).astype(np.float32)


def _latent_norm(config: SyntheticConfig) -> np.ndarray:
    """Return (2,) float32, the norm of a typical latent vector of permanent and temporary parts."""
    lasting = (config.background_strength, config.venue, config.style, config.noise)
    nuisances = ((config.lighting, config.pans), (config.captions, config.shakes))
    passing = (config.core, config.context, *nuisances)
    square = np.square(lasting).sum(axis=0) + 0.12 * np.square(passing).sum(axis=0)
    return np.sqrt(square).astype(np.float32)


class Shots(NamedTuple):
    """Start and end (n,) of the shots of a video, in whole snippets."""

    start: np.ndarray
    end: np.ndarray


def generate_video(config: SyntheticConfig, world: World, video: Video, grid: TimeGrid) -> Video:
    """Return `video`, which has annotations only, with generated features.

    Args:
        config: parameters of the generator.
        world: vectors shared by all videos.
        video: its name, duration and annotations determine the features.
        grid: the time grid of the features.

    Returns:
        The video with (T, 2D) features of `config.dtype`.
    """
    rng = random_stream(config, "video", video.name)
    time = max(1, int(grid.to_snippets(video.duration)))
    shots = _draw_shots(config, rng, time)
    signal = _place(config, world, rng, shots, time)
    signal += _actions(config, world, rng, video, grid, time)
    signal += _nuisances(config, world, rng, shots, time)
    if config.smoothing:
        signal = _smooth(signal)
    signal += _noise(config, rng, time)
    return dataclasses.replace(video, features=_features(config, world, signal))


def _coverage(start, end, time: int) -> np.ndarray:
    """Return (n, T), the fraction of each snippet inside each interval, given in snippets."""
    snippet = np.arange(time, dtype=np.float32)
    low = np.maximum(np.asarray(start, np.float32)[:, None], snippet)
    high = np.minimum(np.asarray(end, np.float32)[:, None], snippet + 1)
    return np.maximum(high - low, 0)


def _sum(amplitude: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return (..., T, L) float32, amplitudes (..., n, T) by vectors (..., n, L), summed over n."""
    return np.swapaxes(amplitude, -1, -2).astype(np.float32) @ vectors.astype(np.float32)


def _per_modality(pair: Pair) -> np.ndarray:
    """Return (2, 1, 1), a factor for arrays with a leading axis of modalities."""
    return np.asarray(pair, np.float32)[:, None, None]


def _draw_shots(config: SyntheticConfig, rng: np.random.Generator, time: int) -> Shots:
    length = 1 + rng.exponential(config.mean_shot, time).astype(int)
    end = np.minimum(np.cumsum(length), time)
    end = end[: np.searchsorted(end, time) + 1]
    return Shots(np.concatenate([[0], end[:-1]]), end)


def _place(config, world: World, rng, shots: Shots, time: int) -> np.ndarray:
    """Return (2, T, L): the shots' backgrounds and the video's style."""
    least, most = config.backgrounds_per_video
    count = min(rng.integers(least, most + 1), config.backgrounds)
    own = rng.permutation(config.backgrounds)[:count]
    shot = own[rng.integers(count, size=len(shots.start))]
    length = shots.end - shots.start
    background = world.backgrounds[:, np.repeat(shot, length)]
    style = rng.standard_normal((2, 1, config.latent_width), np.float32)
    style /= np.sqrt(config.latent_width)
    return (
        _per_modality(config.background_strength) * background + _per_modality(config.style) * style
    )


def _actions(config, world: World, rng, video: Video, grid: TimeGrid, time: int) -> np.ndarray:
    """Return (2, T, L): venue, instances, ambiguous intervals and context."""
    segments = grid.to_snippets(np.concatenate([video.segments, video.ambiguous]).reshape(-1, 2))
    present = video.labels if len(video.labels) else np.unique(video.segment_labels)
    if not len(present):
        return np.zeros((2, time, config.latent_width), np.float32)
    guessed = rng.choice(present, len(video.ambiguous))
    label = np.concatenate([video.segment_labels, guessed]).astype(int)
    venue = world.venue[:, present].sum(axis=1, keepdims=True) / np.sqrt(len(present))
    inside = _coverage(segments[:, 0], segments[:, 1], time)
    signal = _instances(config, world, rng, segments, label, inside)
    context = _context(config, world, rng, segments, label, present, time)
    # Context ends where any instance begins.
    signal += context * (1 - inside.max(axis=0, initial=0))[:, None]
    return signal + _per_modality(config.venue) * venue


def _instances(config, world: World, rng, segments, label, inside) -> np.ndarray:
    """Return (2, T, L): core and rest of the instances."""
    visible = _per_modality(config.core) * _visibility(config, rng, len(label))[..., None]
    of_class = visible * world.gain[:, label, None]
    mode = rng.integers(config.sub_modes, size=len(label))
    core = _core_amplitude(config, rng, segments, inside)
    rest = config.rest * np.clip(inside - core, 0, 1)
    own, common = np.sqrt([1 - config.generic, config.generic])
    generic = np.broadcast_to(world.generic[:, None], (2, len(label), config.latent_width))
    return (
        _sum(of_class * core, world.core[:, label, mode])
        + _sum(of_class * own * rest, world.action[:, label])
        + _sum(visible * common * config.rest * inside, generic)
    )


def _visibility(config: SyntheticConfig, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw (2, n), the gain of every instance in each modality."""
    visible = rng.beta(*config.visibility, size=(2, count)).astype(np.float32)
    missed = rng.random(count) < config.miss_probability
    modality = rng.integers(2, size=count)
    visible[modality[missed], np.flatnonzero(missed)] *= config.miss_gain
    return visible


def _core_amplitude(config: SyntheticConfig, rng, segments, inside) -> np.ndarray:
    """Draw (2, n, T) raised-cosine bumps, delayed in flow; 0 outside of the instance."""
    length = np.maximum(segments[:, 1] - segments[:, 0], 1e-3)
    width = length * rng.uniform(*config.core_fraction, len(length))
    center = segments[:, 0] + width / 2 + rng.random(len(length)) * (length - width)
    delay = np.array([0.0, config.core_delay])[:, None]
    latest = segments[:, 1] - width / 2
    center = np.minimum(center + delay * length, latest)[..., None]
    # An instance shorter than a snippet is visible in the snippet that contains it.
    half = np.maximum(width, 1.0)[:, None]
    snippet = np.arange(inside.shape[1]) + 0.5
    phase = np.clip(np.abs(snippet - center) / half, 0, 1)
    return inside * (0.5 + 0.5 * np.cos(np.pi * phase))


def _context(config, world: World, rng, segments, label, present, time: int) -> np.ndarray:
    """Return (2, T, L): context around instances, and replays without an instance."""
    count = len(label)
    length = rng.exponential(config.context_snippets, (2, count))
    length *= rng.random((2, count)) < config.context_probability
    replays = rng.poisson(config.replays * time / 100)
    replay_start = rng.uniform(0, time, replays)
    replay_length = 1 + rng.exponential(config.context_snippets, replays)
    start = np.concatenate([segments[:, 0] - length[0], segments[:, 1], replay_start])
    end = np.concatenate([segments[:, 0], segments[:, 1] + length[1], replay_start + replay_length])
    label = np.concatenate([label, label, rng.choice(present, replays)]).astype(int)
    visible = rng.beta(*config.visibility, size=(2, len(label))) * world.gain[:, label]
    one_sided = rng.random(len(label)) < config.context_one_sided
    unseen = rng.integers(2, size=len(label))
    visible[unseen[one_sided], np.flatnonzero(one_sided)] = 0
    strength = _per_modality(config.context) * visible[..., None]
    return _sum(strength * _coverage(start, end, time), world.context[:, label])


def _nuisances(config, world: World, rng, shots: Shots, time: int) -> np.ndarray:
    """Return (2, T, L): lighting and captions in RGB, pans and shakes in flow."""
    count = len(shots.start)
    by_shot, by_snippet = config.nuisance_probability
    signal = np.zeros((2, time, config.latent_width), np.float32)
    whole = _coverage(shots.start, shots.end, time)
    for vectors, strength in zip(world.still, (config.lighting, config.captions), strict=True):
        shown = strength * (rng.random(count) < by_shot) * rng.uniform(0.5, 1.5, count)
        signal[0] += _sum(shown[:, None] * whole, vectors[rng.integers(len(vectors), size=count)])
    begin, end = np.sort(rng.random((2, count)), axis=0) * (shots.end - shots.start) + shots.start
    pans = config.pans * (rng.random(count) < by_shot) * rng.uniform(0.5, 1.5, count)
    pans = pans[:, None] * _coverage(begin, end, time)
    vectors = world.motion[0]
    signal[1] += _sum(pans, vectors[rng.integers(len(vectors), size=count)])
    shakes = config.shakes * (rng.random(time) < by_snippet) * rng.uniform(0.5, 1.5, time)
    vectors = world.motion[1]
    signal[1] += shakes[:, None] * vectors[rng.integers(len(vectors), size=time)]
    return signal


def _smooth(signal: np.ndarray) -> np.ndarray:
    """Smooth over time with (1/4, 1/2, 1/4), as an extractor's receptive field does."""
    padded = np.concatenate([signal[:, :1], signal, signal[:, -1:]], axis=1)
    return 0.25 * (padded[:, :-2] + padded[:, 2:]) + 0.5 * padded[:, 1:-1]


def _noise(config: SyntheticConfig, rng: np.random.Generator, time: int) -> np.ndarray:
    """Draw stationary AR(1) noise (2, T, L)."""
    noise = rng.standard_normal((2, time, config.latent_width), np.float32)
    rho = _per_modality(config.noise_rho)
    noise[:, 1:] *= np.sqrt(1 - rho**2)
    shift = 1
    # 1 / (1 - rho z) = (1 + rho z) (1 + rho^2 z^2) (1 + rho^4 z^4) ..., z a delay by one snippet.
    while shift < time and (rho**shift).max() > 1e-6:
        noise[:, shift:] += rho**shift * noise[:, :-shift]
        shift *= 2
    return noise * _per_modality(config.noise) / np.float32(np.sqrt(config.latent_width))


def _features(config: SyntheticConfig, world: World, signal: np.ndarray) -> np.ndarray:
    """Return the (T, 2D) non-negative features of the latent signal (2, T, L)."""
    columns = signal.astype(np.float32) @ world.projection
    columns += world.bias
    if config.softness:
        columns /= np.float32(config.softness)
        # softplus(x) = max(x, 0) + log(1 + exp(-|x|))
        tail = np.log(1 + np.exp(-np.abs(columns)))
        columns = np.float32(config.softness) * (np.maximum(columns, 0) + tail)
    else:
        columns = np.maximum(columns, 0)
    columns *= world.scale
    return np.concatenate(list(columns), axis=-1).astype(config.dtype)
