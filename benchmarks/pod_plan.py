"""What training on a TPU slice will take, planned by the TPU's compiler without a TPU.

    python -m benchmarks.pod_plan --topology v5e:16x16 v4:2x2x4 [--method co2net] [--markdown FILE]

Needs libtpu (the extra `tpu-plan`), whose compiler runs on any x86 machine. For every topology and
method the programs that `jaxtal.main` compiles are compiled for 1, 2 and 4 members a chip; the
number of members that fills a chip's memory is predicted from the last two and then sought by
compiling there and around it, until one number fits and the next does not. Last the evaluation
program is compiled for that number. Per chip there are reported:

- bytes of HBM: arguments, temporaries, and results that do not take a donated argument's place, as
  the compiler's buffer assignment has them; and how many it lets a program have (its own number,
  from its refusal of an absurd program). Of these 256 MiB are left for the machine code;
- FLOPs of a step, as XLA counts them in the program before optimization;
- the collectives of the optimized program (`benchmarks.collectives`), and whether the compiler
  computes values twice to save memory ("rematerialised");
- an upper bound of the steps of members in a second: no step is faster than its FLOPs at the
  published peak of bfloat16 products, as which TPUs multiply float32 by default, nor than reading
  and writing the donated state (unless it stays on the chip, as tiny ones do) once at the
  published bandwidth. It is a prediction, not a measurement, and real steps are slower: they
  read and write activations, too. The compiler's own estimate (`optimal_seconds`) is no use here:
  it is negative for these programs.

A program is compiled as far as its buffer assignment, some ten seconds; writing the machine code,
which changes none of this, takes minutes. `--machine_code` does it and adds what only then is
known: the code's bytes, and the compiler's bytes accessed and seconds.
"""

import argparse
import itertools
import json
import math
import os
import re
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, SingleDeviceSharding

from benchmarks.collectives import axes, collectives
from benchmarks.end_to_end import field
from benchmarks.timing import markdown_table
from benchmarks.training import CONFIGS
from jaxtal import methods
from jaxtal.errors import JaxtalError
from jaxtal.input_pipeline.packing import PackedVideos, VideoIndex, length_buckets
from jaxtal.parallel.mesh import DATA, MEMBER_SPEC, make_mesh, mesh_from_config
from jaxtal.train import evaluator, train_step
from jaxtal.train.trainer import steps_per_dispatch


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


# Snippets of THUMOS14 as `benchmarks.end_to_end.THUMOS` generates them.
SHAPES = {
    "thumos": Videos(200, 63000, 212, 67000, 2400, 2048, 20),
    "tiny": Videos(12, 600, 7, 400, 60, 16, 3),
}
STOPPED = 42  # exit code of a compilation that was ended behind its buffer assignment
NEEDED = ("arguments", "temporaries", "results")
CODE = 2**28  # bytes of HBM to leave for the machine code: CO2-Net's on a v5e had 31 to 178 MB


def chip_of(topology: str) -> Chip:
    """The chip of a topology such as "v5e:4x4".

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
    """How many chips a topology has."""
    chip_of(topology)
    return math.prod(int(size) for size in topology.partition(":")[2].split("x"))


def devices_of(topology: str) -> list:
    """The devices of a slice, which need not exist.

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


def available_memory(device) -> int:
    """Bytes of HBM that the compiler lets a program have on a chip."""
    place = SingleDeviceSharding(device)
    absurd = jax.ShapeDtypeStruct((2**37,), jnp.float32, sharding=place)
    try:
        jax.jit(lambda x: x[::-1] + 1).lower(absurd).compile()
    except jax.errors.JaxRuntimeError as error:
        if match := re.search(r"available HBM \(([\d.]+)G\)", str(error)):
            return int(float(match[1]) * 2**30)
        raise
    raise RuntimeError("the compiler accepts a program of 512 GiB; its memory is unknown")


