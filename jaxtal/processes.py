"""Runs that are told to stop, and jobs of several processes that end together.

A run exits with `INTERRUPTED` where the same command goes on later: it was told to stop by SIGTERM,
as schedulers do before they take a machine away, or another process of its job was lost.
"""

import contextlib
import ctypes
import itertools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from jaxtal.errors import UserError, keep_silent

INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h
SECONDS_TO_STOP = 27  # from SIGTERM to the end; schedulers give 30 and more
SECONDS_OF_SILENCE = 30  # after which a process counts as lost

_GOES_ON = "the same command goes on from the last checkpoint"


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run was told to stop, and has saved a checkpoint."""


_told = threading.Event()
_unsaved = threading.Event()
_questions = itertools.count()


def told_to_stop() -> bool:
    """Whether to save and stop now; all processes of a job ask alike, and get one answer."""
    if not _joined():
        return _told.is_set()
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(next(_questions))


def _joined() -> bool:
    import jax

    return jax.distributed.is_initialized()


@contextlib.contextmanager
def unsaved() -> Iterator[None]:
    """A block in which SIGTERM waits for `told_to_stop` to be asked; outside it ends the run."""
    _unsaved.set()
    try:
        yield
    finally:
        _unsaved.clear()


def listen() -> None:
    """From now on SIGTERM stops this process as `unsaved` says, or after SECONDS_TO_STOP.

    The interpreter may be waiting for a device meanwhile, so a thread watches.
    """
    signal.signal(signal.SIGTERM, lambda *_: _told.set())
    heard, signals = os.pipe()
    os.set_blocking(signals, False)
    signal.set_wakeup_fd(signals, warn_on_full_buffer=False)
    threading.Thread(target=_stop, args=(heard,), daemon=True).start()


def _stop(heard: int) -> None:
    while os.read(heard, 1)[0] != signal.SIGTERM:
        pass
    _told.set()
    where = "where there was nothing to save"
    if _unsaved.is_set():
        time.sleep(SECONDS_TO_STOP)
        where = "where nothing could be saved in time"
    _leave(f"told to stop (SIGTERM) {where}; {_GOES_ON}", INTERRUPTED)


def _leave(message: str, code: int) -> None:
    """End at once, whatever other threads wait for."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


def join() -> None:
    """Meet the other processes of the job, who are found by JAX or named by the environment.

    TPU pods, GKE and Slurm are recognised; elsewhere JAX_COORDINATOR_ADDRESS (host:port of process
    0), JAX_NUM_PROCESSES and JAX_PROCESS_ID say it.

    Raises:
        UserError: there is no such environment, or not everybody came.
    """
    import jax

    if os.environ.get("JAX_PLATFORMS") == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **_from_environment(), heartbeat_timeout_seconds=SECONDS_OF_SILENCE
        )
        if jax.process_index() > 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # standard output, whoever writes it
            keep_silent()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--distributed: the processes of this job did not meet ({str(error)[:200]}); start "
            "all of them, see launch/README.md, or leave --distributed out"
        ) from None


def expect_devices(count: int | None) -> None:
    """Raise UserError where the job's processes together have another number of devices."""
    import jax

    if count is not None and count != jax.device_count():
        raise UserError(
            f"--expect_devices={count}, but this job has {jax.device_count()} devices in "
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
        raise UserError(
            f"JAX_NUM_PROCESSES={given['num_processes']}, JAX_PROCESS_ID={given['process_id']}; "
            "wanted whole numbers"
        ) from None


def supervised(run: Callable[[], int]) -> int:
    """`run` as a process of a job, in a process of its own, and its exit code.

    JAX ends a process abruptly when another one was lost, in the middle of whatever it computes.
    The process that waits here says so in one line, and sees to it that SIGTERM has an end.
    """
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to both
        return _until_all_have_ended(run)
    told: list[bool] = []

    def stop(*_):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        if not told:
            signal.alarm(SECONDS_TO_STOP)
        told.append(True)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(0)
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
    print(f"error: {why}; {_GOES_ON}, started on all machines", file=sys.stderr)
    return INTERRUPTED


def _die_with_parent() -> None:
    """Where the system can, so that nobody who was supervised goes on alone."""
    if sys.platform == "linux":
        kill = ctypes.c_ulong(signal.SIGKILL)
        ctypes.CDLL(None).prctl(1, kill)  # PR_SET_PDEATHSIG


_LOST = (
    "gloo", "nccl", "coordination", "heartbeat", "barrier", "connection", "network", "socket",
    "peer", "broken pipe", "closed", "aborted", "cancelled", "unavailable", "deadline",
)  # fmt: skip


def _until_all_have_ended(run: Callable[[], int]) -> int:
    """`run`, and its exit code where all processes ended alike; else leave without the others.

    Python's own end would wait for them minutes long.
    """
    import jax

    try:
        code = run()
    except Exception as error:
        how = " ".join(str(error).split())[:200]
        lost = any(word in str(error).lower() for word in _LOST)
        if not (lost and isinstance(error, jax.errors.JaxRuntimeError)):
            traceback.print_exc()
        if lost:
            _leave(f"another process of this job was lost ({how}); {_GOES_ON}", INTERRUPTED)
        _leave(f"{type(error).__name__} ({how}): a defect of this program, see above", 1)
    if code not in (0, INTERRUPTED):
        # Process 0 holds what the others need to tell their own error.
        time.sleep(2 if jax.process_index() == 0 else 0)
        sys.stderr.flush()
        os._exit(code)
    return code
