"""ACM-Net (Qu et al., arXiv 2021): action context modeling network.

Each snippet has three attentions, for action instances, context and background. They weight the
T-CAM of one classifier. The norms of the features that they select are pushed apart. The two-stream
network is built on it. A baseline of the three methods of this package: [docs][acmnet].
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxtal.config import at_least, below
from jaxtal.input_pipeline.packing import Batch
from jaxtal.input_pipeline.sampling import Context
from jaxtal.localization.scoring import ScoreSpec
from jaxtal.methods import base, twostream
from jaxtal.methods.base import Method
from jaxtal.nn import losses
from jaxtal.nn.layers import Dropout, TemporalConv, torch_default


class ACMNet(nn.Module):
    """ACM-Net's network for features of any width ([docs][acmnet-network]).

    Attributes:
        num_classes: C.
        dropout: probability, of whole snippets and of single entries before the classifier.
        topk_divisors: of instances, context and background: k = max(1, floor(T / divisor)).
    """

    num_classes: int
    dropout: float
    topk_divisors: tuple[int, int, int]

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> dict:
        """Run on a batch.

        Args:
            x: [B, T, 2D] features.
            mask: [B, T] bool.
            train: apply dropout; needs an rng named "dropout".

        Returns:
            embeddings [B, T, 2D]; attention, attention_context, attention_background [B, T, 1];
            cas [B, T, C + 1], logits times the attention of instances, background last;
            branch_scores [B, 1, 3, C + 1], video-level probabilities under each attention, and
            scores [B, 1, C + 1], those of instances.
        """
        width = x.shape[-1]

        def layer(name: str, features: int, kernel_size: int = 1) -> TemporalConv:
            uniform = torch_default(kernel_size * width)
            return TemporalConv(features, kernel_size, uniform, bias_init=uniform, name=name)

        x = nn.relu(layer("embedding", width, 3)(x, mask))
        attention = nn.softmax(layer("attention", 3)(x, mask))
        whole = Dropout(self.dropout)(jnp.ones((*x.shape[:-1], 1), x.dtype), train)
        kept = Dropout(self.dropout)(x * whole, train)
        logits = layer("classifier", self.num_classes + 1)(kept, mask)
        z = attention[..., None] * logits[:, :, None]
        scores = twostream.branch_probabilities(z, mask, self.topk_divisors)
        return {
            "embeddings": x,
            **dict(zip(ATTENTIONS, jnp.split(attention, 3, axis=-1), strict=True)),
            "cas": z[:, :, 0],
            "branch_scores": scores[:, None],
            "scores": scores[:, :1],
        }


ATTENTIONS = ("attention", "attention_context", "attention_background")


def selected_mean(x: jax.Array, attention: jax.Array, mask: jax.Array, divisor: int) -> jax.Array:
    """Compute the mean of the features of the snippets with the largest attention.

    Args:
        x: [B, T, D].
        attention: [B, T]; selects the k = max(1, floor(length / divisor)) snippets, without
            gradient.
        mask: [B, T] bool.
        divisor: snippets per selected snippet.

    Returns:
        [B, D]; 0 for a video without snippets.

    Source: ACM-Net, feature separation loss ([docs][acmnet-losses]).
    """
    length = mask.sum(-1, keepdims=True)
    k = jnp.minimum(jnp.maximum(length // divisor, 1), length)
    order = jnp.argsort(jnp.where(mask, -jax.lax.stop_gradient(attention), jnp.inf), axis=-1)
    # A product with 0 and 1 / k: the gradient of a gather would be a scatter, whose order of
    # summation accelerators do not fix.
    weight = (jnp.argsort(order, axis=-1) < k) / jnp.maximum(k, 1)
    return jnp.einsum("bt,btd->bd", weight.astype(x.dtype), jnp.where(mask[..., None], x, 0))


def separation(outputs: dict, mask: jax.Array, config: ConfigDict) -> jax.Array:
    """Compute the feature separation loss: norms of instances, context and background.

    Args:
        outputs: see `ACMNet`.
        mask: [B, T] bool.
        config: the whole config (`model.topk_divisors`, `loss.margin`).

    Returns:
        [B] loss per video.

    Source: ACM-Net, feature separation loss ([docs][acmnet-losses]).
    """
    margin = config.loss.margin
    instance, context, background = (
        _norm(selected_mean(outputs["embeddings"], outputs[name][..., 0], mask, divisor))
        for name, divisor in zip(ATTENTIONS, config.model.topk_divisors, strict=True)
    )
    first = nn.relu(margin - instance + context)
    second = nn.relu(margin - context + background)
    return (first + second + background) ** 2


def _norm(x: jax.Array) -> jax.Array:
    return jnp.sqrt((x**2).sum(-1) + 1e-12)


def loss_terms(
    outputs: dict, batch: Batch, context: Context, config: ConfigDict
) -> tuple[dict[str, jax.Array], Any]:
    """Compute the unweighted loss terms; names as in `config.loss.weights`.

    Args:
        outputs: see `ACMNet`.
        batch: mask [B, T] and labels [B, C].
        context: its state is returned unchanged.
        config: the whole config.

    Returns:
        The scalar terms by name, and the state.

    Source: ACM-Net's published program ([docs][acmnet-losses]).
    """
    mask, attention = batch.mask, outputs["attention"]
    per_video = twostream.classification_terms(outputs["branch_scores"], batch.labels, True)
    stopped = jax.lax.stop_gradient(attention)
    sparse = attention + outputs["attention_context"]
    per_video |= {
        "guide": losses.opposition(stopped, outputs["cas"], mask, "sum"),
        "separation": separation(outputs, mask, config),
        "sparsity": losses.attention_norm(sparse, mask, "sum"),
    }
    return {
        name: losses.mean_over_videos(value, mask) for name, value in per_video.items()
    }, context.state


def validate_config(config: ConfigDict) -> None:
    """Raise ConfigError for numbers out of range."""
    at_least(config, {"data.test_snippets": 2, "model.dropout": 0, "loss.margin": 0})
    below(config, {"model.dropout": 1, "data.test_snippets": twostream.MOST_TEST_SNIPPETS})
    base.check_localization(config)
    twostream.check_divisors(config)


def score_spec(config: ConfigDict) -> ScoreSpec:
    """Return the rule that thresholds the attention and scores by softmax(z_instance)."""
    return ScoreSpec("probability", "attention", "probability", "scores")


METHOD = Method(
    name="acmnet",
    build=lambda config, num_classes, stream_widths=(): ACMNet(num_classes, **config),
    sample=twostream.sample,
    loss_terms=loss_terms,
    output_names=("cas", *ATTENTIONS, "scores"),
    video_scores=twostream.video_scores,
    score_spec=score_spec,
    localization_inputs=("cas", "attention", "scores"),
    validate_config=validate_config,
    test_length_limits=twostream.test_length_limits,
)
