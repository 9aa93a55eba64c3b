r"""Train and compare all combinations of loss weights, optimizer and localization.

    jaxtal search --config twostream_demo --seeds 3 \
        --grid "loss.weights.semantic=0,0.05 localization.class_threshold=0.05,0.1,0.2"

Loss weights, learning rate and weight decay are trained as one population; fields of the
localization need no further training. The combinations are compared on the validation videos; if
the data set has none, on the test videos, with a warning. All are in search.json in --workdir.
Exit codes: 0 success, 2 user error (see the last line of stderr), 75 interrupted (the same command
resumes).
"""

import argparse
import sys
from pathlib import Path

from jaxtal.cli import flags, runtime, train
from jaxtal.cli.command import Command


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    flags.add_config(parser, "Config of a run with one model; fields by --config.FIELD=VALUE.")
    parser.add_flag(
        "grid",
        'Values of each field, such as "loss.weights.norm=0,0.8 localization.sigma=0.2,0.3".',
    )
    parser.add_flag(
        "seeds", "Number of seeds of each combination.", type=flags.integer(1), default=1
    )
    parser.add_flag(
        "workdir", "Folder of the trained population; default: runs/<config name>_search."
    )
    parser.add_flag("top", "Number of rows to print.", type=flags.integer(1), default=20)
    flags.add_compilation_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Search, and print the best combinations."""
    from jaxtal.cli import hooks
    from jaxtal.parallel import preemption
    from jaxtal.training import search
    from jaxtal.visualization import console

    runtime.quiet_absl("fatal")  # Orbax logs a page per checkpoint
    hooks.quiet_asyncio()
    grid = search.parse_grid(flags.required(args, "grid"), args.loaded_config)
    default = train.default_workdir(args.config)
    workdir = Path(args.workdir or default.with_name(f"{default.name}_search"))
    runtime.enable_compilation_cache(args.compilation_cache_dir)
    try:
        found = search.search(
            args.loaded_config, workdir, grid, args.seeds, progress=console.progress
        )
    except preemption.Interrupted as how:
        print(f"{how}; the same command resumes", file=sys.stderr)
        return preemption.exit_code()
    console.print_search(found, args.top, workdir / search.NAME)
    return 0


COMMAND = Command("search", __doc__, add_flags, run, resumes=True)
