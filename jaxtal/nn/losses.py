"""Loss terms as pure functions of masked activation sequences, one value per video or pair.

Every function accepts any leading batch axes, so that it can be vmapped. The caller reduces over
videos with `mean_over_videos`. A video without valid snippets gives 0 and finite gradients.
"""

import jax
import jax.numpy as jnp


def mean_over_videos(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Compute the mean over the videos that have a valid snippet.

    Args:
        values: [B].
        mask: [B, T] bool.

    Returns:
        A scalar; 0 if no video has a valid snippet.
    """
    exists = mask.any(-1)
    return jnp.where(exists, values, 0).sum() / jnp.maximum(exists.sum(), 1)


def sum_over_time(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Compute the sum over the valid snippets of each video.

    Args:
        values: [..., T].
        mask: [..., T] bool.

    Returns:
        [...].
    """
    return jnp.where(mask, values, 0).sum(-1)


def mean_over_time(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Compute the mean over the valid snippets of each video.

    Args:
        values: [..., T].
        mask: [..., T] bool.

    Returns:
        [...]; 0 for a video without valid snippets.
    """
    return sum_over_time(values, mask) / jnp.maximum(mask.sum(-1), 1)


REDUCTIONS = {"mean": mean_over_time, "sum": sum_over_time}


def topk_mean(
    sequence: jax.Array, mask: jax.Array, divisor: int, round_up: bool = False
) -> jax.Array:
    """Compute the mean of the k = max(1, floor(length / divisor)) largest entries of each class.

    Definition: [docs][methods-top-k]. It pools the T-CAM in CO2-Net ([docs][co2net-top-k-mil]),
    the probabilities in D2-Net ([docs][d2net-pooling]) and the weighted logits in the MIL branch of
    the two-stream network, eq. 3 ([docs][twostream-mil-branch]).

    Args:
        sequence: [..., T, C] activations.
        mask: [..., T] bool; the number of its true entries is the length of the video.
        divisor: snippets per selected snippet (7 or 5 in CO2-Net, 8 or 4 in D2-Net, 8 and 2 in the
            two-stream network).
        round_up: k = ceil(length / divisor) instead (D2-Net).

    Returns:
        [..., C]; the gradient flows to the selected entries with weight 1 / k.
    """
    length = mask.sum(-1)
    extra = divisor - 1 if round_up else 0
    most = max(1, (sequence.shape[-2] + extra) // divisor)
    valid = jnp.where(mask[..., None], sequence, -jnp.inf)
    largest = jax.lax.top_k(jnp.moveaxis(valid, -2, -1), most)[0]
    k = jnp.minimum(jnp.maximum((length + extra) // divisor, 1), length)[..., None, None]
    rank = jnp.expand_dims(jnp.arange(most), range(largest.ndim - 1))
    selected = jnp.where(rank < k, largest, 0)
    return selected.sum(-1) / jnp.maximum(k[..., 0], 1)


def _min_shift(cas: jax.Array, attention: jax.Array) -> jax.Array:
    low = cas.min(-1, keepdims=True)
    return attention * (cas - low) + low


SUPPRESSIONS = {"min_shift": _min_shift, "product": lambda cas, attention: attention * cas}


def suppress_cas(cas: jax.Array, attention: jax.Array, suppression: str = "min_shift") -> jax.Array:
    """Suppress the T-CAM where the attention is low.

    Source: CO2-Net, eq. 9, and its published code ([docs][co2net-suppression]).

    Args:
        cas: [..., T, C + 1] T-CAM S, raw logits.
        attention: [..., T, 1] attention A, in 0 to 1.
        suppression: "min_shift", A * (S - m) + m with m the minimum of S over the classes, as in
            the published code in training; or "product", A * S, as in the paper.

    Returns:
        [..., T, C + 1] suppressed T-CAM.
    """
    return SUPPRESSIONS[suppression](cas, attention)


def _with_background(labels: jax.Array, background: float) -> jax.Array:
    """Append the background's label: [..., C] to [..., C + 1]."""
    column = jnp.full_like(labels[..., :1], background)
    return jnp.concatenate([labels, column], axis=-1)


def topk_mil(
    cas: jax.Array, labels: jax.Array, mask: jax.Array, divisor: int, background: float
) -> jax.Array:
    """Compute the top-k multiple instance learning loss L_mil: cross-entropy of pooled logits.

    The target is the label vector divided by its sum + 1e-4. Source: CO2-Net, L_mil
    ([docs][co2net-top-k-mil]).

    Args:
        cas: [..., T, C + 1] logits, background last.
        labels: [..., C] multi-hot video-level labels.
        mask: [..., T] bool.
        divisor: snippets per selected snippet, see `topk_mean`.
        background: label of the background class, 1 for the original T-CAM, 0 for the suppressed.

    Returns:
        [...] loss per video.
    """
    target = _with_background(labels, background)
    target = target / (target.sum(-1, keepdims=True) + 1e-4)
    return -(target * jax.nn.log_softmax(topk_mean(cas, mask, divisor))).sum(-1)


def cross_entropy(
    probability: jax.Array, labels: jax.Array, background: float, normalize: bool = True
) -> jax.Array:
    """Compute the cross-entropy of video-level probabilities.

    Source: two-stream network, eq. 5 ([docs][twostream-classification-losses]).

    Args:
        probability: [..., C + 1], background last; clamped at 1e-8.
        labels: [..., C] multi-hot video-level labels.
        background: label of the background class.
        normalize: divide the target by its sum; otherwise the target is multi-hot.

    Returns:
        [...] loss per video; 0 if all targets are 0.
    """
    target = _with_background(labels, background)
    if normalize:
        target = target / jnp.maximum(target.sum(-1, keepdims=True), 1)
    return -(target * jnp.log(jnp.maximum(probability, 1e-8))).sum(-1)


def binary_cross_entropy(probability: jax.Array, labels: jax.Array, background: float) -> jax.Array:
    """Compute the mean over all classes of the binary cross-entropy with normalized targets.

    Source: BaS-Net's published program ([docs][basnet-training]).

    Args:
        probability: [..., C + 1], background last; clamped to [1e-8, 1 - 1e-7].
        labels: [..., C] multi-hot video-level labels.
        background: label of the background class.

    Returns:
        [...] loss per video.
    """
    target = _with_background(labels, background)
    target = target / jnp.maximum(target.sum(-1, keepdims=True), 1)
    probability = jnp.clip(probability, 1e-8, 1 - 1e-7)
    on, off = jnp.log(probability), jnp.log1p(-probability)
    return -(target * on + (1 - target) * off).mean(-1)


def co_activity(
    embeddings: jax.Array, cas: jax.Array, labels: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Compute the co-activity similarity loss L_cas of pairs of videos, with a margin of 0.5.

    For each class of both videos, the features where the class is active must be closer to the
    other video's active features than to its inactive ones. Source: W-TALC (Paul et al. 2018);
    CO2-Net, L_cas ([docs][co2net-co-activity]).

    Args:
        embeddings: [..., 2, T, E] features.
        cas: [..., 2, T, C] logits; a column behind those of the C classes, the background's, is
            ignored.
        labels: [..., 2, C] multi-hot video-level labels.
        mask: [..., 2, T] bool.

    Returns:
        The loss, summed over the classes of both videos, and the number of these classes; [...]
        each.
    """
    valid = mask[..., None]
    shared = labels[..., 0, :] * labels[..., 1, :]
    cas = cas[..., : labels.shape[-1]]
    high = jax.nn.softmax(jnp.where(valid, cas, jnp.finfo(cas.dtype).min), axis=-2)
    high = jnp.where(valid, high, 0)
    rest = jnp.maximum(mask.sum(-1) - 1, 1)[..., None, None]
    low = jnp.where(valid, 1 - high, 0) / rest
    embeddings = jnp.where(valid, embeddings, 0)
    high = jnp.einsum("...te,...tc->...ec", embeddings, high)
    low = jnp.einsum("...te,...tc->...ec", embeddings, low)
    first, second = (..., 0, slice(None), slice(None)), (..., 1, slice(None), slice(None))
    near = _cosine(high[first], high[second])
    hinge = jax.nn.relu(_cosine(high[first], low[second]) - near + 0.5)
    hinge += jax.nn.relu(_cosine(high[second], low[first]) - near + 0.5)
    return 0.5 * (shared * hinge).sum(-1), shared.sum(-1)


def mean_co_activity(
    embeddings: jax.Array, cas: jax.Array, labels: jax.Array, mask: jax.Array
) -> jax.Array:
    """Compute L_cas of all pairs of a batch: the mean of `co_activity` over pairs and classes.

    Args:
        embeddings: [P, 2, T, E] features.
        cas: [P, 2, T, C] logits, see `co_activity`.
        labels: [P, 2, C].
        mask: [P, 2, T] bool.

    Returns:
        A scalar; 0 if no pair has a class in common.
    """
    terms, shared = co_activity(embeddings, cas, labels, mask)
    return terms.sum() / jnp.maximum(shared.sum(), 1)


def _cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    """Cosine over axis -2; the product of the norms is at least 1e-12."""
    square = (x**2).sum(-2) * (y**2).sum(-2)
    return (x * y).sum(-2) / jnp.sqrt(jnp.maximum(square, 1e-24))


def _bernoulli_kl(target: jax.Array, estimate: jax.Array) -> jax.Array:
    on = target * jnp.log(target / estimate)
    return on + (1 - target) * jnp.log((1 - target) / (1 - estimate))


def _jensen_shannon(target: jax.Array, estimate: jax.Array) -> jax.Array:
    middle = (target + estimate) / 2
    return (_bernoulli_kl(estimate, middle) + _bernoulli_kl(target, middle)) / 2


def _clamped(divergence):
    return lambda target, estimate: divergence(
        jnp.clip(target, 1e-6, 1 - 1e-6), jnp.clip(estimate, 1e-6, 1 - 1e-6)
    )


METRICS = {
    "mse": lambda target, estimate: (estimate - target) ** 2,
    "mae": lambda target, estimate: jnp.abs(estimate - target),
    "kl": _clamped(_bernoulli_kl),
    "js": _clamped(_jensen_shannon),
}


def mutual_learning(
    attention_rgb: jax.Array,
    attention_flow: jax.Array,
    mask: jax.Array,
    metric: str = "mse",
    alpha: float = 0.5,
) -> jax.Array:
    """Compute the mutual learning loss L_ml: the attention of each modality is fitted to the other.

    The gradient does not flow into the target. Source: CO2-Net, eq. 6
    ([docs][co2net-mutual-learning]).

    Args:
        attention_rgb: [..., T, 1] attention of RGB.
        attention_flow: [..., T, 1] attention of flow.
        mask: [..., T] bool.
        metric: "mse", "mae", or "kl" or "js" between Bernoulli distributions.
        alpha: weight of fitting RGB to flow; fitting flow to RGB has the weight 1 - alpha.

    Returns:
        [...] mean over the valid snippets.
    """
    distance = METRICS[metric]
    rgb, flow = attention_rgb[..., 0], attention_flow[..., 0]
    to_flow = distance(jax.lax.stop_gradient(flow), rgb)
    to_rgb = distance(jax.lax.stop_gradient(rgb), flow)
    return mean_over_time(alpha * to_flow + (1 - alpha) * to_rgb, mask)


def opposition(
    attention: jax.Array, cas: jax.Array, mask: jax.Array, reduction: str = "mean"
) -> jax.Array:
    """Compute the opposition loss |1 - attention - P(background)|.

    Source: CO2-Net, L_oppo, eq. 7 ([docs][co2net-opposition]).

    Args:
        attention: [..., T, 1] in 0 to 1.
        cas: [..., T, C + 1] logits, background last.
        mask: [..., T] bool.
        reduction: "mean" or "sum" over the valid snippets.

    Returns:
        [...] loss per video.
    """
    return opposition_to(attention, jax.nn.softmax(cas)[..., -1:], mask, reduction)


def opposition_to(
    attention: jax.Array, background: jax.Array, mask: jax.Array, reduction: str = "mean"
) -> jax.Array:
    """Compute |1 - attention - background|: the guide loss L_gui for a background of `GUIDES`.

    Source: two-stream network, eq. 7 ([docs][twostream-guide-loss]).

    Args:
        attention: [..., T, 1] in 0 to 1.
        background: [..., T, 1] probability of the background class.
        mask: [..., T] bool.
        reduction: "mean" or "sum" over the valid snippets.

    Returns:
        [...] loss per video.
    """
    return REDUCTIONS[reduction](jnp.abs(1 - attention - background)[..., 0], mask)


# The background in eq. 7, functions of the attention a [..., T, 1] and the logits p [..., C + 1].
GUIDES = {
    "softmax_of_product": lambda a, p: jax.nn.softmax(a * p)[..., -1:],
    "product_of_softmax": lambda a, p: a * jax.nn.softmax(p)[..., -1:],
    "softmax": lambda a, p: jax.nn.softmax(p)[..., -1:],
    "product": lambda a, p: a * p[..., -1:],
}


def attention_norm(attention: jax.Array, mask: jax.Array, reduction: str = "mean") -> jax.Array:
    """Compute the normalization loss L_norm of an attention.

    Source: CO2-Net, eq. 8 ([docs][co2net-norm]).

    Args:
        attention: [..., T, 1].
        mask: [..., T] bool.
        reduction: "mean" or "sum" (the L1 norm) over the valid snippets.

    Returns:
        [...] loss per video.
    """
    return REDUCTIONS[reduction](attention[..., 0], mask)
