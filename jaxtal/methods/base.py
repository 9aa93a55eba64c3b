"""What the trainer needs to know of a method."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from jaxtal.config import at_least, finite, one_of
from jaxtal.errors import ConfigError
from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.nms import NMS
from jaxtal.localization.proposals import _OUTER, CLASS_RULES

_LARGEST_NUMBER = 1e6  # that any number of a localization may be, for or against
_LOCALIZATION_NUMBERS = (
    "class_threshold",
    "class_weight",
    "flank",
    "min_contrast",
    "min_score",
    "relative_score",
    "sigma",
)
_LOCALIZATION_MINIMUMS = {
    "upsample": 1,
    "min_length": 1,
    "topk_divisor": 1,
    "flank": 0,
    "sigma": 1e-6,
    "nms_threshold": 1e-6,
}


def check_localization(config) -> None:
    """Raise ConfigError for fields of `config.localization` that cannot be."""
    at_least(config, {f"localization.{name}": low for name, low in _LOCALIZATION_MINIMUMS.items()})
    finite(config, {f"localization.{name}": _LARGEST_NUMBER for name in _LOCALIZATION_NUMBERS})
    options: dict[str, Collection[str]] = {
        "class_rule": CLASS_RULES,
        "outer": _OUTER,
        "nms": NMS,
        "relative_to": ("class", "video"),
    }
    one_of(config, {f"localization.{name}": known for name, known in options.items()})
    thresholds = config.localization.thresholds
    numbers = all(
        isinstance(value, (int, float)) and abs(value) <= _LARGEST_NUMBER for value in thresholds
    )
    whole = len(thresholds) == 3 and isinstance(thresholds[2], int)
    if not numbers or not whole or thresholds[2] < 1:
        raise ConfigError(
            f"config.localization.thresholds is {thresholds}; wanted (first, last, how many), "
            "e.g. (0.1, 0.9, 10)"
        )


@dataclasses.dataclass(frozen=True)
class Method:
    """A weakly supervised localization method: everything that is its own, as plain functions.

    Attributes:
        name: as in ``config.method``.
        build: (config, C) -> flax module called as (features, mask, train=...) -> dict of outputs.
        sample: (Context, Index, config) -> Draw, what of the training videos makes a batch; runs
            inside the jitted step, or ahead of it where the features are streamed, so it has no
            ``context.state``.
        loss_terms: (outputs, Batch, Context, config) -> ({name: scalar}, state); the total is
            their sum weighted by ``config.loss.weights``.
        output_names: names of the outputs that localization, scores and plots read, each [B, T, n], or
            [B, 1, n] for what a video has once.
        video_scores: ({name: (T, ...)} of one video, config) -> (C,) scores for the video-level
            mAP.
        score_spec: (config) -> `Evidence`, how what proposals are made of follows from the outputs; or
            another object with its functions `of` and `activations`, which cannot be exported.
        localization_inputs: those of `outputs` that the recipe reads.
        localization_config_cls: the type of ``config.localization``.
        validate_config: (config) -> None; raises ConfigError for what no data could be trained with.
        validate_dataset: (Dataset, config) -> None; raises ConfigError for data that cannot be trained on.
        initialize: (parameters, Dataset, config) -> parameters of a fresh run, where they depend on
            the training data. Leaves may have leading axes, one entry for every model.
        transform_updates: (updates, step, config) -> what is added to the parameters, where some must
            not change at a step.
        num_batch_shards: (config) -> into how many equal parts a batch can be divided, so that devices can
            share it; a loss must not take a video of another part (see `sharding.replicated`). By default
            its videos.
        test_length_limits: (config) -> (least, most) rows that are fed of a video at test time, spread
            evenly over its snippets; None for no limit. By default all its snippets.
        protocols: data set name -> the protocol in which the method's authors evaluate there.
        default_protocol: the same for any other data set; "" is the data set's official one.
    """

    name: str
    build: Callable[..., Any]
    sample: Callable[..., Any]
    loss_terms: Callable[..., Any]
    output_names: tuple[str, ...]
    video_scores: Callable[..., Any]
    score_spec: Callable[..., Any]
    localization_inputs: tuple[str, ...]
    localization_config_cls: type[LocalizationConfig] = LocalizationConfig
    validate_config: Callable[..., None] = lambda config: None
    validate_dataset: Callable[..., None] = lambda dataset, config: None
    initialize: Callable[..., Any] = lambda params, dataset, config: params
    transform_updates: Callable[..., Any] = lambda updates, step, config: updates
    num_batch_shards: Callable[..., int] = lambda config: config.train.batch_size
    test_length_limits: Callable[..., tuple[int, int | None]] = lambda config: (1, None)
    protocols: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_protocol: str = ""

    def rows(self, lengths, config) -> np.ndarray:
        """(V,) rows that are fed at test time of videos of (V,) snippets."""
        return np.clip(lengths, *self.test_length_limits(config))

    def evidence(self, outputs: dict, config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sequence, gate and class scores, see `proposals.generate_proposals`, from a video's outputs."""
        return self.score_spec(config).compute(outputs)

    def activations(self, outputs: dict, config) -> np.ndarray:
        """(T, C) in 0 to 1, how active each class is, a row for each that was fed."""
        return self.score_spec(config).activations(outputs)
