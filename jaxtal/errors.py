"""Exceptions and warnings shown to the user."""

import logging
import reprlib
from typing import Any

_LOG = logging.getLogger(__name__)


class JaxtalError(Exception):
    """Base class of all errors that the user can fix.

    The message is one line: the place of the error, the value found, the value wanted, and how to
    fix it. It names arguments as `member=1` and config fields as `config.seed`; the console
    commands spell the arguments as flags.

    Examples:
        >>> try: jaxtal.load_model("runs/none")
        ... except jaxtal.JaxtalError as error: print(error)
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(JaxtalError, ValueError):
    """An argument or a config field is unknown, invalid, or conflicts with another one."""


class DataError(JaxtalError, ValueError):
    """A file, a data set or an array is missing, damaged, or of the wrong form."""


class CheckpointError(JaxtalError):
    """A checkpoint, a work directory or an exported model is missing, damaged or unsuitable."""


class NonFiniteError(JaxtalError, ArithmeticError):
    """The outputs of a model are not finite, because its training has diverged."""


def warn(message: str) -> None:
    """Log a warning, which the console commands print as one line on stderr.

    Args:
        message: The warning, with names and numbers in place.
    """
    _LOG.warning("%s", message)


def one_line(text: str) -> str:
    """Collapse untrusted text to one line and escape control characters.

    Args:
        text: Any text, for example from a file.
    """
    if text.isprintable():
        return text
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def short_repr(value: Any, most: int = 80) -> str:
    """Return a short, depth-limited repr of an untrusted value, for error messages.

    Args:
        value: The value.
        most: Largest number of characters.
    """
    return _SHORT.repr(value)[:most]


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxtuple = 12
