"""Opening of regular files only, atomic writing, and checks of names."""

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from jaxtal.errors import DataError, short_repr


class StorageFault(NamedTuple):
    """A full or failing disk.

    Attributes:
        what: a clause with the system's message.
        fix: a clause about what to do before the command is repeated.
    """

    what: str
    fix: str


_FULL = ("ENOSPC", "EDQUOT", "EFBIG")
_FAILED = ("EIO", "EROFS", "ESTALE", "EREMOTEIO", "ENOTCONN", "EHOSTDOWN", "ETIMEDOUT")


def storage_fault(error: BaseException | None) -> StorageFault | None:
    """Return the fault of a disk or of a network file system that caused an error, else None.

    Args:
        error: the error, with its chain of causes.
    """
    while error is not None:
        if how := _message_of(error, _FULL):
            return StorageFault(f"the disk is full ({how})", "free some space")
        if how := _message_of(error, _FAILED):
            return StorageFault(f"reading or writing failed ({how})", "check the disk")
        error = error.__cause__ or error.__context__
    return None


def _message_of(error: BaseException, names: Sequence[str]) -> str | None:
    """Return the system's message if it is that of one of the names of `errno`."""
    for number in (getattr(errno, name) for name in names if hasattr(errno, name)):
        if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
            return os.strerror(number)
    return None


def check_unique(names: list[str], where: str) -> None:
    """Check that no name occurs twice.

    Args:
        names: all names.
        where: the file that contains them, for the error message.

    Raises:
        DataError: a name occurs twice.
    """
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if first.setdefault(name, row) != row:
            raise DataError(
                f"{where}: {short_repr(name)} is listed twice, as entry {first[name]} and as entry "
                f"{row} (counted from 0); names must be unique, so rename or remove one"
            )


_MOST_NAME = 200  # bytes


def check_name(name: str, where: str) -> str:
    """Return `name` if it is a valid file name without a path.

    Args:
        name: the name of a video or a data set.
        where: the file that contains the name, for the error message.

    Raises:
        DataError: the name is blank, too long, not printable, or contains a path.
    """
    blank = name != name.strip()
    if not _is_line(name) or blank or name in (".", "..") or "/" in name or "\\" in name:
        raise DataError(
            f"{where}: {short_repr(name)} cannot be a name; wanted 1 to {_MOST_NAME} bytes without "
            "slashes, control characters and outer blanks, because it becomes a file name"
        )
    return name


def check_class(name: str, where: str) -> str:
    """Return `name` if it is a valid class name, which must fit in one line of a class list.

    Args:
        name: the name of a class.
        where: the file that contains the name, for the error message.

    Raises:
        DataError: the name is blank, too long or not printable.
    """
    if not _is_line(name):
        raise DataError(
            f"{where}: {short_repr(name)} cannot be the name of a class; wanted 1 to "
            f"{_MOST_NAME} bytes without control characters"
        )
    return name


def _is_line(name: str) -> bool:
    """Return True for a printable, encodable, short name that is not blank."""
    return bool(name.strip()) and name.isprintable() and len(name.encode()) <= _MOST_NAME


_NOT_REGULAR = "not a regular file"


class UnreadableError(DataError):
    """A file exists, but the system cannot read it now, so that nothing is known of its content."""


