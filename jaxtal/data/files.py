"""Opening files that are files, and writing them so that they appear at once or not at all."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jaxtal.errors import UserError


def open_regular(path: Path) -> BinaryIO:
    """A file opened for reading, if it is one: a pipe or a device might never end.

    Raises:
        UserError: it is missing, cannot be read, or is something else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path!s}: cannot be read ({reason})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path}: cannot be read (it is no regular file)")
    return os.fdopen(descriptor, "rb")


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[Any]:
    """An open file that takes the place of `path` when the block has ended without an error.

    What is no regular file (a device, a pipe) is written to, and a link's target is replaced.

    Raises:
        UserError: it cannot be written.
    """
    try:
        target = path.resolve()
        whole = target.is_file() or not target.exists()
        temporary = target.with_name(f".{target.name}.tmp") if whole else target
        try:
            with open(temporary, mode) as file:
                yield file
                file.flush()
                if whole:
                    os.fsync(file.fileno())
            if whole:
                os.replace(temporary, target)
        except BaseException:
            if whole:
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
