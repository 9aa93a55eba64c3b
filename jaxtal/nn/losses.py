"""Loss terms: pure functions of masked activation sequences, one number per video (or pair).

Every function takes any leading batch axes, so it can be vmapped; the caller reduces over videos
with `mean_over_videos`. A video without a single valid snippet gives 0 and finite gradients.
"""

import jax
import jax.numpy as jnp


def mean_over_videos(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of per-video values [B] over the videos that have a valid snippet in `mask` [B, T]."""
    exists = mask.any(-1)
    return jnp.where(exists, values, 0).sum() / jnp.maximum(exists.sum(), 1)


def sum_over_time(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Sum of [..., T] over the valid snippets of each video: [...]."""
    return jnp.where(mask, values, 0).sum(-1)


def mean_over_time(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of [..., T] over the valid snippets of each video: [...]."""
    return sum_over_time(values, mask) / jnp.maximum(mask.sum(-1), 1)


REDUCTIONS = {"mean": mean_over_time, "sum": sum_over_time}


def topk_mean(
    sequence: jax.Array, mask: jax.Array, divisor: int, round_up: bool = False
) -> jax.Array:
    """Mean of the k = max(1, floor(length / divisor)) largest entries over time, for each class.

    Args:
        sequence: [..., T, C].
        mask: [..., T] bool; its number of true entries is the video's length.
        divisor: snippets per selected snippet (7 and 5 in CO2-Net, 8 and 4 in D2-Net).
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
    """Suppressed T-CAM, where little attention leaves little activation (CO2-Net).

    Args:
        cas: [..., T, C + 1] raw T-CAM S.
        attention: [..., T, 1] attention A.
        suppression: "min_shift", A * (S - m) + m with m the minimum of S over the classes (the
            published code in training), or "product", A * S (the paper).
    """
    return SUPPRESSIONS[suppression](cas, attention)


def _with_background(labels: jax.Array, background: float) -> jax.Array:
    """[..., C] to [..., C + 1], the background's label last."""
    column = jnp.full_like(labels[..., :1], background)
    return jnp.concatenate([labels, column], axis=-1)


def topk_mil(
    cas: jax.Array, labels: jax.Array, mask: jax.Array, divisor: int, background: float
) -> jax.Array:
    """Top-k multiple instance learning: cross-entropy of pooled logits (CO2-Net, L_mil).

    Args:
        cas: [..., T, C + 1] logits, background last.
        labels: [..., C] multi-hot video-level labels.
        mask: [..., T].
        divisor: see `topk_mean`.
        background: the background class's label, 1 for the original T-CAM, 0 for the suppressed.

    Returns:
        [...] loss per video; the target is the label vector divided by its sum + 1e-4.
    """
    target = _with_background(labels, background)
    target = target / (target.sum(-1, keepdims=True) + 1e-4)
    return -(target * jax.nn.log_softmax(topk_mean(cas, mask, divisor))).sum(-1)


def cross_entropy(
    probability: jax.Array, labels: jax.Array, background: float, normalize: bool = True
) -> jax.Array:
    """Cross-entropy of video-level probabilities (two-stream network, eq. 5; METHODS 4.c).

    Args:
        probability: [..., C + 1], background last; clamped at 1e-8.
        labels: [..., C] multi-hot.
        background: the background class's label.
        normalize: the target is divided by its sum; else it is the labels as they are.

    Returns:
        [...] loss per video; without labels and background it is 0.
    """
    target = _with_background(labels, background)
    if normalize:
        target = target / jnp.maximum(target.sum(-1, keepdims=True), 1)
    return -(target * jnp.log(jnp.maximum(probability, 1e-8))).sum(-1)


def co_activity(
    embeddings: jax.Array, cas: jax.Array, labels: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Co-activity similarity of two videos (Paul et al. 2018, W-TALC; CO2-Net, L_cas), margin 0.5.

    High-activity features of a class that both videos show are to be nearer to each other than to
    the other's low-activity features.

    Args:
        embeddings: [..., 2, T, E].
        cas: [..., 2, T, C + 1], background last.
        labels: [..., 2, C].
        mask: [..., 2, T].

    Returns:
        term, shared: [...] hinge sum over the shared classes, and the number of those.
    """
    valid = mask[..., None]
    shared = labels[..., 0, :] * labels[..., 1, :]
    high = jax.nn.softmax(jnp.where(valid, cas[..., :-1], jnp.finfo(cas.dtype).min), axis=-2)
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


def _cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    """Cosine over axis -2; the norms' product has a floor of 1e-12, with zero gradient below."""
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
    """Each modality's attention follows the other's, which is held fixed (CO2-Net, L_ml).

    Args:
        attention_rgb, attention_flow: [..., T, 1].
        mask: [..., T].
        metric: "mse", "mae", or "kl", "js" between Bernoulli distributions.
        alpha: weight of RGB following flow; flow following RGB has 1 - alpha.

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
    """Attention is the opposite of the background probability.

    L_oppo of CO2-Net; on the attention-weighted logits the guide loss of the two-stream network
    (L_gui, eq. 7).

    Args:
        attention: [..., T, 1].
        cas: [..., T, C + 1] logits, background last.
        mask: [..., T].
        reduction: "mean" or "sum" over the valid snippets.

    Returns:
        [...] mean or sum of |1 - attention - P(background)|.
    """
    background = jax.nn.softmax(cas)[..., -1]
    return REDUCTIONS[reduction](jnp.abs(1 - attention[..., 0] - background), mask)


def attention_norm(attention: jax.Array, mask: jax.Array, reduction: str = "mean") -> jax.Array:
    """Mean (or sum: the L1 norm) of the attention (CO2-Net, L_norm): [..., T, 1] to [...]."""
    return REDUCTIONS[reduction](attention[..., 0], mask)
