"""The papers' tables, trained here with several seeds, beside the papers' numbers.

    python -m benchmarks.tables --table co2net/3 --data configs/co2net_demo.py --seeds 5
    python -m benchmarks.tables --table all methods --data demo --scale table --readme README.md
    python -m benchmarks.tables  # prints the tables of benchmarks/results/tables

--table: co2net/1 to /6, d2net/1 to /4, twostream/1 to /6; `all`, those of THUMOS14; `all-anet`,
those of ActivityNet; `methods`, all methods under one protocol, and ensembles. Rows are trained on
the data of a config file METHOD_SUFFIX.py, those of other methods on that method's file with the
same suffix. What is trained already is not trained again, and what was interrupted continues.
Every table becomes a JSON file in the output folder and is printed as Markdown; --readme puts all
tables of the folder into a file, between `<!-- tables -->` and `<!-- /tables -->`. Without --table
nothing is trained, and the tables of the folder are printed.

Exit codes: 0 success, 1 a row, or one of its seeds, could not be trained (the table says why), 2
user error (see the last line of stderr).
"""

import argparse
import sys
from collections.abc import Mapping
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
        help=f"{', '.join(_NAMES)}; default: none, print those of --output",
    )  # fmt: skip
    parser.add_argument(
        "--data", default="demo", metavar="CONFIG",
        help="a config file METHOD_SUFFIX.py, or its suffix; default: demo",
    )  # fmt: skip
    parser.add_argument("--seeds", type=positive, default=5, help="of each row; default: 5")
    parser.add_argument(
        "--scale", choices=list(rows.SCALES), default="config",
        help="config: steps and sizes as the config says; table: small ones, for many rows",
    )  # fmt: skip
    add_set(parser, "data.dir=FOLDER")
    parser.add_argument(
        "--members", type=positive, default=10,
        help="of rows trained together, models at once; a row's seeds stay together; default: 10",
    )  # fmt: skip
    parser.add_argument("--workdir", type=Path, default=Path("runs/tables"), help="for the runs")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/tables"))
    parser.add_argument("--readme", type=Path, metavar="FILE", help="has the tables put into it")
    parser.add_argument(
        "--figure", type=Path, nargs="?", const=Path("docs/images/tables.png"), metavar="FILE",
        help="draws the ablation tables; docs/images/tables.png where no file is named",
    )  # fmt: skip
    return parser.parse_args()


def run(options: argparse.Namespace) -> int:
    """Train what is missing, write and print the tables, and return the exit code."""
    _check_outputs(options)
    keys = dict.fromkeys(key for name in options.table for key in _SETS.get(name, [name]))
    reports = _trained(list(keys), options) if keys else report.read_all(options.output)
    print("\n".join(map(markdown.markdown, reports)))
    if options.readme:
        text = "\n".join(map(markdown.markdown, report.read_all(options.output)))
        markdown.replace_block(options.readme, text)
    if options.figure:
        figure.draw(reports, options.figure)
    complete = [not row["failed"] for content in reports for row in content["rows"]]
    return 0 if not keys or (len(reports) == len(keys) and all(complete)) else 1


def _trained(keys: list[str], options: argparse.Namespace) -> list[report.Report]:
    """Train the rows of tables, write a report of each, and return them as they are read."""
    setting = rows.setting_of(options.data, options.scale, dict(options.set))
    of_tables = {key: rows.rows_of(key, setting) for key in keys}
    every = [row for own in of_tables.values() for row in own]
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JaxtalError(f"--output {options.output}: no folder ({error.strerror})") from None
    jobs = train.plan(every, options.seeds, options.members, train.find(options.workdir))
    failed = train.run(jobs, options.workdir)
    found = train.find(options.workdir)
    reports = []
    for key, own in of_tables.items():
        table = TABLES.get(key) or rows.OWN[key]
        about = {"data": setting.suffix, "scale": options.scale, "command": _command(key, options)}
        content = report.report(table, own, options.seeds, found, failed, about)
        if any(row["n"] for row in content["rows"]):
            reports.append(report.read(report.write(content, options.output)))
        else:
            warn(f"{key}: no row could be trained; its file, if any, is left as it is")
    return reports


def _command(key: str, options: argparse.Namespace) -> list[str]:
    """Return the arguments that make this table."""
    shared: Mapping[str, object] = {
        "--table": key, "--data": options.data, "--seeds": options.seeds, "--scale": options.scale
    }  # fmt: skip
    words = [str(word) for pair in shared.items() for word in pair]
    fields = [f"{name}={value}" for name, value in options.set]
    return [*words, "--set", *fields] if fields else words


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise JaxtalError for what could not be written hours later."""
    if options.readme:
        markdown.around_block(options.readme)
    if options.figure and (
        options.figure.suffix not in (".png", ".svg", ".pdf") or not options.figure.parent.is_dir()
    ):
        raise JaxtalError(
            f"--figure {options.figure}: wanted a file .png, .svg or .pdf in a folder that there is"
        )


def main() -> None:
    """Run, and report in one line what is wrong."""
    options = parse()
    logging.set_verbosity(logging.WARNING)  # as in jaxtal.main
    runtime.enable_compilation_cache(None)
    try:
        sys.exit(run(options))
    except JaxtalError as error:
        sys.exit(runtime.fail(str(error)))
