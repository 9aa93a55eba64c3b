"""CO2-Net: cross-modal consensus network (Hong et al., ACM Multimedia 2021).

Each modality's features are gated by a consensus of both modalities, and an attention is computed
from the gated features of each. One T-CAM with a background class is computed from both. The
alternatives of the paper's Tables 5 and 6 are implemented, too.

Equations, parameter counts, and differences from the published code: [docs][co2net].
"""

import functools
import operator
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxtal.config import at_least, one_of
from jaxtal.data.dataset import Dataset
from jaxtal.errors import ConfigError
from jaxtal.input_pipeline import sampling
from jaxtal.input_pipeline.packing import Batch, BatchIndices, VideoIndex
from jaxtal.input_pipeline.sampling import Context
from jaxtal.localization import proposals
from jaxtal.localization.scoring import ScoreSpec
from jaxtal.methods import base, pairs
from jaxtal.methods.base import Method
from jaxtal.nn import losses
from jaxtal.nn.layers import Dropout, TemporalConv, average_pool, leaky_relu, temporal_mean
from jaxtal.parallel import sharding

# The published global layer has three taps, but its input is a sequence of length 1: only the
# middle one has an effect. A dense layer with the bound of three taps, sqrt(6 / (3 D)), is equal.
_one_of_three_taps = nn.initializers.variance_scaling(2 / 3, "fan_in", "uniform")

# Dropout rates after the attention unit's first and second convolution and on its logit. Dropout on
# the logit sets the attention of half of the snippets to 0.5 in training.
_ATTENTION_DROPOUT = {"code": (0.5, 0.0, 0.5), "paper": (0.7, 0.7, 0.0)}


