"""CO2-Net: cross-modal consensus network (Hong et al., ACM Multimedia 2021).

RGB and flow each gate their own features by what the other modality agrees with (cross-modal
consensus module), give an attention each, and share one T-CAM with a background class. The fusions
that the paper compares with the consensus are here too (its Tables 5 and 6).
"""

import functools
import operator
from collections.abc import Callable, Collection
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxtal.config import at_least, one_of
from jaxtal.data.dataset import multi_hot
from jaxtal.errors import ConfigError
from jaxtal.input_pipeline import sampling
from jaxtal.input_pipeline.packing import Batch, BatchIndices, VideoIndex
from jaxtal.input_pipeline.sampling import Context
from jaxtal.localization import proposals
from jaxtal.localization.scoring import ScoreSpec
from jaxtal.methods import base
from jaxtal.methods.base import Method
from jaxtal.nn import losses
from jaxtal.nn.layers import Dropout, TemporalConv, average_pool, leaky_relu, temporal_mean
from jaxtal.parallel import sharding

# F^G sees a sequence of length 1, so of its three published taps one acts: a dense layer with the
# bound of the three, sqrt(6 / (3 D)).
_one_of_three_taps = nn.initializers.variance_scaling(2 / 3, "fan_in", "uniform")

# Dropout after the attention unit's first and second convolution and on its logit. On the logit it
# gives half of the snippets an attention of 0.5 in training.
_ATTENTION_DROPOUT = {"code": (0.5, 0.0, 0.5), "paper": (0.7, 0.7, 0.0)}


