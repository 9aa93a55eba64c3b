"""Kill, stop, damage and starve training jobs at random moments: nothing may be lost or hang.

    python -m benchmarks.faults --json faults.json --markdown faults.md

Small jobs of the three methods, half of them one process, half two. Each runs undisturbed first,
then once more with faults, after each of which the same command is given again, and what it has
written in the end is compared bit by bit. Of a fault it is checked how the job ends: exit code,
seconds, what it says, and from which step the next run goes on. Linux only. Exit code 1 if anything
was not as it should be.
"""

import argparse
import contextlib
import dataclasses
import errno
import importlib.metadata
import json
import os
import platform
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import psutil
from rich.markup import escape
from rich.table import Table

from benchmarks.timing import show
from jaxtal import seals
from jaxtal.workdir import Workdir

ROOT = Path(__file__).parents[1]
METHODS = ("co2net", "d2net", "twostream")
INTERRUPTED = 75

# By the number of processes; some seconds on two cores after the start.
STEPS = {1: 2400, 2: 800}
CHECKPOINTS = 8
TINY = {
    "data.num_snippets": 16,
    "data.generator.num_train": 12,
    "data.generator.num_test": 6,
    "data.generator.num_classes": 3,
    "data.generator.feature_width": 8,
    "data.generator.max_snippets": 100,
    "train.log_every": 25,
    "evaluation.plot_videos": 2,
}

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
# Exit code and most seconds from the fault to the end of all processes.
KILLED = -signal.SIGKILL
ENDINGS = {
    "kill job": (KILLED, 10.0),
    "kill launcher": (KILLED, 10.0),
    "kill process": (INTERRUPTED, 60.0),
    "kill child": (INTERRUPTED, 60.0),
    "SIGTERM job": (INTERRUPTED, 30.0),
    "SIGTERM process": (INTERRUPTED, 60.0),
    "truncate": (KILLED, 10.0),
    "full disk": (2, float("inf")),  # the moment is not known
    "file limit": (2, float("inf")),
}
HUNG_SECONDS = 120.0
MOST_DRAWS = 12
FULL = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]

_interrupted = threading.Event()


class Job(NamedTuple):
    """A training job.

    Attributes:
        number: from 0.
        method: of METHODS.
        processes: 1, or 2 by launch/local.py.
        population: models.
        seed: config.seed.
        steps: config.train.steps.
    """

    number: int
    method: str
    processes: int
    population: int
    seed: int
    steps: int


class Reference(NamedTuple):
    """What a job was undisturbed: its work directory, and seconds with all programs compiled."""

    workdir: Path
    seconds: float


@dataclasses.dataclass
class Event:
    """A fault and what became of it.

    Attributes:
        job: its number.
        kind: of ENDINGS.
        at: seconds from the start of the run that it hit; where the disk was full, to the end.
        step: the last one in metrics.jsonl then, None before there is any.
        code: exit code, negative for a signal, None if the job hung and was killed.
        took: seconds from the fault to the end of all processes, None where the disk was full.
        message: the first line on stderr that is an error, else the last one; or what was cut.
        whole: step of the last whole checkpoint after it, 0 for none.
        resumed: the step that the job went on from, None if it never said.
        wrong: what was not as it should be.
    """

    job: int
    kind: str
    at: float
    step: int | None
    code: int | None
    took: float | None
    message: str
    whole: int
    resumed: int | None = None
    wrong: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Outcome:
    """A job after all its events, and in what it differs from its undisturbed run."""

    job: Job
    events: list[Event]
    missing: int
    wrong: list[str]


def jobs_of(count: int, seed: int) -> list[Job]:
    """One process and two in turn, the methods in turn, single runs of one model and of two."""
    jobs = []
    for number in range(count):
        pair, processes = number // 2, 1 + number % 2
        population = 2 if processes == 2 else 1 + pair // len(METHODS) % 2
        method = METHODS[pair % len(METHODS)]
        steps = STEPS[processes]
        jobs.append(Job(number, method, processes, population, 100 * seed + number, steps))
    return jobs


