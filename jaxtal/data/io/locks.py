"""Lock files."""

from pathlib import Path
from typing import IO, Any


class FileLock:
    """An exclusive lock on a file, which the system frees when the process ends for any reason.

    Args:
        path: the lock file, created if it does not exist.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115

    def acquire(self) -> bool:
        """Try to take the lock, without waiting.

        Returns:
            True if this process now has the lock, False if another process has it.
        """
        try:
            _lock(self._file)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Free the lock; the file is kept."""
        self._file.close()

    def remove(self) -> None:
        """Delete the file, while locked so that no other process takes it, then free the lock."""
        try:
            self._path.unlink()
            self.close()
        except PermissionError:  # Windows deletes no open file
            self.close()
            self._path.unlink()


def _lock(file: IO[Any]) -> None:
    """Lock the file; raise OSError if another process has the lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        windows: Any = msvcrt  # type checkers know its functions on Windows only
        windows.locking(file.fileno(), windows.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
