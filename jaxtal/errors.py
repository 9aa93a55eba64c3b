"""What is said to the person at the keyboard when something is wrong."""

import reprlib
import sys
from typing import Any


class UserError(Exception):
    """Something that the user can mend; the command line prints it as one line and exits with 2.

    The message says what is wrong and where, what was found and what was wanted, and how to fix it.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class NotFiniteError(UserError):
    """A model's outputs are not finite: its training has diverged."""


def warn(message: str) -> None:
    """A line on stderr."""
    print(f"warning: {printable(message)}", file=sys.stderr)


def printable(text: str) -> str:
    """`text` as one line, in which nothing commands a terminal: it may be a file's own."""
    if text.isprintable():
        return text
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def shown(value: Any, most: int = 80) -> str:
    """What a stranger's file holds, for a message: neither long, nor deep, nor soon endless."""
    return _SHORT.repr(value)[:most]


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxtuple = 12