def shares(events: int, jobs: int) -> list[int]:
    """How many events each job has."""
    return [events // jobs + (number < events % jobs) for number in range(jobs)]


def kinds_of(
    count: int, processes: int, without: tuple[str, ...], rng: np.random.Generator
) -> list[str]:
    """So many kinds of faults, all classes of them as often as possible."""
    classes = FAULTS[processes]
    rounds = -(-count // len(classes))
    order = [k for _ in range(rounds) for k in rng.permutation(len(classes))][:count]
    possible = [[kind for kind in kinds if kind not in without] for kinds in classes]
    return [str(rng.choice(possible[k])) for k in order]


def command(job: Job, workdir: Path, compiled: Path, steps: int | None = None) -> list[str]:
    """What is given to start the job, and again to go on.

    Args:
        steps: others than the job's.
    """
    fields = {
        **TINY,
        "seed": job.seed,
        "population": job.population,
        "train.steps": steps or job.steps,
        "train.eval_every": job.steps // CHECKPOINTS,
    }
    arguments = [
        f"--config=configs/{job.method}_demo.py",
        *(f"--config.{name}={value}" for name, value in fields.items()),
        f"--workdir={workdir}",
        f"--compiled={compiled}",
    ]
    if job.processes == 1:
        return [sys.executable, "-m", "jaxtal.main", *arguments]
    launcher = [sys.executable, "launch/local.py", f"--processes={job.processes}", "--"]
    return [*launcher, *arguments]


def environment() -> dict[str, str]:
    """What jobs are started with."""
    added = {"JAX_PLATFORMS": "cpu", "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    # JAX caches what process 0 compiles, the others compile at every start: without optimising.
    return {**kept, **added, "XLA_FLAGS": "--xla_backend_optimization_level=0"}


class Run:
    """The processes of a started job, and what they say."""

    def __init__(self, words: list[str], limit: int | None = None):
        """Start it.

        Args:
            words: the command.
            limit: bytes of a file that may be written, hard and soft.
        """
        self.start = time.monotonic()
        self._process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._process.pid
        if limit is not None:  # long before the interpreter writes anything
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit, limit))
        self.seconds = 0.0  # when it has ended
        self.out: list[str] = []
        self.err: list[str] = []
        pairs = (self._process.stdout, self.out), (self._process.stderr, self.err)
        self._readers = [
            threading.Thread(target=_collect, args=pair, daemon=True) for pair in pairs
        ]
        for reader in self._readers:
            reader.start()

    @property
    def code(self) -> int | None:
        """Of the process that was started, None while it runs."""
        return self._process.poll()

    def pids(self) -> list[int]:
        """All processes of the job that run; they share a session, whoever their parents are."""
        return [pid for pid in psutil.pids() if _runs_in(pid, self.pid)]

    def _runs(self) -> bool:
        # Of a process whose first thread has ended, but not all, neither alone says that it runs.
        return self.code is None or bool(self.pids())

    def mains(self) -> list[psutil.Process]:
        """The processes of jaxtal.main that the launcher has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children()
        return []

    def send(self, number: int) -> None:
        """Signal the process that was started."""
        if self.code is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether all processes have ended within so many seconds from now."""
        end = time.monotonic() + seconds
        while self._runs():
            if _interrupted.is_set():
                self.kill()
                raise KeyboardInterrupt
            if time.monotonic() >= end:
                return False
            time.sleep(0.04)
        self.seconds = time.monotonic() - self.start
        for reader in self._readers:
            reader.join(timeout=5)
        return True

    def wait_until(self, moment: float) -> bool:
        """The same for so many seconds from its start."""
        return self.wait(self.start + moment - time.monotonic())

    def kill(self) -> None:
        """SIGKILL to all at once."""
        end = time.monotonic() + 10
        while self._runs() and time.monotonic() < end:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def _collect(stream: IO[str], lines: list[str]) -> None:
    with stream:
        lines += (line.rstrip("\n") for line in stream)


def _runs_in(pid: int, session: int) -> bool:
    """Whether a process is of a session and no zombie, which a container may never clear away."""
    try:
        return os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def listens(pid: int) -> bool:
    """Whether a process has said what SIGTERM does; the interpreter has to start before."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    caught = re.search(r"SigCgt:\s*(\w+)", status)
    return bool(caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def told(lines: list[str]) -> int | None:
    """The step that a run has said to go on from, 0 for the beginning, None if it did not say."""
    for line in lines:
        if match := re.match(r"continuing from step (\d+)", line):
            return int(match[1])
        if line.startswith("compiled "):
            return 0
    return None


def errors_of(lines: list[str]) -> list[str]:
    """Those for the person who has started the job; the launcher says which process wrote one."""
    return [line for line in lines if re.match(r"(\[process \d+\] )?error: ", line)]


def message_of(lines: list[str]) -> str:
    """The first error, which is the cause, else the last line of stderr; without folders."""
    filled = [line.strip() for line in lines if line.strip()]
    told = errors_of(filled)[:1] or filled[-1:] or [""]
    return without_folders(told[0])[:250]


def without_folders(text: str) -> str:
    """Of absolute paths only the last name."""
    return re.sub(r"(?<![\w./])(?:/[\w.+@=-]+)+/([\w.+@=-]+)", r"\1", text)


def last_step(workdir: Path) -> int | None:
    """The last one that metrics.jsonl knows."""
    lines = Workdir(workdir).metrics()
    return lines[-1]["step"] if lines else None


def whole_step(workdir: Path) -> int:
    """The last one with a whole checkpoint, 0 for none."""
    return seals.latest(workdir / "checkpoints") or 0


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
    harmless = "" if seals.broken(folder) else "; not a part of what is sealed"
    return f"{path.relative_to(workdir)}: {length} of {size} bytes left{harmless}", step


def judge(
    event: Event, before: int, near_end: bool, listened: bool, trained: bool, lines: list[str]
) -> list[str]:
    """What is wrong with how a job ended.

    Args:
        event: with everything known at its end.
        before: the last whole step at the start of the run that it hit.
        near_end: the work was nearly done, so that a SIGTERM may come too late for the last step.
        listened: SIGTERM's receiver had said what it does.
        trained: the run had reached its first step.
        lines: of stderr.
    """
    code, seconds = ENDINGS[event.kind]
    if event.code is None:
        return ["hung"]
    wrong = []
    allowed = {code}
    if event.kind == "SIGTERM job" and not listened:
        allowed.add(-signal.SIGTERM)
    if event.kind.startswith("SIGTERM") and near_end:
        allowed.add(0)
    if event.code not in allowed:
        wrong.append(f"exit code {event.code} instead of {code}")
    if event.took is not None and event.took > seconds:
        wrong.append(f"ended after {event.took:.0f} s, wanted {seconds:.0f}")
    if event.kind in FILL and not _tell(errors_of(lines), FULL):
        wrong.append("does not say that the disk is full")
    if event.code == 2 and not _tell(lines[-1:], ["error: ", "ended with exit code 2"]):
        last = without_folders("".join(lines[-1:]))[:150]
        wrong.append(f"the last line is no error: {last}")
    alone = event.kind in ("kill process", "kill child") and trained and not near_end
    if alone and not _tell(errors_of(lines), ["another process of this job was lost"]):
        wrong.append("the other process did not notice")
    if event.kind != "truncate" and event.whole < before:
        wrong.append(f"step {before} was whole before")
    if event.kind.startswith("SIGTERM") and trained and event.whole < (event.step or 0):
        wrong.append(f"step {event.step} was done and is not saved")
    for line in lines:
        said = re.search(r"step (\d+) is (saved|good)", line)
        if said and int(said[1]) != event.whole:
            wrong.append(f"says that step {said[1]} is {said[2]}")
    return wrong


def _tell(lines: list[str], texts: list[str]) -> bool:
    return any(text in line for line in lines for text in texts)


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


class Faulted:
    """A job that faults hit, in a work directory of its own."""

    def __init__(self, job: Job, folder: Path, compiled: Path, reference: Reference, seed: int):
        self.job, self.reference = job, reference
        self.workdir = folder / "faulted"
        self._before = folder / "before"
        self._command = command(job, self.workdir, compiled)
        self._rng = np.random.default_rng([seed, job.number])
        self._unsettled: list[tuple[Event, int | None]] = []  # and the step that has to be aside
        self._warned = False
        self.workdir.mkdir(parents=True)

    def events(self, count: int, without: tuple[str, ...]) -> Iterator[Event]:
        """So many faults, fewer where the draws of one all came to nothing."""
        for kind in kinds_of(count, self.job.processes, without, self._rng):
            for _ in range(MOST_DRAWS):
                if event := self._attempt(kind):
                    yield event
                    break

    def _attempt(self, kind: str) -> Event | None:
        """A fault; None, and all as before, if the run was done before it came."""
        shutil.copytree(self.workdir, self._before)
        event = self._starved(kind) if kind in FILL else self._hit(kind)
        if event is None:
            shutil.rmtree(self.workdir)
            self._before.rename(self.workdir)
        else:
            shutil.rmtree(self._before)
        return event

    def _hit(self, kind: str) -> Event | None:
        """A run that is killed, stopped, or killed and damaged at a random moment."""
        before = whole_step(self.workdir)
        run = Run(self._command)
        does, moment = None, 0.0
        while does is None and time.monotonic() - run.start < self.reference.seconds:
            moment = self._rng.uniform(moment, self.reference.seconds)
            if run.wait_until(moment):
                return self._by_itself(kind, run, before)
            if kind != "truncate" or whole_step(self.workdir):
                does = strike(kind, run, self._rng)
        if does is None:
            run.kill()
            return None
        event = Event(self.job.number, kind, 0, last_step(self.workdir), None, None, "", 0)
        listened = listens(run.pid)
        trained = any(line.startswith("compiled ") for line in run.out)
        begin = time.monotonic()
        event.at = begin - run.start
        does()
        self._end(run, event, HUNG_SECONDS)
        event.took = time.monotonic() - begin
        cut = truncate(self.workdir, self._rng) if kind == "truncate" else None
        near_end = (event.step or 0) >= self.job.steps - 3 * TINY["train.log_every"]
        done = event.code == 0 and (near_end or not kind.startswith("SIGTERM"))
        if done or (kind == "truncate" and not cut):
            return None
        event.message = cut[0] if cut else message_of(run.err)
        event.whole = whole_step(self.workdir)
        event.wrong = judge(event, before, near_end, listened, trained, run.err)
        self._settle(run, before)
        self._unsettled.append((event, cut[1] if cut and cut[1] != event.whole else None))
        return event

    def _by_itself(self, kind: str, run: Run, before: int) -> Event | None:
        """The end of a run before the moment of its fault: it is done, or has failed."""
        self._settle(run, before)
        if run.code == 0:
            return None
        step, whole = last_step(self.workdir), whole_step(self.workdir)
        message = message_of(run.err)
        event = Event(self.job.number, kind, run.seconds, step, run.code, None, message, whole)
        event.wrong = [f"exit code {run.code} before the fault"]
        self._unsettled.append((event, None))
        return event

    def _starved(self, kind: str) -> Event | None:
        """A run without room for its files."""
        before = whole_step(self.workdir)
        reference = self.reference.workdir
        event = Event(self.job.number, kind, 0, None, None, None, "", 0)
        if kind == "file limit":
            run = Run(self._command, limit_of(reference, self._rng))
            self._end(run, event, self._most_seconds())
        else:
            with small_disk(self.workdir, room_of(self.workdir, reference, self._rng)):
                run = Run(self._command)
                self._end(run, event, self._most_seconds())
        if event.code == 0:
            return None
        event.at, event.step = run.seconds, last_step(self.workdir)
        event.message, event.whole = message_of(run.err), whole_step(self.workdir)
        event.wrong = judge(event, before, False, True, True, run.err)
        self._settle(run, before)
        self._unsettled.append((event, None))
        return event

    def _end(self, run: Run, event: Event, seconds: float) -> None:
        """Wait for a run's end, and force it at last."""
        if run.wait(seconds):
            event.code = run.code
        else:
            run.kill()
            run.seconds = time.monotonic() - run.start

    def _most_seconds(self) -> float:
        return HUNG_SECONDS + 5 * self.reference.seconds

    def _settle(self, run: Run, expected: int) -> None:
        """Note where a run went on, in the events since the last one that said so."""
        self._warned |= any("this checkpoint is cut short" in line for line in run.err)
        if (step := told(run.out)) is None:
            return
        for event, aside in self._unsettled:
            event.resumed = step
            if step != expected:
                event.wrong.append(f"resumed from step {step} instead of {expected}")
            if aside and not (self.workdir / "damaged" / str(aside)).is_dir():
                event.wrong.append("the damaged checkpoint is not set aside")
            if aside and not self._warned:
                event.wrong.append("no warning of the damaged checkpoint")
        self._unsettled.clear()
        self._warned = False

    def finish(self) -> list[str]:
        """Run to the end; in what that differs from the reference."""
        before = whole_step(self.workdir)
        run = Run(self._command)
        if not run.wait(self._most_seconds()):
            run.kill()
            return ["hung at its end"]
        self._settle(run, before)
        if run.code:
            return [f"exit code {run.code} at its end: {message_of(run.err)}"]
        return differences(self.workdir, self.reference.workdir)


def differences(ours: Path, theirs: Path) -> list[str]:
    """The names of what two finished work directories do not have alike, bit by bit."""
    results = [json.loads((folder / "result.json").read_text()) for folder in (ours, theirs)]
    for result in results:
        del result["seconds"]
    found = [] if results[0] == results[1] else ["result.json"]
    names = {path.relative_to(at) for at in (ours, theirs) for path in at.rglob("detections.json")}
    for name in sorted({*names, Path("metrics.jsonl")}):
        if _bytes_of(ours / name) != _bytes_of(theirs / name):
            found.append(str(name))
    first, second = (checkpoint_of(folder) for folder in (ours, theirs))
    found += [
        f"checkpoint: {name}"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]
    return found


def _bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def checkpoint_of(workdir: Path) -> dict[str, Any]:
    """The last checkpoint: every array's type, shape and bytes by its name, step and progress."""
    step = whole_step(workdir)
    folder = workdir / "checkpoints" / str(step)
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        saved = handler.metadata(folder / "state").tree
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        tree = handler.restore(folder / "state", args=ocp.args.PyTreeRestore(restore_args=how))
    arrays = {
        jax.tree_util.keystr(path): (str(leaf.dtype), leaf.shape, leaf.tobytes())
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.tree.map(np.asarray, tree))
    }
    return {**arrays, "step": step, "progress": _bytes_of(folder / "progress" / "metadata")}


