"""W-TALC (Paul, Roy and Roy-Chowdhury, ECCV 2018): top-k MIL and co-activity similarity.

One dense layer embeds the snippets, a linear one classifies them. There is no background class and
no attention: a class is localized where its T-CAM exceeds the middle of its range. A baseline of
the three methods of this package: [docs][wtalc].
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxtal.config import at_least, below
from jaxtal.input_pipeline import sampling
from jaxtal.input_pipeline.packing import Batch, BatchIndices, VideoIndex
from jaxtal.input_pipeline.sampling import Context
from jaxtal.localization import proposals
from jaxtal.localization.scoring import ScoreSpec
from jaxtal.methods import base, pairs
from jaxtal.methods.base import Method
from jaxtal.nn import losses
from jaxtal.nn.layers import Dropout, TemporalConv
from jaxtal.parallel import sharding


class WTALC(nn.Module):
    """W-TALC's network for features of any width ([docs][wtalc-network]).

    Attributes:
        num_classes: C.
        dropout: probability, on the embeddings in training; the losses read them after dropout.
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
            embeddings [B, T, 2D]; cas [B, T, C], logits.
        """
        init = nn.initializers.xavier_uniform()
        embed = TemporalConv(x.shape[-1], kernel_init=init, name="embedding")
        x = Dropout(self.dropout)(nn.relu(embed(x, mask)), train)
        classify = TemporalConv(self.num_classes, kernel_init=init, name="classifier")
        return {"embeddings": x, "cas": classify(x, mask)}


def sample(context: Context, index: VideoIndex, config: ConfigDict) -> BatchIndices:
    """Sample the videos of a batch as CO2-Net does, pairs first, and a random crop of each.

    Source: published program ([docs][wtalc-training]).
    """
    video_key, crop_key = jax.random.split(context.key)
    videos = sampling.paired_videos(video_key, index, config)
    lengths, count = index.lengths[videos], config.data.num_snippets
    return BatchIndices(videos, sampling.random_crop(crop_key, lengths, count))


# XLA cannot partition a top-k over the devices that share a batch: each handles its own videos.
_topk_mean = sharding.shard_map_over_batch(losses.topk_mean)


def loss_terms(
    outputs: dict, batch: Batch, context: Context, config: ConfigDict
) -> tuple[dict[str, jax.Array], Any]:
    """Compute the unweighted loss terms; names as in `config.loss.weights`.

    Args:
        outputs: see `WTALC`.
        batch: mask [B, T] and labels [B, C]; its rows contain pairs as `sample` arranges them.
        context: its state is returned unchanged.
        config: the whole config.

    Returns:
        The scalar terms by name, and the state.

    Source: published program ([docs][wtalc-training]).
    """
    mask, labels = batch.mask, batch.labels
    pooled = _topk_mean(outputs["cas"], mask, divisor=config.loss.topk_divisor, round_up=True)
    target = labels / jnp.maximum(labels.sum(-1, keepdims=True), 1)
    mil = -(target * nn.log_softmax(pooled)).sum(-1)
    in_pairs = functools.partial(sampling.in_pairs, pairs=config.train.pairs)
    similarity = losses.mean_co_activity(
        *map(in_pairs, (outputs["embeddings"], outputs["cas"], labels, mask))
    )
    terms = {"mil": losses.mean_over_videos(mil, mask), "co_activity": similarity}
    return terms, context.state


def validate_config(config: ConfigDict) -> None:
    """Raise ConfigError for numbers out of range."""
    at_least(config, {"loss.topk_divisor": 1, "model.dropout": 0, "train.pairs": 0})
    below(config, {"model.dropout": 1})
    base.check_localization(config)
    pairs.check_pairs(config)


def video_scores(outputs: dict, config: ConfigDict) -> np.ndarray:
    """Compute the class probabilities (C,) that rank videos ([docs][wtalc-localization])."""
    cas = outputs["cas"]
    k = max(1, len(cas) // config.localization.topk_divisor)
    return proposals.softmax(proposals.topk_mean(cas, k))


def score_spec(config: ConfigDict) -> ScoreSpec:
    """Return the proposal scores: thresholds on the range of the T-CAM, which scores proposals.

    Source: published program ([docs][wtalc-localization]).
    """
    divisor = config.localization.topk_divisor
    term = "share_of_range"
    return ScoreSpec("cas", term, term, "cas", divisor, background=False)


METHOD = Method(
    name="wtalc",
    build=lambda config, num_classes, stream_widths=(): WTALC(num_classes, **config),
    sample=sample,
    loss_terms=loss_terms,
    output_names=("cas",),
    video_scores=video_scores,
    score_spec=score_spec,
    localization_inputs=("cas",),
    num_batch_shards=pairs.num_batch_shards,
    validate_config=validate_config,
    validate_dataset=pairs.validate_dataset,
)
