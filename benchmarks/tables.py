"""The papers' tables, trained here with several seeds, beside the papers' numbers.

    python -m benchmarks.tables --table co2net/3 --data configs/co2net_demo.py --seeds 5
    python -m benchmarks.tables --table all methods --data demo --scale table --readme README.md

--table: co2net/1 to /6, d2net/1 to /4, twostream/1 to /6; `all`, those of THUMOS14; `all-anet`,
those of ActivityNet; `methods`, all methods under one protocol, and ensembles. Rows are trained on
the data of a config file METHOD_SUFFIX.py, those of other methods on that method's file with the
same suffix. What is trained already is not trained again, and what was interrupted continues.
Every table becomes a JSON, a CSV and a Markdown file in the output folder, all of them together its
README.md; --readme puts that into a file, between `<!-- tables -->` and `<!-- /tables -->`.

Exit codes: 0 done, 1 a row, or one of its seeds, could not be trained (the table says why), 2
something that you can mend (the last line says what).
"""

import argparse
import sys
from pathlib import Path

from absl import logging

from benchmarks import table_figure, table_report, table_rows, table_runs, table_text
from benchmarks.end_to_end import field
from benchmarks.published import TABLES
from jaxtal.cli import runtime
from jaxtal.data.io import json_files
from jaxtal.errors import JaxtalError, warn

_SETS = {
    "all": [key for key, table in TABLES.items() if not table.activitynet],
    "all-anet": [key for key, table in TABLES.items() if table.activitynet],
}
_NAMES = [*TABLES, *_SETS, *table_rows.OWN]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--table", nargs="+", action="extend", choices=_NAMES, required=True, metavar="TABLE",
        help=", ".join(_NAMES),
    )  # fmt: skip
    parser.add_argument(
        "--data", default="demo", metavar="CONFIG",
        help="a config file METHOD_SUFFIX.py, or its suffix; default: demo",
    )  # fmt: skip
    parser.add_argument("--seeds", type=_positive, default=5, help="of each row; default: 5")
    parser.add_argument(
        "--scale", choices=list(table_rows.SCALES), default="config",
        help="config: steps and sizes as the config says; table: small ones, for many rows",
    )  # fmt: skip
    parser.add_argument(
        "--set", nargs="+", action="extend", type=field, default=[], metavar="FIELD=VALUE",
        help="other fields of every row's config, e.g. data.dir=FOLDER",
    )  # fmt: skip
    parser.add_argument(
        "--members", type=_positive, default=10,
        help="of rows trained together, models at once; a row's seeds stay together; default: 10",
    )  # fmt: skip
    parser.add_argument("--workdir", type=Path, default=Path("runs/tables"), help="for the runs")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/tables"))
    parser.add_argument("--readme", type=Path, metavar="FILE", help="has the tables put into it")
    parser.add_argument(
        "--figure", type=Path, nargs="?", const=Path("docs/tables.png"), metavar="FILE",
        help="draws the ablation tables; docs/tables.png where no file is named",
    )  # fmt: skip
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def run(options: argparse.Namespace) -> int:
    """Train what is missing and write the tables; the exit code."""
    _check_outputs(options)
    setting = table_rows.setting_of(options.data, options.scale, dict(options.set))
    keys = [key for name in options.table for key in _SETS.get(name, [name])]
    rows = {key: table_rows.rows_of(key, setting) for key in dict.fromkeys(keys)}
    every = [row for own in rows.values() for row in own]
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JaxtalError(f"--output {options.output}: no folder ({error.strerror})") from None
    jobs = table_runs.plan(every, options.seeds, options.members, table_runs.find(options.workdir))
    failed = table_runs.run(jobs, options.workdir)
    found = table_runs.find(options.workdir)
    shared = ["--data", options.data, "--seeds", str(options.seeds), "--scale", options.scale]
    shared += ["--set", *(f"{name}={value}" for name, value in options.set)] * bool(options.set)
    reports = []
    for key, own in rows.items():
        table = TABLES.get(key) or table_rows.OWN[key]
        command = ["--table", key, *shared]
        about = {"data": setting.suffix, "scale": options.scale, "command": command}
        content = table_report.report(table, own, options.seeds, found, failed, about)
        if not any(row["n"] for row in content["rows"]):
            warn(f"{key}: no row could be trained; its files, if any, are left as they are")
            continue
        path = table_report.write(content, options.output)
        reports.append(table_report.read(path))
        json_files.write(path.with_suffix(".md"), table_text.markdown(reports[-1]))
        json_files.write(path.with_suffix(".csv"), table_text.to_csv(reports[-1]))
        print(table_text.markdown(reports[-1]))
    every_table = map(table_text.markdown, table_report.read_all(options.output))
    text = "\n".join(every_table)
    json_files.write(options.output / "README.md", f"{_HEADING}\n{text}")
    if options.readme:
        table_text.replace_block(options.readme, text)
    if options.figure:
        table_figure.draw(reports, options.figure)
    whole = [not row["failed"] for content in reports for row in content["rows"]]
    return 0 if len(reports) == len(rows) and all(whole) else 1


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise JaxtalError for what could not be written hours later."""
    if options.readme:
        table_text.around_block(options.readme)
    if options.figure and (
        options.figure.suffix not in (".png", ".svg", ".pdf") or not options.figure.parent.is_dir()
    ):
        raise JaxtalError(
            f"--figure {options.figure}: wanted a file .png, .svg or .pdf in a folder that there is"
        )


_HEADING = "# The papers' tables, trained here with several seeds\n"


def main() -> None:
    """Run, and say in one line what is wrong."""
    options = parse()
    logging.set_verbosity(logging.WARNING)  # as in jaxtal.main
    runtime.enable_compilation_cache(None)
    try:
        sys.exit(run(options))
    except JaxtalError as error:
        sys.exit(runtime.fail(str(error)))


if __name__ == "__main__":
    main()