def undisturbed(job: Job, folder: Path, compiled: Path) -> Reference:
    """The job's run without faults; SystemExit if even that fails."""
    workdir = folder / "reference"
    seconds = _complete(job, command(job, workdir, compiled))
    return Reference(workdir, seconds)


def compile_for(job: Job, folder: Path, compiled: Path) -> None:
    """A short run of a job like this one, which leaves its programs in the folder for them."""
    workdir = folder / f"compile_{job.number}"
    _complete(job, command(job, workdir, compiled, job.steps // CHECKPOINTS))
    shutil.rmtree(workdir)


def _complete(job: Job, words: list[str]) -> float:
    run = Run(words)
    if not run.wait(900):
        run.kill()
    if run.code:
        raise SystemExit(f"{job}: exit code {run.code} without a fault: {message_of(run.err)}")
    return run.seconds


def run_job(
    job: Job, events: int, folder: Path, compiled: Path, without: tuple[str, ...], seed: int
) -> Outcome:
    """The job without faults, then with them, then the comparison."""
    own = folder / f"job_{job.number}"
    reference = undisturbed(job, own, compiled)
    faulted = Faulted(job, own, compiled, reference, seed)
    had = []
    for event in faulted.events(events, without):
        print(line_of(job, event), flush=True)
        had.append(event)
    wrong = faulted.finish()
    ending = f"differs in {', '.join(wrong)}" if wrong else "as without faults"
    print(f"job {job.number}, {job.method} x {job.processes}: {ending}", flush=True)
    shutil.rmtree(own)
    return Outcome(job, had, events - len(had), wrong)


def line_of(job: Job, event: Event) -> str:
    """An event as it is told while others go on."""
    ended = "hung" if event.code is None else f"exit code {event.code}"
    after = "" if event.took is None else f" after {event.took:.1f} s"
    wrong = f"; WRONG: {', '.join(event.wrong)}" if event.wrong else ""
    return (
        f"job {job.number}, {job.method} x {job.processes}: {event.kind} at {event.at:.1f} s, step "
        f"{event.step}: {ended}{after}; step {event.whole} is whole; {event.message}{wrong}"
    )


def in_parallel(calls: Sequence[Callable[[], Any]], at_once: int) -> list[Any]:
    """The results of calls in threads; all end when one fails, or at Ctrl-C."""
    _interrupted.clear()
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(call) for call in calls]
        try:
            return [future.result() for future in futures]
        except BaseException:
            _interrupted.set()
            pool.shutdown(cancel_futures=True)
            raise


COLUMNS = (
    "job", "method", "processes", "fault", "at, s", "step", "exit code", "ended after, s",
    "whole", "resumed", "what it said, or what was cut", "wrong",
)  # fmt: skip


def rows_of(outcomes: list[Outcome]) -> list[list[str]]:
    """The table of all events, without its header."""
    rows = []
    for job, event in ((outcome.job, event) for outcome in outcomes for event in outcome.events):
        ended = ["hung" if event.code is None else str(event.code), _shown(event.took, 1)]
        steps = [_shown(event.whole), _shown(event.resumed)]
        place = [event.kind, f"{event.at:.1f}", _shown(event.step)]
        told = [event.message, "; ".join(event.wrong)]
        rows.append(
            [str(job.number), job.method, str(job.processes), *place, *ended, *steps, *told]
        )
    return rows


def _shown(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:.{digits}f}"


SUMMARY = (
    "fault", "number", "went on", "in jobs with an identical end", "hung", "slowest end, s",
    "wrong",
)  # fmt: skip


def summary(outcomes: list[Outcome]) -> list[list[str]]:
    """A row for each kind of fault, and their sum."""
    pairs = [(event, not outcome.wrong) for outcome in outcomes for event in outcome.events]
    rows = []
    for kind in [*ENDINGS, "all"]:
        these = [(event, same) for event, same in pairs if kind in (event.kind, "all")]
        took = [event.took for event, _ in these if event.took is not None]
        counts = [
            len(these),
            sum(event.resumed is not None for event, _ in these),
            sum(same for _, same in these),
            sum(event.code is None for event, _ in these),
        ]
        slowest = _shown(max(took, default=None), 1)
        wrong = sum(bool(event.wrong) for event, _ in these)
        if these:
            rows.append([kind, *map(str, counts), slowest, str(wrong)])
    return rows


def markdown_table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    """The table as Markdown."""
    lines = [list(columns), ["---"] * len(columns), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """What a reader has to know to do it again."""
    names = ("jax", "jaxlib", "orbax-checkpoint", "numpy")
    words = [f"--{name}={getattr(options, name)}" for name in ("jobs", "events", "seed", "at_once")]
    versions = {name: importlib.metadata.version(name) for name in names}
    return {
        "command": shlex.join(["python", "-m", "benchmarks.faults", *words]),
        "seed": options.seed,
        "versions": {"python": platform.python_version(), **versions},
        "cores": len(os.sched_getaffinity(0)),
    }


def markdown(outcomes: list[Outcome], about: dict[str, Any]) -> str:
    """The report."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    jobs = [
        f"- job {o.job.number}, {o.job.method}: {', '.join(o.wrong)}" for o in outcomes if o.wrong
    ]
    same = (
        f"{len(outcomes) - len(jobs)} of {len(outcomes)} jobs ended as without faults, bit by bit."
    )
    missing = sum(outcome.missing for outcome in outcomes)
    if missing:
        same += f" {missing} events found no run that they could hit."
    parts = [
        "# Faults",
        f"`{about['command']}`: seed {about['seed']}, {versions}, {about['cores']} CPU cores.",
        "\n".join([same, *jobs]),
        markdown_table(SUMMARY, summary(outcomes)),
        "## Events",
        markdown_table(COLUMNS, rows_of(outcomes)),
    ]
    return "\n\n".join(parts) + "\n"


def as_json(outcomes: list[Outcome], about: dict[str, Any]) -> str:
    """Everything, for programs."""
    content = [
        {
            **outcome.job._asdict(),
            "wrong": outcome.wrong,
            "events": [dataclasses.asdict(event) for event in outcome.events],
        }
        for outcome in outcomes
    ]
    return json.dumps({**about, "jobs": content}, indent=1) + "\n"


def rich_table(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> Table:
    """The table for a terminal."""
    table = Table(title=title)
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def measure(options: argparse.Namespace, folder: Path) -> list[Outcome]:
    """All jobs, so many at once."""
    compiled = folder / "compiled"
    without = () if can_mount(folder) else ("full disk",)
    jobs = jobs_of(options.jobs, options.seed)
    shapes = {(job.method, job.processes, job.population): job for job in jobs}
    in_parallel(
        [partial(compile_for, job, folder, compiled) for job in shapes.values()], options.at_once
    )
    counts = shares(options.events, options.jobs)
    calls = [
        partial(run_job, job, count, folder, compiled, without, options.seed)
        for job, count in zip(jobs, counts, strict=True)
    ]
    return in_parallel(calls, options.at_once)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted a number from 1 on")
    return int(text)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=_positive, default=20, help="default: 20")
    parser.add_argument("--events", type=_positive, default=100, help="of all jobs; default: 100")
    parser.add_argument("--seed", type=int, default=0, help="of faults and jobs; default: 0")
    parser.add_argument("--folder", type=Path, help="for temporary files; default: the system's")
    parser.add_argument("--at_once", type=_positive, default=2, help="jobs; default: 2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write; the exit code."""
    options = parse(argv)
    for file in filter(None, (options.json, options.markdown)):
        file.write_text("")  # an error now is better than one at the end
    jax.config.update("jax_platforms", "cpu")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="jaxtal_faults_", dir=options.folder) as name:
        outcomes = measure(options, Path(name).resolve())
    about = conditions(options)
    if options.json:
        options.json.write_text(as_json(outcomes, about))
    if options.markdown:
        options.markdown.write_text(markdown(outcomes, about))
    show(rich_table("Events", COLUMNS, rows_of(outcomes)))
    show(rich_table("By fault", SUMMARY, summary(outcomes)))
    events = [event for outcome in outcomes for event in outcome.events]
    return int(any(outcome.wrong for outcome in outcomes) or any(e.wrong for e in events))


if __name__ == "__main__":
    sys.exit(main())
