"""A method outside of the package: a linear T-CAM that is trained with top-k MIL."""

import flax.linen as nn
import jax.numpy as jnp

from jaxtal.input_pipeline import sampling
from jaxtal.input_pipeline.packing import BatchIndices
from jaxtal.localization import proposals
from jaxtal.localization.scoring import ScoreSpec
from jaxtal.methods.base import Method
from jaxtal.nn import losses
from jaxtal.nn.layers import TemporalConv


class Linear(nn.Module):
    """Linear classifier of snippets; the last class is the background."""

    num_classes: int

    @nn.compact
    def __call__(self, x, mask, train: bool = False) -> dict:
        return {"cas": TemporalConv(self.num_classes + 1, name="classifier")(x, mask)}


def sample(context, index, config) -> BatchIndices:
    """Sample videos in epochs, and `num_snippets` consecutive snippets of each."""
    everything = jnp.ones(index.lengths.shape, bool)
    videos = sampling.epoch_batch(
        context.run_key, context.step, everything, config.train.batch_size
    )
    snippets = sampling.random_crop(context.key, index.lengths[videos], config.data.num_snippets)
    return BatchIndices(videos, snippets)


def loss_terms(outputs, batch, context, config):
    """Compute the MIL loss, the only term."""
    loss = losses.topk_mil(outputs["cas"], batch.labels, batch.mask, config.loss.topk_divisor, 1.0)
    return {"mil": losses.mean_over_videos(loss, batch.mask)}, context.state


def video_scores(outputs, config):
    """Compute the class probabilities of the pooled T-CAM."""
    cas = outputs["cas"]
    return proposals.softmax(proposals.topk_mean(cas, -(-len(cas) // 8)))[:-1]


def score_spec(config):
    """Threshold the class probabilities, and score proposals by them."""
    term = "probability"
    return ScoreSpec(term, term, term, "cas", config.loss.topk_divisor, softmax=True)


METHOD = Method(
    name="toy",
    build=lambda config, num_classes, stream_widths=(): Linear(num_classes, **config),
    sample=sample,
    loss_terms=loss_terms,
    output_names=("cas",),
    video_scores=video_scores,
    score_spec=score_spec,
    localization_inputs=("cas",),
)
