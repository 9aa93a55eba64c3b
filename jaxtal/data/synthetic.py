"""The embedded default data set: untrimmed videos generated from a seed, no files on disk.

A video is a sum of things that last for a while, each a vector of a modality's latent space times
an amplitude over time: backgrounds, a venue, a style, action instances, their context, nuisances.
A fixed random projection with a soft ReLU makes the D features of a modality from them. The video
label is easy to tell (the venue lasts), the location hard: context shows what only the action
should, and each modality has distractors of its own. What marks the action is that RGB and flow
agree.

Shapes: modalities (RGB, flow) are the leading axis of 2; L is the latent width, M sub-modes.
"""

import dataclasses
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxtal.data import activitynet
from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.errors import UserError

Pair = tuple[float, float]

_CLASS_NAMES = [
    "AxeThrow",
    "BarrelRoll",
    "BoxJump",
    "CableRow",
    "CurlingShot",
    "DiceRoll",
    "FenceVault",
    "HoopToss",
    "KettleSwing",
    "LadderClimb",
    "LogLift",
    "NetServe",
    "OarStroke",
    "PuckPass",
    "RampJump",
    "RingSwing",
    "RopeSkip",
    "SledPush",
    "StoneSkip",
    "WallKick",
]


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """What is generated. Pairs are (RGB, flow); strengths are norms of latent vectors.

    The strengths are such that data of THUMOS14's shape (``annotations`` of a THUMOS14 file) are
    as hard as DATA.md asks; ``DEMO`` has those for the small generated annotations. ``num_*``,
    ``*_snippets`` and what follows up to ``ambiguous`` concern generated annotations only.

    Attributes:
        seed: everything is a function of it (and of a video's name).
        annotations: an ActivityNet-form JSON file; "" generates annotations.
        feature_width: D, columns per modality.
        dtype: of the features, "float16" or "float32".
        num_train, num_test: videos.
        num_classes: C.
        min_snippets, median_snippets, max_snippets: of a video's length, log-normal, clipped.
        action_fraction: mean fraction of a video that lies inside instances.
        instance_seconds: median length of instances over all classes; log-normal.
        second_class: fraction of videos with two classes.
        ambiguous: fraction of test videos with ambiguous intervals.
        latent_width: L, dimensions of a modality's latent space.
        backgrounds: number of background vectors, shared by all videos.
        backgrounds_per_video: least and most.
        mean_shot: snippets; a shot has 1 + Exp(mean_shot).
        background_strength: of the shot's background.
        venue: strength of the class's venue, which lasts for the whole video.
        style: strength of a video's own constant offset.
        core: strength of an instance's discriminative core.
        core_fraction: least and most of the instance's length that the core takes.
        core_delay: how much later flow's core is, in instance lengths.
        sub_modes: M, ways in which a class's core can look; an instance shows one.
        sub_mode_share: of a sub-mode's squared norm, what is not common to the class's sub-modes.
        rest: strength of the rest of an instance relative to its core.
        generic: share of the rest's squared norm that is actionness common to all classes; it lasts
            for the whole instance and does not depend on which modality the class is weak in.
        visibility: parameters of the Beta distribution of an instance's gain in a modality.
        miss_probability: that one of the modalities nearly misses an instance.
        miss_gain: further gain of that modality.
        weak_gain: gain of a class in its weak modality, RGB and flow in turn.
        confusable: fraction of the classes that come in pairs, alike in one modality.
        confusable_share: cosine of the two classes' cores in that modality.
        context: strength of what surrounds instances and is annotated as background.
        context_relation: cosine of the context vector and its class's core.
        context_one_sided: fraction of the context that only one of the modalities sees.
        context_probability: of context before an instance, and of context after it.
        context_snippets: mean length, exponentially distributed.
        replays: free-standing context, per 100 snippets.
        lighting, captions: strengths of a shot's nuisance in RGB.
        pans, shakes: strengths of nuisance in flow, over part of a shot and in single snippets.
        nuisance_probability: that a shot has a given nuisance; shakes: that a snippet has one.
        motion_relation: cosine of pans and shakes with flow's generic actionness.
        smoothing: smooth everything but the noise over neighbours with (1/4, 1/2, 1/4).
        noise: norm of the AR(1) noise.
        noise_rho: its correlation from a snippet to the next.
        gain_spread: standard deviation of the logarithm of the columns' gains.
        bias_spread: standard deviation of the columns' biases.
        softness: width of the soft ReLU's knee relative to the columns' spread.
        mean_feature: what the features' mean is scaled to, about.
    """

    seed: int = 0
    annotations: str = ""
    feature_width: int = 64
    dtype: str = "float16"
    num_train: int = 100
    num_test: int = 60
    num_classes: int = 10
    min_snippets: int = 40
    median_snippets: int = 130
    max_snippets: int = 300
    action_fraction: float = 0.29
    instance_seconds: float = 2.7
    second_class: float = 0.12
    ambiguous: float = 0.17
    latent_width: int = 32
    backgrounds: int = 24
    backgrounds_per_video: tuple[int, int] = (2, 5)
    mean_shot: float = 11.0
    background_strength: Pair = (0.6, 0.5)
    venue: Pair = (0.45, 0.25)
    style: Pair = (0.25, 0.25)
    core: Pair = (1.5, 1.5)
    core_fraction: Pair = (0.3, 0.7)
    core_delay: float = 0.1
    sub_modes: int = 3
    sub_mode_share: float = 0.4
    rest: float = 1.2
    generic: float = 0.5
    visibility: Pair = (3.0, 1.6)
    miss_probability: float = 0.18
    miss_gain: float = 0.1
    weak_gain: float = 0.5
    confusable: float = 0.5
    confusable_share: float = 0.8
    context: Pair = (2.0, 2.0)
    context_relation: float = 0.6
    context_one_sided: float = 1.0
    context_probability: float = 0.5
    context_snippets: float = 4.0
    replays: float = 1.0
    lighting: float = 1.0
    captions: float = 1.0
    pans: float = 2.0
    shakes: float = 2.0
    nuisance_probability: Pair = (0.3, 0.05)
    motion_relation: float = 0.8
    smoothing: bool = True
    noise: Pair = (0.6, 0.6)
    noise_rho: Pair = (0.75, 0.55)
    gain_spread: float = 0.3
    bias_spread: float = 0.3
    softness: float = 0.15
    mean_feature: float = 0.3


