"""Opening files that are files, and writing them so that they appear at once or not at all."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jaxtal.errors import UserError


def open_regular(path: Path, wanted: str = "") -> BinaryIO:
    """A file opened for reading, if it is one: a pipe or a device might never end.

    Args:
        wanted: what is, for messages.

    Raises:
        UserError: it is missing, cannot be read, or is something else.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UserError(_unreadable(path, reason, wanted)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(_unreadable(path, "it is no regular file", wanted))
    return os.fdopen(descriptor, "rb")


def _unreadable(path: Path, reason: object, wanted: str) -> str:
    return f"{path}: {reason}; wanted {wanted}" if wanted else f"{path}: cannot be read ({reason})"


def checksum(path: Path) -> str:
    """A file's SHA-256 in hexadecimal; raises as `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


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
