"""What tells a whole checkpoint from one that was cut short: a list of its files and their sizes.

Orbax writes a checkpoint under another name and renames it when it is complete. That is enough
where a process is killed. It is not where a machine loses its power, and where renaming a folder is
not one operation (a bucket that is mounted as a file system): then files may end early.
"""

import json
import os
from pathlib import Path

_NAME = "sealed.json"


def seal(folder: Path) -> None:
    """Bring the files of a checkpoint to the disk and list them in it, before it is renamed."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _counts(path)]
    for path in files:
        _to_disk(path)
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    (folder / _NAME).write_text(json.dumps(sizes))
    _to_disk(folder / _NAME)


def _counts(path: Path) -> bool:
    """Orbax writes its own description of the checkpoint once more at the end."""
    return path.name not in (_NAME, "_CHECKPOINT_METADATA")


def _to_disk(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def broken(folder: Path) -> str:
    """What is wrong with a sealed checkpoint, "" if nothing is, or if it is older than seals."""
    if not (folder / _NAME).is_file():
        return ""
    try:
        sizes = dict(json.loads((folder / _NAME).read_text()))
    except (TypeError, ValueError):
        return f"{_NAME} is cut short"
    for name, size in sizes.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            return f"{name} has {found:,} of {size:,} bytes"
    return ""


def steps(folder: Path) -> list[int]:
    """All steps that have a checkpoint below `folder`, in order (others have no numbers)."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def latest(folder: Path) -> int | None:
    """The last step whose checkpoint is whole."""
    whole = (step for step in reversed(steps(folder)) if not broken(folder / str(step)))
    return next(whole, None)
