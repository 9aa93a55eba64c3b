"""The description of a command of `jaxtal`."""

import argparse
from collections.abc import Callable
from typing import NamedTuple

from jaxtal.cli.flags import Parser


class Command(NamedTuple):
    """A command of `jaxtal`.

    Attributes:
        name: The words after `jaxtal`, such as "predict" or "data inspect".
        description: The text that --help prints; `jaxtal --help` prints its first line.
        add_flags: Function that defines the command's flags on a parser.
        run: Function that runs the command and returns its exit code; may raise JaxtalError.
        paths: Names of the positional arguments.
        prints: Whether the text on stdout is the product, without which the command fails.
        resumes: Whether the same command resumes after a signal.
    """

    name: str
    description: str
    add_flags: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]
    paths: tuple[str, ...] = ()
    prints: bool = False
    resumes: bool = False

    @property
    def summary(self) -> str:
        """First line of the description."""
        return self.description.partition("\n")[0]

    def parser(self) -> Parser:
        """Return a parser with the command's flags."""
        parser = Parser(f"jaxtal {self.name}", self.description, self.paths)
        self.add_flags(parser)
        return parser
