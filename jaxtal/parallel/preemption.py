"""Signals that stop a process: training saves a checkpoint first, other programs end at once."""

import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h
GRACE_PERIOD_SECONDS = 27  # from the signal to the exit; schedulers grant at least 30
RESUME_HINT = "the same command resumes from the last checkpoint"

# A second SIGINT ends the run at once, unless a wrapper has passed on the first, which the terminal
# sends to all processes.
SECOND_AFTER_SECONDS = 0.5
_PRINTING_SECONDS = 2  # the reader of a pipe may have stopped


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run received a signal and has saved a checkpoint."""


_requested = threading.Event()
_deferring = threading.Event()
_deferred = threading.Event()
_resumable = threading.Event()
_received: list[int] = []
_cleanups: list[Callable[[], None]] = []
_wakeup: list[socket.socket] = []  # at most one
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


def signal_name() -> str:
    """Return the name of the signal that stops the run."""
    return signal.Signals(_received[0] if _received else signal.SIGTERM).name


def received() -> tuple[int, ...]:
    """Return the signals that were noted so far."""
    return tuple(_received)


def exit_code() -> int:
    """Return the exit code of a run that has saved a checkpoint: that of Ctrl-C, or 75."""
    return 128 + signal.SIGINT if signal.SIGINT in _received else INTERRUPTED


@contextlib.contextmanager
def defer_sigterm() -> Iterator[None]:
    """Defer signals until the loop polls `preemption_requested`; elsewhere they end the run."""
    _deferring.set()
    try:
        yield
    finally:
        _deferring.clear()
        _deferred.set()


def stop_signals() -> list[signal.Signals]:
    """Return SIGTERM, SIGINT and SIGHUP; the latter two stay ignored if the parent ignores them.

    `nohup` ignores SIGHUP, a shell SIGINT for its background jobs; Windows has no SIGHUP.
    """
    others = (getattr(signal, name, None) for name in ("SIGINT", "SIGHUP"))
    heeded = [one for one in others if one and signal.getsignal(one) != signal.SIG_IGN]
    return [signal.SIGTERM, *heeded]


def install_handlers(cleanup: Callable[[], None] | None = None) -> None:
    """End this process on a signal of `stop_signals`: one line, exit code 128 + its number.

    A thread watches for the signals, since the main thread may be waiting for a device.

    Args:
        cleanup: Function that deletes unfinished files.
    """
    _cleanups.extend(filter(None, [cleanup]))
    if _wakeup or not _note_signals():
        return
    receiver, sender = socket.socketpair()  # Windows reports signals on sockets only
    sender.setblocking(False)
    _wakeup.append(sender)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch_signals, args=(receiver,), daemon=True).start()


def make_resumable() -> None:
    """Let signals end a run that the same command resumes.

    With `install_handlers`, it exits at once, or after the grace period in `defer_sigterm`: with
    `INTERRUPTED` after SIGTERM and SIGHUP, with 130 after SIGINT.
    """
    _resumable.set()


def stop_watching() -> None:
    """Note signals without another effect, at the end of a program or before it forks."""
    _note_signals()
    if _wakeup:
        signal.set_wakeup_fd(-1)
        _wakeup.pop().close()


def _note_signals() -> bool:
    """Handle signals with `note`; return False in a thread, which may not do that."""
    if threading.current_thread() is not threading.main_thread():
        return False
    for number in stop_signals():
        signal.signal(number, note)
    return True


def note(number: int, *_) -> None:
    """Note that a signal was received; a handler of signals, which the main thread calls."""
    _note(number)
    if _wakeup and not _resumable.is_set():
        threading.Event().wait()  # until the other thread ends the process: no error may follow


def _note(number: int) -> None:
    _received.append(number)
    _requested.set()


def _watch_signals(receiver: socket.socket) -> None:
    number = _next_signal(receiver)
    _note(number)
    name = signal.Signals(number).name
    if not _resumable.is_set():
        for cleanup in _cleanups:
            cleanup()
        exit_now(f"stopped by {name}; run the same command again", 128 + number)
    why = "after training was saved" if _deferred.is_set() else "before there was anything to save"
    if _deferring.is_set():
        why = "and no checkpoint could be saved in time"
        if _is_repeated(receiver):
            name, why = "a second SIGINT", "before a checkpoint was saved"
        if _deferred.is_set():
            why = "after training was saved"
    exit_now(f"stopped by {name} {why}; {RESUME_HINT}", exit_code())


def _is_repeated(receiver: socket.socket) -> bool:
    """Wait for the grace period, or for a second SIGINT; return whether that was received."""
    start = time.monotonic()
    while (waited := time.monotonic() - start) < GRACE_PERIOD_SECONDS:
        receiver.settimeout(GRACE_PERIOD_SECONDS - waited)
        with contextlib.suppress(TimeoutError):
            number = _next_signal(receiver)
            if number == signal.SIGINT and time.monotonic() - start > SECOND_AFTER_SECONDS:
                _note(number)
                return True
    return False


def _next_signal(receiver: socket.socket) -> int:
    """Return the next signal that stops the process; after `stop_watching` end this thread."""
    while found := receiver.recv(1):
        if found[0] in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", None)):
            return found[0]
    sys.exit()


def exit_now(message: str, code: int) -> None:
    """Print an error in one line and exit at once, without waiting for other threads.

    Args:
        message: text of the error; its white space is collapsed.
        code: exit code of the process.
    """
    line = f"error: {' '.join(message.split())}"
    printing = threading.Thread(target=_print_last_line, args=(line,), daemon=True)
    printing.start()
    printing.join(_PRINTING_SECONDS)
    os._exit(code)


def _print_last_line(line: str) -> None:
    if sys.stdout and sys.stdout.isatty():  # a progress bar hides the cursor
        sys.stdout.write("\x1b[?25h\n")
    print(line, file=sys.stderr, flush=True)
    if sys.stdout:
        sys.stdout.flush()
