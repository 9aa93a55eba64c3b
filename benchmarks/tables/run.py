"""Train the rows of the papers' tables with several seeds and compare with the papers.

    python -m benchmarks.tables --table co2net/3 --data configs/co2net_demo.py --seeds 5
    python -m benchmarks.tables --table all methods --data demo --scale table
    python -m benchmarks.tables  # print the tables of benchmarks/results/tables

--table: co2net/1 to /6, d2net/1 to /4, twostream/1 to /6; `all`, the tables on THUMOS14;
`all-anet`, the tables on ActivityNet, of the methods that have a config for its version; `methods`,
all methods and their ensembles under one protocol; `hybrid/1`, the hybrid and its parts;
`co2net/paper`, `d2net/paper`, `twostream/paper`, what a paper prints against the default. Rows are
trained on the data of a config file METHOD_SUFFIX.py, with --preset as METHOD_SUFFIX.py:PRESET;
rows of another method use that method's file with the same suffix. Finished rows are not trained
again, and interrupted ones resume. A row that no model allows is reported as such. Each table is
written to a JSON file in the output folder and printed as Markdown. The documentation's page
docs/results/tables.md is rendered from these files when the site is built. Without --table nothing
is trained, and the tables of the output folder are printed.

Exit codes: 0 success, 1 a row or one of its seeds could not be trained (the table has the reason),
2 user error (see the last line of stderr).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from benchmarks.tables import figure, markdown, report, rows, train
from benchmarks.tables.published import TABLES
from benchmarks.timing import add_set, positive
from jaxtal.cli import runtime
from jaxtal.errors import JaxtalError, warn

_SETS = {
    "all": [key for key, table in TABLES.items() if not table.activitynet],
    "all-anet": [key for key, table in TABLES.items() if table.activitynet],
}
_NAMES = [*TABLES, *_SETS, *rows.OWN]


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--table", nargs="+", action="extend", choices=_NAMES, default=[], metavar="TABLE",
        help=f"{', '.join(_NAMES)}; default: none, print the tables of --output",
    )  # fmt: skip
    parser.add_argument(
        "--data", default="demo", metavar="CONFIG",
        help="a config file METHOD_SUFFIX.py, or its suffix; default: demo",
    )  # fmt: skip
    parser.add_argument("--seeds", type=positive, default=5, help="members of each row; default: 5")
    parser.add_argument(
        "--scale", choices=list(rows.SCALES), default="config",
        help="config: steps and sizes of the config file; table: small ones, for many rows",
    )  # fmt: skip
    parser.add_argument(
        "--preset", default="", metavar="NAME",
        help="a preset of the methods' config files, such as paper; default: none",
    )  # fmt: skip
    add_set(parser, "data.dir=FOLDER")
    parser.add_argument(
        "--members", type=positive, default=10,
        help="maximum size of a population of several rows; default: 10",
    )  # fmt: skip
    parser.add_argument(
        "--workdir", type=Path, default=Path("runs/tables"),
        help="parent folder of the runs; default: runs/tables",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/tables"),
        help="folder of the tables; default: benchmarks/results/tables",
    )  # fmt: skip
    parser.add_argument(
        "--figure", type=Path, nargs="?", const=Path("docs/images/tables.png"), metavar="FILE",
        help="draw the ablation tables; default of FILE: docs/images/tables.png",
    )  # fmt: skip
    return parser.parse_args()


def run(options: argparse.Namespace) -> int:
    """Train missing rows, write and print the tables, and return the exit code."""
    _check_outputs(options)
    reports, whole = _trained(options) if options.table else (report.read_all(options.output), True)
    print("\n".join([markdown.LEGEND + "\n", *map(markdown.markdown, reports)]))
    if options.figure:
        figure.draw(reports, options.figure)
    return 0 if whole else 1


def _rows_of_tables(names: Sequence[str], setting: rows.Setting) -> dict[str, list[rows.Row]]:
    """Return the rows by table; a set of tables has those that exist on the data."""
    found = {}
    for name in names:
        for key in _SETS.get(name, [name]):
            try:
                found[key] = rows.rows_of(key, setting)
            except rows.NoConfigError as error:
                if name not in _SETS:
                    raise
                warn(f"{key} is left out: {error}")
    if not found:
        raise JaxtalError(
            f"--data {setting.suffix} has no config file for any of --table {' '.join(names)}; "
            "choose another --table or --data"
        )
    return found


def _trained(options: argparse.Namespace) -> tuple[list[report.Report], bool]:
    """Train the rows of tables and write their reports.

    Returns:
        The reports, and whether all seeds of all rows that exist could be trained.
    """
    setting = rows.setting_of(options.data, options.scale, dict(options.set), options.preset)
    of_tables = _rows_of_tables(options.table, setting)
    every = [row for own in of_tables.values() for row in own]
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JaxtalError(f"--output {options.output}: no folder ({error.strerror})") from None
    possible = [row for row in every if not row.refused]
    jobs = train.plan(possible, options.seeds, options.members, train.find(options.workdir))
    failed = train.run(jobs, options.workdir)
    found = train.find(options.workdir)
    reports = []
    for key, own in of_tables.items():
        table = TABLES.get(key) or rows.OWN[key]
        about = {"data": setting.suffix, "preset": setting.preset, "scale": options.scale}
        about["command"] = _command(key, options)
        content = report.report(table, own, options.seeds, found, failed, about)
        if any(row["n"] for row in content["rows"]):
            reports.append(report.read(report.write(content, options.output)))
        else:
            warn(f"{key}: no row could be trained; an existing file of the table is kept")
    complete = [not row["failed"] for content in reports for row in content["rows"]]
    return reports, all(complete) and not failed


def _command(key: str, options: argparse.Namespace) -> list[str]:
    """Return the command-line arguments that reproduce a table."""
    shared: dict[str, object] = {
        "--table": key, "--data": options.data, "--seeds": options.seeds, "--scale": options.scale
    }  # fmt: skip
    if options.preset:
        shared["--preset"] = options.preset
    words = [str(word) for pair in shared.items() for word in pair]
    fields = [f"{name}={value}" for name, value in options.set]
    return [*words, "--set", *fields] if fields else words


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise JaxtalError for a figure that could not be written after hours of training."""
    if options.figure and (
        options.figure.suffix not in (".png", ".svg", ".pdf") or not options.figure.parent.is_dir()
    ):
        raise JaxtalError(
            f"--figure {options.figure}: wanted a file .png, .svg or .pdf in an existing folder"
        )


def main() -> None:
    """Run the command; print a user error in one line."""
    options = parse()
    logging.set_verbosity(logging.WARNING)  # as in jaxtal.main
    runtime.enable_compilation_cache(None)
    try:
        sys.exit(run(options))
    except JaxtalError as error:
        sys.exit(runtime.fail(str(error)))
