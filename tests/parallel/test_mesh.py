"""The mesh: its sizes, arrays on it, and functions that are divided over it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxtal.errors import JaxtalError
from jaxtal.input_pipeline import sampling
from jaxtal.nn import losses
from jaxtal.parallel import multihost, sharding
from jaxtal.parallel.mesh import make_mesh, mesh_from_config
from jaxtal.parallel.sharding import vmap_members
from tests.helpers.trained import tiny


def config_of(member: int, data: int, population: int = 4):
    return tiny("co2net", mesh__member=member, mesh__data=data, population=population)


@pytest.mark.parametrize(
    ("member", "data", "devices", "wanted"),
    [
        (-1, 1, 8, (4, 1)), (-1, 1, 1, (1, 1)), (-1, 2, 8, (4, 2)), (-1, 3, 8, (2, 3)),
        (2, -1, 8, (2, 3)), (1, -1, 8, (1, 6)), (-1, -1, 8, (4, 2)), (2, 3, 8, (2, 3)),
        (-1, 1, 6, (4, 1)), (-1, 1, 3, (2, 1)), (1, 1, 8, (1, 1)),
    ],
)  # fmt: skip
def test_sizes_of_the_remaining_devices(member, data, devices, wanted):
    """A population of 4 and a batch of 6 shards are divided over as many as possible."""
    mesh = mesh_from_config(config_of(member, data), 6, jax.devices()[:devices])
    assert dict(mesh.shape) == dict(zip(("member", "data"), wanted, strict=True))


@pytest.mark.parametrize(
    ("member", "data", "message"),
    [
        (3, 1, "a population of 4 cannot be divided over 3 devices; set config.population to a"),
        (1, 4, "this batch splits into 6 equal shards, which cannot be divided over 4 devices; c"),
        (4, 3, "a mesh of 4 x 3 = 12 devices, but there are 8; lower them, or start more"),
        (0, 1, "config.mesh.member=0, config.mesh.data=1: wanted numbers of devices, or -1"),
    ],
)
def test_sizes_that_do_not_fit(member, data, message):
    with pytest.raises(JaxtalError) as error:
        mesh_from_config(config_of(member, data), 6)
    assert message in str(error.value)


def test_every_process_must_take_part(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(JaxtalError, match="the 2 processes have 8 and each must take part"):
        mesh_from_config(config_of(-1, 1), 6)
    assert mesh_from_config(config_of(-1, 1, population=8), 6).size == 8


@pytest.mark.parametrize(
    ("pairs", "singles", "parts"), [(3, 4, 1), (4, 8, 4), (6, 4, 2), (0, 5, 5), (3, 0, 3)]
)
def test_no_pair_is_in_two_shards(pairs, singles, parts):
    assert sampling.num_shards_with_pairs(pairs, singles) == parts
    labels = jnp.ones((30, 1))
    key = jax.random.key(0)
    rows = sampling.pairs_and_singles(key, labels, jnp.arange(30) > 14, pairs, singles)
    paired = np.asarray(sampling.in_pairs(rows, pairs))
    assert paired.shape == (pairs, 2)
    assert (paired[:, 0] != paired[:, 1]).all()
    size = len(rows) // parts
    numbered = np.asarray(sampling.in_pairs(jnp.arange(len(rows)), pairs)) // size
    assert (numbered[:, 0] == numbered[:, 1]).all()
    assert (np.bincount(numbered[:, 0], minlength=parts) == pairs // parts).all()
    singly = np.setdiff1d(np.arange(len(rows)), sampling.in_pairs(jnp.arange(len(rows)), pairs))
    assert (np.asarray(rows)[singly] > 14).all()


@functools.cache
def mesh_of(member: int, data: int):
    return make_mesh(jax.devices(), member, data)


def on(member: int, data: int, function, axes, *arguments):
    """Call a jitted `function` of 4 members on a mesh."""
    mesh = mesh_of(member, data)
    return jax.jit(vmap_members(function, 4, axes, mesh))(*sharding.device_put(mesh, arguments))


@pytest.mark.parametrize(("member", "data"), [(4, 1), (2, 4), (4, 2), (1, 8)])
def test_divided_functions_have_the_same_values_and_gradients(member, data):
    rng = np.random.default_rng(0)
    sequence = jnp.asarray(rng.normal(size=(4, 8, 10, 3)), jnp.float32)
    mask = jnp.asarray(rng.random((8, 10)) < 0.8)

    def function(sequence, mask):
        def loss(sequence):
            sequence, given = sharding.shard_batch((sequence, mask))
            best = sharding.shard_map_over_batch(losses.topk_mean)(sequence, given, divisor=3)
            first = sharding.replicated(best)[::-1]
            return losses.mean_over_videos((best * first).sum(-1), given)

        return jax.value_and_grad(loss)(sequence)

    wanted = jax.jit(vmap_members(function, 4, (0, None)))(sequence, mask)
    found = on(member, data, function, (0, None), sequence, mask)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("member", "data"), [(1, 1), (1, 4), (2, 4), (4, 2)])
def test_rows_of_sharded_features(member, data):
    features = np.arange(48, dtype=np.float16).reshape(24, 2)
    rows = np.random.default_rng(1).integers(0, 24, (8, 5))
    mesh = mesh_of(member, data)

    def function(_, features, rows):
        return sharding.gather_rows(features, rows, sharded=True)

    of_all = jax.jit(vmap_members(function, 4, (0, None, None), mesh))
    placed = sharding.device_put(mesh, features, P("data"))
    assert placed.addressable_shards[0].data.shape == (24 // data, 2)
    found = of_all(sharding.device_put(mesh, jnp.zeros(4)), placed, sharding.device_put(mesh, rows))
    np.testing.assert_array_equal(found, np.broadcast_to(features[rows], (4, 8, 5, 2)))


def test_rows_that_the_host_gathers():
    host, rows = np.arange(20.0).reshape(10, 2), np.arange(8).reshape(4, 2)
    placed = sharding.device_put_rows(mesh_of(2, 2), host, rows, P("member", "data"))
    assert placed.addressable_shards[0].data.shape == (2, 1, 2)
    np.testing.assert_array_equal(placed, host[rows])


def test_one_process_agrees_with_itself():
    array = np.arange(3.0)
    assert multihost.all_gather_rows(array) is array
    assert multihost.broadcast_from_primary(-1) == -1
    assert multihost.is_primary_process()
    np.testing.assert_array_equal(
        sharding.device_get(sharding.device_put(mesh_of(2, 2), array)), array
    )