# What to change for the demo's ten classes and short videos to be as hard as THUMOS14's shape.
DEMO: dict[str, Any] = {"venue": (0.35, 0.2), "context": (1.4, 1.4), "noise": (0.8, 0.8)}


def generate(config: SyntheticConfig) -> Dataset:
    """The data set that `config` describes.

    Returns:
        Videos with features (T, 2D), T = floor(duration * fps / stride), RGB first, non-negative.

    Raises:
        UserError: a field of `config` or the file `config.annotations` cannot be used.
    """
    dataset = annotations(config)
    world = World.draw(config, len(dataset.classes))
    train, test = (
        tuple(generate_video(config, world, video, dataset.grid) for video in videos)
        for videos in (dataset.train, dataset.test)
    )
    return dataclasses.replace(dataset, train=train, test=test)


def annotations(config: SyntheticConfig) -> Dataset:
    """The data set that `config` describes, without features; raises as `generate`."""
    _check(config)
    return _annotated(Path(config.annotations)) if config.annotations else _drawn(config)


def _check(config: SyntheticConfig) -> None:
    """Raise UserError for a field that nothing can be generated from."""
    if config.dtype not in ("float16", "float32"):
        raise UserError(
            f"config.data.generator.dtype is {config.dtype!r}; wanted 'float16' or 'float32'"
        )
    counts = ("feature_width", "num_train", "num_test", "num_classes", "latent_width", "sub_modes")
    for name in (*counts, "backgrounds", "min_snippets"):
        if getattr(config, name) < 1:
            value = getattr(config, name)
            raise UserError(f"config.data.generator.{name} is {value}; wanted at least 1")
    if config.max_snippets < config.min_snippets:
        raise UserError(
            f"config.data.generator.max_snippets is {config.max_snippets}; wanted at least "
            f"min_snippets, which is {config.min_snippets}"
        )


def _stream(config: SyntheticConfig, *key: str) -> np.random.Generator:
    """Random numbers of their own for everything that has a name."""
    return np.random.default_rng([config.seed, zlib.crc32("/".join(key).encode())])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _blend(vectors: np.ndarray, other: np.ndarray, cosine: float) -> np.ndarray:
    """Unit vectors at about `cosine` to `vectors`, given nearly orthogonal unit vectors."""
    return _unit(cosine * vectors + np.sqrt(1 - cosine**2) * other)


