"""Signal commands at random moments: no file may be incomplete, no result may be lost.

    python -m tests.stress.signals --signals 200 --json signals.json --markdown signals.md

The signals are SIGINT, SIGTERM, SIGHUP, SIGKILL, and SIGSTOP followed by SIGCONT. The commands are
`jaxtal train`, `predict`, `export`, `report` and `data convert`. After each signal the exit code,
the lines on stderr and every file under its final name are checked. After a few signals the same
command runs undisturbed and must end with the undisturbed result, byte by byte. Linux only. The
exit code is 1 if a check failed.
"""

import argparse
import dataclasses
import json
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from tests.stress.faults import report
from tests.stress.faults.__main__ import _positive, in_parallel, shares
from tests.stress.faults.jobs import Run, handles_sigterm, message_of
from tests.stress.signals import commands
from tests.stress.signals.commands import NAMES, Inputs

KINDS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL", "SIGSTOP")
CHAIN = 5  # signals before the command runs undisturbed
STOPPED_SECONDS = 0.3
HUNG_SECONDS = 120.0
MOST_DRAWS = 12
RESUMABLE = {"SIGTERM": 75, "SIGHUP": 75}


@dataclasses.dataclass
class Event:
    """A signal and its effects.

    Attributes:
        command: one of NAMES.
        kind: one of KINDS.
        at: seconds from the start of the command to the signal.
        code: exit code, negative for a signal, None if the command hung and was killed.
        took: seconds from the signal to the end.
        handled: whether the command had installed its handlers.
        message: the first error line on stderr, else its last line.
        wrong: failed checks.
    """

    command: str
    kind: str
    at: float
    code: int | None
    took: float
    handled: bool
    message: str
    wrong: list[str] = dataclasses.field(default_factory=list)


def expected(command: str, kind: str) -> int:
    """Return the documented exit code of a command after a signal."""
    number = signal.Signals[kind]
    if kind == "SIGSTOP":
        return 0
    if kind == "SIGKILL":
        return -number
    return RESUMABLE.get(kind, 128 + number) if command == "train" else 128 + number


def judge(event: Event, lines: list[str], bad: list[str]) -> list[str]:
    """Return the failed checks of an end.

    Args:
        event: the event, complete except for `wrong`.
        lines: lines of stderr.
        bad: incomplete files.
    """
    wrong = [f"incomplete: {name}" for name in bad]
    if event.code is None:
        return ["hung", *wrong]
    wanted, number = expected(event.command, event.kind), signal.Signals[event.kind]
    early = not event.handled and event.kind not in ("SIGKILL", "SIGSTOP")
    allowed = {wanted, 0, *([-number, 130, 1] if early else [])}
    if event.code not in allowed:
        wrong.append(f"exit code {event.code} instead of {wanted}")
    if any("Traceback" in line for line in lines) and not early:  # of Python's own start
        wrong.append("a traceback")
    reports = [line for line in lines if line.startswith("error: ") or "stopped by" in line]
    if len(reports) > 1:
        wrong.append(f"{len(reports)} lines about the end")
    named = any(f"stopped by {event.kind}" in line for line in reports)
    if event.handled and event.code not in (0, -signal.SIGKILL) and not named:
        wrong.append("the signal is not named")
    return wrong


class Disturbed:
    """A command that is disturbed, its output folder, and its undisturbed result."""

    def __init__(self, command: str, inputs: Inputs, folder: Path, seed: int):
        self.command, self.out = command, folder / "out"
        self.reference, self.seconds = inputs.run.parent / f"reference_{command}", 0.0
        self._words = commands.words_of(command, inputs, self.out)
        self._rng = np.random.default_rng(seed)
        self.out.mkdir(parents=True)

    def signal(self, kind: str) -> Event | None:
        """Send a signal at a random moment; None if the command was done before it in all draws."""
        for _ in range(MOST_DRAWS):
            run = Run(self._words)
            if not run.wait_until(self._rng.uniform(0.02, self.seconds)):
                return self._send(kind, run)
            self._begin_again()
        return None

    def _begin_again(self) -> None:
        shutil.rmtree(self.out)
        self.out.mkdir()

    def _send(self, kind: str, run: Run) -> Event:
        handled, begin = handles_sigterm(run.pid), time.monotonic()
        run.send(signal.Signals[kind])
        if kind == "SIGSTOP":
            time.sleep(STOPPED_SECONDS)
            run.send(signal.SIGCONT)
        code = run.code if run.wait(HUNG_SECONDS) else None
        run.kill()
        took, message = time.monotonic() - begin, message_of(run.err)
        event = Event(self.command, kind, begin - run.start, code, took, handled, message)
        bad = commands.incomplete(self.command, self.out, self.reference)
        event.wrong = judge(event, run.err, bad)
        if code == 0:
            event.wrong += self._differences()
            self._begin_again()
        return event

    def finish(self) -> list[str]:
        """Run undisturbed; return the differences from the undisturbed result."""
        run = Run(self._words)
        if not run.wait(HUNG_SECONDS):
            run.kill()
            return ["the same command hung"]
        wrong = [f"the same command: {run.code}, {message_of(run.err)}"] if run.code else []
        wrong += self._differences()
        self._begin_again()
        return wrong

    def _differences(self) -> list[str]:
        found = commands.differing(self.command, self.out, self.reference)
        return [f"differs: {name}" for name in found]


