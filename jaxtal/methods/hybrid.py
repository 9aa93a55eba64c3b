"""A hybrid of the three methods, which none of the papers has.

- CO2-Net (ACM MM 2021) is the body: consensus modules, an attention a modality, T-CAM, its losses.
- From the two-stream network (CVPR 2023) comes the branch that classifies what the attention
  pools, foreground and background, beside CO2-Net's MIL branch, and the semantic dictionary. Both
  act on the enhanced features, which lie in the space of the features themselves.
- From D2-Net (ICCV 2021) comes pDMI denoising of the T-CAM's probabilities, and a refined T-CAM,
  attention times probability, for the localization. What tells pseudo-foreground is not D2-Net's
  bottom-up attention, 1/2 and less wherever embeddings have no negative entries as the enhanced
  features have none, but the attention, the mean of both modalities'.

Each part has an ablation: `model.fusion=concat` takes the consensus away, a loss weight of 0 the
rest. What trains alone is not in the way at test time, where the body alone runs.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxtal.config import at_least, one_of
from jaxtal.input_pipeline.packing import Batch
from jaxtal.input_pipeline.sampling import Context
from jaxtal.localization.scoring import ScoreSpec
from jaxtal.methods import co2net, d2net, twostream
from jaxtal.nn import losses
from jaxtal.nn.layers import TemporalConv, torch_default


class Hybrid(nn.Module):
    """CO2-Net with the attention branch and the semantic dictionary Q.

    Attributes:
        body: the network whose outputs the heads are on.
    """

    body: co2net.CO2Net

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool = False) -> dict:
        """Run on a batch.

        Args:
            x: [B, T, 2D] features, RGB first.
            mask: [B, T] bool.
            train: dropout on; needs an rng named "dropout".

        Returns:
            What CO2-Net returns, and branch_scores [B, 2, C + 1], video-level probabilities of what
            the attention and its complement pool; distance [B, T, 1] from the centroid of the
            predicted class.
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


def loss_terms(outputs: dict, batch: Batch, context: Context, config):
    """CO2-Net's terms and, unweighted, those of the other two; the state.

    L_fg and L_bg of the attention branch (two-stream, eq. 5), L_smt with its ramp (eq. 6), L_DS and
    L_DV of the T-CAM's probabilities (D2-Net; METHODS 3.c).
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
    denoised = d2net.denoising_terms(probability, attention, batch, context.step, settings)
    return terms | denoised, state


def validate_config(config) -> None:
    """Raise ConfigError for options that do not exist and numbers that cannot be."""
    co2net.validate_config(config)
    d2net.validate_denoising(config)
    one_of(config, twostream.DICTIONARY)
    at_least(config, {"loss.warmup_steps": 0})


def score_spec(config) -> ScoreSpec:
    """D2-Net's refined T-CAM from CO2-Net's outputs; thresholds on the attention (METHODS 2.e)."""
    return dataclasses.replace(co2net.score_spec(config), sequence="refined_probability")


METHOD = dataclasses.replace(
    co2net.METHOD,
    name="hybrid",
    build=lambda config, num_classes: Hybrid(co2net.CO2Net(num_classes, **config)),
    loss_terms=loss_terms,
    validate_config=validate_config,
    initialize=twostream.initialize,
    transform_updates=twostream.transform_updates,
    score_spec=score_spec,
)
