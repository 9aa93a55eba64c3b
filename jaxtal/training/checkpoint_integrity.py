"""Detect damaged checkpoints with a manifest of sizes and checksums of all files.

Orbax writes a checkpoint under a temporary name and renames it when it is complete. That suffices
if a process is killed. It does not suffice if a machine loses power, or if renaming a folder is not
atomic (a bucket that is mounted as a file system): files may then be truncated. Nor does Orbax
notice a bit that a disk or a copy has changed.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jaxtal.data.io import checksums, json_files
from jaxtal.data.io.files import UnreadableError
from jaxtal.errors import CheckpointError, DataError, JaxtalError, warn

NAME = "sealed.json"
_METADATA = "_CHECKPOINT_METADATA"
_LATER = (NAME, _METADATA, "commit_success.txt")  # written after the manifest
_PARTS = (_METADATA, "state", "progress")
_FORM = "the manifest of a checkpoint"
_RETRY = "check the disk, and repeat the command"


def write_manifest(folder: Path) -> None:
    """Flush the files of a checkpoint to disk and write the manifest.

    Args:
        folder: the complete checkpoint, before it is renamed.

    Raises:
        OSError: the manifest cannot be written.
    """
    later = {folder / name for name in _LATER}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in later]
    names = [path.relative_to(folder).as_posix() for path in files]
    with ThreadPoolExecutor(1) as pool:  # the disk is busy while the checksums are computed
        flushed = pool.map(_to_disk, files)
        sums = checksums.crc32_of_files(folder, names)
        list(flushed)
    sizes = [path.stat().st_size for path in files]
    content = {
        "files": {name: [size, sums[name]] for name, size in zip(names, sizes, strict=True)},
        "metadata": checksums.of_json(_metadata(folder)),
    }
    (folder / NAME).write_text(json_files.to_sealed_text(content))
    for path in (folder / NAME, folder, *(p for p in folder.rglob("*") if p.is_dir())):
        _to_disk(path)


def _metadata(folder: Path) -> Any:
    """Return Orbax's metadata of a checkpoint without the time that is entered at its renaming."""
    path = folder / _METADATA
    content = json_files.load(path, "Orbax's metadata") if path.exists() else {}
    return {**content, "commit_timestamp_nsecs": None}


def _to_disk(path: Path) -> None:
    """Call fsync on a file or a folder."""
    posix = hasattr(os, "O_DIRECTORY")
    if not posix and path.is_dir():
        return  # Windows cannot open folders, and flushes their entries itself
    descriptor = os.open(path, os.O_RDONLY if posix else os.O_RDWR)  # fsync may have to write
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_truncation(folder: Path) -> str:
    """Return a description of the first missing or truncated file of a checkpoint.

    Files are not read, so a checkpoint of any size takes no time.

    Args:
        folder: the checkpoint of one step.

    Returns:
        "" for a checkpoint without a missing or truncated file. A checkpoint of an earlier version,
        which has no manifest, only needs its top-level entries.

    Raises:
        CheckpointError: the system cannot read the manifest now, so that nothing is known.
    """
    if not (folder / NAME).is_file():  # of an earlier version, or partly deleted
        lacks = [name for name in _PARTS if not (folder / name).exists()]
        return f"{lacks[0]} is missing" if lacks else ""
    try:
        sizes = _sizes(folder)
    except UnreadableError as error:
        raise CheckpointError(f"{error}; {_RETRY}") from None
    except JaxtalError:
        return f"{NAME} is damaged"
    for name, size in sizes.items():
        found = _size(folder / name)
        if found != size:
            return f"{name} has {found:,} of {size:,} bytes"
    return ""


def find_damage(folder: Path) -> str:
    """Return a description of the first missing, truncated or altered file of a checkpoint.

    All files are read.

    Args:
        folder: the checkpoint of one step.

    Returns:
        "" for an intact checkpoint. The manifest of an earlier version has only sizes, or is
        absent, so that altered files are not detected.

    Raises:
        CheckpointError: the system cannot read a file now, so that nothing is known.
    """
    if found := find_truncation(folder):
        return found
    if "files" not in (manifest := _manifest(folder)):
        return "" if manifest or not _is_new(folder) else f"{NAME} is missing"
    try:
        if manifest["metadata"] != checksums.of_json(_metadata(folder)):
            return f"{_METADATA} has changed"
        sums = {name: checksum for name, (_, checksum) in manifest["files"].items()}
        return next(iter(checksums.find_changed(folder, sums, checksums.crc32_of_files)), "")
    except UnreadableError as error:
        raise CheckpointError(f"{error}; {_RETRY}") from None
    except JaxtalError as error:
        return str(error)


def _is_new(folder: Path) -> bool:
    """Return whether a checkpoint is of a version that writes checksums."""
    try:
        return "run" in json_files.load(folder / "progress" / "metadata", "the progress")
    except JaxtalError:
        return False


def warn_without_checksums(folder: Path) -> None:
    """Warn if a checkpoint has no checksums, as those of early versions.

    Args:
        folder: the checkpoint of one step.
    """
    if "files" not in _manifest(folder):
        warn(f"{folder}: no checksums, so damage in it would not be noticed")


def _manifest(folder: Path) -> dict[str, Any]:
    return json_files.load(folder / NAME, _FORM) if (folder / NAME).is_file() else {}


def _sizes(folder: Path) -> dict[str, int]:
    """Return {file: size} of a manifest; early ones hold nothing else.

    Raises:
        DataError: the manifest is malformed.
    """
    content = _manifest(folder)
    if "files" not in content:
        return content
    try:
        content["metadata"].encode()
        return {name: int(size) for name, (size, _) in content["files"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError(f"{folder / NAME}: malformed") from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def checkpoint_steps(folder: Path) -> list[int]:
    """Return the steps that have a checkpoint in `folder`, in ascending order.

    Args:
        folder: `checkpoints/` of a run; entries whose names are not numbers are ignored.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def latest_complete_step(folder: Path) -> int | None:
    """Return the last step with a complete checkpoint, None if there is none; no file is read.

    Args:
        folder: `checkpoints/` of a run.
    """
    complete = (
        step
        for step in reversed(checkpoint_steps(folder))
        if not find_truncation(folder / str(step))
    )
    return next(complete, None)
