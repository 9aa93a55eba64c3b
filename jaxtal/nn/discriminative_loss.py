"""D2-Net's embeddings, their random pairing inside the batch, and the discriminative loss.

B videos, T snippets, C classes, D columns of an embedding. A video "has foreground" if any of its
snippets reaches the foreground threshold, likewise background; the published program keeps lists of
those that do, here they are masks over the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Embeddings(NamedTuple):
    """One embedding a video: value [B, D], and exists [B], whether there was a snippet for it."""

    value: jax.Array
    exists: jax.Array


def attended_embeddings(
    embeddings: jax.Array, attention: jax.Array, threshold: float, mask: jax.Array
) -> Embeddings:
    """Attention-weighted mean of the snippets with an attention of at least `threshold`.

    D2-Net's foreground embeddings x_f from the top-down attention lambda (the largest activation of
    any class) and background embeddings x_b from 1 - lambda; gradients flow through both.

    Args:
        embeddings: [B, T, D] latent embeddings F.
        attention: [B, T].
        threshold: least attention.
        mask: [B, T].
    """
    weight = jnp.where(mask & (attention >= threshold), attention, 0)
    total = weight.sum(-1)
    exists = total > 0
    value = jnp.einsum("bt,btd->bd", weight, jnp.where(mask[..., None], embeddings, 0))
    return Embeddings(value / jnp.where(exists, total, 1)[:, None], exists)


class Pairing(NamedTuple):
    """Which videos of a batch are compared, as rows of the batch; see `draw_pairing`.

    Attributes:
        foreground, background: [B], the partner of each video that has one.
        crossed_foreground, crossed_background: [B], the i-th of one meets the i-th of the other,
            for as many as there are of both; what follows has no meaning.
    """

    foreground: jax.Array
    background: jax.Array
    crossed_foreground: jax.Array
    crossed_background: jax.Array


def draw_pairing(
    key: jax.Array, foreground: jax.Array, background: jax.Array, pairs: str = "any"
) -> Pairing:
    """Random pairs among the videos with foreground [B], those with background [B], and across.

    Args:
        key: random key.
        foreground, background: [B] bool.
        pairs: "any", random permutations, in which a video may meet itself (published program); or
            "different", a random cycle, in which it meets another if there is one (paper).
    """
    keys = jax.random.split(key, 4)
    partner = _PARTNERS[pairs]
    return Pairing(
        partner(keys[0], foreground),
        partner(keys[1], background),
        _shuffled(keys[2], foreground),
        _shuffled(keys[3], background),
    )


def _rank(members: jax.Array) -> jax.Array:
    """Each member's number among the members, from 0, in the order of the batch."""
    return jnp.maximum(jnp.cumsum(members) - 1, 0)


def _shuffled(key: jax.Array, members: jax.Array) -> jax.Array:
    """Rows of the batch, the members first and in random order."""
    return jnp.argsort(jnp.where(members, jax.random.uniform(key, members.shape), 2))


def _permuted(key: jax.Array, members: jax.Array) -> jax.Array:
    return _shuffled(key, members)[_rank(members)]


def _next_in_cycle(key: jax.Array, members: jax.Array) -> jax.Array:
    order = _shuffled(key, members)
    place = jnp.argsort(order)
    return order[jnp.where(place + 1 < members.sum(), place + 1, 0)]


_PARTNERS = {"any": _permuted, "different": _next_in_cycle}
PAIRS = tuple(_PARTNERS)
ROWS = ("list_index", "video")


class CosineWeights(NamedTuple):
    """w_f, w_b: compactness of foreground and background; w_fb: their separation. [B] each."""

    foreground: jax.Array
    background: jax.Array
    separation: jax.Array