# --------------------------------------------------------------------------- what videos share


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """The vectors that all videos of a data set share; unit vectors unless said otherwise.

    Attributes:
        backgrounds: (2, K, L).
        venue, action, context: (2, C, L); action is common to the class's sub-modes.
        core: (2, C, M, L).
        generic: (2, L) actionness.
        gain: (2, C) of the class's actions.
        still: (2, K', L) lighting and captions in RGB.
        motion: (2, K', L) pans and shakes in flow.
        projection, bias, scale: (2, L, D), (2, 1, D), (2, 1, D) from the latent space to features.
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
            rng = _stream(config, "world", name)
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
    """Make the first classes of (2, C, ..., L) alike in pairs, in RGB and flow in turn."""
    result = vectors.copy()
    for pair in range(int(vectors.shape[1] * config.confusable) // 2):
        modality, first, second = pair % 2, 2 * pair, 2 * pair + 1
        model, own = vectors[modality, first], vectors[modality, second]
        result[modality, second] = _blend(model, own, config.confusable_share)
    return result


def _class_gains(config: SyntheticConfig, num_classes: int) -> np.ndarray:
    """(2, C): weak in RGB the even classes, in flow the odd ones."""
    gain = np.ones((2, num_classes), np.float32)
    gain[0, ::2] = gain[1, 1::2] = config.weak_gain
    return gain


def _draw_output(config: SyntheticConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Projection, biases and gains of the columns; nothing else depends on D."""
    rng = _stream(config, "output")
    spread = np.maximum(_latent_norm(config), 0.1)[:, None, None]
    shape = (2, config.latent_width, config.feature_width)
    # On a random direction of variance 1 a vector of norm r has a spread of r.
    projection = rng.standard_normal(shape, np.float32) / spread
    bias = config.bias_spread * rng.standard_normal((2, 1, shape[2]), np.float32)
    gain = np.exp(config.gain_spread * rng.standard_normal((2, 1, shape[2]), np.float32))
    half_normal_mean = 0.4 * np.exp(config.gain_spread**2 / 2)
    return projection, bias, (gain * config.mean_feature / half_normal_mean).astype(np.float32)


def _latent_norm(config: SyntheticConfig) -> np.ndarray:
    """(2,) float32 norm of a typical latent vector: what lasts and some of what comes and goes."""
    lasting = (config.background_strength, config.venue, config.style, config.noise)
    nuisances = ((config.lighting, config.pans), (config.captions, config.shakes))
    passing = (config.core, config.context, *nuisances)
    square = np.square(lasting).sum(axis=0) + 0.12 * np.square(passing).sum(axis=0)
    return np.sqrt(square).astype(np.float32)


# --------------------------------------------------------------------------- one video


class Shots(NamedTuple):
    """Shots of a video: start and end (n,) in whole snippets."""

    start: np.ndarray
    end: np.ndarray


def generate_video(config: SyntheticConfig, world: World, video: Video, grid: TimeGrid) -> Video:
    """`video`, which has annotations only, with features."""
    rng = _stream(config, "video", video.name)
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
    """(n, T): the fraction of each snippet that lies in each of the intervals, in snippets."""
    snippet = np.arange(time, dtype=np.float32)
    low = np.maximum(np.asarray(start, np.float32)[:, None], snippet)
    high = np.minimum(np.asarray(end, np.float32)[:, None], snippet + 1)
    return np.maximum(high - low, 0)


