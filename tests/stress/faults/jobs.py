"""The small training jobs that are disturbed: commands, processes, output."""

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

# Steps by number of processes: a few seconds of training on two cores.
STEPS = {1: 2400, 2: 800}
CHECKPOINTS = 8
TINY: dict[str, Any] = {
    "data.num_snippets": 16,
    "data.generator": "demo num_train=12 num_test=6 num_classes=3 feature_width=8 max_snippets=100",
    "train.log_every": 25,
    "evaluation.plot_videos": 2,
}

interrupted = threading.Event()  # when set, all runs are ended


class Job(NamedTuple):
    """A training job.

    Attributes:
        number: 0, 1, ...
        method: one of METHODS.
        processes: 1, or 2 started by launch/local.py.
        population: number of models.
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
    """Return jobs of one and two processes and of all methods in turn, with 1 or 2 models."""
    jobs = []
    for number in range(count):
        pair, processes = number // 2, 1 + number % 2
        population = 2 if processes == 2 else 1 + pair // len(METHODS) % 2
        method = METHODS[pair % len(METHODS)]
        steps = STEPS[processes]
        jobs.append(Job(number, method, processes, population, 100 * seed + number, steps))
    return jobs


def command(job: Job, workdir: Path, compiled: Path, steps: int | None = None) -> list[str]:
    """Return the command that starts and resumes a job.

    Args:
        job: the job.
        workdir: its work directory.
        compiled: folder of the compilation cache.
        steps: number of steps, by default the job's.
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
    """Return the environment of the jobs."""
    added = {"JAX_PLATFORMS": "cpu", "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    # JAX caches the programs of process 0; the others compile at every start, so do it quickly.
    return {**kept, **added, "XLA_FLAGS": "--xla_backend_optimization_level=0"}


class Run:
    """Processes of a started job, and their output."""

    def __init__(self, words: list[str], limit: int | None = None):
        """Start the job.

        Args:
            words: the command.
            limit: hard and soft limit of file sizes, bytes.
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
        if limit is not None:  # before the interpreter writes anything
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit, limit))
        self.seconds = 0.0  # set at its end
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
        """Exit code of the started process, None while it runs."""
        return self._process.poll()

    def pids(self) -> list[int]:
        """Return the running processes of the job, which are those of its session."""
        return [pid for pid in psutil.pids() if _runs_in(pid, self.pid)]

    def _runs(self) -> bool:
        # While some threads of a process have ended, either check alone may miss that it runs.
        return self.code is None or bool(self.pids())

    def mains(self) -> list[psutil.Process]:
        """Return the jaxtal.main processes that the launcher has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children()
        return []

    def send(self, number: int) -> None:
        """Send a signal to the started process."""
        if self.code is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; return True if all processes have ended."""
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
        """Wait until `moment` seconds after the start; return True if all processes have ended."""
        return self.wait(self.start + moment - time.monotonic())

    def kill(self) -> None:
        """Send SIGKILL to all processes."""
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
    """Return True for a process of a session; zombies do not count, containers may keep them."""
    try:
        return os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def handles_sigterm(pid: int) -> bool:
    """Return True if a process has installed a handler of SIGTERM."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    caught = re.search(r"SigCgt:\s*(\w+)", status)
    return bool(caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def resumed_step(lines: list[str]) -> int | None:
    """Return the step that a run resumed from: 0 for a new run, None if it is not reported yet."""
    for line in lines:
        if match := re.match(r"resuming from step (\d+)", line):
            return int(match[1])
        if line.startswith("compiled "):
            return 0
    return None


def errors_of(lines: list[str]) -> list[str]:
    """Return the error lines, with or without the launcher's prefix of the process."""
    return [line for line in lines if re.match(r"(\[process \d+\] )?error: ", line)]


def message_of(lines: list[str]) -> str:
    """Return the first error, which is the cause, else the last line; without folders."""
    filled = [line.strip() for line in lines if line.strip()]
    found = errors_of(filled)[:1] or filled[-1:] or [""]
    return without_folders(found[0])[:250]


def without_folders(text: str) -> str:
    """Shorten absolute paths to their last name."""
    return re.sub(r"(?<![\w./])(?:/[\w.+@=-]+)+/([\w.+@=-]+)", r"\1", text)


def last_step(workdir: Path) -> int | None:
    """Return the last step in metrics.jsonl, None if there is none."""
    lines = Workdir(workdir).metrics()
    return lines[-1]["step"] if lines else None


def complete_step(workdir: Path) -> int:
    """Return the last step with an intact checkpoint, 0 for none."""
    folder = workdir / "checkpoints"
    steps = reversed(checkpoint_integrity.checkpoint_steps(folder))
    return next((n for n in steps if not checkpoint_integrity.find_damage(folder / str(n))), 0)
