"""The kinds of faults of `tests.stress.faults`, and their application to a run."""

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
from tests.stress.faults.jobs import Run, complete_step

# Number of processes -> classes of faults, which are equally frequent -> kinds of a class.
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
    """Draw `count` kinds of faults; all classes are equally frequent, as far as possible."""
    classes = FAULTS[processes]
    rounds = -(-count // len(classes))
    order = [k for _ in range(rounds) for k in rng.permutation(len(classes))][:count]
    possible = [[kind for kind in kinds if kind not in without] for kinds in classes]
    return [str(rng.choice(possible[k])) for k in order]


def strike(kind: str, run: Run, rng: np.random.Generator) -> Callable[[], None] | None:
    """Return a function that applies the fault; None if its target has not started yet."""
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
    """Truncate a file of the last complete checkpoint; in a third of the cases to 0 bytes.

    Returns:
        A description and the checkpoint's step; None if there is no checkpoint.
    """
    step = complete_step(workdir)
    folder = workdir / "checkpoints" / str(step)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    if not step or not files:
        return None
    path = files[rng.integers(len(files))]
    size = path.stat().st_size
    length = 0 if rng.integers(3) == 0 else int(rng.integers(size))
    os.truncate(path, length)
    harmless = "" if checkpoint_integrity.find_damage(folder) else "; not in the manifest"
    return f"{path.relative_to(workdir)}: {length} of {size} bytes kept{harmless}", step


@contextlib.contextmanager
def small_disk(workdir: Path, room: int) -> Iterator[None]:
    """Put the work directory on a separate file system with `room` free bytes."""
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
    """Return True if this user may mount a file system."""
    place = folder / "mount"
    place.mkdir()
    try:
        with small_disk(place, 4096):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def size_of(folder: Path) -> int:
    """Return the bytes that the files below a folder occupy, in pages of 4 KiB."""
    return sum(
        -(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file()
    )


def room_of(workdir: Path, reference: Path, rng: np.random.Generator) -> int:
    """Draw the free bytes of the small disk: less than the rest of the run needs."""
    checkpoint = size_of(reference / "checkpoints" / str(complete_step(reference)))
    rest = size_of(reference) - size_of(workdir)
    return int(rng.integers(checkpoint + max(0, rest)))


def limit_of(reference: Path, rng: np.random.Generator) -> int:
    """Draw the limit of file sizes: up to 1.1 times the largest file of a checkpoint."""
    sizes = [p.stat().st_size for p in (reference / "checkpoints").rglob("*") if p.is_file()]
    return int(rng.integers(1, 11 * max(sizes) // 10))
