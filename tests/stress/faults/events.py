"""Faults of one job: apply them, check its reaction, compare its final results."""

import contextlib
import dataclasses
import errno
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxtal.data.io import json_files
from jaxtal.parallel.preemption import INTERRUPTED
from tests.stress.faults.jobs import (
    TINY,
    Job,
    Run,
    command,
    complete_step,
    errors_of,
    handles_sigterm,
    last_step,
    message_of,
    resumed_step,
    without_folders,
)
from tests.stress.faults.kinds import (
    FILL,
    kinds_of,
    limit_of,
    room_of,
    small_disk,
    strike,
    truncate,
)

# Expected exit code, and maximum seconds from the fault to the end of all processes.
KILLED = -signal.SIGKILL
ENDINGS = {
    "kill job": (KILLED, 10.0),
    "kill launcher": (KILLED, 10.0),
    "kill process": (INTERRUPTED, 60.0),
    "kill child": (INTERRUPTED, 60.0),
    "SIGTERM job": (INTERRUPTED, 30.0),
    "SIGTERM process": (INTERRUPTED, 60.0),
    "truncate": (KILLED, 10.0),
    "full disk": (2, float("inf")),  # the time of the fault is not known
    "file limit": (2, float("inf")),
}
HUNG_SECONDS = 120.0
MOST_DRAWS = 12
FULL = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]


class Reference(NamedTuple):
    """Undisturbed run: its work directory, and its seconds with all programs compiled."""

    workdir: Path
    seconds: float


@dataclasses.dataclass
class Event:
    """A fault and its effects.

    Attributes:
        job: number of the job.
        kind: kind of fault, a key of ENDINGS.
        at: seconds from the start of the run to the fault; for a full disk, to the end of the run.
        step: last step in metrics.jsonl at the fault, None if there is none.
        code: exit code, negative for a signal, None if the job hung and was killed.
        took: seconds from the fault to the end of all processes, None for a full disk.
        message: first error line on stderr, else its last line; for truncation, the file.
        complete: step of the last complete checkpoint after the fault, 0 for none.
        resumed: step that the next run resumed from, None if no run reported one.
        wrong: failed checks.
    """

    job: int
    kind: str
    at: float
    step: int | None
    code: int | None
    took: float | None
    message: str
    complete: int
    resumed: int | None = None
    wrong: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Outcome:
    """Result of a job: its events, and the differences from its undisturbed run."""

    job: Job
    events: list[Event]
    missing: int
    wrong: list[str]


def judge(
    event: Event, before: int, near_end: bool, handled: bool, trained: bool, lines: list[str]
) -> list[str]:
    """Return the failed checks of a job's end.

    Args:
        event: the event, complete except for `resumed`.
        before: step of the last complete checkpoint at the start of the disturbed run.
        near_end: the run was nearly done, so SIGTERM may have come after its last step.
        handled: the process had installed its SIGTERM handler.
        trained: the run had reached its first step.
        lines: lines of stderr.
    """
    code, seconds = ENDINGS[event.kind]
    if event.code is None:
        return ["hung"]
    wrong = []
    allowed = {code}
    if event.kind == "SIGTERM job" and not handled:
        allowed.add(-signal.SIGTERM)
    if event.kind.startswith("SIGTERM") and near_end:
        allowed.add(0)
    if event.code not in allowed:
        wrong.append(f"exit code {event.code} instead of {code}")
    if event.took is not None and event.took > seconds:
        wrong.append(f"ended after {event.took:.0f} s, wanted {seconds:.0f}")
    if event.kind in FILL and not _contain(errors_of(lines), FULL):
        wrong.append("does not report the full disk")
    if event.code == 2 and not _contain(lines[-1:], ["error: ", "ended with exit code 2"]):
        last = without_folders("".join(lines[-1:]))[:150]
        wrong.append(f"the last line is not an error: {last}")
    alone = event.kind in ("kill process", "kill child") and trained and not near_end
    if alone and not _contain(errors_of(lines), ["another process of this job was lost"]):
        wrong.append("the other process did not notice")
    if event.kind != "truncate" and event.complete < before:
        wrong.append(f"the checkpoint of step {before} is lost")
    if event.kind.startswith("SIGTERM") and trained and event.complete < (event.step or 0):
        wrong.append(f"step {event.step} was done but is not saved")
    for line in lines:
        reported = re.search(r"step (\d+) is (saved|good)", line)
        if reported and int(reported[1]) != event.complete:
            wrong.append(f"reports that step {reported[1]} is {reported[2]}")
    return wrong


def _contain(lines: list[str], texts: list[str]) -> bool:
    return any(text in line for line in lines for text in texts)


