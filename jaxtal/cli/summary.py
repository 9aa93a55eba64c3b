"""Print the number of parameters of a config's network, and what a video and a step cost.

    jaxtal summary --config co2net_thumos
    jaxtal summary --config d2net_anet12:paper --config.model.dilation=1
    jaxtal summary --config co2net_audio --classes 10

No data are read: the classes are those of THUMOS14, ActivityNet or the generated videos, and the
features those of I3D; --classes and --config.data.stream_widths set others.
Exit codes: 0 success, 2 user error (see the last line of stderr).
"""

import argparse

from jaxtal.cli import flags
from jaxtal.cli.command import Command


def add_flags(parser: flags.Parser) -> None:
    """Define the command's flags."""
    flags.add_config(parser, "Config, a Python file or a name; fields by --config.FIELD=VALUE.")
    parser.add_flag(
        "classes",
        "Number of classes; default: that of the data set that the config names.",
        type=flags.integer(1),
    )


def run(args: argparse.Namespace) -> int:
    """Print the summary."""
    from jaxtal.training.model_summary import summarize
    from jaxtal.visualization import console

    config = args.loaded_config
    found = summarize(config, args.classes)
    console.print_model(found._asdict(), config.data.num_snippets, config.train.batch_size)
    return 0


COMMAND = Command("summary", __doc__, add_flags, run, prints=True)
