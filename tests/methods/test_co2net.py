"""CO2-Net's network: size, initial values, and what padding and order must not change."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtal.methods.co2net import CO2Net

C, WIDTH = 4, 24
MODEL = CO2Net(C)
PARAMS = MODEL.init(jax.random.key(0), jnp.zeros((1, 2, WIDTH)), jnp.ones((1, 2), bool))
forward = jax.jit(lambda x, mask: MODEL.apply(PARAMS, x, mask))


def test_number_of_parameters():
    shape = jax.eval_shape(
        CO2Net(20).init, jax.random.key(0), jnp.zeros((1, 1, 2048)), jnp.ones((1, 1), bool)
    )
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shape))
    # METHODS 2.b counts all three taps of the two global layers; only one acts and is kept here.
    assert count == 34_133_015 - 2 * 2 * 1024 * 1024


def test_initial_values():
    params = CO2Net(20).init(jax.random.key(0), jnp.zeros((1, 1, 256)), jnp.ones((1, 1), bool))[
        "params"
    ]
    bounds = {
        ("cls0", "kernel"): math.sqrt(6 / (3 * 256)),
        ("fusion", "kernel"): math.sqrt(6 / 256),
        ("ccm_rgb", "local", "kernel"): math.sqrt(6 / (3 * 128)),
        ("ccm_flow", "global", "kernel"): math.sqrt(6 / (3 * 128)),
    }
    for path, bound in bounds.items():
        value = params
        for part in path:
            value = value[part]
        assert 0.98 * bound < jnp.abs(value).max() <= bound
        assert abs(value.std() - bound / math.sqrt(3)) < 0.02 * bound
    assert not np.any(params["cls1"]["bias"])


def draw(seed: int, lengths, time: int):
    rng = np.random.default_rng(seed)
    x = rng.random((len(lengths), time, WIDTH)).astype(np.float32)
    return x, np.arange(time) < np.asarray(lengths)[:, None]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    lengths=st.lists(st.integers(0, 9), min_size=3, max_size=3),
    extra=st.sampled_from([1, 23]),
)
def test_padding_changes_no_output(seed, lengths, extra):
    x, mask = draw(seed, lengths, 9)
    padded, padded_mask = draw(seed + 1, lengths, 9 + extra)
    padded[:, :9] = np.where(mask[..., None], x, padded[:, :9])
    ours, wanted = forward(padded, padded_mask), forward(x, mask)
    for name, value in wanted.items():
        cut = np.where(mask[..., None], ours[name][:, :9], 0)
        np.testing.assert_allclose(cut, np.where(mask[..., None], value, 0), atol=1e-5)


def test_permuting_a_batch_permutes_the_outputs():
    x, mask = draw(0, (9, 4, 1), 9)
    order = [2, 0, 1]
    ours, wanted = forward(x[order], mask[order]), forward(x, mask)
    for name, value in wanted.items():
        np.testing.assert_allclose(ours[name], value[jnp.array(order)], atol=1e-6)


def test_dropout_acts_in_training_only():
    x, mask = draw(1, (9,), 9)
    first, second = (
        MODEL.apply(PARAMS, x, mask, train=True, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 1)
    )
    assert (first["cas"] != second["cas"]).any()
    # Dropout on the attention's logit: half of the snippets of a modality get exactly 0.5.
    many = [
        MODEL.apply(PARAMS, x, mask, train=True, rngs={"dropout": jax.random.key(seed)})
        for seed in range(40)
    ]
    half = np.mean([np.asarray(output["attention_rgb"]) == 0.5 for output in many])
    assert half == pytest.approx(0.5, abs=0.1)
