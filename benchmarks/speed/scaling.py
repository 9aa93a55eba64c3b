"""Measure a training step while one size varies around a base.

    python -m benchmarks.speed.scaling [--method co2net] [--axes snippets width classes videos]

The axes are snippets per video, features per snippet (both modalities), classes, and training
videos; the values of an axis are measured in turn in one process. Prints one JSON row per value and
a table per axis. `exponent` is the slope of log seconds (medians) against log value, over all
values and over the two largest; its quartiles are over the repeats. `ratio` is the median divided
by that of the axis's first value. On the axis `videos` features are narrow, so that ten thousand
videos fit into memory; on the axis `classes` every class has two videos.
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
    """Return all sizes at every value of an axis.

    Args:
        axis: key of `AXES`.
        values: values of the axis.
        options: parsed command line.
    """
    base = {**BASE, **dict(options.base)}
    if axis == "classes":
        base["videos"] = max(base["videos"], 2 * max(values))
    if axis == "videos":
        base["width"] = options.videos_width
    return [{**base, axis: value} for value in values]


def trainer(method: str, sizes: dict[str, int], steps: int) -> Trainer:
    """Compile a dispatch of training steps.

    Args:
        method: key of `CONFIGS`.
        sizes: values of all axes and the batch size.
        steps: steps per dispatch.
    """
    data = training_set(sizes["videos"], sizes["snippets"], sizes["width"], sizes["classes"])
    return Trainer(config_of(method, "demo", sizes["batch"], sizes["snippets"]), data, steps)


def exponents(values: list[int], seconds: list[list[float]], last: int = 0) -> dict[str, Any]:
    """Fit the slope of log seconds against log value.

    Args:
        values: values of the axis.
        seconds: seconds of each repeat, for each value.
        last: use only this many of the largest values; 0 for all.

    Returns:
        "exponent", of the medians, and its "quartiles" over the repeats; None for fewer than two
        values.
    """
    order = np.argsort(values)[-last:]
    if len(order) < 2:
        return {"exponent": None, "quartiles": None}
    x, y = np.log(np.array(values))[order], np.log(np.array(seconds))[order]
    of_medians = float(np.polyfit(x, np.median(y, axis=1), 1)[0])
    quartiles = np.quantile(np.polyfit(x, y, 1)[0], (0.25, 0.75)).tolist()
    return {"exponent": of_medians, "quartiles": quartiles}


def measure(axis: str, values: list[int], options: argparse.Namespace, rows: Rows) -> Table:
    """Measure one axis, write its rows and return its table.

    Args:
        axis: key of `AXES`.
        values: values of the axis.
        options: parsed command line.
        rows: writer of rows.
    """
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
        names = ", ".join(BASE)
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER with a NAME of {names}")
    return name, int(value)


def main() -> None:
    """Measure every axis; print the rows and tables."""
    parser = parser_of(__doc__, repeats=9)
    parser.add_argument("--method", choices=list(CONFIGS), default="co2net", help="default: co2net")
    parser.add_argument(
        "--axes", nargs="+", choices=list(AXES), default=list(AXES), help="default: all"
    )
    parser.add_argument("--steps", type=int, default=5, help="steps per dispatch; default: 5")
    parser.add_argument(
        "--base", nargs="+", type=_size, default=[], metavar="NAME=NUMBER", help=f"default: {BASE}"
    )
    parser.add_argument(
        "--videos_width", type=int, default=64, help="features per snippet on the axis videos"
    )
    for axis, values in AXES.items():
        parser.add_argument(
            f"--{axis}", type=int, nargs="+", default=values, metavar="N",
            help=f"values; default: {' '.join(map(str, values))}",
        )  # fmt: skip
    options = parser.parse_args()
    rows = Rows(options.json)
    tables = [measure(axis, getattr(options, axis), options, rows) for axis in options.axes]
    for table in tables:
        show(table)


if __name__ == "__main__":
    main()
