r"""Train and evaluate a run that a config describes.

    jaxtal train --config co2net_demo
    jaxtal train --config co2net_thumos --config.seed=1 --config.data.dir=FOLDER \
        --config.data.name=MyDataSet --config.train.steps=2000
    jaxtal train --config co2net_thumos:paper --help

--config takes a Python file with get_config(), or the name of a config that comes with the package
(`jaxtal configs` lists them); any field can be overridden, and with --help all are listed. The work
directory receives config.json, metrics.jsonl, result.json, detections.json (of a population in
members/), checkpoints/ and plots/. The same command resumes an interrupted run. Compiled programs
are kept in the user's cache folder. `python -m jaxtal.main` is the same command.
Exit codes: 0 success, 2 an error that you can fix (the last line says what), 75 interrupted (the
same command resumes): the run was told to stop by SIGTERM, or another process of its job was lost;
see launch/README.md.
"""

import argparse
import logging
import re
import sys
from pathlib import Path

from jaxtal.cli import flags, runtime
from jaxtal.cli.command import Command


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    flags.add_config(
        parser,
        "The config, a Python file with get_config() or a name, such as configs/co2net_demo.py or "
        "co2net_demo; FILE:TEXT passes a preset's name to it.",
    )
    parser.add_flag(
        "workdir",
        "Folder for everything that the run writes; default: runs/<config name>, for FILE:TEXT "
        "runs/<config name>_TEXT.",
    )
    parser.add_flag(
        "mode",
        "eval: only evaluate the work directory's latest checkpoint.",
        type=flags.choice("train", "eval"),
        default="train",
    )
    flags.add_compilation_cache(parser)
    parser.add_flag(
        "distributed",
        "This is one of the processes of a job that share the work; see launch/README.md.",
        type=flags.boolean,
        default=False,
    )
    parser.add_flag(
        "expect_devices",
        "Start with this number of devices only, all processes' together: a host that is missing "
        "is noticed.",
        type=flags.integer(1),
    )


def default_workdir(config_file: str) -> Path:
    """Return where a run without --workdir goes; two presets of one file must not meet."""
    from jaxtal.config import split_name

    filename, text = split_name(config_file)
    preset = re.sub(r"\W+", "_", text or "").strip("_")
    return Path("runs") / "_".join([Path(filename).stem, *filter(None, [preset])])


def run(args: argparse.Namespace) -> int:
    """Train, in a supervised process of its own if it is one of a job's."""
    from jaxtal.parallel import multihost, preemption

    if args.distributed:
        return multihost.run_supervised(lambda: runtime.reporting_errors(_train, args))
    preemption.install_sigterm_handler()
    return _train(args)


def _train(args: argparse.Namespace) -> int:
    from jaxtal.parallel import multihost, preemption
    from jaxtal.training.trainer import train_and_evaluate
    from jaxtal.visualization import console

    # Orbax logs a page for every checkpoint, and again what it then raises, which is reported here.
    runtime.quiet_absl("fatal")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    runtime.enable_compilation_cache(args.compilation_cache_dir)
    workdir = Path(args.workdir or default_workdir(args.config))
    try:
        if args.distributed:
            multihost.initialize_distributed()
        multihost.expect_devices(args.expect_devices)
        result = train_and_evaluate(
            args.loaded_config, workdir, args.mode, progress=console.progress
        )
        console.print_run(result, workdir)
    except preemption.Interrupted as how:
        print(f"{how}; the same command goes on", file=sys.stderr)
        return preemption.INTERRUPTED
    return 0


COMMAND = Command("train", __doc__, add_flags, run)
