"""Exceptions and warnings shown to the user."""

import logging
import reprlib
from typing import Any

_LOG = logging.getLogger(__name__)


class JaxtalError(Exception):
    """Base class of every error that the user can fix.

    The message is one line: what is wrong and where, what was found and what was wanted, and how
    to fix it. It speaks of arguments (`member=1`) and config fields.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(JaxtalError, ValueError):
    """An argument or a config field is unknown, impossible, or contradicts another one."""


class DataError(JaxtalError, ValueError):
    """A file, a data set or an array is missing, damaged, or not what was wanted."""


class CheckpointError(JaxtalError):
    """A checkpoint, a work directory or an exported model cannot be used."""


class NonFiniteError(JaxtalError, ArithmeticError):
    """The outputs of a model are not finite: its training has diverged."""


def warn(message: str) -> None:
    """Log a warning; the programs print it as one line on stderr."""
    _LOG.warning("%s", message)


def one_line(text: str) -> str:
    """Collapse untrusted text to one line and escape control characters."""
    if text.isprintable():
        return text
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def short_repr(value: Any, most: int = 80) -> str:
    """Return a short repr of limited depth of an untrusted value, for error messages."""
    return _SHORT.repr(value)[:most]


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxtuple = 12
