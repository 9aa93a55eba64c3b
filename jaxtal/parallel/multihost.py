"""Jobs of several processes: start, collectives on host arrays, and a common end.

A process exits with `INTERRUPTED` if the same command can resume the run: after SIGTERM, which
schedulers send before they reclaim a machine, and after the loss of another process of its job.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxtal.errors import ConfigError
from jaxtal.parallel import preemption
from jaxtal.parallel.preemption import (
    GRACE_PERIOD_SECONDS,
    INTERRUPTED,
    RESUME_HINT,
    SECOND_AFTER_SECONDS,
    exit_now,
)


def all_gather_rows(array: np.ndarray) -> np.ndarray:
    """All-gather arrays of different lengths from all processes, concatenated along axis 0.

    Collective: call it on every process.

    Args:
        array: (n, ...), of the same dtype and trailing shape on every process.

    Returns:
        The concatenated array, in the order of the processes.
    """
    if jax.process_count() == 1:
        return array
    mine = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(mine)))
    padded = np.pad(mine, (0, sizes.max() + 1 - len(mine)))
    parts = zip(multihost_utils.process_allgather(padded), sizes, strict=True)
    together = b"".join(part[:size].tobytes() for part, size in parts)
    return np.frombuffer(together, array.dtype).reshape(-1, *array.shape[1:])


def broadcast_from_primary(number: int) -> int:
    """Broadcast an integer from process 0. Collective: call it on every process.

    Args:
        number: fits into int32; the values of other processes than 0 are ignored.

    Returns:
        The number that process 0 passed.
    """
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def check_same_on_all_processes(text: str) -> None:
    """Check that all processes have the same config and data. Collective.

    Args:
        text: description of the config and the data of this process, compared by checksum.

    Raises:
        ConfigError: the text of a process differs from that of process 0; raised on every process.
    """
    if jax.process_count() == 1:
        return
    digests = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
    if other := np.flatnonzero(digests != digests[0]).tolist():
        raise ConfigError(
            f"processes {other} of this job have a different config or different data than process "
            "0; start all with the same arguments, on the same files"
        )


def is_primary_process() -> bool:
    """Return whether this process writes the files and logs of the job."""
    return jax.process_index() == 0


HEARTBEAT_TIMEOUT_SECONDS = 30  # after which a process counts as lost


def initialize_distributed() -> None:
    """Initialize `jax.distributed`, auto-detected or from environment variables.

    JAX detects TPU pods, GKE and Slurm. Elsewhere, set JAX_COORDINATOR_ADDRESS (host:port of
    process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
        ConfigError: the job could not be detected, or not all processes have started.
    """
    import jax

    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    given = _from_environment()
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECONDS)
        if jax.process_index() > 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # stdout, also that of libraries
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"distributed=True: the processes of this job did not connect ({str(error)[:200]}); "
            "start all of them, see docs/guides/devices.md, or omit distributed=True"
        ) from None


def expect_devices(count: int | None) -> None:
    """Check the number of devices of all processes of the job.

    Args:
        count: the expected number; None for any.

    Raises:
        ConfigError: the job has another number of devices.
    """
    import jax

    if count is not None and count != jax.device_count():
        raise ConfigError(
            f"expect_devices={count}, but this job has {jax.device_count()} devices in "
            f"{jax.process_count()} processes; start the missing ones, or change the number"
        )


def _from_environment() -> dict:
    given = {
        "num_processes": os.environ.get("JAX_NUM_PROCESSES"),
        "process_id": os.environ.get("JAX_PROCESS_ID"),
    }
    try:
        return {name: int(value) for name, value in given.items() if value is not None}
    except ValueError:
        raise ConfigError(
            f"JAX_NUM_PROCESSES={given['num_processes']}, JAX_PROCESS_ID={given['process_id']}; "
            "wanted integers"
        ) from None


def run_supervised(run: Callable[[], int]) -> int:
    """Run a process of a job in a supervised child process.

    JAX aborts a process in the middle of a computation when another process of the job is lost. The
    supervisor reports that in one line, and kills the child if it does not exit within the grace
    period after SIGTERM. On systems without fork, `run` is called in this process.

    Args:
        run: the work of the process; returns its exit code.

    Returns:
        The exit code; `INTERRUPTED` if a signal ended the child, 130 after SIGINT to this process.
    """
    if not hasattr(os, "fork"):
        return _wait_for_all_processes(run)
    preemption.stop_watching()
    if sys.stdout:
        sys.stdout.flush()
    child = os.fork()
    if not child:
        _prepare_child()
        return _wait_for_all_processes(run)
    received: dict[int, float] = {}
    alarm = threading.Timer(GRACE_PERIOD_SECONDS, _send, (child, signal.SIGKILL))
    alarm.daemon = True

    def stop(number, _):
        now = time.monotonic()
        if not received:
            alarm.start()
        repeated = (
            number == signal.SIGINT
            and now - min(received.values(), default=now) > SECOND_AFTER_SECONDS
        )
        received.setdefault(number, now)
        for one in (signal.SIGKILL,) if repeated else (number, signal.SIGTERM):
            _send(child, one)  # JAX saves after SIGTERM; the first one is to be named

    heeded = preemption.stop_signals()
    for number in heeded:
        signal.signal(number, stop)
    for early in preemption.received():
        stop(early, None)
    code = _exit_code_of(child)
    alarm.cancel()
    for number in heeded:  # sent by launchers from now on
        signal.signal(number, signal.SIG_IGN)
    interrupted = 128 + signal.SIGINT if signal.SIGINT in received else INTERRUPTED
    if code >= 0:
        return interrupted if code == INTERRUPTED else code
    print(
        f"error: {_ending(-code, received)}; {RESUME_HINT}, started on all machines",
        file=sys.stderr,
    )
    return interrupted


def _exit_code_of(child: int) -> int:
    """Wait for a child process.

    It is polled: a signal just before a system call that blocks would not be handled until the
    call returns.
    """
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1])


def _ending(number: int, received: Iterable[int]) -> str:
    """Return why a signal ended the child of `run_supervised`, which has received others."""
    how = signal.Signals(number).name
    for first in received:
        name = signal.Signals(first).name
        return f"stopped by {name} and no checkpoint could be saved in time ({how})"
    if number == signal.SIGABRT:
        return "aborted: another process of this job was lost, or the error above"
    return f"this process was killed by {how}"


def _prepare_child() -> None:
    """Let the child of `run_supervised` end with its parent, and note the signals it receives."""
    _die_with_parent()
    for number in preemption.stop_signals():
        # A terminal sends SIGINT and SIGHUP to both processes; JAX handles SIGTERM.
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else preemption.note)


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies (Linux only)."""
    if sys.platform == "linux":
        kill = ctypes.c_ulong(signal.SIGKILL)
        ctypes.CDLL(None).prctl(1, kill)  # PR_SET_PDEATHSIG


_LOST_PEER_ERRORS = (
    "gloo", "nccl", "coordination", "heartbeat", "barrier", "connection", "network", "socket",
    "peer", "broken pipe", "closed", "aborted", "canceled", "unavailable", "deadline",
)  # fmt: skip


def _wait_for_all_processes(run: Callable[[], int]) -> int:
    """Return the exit code of `run`, or exit at once after an error.

    A regular exit of the interpreter would wait for the other processes for minutes.
    """
    import jax

    try:
        code = run()
    except Exception as error:
        how = " ".join(str(error).split())[:200]
        lost = any(word in str(error).lower() for word in _LOST_PEER_ERRORS)
        if not (lost and isinstance(error, jax.errors.JaxRuntimeError)):
            traceback.print_exc()
        if lost:
            exit_now(f"another process of this job was lost ({how}); {RESUME_HINT}", INTERRUPTED)
        exit_now(f"{type(error).__name__} ({how}): a defect of this program, see above", 1)
    if code not in (0, INTERRUPTED):
        # Process 0 hosts the coordination service, which the others need to report their error.
        time.sleep(2 if jax.process_index() == 0 else 0)
        sys.stderr.flush()
        os._exit(code)
    return code
