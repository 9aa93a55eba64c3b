"""Place and compute on a mesh with the axes `member` and `data`.

Members of a population are divided over `member` and train without communication. Videos of a batch
are divided over `data`; XLA's partitioner reduces gradients and means. On one device all of these
functions are no-ops. They also work in multi-process jobs, where each process holds the shards of
its own devices.
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
    """Place arrays on the mesh.

    Args:
        mesh: the devices.
        tree: tree of arrays, complete on every process.
        spec: partition of every array.

    Returns:
        The tree with global JAX arrays.
    """
    sharding = NamedSharding(mesh, spec)

    def one(leaf):
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(one, tree)


def device_put_rows(mesh: Mesh, host: np.ndarray, rows: np.ndarray, spec: P) -> jax.Array:
    """Gather host[rows] on the mesh; every process gathers the shards of its own devices.

    Args:
        mesh: the devices.
        host: [n, 2D], in host memory.
        rows: [...], indices into `host`.
        spec: partition of the axes of `rows`.

    Returns:
        [..., 2D].
    """
    sharding = NamedSharding(mesh, spec)
    shape = (*rows.shape, host.shape[1])

    def gathered(index: tuple[slice, ...] | None) -> np.ndarray:
        return host[rows[(index or ())[:-1]]]

    return jax.make_array_from_callback(shape, sharding, gathered)


def reshard(mesh: Mesh, tree: Any, spec: P) -> Any:
    """Reshard arrays on the mesh.

    Args:
        mesh: the devices.
        tree: tree of JAX arrays on the mesh.
        spec: new partition of every array.

    Returns:
        The tree with resharded arrays.
    """
    return jax.jit(_identity, out_shardings=NamedSharding(mesh, spec))(tree)


def replicate(tree: Any) -> Any:
    """Replicate arrays on every process, without waiting for the devices."""
    if jax.process_count() == 1:
        return tree
    everywhere = jax.tree.map(lambda leaf: NamedSharding(leaf.sharding.mesh, REPLICATED), tree)
    return jax.jit(_identity, out_shardings=everywhere)(tree)


def _identity(tree: Any) -> Any:
    return tree


def device_get(tree: Any) -> Any:
    """Fetch arrays as complete NumPy arrays on every process; waits for the devices."""
    return jax.device_get(replicate(tree))


def shard_map_over_members(function: Callable, mesh: Mesh, axes: tuple) -> Callable:
    """Shard-map a function over the member axis, without communication.

    Args:
        function: function of the arrays of one device's members; it may divide batches over `data`
            with `shard_batch`.
        mesh: mesh returned by `make_mesh`.
        axes: one entry per argument: 0 to divide it over `member`, None to replicate it.

    Returns:
        A function of the arrays of all members; its results are divided over `member`.
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
    """Return the size of the axis `data` during tracing; 1 without a mesh."""
    return dict(jax.sharding.get_abstract_mesh().shape).get(DATA, 1)


def shard_batch(tree: Any) -> Any:
    """Divide a tree of arrays [B, ...] over the axis `data`; call it in a traced function."""
    return _constrained(tree, P(DATA))


def replicated(tree: Any) -> Any:
    """Replicate a tree of arrays over the axis `data`; call it in a traced function.

    Batch indices need it, and values that a loss compares between videos.
    """
    return _constrained(tree, P())


def _constrained(tree: Any, spec: P) -> Any:
    if _num_data_shards() == 1:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree)


def run_replicated(function: Callable) -> Callable:
    """Wrap a function so that every device of `data` computes it on replicated arrays.

    XLA would otherwise divide a sort over the devices where it expects a gain. The wrapped function
    cannot be differentiated.

    Args:
        function: function of replicated arrays and static keyword arguments.

    Returns:
        A function with the same arguments and results.
    """

    @functools.wraps(function)
    def replicated_function(*arguments, **static):
        if _num_data_shards() == 1:
            return function(*arguments, **static)
        return _over_data(functools.partial(function, **static), P(), P())(*arguments)

    return replicated_function


def gather_rows(features: jax.Array, rows: jax.Array, sharded: bool) -> jax.Array:
    """Gather features[rows]; each device of `data` receives the rows of its own videos.

    Args:
        features: [n, 2D]; if `sharded`, its rows are divided equally over `data`.
        rows: [B, T], indices into `features`.
        sharded: whether `features` is divided; otherwise it is replicated.

    Returns:
        [B, T, 2D].
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
    """Shard-map a function over the batch; it treats every video independently.

    Operations that XLA cannot partition (top-k, SVD) would otherwise run on the gathered batch on
    every device.

    Args:
        function: function of arrays [B, ...] and static keyword arguments, with results [B, ...].

    Returns:
        A function with the same arguments and results.
    """

    @functools.wraps(function)
    def local_function(*batches, **static):
        if _num_data_shards() == 1:
            return function(*batches, **static)
        return _over_data(functools.partial(function, **static), P(DATA), P(DATA))(*batches)

    return local_function


def vmap_members(
    function: Callable, members: int, axes: tuple, mesh: Mesh | None = None
) -> Callable:
    """Vectorize a function over the members of a population, with a leading axis M.

    Args:
        function: function of the arrays of one model.
        members: M. With M = 1 `function` is called without vmap, which avoids batched products.
        axes: one entry per argument: 0 if it has the leading axis, None if all members share it.
        mesh: mesh returned by `mesh.make_mesh`; None for one device.

    Returns:
        A function whose results, and whose arguments with an entry 0, have the leading axis.
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