class Faulted:
    """Job with faults, in its own work directory."""

    def __init__(self, job: Job, folder: Path, compiled: Path, reference: Reference, seed: int):
        self.job, self.reference = job, reference
        self.workdir = folder / "faulted"
        self._before = folder / "before"
        self._command = command(job, self.workdir, compiled)
        self._rng = np.random.default_rng([seed, job.number])
        self._unsettled: list[tuple[Event, int | None]] = []  # step to be quarantined
        self._warned = False
        self.workdir.mkdir(parents=True)

    def events(self, count: int, without: tuple[str, ...]) -> Iterator[Event]:
        """Yield `count` faults; fewer if all draws of one missed the run."""
        for kind in kinds_of(count, self.job.processes, without, self._rng):
            for _ in range(MOST_DRAWS):
                if event := self._attempt(kind):
                    yield event
                    break

    def _attempt(self, kind: str) -> Event | None:
        """Apply a fault. Return None, with all files as before, if the run was done before it."""
        shutil.copytree(self.workdir, self._before)
        event = self._starved(kind) if kind in FILL else self._hit(kind)
        if event is None:
            shutil.rmtree(self.workdir)
            self._before.rename(self.workdir)
        else:
            shutil.rmtree(self._before)
        return event

    def _hit(self, kind: str) -> Event | None:
        """Run, and at a random moment kill it, signal it, or kill it and truncate a file."""
        before = complete_step(self.workdir)
        run = Run(self._command)
        does, moment = None, 0.0
        while does is None and time.monotonic() - run.start < self.reference.seconds:
            moment = self._rng.uniform(moment, self.reference.seconds)
            if run.wait_until(moment):
                return self._by_itself(kind, run, before)
            if kind != "truncate" or complete_step(self.workdir):
                does = strike(kind, run, self._rng)
        if does is None:
            run.kill()
            return None
        event = Event(self.job.number, kind, 0, last_step(self.workdir), None, None, "", 0)
        handled = handles_sigterm(run.pid)
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
        event.complete = complete_step(self.workdir)
        event.wrong = judge(event, before, near_end, handled, trained, run.err)
        self._settle(run, before)
        self._unsettled.append((event, cut[1] if cut and cut[1] != event.complete else None))
        return event

    def _by_itself(self, kind: str, run: Run, before: int) -> Event | None:
        """Handle a run that ended before the moment of its fault: it is done, or has failed."""
        self._settle(run, before)
        if run.code == 0:
            return None
        step, complete = last_step(self.workdir), complete_step(self.workdir)
        message = message_of(run.err)
        event = Event(self.job.number, kind, run.seconds, step, run.code, None, message, complete)
        event.wrong = [f"exit code {run.code} before the fault"]
        self._unsettled.append((event, None))
        return event

    def _starved(self, kind: str) -> Event | None:
        """Run with too little disk space or with a limit of file sizes."""
        before = complete_step(self.workdir)
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
        event.message, event.complete = message_of(run.err), complete_step(self.workdir)
        event.wrong = judge(event, before, False, True, True, run.err)
        self._settle(run, before)
        self._unsettled.append((event, None))
        return event

    def _end(self, run: Run, event: Event, seconds: float) -> None:
        """Wait for the end of a run; kill it after `seconds`."""
        if run.wait(seconds):
            event.code = run.code
        else:
            run.kill()
            run.seconds = time.monotonic() - run.start

    def _most_seconds(self) -> float:
        return HUNG_SECONDS + 5 * self.reference.seconds

    def _settle(self, run: Run, expected: int) -> None:
        """Set the step that a run resumed from in all events that still lack it."""
        self._warned |= any("this checkpoint is damaged" in line for line in run.err)
        if (step := resumed_step(run.out)) is None:
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
        """Run to the end and return the differences from the reference."""
        before = complete_step(self.workdir)
        run = Run(self._command)
        if not run.wait(self._most_seconds()):
            run.kill()
            return ["hung in the final run"]
        self._settle(run, before)
        if run.code:
            return [f"exit code {run.code} of the final run: {message_of(run.err)}"]
        return differences(self.workdir, self.reference.workdir)


def differences(ours: Path, theirs: Path) -> list[str]:
    """Return the names of files and arrays in which two finished work directories differ."""
    results = [json_files.load(folder / "result.json", "a result") for folder in (ours, theirs)]
    for result in results:
        del result["seconds"]
    found = [] if results[0] == results[1] else ["result.json"]
    names = {path.relative_to(at) for at in (ours, theirs) for path in at.rglob("detections.json")}
    for name in sorted({*names, Path("metrics.jsonl")}):
        if _bytes_of(ours / name) != _bytes_of(theirs / name):
            found.append(str(name))
    first, second = (checkpoint_of(folder) for folder in (ours, theirs))
    # A checkpoint that a signal caused at the last step precedes the evaluation of that step.
    evaluated = [each["step"] for each in first.get("progress.evaluation", ()) if each]
    early = evaluated and first["step"] not in evaluated
    later = ("progress.evaluation", "progress.best") if early else ()
    found += [
        f"checkpoint: {name}"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name) and name not in later
    ]
    return found


def _bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def checkpoint_of(workdir: Path) -> dict[str, Any]:
    """Return the last checkpoint: dtype, shape and bytes of each array; step; progress."""
    step = complete_step(workdir)
    folder = workdir / "checkpoints" / str(step)
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        saved = handler.metadata(folder / "state").tree
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        tree = handler.restore(folder / "state", args=ocp.args.PyTreeRestore(restore_args=how))
    arrays = {
        jax.tree_util.keystr(path): (str(leaf.dtype), leaf.shape, leaf.tobytes())
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.tree.map(np.asarray, tree))
    }
    progress = json_files.load(folder / "progress" / "metadata", "the progress")
    saved = {f"progress.{name}": value for name, value in progress.items()}
    return {**arrays, **saved, "step": step}
