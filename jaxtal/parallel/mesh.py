"""Device meshes with the axes `member` and `data`."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from jaxtal.errors import ConfigError

MEMBER, DATA = "member", "data"
MEMBER_SPEC, REPLICATED = P(MEMBER), P()
FEATURE_PLACEMENTS = ("replicated", "sharded")


def make_mesh(devices: Sequence[jax.Device], member: int, data: int) -> Mesh:
    """Build a mesh of the first member * data devices.

    Args:
        devices: at least member * data devices.
        member: size of the axis `member`.
        data: size of the axis `data`.
    """
    auto, chosen = (AxisType.Auto,) * 2, list(devices)[: member * data]
    return jax.make_mesh((member, data), (MEMBER, DATA), axis_types=auto, devices=chosen)


def mesh_from_config(
    config: ConfigDict, parts: int, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """Build the mesh of a run; `config.mesh` has the sizes of its axes.

    A size of -1 stands for the largest divisor of the population (axis `member`) or of `parts`
    (axis `data`) that the remaining devices allow.

    Args:
        config: the whole config (`population`, `mesh.member`, `mesh.data`).
        parts: number of equal shards that a batch can be split into, see
            `Method.num_batch_shards`.
        devices: devices of the mesh; None for those of all processes.

    Returns:
        A mesh with the axes `member` and `data`.

    Raises:
        ConfigError: the sizes do not fit the devices, the population or the batch.
    """
    devices = jax.devices() if devices is None else devices
    given = f"config.mesh.member={config.mesh.member}, config.mesh.data={config.mesh.data}"
    if 0 in (config.mesh.member, config.mesh.data):
        raise ConfigError(f"{given}: wanted numbers of devices, or -1 for all that remain")
    member, data = _sizes(config, parts, len(devices))
    if member * data > len(devices):
        raise ConfigError(
            f"{given}: a mesh of {member} x {data} = {member * data} devices, but there are "
            f"{len(devices)}; lower them, or start more processes or devices"
        )
    if config.population % member:
        raise ConfigError(
            f"{given}: a population of {config.population} cannot be divided over {member} "
            f"devices; set config.population to a multiple, or config.mesh.member to a divisor"
        )
    if parts % data:
        raise ConfigError(
            f"{given}: this batch splits into {parts} equal shards, which cannot be divided over "
            f"{data} devices; change config.train.batch_size (pairs and single videos are split "
            f"separately), or set config.mesh.data to a divisor of {parts}"
        )
    if member * data < len(devices) and jax.process_count() > 1:
        raise ConfigError(
            f"{given}: a mesh of {member} x {data} devices, but the {jax.process_count()} "
            f"processes have {len(devices)} and each must take part; make config.population "
            f"({config.population}) or the batch divisible, or start fewer processes"
        )
    return make_mesh(devices, member, data)


def _sizes(config: ConfigDict, parts: int, devices: int) -> tuple[int, int]:
    member, data = config.mesh.member, config.mesh.data
    if member == -1:
        member = _divisor(config.population, devices // max(1, data))
    if data == -1:
        data = _divisor(parts, devices // member)
    return member, data


def _divisor(number: int, most: int) -> int:
    """Return the largest divisor of `number` up to `most`."""
    return max(n for n in range(1, max(1, most) + 1) if number % n == 0)
