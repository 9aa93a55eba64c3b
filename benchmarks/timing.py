"""Shared helpers of the benchmarks: interleaved timing, result rows, tables, options."""

import argparse
import ast
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table


def interleaved(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Measure the seconds of each call, after one warm-up, in turn so that noise is shared.

    Args:
        cases: calls by name; each result is waited for.
        repeats: number of measurements of each call.

    Returns:
        Seconds of each measurement by name.
    """
    for call in cases.values():
        jax.block_until_ready(call())
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, call in cases.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def row(
    name: str,
    shapes: Mapping,
    seconds: Sequence[float],
    reference: Sequence[float] | None = None,
    ratio: str = "speed",
    **extra: Any,
) -> dict[str, Any]:
    """Return a row: device, versions, shapes, median, spread, ratio to the reference's median.

    Args:
        name: name of the case.
        shapes: measured sizes.
        seconds: one value per repeat.
        reference: seconds of the case that this one is compared with, if any.
        ratio: "speed", the reference's median divided by this case's, or "cost", the inverse.
        extra: further fields of the row.
    """
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    content: dict[str, Any] = {
        **_device(name, shapes),
        "median_s": middle,
        "quartiles_s": [low, high],
        "repeats": len(seconds),
    }
    if reference:
        speed = statistics.median(reference) / middle
        content["ratio"] = speed if ratio == "speed" else 1 / speed
    return {**content, **extra}


def untimed_row(name: str, shapes: Mapping, **extra: Any) -> dict[str, Any]:
    """Return a row of a measurement that is not a duration.

    Args:
        name: name of the case.
        shapes: measured sizes.
        extra: measured quantities.
    """
    return {**_device(name, shapes), **extra}


def _device(name: str, shapes: Mapping) -> dict[str, Any]:
    return {
        "case": name,
        "device": jax.devices()[0].device_kind,
        "processor": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "shapes": dict(shapes),
    }


class Rows:
    """Writer of rows: prints each as a JSON line and also appends it to a file, if one is given."""

    def __init__(self, file: Path | None):
        self._file = file
        if file:
            file.write_text("")

    def __call__(self, content: Mapping[str, Any]) -> None:
        """Print one row and append it to the file."""
        line = json.dumps(content)
        print(line, flush=True)
        if self._file:
            with self._file.open("a") as file:
                file.write(line + "\n")


def parser_of(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """Return a parser with the options of most benchmarks, --repeats and --json.

    Args:
        description: the module's docstring; its first line is the description.
        repeats: default of --repeats.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument(
        "--repeats",
        type=int,
        default=repeats,
        help=f"measurements of each case; default: {repeats}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    return parser


def add_set(parser: argparse.ArgumentParser, example: str) -> None:
    """Add the option --set FIELD=VALUE ..., which changes config fields.

    Args:
        parser: parser to extend.
        example: example of an argument, for the help text.
    """
    parser.add_argument(
        "--set", nargs="+", action="extend", type=field, default=[], metavar="FIELD=VALUE",
        help=f"config fields to change, e.g. {example}",
    )  # fmt: skip


def field(text: str) -> tuple[str, Any]:
    """Parse the command-line argument FIELD=VALUE into a name and a Python value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def positive(text: str) -> int:
    """Parse a positive integer of a command line."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def spread(seconds: Sequence[float]) -> str:
    """Format the median and the quartiles of `seconds` in milliseconds, for a table."""
    low, middle, high = 1e3 * np.quantile(seconds, (0.25, 0.5, 0.75))
    digits = max(0, 2 - int(np.floor(np.log10(max(middle, 1e-6)))))
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def numbers_table(title: str, *columns: str, **options: Any) -> Table:
    """Return an empty table with right-aligned columns.

    Args:
        title: title of the table.
        columns: headings of the columns.
        options: further arguments of `rich.table.Table`.
    """
    table = Table(title=title, **options)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def show(table: Table) -> None:
    """Print a table; without truncation if the output is not a terminal."""
    (Console() if sys.stdout.isatty() else Console(width=160)).print(table)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format headings and rows as a Markdown table, without a trailing newline."""
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in (columns, *rows))
    head, *lines = (f"| {' | '.join(row)} |" for row in escaped)
    return "\n".join([head, "|---" * len(columns) + "|", *lines])


def one_core() -> None:
    """Pin this process to one core, where the system supports it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def peak_memory(call: Callable[[], object]) -> int:
    """Measure the peak of the bytes that Python and NumPy allocate during a call."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
