"""Devices as a mesh of the axes `member` and `data`, in one process or in many.

Members of a population are divided over `member`: each device computes its own, and nothing is sent
between them. Videos of a batch are divided over `data`: XLA's partitioner adds up gradients and
means. A mesh of one device is the program without any of this. What is said here of arrays holds
for jobs of several processes, too, each of which holds the parts of its own devices.
"""

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxtal.errors import UserError

MEMBER, DATA = "member", "data"
OF_MEMBERS, EVERYWHERE = P(MEMBER), P()
FEATURES = ("replicated", "sharded")


def arrange(devices: Sequence, member: int, data: int) -> Mesh:
    """A mesh of the first member * data devices."""
    auto, chosen = (AxisType.Auto,) * 2, list(devices)[: member * data]
    return jax.make_mesh((member, data), (MEMBER, DATA), axis_types=auto, devices=chosen)


def of_config(config, parts: int, devices: Sequence | None = None) -> Mesh:
    """The mesh of a run; `config.mesh` has the sizes of its axes, -1 for the rest of the devices.

    The rest is as many devices as the population, or the batch, can be divided over.

    Args:
        config: with `population` and `mesh`.
        parts: into how many equal parts a batch can be divided, see `Method.parts`.
        devices: those of all processes by default.

    Raises:
        UserError: the sizes do not go with the devices, the population or the batch.
    """
    devices = jax.devices() if devices is None else devices
    given = f"config.mesh.member={config.mesh.member}, config.mesh.data={config.mesh.data}"
    if 0 in (config.mesh.member, config.mesh.data):
        raise UserError(f"{given}: wanted numbers of devices, or -1 for the rest of them")
    member, data = _sizes(config, parts, len(devices))
    if member * data > len(devices):
        raise UserError(
            f"{given}: a mesh of {member} x {data} = {member * data} devices, but there are "
            f"{len(devices)}; lower them, or start more processes or devices"
        )
    if config.population % member:
        raise UserError(
            f"{given}: a population of {config.population} cannot be divided over {member} "
            f"devices; set config.population to a multiple, or config.mesh.member to a divisor"
        )
    if parts % data:
        raise UserError(
            f"{given}: this batch is of {parts} equal parts, which cannot be divided over {data} "
            "devices; change config.train.batch_size (pairs and the other videos are divided "
            f"alike), or set config.mesh.data to a divisor of {parts}"
        )
    if member * data < len(devices) and jax.process_count() > 1:
        raise UserError(
            f"{given}: a mesh of {member} x {data} devices, but the {jax.process_count()} "
            f"processes have {len(devices)} and each must take part; make config.population "
            f"({config.population}) or the batch divisible, or start fewer"
        )
    return arrange(devices, member, data)


def _sizes(config, parts: int, devices: int) -> tuple[int, int]:
    member, data = config.mesh.member, config.mesh.data
    if member == -1:
        member = _divisor(config.population, devices // max(1, data))
    if data == -1:
        data = _divisor(parts, devices // member)
    return member, data


def _divisor(number: int, most: int) -> int:
    """The largest one up to `most`."""
    return max(n for n in range(1, max(1, most) + 1) if number % n == 0)


def put(mesh: Mesh, tree: Any, spec: P = EVERYWHERE) -> Any:
    """Arrays that every process has whole, on the mesh: everywhere, or divided as `spec` says."""
    sharding = NamedSharding(mesh, spec)

    def one(leaf):
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(one, tree)


def put_rows(mesh: Mesh, host: np.ndarray, rows: np.ndarray, spec: P) -> jax.Array:
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


def put_again(mesh: Mesh, tree: Any, spec: P) -> Any:
    """Arrays that were made of some on the mesh, where they belong."""
    return jax.jit(_same, out_shardings=NamedSharding(mesh, spec))(tree)


def spread(tree: Any) -> Any:
    """The same arrays, whole in every process; does not wait for the devices."""
    if jax.process_count() == 1:
        return tree
    everywhere = jax.tree.map(lambda leaf: NamedSharding(leaf.sharding.mesh, EVERYWHERE), tree)
    return jax.jit(_same, out_shardings=everywhere)(tree)


def _same(tree: Any) -> Any:
    return tree


def fetch(tree: Any) -> Any:
    """The same arrays as NumPy's, whole in every process; waits for the devices."""
    return jax.device_get(spread(tree))


def behind_each_other(array: np.ndarray) -> np.ndarray:
    """The arrays (n, ...) of all processes, of any n each, as one that all of them get."""
    if jax.process_count() == 1:
        return array
    mine = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(mine)))
    padded = np.pad(mine, (0, sizes.max() + 1 - len(mine)))
    parts = zip(multihost_utils.process_allgather(padded), sizes, strict=True)
    together = b"".join(part[:size].tobytes() for part, size in parts)
    return np.frombuffer(together, array.dtype).reshape(-1, *array.shape[1:])


