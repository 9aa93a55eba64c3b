"""The commands `jaxtal data inspect`, `jaxtal data convert` and `jaxtal data prepare`."""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtal.cli import flags, reading, runtime
from jaxtal.cli.command import Command
from jaxtal.errors import warn

if TYPE_CHECKING:
    from jaxtal.data.dataset import TimeGrid
    from jaxtal.data.lazy_dataset import LazyDataset

INSPECT = r"""Print and plot the contents of a data set and its defects.

    jaxtal data inspect PATH

PATH is a folder in one of the layouts below, or a JSON file of annotations. The layout is detected
unless --layout gives it. Give --fps, --stride and --window where the time grid of the features
differs from the one that the layout implies.

Layouts: wtalc, hamnet, basnet, acmnet, actionformer, opentad, activitynet (annotations only), tfds
(see jaxtal data prepare --help).
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

CONVERT = r"""Convert a data set to another layout.

    jaxtal data convert PATH --to basnet OUT

Features and segments are copied bit by bit, and the time grid is recorded in OUT. The command needs
memory for a few videos only. The same command resumes an interrupted conversion. OUT receives a
file SHA256SUMS, which `sha256sum -c` and `jaxtal data inspect` verify.

Layouts: wtalc, hamnet, basnet, acmnet, actionformer, opentad, activitynet (annotations only). PATH
may also be in the layout tfds (see jaxtal data prepare --help).
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

PREPARE = r"""Prepare a data set as a TFDS data set with random access to its videos.

    jaxtal data prepare --builder jaxtal_thumos14 --manual_dir FOLDER --data_dir DIR
    jaxtal train --config co2net_thumos --config.data.layout=tfds --config.data.dir=DIR \
        --config.data.name=jaxtal_thumos14

The builders jaxtal_thumos14, jaxtal_activitynet/1.2, jaxtal_activitynet/1.3 and, for any other data
set, jaxtal_videos/NAME read the folder --manual_dir, in any layout that jaxtal data inspect --help
lists. The builders jaxtal_untrimmed/demo and jaxtal_untrimmed/thumos14 generate videos. TensorFlow
is not needed. The data set is written atomically.
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

# A copy of conversion.LAYOUTS, whose module imports NumPy; a test compares the two.
LAYOUTS = ("wtalc", "hamnet", "basnet", "acmnet", "opentad", "actionformer", "activitynet")


def _add_inspect_flags(parser: flags.Parser) -> None:
    reading.add_flags(parser)
    parser.add_flag(
        "quick",
        "Check annotations only, without reading features and checksums.",
        type=flags.boolean,
        default=False,
    )
    parser.add_flag("output", "JSON file for all numbers; without it none is written.")
    parser.add_flag(
        "figure",
        "File for the figure (.png, .pdf, .svg); default: inspect_<name>.png, '' for none.",
    )


def _inspect(args: argparse.Namespace) -> int:
    """Print the contents and defects of a data set, and plot them."""
    flags.check_outputs(args, ["output", "figure"])
    from jaxtal.data import inspection
    from jaxtal.data.io import json_files
    from jaxtal.visualization import console

    source = _read(args)
    report = inspection.inspect(source, not args.quick, _counting("reading"))
    if not args.quick:
        changed = inspection.changed_files(source.path)
        report["findings"] += [finding.to_json() for finding in changed]
    if args.output:
        json_files.write(Path(args.output), json_files.to_text(report))
    for finding in report["findings"]:
        finding["message"] = flags.as_flags(finding["message"], args.parser)
    console.print_inspection(report)
    if args.figure != "":
        _draw(source, report, Path(args.figure or f"inspect_{source.dataset.name}.png"))
    return 0


def _draw(source: "LazyDataset", report: dict[str, Any], figure: Path) -> None:
    """Save the figure of a data set."""
    from jaxtal.visualization import console, plots

    plots.save(plots.draw_dataset(source.dataset, report), figure)
    console.print_message(f"the figure is in {figure}")


def _add_convert_flags(parser: flags.Parser) -> None:
    parser.add_flag("to", f"Layout of the converted data set: {', '.join(LAYOUTS)}.")
    reading.add_flags(parser)


def _convert(args: argparse.Namespace) -> int:
    """Write a data set to another folder in another layout."""
    layout, folder = flags.required(args, "to"), Path(args.paths[1])
    from jaxtal.data import conversion
    from jaxtal.visualization import console

    source = _read(args)
    written = conversion.convert(
        source,
        layout,
        folder,
        skip_damaged=args.skip_damaged,
        progress=_counting("converting"),
    )
    count = len(written.videos)
    features = source.features and layout != "activitynet"
    what = "annotations and features" if features else "annotations"
    console.print_message(f"{what} of {count} videos are in {folder} ({source.layout} to {layout})")
    if layout != "activitynet" and written.grid != (assumed := conversion.assumed(layout, written)):
        warn(
            f"the recorded time grid is {_words(written.grid)}; other programs that read "
            f"the layout {layout!r} assume {_words(assumed)}"
        )
    return 0


def _words(grid: "TimeGrid") -> str:
    return f"{grid.fps:g} fps, stride {grid.stride:g}, window {grid.window:g}"


def _read(args: argparse.Namespace) -> "LazyDataset":
    """Open the data set of the first path."""
    from jaxtal.data import layouts

    return layouts.read(Path(args.paths[0]), reading.options(args), features=None)


def _counting(what: str) -> Callable[[int, int], AbstractContextManager[Callable[[], None]]]:
    """Return a function that makes the progress bar of `inspect` and `convert`."""
    from jaxtal.visualization import console

    return lambda total, done: console.progress_bar(what, total, done)


def _add_prepare_flags(parser: flags.Parser) -> None:
    parser.add_flag("builder", "Builder of the data set, NAME or NAME/CONFIG, from the list above.")
    parser.add_flag("manual_dir", "Folder with annotations and features, in any layout.")
    parser.add_flag("data_dir", "TFDS data folder that the data set is written to.")
    reading.add_flags(parser)


def _prepare(args: argparse.Namespace) -> int:
    """Prepare a data set, and print the command that trains on it."""
    runtime.quiet_absl("error")  # TFDS logs a warning for every builder config that is not its own
    name, data_dir = flags.required(args, "builder"), Path(flags.required(args, "data_dir"))
    from jaxtal.data.tfds.preparation import prepare

    folder = prepare(
        name,
        data_dir,
        Path(args.manual_dir) if args.manual_dir else None,
        skip_damaged=args.skip_damaged,
        options=reading.options(args),
    )
    _print_prepared(folder, name, data_dir)
    return 0


def _print_prepared(folder: Path, name: str, data_dir: Path) -> None:
    """Print the folder of a data set and the command that trains on it."""
    from jaxtal.data.tfds import reader

    source = reader.read(folder)
    counts = source.dataset.counts_in_words
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    configs = {"jaxtal_activitynet": "co2net_anet12", "jaxtal_untrimmed": "co2net_demo"}
    config = configs.get(name.partition("/")[0], "co2net_thumos")
    print(f"{source.dataset.name}: {counts}, {size:.0f} MB, are in {folder}; train with")
    print(
        f"jaxtal train --config {config} --config.data.layout=tfds --config.data.dir={data_dir} "
        f"--config.data.name={name}"
    )


COMMANDS = (
    Command("data inspect", INSPECT, _add_inspect_flags, _inspect, ("PATH",), prints=True),
    Command("data convert", CONVERT, _add_convert_flags, _convert, ("PATH", "OUT")),
    Command("data prepare", PREPARE, _add_prepare_flags, _prepare),
)
