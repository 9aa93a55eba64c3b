"""Runs that are told to stop, and jobs of several processes that end together.

A run exits with `INTERRUPTED` where the same command goes on later: it was told to stop by SIGTERM,
as schedulers do before they take a machine away, or another process of its job was lost.
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
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxtal.errors import ConfigError
from jaxtal.parallel.preemption import GRACE_PERIOD_SECONDS, INTERRUPTED, RESUME_HINT, exit_now


def all_gather_rows(array: np.ndarray) -> np.ndarray:
    """The arrays (n, ...) of all processes, of any n each, as one that all of them get."""
    if jax.process_count() == 1:
        return array
    mine = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(mine)))
    padded = np.pad(mine, (0, sizes.max() + 1 - len(mine)))
    parts = zip(multihost_utils.process_allgather(padded), sizes, strict=True)
    together = b"".join(part[:size].tobytes() for part, size in parts)
    return np.frombuffer(together, array.dtype).reshape(-1, *array.shape[1:])


def broadcast_from_primary(number: int) -> int:
    """What process 0 says; every process must ask."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def check_same_on_all_processes(text: str) -> None:
    """Raise ConfigError in every process if one has another text: its config and data."""
    if jax.process_count() == 1:
        return
    digests = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
    if other := np.flatnonzero(digests != digests[0]).tolist():
        raise ConfigError(
            f"processes {other} of this job have another config or other data than process 0; "
            "start all with the same arguments, on the same files"
        )


def is_primary_process() -> bool:
    """Whether this is the process that writes results and talks to the person."""
    return jax.process_index() == 0


HEARTBEAT_TIMEOUT_SECONDS = 30  # after which a process counts as lost


def initialize_distributed() -> None:
    """Meet the other processes of the job, who are found by JAX or named by the environment.

    TPU pods, GKE and Slurm are recognized; elsewhere JAX_COORDINATOR_ADDRESS (host:port of process
    0), JAX_NUM_PROCESSES and JAX_PROCESS_ID say it.

    Raises:
        ConfigError: there is no such environment, or not everybody came.
    """
    import jax

    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    given = _from_environment()
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECONDS)
        if jax.process_index() > 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # standard output, whoever writes it
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"distributed=True: the processes of this job did not meet ({str(error)[:200]}); start "
            "all of them, see launch/README.md, or leave distributed=True out"
        ) from None


def expect_devices(count: int | None) -> None:
    """Raise ConfigError where the job's processes together have another number of devices."""
    import jax

    if count is not None and count != jax.device_count():
        raise ConfigError(
            f"expect_devices={count}, but this job has {jax.device_count()} devices in "
            f"{jax.process_count()} processes; start what is missing, or change the number"
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
            "wanted whole numbers"
        ) from None


def run_supervised(run: Callable[[], int]) -> int:
    """`run` as a process of a job, in a process of its own, and its exit code.

    JAX ends a process abruptly when another one was lost, in the middle of whatever it computes.
    The process that waits here says so in one line, and sees to it that SIGTERM has an end. Where
    the system cannot fork, nobody waits: `run` is called in this process.
    """
    if not hasattr(os, "fork"):
        return _wait_for_all_processes(run)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to both
        return _wait_for_all_processes(run)
    told: list[bool] = []
    alarm = threading.Timer(GRACE_PERIOD_SECONDS, _send, (child, signal.SIGKILL))
    alarm.daemon = True

    def stop(*_):
        _send(child, signal.SIGTERM)
        if not told:
            alarm.start()
        told.append(True)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    alarm.cancel()
    for number in (signal.SIGTERM, signal.SIGINT):  # from who ends all because of this end
        signal.signal(number, signal.SIG_IGN)
    if code >= 0:
        return code
    how = signal.Signals(-code).name
    if told:
        why = f"told to stop (SIGTERM) where nothing could be saved in time ({how})"
    elif -code == signal.SIGABRT:
        why = "aborted: another process of this job was lost, or what is said above"
    else:
        why = f"this process was ended by {how}"
    print(f"error: {why}; {RESUME_HINT}, started on all machines", file=sys.stderr)
    return INTERRUPTED


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _die_with_parent() -> None:
    """Where the system can, so that nobody who was supervised goes on alone."""
    if sys.platform == "linux":
        kill = ctypes.c_ulong(signal.SIGKILL)
        ctypes.CDLL(None).prctl(1, kill)  # PR_SET_PDEATHSIG


_LOST_PEER_ERRORS = (
    "gloo", "nccl", "coordination", "heartbeat", "barrier", "connection", "network", "socket",
    "peer", "broken pipe", "closed", "aborted", "canceled", "unavailable", "deadline",
)  # fmt: skip


def _wait_for_all_processes(run: Callable[[], int]) -> int:
    """`run`, and its exit code where all processes ended alike; else leave without the others.

    Python's own end would wait for them minutes long.
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
        # Process 0 holds what the others need to tell their own error.
        time.sleep(2 if jax.process_index() == 0 else 0)
        sys.stderr.flush()
        os._exit(code)
    return code
