"""List the configs that come with the package.

    jaxtal configs
    jaxtal train --config co2net_demo --help

`jaxtal train --config NAME` runs one of them from any folder, with --help it lists every field.
"""

import argparse
import ast

from jaxtal.cli import flags
from jaxtal.cli.command import Command


def add_flags(parser: flags.Parser) -> None:
    """Define no flags: the command has none."""


def run(args: argparse.Namespace) -> int:
    """Print each config's name and the first line of its docstring."""
    from jaxtal.config import config_names

    for name in config_names():
        print(f"{name:<20}{_summary(name)}")
    return 0


def _summary(name: str) -> str:
    """Return the first line of a shipped config's docstring, without running the file."""
    from jaxtal.config import locate_config

    source = locate_config(name).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


COMMAND = Command("configs", __doc__, add_flags, run)