def _sum(amplitude: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Sum over n sources of amplitude (..., n, T) times vector (..., n, L): (..., T, L) float32."""
    return np.swapaxes(amplitude, -1, -2).astype(np.float32) @ vectors.astype(np.float32)


def _per_modality(pair: Pair) -> np.ndarray:
    """(2, 1, 1), to multiply something with a leading axis of modalities."""
    return np.asarray(pair, np.float32)[:, None, None]


def _draw_shots(config: SyntheticConfig, rng: np.random.Generator, time: int) -> Shots:
    length = 1 + rng.exponential(config.mean_shot, time).astype(int)
    end = np.minimum(np.cumsum(length), time)
    end = end[: np.searchsorted(end, time) + 1]
    return Shots(np.concatenate([[0], end[:-1]]), end)


def _place(config, world: World, rng, shots: Shots, time: int) -> np.ndarray:
    """Backgrounds by shot and the video's style: (2, T, L)."""
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
    """Venue, instances, ambiguous intervals and context: (2, T, L)."""
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
    """Core and rest of the instances: (2, T, L)."""
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
    """(2, n) gain of every instance in each modality."""
    visible = rng.beta(*config.visibility, size=(2, count)).astype(np.float32)
    missed = rng.random(count) < config.miss_probability
    modality = rng.integers(2, size=count)
    visible[modality[missed], np.flatnonzero(missed)] *= config.miss_gain
    return visible


def _core_amplitude(config: SyntheticConfig, rng, segments, inside) -> np.ndarray:
    """(2, n, T) raised-cosine bumps, flow's a little later; 0 outside of the instance."""
    length = np.maximum(segments[:, 1] - segments[:, 0], 1e-3)
    width = length * rng.uniform(*config.core_fraction, len(length))
    centre = segments[:, 0] + width / 2 + rng.random(len(length)) * (length - width)
    delay = np.array([0.0, config.core_delay])[:, None]
    latest = segments[:, 1] - width / 2
    centre = np.minimum(centre + delay * length, latest)[..., None]
    # An instance shorter than a snippet is seen by the snippet that it lies in.
    half = np.maximum(width, 1.0)[:, None]
    snippet = np.arange(inside.shape[1]) + 0.5
    phase = np.clip(np.abs(snippet - centre) / half, 0, 1)
    return inside * (0.5 + 0.5 * np.cos(np.pi * phase))


def _context(config, world: World, rng, segments, label, present, time: int) -> np.ndarray:
    """What surrounds instances, and free-standing replays: (2, T, L)."""
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
    """Lighting and captions in RGB, pans and shakes in flow: (2, T, L)."""
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
    """(1/4, 1/2, 1/4) over time, the ends repeated: what an extractor's receptive field does."""
    padded = np.concatenate([signal[:, :1], signal, signal[:, -1:]], axis=1)
    return 0.25 * (padded[:, :-2] + padded[:, 2:]) + 0.5 * padded[:, 1:-1]


def _noise(config: SyntheticConfig, rng: np.random.Generator, time: int) -> np.ndarray:
    """Stationary AR(1) noise (2, T, L)."""
    noise = rng.standard_normal((2, time, config.latent_width), np.float32)
    rho = _per_modality(config.noise_rho)
    noise[:, 1:] *= np.sqrt(1 - rho**2)
    shift = 1
    # 1 / (1 - rho z) = (1 + rho z) (1 + rho^2 z^2) (1 + rho^4 z^4) ..., z a delay of one snippet.
    while shift < time and (rho**shift).max() > 1e-6:
        noise[:, shift:] += rho**shift * noise[:, :-shift]
        shift *= 2
    return noise * _per_modality(config.noise) / np.float32(np.sqrt(config.latent_width))


def _features(config: SyntheticConfig, world: World, signal: np.ndarray) -> np.ndarray:
    """(T, 2D) non-negative features of the latent signal (2, T, L)."""
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


# --------------------------------------------------------------------------- generated annotations


def _annotated(path: Path) -> Dataset:
    """The annotations of a file, under a name that says that the features are generated."""
    dataset = activitynet.read(path)
    return dataclasses.replace(dataset, name=f"Synthetic-{dataset.name}")


def _drawn(config: SyntheticConfig) -> Dataset:
    """Annotations that look like THUMOS14's; videos without features."""
    names = [f"action_{index:02d}" for index in range(config.num_classes)]
    names[: len(_CLASS_NAMES)] = _CLASS_NAMES[: config.num_classes]
    train, test = (
        tuple(_draw_video(config, subset, index) for index in range(count))
        for subset, count in (("train", config.num_train), ("test", config.num_test))
    )
    return Dataset("Synthetic", tuple(names), train, test)


def _draw_video(config: SyntheticConfig, subset: str, index: int) -> Video:
    name = f"{subset}_{index:05d}"
    rng = _stream(config, "annotations", name)
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
    """One class in turn, so that every class has its videos, and sometimes a second one."""
    first = index % config.num_classes
    if config.num_classes > 1 and rng.random() < config.second_class:
        other = (first + rng.integers(1, config.num_classes)) % config.num_classes
        return np.array([first, other])
    return np.array([first])


def _draw_segments(config: SyntheticConfig, rng, duration: float, label: int) -> np.ndarray:
    """(n, 2) instances in seconds on a grid of 0.1 s, at least one, with THUMOS14's long tails."""
    typical = config.instance_seconds * np.exp(
        0.5 * _stream(config, "class length", str(label)).standard_normal()
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
    """(a, 2) one to three intervals in seconds in the largest gaps between instances."""
    edges = np.concatenate([[0.0], segments.ravel(), [duration]]).reshape(-1, 2)
    gaps = edges[np.argsort(edges[:, 0] - edges[:, 1], kind="stable")][: rng.integers(1, 4)]
    span = gaps[:, 1] - gaps[:, 0]
    middle = gaps.mean(axis=1)
    half = np.minimum(span / 4, rng.uniform(0.5, 2.5, len(gaps)))
    intervals = np.round(np.stack([middle - half, middle + half], axis=1), 1)
    intervals = intervals[intervals[:, 1] > intervals[:, 0]]
    return intervals[np.argsort(intervals[:, 0])]
