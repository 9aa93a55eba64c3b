"""The small training jobs that the campaign disturbs: commands, processes, what they print."""

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

from jaxtal.training import checkpoint_integrity
from jaxtal.training.workdir import Workdir

ROOT = Path(__file__).parents[3]
METHODS = ("co2net", "d2net", "twostream")

# By the number of processes; some seconds on two cores after the start.
STEPS = {1: 2400, 2: 800}
CHECKPOINTS = 8
TINY: dict[str, Any] = {
    "data.num_snippets": 16,
    "data.generator": "demo num_train=12 num_test=6 num_classes=3 feature_width=8 max_snippets=100",
    "train.log_every": 25,
    "evaluation.plot_videos": 2,
}

interrupted = threading.Event()  # set, all runs end


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
        f"--compilation_cache_dir={compiled}",
    ]
    if job.processes == 1:
        return [sys.executable, "-m", "jaxtal.main", *arguments]
    launcher = [sys.executable, "launch/local.py", f"--processes={job.processes}", "--"]
    return [*launcher, *arguments]


def environment() -> dict[str, str]:
    """What jobs are started with."""
    added = {"JAX_PLATFORMS": "cpu", "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    # JAX caches what process 0 compiles, the others compile at every start: without optimizing.
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
            if interrupted.is_set():
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
        if match := re.match(r"resuming from step (\d+)", line):
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
    return checkpoint_integrity.latest_complete_step(workdir / "checkpoints") or 0
