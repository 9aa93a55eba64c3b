"""What tells a whole checkpoint from one that was cut short: a list of its files and their sizes.

Orbax writes a checkpoint under another name and renames it when it is complete. That is enough
where a process is killed. It is not where a machine loses its power, and where renaming a folder is
not one operation (a bucket that is mounted as a file system): then files may end early.
"""

import json
import os
from pathlib import Path

_NAME = "sealed.json"
_PARTS = ("_CHECKPOINT_METADATA", "state", "progress")


def write_manifest(folder: Path) -> None:
    """Bring the files of a checkpoint to the disk and list them in it, before it is renamed."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _counts(path)]
    for path in files:
        _to_disk(path)
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    (folder / _NAME).write_text(json.dumps(sizes))
    for path in (folder / _NAME, folder, *(p for p in folder.rglob("*") if p.is_dir())):
        _to_disk(path)


def _counts(path: Path) -> bool:
    """Orbax writes its own description of the checkpoint once more at the end."""
    return path.name not in (_NAME, "_CHECKPOINT_METADATA")


def _to_disk(path: Path) -> None:
    """Wait until a file is on the disk, or the list of a folder's files."""
    posix = hasattr(os, "O_DIRECTORY")
    if not posix and path.is_dir():
        return  # Windows opens no folders, and writes their lists by itself
    descriptor = os.open(path, os.O_RDONLY if posix else os.O_RDWR)  # where fsync has to write
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_corruption(folder: Path) -> str:
    """What is wrong with a checkpoint, "" if nothing is, as far as can be seen."""
    if not (folder / _NAME).is_file():  # older than seals, or half deleted
        lacks = [name for name in _PARTS if not (folder / name).exists()]
        return f"{lacks[0]} is missing" if lacks else ""
    try:
        sizes = dict(json.loads((folder / _NAME).read_text()))
    except (OSError, TypeError, ValueError):
        return f"{_NAME} is cut short"
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
    """All steps that have a checkpoint below `folder`, in order (others have no numbers)."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def latest_complete_step(folder: Path) -> int | None:
    """The last step whose checkpoint is whole."""
    whole = (
        step
        for step in reversed(checkpoint_steps(folder))
        if not find_corruption(folder / str(step))
    )
    return next(whole, None)
