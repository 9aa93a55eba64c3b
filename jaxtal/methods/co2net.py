"""CO2-Net: cross-modal consensus network (Hong et al., ACM Multimedia 2021).

RGB and flow each gate their own features by what the other modality agrees with (cross-modal
consensus module), give an attention each, and share one T-CAM with a background class.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxtal import localization, losses, sampling
from jaxtal.errors import UserError
from jaxtal.layers import Dropout, TemporalConv, leaky_relu, temporal_mean
from jaxtal.methods.method import Context, Method

# F^G sees a sequence of length 1, so of its three published taps one acts: a dense layer with the
# bound of the three, sqrt(6 / (3 D)).
_one_of_three_taps = nn.initializers.variance_scaling(2 / 3, "fan_in", "uniform")


class AttentionUnit(nn.Module):
    """Attention of one modality from its enhanced features: [B, T, D] to [B, T, 1] (METHODS 2.b).

    Dropout acts on the logit, as in the published code: in training half of the snippets get 0.5.
    """

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1] // 2
        hidden = leaky_relu(TemporalConv(width, 3, name="att0")(x, mask))
        hidden = Dropout(0.5)(hidden, train)
        hidden = leaky_relu(TemporalConv(width, 3, name="att1")(hidden, mask))
        logit = TemporalConv(1, 1, name="att2")(hidden, mask)
        return nn.sigmoid(Dropout(0.5)(logit, train))


class CrossModalConsensus(nn.Module):
    """Cross-modal consensus module, CCM (CO2-Net, section 3.2; METHODS 2.b).

    The global context of the main modality and the local one of the auxiliary modality together
    gate the main modality's features.
    """

    @nn.compact
    def __call__(self, main: jax.Array, auxiliary: jax.Array, mask: jax.Array, train: bool):
        """Main and auxiliary [B, T, D] to attention [B, T, 1] and enhanced features [B, T, D]."""
        width = main.shape[-1]
        context = TemporalConv(width, 1, _one_of_three_taps, name="global")(
            temporal_mean(main, mask), jnp.ones_like(mask[:, :1])
        )
        context = Dropout(0.5)(leaky_relu(context), train)
        local = leaky_relu(TemporalConv(width, 3, name="local")(auxiliary, mask))
        local = Dropout(0.5)(local, train)
        enhanced = nn.sigmoid(local * context) * main
        return AttentionUnit(name="attention")(enhanced, mask, train), enhanced


class CO2Net(nn.Module):
    """The network of METHODS 2.b for features of any width.

    Attributes:
        num_classes: C.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> dict:
        """Run on a batch.

        Args:
            x: [B, T, 2D] features, RGB first.
            mask: [B, T] bool.
            train: dropout on; needs an rng named "dropout".

        Returns:
            cas [B, T, C + 1] raw logits, background last; attention, attention_rgb,
            attention_flow [B, T, 1]; embeddings [B, T, 2D].
        """
        rgb, flow = jnp.split(x, 2, axis=-1)
        attention_rgb, rgb_hat = CrossModalConsensus(name="ccm_rgb")(rgb, flow, mask, train)
        attention_flow, flow_hat = CrossModalConsensus(name="ccm_flow")(flow, rgb, mask, train)
        width = x.shape[-1]
        fused = jnp.concatenate([rgb_hat, flow_hat], axis=-1)
        embeddings = leaky_relu(TemporalConv(width, 1, name="fusion")(fused, mask))
        embeddings = Dropout(0.7)(embeddings, train)
        # A second dropout in front of the classifier; L_cas uses what lies between the two.
        hidden = TemporalConv(width, 3, name="cls0")(Dropout(0.7)(embeddings, train), mask)
        hidden = Dropout(0.7)(leaky_relu(hidden), train)
        return {
            "cas": TemporalConv(self.num_classes + 1, 1, name="cls1")(hidden, mask),
            "attention": (attention_rgb + attention_flow) / 2,
            "attention_rgb": attention_rgb,
            "attention_flow": attention_flow,
            "embeddings": embeddings,
        }


