"""D2-Net (Narayan et al., ICCV 2021): discriminative embeddings and denoised activations.

Two independent streams compute latent embeddings and a T-CAM without a background class. A focal
loss weighted by embedding distances makes the embeddings discriminative. Mutual-information losses
at snippet and video level denoise the T-CAM. The model's state is a running mean of background
embeddings; snippets that differ from it have a high bottom-up attention.
"""

import dataclasses
import functools
import operator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxtal.config import at_least, below, one_of
from jaxtal.data.dataset import Dataset
from jaxtal.errors import ConfigError
from jaxtal.input_pipeline import sampling
from jaxtal.input_pipeline.packing import Batch, BatchIndices, VideoIndex, row_indices
from jaxtal.input_pipeline.sampling import Context
from jaxtal.localization import proposals
from jaxtal.localization.config import LocalizationConfig
from jaxtal.localization.scoring import ScoreSpec
from jaxtal.methods import base, denoising
from jaxtal.methods.base import Method
from jaxtal.nn import discriminative_loss, losses
from jaxtal.nn.discriminative_loss import attended_embeddings, bottom_up_attention
from jaxtal.nn.layers import Dropout, TemporalConv, leaky_relu
from jaxtal.parallel import sharding

_OPTIONS = {
    "model.padding": ("masked", "published"),
    "loss.classification": ("discriminative", "focal", "cross_entropy"),
    "loss.separation_row": discriminative_loss.ROWS,
    "loss.pairs": discriminative_loss.PAIRS,
    "loss.reduction": ("mean", "sum"),
    "loss.running_background": ("peak", "mean", "sum"),
    "localization.class_scores": ("refined", "cas"),
    "localization.topk_rounding": ("down", "up"),
}


class Stream(nn.Module):
    """Network of one stream ([docs][d2net-network]); attributes as in `D2Net`, and E, `width`."""

    width: int
    num_classes: int
    kernel_size: int
    dilation: int
    classifier_kernel_size: int
    residual: bool
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool):
        """Map features [B, T, D] to embeddings [B, T, E] and logits [B, T, C]."""
        conv = functools.partial(
            TemporalConv, kernel_init=nn.initializers.normal(0.01), dilation=self.dilation
        )
        for name in ("conv0", "conv1"):
            hidden = leaky_relu(conv(self.width, self.kernel_size, name=name)(x, mask))
            x = hidden + x if self.residual and x.shape == hidden.shape else hidden
        x = Dropout(self.dropout)(x, train)
        return x, conv(self.num_classes, self.classifier_kernel_size, name="cls")(x, mask)


class D2Net(nn.Module):
    """D2-Net for features of any width, with its running background embedding.

    Attributes:
        num_classes: C.
        kernel_size: taps of the two hidden temporal convolutions, odd.
        dilation: snippets between two taps, in all three convolutions.
        classifier_kernel_size: taps of the last convolution, odd.
        residual: add each hidden layer's input to its output, if they have the same width.
        dropout: probability, on the embeddings in training; the losses read them after dropout.
        padding: "masked": padding has no effect on a video's outputs. "published": in training it
            has one, up to the batch's longest video, since biases make its hidden layers nonzero.
        sections: of the columns, see `base.sections`; E, the width of embeddings, is the largest.

    Source: D2-Net, section 3 ([docs][d2net-network]).
    """

    num_classes: int
    kernel_size: int
    dilation: int
    classifier_kernel_size: int
    residual: bool
    dropout: float
    padding: str
    sections: int | tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> dict:
        """Run on a batch.

        Args:
            x: [B, T, 2D] features, RGB first, 0 outside the mask.
            mask: [B, T] bool.
            train: apply dropout; needs an rng named "dropout".

        Returns:
            cas [B, T, C], the mean of the streams' probabilities; embeddings [B, T, E], their mean
            embedding; attention [B, T, 1], bottom-up, from the stored running background.
        """
        if train and self.padding == "published":
            mask = jnp.broadcast_to(mask.any(0, keepdims=True), mask.shape)
        streams = jnp.split(x, self.sections, axis=-1)
        stream = functools.partial(
            Stream, max(part.shape[-1] for part in streams), self.num_classes, self.kernel_size,
            self.dilation, self.classifier_kernel_size, self.residual, self.dropout,
        )  # fmt: skip
        named = zip(base.STREAM_NAMES[len(streams)], streams, strict=True)
        outputs = [stream(name=name)(part, mask, train) for name, part in named]
        embeddings, logits = zip(*outputs, strict=True)
        mean = functools.reduce(operator.add, embeddings) / len(streams)
        background = self.variable("running", "background", jnp.zeros, mean.shape[-1:])
        return {
            "cas": functools.reduce(operator.add, map(nn.sigmoid, logits)) / len(streams),
            "embeddings": mean,
            "attention": bottom_up_attention(mean, background.value)[..., None],
        }


def sample(context: Context, index: VideoIndex, config: ConfigDict) -> BatchIndices:
    """Sample a training batch: videos uniformly with replacement, cropped at random or padded.

    Snippets whose features are all 0 are masked; videos with fewer than `config.data.min_snippets`
    other snippets are never sampled. Source: published program ([docs][d2net-sampling]).
    """
    video_key, crop_key = jax.random.split(context.key)
    pool = index.nonzero >= config.data.min_snippets
    videos = sampling.sample_uniform(video_key, pool, config.train.batch_size)
    lengths = index.lengths[videos]
    snippets = sampling.random_crop(crop_key, lengths, config.data.num_snippets)
    rows, _ = row_indices(index, BatchIndices(videos, snippets))
    snippets = jnp.where(index.present[rows], snippets, lengths[:, None])
    return BatchIndices(videos, snippets)


