"""What is said to the person at the keyboard when something is wrong."""

import reprlib
import sys
from typing import Any


class JaxtalError(Exception):
    """Something that the user can mend; the command line prints it as one line and exits with 2.

    The message says what is wrong and where, what was found and what was wanted, and how to fix it.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(JaxtalError, ValueError):
    pass


class DataError(JaxtalError, ValueError):
    pass


class CheckpointError(JaxtalError):
    pass


class NonFiniteError(JaxtalError, ArithmeticError):
    """A model's outputs are not finite: its training has diverged."""


def warn(message: str) -> None:
    """A line on stderr, once: of a job's processes only one speaks."""
    if _speaks[-1]:
        print(f"warning: {one_line(message)}", file=sys.stderr)


_speaks = [True]


def keep_silent() -> None:
    """No warnings from now on; errors are still told."""
    _speaks.append(False)


def one_line(text: str) -> str:
    """`text` as one line, in which nothing commands a terminal: it may be a file's own."""
    if text.isprintable():
        return text
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def short_repr(value: Any, most: int = 80) -> str:
    """What a stranger's file holds, for a message: neither long, nor deep, nor soon endless."""
    return _SHORT.repr(value)[:most]


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxtuple = 12
