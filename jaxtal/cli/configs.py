"""List the configs that come with the package.

    jaxtal configs
    jaxtal train --config co2net_demo --help

`jaxtal train --config NAME` trains with one of them, from any folder. With --help in addition it
lists every field of the config.
Exit code: 0 success.
"""

import argparse
import ast

from jaxtal.cli import flags
from jaxtal.cli.command import Command


def add_flags(parser: flags.Parser) -> None:
    """Define no flags."""


def run(args: argparse.Namespace) -> int:
    """Print the name and the summary of every shipped config."""
    from jaxtal.config import config_names

    for name in config_names():
        print(f"{name:<20}{_summary(name)}")
    return 0


def _summary(name: str) -> str:
    """Return the first line of a shipped config's docstring; the file is not executed."""
    from jaxtal.config import locate_config

    source = locate_config(name).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


COMMAND = Command("configs", __doc__, add_flags, run, prints=True)
