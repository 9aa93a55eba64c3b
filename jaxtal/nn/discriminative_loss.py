"""D2-Net's attended embeddings, their random pairing inside a batch, and the discriminative loss.

B videos, T snippets, C classes, D columns of an embedding. A video "has foreground" if one of its
snippets reaches the foreground threshold, and likewise background. The published program keeps
lists of such videos; this module keeps masks over the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Embeddings(NamedTuple):
    """One embedding per video.

    Attributes:
        value: [B, D]; 0 for a video without an embedding.
        exists: [B] bool, True where the video has a snippet to compute it from.
        weight: [B] sum of the attentions in the mean; times `value`, the sum that eq. 2 prints.
    """

    value: jax.Array
    exists: jax.Array
    weight: jax.Array


def attended_embeddings(
    embeddings: jax.Array, attention: jax.Array, threshold: float, mask: jax.Array
) -> Embeddings:
    """Compute the attention-weighted mean of the snippets whose attention reaches a threshold.

    The top-down attention lambda (the largest activation of any class) gives the foreground
    embeddings x_fg; 1 - lambda gives the background embeddings x_bg. Gradients flow through the
    embeddings and the attention.

    Args:
        embeddings: [B, T, D] latent embeddings F.
        attention: [B, T] in 0 to 1, lambda or 1 - lambda.
        threshold: smallest attention of a snippet in the mean.
        mask: [B, T] bool.

    Returns:
        The embeddings [B, D], [B] bool, false where no snippet reaches the threshold, and [B].

    Source: D2-Net, eq. 2 ([docs][d2net-embeddings]).
    """
    weight = jnp.where(mask & (attention >= threshold), attention, 0)
    total = weight.sum(-1)
    exists = total > 0
    value = jnp.einsum("bt,btd->bd", weight, jnp.where(mask[..., None], embeddings, 0))
    return Embeddings(value / jnp.where(exists, total, 1)[:, None], exists, total)


class Pairing(NamedTuple):
    """Pairs of videos, as rows of the batch; see `draw_pairing`.

    Attributes:
        foreground: [B] int, each foreground embedding's partner; any row for a video without one.
        background: [B] int, the same for the background embeddings.
        crossed_foreground: [B] int, rows whose foreground is compared with the background of the
            row at the same place of `crossed_background`. A pair without one of both, or of one
            video if only different ones are paired, has no meaning.
        crossed_background: [B] int.
    """

    foreground: jax.Array
    background: jax.Array
    crossed_foreground: jax.Array
    crossed_background: jax.Array


def draw_pairing(
    key: jax.Array, foreground: jax.Array, background: jax.Array, pairs: str = "any"
) -> Pairing:
    """Sample random pairs of foreground embeddings, of background embeddings, and across both.

    Args:
        key: random key.
        foreground: [B] bool, the videos with a foreground embedding.
        background: [B] bool, the videos with a background embedding.
        pairs: "any" samples permutations, which may pair a video with itself, and crosses as many
            videos as have the rarer kind (published program); "different" pairs every video with
            the next one in a random circle that has the embedding, never with itself (paper).

    Returns:
        The pairs, [B] int each.

    Source: D2-Net, text of eq. 3 ([docs][d2net-weights]).
    """
    keys = jax.random.split(key, 4)
    partner = _PARTNERS[pairs]
    if pairs == "different":
        crossed = jnp.arange(len(foreground)), partner(keys[2], background)
    else:
        crossed = _shuffled(keys[2], foreground), _shuffled(keys[3], background)
    return Pairing(partner(keys[0], foreground), partner(keys[1], background), *crossed)


def _rank(members: jax.Array) -> jax.Array:
    """Return each member's index among the members, in the order of the batch."""
    return jnp.maximum(jnp.cumsum(members) - 1, 0)


def _shuffled(key: jax.Array, members: jax.Array) -> jax.Array:
    """Return the rows of the batch, members first and in random order."""
    return jnp.argsort(jnp.where(members, jax.random.uniform(key, members.shape), 2))


def _permuted(key: jax.Array, members: jax.Array) -> jax.Array:
    return _shuffled(key, members)[_rank(members)]