def cosine_weights(
    foreground: Embeddings,
    background: Embeddings,
    valid: jax.Array,
    pairing: Pairing,
    rows: str = "list_index",
    pairs: str = "any",
) -> CosineWeights:
    """The three weights of the discriminative loss (D2-Net; METHODS 3.c).

    Args:
        foreground, background: embeddings of B videos.
        valid: [B] bool, the videos that take part.
        pairing: of `draw_pairing`.
        rows: which video gets w_fb: the foreground's own ("video"), or, as published, the one whose
            number among the valid videos is the foreground's number in the list of foregrounds
            ("list_index"): the same unless a video has no foreground.
        pairs: with "different" the foreground and background of one video are not compared.
    """
    x, y = foreground.value, background.value
    compact = jnp.where(foreground.exists, 1 - _cosine(x, x[pairing.foreground]), 0)
    compact_background = jnp.where(background.exists, 1 - _cosine(y, y[pairing.background]), 0)
    first, second = pairing.crossed_foreground, pairing.crossed_background
    compared = foreground.exists[first] & background.exists[second]
    if pairs == "different":
        compared &= first != second
    value = jnp.where(compared, jax.nn.relu(_cosine(x[first], y[second])), 0)
    if rows == "video":
        row = first
    else:
        row = jnp.argsort(~valid, stable=True)[_rank(foreground.exists)[first]]
    return CosineWeights(compact, compact_background, jnp.zeros_like(value).at[row].add(value))


def _cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    square = ((x**2).sum(-1) + 1e-12) * ((y**2).sum(-1) + 1e-12)
    return (x * y).sum(-1) / jnp.sqrt(square)


def discriminative_loss(
    probability: jax.Array,
    labels: jax.Array,
    weights: CosineWeights | None,
    focusing: float,
    gamma: float,
    positive_weight: float,
) -> jax.Array:
    """The discriminative loss L_Dis, entry by entry (D2-Net; METHODS 3.c).

    Args:
        probability: [B, C] video-level p, away from 0 and 1.
        labels: [B, C] multi-hot.
        weights: None for the focal loss L_F; with focusing 0 as well for the cross-entropy L_CE.
        focusing: beta, the exponent of the focal form.
        gamma: weight of the compactness weights against the separation weight.
        positive_weight: factor of the entries with label 1.

    Returns:
        [B, C].
    """
    pull = push = jnp.zeros_like(probability[:, :1])
    if weights is not None:
        pull = (weights.separation + gamma * weights.foreground)[:, None]
        push = (weights.separation + gamma * weights.background)[:, None]
    positive = -((1 - probability + pull) ** focusing) * jnp.log(probability)
    negative = -((probability + push) ** focusing) * jnp.log1p(-probability)
    return labels * positive * positive_weight + (1 - labels) * negative


def bottom_up_attention(embeddings: jax.Array, background: jax.Array) -> jax.Array:
    """D2-Net's lambda' = (1 - cos(F, r)) / 2: how unlike the running background a snippet is.

    Args:
        embeddings: [..., T, D].
        background: [D] running background embedding r; zeros give 1/2.

    Returns:
        [..., T], 0 to 1, without gradient: it selects snippets, in training and localization.
    """
    norms = [jnp.maximum(jnp.sqrt((x**2).sum(-1)), 1e-8) for x in (embeddings, background[None])]
    cosine = embeddings @ background / norms[0] / norms[1][0]
    return jax.lax.stop_gradient((1 - cosine) / 2)


def update_background(background: jax.Array, embeddings: jax.Array, exists: jax.Array) -> jax.Array:
    """Running background r after a batch: nine tenths of the old one, one of the batch's mean.

    Args:
        background: [D].
        embeddings: [B, D] the batch's background embeddings.
        exists: [B] bool, which of them there are; without any, r stays.
    """
    count = exists.sum()
    mean = jnp.where(exists[:, None], embeddings, 0).sum(0) / jnp.maximum(count, 1)
    return jnp.where(count > 0, 0.9 * background + 0.1 * mean, background)


def peak_embedding(embeddings: jax.Array, attention: jax.Array, mask: jax.Array) -> jax.Array:
    """Embedding of each video's snippet with the largest attention: [B, T, D], [B, T] to [B, D]."""
    peak = jnp.where(mask, attention, -1).argmax(-1)
    return jnp.take_along_axis(embeddings, peak[:, None, None], axis=-2)[:, 0]
