"""The configuration of the generator of untrimmed videos."""

import dataclasses
import zlib

import numpy as np

from jaxtal.errors import DataError

Pair = tuple[float, float]

CLASS_NAMES = [
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
    as hard as DATA.md asks; the preset "demo" has those for small generated annotations. ``num_*``,
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
        smoothing: smooth everything but the noise over neighbors with (1/4, 1/2, 1/4).
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


# The data sets that have a name, as in `config.data.generator`.
PRESETS = {
    # Ten classes and short videos; easier, so as to be as hard as data of THUMOS14's shape.
    "demo": SyntheticConfig(
        feature_width=128, venue=(0.35, 0.2), context=(1.4, 1.4), noise=(0.8, 0.8)
    ),
    # As many videos and classes as THUMOS14, as long and as wide.
    "thumos14": SyntheticConfig(
        feature_width=1024,
        num_train=200,
        num_test=212,
        num_classes=20,
        min_snippets=22,
        median_snippets=245,
        max_snippets=4000,
    ),
}


def validate(config: SyntheticConfig) -> None:
    """Raise DataError for a field that nothing can be generated from."""
    if config.dtype not in ("float16", "float32"):
        raise DataError(
            f"config.data.generator.dtype is {config.dtype!r}; wanted 'float16' or 'float32'"
        )
    counts = ("feature_width", "num_train", "num_test", "num_classes", "latent_width", "sub_modes")
    for name in (*counts, "backgrounds", "min_snippets"):
        if getattr(config, name) < 1:
            value = getattr(config, name)
            raise DataError(f"config.data.generator.{name} is {value}; wanted at least 1")
    if config.max_snippets < config.min_snippets:
        raise DataError(
            f"config.data.generator.max_snippets is {config.max_snippets}; wanted at least "
            f"min_snippets, which is {config.min_snippets}"
        )


def random_stream(config: SyntheticConfig, *key: str) -> np.random.Generator:
    """Random numbers of their own for everything that has a name."""
    return np.random.default_rng([config.seed, zlib.crc32("/".join(key).encode())])
