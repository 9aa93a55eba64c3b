"""Seconds per member-step of M models trained at once, against M runs one after another.

    python -m benchmarks.population [--method co2net] [--shape demo] [--members 1 2 4 8]
                                    [--until_full] [--json FILE]

A call of the population is one dispatch of --steps steps of all M members; a call of the single
runs is M dispatches of the same steps of one model. Both are measured in turn in one process, for
each M by itself. Prints one JSON row a case and a table; seconds are those of one step of one
model, `ratio` is the population's median over that of the single runs. --until_full goes on
doubling M until the device's memory is full.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import psutil
from rich.table import Table

from benchmarks.timing import Rows, interleaved, parser_of, row, show, spread
from benchmarks.training import CONFIGS, SHAPES, Trainer, config_of, training_set
from jaxtal.input_pipeline.packing import PackedVideos

SIZES = ("batch", "snippets", "width", "classes")  # those of a shape


@dataclass(frozen=True)
class Case:
    """What is trained on what, and how it is measured."""

    method: str
    shape: str
    batch: int
    snippets: int
    width: int
    classes: int
    videos: int
    steps: int
    repeats: int

    def data(self) -> PackedVideos:
        """Its videos."""
        return training_set(self.videos, self.snippets, self.width, self.classes)

    def trainer(self, data: PackedVideos, members: int) -> Trainer:
        """A program that trains so many members at once."""
        config = config_of(self.method, self.shape, self.batch, self.snippets)
        config.population = members
        return Trainer(config, data, self.steps)


def out_of_memory(error: Exception) -> bool:
    """Whether it is an allocation that failed, on the host or the device."""
    told = "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and told
    )


def bytes_of(trainer: Trainer) -> int:
    """What the compiled program holds, its arguments included; 0 where that is not known."""
    sizes = trainer.compiled.memory_analysis()
    if sizes is None:
        return 0
    parts = (sizes.argument_size_in_bytes, sizes.output_size_in_bytes, sizes.temp_size_in_bytes)
    return sum(parts) - sizes.alias_size_in_bytes


def fits(expected: int) -> bool:
    """Whether to try: a processor's system would rather end processes than refuse memory."""
    if jax.default_backend() != "cpu":
        return True
    return expected < 0.8 * psutil.virtual_memory().available


def measure(
    case: Case, data: PackedVideos, single: Trainer, members: int
) -> tuple[dict[str, list[float]], int]:
    """Seconds of a step of one model in single runs and in a population, and the latter's bytes."""
    together = case.trainer(data, members) if members > 1 else single

    def one_after_another():
        for _ in range(members):
            metrics = single()
        return metrics

    calls: dict[str, Callable[[], object]] = {
        "single runs": one_after_another,
        "population": together,
    }
    seconds = interleaved(calls, case.repeats)
    model_steps = members * case.steps
    per_step = {name: [x / model_steps for x in values] for name, values in seconds.items()}
    return per_step, bytes_of(together)


def sizes(members: list[int], until_full: bool, most: int) -> Iterator[int]:
    """The M to measure: those asked for, then doubled."""
    yield from members
    size = 2 * max(members)
    while until_full and size <= most:
        yield size
        size *= 2


def report(
    case: Case, members: int, seconds: dict[str, list[float]], held: int, rows: Rows
) -> tuple[str, ...]:
    """Print the rows of one M.

    Returns:
        The row of the table.
    """
    single, together = seconds["single runs"], seconds["population"]
    shapes = {
        "method": case.method, "batch": case.batch, "snippets": case.snippets,
        "features": case.width, "classes": case.classes, "videos": case.videos,
        "steps_a_dispatch": case.steps, "members": members,
    }  # fmt: skip
    name = f"{case.method}, {case.shape}"
    rows(row(f"{name}, {members} single runs", shapes, single, None))
    line = row(
        f"{name}, population of {members}", shapes, together, single, "cost", program_bytes=held
    )
    rows(line)
    ratio = json.loads(line)["ratio"]
    return str(members), spread(together), spread(single), f"{ratio:.2f}", f"{held / 2**20:,.0f}"


def compare(case: Case, options: argparse.Namespace, rows: Rows) -> Table:
    """Measure every M, as far as memory goes."""
    names = ("M", "ms a member-step", "ms a step, single runs", "ratio", "MiB")
    table = Table(title=f"{case.method}, {case.shape}: M models at once and one after another")
    for name in names:
        table.add_column(name, justify="right")
    data = case.data()
    single = case.trainer(data, 1)
    last, held = 1, bytes_of(single)
    for members in sizes(options.members, options.until_full, options.most):
        if options.until_full and not fits(held * members // last):
            table.add_row(str(members), "would not fit into memory")
            break
        try:
            seconds, held = measure(case, data, single, members)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not out_of_memory(error):
                raise
            table.add_row(str(members), "out of memory")
            break
        table.add_row(*report(case, members, seconds, held, rows))
        last = members
    return table


def parse() -> argparse.Namespace:
    """The command line."""
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
    return parser.parse_args()


def main() -> None:
    """Measure every M, print rows and a table."""
    options = parse()
    batch, snippets, width, classes = (
        getattr(options, name) or own
        for name, own in zip(SIZES, SHAPES[options.shape], strict=True)
    )
    case = Case(
        options.method, options.shape, batch, snippets, width, classes, options.videos,
        options.steps, options.repeats,
    )  # fmt: skip
    show(compare(case, options, Rows(options.json)))


if __name__ == "__main__":
    main()
