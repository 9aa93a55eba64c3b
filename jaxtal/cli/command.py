"""What one of the commands of `jaxtal` consists of."""

import argparse
from collections.abc import Callable
from typing import NamedTuple

from jaxtal.cli.flags import Parser


class Command(NamedTuple):
    """A command.

    Attributes:
        name: its words, "predict" or "data inspect".
        description: printed by --help; its first line also by `jaxtal --help`.
        add_flags: defines its flags.
        run: does the work, and returns the exit code; may raise JaxtalError.
        paths: names of its positional arguments.
    """

    name: str
    description: str
    add_flags: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]
    paths: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of the description."""
        return self.description.partition("\n")[0]

    def parser(self) -> Parser:
        """Return a parser of the command's flags."""
        parser = Parser(f"jaxtal {self.name}", self.description, self.paths)
        self.add_flags(parser)
        return parser
