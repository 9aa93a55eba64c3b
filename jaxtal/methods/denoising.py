"""D2-Net's denoising losses (Narayan et al., ICCV 2021), which the hybrid has as well.

Mutual-information losses compare the T-CAM with pseudo-labels of the snippets and with the labels
of the videos. Equations and schedule: [docs][d2net-pdmi], [docs][d2net-schedule].
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxtal.config import at_least, one_of
from jaxtal.errors import ConfigError
from jaxtal.input_pipeline.packing import Batch
from jaxtal.nn import losses
from jaxtal.nn.mutual_information import MEASURES, joint_matrix
from jaxtal.parallel import sharding

SHORTEST = 5  # snippets; shorter videos have no loss
_MARGIN = 1e-3  # distance of the losses' probabilities from 0 and 1

_OPTIONS = {
    "loss.denoising": (*MEASURES, "l1", "bce", "none"),
    "loss.denoising_video": ("same", *MEASURES, "l1", "bce", "none"),
    "loss.snippet_joint": ("class_conditional", "joint"),
    "loss.video_joint": ("filtered", "joint"),
}


def taking_part(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Return the videos [B] that have a loss, and their snippets [B, T]."""
    valid = (batch.mask.sum(-1) >= SHORTEST) & (batch.labels > 0).any(-1)
    return valid, batch.mask & valid[:, None]


# XLA cannot partition a top-k over the devices that share a batch: each handles its own videos.
_topk_mean = sharding.shard_map_over_batch(losses.topk_mean)


def video_probability(cas, mask, settings) -> jax.Array:
    """Compute the video-level probabilities p [B, C], clamped away from 0 and 1."""
    pooled = _topk_mean(cas, mask, divisor=settings.topk_divisor, round_up=True)
    return jnp.clip(pooled, _MARGIN, 1 - _MARGIN)


def terms(
    cas: jax.Array, attention: jax.Array, batch: Batch, step: jax.Array, settings: ConfigDict
) -> dict[str, jax.Array]:
    """Compute L_DS and L_DV, 0 at steps without denoising (D2-Net, [docs][d2net-schedule]).

    Args:
        cas: [B, T, C] probabilities.
        attention: [B, T] without gradient; high for pseudo-foreground, low for pseudo-background
            (D2-Net's bottom-up attention).
        batch: supplies labels and mask.
        step: int32 scalar, updates done before this one.
        settings: `config.loss`.

    Returns:
        {"snippet_denoising": scalar, "video_denoising": scalar}.
    """
    snippet = video = jnp.float32(0)
    valid, mask = taking_part(batch)
    if settings.denoising != "none":
        snippet = _snippets_of_all_videos(cas, batch.labels, attention, mask, settings)
    if _video_measure(settings) != "none":
        probability = video_probability(cas, mask, settings)
        # An ill-conditioned joint matrix magnifies rounding: sum in one order on all devices.
        probability, labels, valid = sharding.replicated((probability, batch.labels, valid))
        video = video_denoising(probability, labels, valid, settings)
    active = (step >= settings.denoising_start) & (step % settings.denoising_every == 0)
    return {"snippet_denoising": snippet * active, "video_denoising": video * active}


def _video_measure(settings: ConfigDict) -> str:
    """Return the denoising loss of the video level."""
    same = settings.denoising_video == "same"
    return settings.denoising if same else settings.denoising_video


def pseudo_labels(
    attention: jax.Array, mask: jax.Array, settings: ConfigDict
) -> tuple[jax.Array, jax.Array]:
    """Return the pseudo-foreground and the pseudo-background, [B, T] bool each.

    Args:
        attention: [B, T] bottom-up attention.
        mask: [B, T] bool.
        settings: `config.loss`.
    """
    return (
        mask & (attention > settings.bottom_up_foreground),
        mask & (attention < settings.bottom_up_background),
    )


def _snippets_of_all_videos(cas, labels, attention, mask, settings):
    """Average `snippet_denoising` over the videos that count."""
    of_videos = sharding.shard_map_over_batch(
        jax.vmap(functools.partial(snippet_denoising, settings=settings))
    )
    values, counted = of_videos(cas, labels, *pseudo_labels(attention, mask, settings))
    return values.sum() / jnp.maximum(counted.sum(), 1)


