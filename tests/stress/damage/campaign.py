"""Damage files one at a time, read them back, and judge the outcome."""

import dataclasses
import logging
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxtal.errors import JaxtalError
from tests.stress.damage import readers

FAILED = ("silent", "unnamed", "traceback")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of reading a damaged file.

    Attributes:
        number: number of the damage, by which it can be repeated.
        file: the damaged file, relative to the folder of the artifacts.
        how: "flip" or "truncate".
        reader: key of `readers.READERS`.
        ended: "refused" with the file's name, "set aside" with a warning that names it, "no effect"
            on what was read, or one of `FAILED`: other content without a word, a refusal that does
            not name the file, another error.
        message: the error, the warning or the traceback.
    """

    number: int
    file: str
    how: str
    reader: str
    ended: str
    message: str


class _Warnings(logging.Handler):
    """The warnings of the library."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Campaign:
    """Artifacts, a copy that is damaged and mended, and the digests of what readers make of them.

    Args:
        whole: folder of the artifacts, which is not changed.
        copy: folder for the copy; it must not exist.
    """

    def __init__(self, whole: Path, copy: Path):
        self._whole, self._copy = whole, copy
        self._wanted: dict[str, str] = {}
        self._restore()
        self.files = sorted(
            path.relative_to(whole).as_posix()
            for path in whole.rglob("*")
            if path.is_file() and path.stat().st_size
        )

    def _restore(self) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._whole, self._copy)

    def run(self, how: str, numbers: range, seed: int) -> Iterator[Outcome]:
        """Damage a random file for each number, and yield the outcome of each of its readers."""
        for number in numbers:
            rng = np.random.default_rng((seed, number, how == "flip"))
            name = self.files[rng.integers(len(self.files))]
            for reader in readers.readers_of(name):
                if rng.random() < readers.SLOW.get(reader, 1):
                    yield self._outcome(number, name, how, reader, rng.integers(2**32))

    def _outcome(self, number: int, name: str, how: str, reader: str, seed: int) -> Outcome:
        if reader not in self._wanted:
            self._wanted[reader] = readers.READERS[reader](self._copy)
            self._restore()
        path = self._copy / name
        damage(path, how, np.random.default_rng(seed))
        ended, message = self._judge(reader, name)
        if reader in ("resume", "evaluate"):
            self._restore()
        else:
            shutil.copy2(self._whole / name, path)
        return Outcome(number, name, how, reader, ended, message)

    def _judge(self, reader: str, name: str) -> tuple[str, str]:
        seen = _Warnings()
        logging.getLogger("jaxtal").addHandler(seen)
        try:
            found = readers.READERS[reader](self._copy)
        except JaxtalError as error:
            return ("refused" if _names(str(error), name) else "unnamed"), str(error)
        except Exception:
            return "traceback", traceback.format_exc()
        finally:
            logging.getLogger("jaxtal").removeHandler(seen)
        named = [line for line in seen.lines if _names(line, name)]
        if named:
            return "set aside", named[0]
        return ("no effect" if found == self._wanted[reader] else "silent"), ""


def damage(path: Path, how: str, rng: np.random.Generator) -> None:
    """Flip a random bit of a file, or cut it at a random place."""
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content)))
    if how == "truncate":
        del content[place:]
    else:
        content[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def _names(message: str, name: str) -> bool:
    """Return whether a message names the file, or the video whose features it holds."""
    path = Path(name)
    video = path.name.partition(".")[0]
    joint = "JOINTFeatures" in name and ", video " in message
    return path.name in message or f"video {video}" in message or joint
