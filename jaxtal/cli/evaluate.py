r"""Evaluate detections under named protocols, and analyze their errors.

    jaxtal evaluate --annotations thumos14.json --detections detections.json \
        --protocol thumos14 --protocol thumos_co2 --output scores.json --figure errors.png

Neither a model nor JAX is needed. Annotations: a JSON file in ActivityNet form, a data set in any
layout that has annotations (as jaxtal data inspect --help lists them), or its folder
<DS>-Annotations alone; of several, which must have the same classes, each is evaluated against.
Detections: JSON in that form, in seconds. Published quirks are switches behind a protocol's name,
as in thumos_d2+stop_at_empty_class.
Exit codes: 0 success, 2 an error that you can fix (the last line says what).
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtal.cli import flags
from jaxtal.cli.command import Command

if TYPE_CHECKING:
    from jaxtal.evaluation.files import FileEvaluation

# protocols.PROTOCOLS, which imports NumPy; a test compares the two.
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
        "Ground truth: JSON file in ActivityNet form, or a folder in any layout that has "
        "annotations; may be repeated.",
        repeated=True,
    )
    parser.add_flag("detections", "JSON file in ActivityNet form.")
    parser.add_flag("protocol", f"May be repeated; one of {', '.join(PROTOCOLS)}.", repeated=True)
    parser.add_flag("output", "JSON file for every number.")
    parser.add_flag("figure", "Figure (.png, .pdf, .svg) of the errors under the first protocol.")
    parser.add_flag(
        "errors_at", "t-IoU at which errors are told apart.", type=flags.number, default=0.5
    )
    parser.add_flag("top", "How many false positives to list.", type=flags.integer(0), default=10)
    parser.add_flag(
        "skip_unknown",
        "Leave out, and count, detections of unknown videos and classes.",
        type=flags.boolean,
        default=False,
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the figure and the numbers, and print tables."""
    annotations = [*dict.fromkeys(map(Path, flags.required(args, "annotations")))]
    detections = Path(flags.required(args, "detections"))
    names = [*dict.fromkeys(flags.required(args, "protocol"))]
    flags.check_outputs(args, ["output", "figure"], [*annotations, detections])
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
    )
    if args.figure:
        _draw(Path(args.figure), evaluated)
    if args.output:  # first, whatever becomes of what is printed
        json_files.write(Path(args.output), json_files.to_text(evaluated.report))
    rows = evaluated.report["protocols"]
    console.print_evaluations(rows)
    console.print_errors(*next(iter(rows.items())))
    return 0


def _draw(path: Path, evaluated: "FileEvaluation") -> None:
    """Save a figure of the errors under the first protocol."""
    from jaxtal.visualization import plots

    try:
        plots.save(plots.draw_errors(evaluated.first, evaluated.first_errors), path)
    except (OSError, ValueError) as error:
        raise flags.UsageError(f"--figure {path}: cannot be written ({error})") from None


COMMAND = Command("evaluate", __doc__, add_flags, run)
