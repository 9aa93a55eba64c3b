"""Temporal layers compared with XLA's convolution, and statistics of dropout."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtal.nn.layers import _WIDE, Dropout, average_pool, temporal_conv, temporal_mean


@pytest.mark.parametrize(("size", "dilation"), [(1, 1), (3, 1), (5, 1), (5, 2), (3, 4), (3, 20)])
def test_temporal_conv_is_a_convolution(size, dilation):
    rng = np.random.default_rng(size)
    x = jnp.asarray(rng.normal(size=(2, 11, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, 4, 3)), jnp.float32)
    bias = jnp.asarray(rng.normal(size=3), jnp.float32)
    wanted = jax.lax.conv_general_dilated(
        x, kernel, (1,), "SAME", rhs_dilation=(dilation,), dimension_numbers=("NWC", "WIO", "NWC")
    )
    ours = temporal_conv(x, kernel, bias, jnp.ones((2, 11), bool), dilation)
    np.testing.assert_allclose(ours, wanted + bias[None, None], rtol=1e-5, atol=1e-5)


def xla(x, kernel):
    layout = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=layout)


def random(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


def gradients(function, x, kernel, cotangent):
    """Compute the function's value and its gradients with respect to both arguments."""
    value, backward = jax.vjp(function, x, kernel)
    return (value, *backward(cotangent))


@pytest.mark.parametrize(("size", "time"), [(1, 3), (3, 1), (3, 4), (3, 7)])
def test_wide_layers_are_convolutions(size, time):
    """The CPU's form with fewer products is exact up to rounding, and so are its gradients."""
    x, cotangent = random(2, time, _WIDE), random(2, time, _WIDE + 8)
    kernel = random(size, _WIDE, _WIDE + 8) / _WIDE**0.5
    mask, bias = jnp.ones((2, time), bool), jnp.zeros(_WIDE + 8)
    ours = gradients(lambda x, k: temporal_conv(x, k, bias, mask), x, kernel, cotangent)
    for value, wanted in zip(ours, gradients(xla, x, kernel, cotangent), strict=True):
        np.testing.assert_allclose(value, wanted, atol=2e-6 * float(jnp.abs(wanted).max()))


def test_wide_layers_respect_the_mask_and_batch_over_members():
    x, kernels = random(2, 9, _WIDE), random(3, 3, _WIDE, _WIDE)
    mask, bias = jnp.arange(9)[None] < jnp.array([9, 5])[:, None], jnp.zeros(_WIDE)

    def one(kernel, x):
        return jnp.where(mask[..., None], temporal_conv(x, kernel, bias, mask), 0)

    def loss(kernel):
        return (one(kernel, x) ** 2).sum()

    spoilt = x.at[1, 5:].set(jnp.nan)
    np.testing.assert_array_equal(one(kernels[0], spoilt), one(kernels[0], x))
    together = jax.vmap(jax.grad(loss))(kernels)
    for member, kernel in zip(together, kernels, strict=True):
        alone = jax.grad(loss)(kernel)
        np.testing.assert_allclose(member, alone, atol=1e-5 * float(jnp.abs(alone).max()))


def test_wide_layers_need_two_thirds_of_the_products():
    x, kernel, bias = random(1, 64, _WIDE), random(3, _WIDE, _WIDE), jnp.zeros(_WIDE)
    mask = jnp.ones((1, 64), bool)

    def flops(function):
        step = jax.jit(lambda x, k: gradients(function, x, k, x))
        return step.lower(x, kernel).compile().cost_analysis()["flops"]

    direct = 3 * 2 * 64 * 3 * _WIDE**2
    assert flops(lambda x, k: temporal_conv(x, k, bias, mask)) < 0.71 * direct


def test_bfloat16_rounds_the_operands_only():
    """Products have rounded operands and float32 sums, in the gradients, too."""
    x, kernel, cotangent = random(2, 6, 16), random(3, 16, 8), random(2, 6, 8)
    mask, bias = jnp.ones((2, 6), bool), jnp.zeros(8)

    def rounded(x):
        return x.astype(jnp.bfloat16).astype(jnp.float32)

    def ours(x, kernel):
        return temporal_conv(x, kernel.astype(jnp.bfloat16), bias, mask)

    values = gradients(ours, x, kernel, cotangent)
    wanted = gradients(xla, rounded(x), rounded(kernel), rounded(cotangent))
    assert all(value.dtype == jnp.float32 for value in values)
    np.testing.assert_allclose(values[0], wanted[0], rtol=1e-5, atol=1e-5)
    for value, exact in zip(values[1:], wanted[1:], strict=True):  # these are rounded once more
        np.testing.assert_allclose(value, exact, rtol=2**-8, atol=0.05)
        assert (rounded(value) != value).any() or (value != exact).any()


def test_average_pool_divides_by_the_whole_window():
    x = jnp.arange(1.0, 9).reshape(1, 8, 1)
    mask = jnp.arange(8)[None] < 6
    ours = average_pool(x.at[:, 6:].set(jnp.nan), mask, 5)[0, :6, 0]
    np.testing.assert_allclose(ours * 5, [6, 10, 15, 20, 18, 15])
    np.testing.assert_array_equal(average_pool(x, mask, 1), x)


def test_masked_snippets_do_not_affect_their_neighbors():
    x = jnp.ones((1, 6, 2)).at[:, 4:].set(jnp.nan)
    mask = jnp.arange(6)[None] < 4
    kernel, bias = jnp.ones((3, 2, 1)), jnp.zeros(1)
    ours = temporal_conv(x, kernel, bias, mask)[0, :4, 0]
    np.testing.assert_array_equal(ours, [4, 6, 6, 4])
    np.testing.assert_array_equal(temporal_mean(x, mask)[0, 0], [1, 1])
    np.testing.assert_array_equal(temporal_mean(x, mask & False)[0, 0], [0, 0])


@pytest.mark.parametrize("rate", [0.5, 0.7])
def test_dropout_rate_scale_and_independence(rate):
    x = jnp.ones((50, 41, 31))
    layer = Dropout(rate)
    out = layer.apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    kept = np.asarray(out) > 0
    count = kept.size
    assert abs(kept.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / count)
    np.testing.assert_allclose(np.asarray(out)[kept], 1 / (1 - rate), rtol=1e-4)
    for axis in range(3):  # neighbors along every axis are independent
        first, second = kept.take(range(kept.shape[axis] - 1), axis), np.delete(kept, 0, axis)
        both = (first & second).mean()
        assert abs(both - (1 - rate) ** 2) < 5 * np.sqrt((1 - rate) ** 2 / first.size)
    other = layer.apply({}, x, True, rngs={"dropout": jax.random.key(1)})
    assert (np.asarray(other) != np.asarray(out)).any()
    assert layer.apply({}, x, False) is x


def test_two_dropouts_of_a_model_differ():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Dropout(0.5)(x, True), Dropout(0.5)(x, True)

    first, second = Two().apply({}, jnp.ones((64, 64)), rngs={"dropout": jax.random.key(0)})
    assert 0.4 < np.mean(np.asarray(first) != np.asarray(second)) < 0.6
