"""Hybrid of CO2-Net, D2-Net and the two-stream network; it is published in no paper.

- Body: CO2-Net (ACM MM 2021) with its consensus modules, attentions, T-CAM and losses.
- From the two-stream network (CVPR 2023): a branch that classifies the features pooled by the
  attention (foreground) and by its complement (background), and the semantic dictionary. Both act
  on the enhanced features, which lie in the space of the input features.
- From D2-Net (ICCV 2021): pDMI denoising of the T-CAM's probabilities, and a refined T-CAM,
  attention times probability, for localization. Pseudo-foreground is selected by the mean attention
  of both modalities. D2-Net's bottom-up attention cannot select it: the enhanced features have no
  negative entries, so that it is 1/2 or less.

Each part can be switched off: the consensus by `model.fusion=concat`, the others by loss weights of
0. The branch and the dictionary are used in training only.

Equations, ablations and results: [docs][hybrid].
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxtal.config import at_least, one_of
from jaxtal.input_pipeline.packing import Batch
from jaxtal.input_pipeline.sampling import Context
from jaxtal.localization.scoring import ScoreSpec
from jaxtal.methods import co2net, denoising, twostream
from jaxtal.nn import losses
from jaxtal.nn.layers import TemporalConv, torch_default


class Hybrid(nn.Module):
    """CO2-Net with the attention branch and the semantic dictionary Q ([docs][hybrid-network]).

    Attributes:
        body: the network whose outputs the branch and the dictionary read.
    """

    body: co2net.CO2Net

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> dict:
        """Run on a batch.

        Args:
            x: [B, T, 2D] features, RGB first.
            mask: [B, T] bool.
            train: dropout is on; needs an rng named "dropout".

        Returns:
            The outputs of `co2net.CO2Net`; "branch_scores" [B, 2, C + 1], class probabilities of
            the features pooled by the attention and by its complement; "distance" [B, T, 1] of the
            enhanced features from the centroid of the predicted class.
        """
        outputs = self.body(x, mask, train)
        enhanced, attention = outputs["enhanced"], outputs["attention"]
        width, total = enhanced.shape[-1], self.body.num_classes + 1
        uniform = torch_default(width)
        classify = TemporalConv(total, 1, uniform, bias_init=uniform, name="cls")
        attentions = jnp.concatenate([attention, 1 - attention], axis=-1)
        pooled = twostream.pool_by_attention(enhanced, attentions, mask)
        dictionary = self.param("dictionary", nn.initializers.uniform(1.0), (total, width))
        return {
            **outputs,
            "branch_scores": nn.softmax(classify(pooled, mask)),
            "distance": twostream.centroid_distance(enhanced, outputs["cas"], dictionary),
        }


def loss_terms(
    outputs: dict, batch: Batch, context: Context, config: ConfigDict
) -> tuple[dict[str, jax.Array], Any]:
    """Compute the unweighted loss terms; names as in `config.loss.weights`.

    The terms are CO2-Net's, L_fg and L_bg of the attention branch (two-stream network, eq. 5),
    L_smt with its warm-up factor (two-stream network, eq. 6), and L_DS and L_DV of the T-CAM's
    probabilities (D2-Net, eq. 9 to 11). Equations: [docs][hybrid-losses].

    Args:
        outputs: see `Hybrid`.
        batch: mask [B, T] and labels [B, C], in pairs as `co2net.sample` arranges them.
        context: its step decides about warm-up and denoising; its state is returned unchanged.
        config: the whole config.

    Returns:
        The terms by name, scalars, and the state.
    """
    terms, state = co2net.loss_terms(outputs, batch, context, config)
    labels, mask, settings = batch.labels, batch.mask, config.loss
    branch = outputs["branch_scores"]
    per_video = {
        "foreground": losses.cross_entropy(branch[:, 0], labels, 0.0),
        "background": losses.cross_entropy(branch[:, 1], 0 * labels, 1.0),
        "semantic": twostream.ramp(context.step, settings)
        * losses.mean_over_time(outputs["distance"][..., 0], mask),
    }
    terms |= {name: losses.mean_over_videos(value, mask) for name, value in per_video.items()}
    probability = nn.softmax(outputs["cas"])[..., :-1]
    attention = jax.lax.stop_gradient(outputs["attention"][..., 0])
    denoised = denoising.terms(probability, attention, batch, context.step, settings)
    return terms | denoised, state


def validate_config(config: ConfigDict) -> None:
    """Raise ConfigError for unknown or conflicting options and for numbers out of range."""
    co2net.validate_config(config)
    denoising.validate_config(config)
    one_of(config, twostream.DICTIONARY)
    at_least(config, {"loss.warmup_steps": 0})


def score_spec(config: ConfigDict) -> ScoreSpec:
    """Return the proposal scores: contrast of attention times probability, as in D2-Net.

    Thresholds apply to the attention, as in CO2-Net ([docs][hybrid-localization]).
    """
    return dataclasses.replace(co2net.score_spec(config), sequence="refined_probability")


METHOD = dataclasses.replace(
    co2net.METHOD,
    name="hybrid",
    build=lambda config, num_classes, stream_widths=(): Hybrid(
        co2net.build(config, num_classes, stream_widths)
    ),
    loss_terms=loss_terms,
    validate_config=validate_config,
    initialize=twostream.initialize,
    transform_updates=twostream.transform_updates,
    score_spec=score_spec,
)
