"""Collectives of the compiled steps: none between members, reductions within a batch."""

import functools

import jax
import jax.numpy as jnp
import pytest

from benchmarks.planner.collectives import Collective, axes, collectives
from jaxtal import methods
from jaxtal.input_pipeline.packing import PackedVideos, build_index
from jaxtal.parallel import sharding
from jaxtal.parallel.mesh import mesh_from_config
from jaxtal.training import evaluator, train_step
from tests.helpers.pods import METHODS, config_of
from tests.input_pipeline.test_placement import videos

C, WIDTH = 3, 8
MEMBER, DATA = 2, 4
QUICKLY = {"xla_backend_optimization_level": 0}
B = 12  # videos of a batch, as tests.helpers.pods has it


@functools.cache
def setting(name: str):
    """Return config, method, model and mesh."""
    config = config_of(name, MEMBER, DATA)
    method = methods.get(config.method)
    mesh = mesh_from_config(config, method.num_batch_shards(config))
    assert dict(mesh.shape) == {"member": MEMBER, "data": DATA}
    return config, method, method.build(config.model, C), mesh


def data(mesh) -> PackedVideos:
    index = build_index(videos(), C)
    features = jnp.zeros((int(index.lengths.sum()), WIDTH))
    return sharding.device_put(mesh, PackedVideos(features, index))


@functools.cache
def of_training(name: str) -> tuple[list[Collective], int]:
    """Return the collectives of the compiled steps, and the number of a model's parameters."""
    config, method, model, mesh = setting(name)
    state, hyper = train_step.abstract_state(model, config, mesh, WIDTH)
    stop = train_step.with_sharding(mesh, jax.ShapeDtypeStruct((), jnp.int32))
    arguments = (state, hyper, stop, data(mesh), None)
    lowered = train_step.train_fn(model, method, config, mesh, 3).lower(*arguments)
    text = lowered.compile(QUICKLY).as_text()
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state.params)) // config.population
    return collectives(text), numbers


@pytest.mark.parametrize("name", [*METHODS, "hybrid"])
def test_members_train_without_communication(name):
    found, _ = of_training(name)
    assert found  # those of the batch
    assert {axes(one, setting(name)[3].shape) for one in found} == {("data",)}


@pytest.mark.parametrize("name", [*METHODS, "hybrid"])
def test_a_batch_is_reduced(name):
    """All-reduces of the gradients and of scalars: counts, means, loss terms."""
    found, numbers = of_training(name)
    assert all(one.in_loop for one in found)
    reduced = [one for one in found if one.kind == "all-reduce"]
    # Besides the gradients: D2-Net's running background, and some scalars.
    extra = (WIDTH if name == "d2net" else 0) + 60
    assert 4 * numbers <= sum(one.bytes for one in reduced) <= 4 * (numbers + extra)
    others = [one for one in found if one.kind != "all-reduce"]
    if name in ("co2net", "twostream"):
        assert others == []
        return
    # Losses that compare videos exchange embeddings, probabilities and labels, and three numbers
    # per video, forward and backward.
    assert {one.kind for one in others} == {"all-gather"}
    embeddings = 2 * WIDTH // 2 if name == "d2net" else 0
    assert sum(one.bytes for one in others) <= 4 * B * (embeddings + 2 * C + 8)


@pytest.mark.parametrize("name", ["co2net"])
def test_evaluation_has_no_communication(name):
    config, method, model, mesh = setting(name)
    state, _ = train_step.abstract_state(model, config, mesh, WIDTH)
    program = evaluator.evaluation_fn(method, model, config, mesh)
    batch = sharding.device_put(mesh, (jnp.arange(8), jnp.full(8, 5)))
    variables = {"params": state.params, **state.model_state}
    compiled = program.lower(variables, data(mesh), *batch, None, time=16).compile(QUICKLY)
    assert collectives(compiled.as_text()) == []
    (cas, *_) = jax.tree.leaves(compiled.output_shardings)
    assert cas.spec == jax.sharding.PartitionSpec("member", "data")


def test_collectives_of_sharded_features():
    """An all-gather of the row indices, then a reduce-scatter of the features."""
    config, method, model, mesh = setting("twostream")
    config = config.copy_and_resolve_references()
    config.mesh.features = "sharded"
    state, hyper = train_step.abstract_state(model, config, mesh, WIDTH)
    stop = train_step.with_sharding(mesh, jax.ShapeDtypeStruct((), jnp.int32))
    packed = data(mesh)
    rows = -(-len(packed.features) // DATA) * DATA
    shape = jax.ShapeDtypeStruct((rows, WIDTH), jnp.float32)
    packed = packed._replace(
        features=train_step.with_sharding(mesh, shape, jax.sharding.PartitionSpec("data"))
    )
    arguments = (state, hyper, stop, packed, None)
    lowered = train_step.train_fn(model, method, config, mesh, 3).lower(*arguments)
    found = collectives(lowered.compile(QUICKLY).as_text())
    sent = {one.kind: one.bytes for one in found if one.kind != "all-reduce"}
    count = config.data.num_snippets
    assert sent == {"all-gather": 4 * B * count, "reduce-scatter": 4 * B // DATA * count * WIDTH}
