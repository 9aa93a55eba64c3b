"""Checksums of files and of JSON objects: made when they are written, verified when read back."""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

from jaxtal.data.io.files import UnreadableError, open_regular
from jaxtal.errors import DataError, short_repr

KEY = "sha256"  # entry of a sealed JSON object
_BLOCK, _PART = 2**24, 2**18  # bytes
LIST = "SHA256SUMS"  # name of a folder's list of checksums, as `sha256sum -c` reads it


def of_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing, cannot be read or is not a regular file.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror or error})") from None


def of_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files, computed in threads.

    Args:
        folder: folder of the files.
        names: paths of the files, relative to the folder.

    Raises:
        DataError: a file is missing, cannot be read or is not a regular file.
    """
    names = list(names)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names, pool.map(lambda name: of_file(folder / name), names), strict=True))


def crc32_of_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the CRC-32 of every 16 MiB of files, computed in threads, several to a large file.

    It is several times as fast as SHA-256, and detects damage, but not a forgery.

    Args:
        folder: folder of the files.
        names: paths of the files, relative to the folder.

    Returns:
        {name: hexadecimal numbers with hyphens between them}.

    Raises:
        DataError: a file is missing, cannot be read or is not a regular file.
    """
    names = list(names)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = {
            name: [
                pool.submit(_crc32, folder / name, start)
                for start in range(0, (folder / name).stat().st_size or 1, _BLOCK)
            ]
            for name in names
        }
        return {name: "-".join(part.result() for part in mine) for name, mine in parts.items()}


def _crc32(path: Path, start: int) -> str:
    """Return the CRC-32 of a block of a file."""
    try:
        with open_regular(path) as file:
            file.seek(start)
            part, value = memoryview(bytearray(_PART)), 0  # new memory for all would take longer
            for _ in range(_BLOCK // _PART):
                value = zlib.crc32(part[: file.readinto(part)], value)  # type: ignore[attr-defined]
            return f"{value:08x}"
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror or error})") from None


def find_changed(
    folder: Path,
    sums: Mapping[str, str],
    of: Callable[[Path, Iterable[str]], dict[str, str]] = of_files,
) -> list[str]:
    """Return a description of each file that is missing or differs from its checksum.

    Args:
        folder: folder of the files.
        sums: {path relative to the folder: checksum}.
        of: function that computes the checksums.

    Returns:
        Descriptions such as "a/b has changed", in the order of `sums`.

    Raises:
        DataError: a file cannot be read, or is outside of the folder.
    """
    for name in sums:
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise DataError(
                f"{folder}: {short_repr(name)}, in a list of checksums, is outside of the folder; "
                "wanted files in it"
            )
    there = [name for name in sums if (folder / name).is_file()]
    found = of(folder, there)
    return [
        f"{name} has changed" if name in found else f"{name} is missing"
        for name, wanted in sums.items()
        if found.get(name) != wanted
    ]


def read_list(folder: Path) -> dict[str, str]:
    """Read the list of checksums in a folder.

    Args:
        folder: folder with the list.

    Returns:
        {path relative to the folder: SHA-256}.

    Raises:
        DataError: the list cannot be read.
    """
    with open_regular(folder / LIST) as file:
        lines = file.read().decode("utf-8", "replace").splitlines()
    return {name: wanted for wanted, _, name in (line.partition("  ") for line in lines)}


def to_list(sums: Mapping[str, str]) -> str:
    """Return the content of a list of checksums.

    Args:
        sums: {path relative to the folder: SHA-256}.
    """
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))


def of_json(content: Any) -> str:
    """Return the SHA-256 of a JSON value, which does not depend on spaces or the order of keys.

    Args:
        content: dicts with text as keys, lists, text, finite numbers, bools and None.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def seal(content: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its checksum as the last entry.

    Args:
        content: as in `of_json`.
    """
    return {**content, KEY: of_json(content)}


def unseal(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a JSON object without its checksum, which is verified if there is one.

    Args:
        content: an object as read from a file, of this program or of another one.
        where: file and place in it, for the error message.

    Raises:
        DataError: the object does not match its checksum.
    """
    name = KEY if KEY in content else next(reversed(content), KEY)  # KEY itself can be damaged
    rest = {key: value for key, value in content.items() if key != name}
    found = content.get(name)
    matches = isinstance(found, str) and len(found) == 64 and found == of_json(rest)
    if matches != (KEY in content):
        raise DataError(
            f'{where}: damaged or edited: its content does not match its checksum "{KEY}"; restore '
            f'it, or, if the change is intended, delete the entry "{KEY}"'
        )
    return rest if matches else content
