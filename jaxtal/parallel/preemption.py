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
GRACE_PERIOD_SECONDS = 27  # from SIGTERM to the end; schedulers give 30 and more


RESUME_HINT = "the same command goes on from the last checkpoint"


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run was told to stop, and has saved a checkpoint."""


_requested = threading.Event()
_deferring = threading.Event()
_polls = itertools.count()


def preemption_requested() -> bool:
    """Whether to save and stop now; all processes of a job ask alike, and get one answer."""
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
    """From now on SIGTERM stops this process as `defer_sigterm` says, or after SECONDS_TO_STOP.

    The interpreter may be waiting for a device meanwhile, so a thread watches.
    """
    signal.signal(signal.SIGTERM, lambda *_: _requested.set())
    heard, signals = socket.socketpair()  # Windows announces signals on sockets alone
    signals.setblocking(False)
    signal.set_wakeup_fd(signals.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_watch_signals, args=(heard,), daemon=True).start()


def _watch_signals(heard: socket.socket) -> None:
    while heard.recv(1)[0] != signal.SIGTERM:
        pass
    _requested.set()
    where = "where there was nothing to save"
    if _deferring.is_set():
        time.sleep(GRACE_PERIOD_SECONDS)
        where = "where nothing could be saved in time"
    exit_now(f"told to stop (SIGTERM) {where}; {RESUME_HINT}", INTERRUPTED)


def exit_now(message: str, code: int) -> None:
    """End at once, whatever other threads wait for."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)
