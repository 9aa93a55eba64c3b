"""The training step: one compiled function, keys from (seed, step), skipped updates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import co2net_demo
from jaxtal import methods
from jaxtal.data.dataset import Video
from jaxtal.input_pipeline.packing import pack
from jaxtal.nn.layers import cast_params
from jaxtal.parallel.sharding import vmap_members
from jaxtal.training.train_state import hyperparams_from_config
from jaxtal.training.train_step import init_state, train_step, train_steps

C, WIDTH = 3, 8


@pytest.fixture(scope="module")
def config():
    config = co2net_demo.get_config()
    config.data.num_snippets = 12
    return config


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    empty = np.empty((0, 2))
    return pack(
        tuple(
            Video(f"v{i}", 1.0, np.array([i % C]), empty, empty[:, 0], empty,
                  rng.random((5 + 3 * i, WIDTH), np.float32))
            for i in range(9)
        ),
        C,
    )  # fmt: skip


@pytest.fixture(scope="module")
def step(config):
    method = methods.get("co2net")
    model = method.build(config.model, C)
    traces = []

    def counted(*arguments):
        traces.append(1)
        return train_step(*arguments, model=model, method=method, config=config)

    jitted = jax.jit(counted)
    start = functools.partial(init_state, model, feature_width=WIDTH)
    return jitted, start, traces


def run(step, start, hyper, data, steps: int):
    state, metrics = start(hyper), {}
    for _ in range(steps):
        state, metrics = step(state, hyper, data)
    return state, metrics


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def test_one_trace_for_all_hyperparameters(step, config, data):
    jitted, start, traces = step
    hyper = hyperparams_from_config(config)
    for seed in (0, 1):
        for rate in (1e-3, 1e-4):
            other = hyper._replace(seed=jnp.uint32(seed), learning_rate=jnp.float32(rate))
            run(jitted, start, other, data, 3)
    assert len(traces) == 1


def test_the_seed_decides_everything(step, config, data):
    jitted, start, _ = step
    hyper = hyperparams_from_config(config)
    first, again = (run(jitted, start, hyper, data, 3)[0] for _ in range(2))
    for a, b in zip(leaves(first), leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    other, _ = run(jitted, start, hyper._replace(seed=jnp.uint32(1)), data, 3)
    assert any(
        (a != b).any() for a, b in zip(leaves(first.params), leaves(other.params), strict=True)
    )


def test_no_transfer_between_host_and_device(step, config, data):
    jitted, start, _ = step
    hyper = hyperparams_from_config(config)
    state, _ = jitted(start(hyper), hyper, data)
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(jitted(state, hyper, data))


def test_an_update_that_is_not_finite_is_skipped_and_counted(step, config, data):
    jitted, start, _ = step
    hyper = hyperparams_from_config(config)
    good, _ = run(jitted, start, hyper, data, 2)
    poisoned = data._replace(features=data.features * jnp.nan)
    bad, metrics = jitted(good, hyper, poisoned)
    assert not np.isfinite(metrics["loss"])
    for a, b in zip(leaves(bad.params), leaves(good.params), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [int(x) for x in (bad.step, bad.skipped, bad.consecutive_skipped)] == [3, 1, 1]
    worse, _ = jitted(bad, hyper, poisoned)
    assert [int(x) for x in (worse.skipped, worse.consecutive_skipped)] == [2, 2]
    better, _ = jitted(worse, hyper, data)
    assert [int(x) for x in (better.skipped, better.consecutive_skipped)] == [2, 0]
    assert any(
        (a != b).any() for a, b in zip(leaves(better.params), leaves(good.params), strict=True)
    )


def test_a_weight_of_zero_drops_a_term(step, config, data):
    jitted, start, _ = step
    hyper = hyperparams_from_config(config)
    _, metrics = jitted(start(hyper), hyper, data)
    weights = hyper.loss_weights
    total = sum(float(weights[name]) * float(metrics[name]) for name in weights)
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-6)
    only = hyper._replace(
        loss_weights=dict.fromkeys(weights, jnp.float32(0)) | {"norm": jnp.float32(1)}
    )
    _, metrics = jitted(start(only), only, data)
    np.testing.assert_allclose(metrics["loss"], metrics["norm"], rtol=1e-6)


def test_batches_without_pairs_have_no_co_activity(config, data):
    method = methods.get("co2net")
    model = method.build(config.model, C)
    alone = config.copy_and_resolve_references()
    alone.train.pairs, alone.train.batch_size = 0, 2
    hyper = hyperparams_from_config(alone)
    state = init_state(model, hyper, WIDTH)
    step = functools.partial(train_step, model=model, method=method, config=alone)
    _, metrics = jax.jit(step)(state, hyper, data)
    assert metrics["co_activity"] == 0
    assert np.isfinite(metrics["loss"])


def test_members_of_a_population_can_be_vmapped(step, config, data):
    jitted, start, _ = step
    hyper = hyperparams_from_config(config)
    seeds = jnp.arange(3, dtype=jnp.uint32)
    axes = hyper._replace(seed=0, learning_rate=None, weight_decay=None,
                          loss_weights=dict.fromkeys(hyper.loss_weights))  # fmt: skip
    many = hyper._replace(seed=seeds)
    states = jax.vmap(start, in_axes=(axes,))(many)
    states, metrics = jax.vmap(jitted, in_axes=(0, axes, None))(states, many, data)
    _, wanted = jitted(start(hyper._replace(seed=seeds[2])), hyper._replace(seed=seeds[2]), data)
    np.testing.assert_allclose(metrics["loss"][2], wanted["loss"], rtol=1e-5)


@pytest.fixture(scope="module")
def loop(config):
    """Return a loop of up to four steps, and the list of its traces."""
    method = methods.get("co2net")
    model = method.build(config.model, C)
    traces = []

    def counted(*arguments):
        traces.append(1)
        return train_steps(*arguments, steps=4, model=model, method=method, config=config)

    return jax.jit(counted), traces


def test_where_loops_start_and_stop_changes_nothing(step, loop, config, data):
    """Seven steps in loops that stop anywhere: the same bits, one trace, correct means."""
    _, start, _ = step
    looped, traces = loop
    hyper = hyperparams_from_config(config)
    ends = {}
    for stops in ((4, 7), (1, 2, 3, 4, 5, 6, 7), (3, 6, 7)):
        state, means = start(hyper), []
        for stop in stops:
            state, mean, in_row = looped(state, hyper, jnp.int32(stop), data)
            means.append((stop, float(mean["loss"])))
            assert (int(state.step), int(in_row)) == (stop, 0)
        ends[stops] = leaves(state), dict(means)
    (first, windows), (again, single), (third, _) = ends.values()
    for a, b, c in zip(first, again, third, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert windows[4] == pytest.approx(np.mean([single[stop] for stop in (1, 2, 3, 4)]), rel=1e-6)
    assert windows[7] == pytest.approx(np.mean([single[stop] for stop in (5, 6, 7)]), rel=1e-6)
    assert len(traces) == 1


def test_a_loop_is_its_steps(step, loop, config, data):
    jitted, start, _ = step
    hyper = hyperparams_from_config(config)
    wanted, _ = run(jitted, start, hyper, data, 4)
    state, *_ = loop[0](start(hyper), hyper, jnp.int32(4), data)
    for a, b in zip(leaves(state), leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_no_transfer_in_a_loop(step, loop, config, data):
    _, start, _ = step
    hyper, stop = hyperparams_from_config(config), jnp.int32(4)
    state, *_ = loop[0](start(hyper), hyper, stop, data)
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(loop[0](state, hyper, stop, data))


def test_one_member_is_the_function_itself():
    def function(x, shared, nothing):
        assert nothing is None
        return {"sum": x["a"] + shared}

    given = ({"a": jnp.array([[1.0, 2]])}, jnp.array([10.0, 20]), None)
    alone = vmap_members(function, 1, (0, None, 0))(*given)
    np.testing.assert_array_equal(alone["sum"], [[11, 22]])
    two = ({"a": jnp.array([[1.0, 2], [3, 4]])}, jnp.array([10.0, 20]), None)
    together = vmap_members(function, 2, (0, None, 0))(*two)
    np.testing.assert_array_equal(together["sum"], [[11, 22], [13, 24]])


def test_only_kernels_are_rounded(step, config):
    _, start, _ = step
    params = start(hyperparams_from_config(config)).params
    assert cast_params(params, "float32") is params
    rounded = jax.tree_util.tree_leaves_with_path(cast_params(params, "bfloat16"))
    types: dict[bool, set] = {True: set(), False: set()}
    for path, leaf in rounded:
        types[path[-1].key == "kernel"].add(str(leaf.dtype))
    assert types == {True: {"bfloat16"}, False: {"float32"}}
