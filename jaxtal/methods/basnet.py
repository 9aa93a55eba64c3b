"""BaS-Net (Lee, Uh and Byun, AAAI 2020): background suppression network.

One classifier reads the features twice: as they are, where every video has the background class,
and weighted by a foreground attention, where none has it. The attention thereby learns to suppress
the background. A baseline of the three methods of this package: [docs][basnet].
"""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from jaxtal.config import at_least, below
from jaxtal.input_pipeline import sampling
from jaxtal.input_pipeline.packing import Batch, BatchIndices, VideoIndex
from jaxtal.input_pipeline.sampling import Context
from jaxtal.localization import proposals
from jaxtal.localization.scoring import ScoreSpec
from jaxtal.methods import base, twostream
from jaxtal.methods.base import Method
from jaxtal.nn import losses
from jaxtal.nn.layers import Dropout, TemporalConv, torch_default
from jaxtal.parallel import sharding


def _layer(name: str, inputs: int, features: int, kernel_size: int = 1) -> TemporalConv:
    """Convolution with PyTorch's default initializer."""
    uniform = torch_default(kernel_size * inputs)
    return TemporalConv(features, kernel_size, uniform, bias_init=uniform, name=name)


class Classifier(nn.Module):
    """Three temporal convolutions, the last one without a bias: features to a T-CAM.

    Attributes:
        num_outputs: C + 1.
        dropout: probability, on the input of the last layer in training.
    """

    num_outputs: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """Map features [B, T, 2D] to logits [B, T, C + 1]."""
        width = x.shape[-1]
        for name in ("conv0", "conv1"):
            x = nn.leaky_relu(_layer(name, width, width, 3)(x, mask))
        x = Dropout(self.dropout)(x, train)
        return nn.Dense(
            self.num_outputs, use_bias=False, kernel_init=torch_default(width), name="conv2"
        )(x)


class BaSNet(nn.Module):
    """BaS-Net's network for features of any width ([docs][basnet-network]).

    Attributes:
        num_classes: C.
        dropout: probability, before the classifier's last layer.
    """

    num_classes: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> dict:
        """Run on a batch.

        Args:
            x: [B, T, 2D] features.
            mask: [B, T] bool.
            train: apply dropout; needs an rng named "dropout".

        Returns:
            attention [B, T, 1], foreground weights in 0 to 1; cas_base and cas [B, T, C + 1],
            logits of the features and of the weighted features, background last.
        """
        width = x.shape[-1]
        narrow = max(1, width // 4)
        hidden = nn.leaky_relu(_layer("filter0", width, narrow)(x, mask))
        attention = nn.sigmoid(_layer("filter1", narrow, 1)(hidden, mask))
        classify = Classifier(self.num_classes + 1, self.dropout, name="classifier")
        return {
            "attention": attention,
            "cas_base": classify(x, mask, train),
            "cas": classify(attention * x, mask, train),
        }


def sample(context: Context, index: VideoIndex, config: ConfigDict) -> BatchIndices:
    """Sample the next videos of the epoch's random order, and one snippet of each of T bins.

    Source: published program ([docs][basnet-training]).
    """
    pool = index.lengths >= config.data.min_snippets
    videos = sampling.epoch_batch(context.run_key, context.step, pool, config.train.batch_size)
    lengths, count = index.lengths[videos], config.data.num_snippets
    return BatchIndices(videos, sampling.sample_snippets(context.key, lengths, count))


# XLA cannot partition a top-k over the devices that share a batch: each handles its own videos.
_topk_mean = sharding.shard_map_over_batch(losses.topk_mean)


def loss_terms(
    outputs: dict, batch: Batch, context: Context, config: ConfigDict
) -> tuple[dict[str, jax.Array], Any]:
    """Compute the unweighted loss terms; names as in `config.loss.weights`.

    Args:
        outputs: see `BaSNet`.
        batch: mask [B, T] and labels [B, C].
        context: its state is returned unchanged.
        config: the whole config.

    Returns:
        The scalar terms by name, and the state.

    Source: published program ([docs][basnet-training]).
    """
    mask, labels, divisor = batch.mask, batch.labels, config.loss.topk_divisor

    def classification(name: str, background: float) -> jax.Array:
        probability = nn.softmax(_topk_mean(outputs[name], mask, divisor=divisor))
        return losses.binary_cross_entropy(probability, labels, background)

    per_video = {
        "base": classification("cas_base", 1.0),
        "suppression": classification("cas", 0.0),
        "norm": losses.attention_norm(outputs["attention"], mask, "sum"),
    }
    terms = {name: losses.mean_over_videos(value, mask) for name, value in per_video.items()}
    return terms, context.state


def test_length_limits(config: ConfigDict) -> tuple[int, int]:
    """Return `config.data.test_snippets` twice: every test video is resampled to this length."""
    return config.data.test_snippets, config.data.test_snippets


def validate_config(config: ConfigDict) -> None:
    """Raise ConfigError for numbers out of range."""
    at_least(config, {"loss.topk_divisor": 1, "model.dropout": 0, "data.test_snippets": 1})
    below(config, {"model.dropout": 1, "data.test_snippets": twostream.MOST_TEST_SNIPPETS})
    base.check_localization(config)


def video_scores(outputs: dict, config: ConfigDict) -> np.ndarray:
    """Compute the class probabilities (C,) of the suppressed branch ([docs][basnet-training])."""
    cas = outputs["cas"]
    k = max(1, len(cas) // config.localization.topk_divisor)
    return proposals.softmax(proposals.topk_mean(cas, k))[:-1]


def score_spec(config: ConfigDict) -> ScoreSpec:
    """Return the proposal scores: the T-CAM of the suppressed branch as a share of its maximum.

    Source: published program ([docs][basnet-localization]).
    """
    term, divisor = "share_of_maximum", config.localization.topk_divisor
    return ScoreSpec(term, term, term, "cas", divisor, softmax=True)


METHOD = Method(
    name="basnet",
    build=lambda config, num_classes, stream_widths=(): BaSNet(num_classes, **config),
    sample=sample,
    loss_terms=loss_terms,
    output_names=("cas", "attention"),
    video_scores=video_scores,
    score_spec=score_spec,
    localization_inputs=("cas",),
    validate_config=validate_config,
    test_length_limits=test_length_limits,
)
