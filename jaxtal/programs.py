"""The programs that a run compiles, from functions of one model: for arrays, or their shapes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from jaxtal import mesh as meshes
from jaxtal import population
from jaxtal.step import TrainState, init_state, over_members, train_steps


def fresh(model, config, mesh: Mesh, feature_width: int):
    """A jitted function: all members' hyper-parameters, leaves [M], to fresh `TrainState`s."""
    of_one = functools.partial(init_state, model, feature_width=feature_width)
    of_members = over_members(of_one, config.population, (0,))
    return jax.jit(of_members, out_shardings=NamedSharding(mesh, meshes.OF_MEMBERS))


def training(model, method, config, mesh: Mesh, steps: int):
    """A jitted function: up to `steps` steps of all members, see `step.train_steps`.

    Its arguments are state, hyper-parameters, the step to stop at, the data and, if they are
    streamed, the steps' batches; the state is donated, and has leading axes M like the hyper-
    parameters, the batches and what is returned.
    """
    loop = functools.partial(train_steps, steps=steps, model=model, method=method, config=config)
    of_members = over_members(loop, config.population, (0, 0, None, None, 0), mesh)
    shared = NamedSharding(mesh, meshes.OF_MEMBERS)
    return jax.jit(of_members, donate_argnums=0, out_shardings=shared)


def shapes_of_state(model, config, mesh: Mesh, feature_width: int) -> tuple[TrainState, Any]:
    """Shapes and places of the members' states and hyper-parameters, for `training`."""
    hyper = jax.eval_shape(lambda: population.hypers(population.members_of(config)))
    state = jax.eval_shape(fresh(model, config, mesh, feature_width), hyper)
    return placed(mesh, (state, hyper), meshes.OF_MEMBERS)


def placed(mesh: Mesh, shapes: Any, spec=meshes.EVERYWHERE) -> Any:
    """The shapes of arrays that `mesh.put` would have placed."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
    )


def step_number() -> jax.ShapeDtypeStruct:
    """The shape of the step to stop at."""
    return jax.ShapeDtypeStruct((), jnp.int32)