class AttentionUnit(nn.Module):
    """Attention of one modality from its enhanced features: [B, T, D] to [B, T, 1] (METHODS 2.b).

    Attributes:
        reading: whose dropout, the published "code"'s or the "paper"'s.
    """

    reading: str

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        def drop(x, rate):
            return Dropout(rate)(x, train) if rate else x

        width = max(1, x.shape[-1] // 2)
        first, second, on_logit = _ATTENTION_DROPOUT[self.reading]
        hidden = drop(leaky_relu(TemporalConv(width, 3, name="att0")(x, mask)), first)
        hidden = drop(leaky_relu(TemporalConv(width, 3, name="att1")(hidden, mask)), second)
        return nn.sigmoid(drop(TemporalConv(1, 1, name="att2")(hidden, mask), on_logit))


class Modality(nn.Module):
    """A modality on its own: its features as they are, and their attention (METHODS 2.b).

    Attributes:
        attention_unit: see `AttentionUnit`.
    """

    attention_unit: str

    @nn.compact
    def __call__(self, main: jax.Array, auxiliary: jax.Array, mask: jax.Array, train: bool):
        """Main and auxiliary [B, T, D] to attention [B, T, 1] and enhanced features [B, T, D]."""
        enhanced = self.enhance(main, auxiliary, mask, train)
        unit = AttentionUnit(self.attention_unit, name="attention")
        return unit(enhanced, mask, train), enhanced

    def enhance(self, main, auxiliary, mask, train: bool):
        """What a fusion makes of the main modality, [B, T, D]."""
        return main


class CrossModalConsensus(Modality):
    """Cross-modal consensus module, CCM (CO2-Net, section 3.2; METHODS 2.b).

    A context of the main modality and one of the auxiliary modality together gate the main
    modality's features.

    Attributes:
        dropout: what follows both convolutions: leaky ReLU and dropout ("code") or neither, as the
            "paper" mentions none.
        main, auxiliary: the contexts, "global" of the video or "local" of three snippets. The
            official model has the global one of the main modality (paper, Table 5).
    """

    dropout: str
    main: str
    auxiliary: str

    def enhance(self, main, auxiliary, mask, train: bool):
        def context(role, kind, x):
            x = _CONTEXTS[kind](x, mask, _CONTEXT_NAMES[role, kind])
            return Dropout(0.5)(leaky_relu(x), train) if self.dropout == "code" else x

        of_main = context("main", self.main, main)
        return nn.sigmoid(of_main * context("auxiliary", self.auxiliary, auxiliary)) * main


def _global(x, mask, name: str):
    """[B, T, D] to [B, 1, D]."""
    conv = TemporalConv(x.shape[-1], 1, _one_of_three_taps, name=name)
    return conv(temporal_mean(x, mask), jnp.ones_like(mask[:, :1]))


def _local(x, mask, name: str):
    """[B, T, D] to [B, T, D]."""
    return TemporalConv(x.shape[-1], 3, name=name)(x, mask)


_CONTEXTS = {"global": _global, "local": _local}

# The official model's layers have the short names, so that others are never taken for them.
_CONTEXT_NAMES = {
    ("main", "global"): "global",
    ("main", "local"): "local_main",
    ("auxiliary", "global"): "global_auxiliary",
    ("auxiliary", "local"): "local",
}


class SqueezeExcitation(Modality):
    """A modality gates its channels by its own mean over time (SE; paper, Table 6).

    METHODS 2.b writes the two dense layers without biases; like all layers here they have some,
    which begin at 0.
    """

    def enhance(self, main, auxiliary, mask, train: bool):
        width, once = main.shape[-1], jnp.ones_like(mask[:, :1])
        squeeze = TemporalConv(max(1, width // 16), name="squeeze")
        hidden = nn.relu(squeeze(temporal_mean(main, mask), once))
        return nn.sigmoid(TemporalConv(width, name="excite")(hidden, once)) * main


class JointAdaptation(nn.Module):
    """Both modalities gate both, snippet by snippet (SSMA; paper, Table 6); [B, T, 2D]."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        width = x.shape[-1]
        hidden = nn.relu(TemporalConv(max(1, width // 16), 3, name="squeeze")(x, mask))
        return nn.sigmoid(TemporalConv(width, 3, name="excite")(hidden, mask)) * x


class Fusion(NamedTuple):
    """How RGB and flow meet: a row of the paper's Table 6 (METHODS 2.b, ablation variants).

    Attributes:
        modality: `Modality` or a subclass; each modality goes through one.
        options: the fields of `CO2Net` that it takes besides attention_unit.
        adapt: ([B, T, 2D], mask) -> [B, T, 2D], before the modalities are parted.
        join: their enhanced features -> what the fusion layer sees.
        taps: of the fusion layer.
    """

    modality: type[Modality] = Modality
    options: tuple[str, ...] = ()
    adapt: Callable = lambda x, mask: x
    join: Callable = lambda rgb, flow: jnp.concatenate([rgb, flow], axis=-1)
    taps: int = 1


_FUSIONS = {
    "ccm": Fusion(CrossModalConsensus, ("ccm_dropout", "ccm_main", "ccm_auxiliary")),
    "add": Fusion(join=operator.add),
    "concat": Fusion(),
    "se": Fusion(SqueezeExcitation),
    "ssma": Fusion(adapt=lambda x, mask: JointAdaptation(name="ssma")(x, mask), taps=3),
}


class CO2Net(nn.Module):
    """The network of METHODS 2.b for features of any width.

    Attributes:
        num_classes: C.
        attention_unit: "code" or "paper", see `AttentionUnit`.
        classifier: "code", a fusion layer whose output is the embedding and two temporal
            convolutions; or "paper", three temporal convolutions on the enhanced features, which
            are the embedding. The latter has no fusion layer, which "add" and "ssma" change.
        ccm_dropout, ccm_main, ccm_auxiliary: of the fusion "ccm", see `CrossModalConsensus`.
        fusion: see `_FUSIONS`.
        pool_window: snippets, odd; T-CAM and attentions are averaged over so many. 1 = not at all.
    """

    num_classes: int
    attention_unit: str
    classifier: str
    ccm_dropout: str
    ccm_main: str
    ccm_auxiliary: str
    fusion: str
    pool_window: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> dict:
        """Run on a batch.

        Args:
            x: [B, T, 2D] features, RGB first.
            mask: [B, T] bool.
            train: dropout on; needs an rng named "dropout".

        Returns:
            cas [B, T, C + 1] raw logits, background last; attention, attention_rgb,
            attention_flow [B, T, 1]; embeddings, and enhanced features, [B, T, 2D] each.
        """
        fusion = _FUSIONS[self.fusion]
        rgb, flow = jnp.split(fusion.adapt(x, mask), 2, axis=-1)
        options = [getattr(self, name) for name in fusion.options]
        modality = functools.partial(fusion.modality, self.attention_unit, *options)
        attention_rgb, rgb_hat = modality(name=f"{self.fusion}_rgb")(rgb, flow, mask, train)
        attention_flow, flow_hat = modality(name=f"{self.fusion}_flow")(flow, rgb, mask, train)
        classify = self._classify if self.classifier == "code" else self._classify_as_in_paper
        cas, embeddings = classify(fusion.join(rgb_hat, flow_hat), mask, train, x.shape[-1])
        cas, attention_rgb, attention_flow = (
            average_pool(x, mask, self.pool_window) for x in (cas, attention_rgb, attention_flow)
        )
        return {
            "cas": cas,
            "attention": (attention_rgb + attention_flow) / 2,
            "attention_rgb": attention_rgb,
            "attention_flow": attention_flow,
            "embeddings": embeddings,
            "enhanced": jnp.concatenate([rgb_hat, flow_hat], axis=-1),
        }

    def _classify(self, enhanced, mask, train: bool, width: int):
        """T-CAM and embeddings from the enhanced features, as the published code has it."""
        fuse = TemporalConv(width, _FUSIONS[self.fusion].taps, name="fusion")
        embeddings = Dropout(0.7)(leaky_relu(fuse(enhanced, mask)), train)
        # A second dropout in front of the classifier; L_cas uses what lies between the two.
        hidden = TemporalConv(width, 3, name="cls0")(Dropout(0.7)(embeddings, train), mask)
        hidden = Dropout(0.7)(leaky_relu(hidden), train)
        return TemporalConv(self.num_classes + 1, 1, name="cls1")(hidden, mask), embeddings

    def _classify_as_in_paper(self, enhanced, mask, train: bool, width: int):
        """The same by three temporal convolutions with dropout between them (METHODS 2.b)."""
        hidden = enhanced
        for name in ("cls0", "cls1"):
            hidden = leaky_relu(TemporalConv(width, 3, name=name)(hidden, mask))
            hidden = Dropout(0.7)(hidden, train)
        return TemporalConv(self.num_classes + 1, 1, name="cls2")(hidden, mask), enhanced


def sample(context: Context, index: VideoIndex, config) -> BatchIndices:
    """A training batch: some rows in same-class pairs, N random snippets of every video.

    A video of zeros is in no pair, one below `config.data.min_snippets` in pairs only.
    """
    video_key, snippet_key = jax.random.split(context.key)
    pairs = config.train.pairs
    singles = config.train.batch_size - 2 * pairs
    labels = jnp.where(index.nonzero[:, None] > 0, index.labels, 0)
    pool = index.lengths >= config.data.min_snippets
    videos = sampling.pairs_and_singles(video_key, labels, pool, pairs, singles)
    count = config.data.num_snippets
    snippets = sampling.sample_snippets(snippet_key, index.lengths[videos], count)
    return BatchIndices(videos, snippets)


# XLA cannot split a top-k over the devices that share a batch: each device takes its own videos.
_topk_mil = sharding.shard_map_over_batch(losses.topk_mil)


def loss_terms(outputs: dict, batch: Batch, context: Context, config):
    """The loss terms of METHODS 2.c, unweighted: names as in `config.loss.weights`."""
    cas, mask, labels, settings = outputs["cas"], batch.mask, batch.labels, config.loss
    rgb, flow = outputs["attention_rgb"], outputs["attention_flow"]
    attentions = jnp.stack([rgb, flow, outputs["attention"]])
    suppressed = losses.suppress_cas(cas, outputs["attention"], settings.suppression)
    mil = functools.partial(_topk_mil, divisor=settings.topk_divisor)
    pairs = config.train.pairs

    def in_pairs(x):
        return sampling.in_pairs(x, pairs)

    def of_all_attentions(loss):
        return jax.vmap(loss)(attentions).mean(0)

    pair_terms, shared = losses.co_activity(
        in_pairs(outputs["embeddings"]), in_pairs(suppressed), in_pairs(labels), in_pairs(mask)
    )
    per_video = {
        "mil_original": mil(cas, labels, mask, background=1.0),
        "mil_suppressed": mil(suppressed, labels, mask, background=0.0),
        "mutual": losses.mutual_learning(
            rgb, flow, mask, settings.mutual_metric, settings.mutual_alpha
        ),
        "opposition": of_all_attentions(
            lambda a: losses.opposition(a, cas, mask, settings.opposition_reduction)
        ),
        "norm": of_all_attentions(
            lambda a: losses.attention_norm(a, mask, settings.norm_reduction)
        ),
    }
    terms = {name: losses.mean_over_videos(value, mask) for name, value in per_video.items()}
    terms["co_activity"] = pair_terms.sum() / jnp.maximum(shared.sum(), 1)
    return terms, context.state


# The values of a field. Mostly where the published code and the paper differ.
_OPTIONS: dict[str, Collection[str]] = {
    "model.attention_unit": tuple(_ATTENTION_DROPOUT),
    "model.classifier": ("code", "paper"),
    "model.ccm_dropout": ("code", "paper"),
    "loss.suppression": tuple(losses.SUPPRESSIONS),
    "loss.norm_reduction": tuple(losses.REDUCTIONS),
    "loss.opposition_reduction": tuple(losses.REDUCTIONS),
    "loss.mutual_metric": tuple(losses.METRICS),
    # The paper's Tables 5 and 6.
    "model.fusion": _FUSIONS,
    "model.ccm_main": _CONTEXTS,
    "model.ccm_auxiliary": _CONTEXTS,
}


def num_batch_shards(config) -> int:
    """Equal parts that a batch can be divided in, no pair in two of them."""
    pairs = config.train.pairs
    return sampling.num_shards_with_pairs(pairs, config.train.batch_size - 2 * pairs)


def validate_config(config) -> None:
    """Raise ConfigError for options that do not exist or go together and numbers that cannot be."""
    model = config.model
    one_of(config, _OPTIONS)
    if model.classifier == "paper" and model.fusion in ("add", "ssma"):
        raise ConfigError(
            f"config.model.fusion is {model.fusion!r}, which changes the fusion layer, but "
            "config.model.classifier=paper has none; set config.model.classifier=code"
        )
    at_least(config, {"loss.topk_divisor": 1, "model.pool_window": 1, "train.pairs": 0})
    base.check_localization(config)
    if config.model.pool_window % 2 == 0:
        raise ConfigError(
            f"config.model.pool_window is {config.model.pool_window}; it must be odd, so that the "
            "average has a middle"
        )
    batch_size, pairs = config.train.batch_size, config.train.pairs
    if batch_size < 2 * pairs:
        raise ConfigError(
            f"config.train.batch_size is {batch_size}, but config.train.pairs={pairs} pairs need "
            f"at least {2 * pairs} videos; raise batch_size or lower pairs"
        )


def validate_dataset(dataset, config) -> None:
    """Raise ConfigError if batches cannot be composed of the training videos."""
    usable = [video for video in dataset.train if video.features.any()]
    carriers = multi_hot(usable, len(dataset.classes)).sum(axis=0)
    if config.train.pairs and carriers.max(initial=0) < 2:
        raise ConfigError(
            f"{dataset.name}: no class is carried by two training videos, which same-class pairs "
            "need; set config.train.pairs=0 or add videos"
        )


def video_scores(outputs: dict, config) -> np.ndarray:
    """(C,) class probabilities for the video-level mAP (METHODS 2.f) from cas (T, C + 1)."""
    cas = outputs["cas"]
    return proposals.softmax(proposals.topk_mean(cas, -(-len(cas) // 8)))[:-1]


def score_spec(config) -> ScoreSpec:
    """Suppressed T-CAM, thresholds on the attention (METHODS 2.e)."""
    divisor = config.localization.topk_divisor
    return ScoreSpec("refined", "attention", "probability", "refined", divisor, softmax=True)


METHOD = Method(
    name="co2net",
    build=lambda config, num_classes: CO2Net(num_classes, **config),
    sample=sample,
    loss_terms=loss_terms,
    num_batch_shards=num_batch_shards,
    validate_config=validate_config,
    validate_dataset=validate_dataset,
    output_names=("cas", "attention", "attention_rgb", "attention_flow"),
    video_scores=video_scores,
    score_spec=score_spec,
    localization_inputs=("cas", "attention"),
    protocols={
        "Thumos14reduced": "thumos_co2",
        "Thumos14": "thumos_co2",
        "ActivityNet1.2": "anet12_co2",
    },
    default_protocol="co2",
)
