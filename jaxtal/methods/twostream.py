"""Two-stream networks with a semantic-aware mechanism (Wang, Li and Wang, CVPR 2023).

Each snippet has a foreground, a context and a background attention. The attention branch pools the
features with them and classifies the pooled features. The MIL branch classifies snippets and pools
the weighted scores. The two branches' probabilities are averaged. Each snippet's embedding is
pulled toward the centroid of its predicted class in a learnable dictionary. No program was
published: [docs][twostream-decisions] lists the open points and the choices made.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxtal.config import at_least, below, one_of
from jaxtal.data.dataset import Dataset, multi_hot
from jaxtal.errors import ConfigError
from jaxtal.input_pipeline import sampling
from jaxtal.input_pipeline.packing import Batch, BatchIndices, VideoIndex
from jaxtal.input_pipeline.sampling import Context
from jaxtal.localization.scoring import ScoreSpec
from jaxtal.methods import base
from jaxtal.methods.base import Method
from jaxtal.nn import losses
from jaxtal.nn.layers import Dropout, TemporalConv, torch_default
from jaxtal.parallel import sharding

DICTIONARY = {
    "loss.dictionary_init": ("class_mean", "uniform", "class_mean_bg_global"),
    "loss.warmup": ("loss_ramp", "freeze_dict", "none"),
}
_OPTIONS = {
    "model.embedding": ("residual", "plain"),
    "model.attention": ("softmax", "sigmoid"),
    "model.branches": ("both", "attention", "mil"),
    "loss.fusion": ("scores", "losses"),
    "loss.guide_reduction": tuple(losses.REDUCTIONS),
    "loss.guide_background": tuple(losses.GUIDES),
    **DICTIONARY,
}


# XLA cannot partition a top-k over the devices that share a batch: each handles its own videos.
_topk_mean = sharding.shard_map_over_batch(losses.topk_mean)
MOST_TEST_SNIPPETS = 46341  # exclusive: the square must fit into an int32


class TwoStream(nn.Module):
    """Two-stream network for features of any width, with the semantic dictionary Q.

    Attributes:
        num_classes: C.
        embedding: "residual", x = f + ReLU(conv(f)), or "plain", x = ReLU(conv(f)).
        attention: "softmax" over the three attentions, or "sigmoid" of each.
        branches: branches that give the video-level probabilities: "both" (averaged), "attention"
            or "mil".
        share_fc: use one classifier for both branches instead of one each.
        dropout: probability, on the input of the MIL branch's classifier.
        topk_divisors: sigma of foreground, context and background: k = max(1, floor(T / sigma)).

    Source: Wang, Li and Wang, eq. 1 to 4 ([docs][twostream-network]: [attention
    branch][twostream-attention-branch], [MIL branch][twostream-mil-branch]).
    """

    num_classes: int
    embedding: str
    attention: str
    branches: str
    share_fc: bool
    dropout: float
    topk_divisors: tuple[int, int, int]

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> dict:
        """Run on a batch.

        Args:
            x: [B, T, 2D] features f, RGB first.
            mask: [B, T] bool.
            train: apply dropout; needs an rng named "dropout".

        Returns:
            embeddings x [B, T, 2D]; attention, attention_context, attention_background [B, T, 1];
            logits p [B, T, C + 1], background last; cas [B, T, C + 1], z_fg, the logits times the
            foreground attention (its softmax is s_fg); branch_scores [B, n, 3, C + 1], video-level
            probabilities of the n branches of `branches` under each attention; scores
            [B, 1, C + 1], the mean over branches for the foreground; distance [B, T, 1] from the
            centroid of the predicted class.
        """
        width, total = x.shape[-1], self.num_classes + 1

        def layer(name: str, features: int, kernel_size: int = 1) -> TemporalConv:
            uniform = torch_default(kernel_size * width)
            return TemporalConv(features, kernel_size, uniform, bias_init=uniform, name=name)

        hidden = nn.relu(layer("conv", width, 3)(x, mask))
        x = x + hidden if self.embedding == "residual" else hidden
        attention = layer("att", 3)(x, mask)
        attention = nn.softmax(attention) if self.attention == "softmax" else nn.sigmoid(attention)
        classify = layer("cls", total)
        classify_snippets = classify if self.share_fc else layer("mil", total)
        logits = classify_snippets(Dropout(self.dropout)(x, train), mask)

        pooled = pool_by_attention(x, attention, mask)
        by_attention = nn.softmax(classify(pooled, mask))  # kernel size 1 ignores the mask
        z = attention[..., None] * logits[:, :, None]  # eq. 2, [B, T, 3, C + 1]
        by_mil = branch_probabilities(z, mask, self.topk_divisors)
        branches = {"both": [by_attention, by_mil], "attention": [by_attention], "mil": [by_mil]}
        branch_scores = jnp.stack(branches[self.branches], axis=1)

        dictionary = self.param("dictionary", nn.initializers.uniform(1.0), (total, width))
        return {
            "embeddings": x,
            "attention": attention[..., :1],
            "attention_context": attention[..., 1:2],
            "attention_background": attention[..., 2:],
            "logits": logits,
            "cas": z[:, :, 0],
            "branch_scores": branch_scores,
            "scores": branch_scores[:, :, 0].mean(1, keepdims=True),
            "distance": centroid_distance(x, logits, dictionary),
        }


def branch_probabilities(
    z: jax.Array, mask: jax.Array, divisors: tuple[int, int, int]
) -> jax.Array:
    """Compute the video-level probabilities of the MIL branch under each attention.

    Args:
        z: [B, T, 3, C + 1], the logits times each attention.
        mask: [B, T] bool.
        divisors: sigma of each attention: the k = max(1, floor(T / sigma)) largest are averaged.

    Returns:
        [B, 3, C + 1].

    Source: Wang, Li and Wang, eq. 3 ([docs][twostream-mil-branch]).
    """
    pooled = [_topk_mean(z[:, :, r], mask, divisor=d) for r, d in enumerate(divisors)]
    return nn.softmax(jnp.stack(pooled, axis=1))


def pool_by_attention(x: jax.Array, attention: jax.Array, mask: jax.Array) -> jax.Array:
    """Compute the attention-weighted mean of the features over time, for each attention.

    Args:
        x: [B, T, D].
        attention: [B, T, R].
        mask: [B, T] bool.

    Returns:
        [B, R, D].

    Source: Wang, Li and Wang, eq. 1 ([docs][twostream-attention-branch]).
    """
    weight = jnp.where(mask[..., None], attention, 0)
    total = jnp.einsum("btr,btd->brd", weight, jnp.where(mask[..., None], x, 0))
    return total / (weight.sum(1)[..., None] + 1e-8)


def centroid_distance(x: jax.Array, logits: jax.Array, dictionary: jax.Array) -> jax.Array:
    """Compute the Euclidean distance of each snippet from the centroid of its predicted class.

    Args:
        x: [B, T, D] embeddings.
        logits: [B, T, C + 1]; the largest one selects the class, without gradient.
        dictionary: [C + 1, D], Q.

    Returns:
        [B, T, 1].

    Source: Wang, Li and Wang, eq. 6 ([docs][twostream-semantic-loss]).
    """
    predicted = jax.nn.one_hot(logits.argmax(-1), len(dictionary), dtype=x.dtype)
    # A product with one-hot rows is exact at this precision, and its gradient is a product. The
    # gradient of a gather would be a scatter, whose summation order accelerators do not fix.
    centroid = jnp.einsum("btc,cd->btd", predicted, dictionary, precision="highest")
    return jnp.sqrt(((x - centroid) ** 2).sum(-1, keepdims=True) + 1e-12)


def sample(context: Context, index: VideoIndex, config: ConfigDict) -> BatchIndices:
    """Sample a training batch: the next videos of the epoch's random order, T snippets of each.

    Masked rows fill the last batch of an epoch. Videos with fewer than `config.data.min_snippets`
    snippets are never sampled. Source: ACM-Net's sampling ([docs][twostream-sampling]).

    Args:
        context: step number and random keys.
        index: lengths of the training videos.
        config: the whole config (`train.batch_size`, `data.num_snippets`, `data.min_snippets`).

    Returns:
        Indices of B videos, -1 for a masked row, and of their snippets [B, T].
    """
    pool = index.lengths >= config.data.min_snippets
    videos = sampling.epoch_batch(context.run_key, context.step, pool, config.train.batch_size)
    count = config.data.num_snippets
    snippets = sampling.sample_sorted(context.key, index.lengths[videos], count)
    return BatchIndices(videos, snippets)


def loss_terms(
    outputs: dict, batch: Batch, context: Context, config: ConfigDict
) -> tuple[dict[str, jax.Array], Any]:
    """Compute the unweighted loss terms, named as in `config.loss.weights`.

    [L_fg, L_ct, L_bg][twostream-classification-losses] (eq. 5), [L_gui][twostream-guide-loss]
    (eq. 7) and L_smt (eq. 6); L_smt includes the factor of the warm-up.

    Args:
        outputs: see `TwoStream`.
        batch: mask [B, T] and labels [B, C].
        context: its step determines the warm-up; its state is returned unchanged.
        config: the whole config.

    Returns:
        The scalar terms by name, and the state.

    Source: Wang, Li and Wang, eq. 5 to 8 ([docs][twostream-losses]).
    """
    mask, settings = batch.mask, config.loss
    scores = outputs["branch_scores"]
    if settings.fusion == "scores":
        scores = scores.mean(1, keepdims=True)
    per_video = classification_terms(scores, batch.labels, settings.label_norm)
    attention = outputs["attention"]
    if settings.guide_stop_attention:
        attention = jax.lax.stop_gradient(attention)
    background = losses.GUIDES[settings.guide_background](outputs["attention"], outputs["logits"])
    per_video["guide"] = losses.opposition_to(attention, background, mask, settings.guide_reduction)
    semantic = losses.mean_over_time(outputs["distance"][..., 0], mask)
    per_video["semantic"] = semantic * ramp(context.step, settings)
    return {
        name: losses.mean_over_videos(value, mask) for name, value in per_video.items()
    }, context.state


def classification_terms(
    scores: jax.Array, labels: jax.Array, normalize: bool
) -> dict[str, jax.Array]:
    """Compute L_fg, L_ct and L_bg of each video, named as in `config.loss.weights`.

    Args:
        scores: [B, n, 3, C + 1], video-level probabilities of n branches under each attention.
        labels: [B, C].
        normalize: divide the targets by their sum.

    Returns:
        [B] by name, the mean over the branches.

    Source: Wang, Li and Wang, eq. 5 ([docs][twostream-classification-losses]).
    """
    labels = labels[:, None]
    # Targets under each attention: the video's actions; actions and background; background.
    targets = {
        "foreground": (labels, 0.0),
        "context": (labels, 1.0),
        "background": (0 * labels, 1.0),
    }
    return {
        name: losses.cross_entropy(scores[:, :, r], *target, normalize).mean(1)
        for r, (name, target) in enumerate(targets.items())
    }


def ramp(step: jax.Array, settings: ConfigDict) -> jax.Array | float:
    """Return the warm-up factor of L_smt at a step, 0 to 1 ([docs][twostream-warm-up]).

    Args:
        step: int32 scalar, number of updates done before this one.
        settings: `config.loss`.
    """
    if settings.warmup == "loss_ramp" and settings.warmup_steps:
        return jnp.minimum(step / settings.warmup_steps, 1)
    return 1.0


def initialize(params: dict, dataset: Dataset, config: ConfigDict) -> dict:
    """Replace the dictionary's rows, U(0, 1), by class means of the training features.

    A class without training videos keeps its uniform row. So does the background, unless
    `config.loss.dictionary_init` is "class_mean_bg_global": then its row is the mean of all
    training snippets. "uniform" replaces no row. Source: [docs][twostream-dictionary].

    Args:
        params: randomly initialized parameters, with "dictionary" [..., C + 1, 2D].
        dataset: the data set, with the features of the training videos.
        config: the whole config (`loss.dictionary_init`).

    Returns:
        The parameters with the new dictionary.
    """
    how = config.loss.dictionary_init
    if how == "uniform":
        return params
    labels = multi_hot(dataset.train, len(dataset.classes))
    counts = labels.T @ [len(video.features) for video in dataset.train]
    sums = np.stack([video.features.sum(axis=0, dtype=np.float64) for video in dataset.train])
    means = labels.T @ sums / np.maximum(counts, 1)[:, None]
    known = np.append(counts > 0, how == "class_mean_bg_global")
    background = sums.sum(axis=0) / sum(len(video.features) for video in dataset.train)
    means = np.concatenate([means, background[None]]).astype(np.float32)
    return params | {"dictionary": jnp.where(known[:, None], means, params["dictionary"])}


def transform_updates(updates: dict, step: jax.Array, config: ConfigDict) -> dict:
    """Set the dictionary's update to 0 during the warm-up, if `loss.warmup` is "freeze_dict".

    Adam's moments still follow the gradient, so that they are well formed when the warm-up ends.
    Source: [docs][twostream-warm-up].

    Args:
        updates: the optimizer's updates, with "dictionary" [C + 1, 2D].
        step: int32 scalar, number of updates done before this one.
        config: the whole config (`loss.warmup`, `loss.warmup_steps`).

    Returns:
        The updates to apply.
    """
    if config.loss.warmup != "freeze_dict":
        return updates
    change = jnp.where(step < config.loss.warmup_steps, 0, updates["dictionary"])
    return updates | {"dictionary": change}


def test_length_limits(config: ConfigDict) -> tuple[int, int]:
    """Return the limits (2, `config.data.test_snippets`) of a test video's number of rows.

    A single snippet is repeated; a longer video is subsampled evenly.
    """
    return 2, config.data.test_snippets


def validate_config(config: ConfigDict) -> None:
    """Raise ConfigError for unknown options and values out of range."""
    one_of(config, _OPTIONS)
    at_least(config, {"data.test_snippets": 2, "model.dropout": 0, "loss.warmup_steps": 0})
    below(config, {"model.dropout": 1})
    base.check_localization(config)
    check_divisors(config)
    below(config, {"data.test_snippets": MOST_TEST_SNIPPETS})
    alone = config.model.branches == "attention" and not config.model.share_fc
    if alone and config.loss.weights.semantic:
        raise ConfigError(
            f"config.loss.weights.semantic is {config.loss.weights.semantic}, but with "
            "config.model.branches=attention no classification loss trains the logits that select "
            "the centroids; set it to 0, or config.model.share_fc=True"
        )


def check_divisors(config: ConfigDict) -> None:
    """Raise ConfigError unless `config.model.topk_divisors` has three whole numbers."""
    divisors = config.model.topk_divisors
    if len(divisors) != 3 or not all(isinstance(d, int) and d >= 1 for d in divisors):
        raise ConfigError(
            f"config.model.topk_divisors is {divisors}; wanted three whole numbers of at least 1, "
            "for foreground, context and background, such as (8, 2, 2)"
        )


def video_scores(outputs: dict, config: ConfigDict) -> np.ndarray:
    """Return the (C,) foreground probabilities of a video ([docs][twostream-fusion])."""
    return np.asarray(outputs["scores"][0, :-1], np.float64)


def score_spec(config: ConfigDict) -> ScoreSpec:
    """Return the rule that thresholds and scores s_fg ([docs][twostream-localization]).

    Without the MIL branch the foreground attention replaces s_fg.
    """
    alone = config.model.branches == "attention"
    term = "attention_of_classes" if alone else "probability"
    return ScoreSpec(sequence=term, gate=term, activation=term, scores="scores")


METHOD = Method(
    name="twostream",
    # Its streams are the two branches: the columns are never split.
    build=lambda config, num_classes, stream_widths=(): TwoStream(num_classes, **config),
    sample=sample,
    loss_terms=loss_terms,
    validate_config=validate_config,
    initialize=initialize,
    transform_updates=transform_updates,
    test_length_limits=test_length_limits,
    output_names=("cas", "attention", "attention_context", "attention_background", "scores"),
    video_scores=video_scores,
    score_spec=score_spec,
    localization_inputs=("cas", "attention", "scores"),
)
