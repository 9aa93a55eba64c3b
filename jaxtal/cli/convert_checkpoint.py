r"""Convert checkpoints of the published PyTorch programs, and back, without PyTorch.

    jaxtal convert-checkpoint --method co2net --torch best.pkl --workdir runs/published \
        --config co2net_thumos --config.data.dir=FOLDER --classes FOLDER
    jaxtal convert-checkpoint --method co2net --workdir runs/mine --to_torch mine.pkl

The first writes a checkpoint of step 0, which `jaxtal train --mode=eval` evaluates and
`jaxtal train` trains on from (with Adam's moments zero: PyTorch's state dicts have none). --config
and --classes are optional; with both the work directory holds all that predictions need. Of
D2-Net's networks d2net_anet12 is the config for ActivityNet 1.2, of CO2-Net's co2net_anet12: shapes
do not tell everything. The second writes what the published program's load_state_dict takes.
Exit codes: 0 success, 2 an error that you can fix (the last line says what).
"""

import argparse
import shlex
from pathlib import Path

from jaxtal.cli import flags, runtime
from jaxtal.cli.command import Command


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    parser.add_flag("method", "co2net or d2net.")
    parser.add_flag("workdir", "The work directory to write, or to read.")
    parser.add_flag("torch", "PyTorch's file, to be made a work directory.")
    parser.add_flag(
        "to_torch", "PyTorch's file to write, from the work directory's latest checkpoint."
    )
    flags.add_config(
        parser,
        "With --torch, optional: the config of the runs in the work directory, a file or a name.",
        required=False,
    )
    parser.add_flag(
        "classes",
        "With --torch, optional: class names in the order of the outputs; a text file with a name "
        "a line, classlist.npy, a JSON file in ActivityNet form, or a folder in any layout that "
        "has annotations.",
    )
    parser.add_flag(
        "member", "With --to_torch: which member of a population.", type=flags.integer()
    )


def run(args: argparse.Namespace) -> int:
    """Convert in the direction that the flags ask for."""
    runtime.quiet_absl("error")  # Orbax logs a page for every checkpoint
    _check_flags(args)
    method, workdir = flags.required(args, "method"), Path(flags.required(args, "workdir"))
    (_from_torch if args.torch else _to_torch)(args, method, workdir)
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    """Raise UsageError unless the flags ask for one direction and no flag is of the other."""
    if bool(args.torch) == bool(args.to_torch):
        raise flags.UsageError(
            "wanted either --torch, a file to read, or --to_torch, a file to write"
        )
    wrong = ["member"] if args.torch else ["classes", "config"]
    for name in wrong:
        if getattr(args, name) is not None:
            other = "to_torch" if args.torch else "torch"
            raise flags.UsageError(f"--{name} only acts with --{other}; leave it out")


def _from_torch(args: argparse.Namespace, method: str, workdir: Path) -> None:
    from jaxtal.checkpoint_conversion import convert

    classes = convert.read_classes(Path(args.classes)) if args.classes else ()
    source = Path(args.torch)
    (features, count, _), parameters = convert.from_torch(
        method, source, workdir, args.loaded_config, classes
    )
    print(
        f"{method}, {count} classes, {features} features a modality, {parameters:,} parameters: "
        f"{source} is step 0 in {workdir}"
    )
    print(f"to evaluate it: {_evaluation(args, method, workdir)}")


def _evaluation(args: argparse.Namespace, method: str, workdir: Path) -> str:
    """Return the command that evaluates a work directory, with the config's overrides."""
    options = [("config", f"{method}_thumos"), ("config.data.dir", "FOLDER")]
    if args.config is not None:
        changed = [(f"config.{field}", text) for field, text in args.overrides]
        options = [("config", args.config), *changed]
    options += [("workdir", str(workdir)), ("mode", "eval")]
    return shlex.join(["jaxtal", "train", *(f"--{name}={value}" for name, value in options)])


def _to_torch(args: argparse.Namespace, method: str, workdir: Path) -> None:
    from jaxtal.checkpoint_conversion import convert

    flags.check_outputs(args, ["to_torch"])
    members = convert.to_torch(method, workdir, Path(args.to_torch), args.member)
    chosen = f", member {args.member or 0} of {members}" if members > 1 else ""
    hint = " (--member chooses another)" if chosen and args.member is None else ""
    print(
        f"{method} from {workdir}{chosen}{hint} is in {args.to_torch}; the published program reads "
        "it with load_state_dict(torch.load(FILE))"
    )


COMMAND = Command("convert-checkpoint", __doc__, add_flags, run)
