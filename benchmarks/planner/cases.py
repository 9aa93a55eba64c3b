"""Topologies, data set sizes and the programs that a plan compiles for them."""

import math
import re
import runpy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from benchmarks.workloads import CONFIGS
from jaxtal import methods
from jaxtal.errors import JaxtalError
from jaxtal.input_pipeline.packing import PackedVideos, VideoIndex, length_buckets
from jaxtal.parallel.mesh import DATA, MEMBER_SPEC, make_mesh, mesh_from_config
from jaxtal.training import evaluator, train_step
from jaxtal.training.dispatch import steps_per_dispatch


class Chip(NamedTuple):
    """TPU chip with the numbers of Google's documentation (pages "TPU v4" and so on).

    Attributes:
        flops: peak of bfloat16 matrix products, FLOP/s.
        bandwidth: HBM bandwidth, bytes per second.
        core: configuration of the cores; with "megacore" both cores are one device.
    """

    flops: float
    bandwidth: float
    core: str = "default"


CHIPS = {
    "v4": Chip(275e12, 1200e9, "megacore"),
    "v5e": Chip(197e12, 819e9),
    "v5p": Chip(459e12, 2765e9, "megacore"),
    "v6e": Chip(918e12, 1638e9),
}


class Videos(NamedTuple):
    """Size of a data set.

    Attributes:
        train: number of training videos.
        train_snippets: snippets of all training videos.
        test: number of test videos.
        test_snippets: snippets of all test videos.
        longest: snippets of the longest video.
        width: features per snippet, 2 * D.
        classes: number of classes.
    """

    train: int
    train_snippets: int
    test: int
    test_snippets: int
    longest: int
    width: int
    classes: int


# "thumos" has the snippets of `benchmarks.workloads.THUMOS`.
SHAPES = {
    "thumos": Videos(200, 63000, 212, 67000, 2400, 2048, 20),
    "tiny": Videos(12, 600, 7, 400, 60, 16, 3),
}


def chip_of(topology: str) -> Chip:
    """Return the chip of a topology such as "v5e:4x4".

    Raises:
        JaxtalError: the topology is malformed or its chip unknown.
    """
    kind, _, sizes = topology.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", sizes):
        raise JaxtalError(
            f"topology {topology!r}; wanted KIND:SHAPE, like v4:2x2x4 or v5e:4x4, with a KIND "
            f"of {', '.join(CHIPS)}"
        )
    return CHIPS[kind]


def chips_in(topology: str) -> int:
    """Return the number of chips of a topology."""
    chip_of(topology)
    return math.prod(int(size) for size in topology.partition(":")[2].split("x"))


def devices_of(topology: str) -> list:
    """Return the devices of a slice that need not exist.

    Raises:
        JaxtalError: libtpu is missing or does not know the topology.
    """
    core = chip_of(topology).core
    try:
        described = topologies.get_topology_desc(
            platform="tpu", topology_name=topology, chip_config_name=core
        )
    except (RuntimeError, ValueError, NotImplementedError) as error:
        first = str(error).partition("\n")[0]
        raise JaxtalError(
            f"topology {topology!r}: {first}; check the shape and that libtpu is installed "
            "(pip install libtpu)"
        ) from None
    return list(described.devices)


def packed(mesh: Mesh, videos: int, snippets: int, shape: Videos) -> PackedVideos:
    """Return abstract packed videos, replicated, with float16 features.

    Args:
        mesh: devices.
        videos: number of videos.
        snippets: snippets of all videos.
        shape: size of the data set.
    """

    def array(dtype, *sizes: int) -> Any:
        return train_step.with_sharding(mesh, jax.ShapeDtypeStruct(sizes, dtype))

    count = array(jnp.int32, videos)
    labels = array(jnp.float32, videos, shape.classes)
    index = VideoIndex(count, count, labels, count, array(jnp.bool_, snippets))
    return PackedVideos(array(jnp.float16, snippets, shape.width), index)


