"""Compare a population of M models with M single runs, in seconds per step of one model.

    python -m benchmarks.speed.population [--method co2net] [--shape demo] [--members 1 2 4 8]
                                          [--until_full]

A measurement of the population is one dispatch of --steps steps of all M members; a measurement of
the single runs is M dispatches of one model. Both are measured in turn in one process for each M.
Prints one JSON row per case and a table; `ratio` is the population's median divided by that of the
single runs. --until_full doubles M until the device's memory is full.
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

SIZES = ("batch", "snippets", "width", "classes")  # sizes of a shape


def trainer(options: argparse.Namespace, data: PackedVideos, members: int) -> Trainer:
    """Compile a program that trains a population.

    Args:
        options: parsed command line.
        data: training videos.
        members: number of members.
    """
    config = config_of(options.method, options.shape, options.batch, options.snippets)
    config.population = members
    return Trainer(config, data, options.steps)


def out_of_memory(error: Exception) -> bool:
    """Return True if the error is a failed allocation on the host or the device."""
    text = str(error)
    full = "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
    on_device = isinstance(error, jax.errors.JaxRuntimeError) and full
    return isinstance(error, MemoryError) or on_device


def bytes_of(trainer: Trainer) -> int:
    """Return the bytes of the compiled program, arguments included; 0 if unknown."""
    sizes = trainer.compiled.memory_analysis()
    if sizes is None:
        return 0
    parts = (sizes.argument_size_in_bytes, sizes.output_size_in_bytes, sizes.temp_size_in_bytes)
    return sum(parts) - sizes.alias_size_in_bytes


def fits(expected: int) -> bool:
    """Return True if `expected` bytes may be allocated; on CPUs the system would kill processes."""
    if jax.default_backend() != "cpu":
        return True
    return expected < 0.8 * psutil.virtual_memory().available


def measure(
    options: argparse.Namespace, single: Trainer, together: Trainer, members: int
) -> dict[str, list[float]]:
    """Measure the seconds per step of one model.

    Args:
        options: parsed command line.
        single: program of a single run.
        together: program of the population.
        members: number of members.

    Returns:
        Seconds of "single runs" and "population".
    """

    def one_after_another():
        for _ in range(members):
            metrics = single()
        return metrics

    calls: dict[str, Callable] = {"single runs": one_after_another, "population": together}
    steps = members * options.steps
    seconds = interleaved(calls, options.repeats)
    return {name: [x / steps for x in values] for name, values in seconds.items()}


def sizes(members: list[int], until_full: bool, most: int) -> Iterator[int]:
    """Yield the population sizes M to measure.

    Args:
        members: sizes of the command line.
        until_full: then double the largest one.
        most: largest size.
    """
    yield from members
    size = 2 * max(members)
    while until_full and size <= most:
        yield size
        size *= 2


def compare(options: argparse.Namespace, rows: Rows) -> Table:
    """Measure every M that fits into memory and return the table.

    Args:
        options: parsed command line.
        rows: writer of rows.
    """
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
    """Measure every M; print the rows and a table."""
    parser = parser_of(__doc__, repeats=9)
    parser.add_argument("--method", choices=list(CONFIGS), default="co2net", help="default: co2net")
    parser.add_argument("--shape", choices=list(SHAPES), default="demo", help="default: demo")
    parser.add_argument(
        "--members", type=int, nargs="+", default=[1, 2, 4, 8], metavar="M",
        help="sizes of the population; default: 1 2 4 8",
    )  # fmt: skip
    parser.add_argument("--until_full", action="store_true", help="double M until memory is full")
    parser.add_argument("--most", type=int, default=256, help="largest M of --until_full")
    parser.add_argument("--steps", type=int, default=5, help="steps per dispatch; default: 5")
    parser.add_argument("--videos", type=int, default=100, help="training videos; default: 100")
    for name in SIZES:
        parser.add_argument(f"--{name}", type=int, help="default: the shape's")
    options = parser.parse_args()
    for name, own in zip(SIZES, SHAPES[options.shape], strict=True):
        setattr(options, name, getattr(options, name) or own)
    show(compare(options, Rows(options.json)))


if __name__ == "__main__":
    main()
