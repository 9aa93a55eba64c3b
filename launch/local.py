"""Start the processes of a distributed run on this machine, with simulated CPU devices.

    python launch/local.py --processes 2 --devices 4 -- --config configs/co2net_demo.py \
        --config.population=8

What follows `--` goes to every `python -m jaxtal.main`. Process 0's output is the run's; lines of
the others begin with `[process K]`. Exit codes: 0 all ended well, 75 interrupted (the same command
continues), otherwise that of the process that failed first.
"""

import argparse
import contextlib
import ctypes
import os
import queue
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

MODULE = "jaxtal.main"
INTERRUPTED = 75

# Seconds. The others of a failed process first get the time to notice by themselves and say so;
# whoever is asked to end may need 30 s for its checkpoint.
GRACE_SECONDS = 15.0
LOST_SECONDS = 10.0
ASKED_SECONDS = 40.0

_DEVICES = "--xla_force_host_platform_device_count"
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A port that nobody on this machine listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(options: argparse.Namespace, index: int, port: int) -> dict[str, str]:
    """The variables that process `index` gets in addition to this one's."""
    flags = [f for f in os.environ.get("XLA_FLAGS", "").split() if f.partition("=")[0] != _DEVICES]
    return {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join([*flags, f"{_DEVICES}={options.devices}"]),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(options.processes),
        "JAX_PROCESS_ID": str(index),
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    }


def command(options: argparse.Namespace, module: str) -> list[str]:
    """What every process runs."""
    devices = options.processes * options.devices
    flags = ["--distributed", f"--expect_devices={devices}"]
    return [sys.executable, "-m", module, *options.arguments, *flags]


def describe(options: argparse.Namespace, module: str, port: int) -> Iterator[str]:
    """The lines of a dry run: the topology, then a command a process, ready for a shell."""
    n, d = options.processes, options.devices
    yield f"topology: {n} processes x {d} devices = {n * d} devices"
    for index in range(n):
        added = environment(options, index, port).items()
        variables = [f"{name}={shlex.quote(value)}" for name, value in added]
        yield " ".join([*variables, shlex.join(command(options, module))])


def start(
    options: argparse.Namespace, module: str, port: int, index: int
) -> subprocess.Popen[bytes]:
    """Process `index`; all but the first have their output in pipes."""
    output = None if index == 0 else subprocess.PIPE
    return subprocess.Popen(
        command(options, module),
        env={**os.environ, **environment(options, index, port)},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        # A terminal's Ctrl-C would otherwise reach them beside the SIGTERM from here.
        process_group=0,
        preexec_fn=_die_with_parent if _LIBC else None,
    )


def _die_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def prefix_lines(index: int, source: IO[bytes], target: IO[bytes]) -> None:
    """Copy lines as they come, each with the process that wrote it."""
    with source, contextlib.suppress(BrokenPipeError):
        for line in source:
            target.write(b"[process %d] %s\n" % (index, line.rstrip(b"\n")))
            target.flush()


def forward(index: int, process: subprocess.Popen[bytes]) -> list[threading.Thread]:
    """Threads that copy a process's output, none where it needs no copying."""
    pairs = [(process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer)]
    threads = [
        threading.Thread(target=prefix_lines, args=(index, source, target), daemon=True)
        for source, target in pairs
        if source
    ]
    for thread in threads:
        thread.start()
    return threads


def tell_end(index: int, process: subprocess.Popen[bytes], events: queue.SimpleQueue) -> None:
    """Put the process's number on `events` when it ends."""

    def wait() -> None:
        process.wait()
        events.put(index)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def signals_as_events(events: queue.SimpleQueue) -> Iterator[None]:
    """While it lasts, SIGTERM and SIGINT put None on `events`."""
    before = {
        number: signal.signal(number, lambda *_: events.put(None))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def send(processes: list[subprocess.Popen[bytes]], number: int) -> None:
    """Signal those that run; SIGKILL also to what they started."""
    for process in processes:
        if process.poll() is None:
            kill = os.killpg if number == signal.SIGKILL else os.kill
            with contextlib.suppress(ProcessLookupError):
                kill(process.pid, number)


def supervise(
    processes: list[subprocess.Popen[bytes]], events: queue.SimpleQueue
) -> tuple[int | None, bool]:
    """Wait until all have ended, and see to it that they do once one has failed.

    Args:
        processes: of the job.
        events: the number of each process as it ends, None for every signal to this one.

    Returns:
        The process that failed first, None if none did, and whether a signal came before.
    """
    running, failed, asked = len(processes), None, False
    due: list[tuple[float, int]] = []  # moments and the signals to send then
    while running:
        try:
            event = events.get(timeout=max(0.0, due[0][0] - time.monotonic()) if due else None)
        except queue.Empty:
            send(processes, due.pop(0)[1])
            continue
        if event is None and not asked:
            asked = True
            due = _schedule(0.0, ASKED_SECONDS)
        elif event is not None:
            running -= 1
            if processes[event].returncode and failed is None:
                failed = event
                due = due or _schedule(GRACE_SECONDS, LOST_SECONDS)
    return failed, asked


def _schedule(until_term: float, until_kill: float) -> list[tuple[float, int]]:
    term = time.monotonic() + until_term
    return [(term, signal.SIGTERM), (term + until_kill, signal.SIGKILL)]


def ending(index: int, code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"process {index} ended with exit code {code}"
    return f"process {index} was killed by signal {-code} ({signal.Signals(-code).name})"


def exit_code(code: int) -> int:
    """The launcher's code for that of a process: death by a signal or an abort is interruption."""
    return INTERRUPTED if code < 0 or code > 128 else code


def run(options: argparse.Namespace, module: str, port: int) -> int:
    """Start all, wait for all; the exit code."""
    events: queue.SimpleQueue = queue.SimpleQueue()
    processes: list[subprocess.Popen[bytes]] = []
    copying: list[threading.Thread] = []
    with signals_as_events(events):
        try:
            for index in range(options.processes):
                processes.append(start(options, module, port, index))
            for index, process in enumerate(processes):
                copying += forward(index, process)
                tell_end(index, process, events)
            failed, asked = supervise(processes, events)
        finally:
            send(processes, signal.SIGKILL)
    for thread in copying:
        thread.join(timeout=5)  # what they started may still hold the pipe
    if failed is None:
        return 0
    code = processes[failed].returncode
    after = " after this launcher was asked to end" if asked else ""
    goes_on = "; the same command continues from the last checkpoint"
    if exit_code(code) != INTERRUPTED:
        goes_on = ", see above"
    print(f"{ending(failed, code)}{after}{goes_on}", file=sys.stderr)
    return exit_code(code)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted a number from 1 on")
    return int(text)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=_positive, required=True)
    parser.add_argument("--devices", type=_positive, default=1, help="simulated, of each process")
    parser.add_argument("--port", type=_positive, help="of the coordinator; default: a free one")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    parser.add_argument("arguments", nargs="+", metavar="-- ARGUMENTS OF jaxtal.main")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None, module: str = MODULE) -> int:
    """Parse, then run or describe; the exit code."""
    options: Any = parse(argv)
    port = options.port or free_port()
    if options.dry_run:
        print(*describe(options, module, port), sep="\n")
        return 0
    return run(options, module, port)


if __name__ == "__main__":
    sys.exit(main())
