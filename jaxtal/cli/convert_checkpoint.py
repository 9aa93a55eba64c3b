r"""Convert checkpoints of the published PyTorch programs, and back, without PyTorch.

    jaxtal convert-checkpoint --method co2net --torch best.pkl --workdir runs/published \
        --config co2net_thumos --config.data.dir=FOLDER --classes FOLDER
    jaxtal convert-checkpoint --method co2net --workdir runs/mine --to_torch mine.pkl

The first command writes a checkpoint of step 0. `jaxtal train --mode=eval` evaluates it, and
`jaxtal train` continues training from it, with Adam's moments at zero, because PyTorch's state
dicts do not contain them. --config and --classes are optional; with both, the work directory holds
everything that `jaxtal predict` needs. Give the config of the data set that the checkpoint was
trained on: for ActivityNet 1.2 co2net_anet12 or d2net_anet12. The shapes of the parameters do not
determine CO2-Net's pool_window and D2-Net's dilation. The second command writes a state dict for
load_state_dict of the published program. PyTorch is not needed in either direction.
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

import argparse
import shlex
from pathlib import Path

from jaxtal.cli import checkpoint, flags, runtime
from jaxtal.cli.command import Command


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    parser.add_flag("method", "Method of the checkpoint: co2net or d2net.")
    parser.add_flag("workdir", "Work directory, which --torch writes and --to_torch reads.")
    parser.add_flag("torch", "PyTorch file to read and convert to a work directory.")
    parser.add_flag(
        "to_torch", "PyTorch file to write from the newest checkpoint of the work directory."
    )
    flags.add_config(
        parser,
        "Config of later runs in the work directory, a Python file or a name; optional, with "
        "--torch only.",
        required=False,
    )
    parser.add_flag(
        "classes",
        "Class names in the order of the outputs: a text file with one name per line, "
        "classlist.npy, an ActivityNet JSON file, or a folder in any layout that has annotations; "
        "optional, with --torch only.",
    )
    parser.add_flag(
        "member",
        "Member of a population, counted from 0, with --to_torch only; default: the first one.",
        type=flags.integer(),
    )
    checkpoint.add_flag(parser, default=None)


def run(args: argparse.Namespace) -> int:
    """Convert in the direction that the flags select."""
    from jaxtal.cli import hooks

    runtime.quiet_absl("fatal")  # Orbax logs a page for every checkpoint
    hooks.quiet_asyncio()
    _check_flags(args)
    method, workdir = flags.required(args, "method"), Path(flags.required(args, "workdir"))
    (_from_torch if args.torch else _to_torch)(args, method, workdir)
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    """Raise UsageError for two directions, none, or a flag of the other direction."""
    if bool(args.torch) == bool(args.to_torch):
        raise flags.UsageError(
            "wanted either --torch, a file to read, or --to_torch, a file to write"
        )
    wrong = ["member", "checkpoint"] if args.torch else ["classes", "config"]
    for name in wrong:
        if getattr(args, name) is not None:
            other = "to_torch" if args.torch else "torch"
            raise flags.UsageError(f"--{name} is for --{other} only; remove it")


def _from_torch(args: argparse.Namespace, method: str, workdir: Path) -> None:
    from jaxtal.checkpoint_conversion import convert

    classes = convert.read_classes(Path(args.classes)) if args.classes else ()
    source = Path(args.torch)
    (features, count, _), parameters, named = convert.from_torch(
        method, source, workdir, args.loaded_config, classes
    )
    print(
        f"{method}, {count} classes, {features} features per modality, {parameters:,} parameters: "
        f"{source} is step 0 in {workdir}"
    )
    print(f"to evaluate it: {_evaluation(args, method, workdir, named)}")


def _evaluation(args: argparse.Namespace, method: str, workdir: Path, named: bool) -> str:
    """Return the command that evaluates the work directory, with the overrides of the config.

    The data set of the config is the checkpoint's only if it gave the names of the classes.
    """
    options = [("config", f"{method}_thumos"), ("config.data.dir", "FOLDER")]
    if args.config is not None:
        changed = {f"config.{field}": text for field, text in args.overrides}
        folder = {} if named else {"config.data.dir": "FOLDER"}
        options = [("config", args.config), *(changed | folder).items()]
    options += [("workdir", str(workdir)), ("mode", "eval")]
    return shlex.join(["jaxtal", "train", *(f"--{name}={value}" for name, value in options)])


def _to_torch(args: argparse.Namespace, method: str, workdir: Path) -> None:
    from jaxtal.checkpoint_conversion import convert

    flags.check_outputs(args, ["to_torch"])
    members = convert.to_torch(
        method, workdir, Path(args.to_torch), args.member, args.checkpoint or "last"
    )
    chosen = f", member {args.member or 0} of {members}" if members > 1 else ""
    hint = " (--member chooses another)" if chosen and args.member is None else ""
    print(
        f"{method} from {workdir}{chosen}{hint} is in {args.to_torch}; the published program loads "
        "it with load_state_dict(torch.load(FILE))"
    )


COMMAND = Command("convert-checkpoint", __doc__, add_flags, run)
