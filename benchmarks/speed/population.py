"""Seconds per member-step of M models trained at once, against M runs one after another.

    python -m benchmarks.speed.population [--method co2net] [--shape demo] [--members 1 2 4 8]
                                          [--until_full]

A call of the population is one dispatch of --steps steps of all M members; a call of the single
runs is M dispatches of the same steps of one model. Both are measured in turn in one process, for
each M by itself. Prints one JSON row a case and a table; seconds are those of one step of one
model, `ratio` is the population's median over that of the single runs. --until_full goes on
doubling M until the device's memory is full.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import jax
import psutil
from rich.table import Table

from benchmarks.timing import Rows, interleaved, numbers_table, parser_of, row, show, spread
from benchmarks.workloads import CONFIGS, SHAPES, Trainer, config_of, training_set
from jaxtal.input_pipeline.packing import PackedVideos

SIZES = ("batch", "snippets", "width", "classes")  # those of a shape


def trainer(options: argparse.Namespace, data: PackedVideos, members: int) -> Trainer:
    """Compile a program that trains this many members at once."""
    config = config_of(options.method, options.shape, options.batch, options.snippets)
    config.population = members
    return Trainer(config, data, options.steps)


def out_of_memory(error: Exception) -> bool:
    """Return whether it is an allocation that failed, on the host or the device."""
    text = str(error)
    full = "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
    on_device = isinstance(error, jax.errors.JaxRuntimeError) and full
    return isinstance(error, MemoryError) or on_device


def bytes_of(trainer: Trainer) -> int:
    """Return what the compiled program holds, its arguments included; 0 where unknown."""
    sizes = trainer.compiled.memory_analysis()
    if sizes is None:
        return 0
    parts = (sizes.argument_size_in_bytes, sizes.output_size_in_bytes, sizes.temp_size_in_bytes)
    return sum(parts) - sizes.alias_size_in_bytes


def fits(expected: int) -> bool:
    """Return whether to try: a CPU's system would rather end processes than refuse memory."""
    if jax.default_backend() != "cpu":
        return True
    return expected < 0.8 * psutil.virtual_memory().available


def measure(
    options: argparse.Namespace, single: Trainer, together: Trainer, members: int
) -> dict[str, list[float]]:
    """Measure the seconds of a step of one model in single runs and in a population."""

    def one_after_another():
        for _ in range(members):
            metrics = single()
        return metrics

    calls: dict[str, Callable] = {"single runs": one_after_another, "population": together}
    steps = members * options.steps
    seconds = interleaved(calls, options.repeats)
    return {name: [x / steps for x in values] for name, values in seconds.items()}


def sizes(members: list[int], until_full: bool, most: int) -> Iterator[int]:
    """Yield the M to measure: those asked for, then doubled."""
    yield from members
    size = 2 * max(members)
    while until_full and size <= most:
        yield size
        size *= 2


def compare(options: argparse.Namespace, rows: Rows) -> Table:
    """Measure every M, as far as memory goes."""
    name = f"{options.method}, {options.shape}"
    title = f"{name}: M models at once and one after another"
    columns = ("M", "ms a member-step", "ms a step, single runs", "ratio", "MiB")
    table = numbers_table(title, *columns)
    data = training_set(options.videos, options.snippets, options.width, options.classes)
    single = trainer(options, data, 1)
    last, held = 1, bytes_of(single)
    shapes = {name: getattr(options, name) for name in ("method", *SIZES, "videos")}
    shapes["steps_a_dispatch"] = options.steps
    for members in sizes(options.members, options.until_full, options.most):
        if options.until_full and not fits(held * members // last):
            table.add_row(str(members), "would not fit into memory")
            break
        try:
            together = trainer(options, data, members) if members > 1 else single
            seconds = measure(options, single, together, members)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not out_of_memory(error):
                raise
            table.add_row(str(members), "out of memory")
            break
        last, held = members, bytes_of(together)
        alone, at_once = seconds["single runs"], seconds["population"]
        of_case = partial(row, shapes=shapes | {"members": members})
        rows(of_case(f"{name}, {members} single runs", seconds=alone))
        line = of_case(
            f"{name}, population of {members}", seconds=at_once, reference=alone, ratio="cost",
            program_bytes=held,
        )  # fmt: skip
        rows(line)
        cells = spread(at_once), spread(alone), f"{line['ratio']:.2f}", f"{held / 2**20:,.0f}"
        table.add_row(str(members), *cells)
    return table


def main() -> None:
    """Measure every M, print rows and a table."""
    parser = parser_of(__doc__, repeats=9)
    parser.add_argument("--method", choices=list(CONFIGS), default="co2net")
    parser.add_argument("--shape", choices=list(SHAPES), default="demo")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 4, 8], metavar="M")
    parser.add_argument("--until_full", action="store_true", help="double M until memory is full")
    parser.add_argument("--most", type=int, default=256, help="largest M of --until_full")
    parser.add_argument("--steps", type=int, default=5, help="a dispatch")
    parser.add_argument("--videos", type=int, default=100)
    for name in SIZES:
        parser.add_argument(f"--{name}", type=int, help="default: the shape's")
    options = parser.parse_args()
    for name, own in zip(SIZES, SHAPES[options.shape], strict=True):
        setattr(options, name, getattr(options, name) or own)
    show(compare(options, Rows(options.json)))


if __name__ == "__main__":
    main()