def packed(mesh: Mesh, videos: int, snippets: int, shape: Videos) -> PackedVideos:
    """Shapes of packed videos, on every device; float16, as features are published."""

    def array(dtype, *sizes: int) -> Any:
        return train_step.with_sharding(mesh, jax.ShapeDtypeStruct(sizes, dtype))

    count = array(jnp.int32, videos)
    labels = array(jnp.float32, videos, shape.classes)
    index = VideoIndex(count, count, labels, count, array(jnp.bool_, snippets))
    return PackedVideos(array(jnp.float16, snippets, shape.width), index)


def state_shapes(model, config, mesh: Mesh, width: int) -> tuple:
    """`train_step.abstract_state`, without as many configs as a large population has members."""
    single = config.copy_and_resolve_references()
    single.population, single.vary = 1, ""
    alone = make_mesh(list(mesh.devices.flat), 1, 1)
    shapes = train_step.abstract_state(model, single, alone, width)
    of_all = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((config.population, *leaf.shape[1:]), leaf.dtype), shapes
    )
    return train_step.with_sharding(mesh, of_all, MEMBER_SPEC)


def training_program(config, mesh: Mesh, shape: Videos) -> jax.stages.Traced:
    """The program of a dispatch of steps."""
    method = methods.get(config.method)
    model = method.build(config.model, shape.classes)
    program = train_step.train_fn(model, method, config, mesh, steps_per_dispatch(config.train))
    state, hyper = state_shapes(model, config, mesh, shape.width)
    stop = train_step.with_sharding(mesh, train_step.step_number())
    data = packed(mesh, shape.train, shape.train_snippets, shape)
    return program.trace(state, hyper, stop, data, None)


def evaluation_program(config, mesh: Mesh, shape: Videos) -> jax.stages.Traced:
    """The program of the longest test videos' batches."""
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
    """The config of a file."""
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
        """The config, with as many members as there are places for them, and the mesh."""
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
        """The program for TPUs, placed on these devices."""
        traced = PROGRAMS[self.program](*self.config_and_mesh(devices), SHAPES[self.shape])
        return traced.lower(lowering_platforms=("tpu",))

    def flops(self) -> float:
        """Of a device's members in a step; a loop's body counts once, however often it runs."""
        alone = self._replace(data=1).lowered(jax.local_devices(backend="cpu")[:1])
        return (alone.cost_analysis() or {})["flops"] / self.data


def buffers(text: str) -> dict[str, int]:
    """Bytes of HBM by what they are for.

    Args:
        text: XLA's dump of a buffer assignment. What is in another memory has a color there, and
            "thread-local" are names of buffers inside an operation.

    Returns:
        arguments; donated, those among them that results take the place of; results elsewhere;
        temporaries, with constants.
    """
    found = dict.fromkeys(("arguments", "donated", "temporaries", "results"), 0)
    for size, what in re.findall(r"^allocation \d+: size (\d+), (.*)$", text, re.MULTILINE):
        if re.match(r"(?:page \d+, )?color [1-9]", what) or "thread-local" in what:
            continue
        if re.search(r"\bparameter \d+", what):
            found["arguments"] += int(size)
            found["donated"] += int(size) * ("maybe-live-out" in what)
        elif "maybe-live-out" in what or "output shape is" in what:
            found["results"] += int(size)
        else:
            found["temporaries"] += int(size)
    return found


def communication(text: str, mesh: dict[str, int]) -> list[dict]:
    """The collectives of a program, equal ones together."""
    found = Counter(
        (one.kind, axes(one, mesh), one.in_loop, one.bytes) for one in collectives(text)
    )
    return [
        {"kind": kind, "axes": list(along), "in_loop": in_loop, "bytes": size, "count": count}
        for (kind, along, in_loop, size), count in sorted(found.items())
    ]


