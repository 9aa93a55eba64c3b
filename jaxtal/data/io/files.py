"""Opening files that are files, and writing them so that they appear at once or not at all."""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jaxtal.errors import DataError, short_repr


def disk_is_full(error: BaseException | None) -> str | None:
    """Return the system's message if `error` or its cause is a full disk, else None."""
    while error is not None:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


def check_unique(names: list[str], where: str) -> None:
    """Raise DataError if a name occurs twice."""
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            raise DataError(
                f"{where}: {short_repr(name)} is listed twice, as entry {first[name]} and as entry "
                f"{row} (counted from 0); names must be unique, so rename or remove one"
            )


_MOST_NAME = 200  # bytes


def check_name(name: str, where: str) -> str:
    """`name`, if a file can be called so and lies where it should; DataError otherwise."""
    blank = name != name.strip()
    if not _is_line(name) or blank or name in (".", "..") or "/" in name or "\\" in name:
        raise DataError(
            f"{where}: {short_repr(name)} cannot be a name; wanted 1 to {_MOST_NAME} bytes without "
            "slashes, control characters and outer blanks, as files are called so"
        )
    return name


def check_class(name: str, where: str) -> str:
    """`name`, if a class can be called so: lists of classes have a line for each."""
    if not _is_line(name):
        raise DataError(
            f"{where}: {short_repr(name)} cannot be the name of a class; wanted 1 to "
            f"{_MOST_NAME} bytes "
            "without control characters"
        )
    return name


def _is_line(name: str) -> bool:
    """Whether it is not blank, printable, so that it can be encoded, and short."""
    return bool(name.strip()) and name.isprintable() and len(name.encode()) <= _MOST_NAME


_NOT_REGULAR = "it is no regular file"


def open_regular(path: Path, wanted: str = "") -> BinaryIO:
    """A file opened for reading, if it is one: a pipe or a device might never end.

    Args:
        wanted: what is, for messages.

    Raises:
        DataError: it is missing, cannot be read, or is something else.
    """
    try:
        descriptor = _descriptor(path)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise DataError(_unreadable(path, reason, wanted)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(_unreadable(path, _NOT_REGULAR, wanted))
    return os.fdopen(descriptor, "rb")


def _descriptor(path: Path) -> int:
    """The opened file; opening a pipe does not wait for who writes to it."""
    if hasattr(os, "O_NONBLOCK"):
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(0, _NOT_REGULAR)
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # Windows translates text


def _unreadable(path: Path, reason: object, wanted: str) -> str:
    return f"{path}: {reason}; wanted {wanted}" if wanted else f"{path}: cannot be read ({reason})"


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal; raises as `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[Any]:
    """An open file that takes the place of `path` when the block has ended without an error.

    What is no regular file (a device, a pipe) is written to, and a link's target is replaced.

    Raises:
        DataError: it cannot be written.
    """
    try:
        target = path.resolve()
        whole = target.is_file() or not target.exists()
        temporary = target.with_name(f".{target.name}.tmp") if whole else target
        try:
            with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
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
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None


class RefusedError(ValueError):
    """A file holds something that is not data; the message completes "it contains ..."."""


@contextlib.contextmanager
def parse_errors_as_data_error(path: Path, kind: str, wanted: str) -> Iterator[None]:
    """Whatever parsing a stranger's file raises, the file is at fault: a DataError.

    Args:
        path: the file.
        kind: what it should be, as in "not a complete ... file".
        wanted: what it should hold.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except RefusedError as error:
        raise DataError(
            f"{path}: refused, because it contains {_short_message(error)}; wanted {wanted}. "
            "Nothing in it "
            "was executed"
        ) from None
    except Exception as error:
        raise DataError(
            f"{path}: not a complete {kind} file ({type(error).__name__}: "
            f"{_short_message(error)}); copy or download it again"
        ) from None


def _short_message(error: Exception) -> str:
    """What an error says, which may be the file's own words, as part of a line."""
    return " ".join(str(error).split())[:160]
