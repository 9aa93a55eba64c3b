"""Start the processes of a distributed run on this machine, with simulated CPU devices.

    python launch/local.py --processes 2 --devices 4 -- --config configs/co2net_demo.py \
        --config.population=8

The arguments after `--` are passed to every `python -m jaxtal.main`. The output of process 0 is
printed unchanged; lines of the others begin with `[process K]`. Exit codes: 0 success, 75
interrupted (the same command resumes the run), otherwise that of the process that failed first. An
error of a process counts before the exit of one that lost it.
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
STDOUT, STDERR = 1, 2  # file descriptors
INTERRUPTED = 75

# Seconds. After a failure the other processes first have time to notice it and report it;
# after a signal to the launcher they may need 30 s for their checkpoint.
GRACE_SECONDS = 15.0
LOST_SECONDS = 10.0
STOP_SECONDS = 40.0

_DEVICES = "--xla_force_host_platform_device_count"
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """Return a port of this machine that is not in use."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(options: argparse.Namespace, index: int, port: int) -> dict[str, str]:
    """Return the environment variables that are added for a process."""
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
    """Return the command of every process."""
    devices = options.processes * options.devices
    flags = ["--distributed", f"--expect_devices={devices}"]
    return [sys.executable, "-m", module, *options.arguments, *flags]


def describe(options: argparse.Namespace, module: str, port: int) -> Iterator[str]:
    """Yield the lines of a dry run: the topology, then one shell command per process."""
    n, d = options.processes, options.devices
    yield f"topology: {n} processes x {d} devices = {n * d} devices"
    for index in range(n):
        added = environment(options, index, port).items()
        variables = [f"{name}={shlex.quote(value)}" for name, value in added]
        yield " ".join([*variables, shlex.join(command(options, module))])


def start(
    options: argparse.Namespace, module: str, port: int, index: int
) -> subprocess.Popen[bytes]:
    """Start a process; the output of all but the first is piped."""
    output = None if index == 0 else subprocess.PIPE
    return subprocess.Popen(
        command(options, module),
        env={**os.environ, **environment(options, index, port)},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        # A terminal would otherwise send Ctrl-C to them, beside the SIGTERM sent here.
        process_group=0,
        preexec_fn=_die_with_parent if _LIBC else None,
    )


def _die_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def write(target: int, line: bytes) -> None:
    """Write to a file descriptor at once: a buffer would fail again when the launcher ends."""
    while line:
        line = line[os.write(target, line) :]


def prefix_lines(index: int, source: IO[bytes], target: int) -> None:
    """Copy lines as they arrive, prefixed with the process's number, until nobody reads them."""
    with source, contextlib.suppress(OSError):
        for line in source:
            write(target, b"[process %d] %s\n" % (index, line.rstrip(b"\n")))


def forward(index: int, process: subprocess.Popen[bytes]) -> list[threading.Thread]:
    """Start and return threads that copy the piped output of a process."""
    pairs = [(process.stdout, STDOUT), (process.stderr, STDERR)]
    threads = [
        threading.Thread(target=prefix_lines, args=(index, source, target), daemon=True)
        for source, target in pairs
        if source
    ]
    for thread in threads:
        thread.start()
    return threads