def prepare(names: list[str], inputs: Inputs) -> dict[str, float]:
    """Write the inputs and the undisturbed results; return the seconds of the commands."""
    commands.write_inputs(inputs)
    if set(names) - {"convert"}:
        _undisturbed("train", inputs, inputs.run)
    return {
        name: _undisturbed(name, inputs, inputs.run.parent / f"reference_{name}") for name in names
    }


def _undisturbed(name: str, inputs: Inputs, out: Path) -> float:
    out.mkdir()
    run = Run(commands.words_of(name, inputs, out))
    if not run.wait(600) or run.code:
        raise SystemExit(f"{name}: exit code {run.code} without a signal: {message_of(run.err)}")
    return run.seconds


def chain(disturbed: Disturbed, kinds: list[str]) -> list[Event]:
    """Signal a command repeatedly, then let it finish; differences are those of all signals."""
    had = []
    for kind in kinds:
        if event := disturbed.signal(kind):
            had.append(event)
    wrong = disturbed.finish()
    for event in had:
        event.wrong += wrong
        print(line_of(event), flush=True)
    return had


def line_of(event: Event) -> str:
    """Format an event as a line of the log."""
    wrong = f"; WRONG: {', '.join(event.wrong)}" if event.wrong else ""
    return (
        f"{event.command}: {event.kind} at {event.at:.2f} s: exit code {event.code} after "
        f"{event.took:.1f} s; {event.message}{wrong}"
    )


def measure(options: argparse.Namespace, folder: Path) -> list[Event]:
    """Run all chains, `options.at_once` at the same time."""
    inputs, names = commands.inputs_in(folder), options.commands
    seconds = prepare(names, inputs)
    rng, calls = np.random.default_rng(options.seed), []
    for name, count in zip(names, shares(options.signals, len(names)), strict=True):
        rounds = -(-count // len(KINDS))
        kinds = [str(kind) for _ in range(rounds) for kind in rng.permutation(KINDS)][:count]
        for begin in range(0, count, CHAIN):
            seed = [options.seed, NAMES.index(name), begin]
            disturbed = Disturbed(name, inputs, folder / f"{name}_{begin}", seed)
            disturbed.seconds = seconds[name]
            calls.append(partial(chain, disturbed, kinds[begin : begin + CHAIN]))
    order = rng.permutation(len(calls))
    found = in_parallel([calls[index] for index in order], options.at_once)
    return [event for events in found for event in events]


COLUMNS = ("command", "signal", "number", "before the handlers", "done", "slowest end, s", "wrong")


def summary(events: list[Event]) -> list[list[str]]:
    """Return a row for each command and kind of signal, and one for all."""
    rows = []
    pairs = [(name, kind) for name in NAMES for kind in KINDS]
    for name, kind in [*pairs, ("all", "")]:
        these = [e for e in events if (e.command, e.kind) == (name, kind) or name == "all"]
        counts = [
            len(these),
            sum(not event.handled for event in these),
            sum(event.code == 0 for event in these),
        ]
        slowest = max((event.took for event in these if event.kind != "SIGSTOP"), default=0.0)
        wrong = str(sum(bool(event.wrong) for event in these))
        if these:
            rows.append([name, kind, *map(str, counts), f"{slowest:.1f}", wrong])
    return rows


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--signals", type=_positive, default=200, help="default: 200")
    parser.add_argument("--commands", nargs="+", choices=NAMES, default=[*NAMES])
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments; default: 0")
    parser.add_argument("--folder", type=Path, help="for temporary files; default: the system's")
    parser.add_argument("--at_once", type=_positive, default=2, help="default: 2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all events as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write tables as Markdown")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Send all signals, print and write the report, and return the exit code."""
    options = parse(argv)
    # A background job of a shell ignores SIGINT, nohup SIGHUP; the commands would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with tempfile.TemporaryDirectory(prefix="jaxtal_signals_", dir=options.folder) as name:
        events = measure(options, Path(name).resolve())
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(e) for e in events], indent=1))
    if options.markdown:
        options.markdown.write_text(report.markdown_table(COLUMNS, summary(events)) + "\n")
    Console(width=120).print(report.rich_table("Signals", COLUMNS, summary(events)))
    return int(any(event.wrong for event in events))


if __name__ == "__main__":
    sys.exit(main())