def agreed(number: int) -> int:
    """What process 0 says; every process must ask."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def check_alike(text: str) -> None:
    """Raise UserError in every process if one has another text: its config and data."""
    if jax.process_count() == 1:
        return
    digests = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
    if other := np.flatnonzero(digests != digests[0]).tolist():
        raise UserError(
            f"processes {other} of this job have another config or other data than process 0; "
            "start all with the same arguments, on the same files"
        )


def leads() -> bool:
    """Whether this is the process that writes results and talks to the person."""
    return jax.process_index() == 0


def over_axis(function: Callable, mesh: Mesh, axes: tuple) -> Callable:
    """`function` of the members of one device, for those of all: no device asks another for any.

    Args:
        function: whose batches are divided over `data` by `divided`, inside.
        mesh: of `arrange`.
        axes: for each argument 0, divided over `member`, or None.

    Returns:
        A function whose results are divided over `member`.
    """
    specs = tuple(OF_MEMBERS if axis == 0 else EVERYWHERE for axis in axes)
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=specs,
        out_specs=OF_MEMBERS,
        axis_names={MEMBER},
        check_vma=False,
    )


def _shares() -> int:
    """The size of `data` in the function that is being traced; 1 outside of a mesh."""
    return dict(jax.sharding.get_abstract_mesh().shape).get(DATA, 1)


def divided(tree: Any) -> Any:
    """Batches, axis 0 being the videos, each device with its own."""
    return _constrained(tree, P(DATA))


def whole(tree: Any) -> Any:
    """The same values on each device of `data`: what is drawn, or compared between videos."""
    return _constrained(tree, P())


def _constrained(tree: Any, spec: P) -> Any:
    if _shares() == 1:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree)


def everywhere(function: Callable) -> Callable:
    """A function of values that are whole, without a gradient, which each device computes whole.

    XLA would otherwise divide a sort among the devices where it thinks it pays.
    """

    @functools.wraps(function)
    def alone(*arguments):
        if _shares() == 1:
            return function(*arguments)
        return _over_data(function, P(), P())(*arguments)

    return alone


def take(features: jax.Array, rows: jax.Array, sharded: bool) -> jax.Array:
    """features[rows], [B, T, 2D], of which with `sharded` each device gets its own videos alone.

    Args:
        features: [n, 2D]; if `sharded`, every device of `data` has an equal part of the rows.
        rows: [B, T].
    """
    if not sharded or _shares() == 1:
        return features[rows]

    def of_my_part(features, rows):
        mine = rows - jax.lax.axis_index(DATA) * len(features)
        here = (mine >= 0) & (mine < len(features))
        found = jnp.where(here[..., None], features[jnp.where(here, mine, 0)], 0)
        return jax.lax.psum_scatter(found, DATA, tiled=True)

    return _over_data(of_my_part, (P(DATA), P()), P(DATA))(features, whole(rows))


def _over_data(function: Callable, in_specs: Any, out_specs: Any) -> Callable:
    return jax.shard_map(
        function, in_specs=in_specs, out_specs=out_specs, axis_names={DATA}, check_vma=False
    )


def by_video(function: Callable) -> Callable:
    """A function of batches that treats every video alone, each device with its own.

    What XLA cannot divide by itself (top-k, SVD) would otherwise be gathered and done everywhere.
    """

    @functools.wraps(function)
    def local(*batches):
        if _shares() == 1:
            return function(*batches)
        return _over_data(function, P(DATA), P(DATA))(*batches)

    return local
