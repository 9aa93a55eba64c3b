"""Modules of CO2-Net: attention unit, cross-modal consensus, and the paper's other fusions."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxtal.nn.layers import Dropout, TemporalConv, leaky_relu, temporal_mean

# The published global layer has three taps, but its input is a sequence of length 1: only the
# middle one has an effect. A dense layer with the bound of three taps, sqrt(6 / (3 D)), is equal.
_one_of_three_taps = nn.initializers.variance_scaling(2 / 3, "fan_in", "uniform")

# Dropout rates after the attention unit's first and second convolution and on its logit. Dropout on
# the logit sets the attention of half of the snippets to 0.5 in training.
ATTENTION_DROPOUT = {"code": (0.5, 0.0, 0.5), "paper": (0.7, 0.7, 0.0)}


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
        first, second, on_logit = ATTENTION_DROPOUT[self.reading]
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

        Main features are [B, T, D], auxiliary ones [B, T, D'], the mask is [B, T]; dropout is on in
        training.
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
            x = CONTEXTS[kind](x, mask, main.shape[-1], _CONTEXT_NAMES[role, kind])
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


CONTEXTS = {"global": _global, "local": _local}

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
