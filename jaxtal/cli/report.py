r"""Write one HTML page about finished runs.

    jaxtal report --workdir runs/co2net_demo --workdir runs/d2net_demo --output report.html

The page has tables of results, training curves, AP by class, errors, and every test video with
ground truth, detections, attention and T-CAM on one time axis. It needs no network. Attention and
T-CAM need activations.npz, which a run writes with --config.evaluation.save_activations=True (also
afterwards, when its command is repeated with this field). --checkpoint=best shows the evaluation of
another checkpoint, which `jaxtal train --mode=eval --checkpoint=best` has written.
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

import argparse
import re
from pathlib import Path

from jaxtal.cli import checkpoint, flags
from jaxtal.cli.command import Command
from jaxtal.errors import warn


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    parser.add_flag("workdir", "Work directory of a finished run; may be repeated.", repeated=True)
    checkpoint.add_flag(parser)
    parser.add_flag("output", "HTML file to write.", default="report.html")
    parser.add_flag(
        "videos",
        "Largest number of test videos per data set on the page.",
        type=flags.integer(1),
        default=500,
    )


def run(args: argparse.Namespace) -> int:
    """Write the page about the runs in the given work directories."""
    folders = [*map(Path, flags.required(args, "workdir"))]
    output = Path(flags.required(args, "output"))
    flags.check_outputs(args, ["output"])
    from jaxtal.reporting import html, runs
    from jaxtal.visualization import console

    found = runs.read([runs.evaluation(folder, args.checkpoint) for folder in folders])
    size = html.write(output, found, args.videos)
    for line in (line for run in found for line in run.missing):
        warn(_with_flags(line))
    count = f"{len(found)} run{'s' * (len(found) > 1)}"
    console.print_message(f"{output}: {count}, {size / 1e6:.1f} MB; open it in a browser")
    return 0


def _with_flags(line: str) -> str:
    """Spell the arguments in a warning as flags of `jaxtal train`."""
    return re.sub(r"(?<![\w.\-])(?=mode=|config\.\w+\.)", "--", line)


COMMAND = Command("report", __doc__, add_flags, run)
