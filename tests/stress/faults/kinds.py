"""The faults of `tests.stress.faults`: which there are, and how they are done to a run."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

from jaxtal.training import checkpoint_integrity
from tests.stress.faults.jobs import Run, whole_step

# Of every number of processes the classes of faults, which are equally frequent, and their kinds.
FILL = ("full disk", "file limit")
FAULTS = {
    1: (("kill job",), ("SIGTERM job",), ("truncate",), FILL),
    2: (
        ("kill job", "kill launcher", "kill process", "kill child"),
        ("SIGTERM job", "SIGTERM process"),
        ("truncate",),
        FILL,
    ),
}


def kinds_of(
    count: int, processes: int, without: tuple[str, ...], rng: np.random.Generator
) -> list[str]:
    """So many kinds of faults, all classes of them as often as possible."""
    classes = FAULTS[processes]
    rounds = -(-count // len(classes))
    order = [k for _ in range(rounds) for k in rng.permutation(len(classes))][:count]
    possible = [[kind for kind in kinds if kind not in without] for kinds in classes]
    return [str(rng.choice(possible[k])) for k in order]


def strike(kind: str, run: Run, rng: np.random.Generator) -> Callable[[], None] | None:
    """What does the fault to a run, None where there is nobody yet whom it could hit."""
    if kind in ("kill job", "truncate"):
        return run.kill
    if kind == "kill launcher":
        return lambda: run.send(signal.SIGKILL)
    if kind == "SIGTERM job":
        return lambda: run.send(signal.SIGTERM)
    hit = run.mains()
    if kind == "kill child":
        with contextlib.suppress(psutil.NoSuchProcess):
            hit = [child for main in hit for child in main.children()]
    number = signal.SIGTERM if kind == "SIGTERM process" else signal.SIGKILL
    return _signal_to(hit[rng.integers(len(hit))], number) if hit else None


def _signal_to(process: psutil.Process, number: int) -> Callable[[], None]:
    def send() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)

    return send


def truncate(workdir: Path, rng: np.random.Generator) -> tuple[str, int] | None:
    """Cut a file of the last whole checkpoint short, a third of the times to nothing.

    Returns:
        What was done, and the checkpoint's step; None if there is no checkpoint.
    """
    step = whole_step(workdir)
    folder = workdir / "checkpoints" / str(step)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    if not step or not files:
        return None
    path = files[rng.integers(len(files))]
    size = path.stat().st_size
    length = 0 if rng.integers(3) == 0 else int(rng.integers(size))
    os.truncate(path, length)
    harmless = (
        "" if checkpoint_integrity.find_corruption(folder) else "; not a part of what is sealed"
    )
    return f"{path.relative_to(workdir)}: {length} of {size} bytes left{harmless}", step


@contextlib.contextmanager
def small_disk(workdir: Path, room: int) -> Iterator[None]:
    """The work directory on a disk of its own with so many bytes of room, for a while."""
    kept = workdir.with_name("kept")
    shutil.copytree(workdir, kept)
    _mount("tmpfs", workdir, "size=1g")
    try:
        shutil.copytree(kept, workdir, dirs_exist_ok=True)
        state = os.statvfs(workdir)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        _mount("tmpfs", workdir, f"remount,size={used + room}")
        yield
        shutil.rmtree(kept)
        shutil.copytree(workdir, kept)
    finally:
        subprocess.run(["umount", "--lazy", workdir], check=True)
        shutil.rmtree(workdir)
        kept.rename(workdir)


def _mount(kind: str, folder: Path, options: str) -> None:
    words = ["mount", "-t", kind, "-o", options, kind, str(folder)]
    subprocess.run(words, check=True, capture_output=True)


def can_mount(folder: Path) -> bool:
    """Whether this user may mount a disk."""
    place = folder / "mount"
    place.mkdir()
    try:
        with small_disk(place, 4096):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def size_of(folder: Path) -> int:
    """Bytes that the files below a folder take, in pages of 4 KiB."""
    return sum(
        -(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file()
    )


def room_of(workdir: Path, reference: Path, rng: np.random.Generator) -> int:
    """Bytes of room on the small disk: up to what the rest of the run needs."""
    checkpoint = size_of(reference / "checkpoints" / str(whole_step(reference)))
    rest = size_of(reference) - size_of(workdir)
    return int(rng.integers(checkpoint + max(0, rest)))


def limit_of(reference: Path, rng: np.random.Generator) -> int:
    """A file's most bytes: up to a tenth more than the largest of a checkpoint."""
    sizes = [p.stat().st_size for p in (reference / "checkpoints").rglob("*") if p.is_file()]
    return int(rng.integers(1, 11 * max(sizes) // 10))
