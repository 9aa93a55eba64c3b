"""The `Method` interface: what a method gives to training, evaluation and prediction."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from jaxtal.config import at_least, finite, one_of
from jaxtal.data.dataset import Dataset
from jaxtal.errors import ConfigError
from jaxtal.input_pipeline.packing import Batch, all_snippets
from jaxtal.input_pipeline.sampling import Context, SampleBatch
from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.nms import NMS
from jaxtal.localization.proposals import CLASS_RULES, OUTER_RULES

_LARGEST_NUMBER = 1e6  # that any number of a localization may be, for or against
_LOCALIZATION_NUMBERS = (
    "class_threshold",
    "class_weight",
    "outer_ratio",
    "min_contrast",
    "min_score",
    "relative_score",
    "sigma",
)
_LOCALIZATION_MINIMUMS = {
    "upsample": 1,
    "min_length": 1,
    "topk_divisor": 1,
    "outer_ratio": 0,
    "sigma": 1e-6,
    "nms_threshold": 1e-6,
}


def check_localization(config) -> None:
    """Raise ConfigError for fields of `config.localization` that cannot be."""
    at_least(config, {f"localization.{name}": low for name, low in _LOCALIZATION_MINIMUMS.items()})
    finite(config, {f"localization.{name}": _LARGEST_NUMBER for name in _LOCALIZATION_NUMBERS})
    options: dict[str, Collection[str]] = {
        "class_rule": CLASS_RULES,
        "outer": OUTER_RULES,
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


class BuildModel(Protocol):
    """Build the Flax module of a method from ``config.model``, for a number of classes C.

    The module is called as ``(features [B, T, 2D], mask [B, T], train=...)`` and returns a
    dictionary of outputs.
    """

    def __call__(self, config: ConfigDict, num_classes: int, /) -> nn.Module: ...


class LossTerms(Protocol):
    """Compute the unweighted loss terms of a batch, and the model's new state.

    The total loss is the sum of the terms weighted by ``config.loss.weights``.
    """

    def __call__(
        self, outputs: dict[str, jax.Array], batch: Batch, context: Context, config: ConfigDict, /
    ) -> tuple[dict[str, jax.Array], Any]: ...


class VideoScores(Protocol):
    """Compute the (C,) scores of one video from its outputs, for the video-level mAP."""

    def __call__(self, outputs: dict[str, np.ndarray], config: ConfigDict, /) -> np.ndarray: ...


class ProposalScores(Protocol):
    """How the arrays that proposals are made of follow from the outputs of one video.

    `ScoreSpec` is the declarative form; any other object cannot be exported.
    """

    def compute(
        self, outputs: dict[str, np.ndarray], /
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute sequence, gate and class scores, see `proposals.generate_proposals`."""

    def activations(self, outputs: dict[str, np.ndarray], /) -> np.ndarray:
        """Compute how active each class is, (T, C) in 0 to 1, one row per row of the input."""


class MakeScoreSpec(Protocol):
    """Return the proposal scores that a config asks for."""

    def __call__(self, config: ConfigDict, /) -> ProposalScores: ...


class ValidateConfig(Protocol):
    """Raise `ConfigError` for a config that no data set could be trained with."""

    def __call__(self, config: ConfigDict, /) -> None: ...


class ValidateDataset(Protocol):
    """Raise an error for a data set that the method cannot be trained on."""

    def __call__(self, dataset: Dataset, config: ConfigDict, /) -> None: ...


class Initialize(Protocol):
    """Return the initial parameters of a run, where they depend on the training data.

    Leaves may have leading axes, one entry per model.
    """

    def __call__(self, params: Any, dataset: Dataset, config: ConfigDict, /) -> Any: ...


class TransformUpdates(Protocol):
    """Return the updates to apply to the parameters, where some must not change at a step."""

    def __call__(self, updates: Any, step: jax.Array, config: ConfigDict, /) -> Any: ...


class NumBatchShards(Protocol):
    """Return the number of equal parts that a batch can be split into, for several devices.

    A loss must not read a video of another part (see `sharding.replicated`).
    """

    def __call__(self, config: ConfigDict, /) -> int: ...


class TestLengthLimits(Protocol):
    """Return the (least, most) rows that the model gets of a test video; None: no limit.

    The rows are spread uniformly over the video's snippets.
    """

    def __call__(self, config: ConfigDict, /) -> tuple[int, int | None]: ...


@dataclasses.dataclass(frozen=True)
class Method:
    """A weakly supervised localization method: everything that is its own, as plain functions.

    Attributes:
        name: as in ``config.method``.
        build: builds the model.
        sample: chooses the videos and snippets of a training batch; runs inside the compiled step,
            or ahead of it where the features are streamed, so ``context.state`` is empty.
        loss_terms: the loss terms.
        output_names: the outputs that localization, scores and plots read, each [B, T, n], or
            [B, 1, n] for a value per video.
        video_scores: the scores for the video-level mAP.
        score_spec: the arrays that proposals are made of.
        localization_inputs: the outputs that ``score_spec`` reads.
        localization_config_cls: the type of ``config.localization``.
        validate_config: validates the config; by default accepts every config.
        validate_dataset: validates the data set; by default accepts every data set.
        initialize: data-dependent initialization; by default none.
        transform_updates: changes the optimizer's updates; by default not at all.
        num_batch_shards: how a batch can be split; by default into its videos.
        test_length_limits: rows per test video; by default all its snippets.
        protocols: data set name -> name of the protocol in which the method's authors evaluate.
        default_protocol: the same for any other data set; "" is the data set's official one.
    """

    name: str
    build: BuildModel
    sample: SampleBatch
    loss_terms: LossTerms
    output_names: tuple[str, ...]
    video_scores: VideoScores
    score_spec: MakeScoreSpec
    localization_inputs: tuple[str, ...]
    localization_config_cls: type[LocalizationConfig] = LocalizationConfig
    validate_config: ValidateConfig = lambda config: None
    validate_dataset: ValidateDataset = lambda dataset, config: None
    initialize: Initialize = lambda params, dataset, config: params
    transform_updates: TransformUpdates = lambda updates, step, config: updates
    num_batch_shards: NumBatchShards = lambda config: config.train.batch_size
    test_length_limits: TestLengthLimits = all_snippets
    protocols: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_protocol: str = ""
