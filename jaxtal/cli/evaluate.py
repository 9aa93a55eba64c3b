r"""Evaluate detections under named protocols, and analyze their errors.

    jaxtal evaluate --annotations thumos14.json --detections detections.json \
        --protocol thumos14 --protocol thumos_co2 --output scores.json --figure errors.png

The command needs neither a model nor JAX. Annotations are a JSON file in ActivityNet form, a data
set in any layout that has annotations (see jaxtal data inspect --help), or its folder
<DS>-Annotations. Several annotations must have the same classes; the detections are evaluated
against each of them. Detections are a JSON file in ActivityNet form, in seconds. A switch behind
the protocol's name turns on a peculiarity of a published program, for example
thumos_d2+stop_at_empty_class. --against=FILE compares false positives at equal recall.
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtal.cli import flags, reading
from jaxtal.cli.command import Command

if TYPE_CHECKING:
    from jaxtal.evaluation.files import FileEvaluation

# A copy of protocols.PROTOCOLS, whose module imports NumPy; a test compares the two.
PROTOCOLS = (
    "thumos14",
    "thumos_co2",
    "thumos_d2",
    "thumos_210",
    "anet12",
    "anet13",
    "anet12_co2",
    "anet12_d2",
    "official",
    "co2",
    "d2",
)


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    parser.add_flag(
        "annotations",
        "Ground truth: an ActivityNet JSON file, or a folder in any layout that has annotations; "
        "may be repeated.",
        repeated=True,
    )
    parser.add_flag("detections", "JSON file in ActivityNet form, with times in seconds.")
    parser.add_flag(
        "protocol", f"Protocol, one of {', '.join(PROTOCOLS)}; may be repeated.", repeated=True
    )
    parser.add_flag("output", "JSON file for all numbers; without it none is written.")
    parser.add_flag(
        "figure",
        "File for the figure (.png, .pdf, .svg) of the errors under the first protocol; without it "
        "none is written.",
    )
    parser.add_flag(
        "errors_at",
        "t-IoU threshold at which detections are classified by error type.",
        type=flags.number,
        default=0.5,
    )
    parser.add_flag(
        "top",
        "Number of false positives with the highest scores to list.",
        type=flags.integer(0),
        default=10,
    )
    parser.add_flag(
        "against",
        "Detections of another model in the same videos, JSON as --detections: compare the numbers "
        "of false positives where both have found equally many instances.",
    )
    reading.add_annotation_flags(parser)
    parser.add_flag(
        "skip_unknown",
        "Skip and count detections of unknown videos and classes, which are an error by default.",
        type=flags.boolean,
        default=False,
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate detections, write the figure and the numbers, and print tables."""
    annotations = [*dict.fromkeys(map(Path, flags.required(args, "annotations")))]
    detections = Path(flags.required(args, "detections"))
    names = [*dict.fromkeys(flags.required(args, "protocol"))]
    inputs = [*annotations, detections, *([Path(args.against)] if args.against else [])]
    flags.check_outputs(args, ["output", "figure"], inputs)
    from jaxtal.data.io import json_files
    from jaxtal.evaluation.files import evaluate_files
    from jaxtal.visualization import console

    evaluated = evaluate_files(
        annotations,
        detections,
        names,
        errors_at=args.errors_at,
        top=args.top,
        skip_unknown=args.skip_unknown,
        options=reading.options(args),
        against=Path(args.against) if args.against else None,
    )
    if args.figure:
        _draw(Path(args.figure), evaluated)
    if args.output:  # before anything is printed: stdout may be closed
        json_files.write(Path(args.output), json_files.to_text(evaluated.report))
    rows = evaluated.report["protocols"]
    console.print_evaluations(rows)
    console.print_errors(*next(iter(rows.items())))
    if evaluated.report.get("equal_recall"):
        console.print_equal_recall(evaluated.report["equal_recall"], args.errors_at)
    return 0


def _draw(path: Path, evaluated: "FileEvaluation") -> None:
    """Save the figure of the errors under the first protocol."""
    from jaxtal.visualization import plots

    plots.save(plots.draw_errors(evaluated.first, evaluated.first_errors), path)


COMMAND = Command("evaluate", __doc__, add_flags, run, prints=True)
