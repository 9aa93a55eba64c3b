"""Readers with one fault each, which the guard must detect."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxtal.data.io import object_arrays
from jaxtal.errors import JaxtalError
from tests.stress.hostile import crafted


def _executes(path: Path) -> None:
    pickled = b"\x80\x02" + crafted.PAYLOADS[0][1] + b"."
    path.write_bytes(crafted.object_file(pickled, 1))
    np.load(path, allow_pickle=True)


def _raises(path: Path) -> None:
    raise ValueError(path)


def _blocks(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    path.read_bytes()


def _spins(path: Path) -> None:
    while True:
        pass


def _swallows(path: Path) -> None:
    try:
        bytearray(8 * 2**30)
    except Exception as error:
        raise JaxtalError(f"{path}: damaged ({type(error).__name__})") from None


def _allocates(path: Path) -> None:
    np.ones(30_000_000).sum()


def _warns(path: Path) -> None:
    warnings.warn("something", UserWarning, stacklevel=1)


def _prints(path: Path) -> None:
    print("something", file=sys.stderr)


def _is_long(path: Path) -> None:
    raise JaxtalError(f"{path}: " + "x" * 1000)


def _names_nothing(path: Path) -> None:
    raise JaxtalError("something is wrong somewhere")


def _strays(path: Path) -> None:
    Path("/etc/passwd").read_bytes()


def _writes(path: Path) -> None:
    (path.parent / ".." / ".." / "none" / "strays").open("w").close()


def _imports(path: Path) -> None:
    import colorsys  # noqa: F401


def _changes(path: Path) -> None:
    object_arrays._DEPTH = 10**9


def _ends(path: Path) -> None:
    os._exit(3)


# Name -> (reader, part of the guard's message); the last one ends the process.
READERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "executes": (_executes, "the canary is there"),
    "raises": (_raises, "ValueError"),
    "blocks": (_blocks, "hangs"),
    "spins": (_spins, "hangs"),
    "swallows": (_swallows, "was stopped by the limits only"),
    "allocates": (_allocates, "MiB"),
    "warns": (_warns, "warns: UserWarning"),
    "prints": (_prints, "prints 'something'"),
    "is long": (_is_long, "characters"),
    "names nothing": (_names_nothing, "does not name"),
    "strays": (_strays, "'/etc/passwd', outside"),
    "writes": (_writes, "strays', outside"),
    "imports": (_imports, "import('colorsys'"),
    "changes": (_changes, "changes"),
    "ends": (_ends, "the worker ended with 3"),
}
