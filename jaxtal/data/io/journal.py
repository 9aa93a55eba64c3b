"""The journal of a resumable conversion."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from jaxtal.data.io import json_files
from jaxtal.data.io.locks import FileLock
from jaxtal.errors import DataError

JOURNAL = ".jaxtal-convert.jsonl"
LOCK = ".jaxtal-convert.lock"


class HashedFile:
    """A binary file with the SHA-256 of all bytes written to it.

    Attributes:
        sum: the hash object.
    """

    def __init__(self, file: BinaryIO):
        self._file, self.sum = file, hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        """Write bytes and add them to the hash."""
        self._file.write(data)
        self.sum.update(data)


class Journal:
    """The list of finished videos on disk, valid after a kill at any moment.

    Args:
        folder: the target of the conversion.
        task: parameters that an unfinished conversion in the folder must match.

    Attributes:
        path: the journal's file.
        done: video name -> its entry.
        sums: file name -> SHA-256, of files that contain several videos.

    Raises:
        DataError: another process is converting to the folder, or the folder has a journal that is
            damaged or of another task.
    """

    def __init__(self, folder: Path, task: dict[str, Any]):
        self.path = folder / JOURNAL
        self.sums: dict[str, str] = {}
        self._task = task
        self._lock = FileLock(folder / LOCK)
        try:
            self._take_lock(folder)  # before reading what another process may change
            self.done = self._done(folder)
            self._begin()
        except BaseException:
            self._lock.close()
            raise

    def _take_lock(self, folder: Path) -> None:
        if not self._lock.acquire():
            raise DataError(f"{folder}: another process is converting to it; wait for it")

    def _done(self, folder: Path) -> dict[str, dict]:
        """Return {video name: entry} from an earlier run of the same conversion."""
        lines = self._lines()
        if lines and lines[0] != self._task:
            raise DataError(
                f"{folder} holds an unfinished conversion with other parameters "
                f"({str(lines[0])[:200]}); convert to another folder, or delete it"
            )
        return {line["video"]: line for line in lines[1:]}

    def _begin(self) -> None:
        lines = self._task, *self.done.values()
        json_files.write(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def _lines(self) -> list[dict]:
        """Return the complete lines, without a last line truncated by a kill."""
        if not self.path.is_file():
            return []
        try:
            text = self.path.read_text(encoding="utf-8")
            lines = [json.loads(line) for line in text.split("\n")[:-1]]
            for line in lines[1:]:
                counts = line["snippets"], line["width"], line.get("end", 0)
                if not isinstance(line["video"], str) or any(type(n) is not int for n in counts):
                    raise ValueError("not an entry of a video")
            return lines
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{self.path}: not the journal of a conversion ({error!r:.80}); delete the folder"
            ) from None

    def add(self, line: dict) -> None:
        """Append the entry of a finished video."""
        self.done[line["video"]] = line
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def width(self) -> tuple[str, int] | None:
        """Return name and feature width of a finished video, or None."""
        return next(((name, line["width"]) for name, line in self.done.items()), None)

    def keep(self, is_valid: Callable[[dict], bool]) -> None:
        """Remove the entries for which `is_valid` is false."""
        self.done = {name: line for name, line in self.done.items() if is_valid(line)}
        self._file.close()
        self._begin()

    def close(self) -> None:
        """Close the file and free the lock; the file is kept."""
        self._file.close()
        self._lock.close()

    def remove(self) -> None:
        """Delete the file and the lock of a finished conversion."""
        self._file.close()
        self.path.unlink()
        self._lock.remove()
