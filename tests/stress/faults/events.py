"""A job that faults hit, how it takes them, and whether it ends as without them."""

import contextlib
import dataclasses
import errno
import json
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

from jaxtal.parallel.preemption import INTERRUPTED
from tests.stress.faults.jobs import (
    TINY,
    Job,
    Run,
    command,
    errors_of,
    last_step,
    listens,
    message_of,
    told,
    whole_step,
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
        self._warned |= any("this checkpoint is truncated" in line for line in run.err)
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
