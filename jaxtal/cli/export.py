r"""Export a trained model as one file.

    jaxtal export --workdir runs/co2net_demo --output model.jaxtal
    jaxtal predict --exported model.jaxtal --features FOLDER --output detections.json

The file holds the network of the work directory's latest checkpoint, for CPUs, GPUs and TPUs, with
its parameters, the class names, the time grid and how to localize. Predicting with it needs no
config, no work directory and none of the model's code.
Exit codes: 0 success, 2 an error that you can fix (the last line says what).
"""

import argparse
from pathlib import Path

from jaxtal.cli import flags, runtime
from jaxtal.cli.command import Command
from jaxtal.cli.predict import add_members


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    parser.add_flag("workdir", "The work directory of the run.")
    parser.add_flag("output", "The file to write.", default="model.jaxtal")
    add_members(parser)


def run(args: argparse.Namespace) -> int:
    """Write the model of a work directory to one file."""
    runtime.quiet_absl("warning")
    flags.check_outputs(args, ["output"])
    workdir = Path(flags.required(args, "workdir"))
    output = Path(flags.required(args, "output"))
    from jaxtal.inference import exported, restore
    from jaxtal.visualization import console

    header = exported.export_model(
        output, restore.load_work_directory(workdir, args.member, args.ensemble)
    )
    console.say(
        f"{header['method']}, {len(header['classes'])} classes, {header['feature_width']} features "
        f"a snippet, for {', '.join(header['platforms'])}: {output}, "
        f"{output.stat().st_size / 2**20:.1f} MiB; jaxtal predict --exported {output} predicts "
        "with it"
    )
    return 0


COMMAND = Command("export", __doc__, add_flags, run)
