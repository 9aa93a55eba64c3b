"""Temporal layers on masked batches [..., T, C], shared by the methods."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

leaky_relu = functools.partial(nn.leaky_relu, negative_slope=0.2)
# U(-b, b) with b = sqrt(6 / fan_in), fan_in = kernel size * inputs.
he_uniform = nn.initializers.variance_scaling(2.0, "fan_in", "uniform")


def torch_default(fan_in: int) -> Callable:
    """PyTorch's initializer of a layer's weight and bias: U(-b, b) with b = 1 / sqrt(fan_in)."""

    def initialize(key, shape, dtype=jnp.float32):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


def temporal_conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, mask: jax.Array, dilation: int = 1
) -> jax.Array:
    """1-D convolution over time, stride 1, zero padding, as matrix products.

    XLA's own convolution loses its fast CPU kernel inside loops and does not batch over models;
    shifted copies and one matrix product are as fast outside and keep their speed there. On the
    CPU, where the product's speed is the limit, wide layers of three taps take two thirds of the
    multiplications, see `_minimal_filtering` (`python -m benchmarks.speed.temporal_conv`).

    Args:
        x: [..., T, I] activations.
        kernel: [k, I, O], k odd, float32 or bfloat16; x is rounded to its type, sums are float32.
        bias: [O].
        mask: [..., T] bool; what lies outside counts as zero padding.
        dilation: snippets from one tap to the next.

    Returns:
        [..., T, O] in the bias' type; entries outside the mask are unspecified.
    """
    size = kernel.shape[0]
    if size > 1:
        x = jnp.where(mask[..., None], x, 0)
    x = x.astype(kernel.dtype)
    wide = min(kernel.shape[1:]) >= _WIDE and kernel.dtype == jnp.float32
    if wide and dilation == 1 and size in (1, 3):
        product = _wide_convolution(x, kernel)
    else:
        product = shifted(x, kernel, dilation)
    return product + jnp.expand_dims(bias, range(x.ndim - 1))


def shifted(x: jax.Array, kernel: jax.Array, dilation: int = 1) -> jax.Array:
    """The convolution as shifted copies of x and one product, arguments as of `temporal_conv`."""
    size, time = kernel.shape[0], x.shape[-2]
    if size > 1:
        reach = dilation * (size // 2)
        x = _pad_time(x, reach, reach)
        starts = range(0, size * dilation, dilation)
        x = jnp.concatenate([x[..., start : start + time, :] for start in starts], axis=-1)
    product = jnp.matmul if kernel.dtype == jnp.float32 else _rounded_product
    return product(x, kernel.reshape(-1, kernel.shape[-1]))


@jax.custom_vjp
def _rounded_product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Product of bfloat16 operands with float32 sums; so are the two of its gradient."""
    return jnp.matmul(x, matrix, preferred_element_type=jnp.float32)


def _rounded_product_backward(kept, cotangent):
    x, matrix = kept
    cotangent = cotangent.astype(x.dtype)
    of_x = _rounded_product(cotangent, matrix.T)
    of_matrix = jnp.einsum("...i,...o->io", x, cotangent, preferred_element_type=jnp.float32)
    return of_x.astype(x.dtype), of_matrix.astype(x.dtype)


_rounded_product.defvjp(
    lambda *operands: (_rounded_product(*operands), operands), _rounded_product_backward
)


def _pad_time(x: jax.Array, before: int, after: int) -> jax.Array:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(before, after), (0, 0)])


_WIDE = 512  # inputs and outputs; below, the transforms cost much of what the products save


