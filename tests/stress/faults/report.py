"""Report of `tests.stress.faults`: tables of events and of kinds of faults."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import shlex
from argparse import Namespace
from typing import Any

from rich.markup import escape
from rich.table import Table

from benchmarks.timing import markdown_table
from tests.stress.faults.events import ENDINGS, Event, Outcome
from tests.stress.faults.jobs import Job


def line_of(job: Job, event: Event) -> str:
    """Format an event as a line of the log."""
    ended = "hung" if event.code is None else f"exit code {event.code}"
    after = "" if event.took is None else f" after {event.took:.1f} s"
    wrong = f"; WRONG: {', '.join(event.wrong)}" if event.wrong else ""
    return (
        f"job {job.number}, {job.method} x {job.processes}: {event.kind} at {event.at:.1f} s, step "
        f"{event.step}: {ended}{after}; checkpoint {event.complete}; {event.message}{wrong}"
    )


COLUMNS = (
    "job", "method", "processes", "fault", "at, s", "step", "exit code", "ended after, s",
    "checkpoint", "resumed", "message, or truncated file", "wrong",
)  # fmt: skip


def rows_of(outcomes: list[Outcome]) -> list[list[str]]:
    """Return the rows of the table of all events."""
    rows = []
    for job, event in ((outcome.job, event) for outcome in outcomes for event in outcome.events):
        ended = ["hung" if event.code is None else str(event.code), _shown(event.took, 1)]
        steps = [_shown(event.complete), _shown(event.resumed)]
        place = [event.kind, f"{event.at:.1f}", _shown(event.step)]
        texts = [event.message, "; ".join(event.wrong)]
        rows.append(
            [str(job.number), job.method, str(job.processes), *place, *ended, *steps, *texts]
        )
    return rows


def _shown(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:.{digits}f}"


SUMMARY = (
    "fault", "number", "resumed", "in jobs with identical results", "hung", "slowest end, s",
    "wrong",
)  # fmt: skip


def summary(outcomes: list[Outcome]) -> list[list[str]]:
    """Return a row for each kind of fault, and one for all."""
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


def conditions(options: Namespace) -> dict[str, Any]:
    """Return command, seed, versions and cores, to repeat the run."""
    names = ("jax", "jaxlib", "orbax-checkpoint", "numpy")
    words = [f"--{name}={getattr(options, name)}" for name in ("jobs", "events", "seed", "at_once")]
    versions = {name: importlib.metadata.version(name) for name in names}
    return {
        "command": shlex.join(["python", "-m", "tests.stress.faults", *words]),
        "seed": options.seed,
        "versions": {"python": platform.python_version(), **versions},
        "cores": len(os.sched_getaffinity(0)),
    }


def markdown(outcomes: list[Outcome], about: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    jobs = [
        f"- job {o.job.number}, {o.job.method}: {', '.join(o.wrong)}" for o in outcomes if o.wrong
    ]
    good = f"{len(outcomes) - len(jobs)} of {len(outcomes)} jobs"
    same = f"{good} have results as without faults, bit by bit."
    missing = sum(outcome.missing for outcome in outcomes)
    if missing:
        same += f" {missing} events missed their run in all draws."
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
    """Return all results as JSON."""
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
    """Return a table for the terminal."""
    table = Table(title=title)
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*map(escape, row))
    return table