def sample(key: jax.Array, data: sampling.PackedVideos, config) -> sampling.Batch:
    """A training batch: the first rows in same-class pairs, N random snippets of every video."""
    video_key, snippet_key = jax.random.split(key)
    pairs = config.train.pairs
    singles = config.train.batch_size - 2 * pairs
    videos = sampling.pairs_and_singles(video_key, data.labels, pairs, singles)
    count = config.data.num_snippets
    snippets = sampling.sample_snippets(snippet_key, data.lengths[videos], count)
    return sampling.gather(data, videos, snippets)


def loss_terms(outputs: dict, batch: sampling.Batch, context: Context, config):
    """The loss terms of METHODS 2.c, unweighted: names as in `config.loss.weights`."""
    cas, mask, labels, settings = outputs["cas"], batch.mask, batch.labels, config.loss
    rgb, flow = outputs["attention_rgb"], outputs["attention_flow"]
    attentions = jnp.stack([rgb, flow, outputs["attention"]])
    suppressed = losses.suppress(cas, outputs["attention"])
    pairs = config.train.pairs

    def in_pairs(x):
        return x[: 2 * pairs].reshape(pairs, 2, *x.shape[1:])

    pair_terms, shared = losses.co_activity(
        in_pairs(outputs["embeddings"]), in_pairs(suppressed), in_pairs(labels), in_pairs(mask)
    )
    per_video = {
        "mil_original": losses.top_k_mil(cas, labels, mask, settings.topk_divisor, 1.0),
        "mil_suppressed": losses.top_k_mil(suppressed, labels, mask, settings.topk_divisor, 0.0),
        "mutual": losses.mutual_learning(
            rgb, flow, mask, settings.mutual_metric, settings.mutual_alpha
        ),
        "opposition": jax.vmap(losses.opposition, (0, None, None))(attentions, cas, mask).mean(0),
        "norm": jax.vmap(losses.normalisation, (0, None))(attentions, mask).mean(0),
    }
    terms = {name: losses.mean_over_videos(value, mask) for name, value in per_video.items()}
    terms["co_activity"] = pair_terms.sum() / jnp.maximum(shared.sum(), 1)
    return terms, context.state


def check(dataset, config) -> None:
    """Raise UserError for batches that cannot be composed and options that do not exist."""
    if config.loss.mutual_metric not in losses.METRICS:
        raise UserError(
            f"config.loss.mutual_metric is {config.loss.mutual_metric!r}; it must be one of "
            f"{', '.join(losses.METRICS)}"
        )
    batch_size, pairs = config.train.batch_size, config.train.pairs
    if batch_size < 2 * pairs:
        raise UserError(
            f"config.train.batch_size is {batch_size}, but config.train.pairs={pairs} pairs need "
            f"at least {2 * pairs} videos; raise batch_size or lower pairs"
        )
    counts = np.bincount(
        np.concatenate([video.labels for video in dataset.train]), minlength=len(dataset.classes)
    )
    if pairs and counts.max() < 2:
        raise UserError(
            f"{dataset.name}: no class is carried by two training videos, which same-class pairs "
            "need; set config.train.pairs=0 or add videos"
        )


def video_scores(outputs: dict) -> np.ndarray:
    """(C,) class probabilities for the video-level mAP (METHODS 2.f) from cas (T, C + 1)."""
    cas = outputs["cas"]
    return localization.softmax(localization.top_mean(cas, -(-len(cas) // 8)))[:-1]


def localize(outputs: dict, config) -> localization.Segments:
    """Detections of one video from its cas (T, C + 1) and attention (T, 1)."""
    settings = localization.LocalizationConfig(**config.localization)
    return localization.localize(outputs["cas"], outputs["attention"], settings)


METHOD = Method(
    name="co2net",
    build=lambda config, num_classes: CO2Net(num_classes),
    sample=sample,
    loss_terms=loss_terms,
    check=check,
    outputs=("cas", "attention", "attention_rgb", "attention_flow"),
    video_scores=video_scores,
    localize=localize,
    protocols={
        "Thumos14reduced": "thumos_co2",
        "Thumos14": "thumos_co2",
        "ActivityNet1.2": "anet12_co2",
    },
    default_protocol="co2",
)
