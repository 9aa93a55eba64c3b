"""Files that one process at a time may hold."""

from pathlib import Path
from typing import IO, Any


class FileLock:
    """A lock file; the system frees it when the process that holds it ends, however it does.

    Args:
        path: created if it does not exist.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115

    def acquire(self) -> bool:
        """Return whether this process holds the file now, or another one does."""
        try:
            _lock(self._file)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Free the file, which stays."""
        self._file.close()

    def remove(self) -> None:
        """Delete the file, while it is held: nobody else can take what is about to go."""
        try:
            self._path.unlink()
            self.close()
        except PermissionError:  # Windows deletes no open file
            self.close()
            self._path.unlink()


def _lock(file: IO[Any]) -> None:
    """Raise OSError if another process holds the file."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        windows: Any = msvcrt  # whose functions are unknown elsewhere
        windows.locking(file.fileno(), windows.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
