r"""Train a method and evaluate it, as a config describes.

    jaxtal train --config co2net_demo
    jaxtal train --config co2net_thumos --config.seed=1 --config.data.dir=FOLDER \
        --config.data.name=MyDataSet --config.train.steps=2000
    jaxtal train --config co2net_thumos:paper --help

--config is a Python file with get_config(), or the name of a shipped config (`jaxtal configs` lists
them). --config.FIELD=VALUE overrides a field, and --config NAME --help lists all fields. The work
directory receives config.json, metrics.jsonl, result.json, detections.json (for each member of a
population in members/), checkpoints/ and plots/. The same command resumes an interrupted run.
Compiled programs are cached in the user's cache folder. `python -m jaxtal.main` is the same
command.
Exit codes: 0 success, 2 user error (see the last line of stderr), 75 interrupted by SIGTERM or
SIGHUP, or by the loss of another process of the job, 130 interrupted by Ctrl-C. After 75 and 130
the same command resumes; see docs/guides/training.md. A second Ctrl-C ends the run at once.
"""

import argparse
import re
import sys
from pathlib import Path

from jaxtal.cli import checkpoint, flags, runtime
from jaxtal.cli.command import Command


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    flags.add_config(
        parser,
        "Config, a Python file with get_config() or a name, such as configs/co2net_demo.py or "
        "co2net_demo; FILE:PRESET selects a preset.",
    )
    parser.add_flag(
        "workdir",
        "Folder for all files of the run; default: runs/<config name>, for FILE:PRESET "
        "runs/<config name>_PRESET.",
    )
    parser.add_flag(
        "mode",
        "Train and evaluate, or (eval) evaluate a checkpoint of the work directory. eval writes to "
        "evaluations/ in it, also with another localization, protocol or time grid.",
        type=flags.choice("train", "eval"),
        default="train",
    )
    checkpoint.add_flag(parser)
    flags.add_compilation_cache(parser)
    parser.add_flag(
        "distributed",
        "Run as one process of a multi-process job; see docs/guides/devices.md.",
        type=flags.boolean,
        default=False,
    )
    parser.add_flag(
        "expect_devices",
        "Number of devices of all processes together that the run needs, so that a missing host is "
        "an error; default: any number.",
        type=flags.integer(1),
    )


def default_workdir(config_file: str) -> Path:
    """Return the work directory of a run without --workdir.

    Args:
        config_file: Value of --config, FILE or FILE:PRESET.

    Returns:
        runs/FILE, or runs/FILE_PRESET.
    """
    from jaxtal.config import split_name

    filename, text = split_name(config_file)
    preset = re.sub(r"\W+", "_", text or "").strip("_")
    return Path("runs") / "_".join([Path(filename).stem, *filter(None, [preset])])


def run(args: argparse.Namespace) -> int:
    """Train, in a supervised child process if the process is one of a job."""
    from jaxtal.parallel import multihost

    if args.distributed:
        return multihost.run_supervised(lambda: runtime.reporting_errors(_train, args))
    return _train(args)


def _train(args: argparse.Namespace) -> int:
    from jaxtal.cli import hooks
    from jaxtal.parallel import multihost, preemption
    from jaxtal.training.trainer import train_and_evaluate
    from jaxtal.training.workdir import Workdir
    from jaxtal.visualization import console

    # Orbax logs a page per checkpoint, and repeats errors that are reported below.
    runtime.quiet_absl("fatal")
    hooks.quiet_asyncio()
    runtime.enable_compilation_cache(args.compilation_cache_dir)
    workdir = Path(args.workdir or default_workdir(args.config))
    if args.checkpoint != "last" and args.mode != "eval":
        raise flags.UsageError(
            "--checkpoint is for --mode=eval; training resumes from the last checkpoint"
        )
    try:
        if args.distributed:
            multihost.initialize_distributed()
        multihost.expect_devices(args.expect_devices)
        result = train_and_evaluate(
            args.loaded_config,
            workdir,
            args.mode,
            checkpoint=args.checkpoint,
            progress=console.progress,
        )
        files = Workdir(workdir)
        if args.mode == "eval":
            files = files.evaluation_dir(result["step"], result.get("changed", {}))
        console.print_run(result, files.path)
    except preemption.Interrupted as how:
        print(f"{how}; the same command resumes", file=sys.stderr)
        return preemption.INTERRUPTED if args.distributed else preemption.exit_code()
    return 0


COMMAND = Command("train", __doc__, add_flags, run, resumes=True)