def state_shapes(model, config, mesh: Mesh, width: int) -> tuple:
    """Return `train_step.abstract_state` without a config for every member.

    Args:
        model: network.
        config: config of the population.
        mesh: devices.
        width: features per snippet, 2 * D.
    """
    single = config.copy_and_resolve_references()
    single.population, single.vary = 1, ""
    alone = make_mesh(list(mesh.devices.flat), 1, 1)
    shapes = train_step.abstract_state(model, single, alone, width)
    of_all = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((config.population, *leaf.shape[1:]), leaf.dtype), shapes
    )
    return train_step.with_sharding(mesh, of_all, MEMBER_SPEC)


def training_program(config, mesh: Mesh, shape: Videos) -> jax.stages.Traced:
    """Trace the program of a dispatch of training steps.

    Args:
        config: config of the population.
        mesh: devices.
        shape: size of the data set.
    """
    method = methods.get(config.method)
    model = method.build(config.model, shape.classes)
    program = train_step.train_fn(model, method, config, mesh, steps_per_dispatch(config.train))
    state, hyper = state_shapes(model, config, mesh, shape.width)
    stop = train_step.with_sharding(mesh, train_step.step_number())
    data = packed(mesh, shape.train, shape.train_snippets, shape)
    return program.trace(state, hyper, stop, data, None)


def evaluation_program(config, mesh: Mesh, shape: Videos) -> jax.stages.Traced:
    """Trace the evaluation program of the longest test videos.

    Args:
        config: config of the population.
        mesh: devices.
        shape: size of the data set.
    """
    method = methods.get(config.method)
    model = method.build(config.model, shape.classes)
    rows = np.clip(np.full(shape.test, shape.longest), *method.test_length_limits(config))
    time, videos = length_buckets(rows, parts=mesh.shape[DATA])[0]
    program = evaluator.evaluation_fn(method, model, config, mesh)
    state, _ = state_shapes(model, config, mesh, shape.width)
    numbers = train_step.with_sharding(mesh, jax.ShapeDtypeStruct(videos.shape, jnp.int32))
    data = packed(mesh, shape.test, shape.test_snippets, shape)
    variables = {"params": state.params, **state.model_state}
    return program.trace(variables, data, numbers, numbers, None, time=time)


def config_in(file: str) -> Any:
    """Return the config of a config file."""
    return runpy.run_path(file)["get_config"]()


PROGRAMS = {"training": training_program, "evaluation": evaluation_program}


class Case(NamedTuple):
    """Program to compile.

    Attributes:
        topology: topology such as "v5e:4x4".
        method: key of `CONFIGS`, which selects the config unless `config` is given.
        members: members per device.
        data: number of devices that share a batch.
        program: key of `PROGRAMS`.
        shape: key of `SHAPES`.
        config: config file, or "".
        fields: pairs (FIELD, VALUE) to change in the config.
        machine_code: compile to machine code, not only to the buffer assignment.
    """

    topology: str
    method: str
    members: int = 1
    data: int = 1
    program: str = "training"
    shape: str = "thumos"
    config: str = ""
    fields: tuple = ()
    machine_code: bool = False

    def config_and_mesh(self, devices: list) -> tuple[Any, Mesh]:
        """Return the config with `members` members per device, and the mesh of `devices`."""
        if self.config:
            config = config_in(self.config)
        else:
            config = CONFIGS[self.method][self.shape == "thumos"].get_config()
        config.update_from_flattened_dict(dict(self.fields))
        places = len(devices) // self.data
        config.mesh.update(member=places, data=self.data)
        config.population = places * self.members
        method = methods.get(config.method)
        method.validate_config(config)
        return config, mesh_from_config(config, method.num_batch_shards(config), devices)

    def lowered(self, devices: list) -> jax.stages.Lowered:
        """Lower the program for TPUs with its arrays on `devices`."""
        traced = PROGRAMS[self.program](*self.config_and_mesh(devices), SHAPES[self.shape])
        return traced.lower(lowering_platforms=("tpu",))

    def flops(self) -> float:
        """Return the FLOPs of a step of a device's members; a loop's body counts once."""
        alone = self._replace(data=1).lowered(jax.local_devices(backend="cpu")[:1])
        return (alone.cost_analysis() or {})["flops"] / self.data
