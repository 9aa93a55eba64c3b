"""Devices as a mesh of the axes `member` and `data`, in one process or in many.

Members of a population are divided over `member`: each device computes its own, and nothing is sent
between them. Videos of a batch are divided over `data`: XLA's partitioner adds up gradients and
means. A mesh of one device is the program without any of this. What is said here of arrays holds
for jobs of several processes, too, each of which holds the parts of its own devices.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxtal.errors import UserError

MEMBER, DATA = "member", "data"
OF_MEMBERS, EVERYWHERE = P(MEMBER), P()


def arrange(devices: Sequence, member: int, data: int) -> Mesh:
    """A mesh of the first member * data devices."""
    axes = {"axis_shapes": (member, data), "axis_names": (MEMBER, DATA)}
    auto = (AxisType.Auto,) * 2
    return jax.make_mesh(**axes, axis_types=auto, devices=list(devices)[: member * data])


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
    member, data = _sizes(config, parts, len(devices))
    given = f"config.mesh.member={config.mesh.member}, config.mesh.data={config.mesh.data}"
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
        member = math.gcd(config.population, max(1, devices // max(1, data)))
    if data == -1:
        data = math.gcd(parts, max(1, devices // member))
    return member, data


def put(mesh: Mesh, tree: Any, spec: P = EVERYWHERE) -> Any:
    """Arrays that every process has whole, on the mesh: everywhere, or divided as `spec` says."""
    sharding = NamedSharding(mesh, spec)

    def one(leaf):
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(one, tree)


def fetch(tree: Any) -> Any:
    """The same arrays as NumPy's, whole in every process; waits for the devices."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def agreed(number: int) -> int:
    """What process 0 says; every process must ask."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


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
    manual = {"axis_names": {MEMBER}, "check_vma": False}
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=OF_MEMBERS, **manual)


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


def by_video(function: Callable) -> Callable:
    """A function of batches that treats every video alone, each device with its own.

    What XLA cannot divide by itself (top-k, SVD) would otherwise be gathered and done everywhere.
    """

    @functools.wraps(function)
    def local(*batches):
        if _shares() == 1:
            return function(*batches)
        manual = {"axis_names": {DATA}, "check_vma": False}
        return jax.shard_map(function, in_specs=P(DATA), out_specs=P(DATA), **manual)(*batches)

    return local
