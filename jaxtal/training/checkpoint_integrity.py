"""Detect truncated checkpoints with a manifest of file sizes.

Orbax writes a checkpoint under a temporary name and renames it when it is complete. That suffices
if a process is killed. It does not suffice if a machine loses power, or if renaming a folder is not
atomic (a bucket that is mounted as a file system): files may then be truncated.
"""

import json
import os
from pathlib import Path

from jaxtal.errors import CheckpointError

_NAME = "sealed.json"
_PARTS = ("_CHECKPOINT_METADATA", "state", "progress")


def write_manifest(folder: Path) -> None:
    """Flush the files of a checkpoint to disk and write the manifest of their sizes.

    Args:
        folder: the complete checkpoint, before it is renamed.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _counts(path)]
    for path in files:
        _to_disk(path)
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    (folder / _NAME).write_text(json.dumps(sizes))
    for path in (folder / _NAME, folder, *(p for p in folder.rglob("*") if p.is_dir())):
        _to_disk(path)


def _counts(path: Path) -> bool:
    """Return False for the files that Orbax rewrites after the manifest is written."""
    return path.name not in (_NAME, "_CHECKPOINT_METADATA")


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


def find_corruption(folder: Path) -> str:
    """Return a description of the first missing or truncated file of a checkpoint.

    Args:
        folder: the checkpoint of one step.

    Returns:
        "" for a checkpoint without a detectable fault. A checkpoint of an earlier version, which
        has no manifest, only needs its top-level entries.

    Raises:
        CheckpointError: the manifest exists, but cannot be read.
    """
    if not (folder / _NAME).is_file():  # of an earlier version, or partly deleted
        lacks = [name for name in _PARTS if not (folder / name).exists()]
        return f"{lacks[0]} is missing" if lacks else ""
    try:
        sizes = dict(json.loads((folder / _NAME).read_text()))
    except OSError as error:  # nothing is known about the checkpoint, so no other one is used
        how = f"{folder / _NAME}: cannot be read ({error.strerror or error})"
        raise CheckpointError(f"{how}; check the disk, and repeat the command") from None
    except (TypeError, ValueError):
        return f"{_NAME} is truncated"
    for name, size in sizes.items():
        found = _size(folder / name)
        if found != size:
            return f"{name} has {found:,} of {size:,} bytes"
    return ""


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
    return sorted(int(name) for name in names if name.isdigit())


def latest_complete_step(folder: Path) -> int | None:
    """Return the last step with a complete checkpoint, None if there is none.

    Args:
        folder: `checkpoints/` of a run.
    """
    complete = (
        step
        for step in reversed(checkpoint_steps(folder))
        if not find_corruption(folder / str(step))
    )
    return next(complete, None)
