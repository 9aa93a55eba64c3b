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
    """Parameters of the generator. Pairs are (RGB, flow); strengths are norms of latent vectors.

    The default strengths make data with THUMOS14's annotations realistically hard to localize; the
    preset "demo" has strengths for few and short videos. The fields from ``num_train`` to
    ``ambiguous`` apply to generated annotations only.

    Attributes:
        seed: seed of all random numbers; those of a video also depend on its name.
        annotations: an ActivityNet-form JSON file; "" generates annotations.
        feature_width: features per modality D.
        dtype: type of the features, "float16" or "float32".
        num_train: number of training videos.
        num_test: number of test videos.
        num_classes: number of classes C.
        min_snippets: shortest video, in snippets.
        median_snippets: median length of videos, log-normal, in snippets.
        max_snippets: longest video, in snippets.
        action_fraction: mean fraction of a video that lies inside instances.
        instance_seconds: median length of instances over all classes, log-normal, in seconds.
        second_class: fraction of videos with two classes.
        ambiguous: fraction of test videos with ambiguous intervals.
        latent_width: dimensions of a modality's latent space L.
        backgrounds: number of background vectors, shared by all videos.
        backgrounds_per_video: smallest and largest number of backgrounds in a video.
        mean_shot: mean of the exponential part of a shot's length 1 + Exp(mean_shot), in snippets.
        background_strength: strength of the shot's background.
        venue: strength of the class's venue, which is present during the whole video.
        style: strength of a video's constant offset.
        core: strength of an instance's discriminative core.
        core_fraction: smallest and largest length of the core, in instance lengths.
        core_delay: delay of flow's core after RGB's, in instance lengths.
        sub_modes: number of variants M of a class's core; each instance has one of them.
        sub_mode_share: share of a sub-mode's squared norm that its class's sub-modes do not share.
        rest: strength of the rest of an instance relative to its core.
        generic: share of the rest's squared norm that is actionness common to all classes; it is
            present during the whole instance, also in the class's weak modality.
        visibility: parameters of the Beta distribution of an instance's gain in a modality.
        miss_probability: probability that one modality nearly misses an instance.
        miss_gain: additional gain of that modality.
        weak_gain: gain of a class in its weak modality, RGB and flow alternately.
        confusable: fraction of the classes that form pairs which are similar in one modality.
        confusable_share: cosine of the two classes' cores in that modality.
        context: strength of the context of instances, which is annotated as background.
        context_relation: cosine of the context vector and its class's core.
        context_one_sided: fraction of the context that is visible in only one modality.
        context_probability: probability of context before an instance, and of context after it.
        context_snippets: mean of the context's exponentially distributed length, in snippets.
        replays: number of contexts without an instance per 100 snippets.
        lighting: strength of a nuisance in RGB during a shot.
        captions: strength of another nuisance in RGB during a shot.
        pans: strength of a nuisance in flow during part of a shot.
        shakes: strength of a nuisance in flow in single snippets.
        nuisance_probability: probability of each nuisance of a shot, and of a shake in a snippet.
        motion_relation: cosine of pans and shakes with flow's generic actionness.
        smoothing: smooth everything except the noise over neighbors with (1/4, 1/2, 1/4).
        noise: norm of the AR(1) noise.
        noise_rho: correlation of the noise between consecutive snippets.
        gain_spread: standard deviation of the logarithm of the columns' gains.
        bias_spread: standard deviation of the columns' biases.
        softness: width of the soft ReLU's knee relative to the columns' spread.
        mean_feature: approximate mean of the features.
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


# Named configurations, the first word of `config.data.generator`.
PRESETS = {
    # Ten classes and short videos, with weaker distractors to compensate for their small number.
    "demo": SyntheticConfig(
        feature_width=128, venue=(0.35, 0.2), context=(1.4, 1.4), noise=(0.8, 0.8)
    ),
    # The numbers of videos and classes, lengths and width of THUMOS14.
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
    """Validate the parameters of the generator.

    Args:
        config: the parameters.

    Raises:
        DataError: a field is out of range or in conflict with another one.
    """
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
    """Return an independent random generator for a key.

    Args:
        config: parameters of the generator; only the seed matters.
        *key: parts of the key, e.g. "video", name.
    """
    return np.random.default_rng([config.seed, zlib.crc32("/".join(key).encode())])
