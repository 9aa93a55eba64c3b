"""The `Method` interface between a method and training, evaluation and prediction.

Overview of the methods: [docs][methods-interface].
"""

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
from jaxtal.localization.proposals import CLASS_RULES, SEGMENT_SCORES

_LARGEST_NUMBER = 1e6  # bound of the absolute value of every number
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


def check_localization(config: ConfigDict) -> None:
    """Validate the fields of `config.localization`.

    Args:
        config: the whole config of a run.

    Raises:
        ConfigError: an option does not exist, or a number is out of range.
    """
    at_least(config, {f"localization.{name}": low for name, low in _LOCALIZATION_MINIMUMS.items()})
    finite(config, {f"localization.{name}": _LARGEST_NUMBER for name in _LOCALIZATION_NUMBERS})
    options: dict[str, Collection[str]] = {
        "class_rule": CLASS_RULES,
        "outer": SEGMENT_SCORES,
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
            f"config.localization.thresholds is {thresholds}; wanted (first, last, count), "
            "e.g. (0.1, 0.9, 10)"
        )


STREAM_NAMES = {1: ("stream",), 2: ("rgb", "flow")}  # by number of streams, in parameters' names
STREAM_ATTENTIONS = ("attention_rgb", "attention_flow")  # outputs that one stream does not have


def sections(stream_widths: tuple[int, ...]) -> int | tuple[int, ...]:
    """Return the argument of `jnp.split` that splits columns into streams, see `BuildModel`."""
    return stream_widths[:1] if len(stream_widths) == 2 else 2 - len(stream_widths)


class BuildModel(Protocol):
    """Builder of a method's Flax module."""

    def __call__(
        self, config: ConfigDict, num_classes: int, stream_widths: tuple[int, ...] = (), /
    ) -> nn.Module:
        """Build the module.

        Args:
            config: ``config.model``.
            num_classes: C, without the background class.
            stream_widths: features per snippet of each stream, (D,) or (D1, D2); (): two streams,
                the equal halves of the columns, RGB first.

        Returns:
            A module that is called as ``(features [B, T, D1 + D2], mask [B, T], train=...)`` and
            returns a dictionary of outputs.

        Raises:
            ConfigError: the network is not defined for these streams.
        """


class LossTerms(Protocol):
    """Loss function of a method."""

    def __call__(
        self, outputs: dict[str, jax.Array], batch: Batch, context: Context, config: ConfigDict, /
    ) -> tuple[dict[str, jax.Array], Any]:
        """Compute the loss terms of a batch and the model's new state.

        Args:
            outputs: the module's outputs for the batch.
            batch: features, mask and labels.
            context: step number, random keys and the model's state.
            config: the whole config of the run.

        Returns:
            The unweighted terms by name, scalars, and the state. The total loss is the sum of the
            terms weighted by ``config.loss.weights``.
        """


class VideoScores(Protocol):
    """Class scores of a video for the video-level mAP."""

    def __call__(self, outputs: dict[str, np.ndarray], config: ConfigDict, /) -> np.ndarray:
        """Compute the class scores (C,) of one video.

        Args:
            outputs: ``output_names`` of one video, (T, n) each, or (1, n) for a value per video.
            config: the whole config of the run.

        Returns:
            (C,) scores; only their order among videos matters.
        """


class ProposalScores(Protocol):
    """Arrays that proposals are generated from, as functions of the outputs of one video.

    `ScoreSpec` is the declarative form; a model with any other object cannot be exported.
    """

    def compute(
        self, outputs: dict[str, np.ndarray], /
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute sequence, gate and class scores, see `proposals.generate_proposals`.

        Args:
            outputs: ``localization_inputs`` of one video, (T, n) each, or (1, n) for a value per
                video.
        """

    def activations(self, outputs: dict[str, np.ndarray], /) -> np.ndarray:
        """Compute the activation of each class (T, C) in 0 to 1, for plots.

        Args:
            outputs: as of `compute`; T is the number of their rows.
        """


class MakeScoreSpec(Protocol):
    """Builder of the proposal scores."""

    def __call__(self, config: ConfigDict, /) -> ProposalScores:
        """Return the proposal scores for the whole config of a run."""


class ValidateConfig(Protocol):
    """Validation of a config."""

    def __call__(self, config: ConfigDict, /) -> None:
        """Raise `ConfigError` for a config that no data set could be trained with."""


class ValidateDataset(Protocol):
    """Validation of a data set."""

    def __call__(self, dataset: Dataset, config: ConfigDict, /) -> None:
        """Raise an error for a data set that the method cannot be trained on."""


class Initialize(Protocol):
    """Data-dependent initialization of a method's parameters."""

    def __call__(self, params: Any, dataset: Dataset, config: ConfigDict, /) -> Any:
        """Return the initial parameters of a run.

        Args:
            params: randomly initialized parameters; the arrays may have leading axes, one entry
                per model.
            dataset: the training data.
            config: the whole config of the run.
        """


class TransformUpdates(Protocol):
    """Transformation of the optimizer's updates."""

    def __call__(self, updates: Any, step: jax.Array, config: ConfigDict, /) -> Any:
        """Return the updates to apply to the parameters.

        Args:
            updates: the optimizer's updates, a tree of arrays like the parameters.
            step: int32 scalar, the number of updates done before this one.
            config: the whole config of the run.
        """


class NumBatchShards(Protocol):
    """Number of parts of a batch, for several devices."""

    def __call__(self, config: ConfigDict, /) -> int:
        """Return the number of equal parts that a batch can be split into.

        A loss must not read a video of another part (see `sharding.replicated`).
        """


class TestLengthLimits(Protocol):
    """Limits of the number of rows of a test video."""

    def __call__(self, config: ConfigDict, /) -> tuple[int, int | None]:
        """Return the least and the largest number of rows of a test video; None is no limit.

        The rows are spread uniformly over the video's snippets.
        """


@dataclasses.dataclass(frozen=True)
class Method:
    """A weakly supervised localization method, as a set of plain functions.

    Attributes:
        name: as in ``config.method``.
        build: builds the Flax module, see `BuildModel`.
        sample: samples the videos and snippets of a training batch. Runs inside the compiled step,
            or ahead of it where the features are streamed, so ``context.state`` is empty.
        loss_terms: computes the loss terms, see `LossTerms`.
        output_names: the outputs that localization, scores and plots read, each [B, T, n], or
            [B, 1, n] for a value per video. A network of one stream has no `STREAM_ATTENTIONS`.
        video_scores: computes the class scores for the video-level mAP, see `VideoScores`.
        score_spec: builds the proposal scores, see `MakeScoreSpec`.
        localization_inputs: the outputs that the proposal scores read.
        localization_config_cls: the type of ``config.localization``.
        validate_config: validates the config; by default accepts every config.
        validate_dataset: validates the data set; by default accepts every data set.
        initialize: data-dependent initialization; by default none.
        transform_updates: changes the optimizer's updates; by default not at all.
        num_batch_shards: number of parts that a batch can be split into; by default its videos.
        test_length_limits: rows of a test video; by default all its snippets.
        protocols: name of the evaluation protocol of the method's authors, by data set name.
        default_protocol: protocol for any other data set; "" is the data set's official one.
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