def open_regular(path: Path, wanted: str = "") -> BinaryIO:
    """Open a regular file for reading in binary mode; pipes and devices could block forever.

    Args:
        path: the file.
        wanted: description of the expected file, for the error message.

    Returns:
        The open file, which the caller closes.

    Raises:
        DataError: the file is missing or is not a regular file.
        UnreadableError: the system cannot open it.
    """
    try:
        descriptor = _descriptor(path)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        absent = isinstance(error, ValueError | FileNotFoundError | NotADirectoryError)
        kind = DataError if absent else UnreadableError
        raise kind(_unreadable(path, reason, wanted)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(_unreadable(path, _NOT_REGULAR, wanted))
    return os.fdopen(descriptor, "rb")


def _descriptor(path: Path) -> int:
    """Return a file descriptor, without waiting for the writer of a pipe."""
    if hasattr(os, "O_NONBLOCK"):
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(0, _NOT_REGULAR)
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # Windows translates text


def _unreadable(path: Path, reason: object, wanted: str) -> str:
    return f"{path}: {reason}; wanted {wanted}" if wanted else f"{path}: cannot be read ({reason})"


_MOST_COUNTED = 100_000  # files
_DEEPEST = 3  # levels of folders


def contents(folder: Path) -> str:
    """Return the kinds of files in a folder and below it as words.

    Args:
        folder: the folder; hidden files are not counted.

    Returns:
        The three most frequent kinds, each with the first file's name, e.g. "12 files *.mat in
        features/x (a.mat)"; "no files".
    """
    kinds: dict[tuple[str, str], list[str]] = {}
    walked = (
        (Path(place).relative_to(folder), here, names) for place, here, names in os.walk(folder)
    )
    for place, folders, names in itertools.islice(walked, _MOST_COUNTED):
        folders[:] = [n for n in folders if not n.startswith(".") and len(place.parts) < _DEEPEST]
        for name in names:
            if not name.startswith("."):
                kinds.setdefault((place.as_posix(), Path(name).suffix), []).append(name)
    most = sorted(kinds.items(), key=lambda kind: len(kind[1]), reverse=True)
    listed = []
    for (at, suffix), names in most[:3]:
        plural, first = "s" * (len(names) > 1), short_repr(min(names), 60)[1:-1]
        listed.append(f"{len(names)} file{plural} *{suffix} in {at} ({first})")
    return ", ".join(listed) or "no files"


def too_long(path: Path, below: int = 0) -> str:
    """Return the system's message about a path or a name that is too long, or "".

    Args:
        path: the path of a file or folder, which need not exist.
        below: bytes of the longest path below it.
    """
    parts = [os.fsencode(part) for part in Path(os.path.abspath(path)).parts]
    whole = sum(len(part) + 1 for part in parts) + below
    wrong = max(map(len, parts)) > _LONGEST_NAME or whole > _LONGEST_PATH
    return os.strerror(errno.ENAMETOOLONG) if wrong else ""


_LONGEST_NAME = 255  # bytes
_LONGEST_PATH = 4096 if hasattr(os, "pathconf") else 32_767


def unwritable_folder(folder: Path, below: int = 0) -> str:
    """Return the reason why a folder cannot be created or written in, or "".

    Args:
        folder: the folder, which need not exist.
        below: bytes of the longest path that will be written below it.
    """
    if why := too_long(folder, below):
        return why
    try:
        str(folder).encode()  # libraries that write checkpoints need UTF-8
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    there = Path(os.path.abspath(folder))
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return f"{there} is not a folder"
    writable = os.access(there, os.W_OK | os.X_OK)
    return "" if writable else f"{there} is read-only for this user"


_temporaries: set[Path] = set()


def remove_temporaries() -> None:
    """Delete the unfinished files of `atomic_write`, before the process exits without unwinding."""
    for path in [*_temporaries]:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[Any]:
    """Open a temporary file that replaces `path` when the block ends without an error.

    A device or a pipe is written to directly. The target of a link is replaced, not the link.

    Args:
        path: the file to write.
        mode: "w" or "wb".

    Yields:
        The open file.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        target = path.resolve()
        whole = target.is_file() or not target.exists()
        temporary = target.with_name(f".{target.name}.tmp") if whole else target
        _temporaries.update([temporary] * whole)
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
        finally:
            _temporaries.discard(temporary)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None


class RefusedError(ValueError):
    """A file contains more than data; the message completes "it contains ..."."""


@contextlib.contextmanager
def parse_errors_as_data_error(path: Path, kind: str, wanted: str) -> Iterator[None]:
    """Convert every other error in the block, which parses an untrusted file, to a DataError.

    Args:
        path: the file.
        kind: the expected kind of file, as in "not a complete ... file".
        wanted: the expected content.

    Raises:
        DataError: the block raised an error.
    """
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except RefusedError as error:
        raise DataError(
            f"{path}: rejected, because it contains {_short_message(error)}; wanted {wanted}. "
            "Nothing in it was executed"
        ) from None
    except Exception as error:
        raise DataError(
            f"{path}: not a complete {kind} file ({type(error).__name__}: "
            f"{_short_message(error)}); copy or download it again"
        ) from None


def _short_message(error: Exception) -> str:
    """Return an error's message, which may quote the file, as part of one line."""
    return " ".join(str(error).split())[:160]
