"""Preemption: SIGTERM as a request to save a checkpoint and exit."""

import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h
GRACE_PERIOD_SECONDS = 27  # from SIGTERM to the exit; schedulers grant at least 30
RESUME_HINT = "the same command resumes from the last checkpoint"


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run received SIGTERM and has saved a checkpoint."""


_requested = threading.Event()
_deferring = threading.Event()
_polls = itertools.count()


def preemption_requested() -> bool:
    """Return whether the run must save and stop now.

    Collective in a distributed job: call it on every process, equally often.
    """
    if not _is_distributed():
        return _requested.is_set()
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(next(_polls))


def _is_distributed() -> bool:
    import jax

    return jax.distributed.is_initialized()


@contextlib.contextmanager
def defer_sigterm() -> Iterator[None]:
    """Defer SIGTERM until the loop polls `preemption_requested`; elsewhere it ends the run."""
    _deferring.set()
    try:
        yield
    finally:
        _deferring.clear()


def install_sigterm_handler() -> None:
    """Exit with `INTERRUPTED` on SIGTERM: at once, or after the grace period in `defer_sigterm`.

    A thread watches for the signal, since the main thread may be waiting for a device.
    """
    signal.signal(signal.SIGTERM, lambda *_: _requested.set())
    receiver, signals = socket.socketpair()  # Windows reports signals on sockets only
    signals.setblocking(False)
    signal.set_wakeup_fd(signals.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_watch_signals, args=(receiver,), daemon=True).start()


def _watch_signals(receiver: socket.socket) -> None:
    while receiver.recv(1)[0] != signal.SIGTERM:
        pass
    _requested.set()
    why = "before there was anything to save"
    if _deferring.is_set():
        time.sleep(GRACE_PERIOD_SECONDS)
        why = "and no checkpoint could be saved in time"
    exit_now(f"stopped by SIGTERM {why}; {RESUME_HINT}", INTERRUPTED)


def exit_now(message: str, code: int) -> None:
    """Print an error in one line and exit at once, without waiting for other threads.

    Args:
        message: text of the error; its white space is collapsed.
        code: exit code of the process.
    """
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)
