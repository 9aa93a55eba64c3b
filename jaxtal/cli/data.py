"""The commands `jaxtal data inspect`, `convert` and `prepare`."""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtal.cli import flags, runtime
from jaxtal.cli.command import Command
from jaxtal.errors import warn

if TYPE_CHECKING:
    from jaxtal.data.dataset import TimeGrid
    from jaxtal.data.lazy_dataset import LazyDataset

INSPECT = r"""Print and draw what a data set holds, and what is wrong with it.

    jaxtal data inspect PATH

PATH is a folder in any of the layouts, or a JSON file of annotations. The layout is detected, or
given by --layout; where the time grid of the features is not what is assumed, --fps, --stride and
--window say so.

Layouts: wtalc, hamnet, basnet, acmnet, actionformer, opentad, activitynet (annotations alone), tfds
(see jaxtal data prepare --help).
Exit codes: 0 success, 2 an error that you can fix (the last line says what).
"""

CONVERT = r"""Convert a data set to another of the field's layouts.

    jaxtal data convert PATH --to basnet OUT

Every bit of features and segments is kept, a time grid given by --fps, --stride and --window is
recorded, and the memory of a few videos is needed. The same command resumes an interrupted
conversion. OUT holds SHA256SUMS, which `sha256sum -c` and `jaxtal data inspect` check.

Layouts: wtalc, hamnet, basnet, acmnet, actionformer, opentad, activitynet (annotations alone); tfds
(see jaxtal data prepare --help) can be converted from.
Exit codes: 0 success, 2 an error that you can fix (the last line says what).
"""

PREPARE = r"""Prepare a data set once as a TFDS data set, which is read at random, video by video.

    jaxtal data prepare --builder jaxtal_thumos14 --manual_dir FOLDER --data_dir DIR
    jaxtal train --config co2net_thumos --config.data.layout=tfds --config.data.dir=DIR \
        --config.data.name=jaxtal_thumos14

Builders: jaxtal_thumos14, jaxtal_activitynet/1.2 and /1.3, jaxtal_videos/NAME for any other data
set, all of which read what is in --manual_dir, in any layout that jaxtal data inspect --help lists;
and jaxtal_untrimmed/demo and /thumos14, which generate videos. TensorFlow is not needed. The data
set is written atomically.
Exit codes: 0 success, 2 an error that you can fix (the last line says what).
"""

# convert.LAYOUTS, which imports NumPy; a test compares the two.
LAYOUTS = ("wtalc", "hamnet", "basnet", "acmnet", "opentad", "actionformer", "activitynet")


def _add_inspect_flags(parser: flags.Parser) -> None:
    flags.add_reading(parser)
    parser.add_flag(
        "quick", "Do not read features and checksums.", type=flags.boolean, default=False
    )
    parser.add_flag("output", "JSON file for every number.")
    parser.add_flag("figure", "Figure (.png, .pdf, .svg); default inspect_<name>.png, '' for none.")


def _inspect(args: argparse.Namespace) -> int:
    """Print what is in a data set and what is wrong, and draw it."""
    flags.check_outputs(args, ["output", "figure"])
    from jaxtal.data import inspection
    from jaxtal.data.io import json_files
    from jaxtal.visualization import console

    source = _read(args)
    report = inspection.inspect(source, not args.quick, _counting("reading"))
    changed = None if args.quick else inspection.changed_files(source.path)
    if changed is not None:
        found = {"count": len(changed), "first": changed[:5]}
        report["defects"]["files that differ from SHA256SUMS"] = found
    if args.output:
        json_files.write(Path(args.output), json_files.to_text(report))
    console.print_inspection(report)
    if args.figure != "":
        _draw(source, report, Path(args.figure or f"inspect_{source.dataset.name}.png"))
    return 0


def _draw(source: "LazyDataset", report: dict[str, Any], figure: Path) -> None:
    """Save a figure of a data set."""
    from jaxtal.visualization import console, plots

    try:
        plots.save(plots.draw_dataset(source.dataset, report), figure)
    except (OSError, ValueError) as error:
        raise flags.UsageError(f"--figure {figure}: cannot be written ({error})") from None
    console.say(f"a picture is in {figure}")


def _add_convert_flags(parser: flags.Parser) -> None:
    parser.add_flag("to", f"Layout to convert to: {', '.join(LAYOUTS)}.")
    flags.add_reading(parser)


def _convert(args: argparse.Namespace) -> int:
    """Write a data set into another folder in another layout."""
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
    count = len(written.train) + len(written.test)
    features = source.features and layout != "activitynet"
    what = "annotations and features" if features else "annotations"
    console.say(f"{what} of {count} videos are in {folder} ({source.layout} to {layout})")
    if layout != "activitynet" and written.grid != (assumed := conversion.assumed(layout, written)):
        warn(
            f"the time grid that is recorded is {_words(written.grid)}; other programs that read "
            f"the layout {layout!r} assume {_words(assumed)}"
        )
    return 0


def _words(grid: "TimeGrid") -> str:
    return f"{grid.fps:g} fps, stride {grid.stride:g}, window {grid.window:g}"


def _read(args: argparse.Namespace) -> "LazyDataset":
    """Open the data set of the first path."""
    from jaxtal.data import layouts

    return layouts.read(Path(args.paths[0]), **flags.reading(args), features=None)


def _counting(what: str) -> Callable[[int, int], AbstractContextManager[Callable[[], None]]]:
    """Return a progress bar, as `inspect` and `convert` take one."""
    from jaxtal.visualization import console

    return lambda total, done: console.progress_bar(what, total, done)


def _add_prepare_flags(parser: flags.Parser) -> None:
    parser.add_flag("builder", "<name> or <name>/<config>; see above.")
    parser.add_flag("manual_dir", "The folder with annotations and features, in any layout.")
    parser.add_flag("data_dir", "The TFDS data folder to write to.")
    flags.add_reading(parser)


def _prepare(args: argparse.Namespace) -> int:
    """Prepare a data set, and print how to train from it."""
    runtime.quiet_absl("error")  # TFDS warns of every configuration that is not its own
    name, data_dir = flags.required(args, "builder"), Path(flags.required(args, "data_dir"))
    from jaxtal.data.tfds.preparation import prepare

    folder = prepare(
        name,
        data_dir,
        Path(args.manual_dir) if args.manual_dir else None,
        skip_damaged=args.skip_damaged,
        **flags.reading(args),
    )
    _print_prepared(folder, name, data_dir)
    return 0


def _print_prepared(folder: Path, name: str, data_dir: Path) -> None:
    """Print where the data set is and how to train from it."""
    from jaxtal.data.tfds import reader

    source = reader.read(folder)
    counts = f"{len(source.dataset.train)} training and {len(source.dataset.test)} test videos"
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    configs = {"jaxtal_activitynet": "co2net_anet12", "jaxtal_untrimmed": "co2net_demo"}
    config = configs.get(name.partition("/")[0], "co2net_thumos")
    print(f"{source.dataset.name}: {counts}, {size:.0f} MB, are in {folder}; train with")
    print(
        f"jaxtal train --config {config} --config.data.layout=tfds --config.data.dir={data_dir} "
        f"--config.data.name={name}"
    )


COMMANDS = (
    Command("data inspect", INSPECT, _add_inspect_flags, _inspect, ("PATH",)),
    Command("data convert", CONVERT, _add_convert_flags, _convert, ("PATH", "OUT")),
    Command("data prepare", PREPARE, _add_prepare_flags, _prepare),
)