def notify_exit(index: int, process: subprocess.Popen[bytes], events: queue.SimpleQueue) -> None:
    """Put the number of a process on a queue when it exits; returns at once."""

    def wait() -> None:
        process.wait()
        events.put(index)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def signals_as_events(events: queue.SimpleQueue) -> Iterator[None]:
    """Put None on `events` for every signal that stops a job inside the context.

    `nohup` ignores SIGHUP, a shell SIGINT for its background jobs; they stay ignored.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {
        number: signal.signal(number, lambda *_: events.put(None))
        for number in numbers
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def send(processes: list[subprocess.Popen[bytes]], number: int) -> None:
    """Send a signal to the running processes; SIGKILL also to their children."""
    for process in processes:
        if process.poll() is None:
            kill = os.killpg if number == signal.SIGKILL else os.kill
            with contextlib.suppress(ProcessLookupError):
                kill(process.pid, number)


def supervise(
    processes: list[subprocess.Popen[bytes]], events: queue.SimpleQueue
) -> tuple[int | None, bool]:
    """Wait until all processes have exited; stop the others once one has failed.

    Args:
        processes: of the job.
        events: receives the number of each process as it exits, and None for every signal to the
            launcher.

    Returns:
        The process that failed first, or one whose error explains that failure; None if none
        failed. And whether a signal was received.
    """
    running, failed, stopping = len(processes), None, False
    due: list[tuple[float, int]] = []  # times, and the signals to send then
    while running:
        try:
            event = events.get(timeout=max(0.0, due[0][0] - time.monotonic()) if due else None)
        except queue.Empty:
            send(processes, due.pop(0)[1])
            continue
        if event is None and not stopping:
            stopping = True
            due = _schedule(0.0, STOP_SECONDS)
        elif event is not None:
            running -= 1
            code = processes[event].returncode
            if code and failed is None:
                due = due or _schedule(GRACE_SECONDS, LOST_SECONDS)
            if code and (failed is None or explains(code, processes[failed].returncode)):
                failed = event
    return failed, stopping


def explains(code: int, first: int) -> bool:
    """Return whether an exit code explains that of the process that ended first.

    A process that loses another one exits with 75 or aborts, perhaps seen before the other's end.
    """
    lost = first in (INTERRUPTED, -signal.SIGABRT, 128 + signal.SIGABRT)
    return lost and 0 < code < 128 and code != INTERRUPTED


def _schedule(until_term: float, until_kill: float) -> list[tuple[float, int]]:
    term = time.monotonic() + until_term
    return [(term, signal.SIGTERM), (term + until_kill, signal.SIGKILL)]


def ending(index: int, code: int) -> str:
    """Describe how a process ended; a negative exit code is a signal."""
    if code >= 0:
        return f"process {index} ended with exit code {code}"
    return f"process {index} was killed by signal {-code} ({signal.Signals(-code).name})"


def exit_code(code: int) -> int:
    """Map the exit code of a process to that of the launcher; signals and aborts interrupt."""
    return INTERRUPTED if code < 0 or code > 128 else code


def run(options: argparse.Namespace, module: str, port: int) -> int:
    """Start all processes and wait for them.

    Args:
        options: of the command line.
        module: to run with `python -m`.
        port: of the coordinator.

    Returns:
        The exit code of the launcher.
    """
    events: queue.SimpleQueue = queue.SimpleQueue()
    processes: list[subprocess.Popen[bytes]] = []
    copying: list[threading.Thread] = []
    with signals_as_events(events):
        try:
            for index in range(options.processes):
                processes.append(start(options, module, port, index))
            for index, process in enumerate(processes):
                copying += forward(index, process)
                notify_exit(index, process, events)
            failed, stopping = supervise(processes, events)
        finally:
            send(processes, signal.SIGKILL)
    for thread in copying:
        thread.join(timeout=5)  # their children may still hold the pipe
    if failed is None:
        return 0
    code = processes[failed].returncode
    after = " after the launcher received a signal" if stopping else ""
    hint = "; the same command resumes from the last checkpoint"
    if exit_code(code) != INTERRUPTED:
        hint = ", see above"
    with contextlib.suppress(OSError):  # the terminal or the reader may be gone
        write(STDERR, f"{ending(failed, code)}{after}{hint}\n".encode())
    return exit_code(code)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted an integer of at least 1")
    return int(text)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=_positive, required=True)
    parser.add_argument("--devices", type=_positive, default=1, help="simulated, per process")
    parser.add_argument("--port", type=_positive, help="of the coordinator; default: a free one")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    parser.add_argument("arguments", nargs="+", metavar="-- ARGUMENTS OF jaxtal.main")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None, module: str = MODULE) -> int:
    """Start the job that the command line describes, or print its commands.

    Args:
        argv: arguments; None for those of this process.
        module: to run with `python -m`.

    Returns:
        The exit code.
    """
    options: Any = parse(argv)
    port = options.port or free_port()
    if options.dry_run:
        print(*describe(options, module, port), sep="\n")
        return 0
    return run(options, module, port)


if __name__ == "__main__":
    sys.exit(main())
