"""The programs of a plan: topologies, data sets, and what is compiled for them."""

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
    """A TPU as Google's documentation of it has it, page "TPU v4" and so on.

    Attributes:
        flops: peak of bfloat16 products a second.
        bandwidth: bytes of HBM a second.
        core: its cores' configuration; "megacore": the two are one device.
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
    """A data set's size: videos, all snippets, the longest video, features a snippet, classes."""

    train: int
    train_snippets: int
    test: int
    test_snippets: int
    longest: int
    width: int
    classes: int


# Snippets of THUMOS14 as `benchmarks.workloads.THUMOS` generates them.
SHAPES = {
    "thumos": Videos(200, 63000, 212, 67000, 2400, 2048, 20),
    "tiny": Videos(12, 600, 7, 400, 60, 16, 3),
}


def chip_of(topology: str) -> Chip:
    """Return the chip of a topology such as "v5e:4x4".

    Raises:
        JaxtalError: it is not known.
    """
    kind, _, sizes = topology.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", sizes):
        raise JaxtalError(
            f"topology {topology!r}; wanted KIND:SHAPE, like v4:2x2x4 or v5e:4x4, KIND "
            f"of {', '.join(CHIPS)}"
        )
    return CHIPS[kind]


def chips_in(topology: str) -> int:
    """Return how many chips a topology has."""
    chip_of(topology)
    return math.prod(int(size) for size in topology.partition(":")[2].split("x"))


def devices_of(topology: str) -> list:
    """Return the devices of a slice, which need not exist.

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
            f"topology {topology!r}: {first}; check its shape, and that libtpu is installed "
            "(pip install libtpu)"
        ) from None
    return list(described.devices)


def packed(mesh: Mesh, videos: int, snippets: int, shape: Videos) -> PackedVideos:
    """Return shapes of packed videos, on every device; float16, as features are published."""

    def array(dtype, *sizes: int) -> Any:
        return train_step.with_sharding(mesh, jax.ShapeDtypeStruct(sizes, dtype))

    count = array(jnp.int32, videos)
    labels = array(jnp.float32, videos, shape.classes)
    index = VideoIndex(count, count, labels, count, array(jnp.bool_, snippets))
    return PackedVideos(array(jnp.float16, snippets, shape.width), index)


def state_shapes(model, config, mesh: Mesh, width: int) -> tuple:
    """Return `train_step.abstract_state`, without making a config for every member."""
    single = config.copy_and_resolve_references()
    single.population, single.vary = 1, ""
    alone = make_mesh(list(mesh.devices.flat), 1, 1)
    shapes = train_step.abstract_state(model, single, alone, width)
    of_all = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((config.population, *leaf.shape[1:]), leaf.dtype), shapes
    )
    return train_step.with_sharding(mesh, of_all, MEMBER_SPEC)


def training_program(config, mesh: Mesh, shape: Videos) -> jax.stages.Traced:
    """Trace the program of a dispatch of steps."""
    method = methods.get(config.method)
    model = method.build(config.model, shape.classes)
    program = train_step.train_fn(model, method, config, mesh, steps_per_dispatch(config.train))
    state, hyper = state_shapes(model, config, mesh, shape.width)
    stop = train_step.with_sharding(mesh, train_step.step_number())
    data = packed(mesh, shape.train, shape.train_snippets, shape)
    return program.trace(state, hyper, stop, data, None)


def evaluation_program(config, mesh: Mesh, shape: Videos) -> jax.stages.Traced:
    """Trace the program of the longest test videos' batches."""
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
    """Load the config of a file."""
    return runpy.run_path(file)["get_config"]()


PROGRAMS = {"training": training_program, "evaluation": evaluation_program}


class Case(NamedTuple):
    """A program to compile.

    Attributes:
        topology: such as "v5e:4x4".
        method: of `CONFIGS`; the config of its shape is taken, unless `config` is a file's.
        members: of each device.
        data: devices that share a batch.
        program: of `PROGRAMS`.
        shape: of `SHAPES`.
        config: a file with `get_config`, or "".
        fields: (FIELD, VALUE) to change in it.
        machine_code: whether to compile to the end.
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
        """Return the config, with as many members as there are places for them, and the mesh."""
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
        """Lower the program for TPUs, placed on these devices."""
        traced = PROGRAMS[self.program](*self.config_and_mesh(devices), SHAPES[self.shape])
        return traced.lower(lowering_platforms=("tpu",))

    def flops(self) -> float:
        """Count those of a device's members in a step; a loop's body counts only once."""
        alone = self._replace(data=1).lowered(jax.local_devices(backend="cpu")[:1])
        return (alone.cost_analysis() or {})["flops"] / self.data
