"""What is said to the person at the keyboard when something is wrong."""

import errno
import os
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
    """A line on stderr, once: of a job's processes only one speaks."""
    if _speaks[-1]:
        print(f"warning: {printable(message)}", file=sys.stderr)


_speaks = [True]


def keep_silent() -> None:
    """No warnings from now on; errors are still told."""
    _speaks.append(False)


def disk_is_full(error: BaseException | None) -> str | None:
    """What the system says of the disk, if that is what an error, or its cause, is about."""
    while error is not None:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


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
