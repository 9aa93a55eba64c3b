"""Standard streams that outlast their readers: a closed pipe or a full disk ends no command."""

import errno
import io
import os
import sys

from jaxtal.cli import runtime

_CLOSED = (errno.EPIPE, errno.ECONNRESET)


class _Lasting(io.FileIO):
    """File descriptor that becomes the null device when a write fails.

    The descriptor itself is replaced: native libraries and child processes share it.

    Attributes:
        failure: The system's message about the write that failed, "" if none did or if the reader
            of a pipe has ended.
        required: Whether `failure` is an error at the end of the command, not a warning at once.
    """

    failure = ""
    required = False

    def write(self, data, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            _open_null(self.fileno())
            if error.errno not in _CLOSED:
                self.failure = error.strerror or str(error)
                self._warn()
        return memoryview(data).nbytes

    def _warn(self) -> None:
        if not self.required and self.fileno() == 1:
            why = f"stdout cannot be written ({self.failure}); going on without it"
            print(f"warning: {why}", file=sys.stderr, flush=True)


def install() -> None:
    """Replace the standard output and error of this process by lasting ones."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        setattr(sys, name, _lasting(getattr(sys, name), number))


def _lasting(stream, number: int):
    """Return a lasting stream for a file descriptor, in place of Python's own one."""
    if stream is None:  # closed: the next file that is opened would receive its number
        if not _is_open(number):
            _open_null(number)
        return open(os.devnull, "w", encoding="utf-8")
    buffer = getattr(stream, "buffer", None)
    if type(getattr(buffer, "raw", buffer)) is not io.FileIO:  # a notebook's, or Windows' console
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(number, "w", closefd=False)),
        encoding=stream.encoding,
        # A name that the encoding lacks is printed with escapes.
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        # PYTHONUNBUFFERED only sets `write_through`, which ends at the buffer.
        line_buffering=stream.line_buffering or stream.write_through,
        write_through=stream.write_through,
    )


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_null(number: int) -> None:
    """Open the null device as a file descriptor."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)


def check(required: bool) -> None:
    """Notice a device that is always full before the command computes anything.

    Args:
        required: Whether the text on stdout is the command's product, without which it fails.
    """
    if (out := _stdout()) is not None:
        out.required = required
        out.write(b"")


def end(code: int) -> int:
    """Write what is buffered, and return the exit code of the process.

    Args:
        code: Exit code of the command.

    Returns:
        2 if the command succeeded but its product could not be written, else `code`.
    """
    if (out := _stdout()) is None:
        return code
    sys.stdout.flush()
    if code or not (out.required and out.failure):
        return code
    return runtime.fail(f"stdout cannot be written ({out.failure}); redirect it to another place")


def _stdout() -> _Lasting | None:
    """Return the standard output if `install` has replaced it."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Lasting) else None