@jax.custom_vjp
def _wide_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution of one or three taps, dilation 1, in the way that suits the platform."""
    return jax.lax.platform_dependent(x, kernel, cpu=_on_cpu, default=shifted)


def _gradients(kept, cotangent):
    """Nothing of the forward pass but its arguments is kept."""
    return jax.lax.platform_dependent(
        *kept,
        cotangent,
        cpu=_gradients_on_cpu,
        default=lambda x, kernel, cotangent: jax.vjp(shifted, x, kernel)[1](cotangent),
    )


_wide_convolution.defvjp(lambda x, kernel: (_wide_convolution(x, kernel), (x, kernel)), _gradients)


def _on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _minimal_filtering(x, kernel) if len(kernel) == 3 else x @ kernel[0]


def _gradients_on_cpu(x: jax.Array, kernel: jax.Array, cotangent: jax.Array):
    """The one of x is a convolution with the kernel turned round."""
    if len(kernel) == 1:
        return cotangent @ kernel[0].T, _correlate(x, cotangent)[None]
    first, both, difference, last = (matrix.T for matrix in _matrices(kernel))
    of_x = _products(cotangent, (last, both, difference, first))
    return of_x, _minimal_kernel_gradient(x, cotangent)


def _minimal_filtering(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Three taps at two positions by four products, not six: F(2, 3) of Winograd (1980).

    Exact but for rounding, and about as accurate as the direct form (of the largest entry, 6e-7
    against 5e-7 at 2048 channels): the transforms only add, subtract and halve.

    Args:
        x: [..., T, I].
        kernel: [3, I, O].

    Returns:
        [..., T, O].
    """
    return _products(x, _matrices(kernel))


def _matrices(kernel: jax.Array) -> tuple[jax.Array, ...]:
    """What the four products multiply with, [I, O] each."""
    first, middle, last = kernel
    return first, (first + middle + last) / 2, (first - middle + last) / 2, last


def _products(x: jax.Array, matrices) -> jax.Array:
    p, q, r, s = (tiles @ matrix for tiles, matrix in zip(_tiles(x), matrices, strict=True))
    y = jnp.stack([p + q + r, q - r - s], axis=-2)
    return y.reshape(*y.shape[:-3], -1, y.shape[-1])[..., : x.shape[-2], :]


def _tiles(x: jax.Array) -> tuple[jax.Array, ...]:
    """What the four products multiply, [..., T / 2, I] each, rounded up.

    A pair of positions 2i, 2i + 1 sees four snippets of the padded sequence, a to d.
    """
    even, odd = _in_pairs(_pad_time(x, 1, 1 + x.shape[-2] % 2))
    (a, c), (b, d) = ((z[..., :-1, :], z[..., 1:, :]) for z in (even, odd))
    return a - c, b + c, c - b, b - d


def _in_pairs(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Snippets 2i and snippets 2i + 1."""
    pairs = x.reshape(*x.shape[:-2], -1, 2, x.shape[-1])
    return pairs[..., 0, :], pairs[..., 1, :]


def _minimal_kernel_gradient(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """[3, I, O], by four products as well: `_minimal_filtering` is linear in the kernel."""
    even, odd = _in_pairs(_pad_time(cotangent, 0, x.shape[-2] % 2))
    p, q, r, s = map(_correlate, _tiles(x), (even, even + odd, even - odd, -odd))
    middle, sides = (q - r) / 2, (q + r) / 2
    return jnp.stack([p + sides, middle, sides + s])


def _correlate(x: jax.Array, y: jax.Array) -> jax.Array:
    """Sum over all snippets of x times y: [..., T, I], [..., T, O] to [I, O]."""
    # As matrices: with more axes to sum over XLA would transpose x for the product, slowly.
    x, y = (z.reshape(-1, z.shape[-1]) for z in (x, y))
    return jax.lax.dot_general(x, y, (((0,), (0,)), ((), ())))


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


def cast_params(params: Any, precision: str) -> Any:
    """The parameters as the forward and backward passes see them.

    Args:
        params: float32; they, Adam's moments and everything outside of matrix products stay so.
        precision: "float32", or "bfloat16": the kernels of all layers are rounded to it, and so are
            what `layers.temporal_conv` multiplies them with and their gradients; sums are float32.
    """

    def cast(path, leaf):
        return leaf.astype(precision) if path[-1].key == "kernel" else leaf

    return params if precision == "float32" else jax.tree_util.tree_map_with_path(cast, params)