def _next_in_circle(key: jax.Array, members: jax.Array) -> jax.Array:
    """Return the member that follows each row in a random circle of all rows, or the row itself."""
    count = len(members)
    place = jax.random.permutation(key, count)
    ahead = (place[None, :] - place[:, None] - 1) % count  # count - 1 for the row itself
    return jnp.where(members[None] | jnp.eye(count, dtype=bool), ahead, count).argmin(-1)


_PARTNERS = {"any": _permuted, "different": _next_in_circle}
PAIRS = tuple(_PARTNERS)
ROWS = ("list_index", "video")


class CosineWeights(NamedTuple):
    """Weights of the discriminative loss, one per video.

    Attributes:
        foreground: [B] compactness weight w_fg.
        background: [B] compactness weight w_bg.
        separation: [B] separation weight w_fb.
    """

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
    """Compute the compactness and separation weights of the discriminative loss.

    Args:
        foreground: foreground embeddings of B videos.
        background: their background embeddings.
        valid: [B] bool, true for the videos that the loss includes.
        pairing: pairs from `draw_pairing`.
        rows: the video that w_fb is assigned to. "video": the foreground's own. "list_index" (the
            published program): the foreground's index in the list of foregrounds is used as index
            among the valid videos; both agree unless a valid video has no foreground.
        pairs: as in `draw_pairing`; "different" skips a video that it found no partner for.

    Returns:
        The three weights, [B] each; a weight without its embedding is 0.

    Source: D2-Net, eq. 3 ([docs][d2net-weights]).
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
    """Compute the entries of the discriminative loss L_Dis, or of its ablations L_F and L_CE.

    Args:
        probability: [B, C] video-level probabilities p, strictly between 0 and 1.
        labels: [B, C] multi-hot.
        weights: weights of L_Dis; None for the focal loss L_F, with focusing 0 the cross-entropy
            L_CE.
        focusing: exponent beta of the focal form.
        gamma: factor of the compactness weights, relative to the separation weight.
        positive_weight: factor of the entries with label 1.

    Returns:
        [B, C].

    Source: D2-Net, eq. 4 ([docs][d2net-discriminative-loss]).
    """
    pull = push = jnp.zeros_like(probability[:, :1])
    if weights is not None:
        pull = (weights.separation + gamma * weights.foreground)[:, None]
        push = (weights.separation + gamma * weights.background)[:, None]
    positive = -((1 - probability + pull) ** focusing) * jnp.log(probability)
    negative = -((probability + push) ** focusing) * jnp.log1p(-probability)
    return labels * positive * positive_weight + (1 - labels) * negative


def bottom_up_attention(embeddings: jax.Array, background: jax.Array) -> jax.Array:
    """Compute the bottom-up attention lambda' = (1 - cos(F, r)) / 2.

    Args:
        embeddings: [..., T, D] latent embeddings F.
        background: [D] running background embedding r; zeros give 1/2.

    Returns:
        [..., T] in 0 to 1, high where a snippet differs from the background; without gradient.

    Source: D2-Net, eq. 8 ([docs][d2net-bottom-up-attention]).
    """
    norms = [jnp.maximum(jnp.sqrt((x**2).sum(-1)), 1e-8) for x in (embeddings, background[None])]
    cosine = embeddings @ background / norms[0] / norms[1][0]
    return jax.lax.stop_gradient((1 - cosine) / 2)


def update_background(background: jax.Array, embeddings: jax.Array, exists: jax.Array) -> jax.Array:
    """Update the running background, r = 0.9 r + 0.1 mean(embeddings).

    Args:
        background: [D] running background r.
        embeddings: [B, D] background embeddings of the batch.
        exists: [B] bool, true for the embeddings in the mean; without any, r is unchanged.

    Returns:
        [D].

    Source: D2-Net, text of eq. 8 ([docs][d2net-running-background]).
    """
    count = exists.sum()
    mean = jnp.where(exists[:, None], embeddings, 0).sum(0) / jnp.maximum(count, 1)
    return jnp.where(count > 0, 0.9 * background + 0.1 * mean, background)


def peak_embedding(embeddings: jax.Array, attention: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the embedding of each video's snippet with the largest attention.

    Args:
        embeddings: [B, T, D].
        attention: [B, T].
        mask: [B, T] bool.

    Returns:
        [B, D].
    """
    peak = jnp.where(mask, attention, -1).argmax(-1)
    return jnp.take_along_axis(embeddings, peak[:, None, None], axis=-2)[:, 0]
