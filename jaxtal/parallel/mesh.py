"""Device meshes with the axes `member` and `data`."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from jaxtal.errors import ConfigError

MEMBER, DATA = "member", "data"
MEMBER_SPEC, REPLICATED = P(MEMBER), P()
FEATURE_PLACEMENTS = ("replicated", "sharded")


def make_mesh(devices: Sequence, member: int, data: int) -> Mesh:
    """A mesh of the first member * data devices."""
    auto, chosen = (AxisType.Auto,) * 2, list(devices)[: member * data]
    return jax.make_mesh((member, data), (MEMBER, DATA), axis_types=auto, devices=chosen)


def mesh_from_config(config, parts: int, devices: Sequence | None = None) -> Mesh:
    """The mesh of a run; `config.mesh` has the sizes of its axes, -1 for the rest of the devices.

    The rest is as many devices as the population, or the batch, can be divided over.

    Args:
        config: with `population` and `mesh`.
        parts: into how many equal parts a batch can be divided, see `Method.parts`.
        devices: those of all processes by default.

    Raises:
        ConfigError: the sizes do not go with the devices, the population or the batch.
    """
    devices = jax.devices() if devices is None else devices
    given = f"config.mesh.member={config.mesh.member}, config.mesh.data={config.mesh.data}"
    if 0 in (config.mesh.member, config.mesh.data):
        raise ConfigError(f"{given}: wanted numbers of devices, or -1 for the rest of them")
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
            f"{given}: this batch is of {parts} equal parts, which cannot be divided over {data} "
            "devices; change config.train.batch_size (pairs and the other videos are divided "
            f"alike), or set config.mesh.data to a divisor of {parts}"
        )
    if member * data < len(devices) and jax.process_count() > 1:
        raise ConfigError(
            f"{given}: a mesh of {member} x {data} devices, but the {jax.process_count()} "
            f"processes have {len(devices)} and each must take part; make config.population "
            f"({config.population}) or the batch divisible, or start fewer"
        )
    return make_mesh(devices, member, data)


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
