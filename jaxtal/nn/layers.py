"""Temporal layers on masked batches [..., T, C], shared by the methods."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

leaky_relu = functools.partial(nn.leaky_relu, negative_slope=0.2)
# U(-b, b) with b = sqrt(6 / fan_in), fan_in = kernel size * inputs: [docs][methods-initializers].
he_uniform = nn.initializers.variance_scaling(2.0, "fan_in", "uniform")


def torch_default(fan_in: int) -> Callable:
    """Return PyTorch's default initializer of weights and biases, U(-b, b) with b = fan_in ** -0.5.

    Args:
        fan_in: kernel size times number of inputs.

    Returns:
        An initializer in Flax's form, (key, shape, dtype) to an array
        ([docs][methods-initializers]).
    """

    def initialize(key, shape, dtype=jnp.float32):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


def temporal_conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, mask: jax.Array, dilation: int = 1
) -> jax.Array:
    """Compute a 1-D cross-correlation over time, stride 1, zero padding, as matrix products.

    XLA's own convolution is slow on CPUs inside of loops, and it does not batch over models.
    Shifted copies and one matrix product are as fast outside of loops and keep their speed inside.
    On CPUs wide layers of three taps need two thirds of the multiplications, see
    `_minimal_filtering`; `python -m benchmarks.speed.temporal_conv` measures them. Definition:
    [docs][methods-temporal-convolution].

    Args:
        x: [..., T, I] activations.
        kernel: [k, I, O], k odd, float32 or bfloat16; x is rounded to its type, sums are float32.
        bias: [O].
        mask: [..., T] bool; snippets outside the mask count as zero padding.
        dilation: distance between two taps, in snippets.

    Returns:
        [..., T, O] in the type of the bias; entries outside the mask are unspecified.
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
    """Compute the convolution of `temporal_conv` as shifted copies of x and one matrix product.

    Args:
        x: [..., T, I], zero outside the mask.
        kernel: [k, I, O].
        dilation: distance between two taps, in snippets.

    Returns:
        [..., T, O] without the bias.
    """
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
    """Product of bfloat16 operands with float32 sums, in the gradient, too."""
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


_WIDE = 512  # inputs and outputs; in narrower layers the transforms cost most of the time saved


@jax.custom_vjp
def _wide_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of one or three taps, dilation 1, in the fastest form for the platform."""
    return jax.lax.platform_dependent(x, kernel, cpu=_on_cpu, default=shifted)


def _gradients(kept, cotangent):
    """Gradients of x and kernel, recomputed from the arguments of the forward pass."""
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
    """Gradients of x and kernel; the former is a convolution with the flipped kernel."""
    if len(kernel) == 1:
        return cotangent @ kernel[0].T, _correlate(x, cotangent)[None]
    first, both, difference, last = (matrix.T for matrix in _matrices(kernel))
    of_x = _products(cotangent, (last, both, difference, first))
    return of_x, _minimal_kernel_gradient(x, cotangent)


def _minimal_filtering(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of three taps with four products per two snippets, not six: Winograd's F(2, 3).

    The result is exact up to rounding and about as accurate as the direct form (error relative to
    the largest entry at 2048 channels: 6e-7 against 5e-7), as the transforms only add, subtract and
    halve. Source: Winograd, Arithmetic Complexity of Computations, 1980.

    Args:
        x: [..., T, I].
        kernel: [3, I, O].

    Returns:
        [..., T, O].
    """
    return _products(x, _matrices(kernel))


def _matrices(kernel: jax.Array) -> tuple[jax.Array, ...]:
    """Transform of the kernel: the right operands of the four products, [I, O] each."""
    first, middle, last = kernel
    return first, (first + middle + last) / 2, (first - middle + last) / 2, last


def _products(x: jax.Array, matrices) -> jax.Array:
    """Inverse transform of the four products, [..., T, O]."""
    p, q, r, s = (tiles @ matrix for tiles, matrix in zip(_tiles(x), matrices, strict=True))
    y = jnp.stack([p + q + r, q - r - s], axis=-2)
    return y.reshape(*y.shape[:-3], -1, y.shape[-1])[..., : x.shape[-2], :]


def _tiles(x: jax.Array) -> tuple[jax.Array, ...]:
    """Transform of x: the left operands of the four products, [..., ceil(T / 2), I] each.

    A pair of snippets 2i, 2i + 1 depends on four snippets of the padded sequence, a to d.
    """
    even, odd = _in_pairs(_pad_time(x, 1, 1 + x.shape[-2] % 2))
    (a, c), (b, d) = ((z[..., :-1, :], z[..., 1:, :]) for z in (even, odd))
    return a - c, b + c, c - b, b - d


