"""A fourth method from outside the package: a linear T-CAM trained by top-k MIL alone."""

import flax.linen as nn
import jax.numpy as jnp

from jaxtal import localization, losses, sampling
from jaxtal.evidence import Evidence
from jaxtal.layers import TemporalConv
from jaxtal.methods.method import Method


class Linear(nn.Module):
    """One classifier for all snippets; the last class is the background."""

    num_classes: int

    @nn.compact
    def __call__(self, x, mask, train: bool = False) -> dict:
        return {"cas": TemporalConv(self.num_classes + 1, name="classifier")(x, mask)}


def sample(context, index, config) -> sampling.Draw:
    """Epochs, `num_snippets` consecutive snippets of every video."""
    everything = jnp.ones(index.lengths.shape, bool)
    videos = sampling.epochs(context.run_key, context.step, everything, config.train.batch_size)
    snippets = sampling.crop(context.key, index.lengths[videos], config.data.num_snippets)
    return sampling.Draw(videos, snippets)


def loss_terms(outputs, batch, context, config):
    """The MIL loss, and nothing else."""
    loss = losses.top_k_mil(outputs["cas"], batch.labels, batch.mask, config.loss.topk_divisor, 1.0)
    return {"mil": losses.mean_over_videos(loss, batch.mask)}, context.state


def video_scores(outputs, config):
    """Class probabilities of the pooled T-CAM."""
    cas = outputs["cas"]
    return localization.softmax(localization.top_mean(cas, -(-len(cas) // 8)))[:-1]


def recipe(config):
    """Thresholds on the class probabilities, which also score."""
    term = "probability"
    return Evidence(term, term, term, "cas", config.loss.topk_divisor, softmax=True)


METHOD = Method(
    name="toy",
    build=lambda config, num_classes: Linear(num_classes, **config),
    sample=sample,
    loss_terms=loss_terms,
    outputs=("cas",),
    video_scores=video_scores,
    recipe=recipe,
    localized=("cas",),
)
