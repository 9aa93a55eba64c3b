r"""Export a trained model to one file.

    jaxtal export --workdir runs/co2net_demo --output model.jaxtal
    jaxtal predict --exported model.jaxtal --features FOLDER --output detections.json

The file contains the network of the last checkpoint, or of --checkpoint, lowered for CPU, GPU and
TPU, its parameters, the class names, the time grid and the localization settings. `jaxtal predict`
with this file needs no config, no work directory and no code of the method. The file is a program:
load files from trusted sources only.
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

import argparse
from pathlib import Path

from jaxtal.cli import flags, runtime
from jaxtal.cli.command import Command
from jaxtal.cli.predict import add_members


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    parser.add_flag("workdir", "Work directory of the run to export.")
    parser.add_flag("output", "File to write.", default="model.jaxtal")
    add_members(parser)


def run(args: argparse.Namespace) -> int:
    """Write the model of a work directory to one file."""
    runtime.quiet_absl("fatal")
    flags.check_outputs(args, ["output"])
    workdir = Path(flags.required(args, "workdir"))
    output = Path(flags.required(args, "output"))
    from jaxtal.inference import exported, restore
    from jaxtal.visualization import console

    header = exported.export_model(
        output, restore.load_work_directory(workdir, args.member, args.ensemble, args.checkpoint)
    )
    console.print_message(
        f"{header['method']}, {len(header['classes'])} classes, {header['feature_width']} features "
        f"per snippet, for {', '.join(header['platforms'])}: {output}, "
        f"{output.stat().st_size / 2**20:.1f} MiB; jaxtal predict --exported {output} predicts "
        "with it"
    )
    return 0


COMMAND = Command("export", __doc__, add_flags, run)