def snippet_denoising(
    cas: jax.Array,
    labels: jax.Array,
    is_foreground: jax.Array,
    is_background: jax.Array,
    settings: ConfigDict,
) -> tuple[jax.Array, jax.Array]:
    """Compute L_DS of one video (D2-Net, eq. 9 and 11, [docs][d2net-snippet-denoising]).

    Args:
        cas: [T, C] T-CAM.
        labels: [C] multi-hot.
        is_foreground: [T] bool pseudo-labels.
        is_background: [T] bool, disjoint from `is_foreground`.
        settings: `config.loss`.

    Returns:
        value, counted: scalars; 0 and False if pseudo-labels that the loss needs are missing.
    """
    if settings.denoising in ("l1", "bce"):
        chosen = is_foreground | is_background
        distance = _distance(settings.denoising, cas.max(-1), is_foreground.astype(cas.dtype))
        return losses.mean_over_time(distance, chosen), chosen.any()
    joint, counted = snippet_joint(cas, labels, is_foreground, is_background, settings)
    value = MEASURES[settings.denoising](joint, gradient_cap=settings.gradient_cap)
    return jnp.where(counted, value, 0), counted


def snippet_joint(
    cas: jax.Array,
    labels: jax.Array,
    is_foreground: jax.Array,
    is_background: jax.Array,
    settings: ConfigDict,
) -> tuple[jax.Array, jax.Array]:
    """Compute the joint matrix [2, 2] of one video, pseudo-labels in rows (D2-Net, eq. 9).

    Args:
        cas: see `snippet_denoising`, as all other arguments.
        labels: [C].
        is_foreground: [T].
        is_background: [T].
        settings: `config.loss`.

    Returns:
        The matrix, and whether the video has pseudo-labels of both kinds; without, the identity.
    """
    conditional = settings.snippet_joint == "class_conditional"
    largest = cas.max(-1)
    own = jnp.where(labels[None] > 0, cas, 0).max(-1)
    prediction = jnp.where(is_foreground & conditional, own, largest)
    pseudo = jnp.stack([is_foreground, is_background], axis=-1).astype(cas.dtype)
    prediction = jnp.stack([prediction, 1 - prediction], axis=-1)
    joint = jnp.maximum(joint_matrix(pseudo, prediction, conditional), 1e-10)
    counted = is_foreground.any() & is_background.any()
    return jnp.where(counted, joint, jnp.eye(2)), counted


def video_denoising(
    probability: jax.Array, labels: jax.Array, valid: jax.Array, settings: ConfigDict
) -> jax.Array:
    """Compute L_DV of a batch (D2-Net, eq. 10 and 11, [docs][d2net-video-denoising]).

    Args:
        probability: [B, C] video-level p.
        labels: [B, C] multi-hot.
        valid: [B] bool, the videos that take part.
        settings: `config.loss`.

    Returns:
        A scalar; 0 without valid videos.
    """
    kind = _video_measure(settings)
    if kind in ("l1", "bce"):
        distance = _distance(kind, probability, labels).mean(-1)
        return losses.mean_over_time(distance, valid)
    joint = video_joint(probability, labels, valid, settings)
    return jnp.where(valid.any(), MEASURES[kind](joint, 1e-5, settings.gradient_cap), 0)


def video_joint(
    probability: jax.Array, labels: jax.Array, valid: jax.Array, settings: ConfigDict
) -> jax.Array:
    """Compute the joint matrix [C, C] of a batch, labels in rows (D2-Net, eq. 10).

    Args:
        probability: see `video_denoising`, as all other arguments.
        labels: [B, C].
        valid: [B].
        settings: `config.loss`.
    """
    labels = jnp.where(valid[:, None], labels, 0)
    if settings.video_joint == "filtered":
        kept = probability > 0.2 * probability.max(-1, keepdims=True)
        probability = jnp.where(kept, probability, 0)
        probability = probability / probability.sum(-1, keepdims=True)
    return joint_matrix(labels, probability, settings.video_joint == "filtered")


def _distance(kind: str, estimate: jax.Array, target: jax.Array) -> jax.Array:
    """Compute the L1 distance or binary cross-entropy, elementwise (D2-Net, Table 4)."""
    if kind == "l1":
        return jnp.abs(estimate - target)
    estimate = jnp.clip(estimate, _MARGIN, 1 - _MARGIN)
    return -(target * jnp.log(estimate) + (1 - target) * jnp.log1p(-estimate))


def validate_config(config: ConfigDict) -> None:
    """Raise ConfigError for invalid values of the denoising losses' fields."""
    one_of(config, _OPTIONS)
    least = {"topk_divisor": 1, "denoising_start": 0, "denoising_every": 1, "gradient_cap": 0}
    at_least(config, {f"loss.{name}": value for name, value in least.items()})
    if config.loss.bottom_up_background > config.loss.bottom_up_foreground:
        raise ConfigError(
            f"config.loss.bottom_up_background is {config.loss.bottom_up_background}, above "
            f"config.loss.bottom_up_foreground={config.loss.bottom_up_foreground}: a snippet would "
            "be both pseudo-foreground and pseudo-background; lower it"
        )
