"""Devices as a mesh of the axes `member` and `data`, in one process or in many.

Members of a population are divided over `member`: each device computes its own, and nothing is sent
between them. Videos of a batch are divided over `data`: XLA's partitioner adds up gradients and
means. A mesh of one device is the program without any of this. What is said here of arrays holds
for jobs of several processes, too, each of which holds the parts of its own devices.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxtal.parallel.mesh import DATA, MEMBER, MEMBER_SPEC, REPLICATED


def device_put(mesh: Mesh, tree: Any, spec: P = REPLICATED) -> Any:
    """Arrays that every process has whole, on the mesh: everywhere, or divided as `spec` says."""
    sharding = NamedSharding(mesh, spec)

    def one(leaf):
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(one, tree)


def device_put_rows(mesh: Mesh, host: np.ndarray, rows: np.ndarray, spec: P) -> jax.Array:
    """host[rows], of which every process gathers what its own devices get.

    Args:
        host: [n, D].
        rows: [...], whose axes `spec` divides.
    """
    sharding = NamedSharding(mesh, spec)
    shape = (*rows.shape, host.shape[1])

    def gathered(index: tuple[slice, ...] | None) -> np.ndarray:
        return host[rows[(index or ())[:-1]]]

    return jax.make_array_from_callback(shape, sharding, gathered)


def reshard(mesh: Mesh, tree: Any, spec: P) -> Any:
    """Arrays that were made of some on the mesh, where they belong."""
    return jax.jit(_identity, out_shardings=NamedSharding(mesh, spec))(tree)


def replicate(tree: Any) -> Any:
    """The same arrays, whole in every process; does not wait for the devices."""
    if jax.process_count() == 1:
        return tree
    everywhere = jax.tree.map(lambda leaf: NamedSharding(leaf.sharding.mesh, REPLICATED), tree)
    return jax.jit(_identity, out_shardings=everywhere)(tree)


def _identity(tree: Any) -> Any:
    return tree


def device_get(tree: Any) -> Any:
    """The same arrays as NumPy's, whole in every process; waits for the devices."""
    return jax.device_get(replicate(tree))


def shard_map_over_members(function: Callable, mesh: Mesh, axes: tuple) -> Callable:
    """`function` of the members of one device, for those of all: no device asks another for any.

    Args:
        function: whose batches are divided over `data` by `shard_batch`, inside.
        mesh: of `make_mesh`.
        axes: for each argument 0, divided over `member`, or None.

    Returns:
        A function whose results are divided over `member`.
    """
    specs = tuple(MEMBER_SPEC if axis == 0 else REPLICATED for axis in axes)
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=specs,
        out_specs=MEMBER_SPEC,
        axis_names={MEMBER},
        check_vma=False,
    )


def _num_data_shards() -> int:
    """The size of `data` in the function that is being traced; 1 outside of a mesh."""
    return dict(jax.sharding.get_abstract_mesh().shape).get(DATA, 1)


def shard_batch(tree: Any) -> Any:
    """Batches, axis 0 being the videos, each device with its own."""
    return _constrained(tree, P(DATA))


def replicated(tree: Any) -> Any:
    """The same values on each device of `data`: what is drawn, or compared between videos."""
    return _constrained(tree, P())


def _constrained(tree: Any, spec: P) -> Any:
    if _num_data_shards() == 1:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree)


def run_replicated(function: Callable) -> Callable:
    """A function of values that are whole, without a gradient, which each device computes whole.

    XLA would otherwise divide a sort among the devices where it thinks it pays.
    """

    @functools.wraps(function)
    def replicated_function(*arguments, **static):
        if _num_data_shards() == 1:
            return function(*arguments, **static)
        return _over_data(functools.partial(function, **static), P(), P())(*arguments)

    return replicated_function


def gather_rows(features: jax.Array, rows: jax.Array, sharded: bool) -> jax.Array:
    """features[rows], [B, T, 2D], of which with `sharded` each device gets its own videos alone.

    Args:
        features: [n, 2D]; if `sharded`, every device of `data` has an equal part of the rows.
        rows: [B, T].
    """
    if not sharded or _num_data_shards() == 1:
        return features[rows]

    def of_my_part(features, rows):
        mine = rows - jax.lax.axis_index(DATA) * len(features)
        here = (mine >= 0) & (mine < len(features))
        found = jnp.where(here[..., None], features[jnp.where(here, mine, 0)], 0)
        return jax.lax.psum_scatter(found, DATA, tiled=True)

    return _over_data(of_my_part, (P(DATA), P()), P(DATA))(features, replicated(rows))


def _over_data(function: Callable, in_specs: Any, out_specs: Any) -> Callable:
    return jax.shard_map(
        function, in_specs=in_specs, out_specs=out_specs, axis_names={DATA}, check_vma=False
    )


def shard_map_over_batch(function: Callable) -> Callable:
    """A function of batches that treats every video alone, each device with its own.

    What XLA cannot divide by itself (top-k, SVD) would otherwise be gathered and done everywhere.
    """

    @functools.wraps(function)
    def local_function(*batches, **static):
        if _num_data_shards() == 1:
            return function(*batches, **static)
        return _over_data(functools.partial(function, **static), P(DATA), P(DATA))(*batches)

    return local_function


def vmap_members(
    function: Callable, members: int, axes: tuple, mesh: jax.sharding.Mesh | None = None
) -> Callable:
    """`function` for all members of a population at once, over a leading axis M.

    Args:
        function: of one model.
        members: M; a single one goes through `function` itself, without batched products.
        axes: for each argument 0, or None where all members share it.
        mesh: the devices that share them, see `mesh.make_mesh`; None for one device.

    Returns:
        A function whose arguments of axis 0 and whose results have the leading axis.
    """
    if mesh is not None and mesh.size > 1:
        mine = vmap_members(function, members // mesh.shape[MEMBER], axes)
        return shard_map_over_members(mine, mesh, axes)
    if members > 1:
        return jax.vmap(function, in_axes=axes)

    def alone(*arguments):
        mine = [
            jax.tree.map(lambda leaf: leaf[0], argument) if axis == 0 else argument
            for argument, axis in zip(arguments, axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], function(*mine))

    return alone
