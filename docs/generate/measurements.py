"""Page of all speed measurements: a template whose tables are rendered from the raw rows."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables.markdown import table

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
_TEMPLATE = Path(__file__).with_name("measurements.md")
_METHODS = {"co2net": "CO2-Net", "d2net": "D2-Net", "twostream": "two-stream"}
_REFERENCES = {
    "one step per dispatch": "jaxtal, one step a dispatch",
    "`Conv1d`": "PyTorch, conv1d",
    "`Conv1d`, compiled": "PyTorch, conv1d, compiled",
    "shifts and product": "PyTorch, unfold",
    "shifts and product, compiled": "PyTorch, unfold, compiled",
    "floor, textbook": "floor, textbook",
    "floor, executed": "floor, executed",
}
_SIZES = ("batch", "snippets", "features")

Row = dict[str, Any]


def page() -> str:
    """Return the page docs/performance/measurements.md."""

    def render(match: re.Match) -> str:
        file, name = match.groups()
        return f"{TABLES[name](rows_of(file))}\n\nRows: `benchmarks/results/{file}`."

    return re.sub(r"<!-- table (\S+) (\S+) -->", render, _TEMPLATE.read_text("utf-8"))


def rows_of(file: str) -> list[Row]:
    """Read the rows of a file in benchmarks/results.

    Args:
        file: name of a .json file with a list of rows, or of a .jsonl file with a row per line.
    """
    text = (FOLDER / file).read_text("utf-8")
    return json.loads(text) if file.endswith(".json") else [*map(json.loads, text.splitlines())]


def seconds(value: float) -> str:
    """Format a duration in seconds or milliseconds."""
    if value >= 1:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    return f"{1e3 * value:.0f} ms" if value >= 0.1 else f"{1e3 * value:.3g} ms"


def _spread(row: Row) -> str:
    low, high = map(seconds, row["quartiles_s"])
    return f"{seconds(row['median_s'])} ({low} to {high})"


def _size(row: Row) -> str:
    return " x ".join(str(row["shapes"][name]) for name in _SIZES)


def train_step(rows: Sequence[Row]) -> str:
    """Format the table of training steps: one line per method and shape."""
    cases: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        cases.setdefault((_METHODS[row["method"]], _size(row)), []).append(row)

    def cells(case: Sequence[Row]) -> Iterator[str]:
        by_reference = {row["reference"]: row for row in case}
        for reference in _REFERENCES.values():
            row = by_reference.get(reference)
            yield f"{seconds(row['reference_median_s'])}, {row['ratio']:.2f}" if row else ""

    forms = [name[0].upper() + name[1:] for name in _REFERENCES]
    header = ["Method", "Batch x snippets x features", "jaxtal, median (quartiles)", *forms]
    lines = [[*names, _spread(case[0]), *cells(case)] for names, case in cases.items()]
    return table(header, lines, left=2)


def headline(rows: Sequence[Row]) -> str:
    """Format the short table of training steps with 2048 features and 100 or 500 snippets."""
    lines = []
    for row in rows:
        if row["reference"] != "PyTorch, conv1d" or row["shapes"]["classes"] != 20:
            continue
        case = [r for r in rows if (r["method"], r["shapes"]) == (row["method"], row["shapes"])]
        fastest = min(
            (r for r in case if r["reference"].startswith("PyTorch")),
            key=lambda r: r["reference_median_s"],
        )
        form = next(name for name, ref in _REFERENCES.items() if ref == fastest["reference"])
        shares = {r["reference"]: f"{r['ratio']:.2f}" for r in case}
        lines.append([
            f"{_METHODS[row['method']]}, {row['shapes']['snippets']} snippets",
            f"{row['median_s']:.2f} s", f"{row['reference_median_s']:.2f} s",
            f"{fastest['reference_median_s']:.2f} s, {form}",
            f"{row['ratio']:.2f}", f"{fastest['ratio']:.2f}",
            f"{shares['floor, textbook']} ({shares['floor, executed']})",
        ])  # fmt: skip
    header = [
        "Method", "jaxtal", "PyTorch, `Conv1d`", "PyTorch, fastest form", "Ratio to `Conv1d`",
        "Ratio to the fastest", "Fraction of the floor's rate, textbook (executed)",
    ]  # fmt: skip
    return table(header, lines)


def sampling(rows: Sequence[Row]) -> str:
    """Format the table of sampling and feeding: one line per shape and case."""
    lines = [
        [_size(row), row["case"].partition(", ")[2], _spread(row),
         f"{row['ratio']:.3g}" if "ratio" in row else "", f"{100 * row['share']:.2f} %"]
        for row in rows
        if not row["case"].endswith(", step")
    ]  # fmt: skip
    header = ["Batch x snippets x features", "Case", "Median (quartiles)", "Ratio"]
    return table([*header, "Share of a step"], lines, left=2)


def population(rows: Sequence[Row]) -> str:
    """Format the table of populations: one line per method and number of members."""
    lines = [
        [_METHODS[row["shapes"]["method"]], str(row["shapes"]["members"]), _spread(row),
         _spread(alone), f"{row['ratio']:.2f}", f"{row['program_bytes'] / 2**20:,.0f} MiB"]
        for alone, row in zip(rows[::2], rows[1::2], strict=True)
    ]  # fmt: skip
    header = ["Method", "M", "Member-step", "Step of single runs", "Ratio", "Program's memory"]
    return table(header, lines)


def scaling(rows: Sequence[Row]) -> str:
    """Format the table of scaling: one line per axis."""
    axes: dict[str, list[Row]] = {}
    for row in rows:
        axes.setdefault(row["axis"], []).append(row)
    lines = [
        [axis, ", ".join(str(row["shapes"][axis]) for row in own),
         ", ".join(f"{1e3 * row['median_s']:.1f}" for row in own),
         f"{own[0]['exponent']:.2f}", f"{own[0]['exponent_of_two_largest']:.2f}"]
        for axis, own in axes.items()
    ]  # fmt: skip
    header = ["Size", "Values", "Milliseconds per step", "Exponent, all values"]
    return table([*header, "Exponent, two largest"], lines, left=3)


def memory(rows: Sequence[Row]) -> str:
    """Format the table of peak memory."""
    (row,) = rows
    names = {
        "features": "features, float16", "parameters": "parameters", "optimizer": "Adam's moments",
        "activations": "temporaries of one step", "before": "process before the run",
        "peak": "peak of the process",
    }  # fmt: skip
    sizes = {name: row["bytes"][name] for name in names}
    lines = [[label, f"{sizes[name] / 2**20:,.0f}"] for name, label in names.items()]
    lines.append(["ratio: (peak - before) / sum of the first four", f"{row['ratio']:.2f}"])
    return table(["Part", "MiB"], lines)


def end_to_end(rows: Sequence[Row]) -> str:
    """Format the table of whole runs: one line per run, in seconds."""
    parts = list(rows[0]["seconds_of"])
    lines = [
        [row["cache"], *(f"{row['seconds_of'][part]:.2f}" for part in parts),
         f"{row['median_s']:.1f}"]
        for row in rows
    ]  # fmt: skip
    return table(["Programs", *map(str.capitalize, parts), "Total"], lines)


def evaluation(rows: Sequence[Row]) -> str:
    """Format the table of evaluations: one line per size."""
    cases: dict[tuple[int, ...], dict[str, Row]] = {}
    names = ("videos", "classes", "instances", "detections")
    for row in rows:
        sizes = tuple(row["shapes"][name] for name in names)
        cases.setdefault(sizes, {})[row["case"].rpartition(", ")[2]] = row

    def cells(case: dict[str, Row]) -> Iterator[str]:
        ours = case["ours"]
        for name in ("pandas_frames", "python_loops"):
            yield _spread(case[name]) if name in case else ""
        yield _spread(ours)
        for name in ("pandas_frames", "python_loops"):
            yield f"{case[name]['median_s'] / ours['median_s']:.0f}" if name in case else ""
        yield f"{ours['shapes']['peak_bytes'] / 1e6:.1f} MB"

    header = [*map(str.capitalize, names), "`pandas_frames`", "`python_loops`", "jaxtal",
              "Ratio to `pandas_frames`", "Ratio to `python_loops`", "Peak memory"]  # fmt: skip
    lines = [[*(f"{size:,}" for size in sizes), *cells(case)] for sizes, case in cases.items()]
    return table(header, lines, left=0)


def localization(rows: Sequence[Row]) -> str:
    """Format the table of localizations: one line per size and method."""
    forms = {
        "co2net": "CO2-Net, Gaussian soft-NMS", "d2net": "D2-Net, hard NMS",
        "twostream": "two-stream, 20-fold up-sampling, hard NMS",
    }  # fmt: skip
    lines = []
    for loops, row in zip(rows[::2], rows[1::2], strict=True):
        sizes = row["shapes"]
        lines.append([
            f"{sizes['videos']:,}", forms[row["case"].split(", ")[1]], f"{sizes['proposals']:,}",
            _spread(loops), _spread(row), f"{row['ratio']:.1f}",
            f"{sizes['peak_bytes'] / 1e6:.0f} MB", str(sizes["largest_cluster"]),
        ])  # fmt: skip
    header = ["Videos", "Method", "Proposals", "`python_loops`", "jaxtal", "Ratio", "Peak memory",
              "Largest cluster"]  # fmt: skip
    return table(header, lines, left=2)


def examination(rows: Sequence[Row]) -> str:
    """Format the table of the examination of a data set."""
    lines = [
        [
            row["case"],
            f"{row['shapes']['videos']:,}",
            _spread(row),
            f"{100 * row['share']:.1f} %" if "share" in row else "",
        ]
        for row in rows
    ]
    return table(["", "Videos", "Duration", "Share of loading"], lines)


def checksums(rows: Sequence[Row]) -> str:
    """Format the table of the cost of checksums: one line per operation."""
    names = {
        "save": "writing a checkpoint", "restore": "restoring a checkpoint",
        "load": "loading a converted data set",
    }  # fmt: skip
    lines = [
        [
            names[without["case"].split()[0]],
            f"{without['shapes']['MB']:,} MB",
            _spread(without),
            _spread(row),
            f"{row['ratio']:.2f} ({row['pairs_quartiles'][0]:.2f} to "
            f"{row['pairs_quartiles'][2]:.2f})",
        ]
        for without, row in zip(rows[::2], rows[1::2], strict=True)
    ]
    return table(["", "Size", "Without checksums", "With", "Ratio"], lines)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    function.__name__: function
    for function in (
        train_step, sampling, population, scaling, memory, end_to_end, evaluation, localization,
        examination, checksums,
    )
}  # fmt: skip