def _in_pairs(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split even and odd snippets, [..., T / 2, C] each."""
    pairs = x.reshape(*x.shape[:-2], -1, 2, x.shape[-1])
    return pairs[..., 0, :], pairs[..., 1, :]


def _minimal_kernel_gradient(x: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Gradient of the kernel [3, I, O] by four products, as the result is linear in the kernel."""
    even, odd = _in_pairs(_pad_time(cotangent, 0, x.shape[-2] % 2))
    p, q, r, s = map(_correlate, _tiles(x), (even, even + odd, even - odd, -odd))
    middle, sides = (q - r) / 2, (q + r) / 2
    return jnp.stack([p + sides, middle, sides + s])


def _correlate(x: jax.Array, y: jax.Array) -> jax.Array:
    """Sum of the outer products of all snippets: [..., T, I], [..., T, O] to [I, O]."""
    # As matrices: with several axes to sum over, XLA transposes x before the product, slowly.
    x, y = (z.reshape(-1, z.shape[-1]) for z in (x, y))
    return jax.lax.dot_general(x, y, (((0,), (0,)), ((), ())))


def temporal_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Compute the mean over time; 0 for a video without snippets.

    Args:
        x: [..., T, C].
        mask: [..., T] bool.

    Returns:
        [..., 1, C].
    """
    count = jnp.maximum(mask.sum(-1), 1)[..., None, None]
    return jnp.where(mask[..., None], x, 0).sum(-2, keepdims=True) / count


def average_pool(x: jax.Array, mask: jax.Array, window: int) -> jax.Array:
    """Compute a moving average over time that always divides by `window`.

    Positions outside the video count as zeros, so that values shrink towards both ends of the
    video, for example to 7 / 13 at the first snippet with a window of 13. Source: CO2-Net's
    published code for ActivityNet ([docs][co2net-temporal-pooling]).

    Args:
        x: [B, T, C].
        mask: [B, T] bool.
        window: length in snippets, odd; with 1 x is returned unchanged.

    Returns:
        [B, T, C]; entries outside the mask are unspecified.
    """
    if window == 1:
        return x
    return nn.avg_pool(jnp.where(mask[..., None], x, 0), (window,), padding="SAME")


class TemporalConv(nn.Module):
    """Temporal convolution: `temporal_conv` with a kernel [k, I, features] and a bias [features].

    Attributes:
        features: number of outputs.
        kernel_size: k, odd.
        kernel_init: initializer of the kernel.
        dilation: distance between two taps, in snippets.
        bias_init: initializer of the bias.
    """

    features: int
    kernel_size: int = 1
    kernel_init: Callable = he_uniform
    dilation: int = 1
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Apply the layer to x [..., T, I] with mask [..., T]; return [..., T, features]."""
        shape = (self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", self.bias_init, (self.features,))
        return temporal_conv(x, kernel, bias, mask, self.dilation)


class Dropout(nn.Module):
    """Inverted dropout, independent for every entry ([docs][methods-dropout]).

    It draws 16 random bits per entry, `nn.Dropout` 32, which halves its cost on CPUs. The rate is
    rounded to a multiple of 2 ** -16, and kept entries are divided by the exact probability.

    Attributes:
        rate: probability of zeroing an entry.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Apply dropout to x in training; return x unchanged otherwise."""
        level = round(self.rate * 2**16)
        if not train or not level:
            return x
        words = jax.random.bits(self.make_rng("dropout"), (-(-x.size // 2),), jnp.uint32)
        bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size]
        keep = bits.reshape(x.shape) >= level
        return jnp.where(keep, x / (1 - level / 2**16), 0)


def cast_params(params: Any, precision: str) -> Any:
    """Cast the kernels of all layers to the precision of matrix products.

    Args:
        params: tree of float32 parameters.
        precision: "float32", or "bfloat16". With "bfloat16" `temporal_conv` also rounds its inputs
            and the gradients of both operands; sums, biases and Adam's moments stay float32.

    Returns:
        The parameters for the forward and backward passes.
    """

    def cast(path, leaf):
        return leaf.astype(precision) if path[-1].key == "kernel" else leaf

    return params if precision == "float32" else jax.tree_util.tree_map_with_path(cast, params)