def loss_terms(
    outputs: dict, batch: Batch, context: Context, config: ConfigDict
) -> tuple[dict[str, jax.Array], Any]:
    """Compute the unweighted loss terms and the updated state ([docs][d2net-training]).

    Args:
        outputs: see `D2Net`.
        batch: mask [B, T] and labels [B, C].
        context: its key samples pairs; its state has the running background [D].
        config: the whole config.

    Returns:
        The scalar terms by name, and the state with the new running background.
    """
    cas, embeddings, settings = outputs["cas"], outputs["embeddings"], config.loss
    valid, mask = denoising.taking_part(batch)
    attention = cas.max(-1)
    # The loss compares videos of the whole batch, so every device needs all of them.
    foreground, background = sharding.replicated(
        (
            attended_embeddings(embeddings, attention, settings.foreground_threshold, mask),
            attended_embeddings(embeddings, 1 - attention, settings.background_threshold, mask),
        )
    )

    running = context.state["running"]["background"]
    newest = {
        "peak": discriminative_loss.peak_embedding(embeddings, 1 - attention, mask),
        "mean": background.value,
        "sum": background.value * background.weight[:, None],
    }[settings.running_background]
    running = discriminative_loss.update_background(running, newest, background.exists)

    weights = None
    if settings.classification == "discriminative":
        draw = functools.partial(discriminative_loss.draw_pairing, pairs=settings.pairs)
        pairing = sharding.run_replicated(draw)(context.key, foreground.exists, background.exists)
        weights = sharding.replicated(
            discriminative_loss.cosine_weights(
                foreground,
                background,
                sharding.replicated(valid),
                sharding.replicated(pairing),
                settings.separation_row,
                settings.pairs,
            )
        )
    probability = denoising.video_probability(cas, mask, settings)
    classification = _classification(probability, batch.labels, weights, settings)
    terms = {
        "discriminative": losses.mean_over_videos(classification, mask),
        **denoising.terms(
            cas, bottom_up_attention(embeddings, running), batch, context.step, settings
        ),
    }
    return terms, {"running": {"background": running}}


def _classification(probability, labels, weights, settings):
    """Compute L_Dis, L_F or L_CE of every video: [B, C] to [B]."""
    entries = discriminative_loss.discriminative_loss(
        probability,
        labels,
        weights,
        0 if settings.classification == "cross_entropy" else settings.focusing,
        settings.gamma,
        probability.shape[-1] if settings.reweight_positives else 1,
    )
    return entries.mean(-1) if settings.reduction == "mean" else entries.sum(-1)


def validate_config(config: ConfigDict) -> None:
    """Raise ConfigError for unknown options and values out of range."""
    one_of(config, _OPTIONS)
    sizes = ("model.kernel_size", "model.dilation", "model.classifier_kernel_size")
    at_least(config, dict.fromkeys(sizes, 1))
    at_least(config, {"model.dropout": 0, "loss.focusing": 0, "loss.gamma": 0})
    for name in ("kernel_size", "classifier_kernel_size"):
        if config.model[name] % 2 == 0:
            raise ConfigError(
                f"config.model.{name} is {config.model[name]}; it must be odd, so that the "
                "convolution has a middle"
            )
    below(config, {"model.dropout": 1})
    denoising.validate_config(config)
    base.check_localization(config)


def validate_dataset(dataset: Dataset, config: ConfigDict) -> None:
    """Raise ConfigError if no training video has a loss."""
    least = max(denoising.SHORTEST, config.data.min_snippets)
    if not any(
        len(video.labels) and video.features.any(axis=1).sum() >= least for video in dataset.train
    ):
        raise ConfigError(
            f"{dataset.name}: no training video has both a label and {least} snippets with "
            "features; add videos or lower config.data.min_snippets"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class D2Localization(LocalizationConfig):
    """Fields of D2-Net's localization beyond the shared ones ([docs][d2net-localization]).

    Attributes:
        relative_attention: divide the bottom-up attention by half of its maximum in the video
            (ActivityNet).
        class_scores: sequence that the video's class scores pool, "refined" (attention times T-CAM,
            published program) or "cas" (T-CAM, paper).
        topk_rounding: of the number of averaged entries, T / `topk_divisor`: "down" (published
            program), at least 1, or "up" (paper).
    """

    relative_attention: bool
    class_scores: str
    topk_rounding: str


def video_scores(outputs: dict, config: ConfigDict) -> np.ndarray:
    """Compute the (C,) video-level p from cas (T, C) as in the losses ([docs][d2net-pooling])."""
    cas = outputs["cas"]
    return proposals.topk_mean(cas, -(-len(cas) // config.loss.topk_divisor))


def score_spec(config: ConfigDict) -> ScoreSpec:
    """Return the rule that thresholds and scores attention x T-CAM ([docs][d2net-localization])."""
    settings = config.localization
    return ScoreSpec(
        sequence="refined",
        gate="refined",
        activation="cas",
        scores=settings.class_scores,
        topk_divisor=settings.topk_divisor,
        relative_attention=settings.relative_attention,
        background=False,
        round_up=settings.topk_rounding == "up",
    )


METHOD = Method(
    name="d2net",
    build=lambda config, c, widths=(): D2Net(c, sections=base.sections(widths), **config),
    sample=sample,
    loss_terms=loss_terms,
    validate_config=validate_config,
    validate_dataset=validate_dataset,
    output_names=("cas", "attention"),
    video_scores=video_scores,
    score_spec=score_spec,
    localization_inputs=("cas", "attention"),
    localization_config_cls=D2Localization,
    protocols={
        "Thumos14reduced": "thumos_d2",
        "Thumos14": "thumos_d2",
        "ActivityNet1.2": "anet12_d2",
    },
    default_protocol="d2",
)
