"""Cost of a training step against its sizes, one varied at a time around a base.

    python -m benchmarks.speed.scaling [--method co2net] [--axes snippets width classes videos]

T snippets, D features a snippet (both modalities), C classes, and the number of training videos;
the values of an axis are measured in turn in one process. Prints one JSON row a value and a table.
`exponent` is the slope of the logarithm of the median seconds of a step against that of the value,
over all values and over the two largest; its quartiles are over the repeats. `ratio` is the median
over that of the axis's first value. Videos are narrow on the axis of their number, so that ten
thousand fit into memory; on that of the classes there are two of every class.
"""

import argparse
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.timing import Rows, interleaved, numbers_table, parser_of, row, show, spread
from benchmarks.workloads import CONFIGS, Trainer, config_of, training_set

BASE = {"batch": 10, "snippets": 100, "width": 256, "classes": 10, "videos": 100}
AXES = {
    "snippets": [50, 100, 200, 400],
    "width": [128, 256, 512, 1024],
    "classes": [10, 20, 100, 200],
    "videos": [100, 1000, 10000],
}


def sizes_of(axis: str, values: list[int], options: argparse.Namespace) -> list[dict[str, int]]:
    """Return all sizes at every value of an axis."""
    base = {**BASE, **dict(options.base)}
    if axis == "classes":
        base["videos"] = max(base["videos"], 2 * max(values))
    if axis == "videos":
        base["width"] = options.videos_width
    return [{**base, axis: value} for value in values]


def trainer(method: str, sizes: dict[str, int], steps: int) -> Trainer:
    """Compile steps at these sizes."""
    data = training_set(sizes["videos"], sizes["snippets"], sizes["width"], sizes["classes"])
    return Trainer(config_of(method, "demo", sizes["batch"], sizes["snippets"]), data, steps)


def exponents(values: list[int], seconds: list[list[float]], last: int = 0) -> dict[str, Any]:
    """Fit the slope of log seconds against log value, of the medians and its quartiles.

    Args:
        values: of the axis.
        seconds: of each value, those of the repeats.
        last: use only this many of the largest values; 0 for all.
    """
    order = np.argsort(values)[-last:]
    if len(order) < 2:
        return {"exponent": None, "quartiles": None}
    x, y = np.log(np.array(values))[order], np.log(np.array(seconds))[order]
    of_medians = float(np.polyfit(x, np.median(y, axis=1), 1)[0])
    quartiles = np.quantile(np.polyfit(x, y, 1)[0], (0.25, 0.75)).tolist()
    return {"exponent": of_medians, "quartiles": quartiles}


def measure(axis: str, values: list[int], options: argparse.Namespace, rows: Rows) -> Table:
    """Measure one axis: write all its rows and return its table."""
    method, sizes = options.method, sizes_of(axis, values, options)
    calls = {str(size[axis]): trainer(method, size, options.steps) for size in sizes}
    measured = interleaved(calls, options.repeats)
    seconds = [[x / options.steps for x in values] for values in measured.values()]
    over_all, largest = exponents(values, seconds), exponents(values, seconds, 2)
    fields = {
        "axis": axis,
        "exponent": over_all["exponent"],
        "exponent_quartiles": over_all["quartiles"],
        "exponent_of_two_largest": largest["exponent"],
        "exponent_of_two_largest_quartiles": largest["quartiles"],
    }
    fixed = ", ".join(f"{name} {value}" for name, value in sizes[0].items() if name != axis)
    table = numbers_table(
        f"{method}: {axis} ({fixed})", axis, "ms a step", "ratio to the first",
        caption=f"exponent {_slope(over_all)}; two largest {_slope(largest)}",
    )  # fmt: skip
    for size, value, times in zip(sizes, values, seconds, strict=True):
        shapes = {"method": method, **size, "steps_a_dispatch": options.steps}
        reference = None if times is seconds[0] else seconds[0]
        line = row(f"{method}, {axis} {value}", shapes, times, reference, "cost", **fields)
        rows(line)
        table.add_row(str(value), spread(times), f"{line.get('ratio', 1):.2f}")
    return table


def _slope(fit: dict[str, Any]) -> str:
    if fit["exponent"] is None:
        return "unknown"
    low, high = fit["quartiles"]
    return f"{fit['exponent']:.2f} ({low:.2f} to {high:.2f})"


def _size(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if name not in BASE or not value.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER, NAME of {', '.join(BASE)}")
    return name, int(value)


def main() -> None:
    """Measure every axis, print rows and tables."""
    parser = parser_of(__doc__, repeats=9)
    parser.add_argument("--method", choices=list(CONFIGS), default="co2net")
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--steps", type=int, default=5, help="a dispatch")
    parser.add_argument(
        "--base", nargs="+", type=_size, default=[], metavar="NAME=NUMBER", help=f"default: {BASE}"
    )
    parser.add_argument("--videos_width", type=int, default=64, help="features on the last axis")
    for axis, values in AXES.items():
        parser.add_argument(f"--{axis}", type=int, nargs="+", default=values, metavar="N")
    options = parser.parse_args()
    rows = Rows(options.json)
    tables = [measure(axis, getattr(options, axis), options, rows) for axis in options.axes]
    for table in tables:
        show(table)


if __name__ == "__main__":
    main()
