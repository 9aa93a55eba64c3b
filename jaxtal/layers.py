"""Temporal layers on masked batches [..., T, C], shared by the methods."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

# U(-b, b) with b = sqrt(6 / fan_in), fan_in = kernel size * inputs.
he_uniform = nn.initializers.variance_scaling(2.0, "fan_in", "uniform")


def torch_default(fan_in: int) -> Callable:
    """PyTorch's initializer of a layer's weight and bias: U(-b, b) with b = 1 / sqrt(fan_in)."""

    def initialise(key, shape, dtype=jnp.float32):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU with negative slope 0.2."""
    return nn.leaky_relu(x, 0.2)


def temporal_conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, mask: jax.Array, dilation: int = 1
) -> jax.Array:
    """1-D convolution over time, stride 1, zero padding, as shifted copies and one matrix product.

    XLA's own convolution loses its fast CPU kernel inside loops and does not batch over models;
    this form is as fast outside and keeps its speed there (`python -m benchmarks.temporal_conv`).

    Args:
        x: [..., T, I] activations.
        kernel: [k, I, O], k odd.
        bias: [O].
        mask: [..., T] bool; what lies outside counts as zero padding.
        dilation: snippets from one tap to the next.

    Returns:
        [..., T, O]; entries outside the mask are unspecified.
    """
    size, time = kernel.shape[0], x.shape[-2]
    if size > 1:
        x = jnp.where(mask[..., None], x, 0)
        reach = dilation * (size // 2)
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(reach, reach), (0, 0)])
        starts = range(0, size * dilation, dilation)
        x = jnp.concatenate([x[..., start : start + time, :] for start in starts], axis=-1)
    return x @ kernel.reshape(-1, kernel.shape[-1]) + jnp.expand_dims(bias, range(x.ndim - 1))


def temporal_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the valid snippets: [..., T, C], [..., T] to [..., 1, C]; 0 where there is none."""
    count = jnp.maximum(mask.sum(-1), 1)[..., None, None]
    return jnp.where(mask[..., None], x, 0).sum(-2, keepdims=True) / count


def average_pool(x: jax.Array, mask: jax.Array, window: int) -> jax.Array:
    """Moving average over time that always divides by `window` (CO2-Net on ActivityNet).

    What lies outside the video counts as zeros, so values shrink towards both of its ends, to
    7 / 13 for the first snippet under a window of 13.

    Args:
        x: [B, T, C].
        mask: [B, T] bool.
        window: snippets, odd; 1 changes nothing.

    Returns:
        [B, T, C]; entries outside the mask are unspecified.
    """
    if window == 1:
        return x
    return nn.avg_pool(jnp.where(mask[..., None], x, 0), (window,), padding="SAME")


class TemporalConv(nn.Module):
    """`temporal_conv` with its parameters: kernel [k, I, features] and bias [features]."""

    features: int
    kernel_size: int = 1
    kernel_init: Callable = he_uniform
    dilation: int = 1
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        shape = (self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", self.bias_init, (self.features,))
        return temporal_conv(x, kernel, bias, mask, self.dilation)


class Dropout(nn.Module):
    """Elementwise inverted dropout; every (video, snippet, channel) entry independently.

    It draws 16 random bits an entry where `nn.Dropout` draws 32, which halves its cost on the CPU;
    the rate is met to within 2 ** -17 and the survivors are scaled by the exact one.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        level = round(self.rate * 2**16)
        if not train or not level:
            return x
        words = jax.random.bits(self.make_rng("dropout"), (-(-x.size // 2),), jnp.uint32)
        bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size]
        keep = bits.reshape(x.shape) >= level
        return jnp.where(keep, x / (1 - level / 2**16), 0)