def compile_case(case: Case, folder: Path) -> None:
    """Compile, leaving facts.json and the compiler's dumps in a folder; may end the process."""
    devices = devices_of(case.topology)
    facts: dict[str, Any] = {"available": available_memory(devices[0]), "chips": len(devices)}
    facts["flops"] = case.flops()
    lowered = case.lowered(devices)
    written = folder / "facts.json"
    written.write_text(json.dumps(facts))
    if not case.machine_code:
        watch = (folder, facts["available"])
        threading.Thread(target=_stop_behind_buffers, args=watch, daemon=True).start()
    start = time.perf_counter()
    try:
        compiled = lowered.compile({"xla_dump_to": str(folder), "xla_dump_hlo_as_text": True})
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        facts["refused"] = str(error).partition(" HLO module")[0]
    else:
        facts |= _of_machine_code(compiled, time.perf_counter() - start)
    written.write_text(json.dumps(facts))


def _of_machine_code(compiled, seconds: float) -> dict[str, Any]:
    """What is known of a program once it is compiled to the end."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    names = ("flops", "bytes accessed", "optimal_seconds")
    return {
        "machine_code": {
            "seconds_to_compile": seconds,
            "code": memory.generated_code_size_in_bytes,
            "arguments": memory.argument_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
            **{name.replace(" ", "_"): cost.get(name) for name in names},
        }
    }


def _stop_behind_buffers(folder: Path, available: int) -> None:
    """End the process when the optimized program has been written: only machine code is left.

    A program that takes more than there is will be refused at once.
    """
    while not any(file.read_text().rstrip().endswith("}") for file in _dumps(folder, _PROGRAM)):
        time.sleep(0.1)
    sizes = buffers(_dumps(folder, _BUFFERS)[-1].read_text())
    if sum(sizes[name] for name in NEEDED) <= available:
        os._exit(STOPPED)


_PROGRAM = "after_optimizations_after_buffer_assignment"
_BUFFERS = "after_optimizations-buffer-assignment"


def _dumps(folder: Path, what: str) -> list[Path]:
    return sorted(folder.glob(f"*.{what}.txt"))


def planned(case: Case) -> dict[str, Any]:
    """The facts of a program, compiled in a process of its own.

    Raises:
        JaxtalError: it cannot be compiled for another reason than too little memory.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "benchmarks.pod_plan", "--case", json.dumps(case), name]
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "TPU_SKIP_MDS_QUERY": "1",  # asks no cloud's metadata server for a TPU
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # by other processes: no TPU is held
        }
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        if done.returncode not in (0, STOPPED):
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise JaxtalError(f"{case.topology}, {case.method}: {last.removeprefix('error: ')}")
        facts = json.loads((folder / "facts.json").read_text())
        texts = [
            file.read_text() for what in (_BUFFERS, _PROGRAM) for file in _dumps(folder, what)[-1:]
        ]
    if len(texts) < 2 and "refused" not in facts:
        raise JaxtalError(
            f"{case.topology}, {case.method}: the compiler has not written its buffer assignment; "
            "this libtpu names its files in another way, try 0.0.52"
        )
    return {**row(case, facts, *texts), "seconds_to_plan": round(time.perf_counter() - start, 1)}


def row(case: Case, facts: dict, assignment: str = "", program: str = "") -> dict[str, Any]:
    """What is reported of a program.

    Args:
        facts: of facts.json.
        assignment, program: the compiler's dumps; without them it was refused before.
    """
    places = facts["chips"] // case.data
    content: dict[str, Any] = {
        **{name: getattr(case, name) for name in ("topology", "method", "program", "shape")},
        "set": dict(case.fields),
        "chips": facts["chips"],
        "mesh": {"member": places, "data": case.data},
        "members_a_chip": case.members,
        "population": places * case.members,
        "flops_a_chip": facts["flops"],
        "bytes_available": facts["available"],
        "refused": facts.get("refused"),
    }
    if assignment:
        sizes = buffers(assignment)
        total = sum(sizes[name] for name in NEEDED)
        content["bytes"] = {**sizes, "total": total}
        content["rematerialised"] = bool(re.search(r"%\S*\.remat\d* = ", program))
        content["collectives"] = communication(program, content["mesh"])
        if case.program == "training":
            content["upper_bound"] = bound(case, facts["flops"], sizes["donated"], places)
    fits = "bytes" in content and content["bytes"]["total"] + CODE <= facts["available"]
    content["fits"] = fits and not content["refused"]
    return {**content, **{k: facts[k] for k in ("machine_code",) if k in facts}}


