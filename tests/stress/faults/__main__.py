"""Disturb training jobs at random moments: no result may be lost, and no job may hang.

    python -m tests.stress.faults --json faults.json --markdown faults.md

The faults are kills, SIGTERM, truncated checkpoints and full disks. Small jobs of the three methods
run, half of them in one process, half in two. Each job runs without faults first. Then it runs with
faults: after each fault the same command is started again, and the final results are compared with
those of the undisturbed run bit by bit. After a fault the exit code, the seconds until the end, the
messages, and the step from which the next run resumes are checked. Linux only. The exit code is 1
if a check failed.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax

from benchmarks.timing import show
from tests.stress.faults import report
from tests.stress.faults.events import Faulted, Outcome, Reference
from tests.stress.faults.jobs import (
    CHECKPOINTS,
    Job,
    Run,
    command,
    interrupted,
    jobs_of,
    message_of,
)
from tests.stress.faults.kinds import can_mount


def undisturbed(job: Job, folder: Path, compiled: Path) -> Reference:
    """Run the job without faults. Raise SystemExit if it fails."""
    workdir = folder / "reference"
    seconds = _complete(job, command(job, workdir, compiled))
    return Reference(workdir, seconds)


def compile_for(job: Job, folder: Path, compiled: Path) -> None:
    """Run a job briefly, so that its programs are in the compilation cache."""
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
    """Run a job without faults, then with faults, and compare the results."""
    own = folder / f"job_{job.number}"
    reference = undisturbed(job, own, compiled)
    faulted = Faulted(job, own, compiled, reference, seed)
    had = []
    for event in faulted.events(events, without):
        print(report.line_of(job, event), flush=True)
        had.append(event)
    wrong = faulted.finish()
    ending = f"differs in {', '.join(wrong)}" if wrong else "results as without faults"
    print(f"job {job.number}, {job.method} x {job.processes}: {ending}", flush=True)
    shutil.rmtree(own)
    return Outcome(job, had, events - len(had), wrong)


def in_parallel(calls: Sequence[Callable[[], Any]], at_once: int) -> list[Any]:
    """Return the results of calls in threads. If one fails or at Ctrl-C, all runs are ended."""
    interrupted.clear()
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(call) for call in calls]
        try:
            return [future.result() for future in futures]
        except BaseException:
            interrupted.set()
            pool.shutdown(cancel_futures=True)
            raise


def shares(events: int, jobs: int) -> list[int]:
    """Return the number of events of each job."""
    return [events // jobs + (number < events % jobs) for number in range(jobs)]


def measure(options: argparse.Namespace, folder: Path) -> list[Outcome]:
    """Run all jobs, `options.at_once` at the same time."""
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
        raise argparse.ArgumentTypeError(f"{text!r}; wanted a number >= 1")
    return int(text)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=_positive, default=20, help="default: 20")
    parser.add_argument("--events", type=_positive, default=100, help="all faults; default: 100")
    parser.add_argument("--seed", type=int, default=0, help="seed of faults and jobs; default: 0")
    parser.add_argument("--folder", type=Path, help="for temporary files; default: the system's")
    parser.add_argument("--at_once", type=_positive, default=2, help="jobs run at once; default: 2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write tables as Markdown")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run all jobs, print and write the report, and return the exit code."""
    options = parse(argv)
    for file in filter(None, (options.json, options.markdown)):
        file.write_text("")  # an error must show before the jobs run
    jax.config.update("jax_platforms", "cpu")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="jaxtal_faults_", dir=options.folder) as name:
        outcomes = measure(options, Path(name).resolve())
    about = report.conditions(options)
    if options.json:
        options.json.write_text(report.as_json(outcomes, about))
    if options.markdown:
        options.markdown.write_text(report.markdown(outcomes, about))
    show(report.rich_table("Events", report.COLUMNS, report.rows_of(outcomes)))
    show(report.rich_table("By fault", report.SUMMARY, report.summary(outcomes)))
    events = [event for outcome in outcomes for event in outcome.events]
    return int(any(outcome.wrong for outcome in outcomes) or any(e.wrong for e in events))


if __name__ == "__main__":
    sys.exit(main())