class AttentionUnit(nn.Module):
    """Attention of one modality, computed from its enhanced features.

    Source: CO2-Net, eq. 4 ([docs][co2net-attention-unit]).

    Attributes:
        reading: placement of dropout, as in the published "code" or in the "paper".
    """

    reading: str

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """Compute the attention [B, T, 1] from features x [B, T, D] and mask [B, T]."""

        def drop(x, rate):
            return Dropout(rate)(x, train) if rate else x

        width = max(1, x.shape[-1] // 2)
        first, second, on_logit = _ATTENTION_DROPOUT[self.reading]
        hidden = drop(leaky_relu(TemporalConv(width, 3, name="att0")(x, mask)), first)
        hidden = drop(leaky_relu(TemporalConv(width, 3, name="att1")(hidden, mask)), second)
        return nn.sigmoid(drop(TemporalConv(1, 1, name="att2")(hidden, mask), on_logit))


class Modality(nn.Module):
    """Attention of a modality; the base class of the fusions, which passes features unchanged.

    Source: CO2-Net, Table 6, "Concat" ([docs][co2net-fusion]).

    Attributes:
        attention_unit: placement of dropout, see `AttentionUnit`.
    """

    attention_unit: str

    @nn.compact
    def __call__(
        self, main: jax.Array, auxiliary: jax.Array, mask: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Compute attention [B, T, 1] and enhanced features [B, T, D] of the main modality.

        Features are [B, T, D], auxiliary ones of any D; mask [B, T]; dropout is on in training.
        """
        enhanced = self.enhance(main, auxiliary, mask, train)
        unit = AttentionUnit(self.attention_unit, name="attention")
        return unit(enhanced, mask, train), enhanced

    def enhance(
        self, main: jax.Array, auxiliary: jax.Array, mask: jax.Array, train: bool
    ) -> jax.Array:
        """Return the enhanced features [B, T, D]; arguments as of `__call__`."""
        return main


class CrossModalConsensus(Modality):
    """Cross-modal consensus module, CCM.

    The features of the main modality are gated by the product of a context of the main modality and
    a context of the auxiliary modality. Source: CO2-Net, eq. 1 to 3
    ([docs][co2net-consensus]); other contexts: Table 5 ([docs][co2net-contexts]).

    Attributes:
        dropout: "code": leaky ReLU and dropout 0.5 follow both layers; "paper": neither does.
        main: context of the main modality, "global" (mean over the video) or "local" (three
            snippets).
        auxiliary: context of the auxiliary modality, "global" or "local".
    """

    dropout: str
    main: str
    auxiliary: str

    def enhance(self, main, auxiliary, mask, train: bool):
        """Return the gated features [B, T, D]; arguments as of `Modality.__call__`."""

        def context(role, kind, x):
            x = _CONTEXTS[kind](x, mask, main.shape[-1], _CONTEXT_NAMES[role, kind])
            return Dropout(0.5)(leaky_relu(x), train) if self.dropout == "code" else x

        of_main = context("main", self.main, main)
        return nn.sigmoid(of_main * context("auxiliary", self.auxiliary, auxiliary)) * main


def _global(x, mask, width: int, name: str):
    """Context of the whole video: [B, T, D] to [B, 1, width]."""
    conv = TemporalConv(width, 1, _one_of_three_taps, name=name)
    return conv(temporal_mean(x, mask), jnp.ones_like(mask[:, :1]))


def _local(x, mask, width: int, name: str):
    """Context of three snippets: [B, T, D] to [B, T, width]."""
    return TemporalConv(width, 3, name=name)(x, mask)


_CONTEXTS = {"global": _global, "local": _local}

# The published layers have the short names, so that no variant's parameters are confused with them.
_CONTEXT_NAMES = {
    ("main", "global"): "global",
    ("main", "local"): "local_main",
    ("auxiliary", "global"): "global_auxiliary",
    ("auxiliary", "local"): "local",
}


class SqueezeExcitation(Modality):
    """Squeeze-and-excitation (SE): a modality gates its channels by its own mean over time.

    Source: CO2-Net, Table 6, "SE" ([docs][co2net-fusion]).
    """

    def enhance(self, main, auxiliary, mask, train: bool):
        """Return the gated features [B, T, D]; arguments as of `Modality.__call__`."""
        width, once = main.shape[-1], jnp.ones_like(mask[:, :1])
        squeeze = TemporalConv(max(1, width // 16), name="squeeze")
        hidden = nn.relu(squeeze(temporal_mean(main, mask), once))
        return nn.sigmoid(TemporalConv(width, name="excite")(hidden, once)) * main


class JointAdaptation(nn.Module):
    """Joint gating of both modalities, snippet by snippet (SSMA).

    Source: CO2-Net, Table 6, "SSMA" ([docs][co2net-fusion]).
    """

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Gate the features x [B, T, 2D] of both modalities; mask [B, T]."""
        width = x.shape[-1]
        hidden = nn.relu(TemporalConv(max(1, width // 16), 3, name="squeeze")(x, mask))
        return nn.sigmoid(TemporalConv(width, 3, name="excite")(hidden, mask)) * x


class Fusion(NamedTuple):
    """Fusion of RGB and flow: a row of the paper's Table 6 ([docs][co2net-fusion]).

    Attributes:
        modality: the module of each modality, `Modality` or a subclass.
        options: the fields of `CO2Net` that the module takes besides attention_unit.
        adapt: ([B, T, 2D], mask) -> [B, T, 2D], before the features are split into streams.
        join: enhanced features of each stream -> input of the fusion layer.
        taps: kernel size of the fusion layer.
    """

    modality: type[Modality] = Modality
    options: tuple[str, ...] = ()
    adapt: Callable = lambda x, mask: x
    join: Callable = lambda *streams: jnp.concatenate(streams, axis=-1)
    taps: int = 1


_FUSIONS = {
    "ccm": Fusion(CrossModalConsensus, ("ccm_dropout", "ccm_main", "ccm_auxiliary")),
    "add": Fusion(join=operator.add),
    "concat": Fusion(),
    "se": Fusion(SqueezeExcitation),
    "ssma": Fusion(adapt=lambda x, mask: JointAdaptation(name="ssma")(x, mask), taps=3),
}


class CO2Net(nn.Module):
    """The network, for features of any width ([docs][co2net-network]).

    Attributes:
        num_classes: C, without the background class.
        attention_unit: placement of dropout, "code" or "paper", see `AttentionUnit`.
        classifier: "code": a fusion layer, whose output are the embeddings, and two temporal
            convolutions. "paper": three temporal convolutions on the enhanced features, which are
            the embeddings; not possible with the fusions "add" and "ssma".
        ccm_dropout, ccm_main, ccm_auxiliary: fields of `CrossModalConsensus`.
        fusion: "ccm", "add", "concat", "se" or "ssma".
        pool_window: window of the moving average of T-CAM and attentions, in snippets; odd, 1 for
            none.
        sections: of the columns, see `base.sections`. A single stream is its own auxiliary.
    """

    num_classes: int
    attention_unit: str
    classifier: str
    ccm_dropout: str
    ccm_main: str
    ccm_auxiliary: str
    fusion: str
    pool_window: int
    sections: int | tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> dict:
        """Run on a batch.

        Args:
            x: [B, T, 2D] features, RGB first.
            mask: [B, T] bool.
            train: dropout is on; needs an rng named "dropout".

        Returns:
            "cas" [B, T, C + 1], raw logits, background last; "attention" [B, T, 1]; with two
            streams "attention_rgb" and "attention_flow"; "embeddings", "enhanced" [B, T, 2D].
        """
        fusion = _FUSIONS[self.fusion]
        streams = jnp.split(fusion.adapt(x, mask), self.sections, axis=-1)
        options = [getattr(self, name) for name in fusion.options]
        modality = functools.partial(fusion.modality, self.attention_unit, *options)
        sides = zip(base.STREAM_NAMES[len(streams)], streams, streams[::-1], strict=True)
        runs = [modality(name=f"{self.fusion}_{n}")(x, y, mask, train) for n, x, y in sides]
        each, enhanced = zip(*runs, strict=True)
        classify = self._classify if self.classifier == "code" else self._classify_as_in_paper
        cas, embeddings = classify(fusion.join(*enhanced), mask, train, x.shape[-1])
        cas, *attentions = (average_pool(x, mask, self.pool_window) for x in (cas, *each))
        pair = attentions if len(attentions) == 2 else ()
        return {
            "cas": cas,
            "attention": functools.reduce(operator.add, attentions) / len(attentions),
            **dict(zip(base.STREAM_ATTENTIONS, pair, strict=False)),
            "embeddings": embeddings,
            "enhanced": jnp.concatenate(enhanced, axis=-1),
        }

    def _classify(self, enhanced, mask, train: bool, width: int):
        """T-CAM and embeddings as in the published code."""
        fuse = TemporalConv(width, _FUSIONS[self.fusion].taps, name="fusion")
        embeddings = Dropout(0.7)(leaky_relu(fuse(enhanced, mask)), train)
        # A second dropout in front of the classifier; L_cas uses the features between the two.
        hidden = TemporalConv(width, 3, name="cls0")(Dropout(0.7)(embeddings, train), mask)
        hidden = Dropout(0.7)(leaky_relu(hidden), train)
        return TemporalConv(self.num_classes + 1, 1, name="cls1")(hidden, mask), embeddings

    def _classify_as_in_paper(self, enhanced, mask, train: bool, width: int):
        """T-CAM by three temporal convolutions with dropout between them; the embeddings are E."""
        hidden = enhanced
        for name in ("cls0", "cls1"):
            hidden = leaky_relu(TemporalConv(width, 3, name=name)(hidden, mask))
            hidden = Dropout(0.7)(hidden, train)
        return TemporalConv(self.num_classes + 1, 1, name="cls2")(hidden, mask), enhanced


def build(config: ConfigDict, num_classes: int, widths: tuple[int, ...] = ()) -> CO2Net:
    """Build the network; raise ConfigError for streams that cannot be added, see `BuildModel`."""
    if config["fusion"] == "add" and widths != 2 * widths[:1]:
        raise ConfigError(
            f"config.model.fusion=add: the streams are {widths} wide; wanted two of the same "
            "width, or config.model.fusion=concat"
        )
    return CO2Net(num_classes, sections=base.sections(widths), **config)


def sample(context: Context, index: VideoIndex, config: ConfigDict) -> BatchIndices:
    """Sample a training batch: same-class pairs and single videos, N random snippets of each.

    Source: [docs][co2net-sampling].
    """
    video_key, snippet_key = jax.random.split(context.key)
    videos = sampling.paired_videos(video_key, index, config)
    lengths, count = index.lengths[videos], config.data.num_snippets
    return BatchIndices(videos, sampling.sample_snippets(snippet_key, lengths, count))


# XLA cannot partition a top-k over the devices that share a batch: each handles its own videos.
_topk_mil = sharding.shard_map_over_batch(losses.topk_mil)


def loss_terms(
    outputs: dict, batch: Batch, context: Context, config: ConfigDict
) -> tuple[dict[str, jax.Array], Any]:
    """Compute the unweighted loss terms; names as in `config.loss.weights`.

    Source: CO2-Net, section 3 and eq. 6 to 10 ([docs][co2net-losses]).

    Args:
        outputs: see `CO2Net`.
        batch: mask [B, T] and labels [B, C]; its rows contain pairs as `sample` arranges them.
        context: its state is returned unchanged.
        config: the whole config.

    Returns:
        The scalar terms by name, and the state; there is no term "mutual" with one stream.
    """
    cas, mask, labels, settings = outputs["cas"], batch.mask, batch.labels, config.loss
    pair = [outputs[name] for name in base.STREAM_ATTENTIONS if name in outputs]  # or none
    attentions = jnp.stack([*pair, outputs["attention"]])
    kind, alpha = settings.mutual_metric, settings.mutual_alpha
    suppressed = losses.suppress_cas(cas, outputs["attention"], settings.suppression)
    mil = functools.partial(_topk_mil, divisor=settings.topk_divisor)

    def of_all_attentions(loss):
        return jax.vmap(loss)(attentions).mean(0)

    per_video = {
        "mil_original": mil(cas, labels, mask, background=1.0),
        "mil_suppressed": mil(suppressed, labels, mask, background=0.0),
        **({"mutual": losses.mutual_learning(pair[0], pair[1], mask, kind, alpha)} if pair else {}),
        "opposition": of_all_attentions(
            lambda a: losses.opposition(a, cas, mask, settings.opposition_reduction)
        ),
        "norm": of_all_attentions(
            lambda a: losses.attention_norm(a, mask, settings.norm_reduction)
        ),
    }
    terms = {name: losses.mean_over_videos(value, mask) for name, value in per_video.items()}
    in_pairs = functools.partial(sampling.in_pairs, pairs=config.train.pairs)
    terms["co_activity"] = losses.mean_co_activity(
        *map(in_pairs, (outputs["embeddings"], suppressed, labels, mask))
    )
    return terms, context.state


# The values of each field; most are alternatives between the published code and the paper.
_OPTIONS: dict[str, Collection[str]] = {
    "model.attention_unit": tuple(_ATTENTION_DROPOUT),
    "model.classifier": ("code", "paper"),
    "model.ccm_dropout": ("code", "paper"),
    "loss.suppression": tuple(losses.SUPPRESSIONS),
    "loss.norm_reduction": tuple(losses.REDUCTIONS),
    "loss.opposition_reduction": tuple(losses.REDUCTIONS),
    "loss.mutual_metric": tuple(losses.METRICS),
    "model.fusion": _FUSIONS,
    "model.ccm_main": _CONTEXTS,
    "model.ccm_auxiliary": _CONTEXTS,
}


def validate_config(config: ConfigDict) -> None:
    """Raise ConfigError for unknown or conflicting options and for numbers out of range."""
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
            "window is centered on a snippet"
        )
    pairs.check_pairs(config)


def validate_dataset(dataset: Dataset, config: ConfigDict) -> None:
    """Raise ConfigError without a class of two videos with nonzero features, which pairs need."""
    if len(dataset.stream_widths) == 1 and "loss.weights.mutual" in config.vary:
        raise ConfigError(
            "config.vary: loss.weights.mutual has no effect with one stream; remove it from vary"
        )
    pairs.validate_dataset(dataset, config)


def video_scores(outputs: dict, config: ConfigDict) -> np.ndarray:
    """Compute the class probabilities (C,) that rank videos ([docs][co2net-video-scores])."""
    cas = outputs["cas"]
    return proposals.softmax(proposals.topk_mean(cas, -(-len(cas) // 8)))[:-1]


def score_spec(config: ConfigDict) -> ScoreSpec:
    """Return the proposal scores: contrast of the suppressed T-CAM, thresholds on the attention.

    Source: CO2-Net, section 3.6 ([docs][co2net-localization]).
    """
    divisor = config.localization.topk_divisor
    return ScoreSpec("refined", "attention", "probability", "refined", divisor, softmax=True)


METHOD = Method(
    name="co2net",
    build=build,
    sample=sample,
    loss_terms=loss_terms,
    num_batch_shards=pairs.num_batch_shards,
    validate_config=validate_config,
    validate_dataset=validate_dataset,
    output_names=("cas", "attention", *base.STREAM_ATTENTIONS),
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