def bound(case: Case, flops: float, state: int, places: int) -> dict[str, float]:
    """The most steps of members a second, see the module's docstring.

    Args:
        flops: of a chip's step.
        state: bytes on a chip that every step reads and writes.
        places: chips, or groups of those that share a batch.
    """
    chip = chip_of(case.topology)
    seconds = {"flops": flops / chip.flops, "state": 2 * state / chip.bandwidth}
    rate = case.members / max(seconds.values())
    return {
        "seconds_by_flops": seconds["flops"],
        "seconds_by_state": seconds["state"],
        "member_steps_a_second": rate * places,
        "member_steps_a_second_a_chip": rate / case.data,
    }


def predicted(first: dict, second: dict) -> int:
    """The most members that a straight line through the bytes of two rows lets fit on a chip."""
    members = [one["members_a_chip"] for one in (first, second)]
    slope, rest = np.polyfit(members, [one["bytes"]["total"] for one in (first, second)], 1)
    return int((first["bytes_available"] - CODE - rest) / slope)


def next_count(rows: list[dict], guess: int | None) -> int | None:
    """The members a chip to try next; None if one number fits and the next is known not to.

    Args:
        rows: what is known.
        guess: to begin with; None to predict from the two numbers next to where it ends.
    """
    by_members = {one["members_a_chip"]: one for one in rows}
    fitting = sorted(members for members, one in by_members.items() if one["fits"])
    failing = sorted(by_members.keys() - set(fitting))
    low, high = fitting[-1] if fitting else 0, failing[0] if failing else None
    if high == low + 1:
        return None
    near = [by_members[members] for members in (*fitting[-2:], *failing[:1])]
    known = [one for one in near if "bytes" in one][-2:]
    if guess is None and len(known) == 2:
        guess = predicted(*known)
    if high is None:
        return max(low + 1, guess or 0)
    return min(max(low + 1, guess or (low + high) // 2), high - 1)


def plan(case: Case, counts: list[int], guess: int | None) -> Iterator[dict]:
    """The rows of a topology and a method.

    Args:
        case: of the training program.
        counts: members a chip.
        guess: the number that fills a chip, if one of its kind has been planned.
    """
    rows = []
    for members in counts:
        rows.append(planned(case._replace(members=members)))
        yield rows[-1]
    while (wanted := next_count(rows, guess)) is not None:
        rows.append({**planned(case._replace(members=wanted)), "sought": True})
        guess = None
        yield rows[-1]
    most = max((one["members_a_chip"] for one in rows if one["fits"]), default=0)
    if most:
        yield planned(case._replace(members=most, program="evaluation"))


def most_members(rows: list[dict]) -> dict[tuple[str, str, int], int]:
    """(kind of chip, method, data) -> the most members found to fit on one."""
    found: dict[tuple[str, str, int], int] = {}
    for one in rows:
        if one["fits"] and one["program"] == "training" and "sought" in one:
            key = (one["topology"].partition(":")[0], one["method"], one["mesh"]["data"])
            found[key] = max(found.get(key, 0), one["members_a_chip"])
    return found


def markdown(rows: list[dict]) -> str:
    """The rows as a table."""
    head = (
        "topology", "mesh", "method", "program", "members a chip", "population", "arguments, GiB",
        "temporaries", "results", "total", "available", "fits", "GFLOP a chip",
        "collectives in the loop, outside", "at most, member-steps a second",
    )  # fmt: skip
    return markdown_table(head, map(cells, rows)) + "\n"


def cells(one: dict) -> list[str]:
    """A row of the table."""
    sizes = one.get("bytes")
    gib = [f"{sizes[name] / 2**30:.2f}" if sizes else "" for name in (*NEEDED, "total")]
    fits = "no" if not one["fits"] else "yes, rematerialised" if one["rematerialised"] else "yes"
    said = one.get("collectives")
    inside = sum(c["count"] for c in said or () if c["in_loop"])
    outside = sum(c["count"] for c in said or ()) - inside
    rate = (
        one["upper_bound"]["member_steps_a_second"] if one["fits"] and "upper_bound" in one else 0
    )
    return [
        one["topology"], " x ".join(map(str, one["mesh"].values())), one["method"],
        one["program"], str(one["members_a_chip"]),
        f"{one['population']:,}", *gib, f"{one['bytes_available'] / 2**30:.2f}", fits,
        f"{one['flops_a_chip'] / 1e9:,.0f}", "" if said is None else f"{inside}, {outside}",
        f"{rate:,.0f}" if rate else "",
    ]  # fmt: skip


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--topology", nargs="+", default=["v5e:4x4"], help="default: v5e:4x4")
    parser.add_argument("--method", nargs="+", choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument("--members", nargs="+", type=int, default=[1, 2, 4], help="a chip")
    parser.add_argument(
        "--population", nargs="+", type=int, default=[],
        help="plan these alone, instead of --members and what fills a chip",
    )  # fmt: skip
    parser.add_argument("--data", type=int, default=1, help="chips that share a batch")
    parser.add_argument("--shape", choices=list(SHAPES), default="thumos", help="of the data set")
    parser.add_argument("--config", default="", metavar="FILE", help="instead of the method's own")
    parser.add_argument("--set", nargs="+", type=field, default=[], metavar="FIELD=VALUE")
    parser.add_argument("--machine_code", action="store_true", help="compile to the end: minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def planned_rows(options: argparse.Namespace) -> Iterator[dict]:
    """All rows that a command line asks for."""
    rows: list[dict] = []
    names = [config_in(options.config).method] if options.config else options.method
    for topology, method in itertools.product(options.topology, names):
        case = Case(
            topology, method, 1, options.data, "training", options.shape, options.config,
            tuple(options.set), options.machine_code,
        )  # fmt: skip
        if options.population:
            found: Iterator[dict] = map(planned, populations(case, options.population))
        else:
            kind = (topology.partition(":")[0], method, options.data)
            guess = most_members(rows).get(kind)
            found = plan(case, [] if guess else options.members, guess)
        for one in found:
            rows.append(one)
            yield one


def populations(case: Case, wanted: list[int]) -> list[Case]:
    """The cases of whole populations.

    Raises:
        JaxtalError: one cannot be divided over the topology's chips.
    """
    places = chips_in(case.topology) // case.data
    for population in wanted:
        if population < 1 or population % places:
            raise JaxtalError(
                f"--population={population} cannot be divided over the {places} places of "
                f"{case.topology} with --data={case.data}; give a multiple of {places}"
            )
    return [case._replace(members=population // places) for population in wanted]


def main(arguments: list[str] | None = None) -> None:
    """Plan all, writing the files anew after every row."""
    options = parse(arguments)
    try:
        for topology in options.topology:
            chip_of(topology)
        if options.case:
            text, folder = options.case
            compile_case(Case(*json.loads(text)), Path(folder))
            return
        rows = []
        for one in planned_rows(options):
            rows.append(one)
            print(json.dumps(one), flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")
            if options.markdown:
                options.markdown.write_text(markdown(rows))
    except JaxtalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(markdown(rows))


if __name__ == "__main__":
    main()
