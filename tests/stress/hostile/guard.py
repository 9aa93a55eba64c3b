"""Watch a reader: opened files, calls, time, memory, messages."""

import contextlib
import io
import os
import resource
import signal
import sys
import time
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxtal.errors import JaxtalError
from tests.stress.hostile.crafted import CANARY

SECONDS = 5.0  # of processor time per file; the limit of real time is twice that
MEMORY = 160 * 2**20  # bytes by which a file may raise the peak memory: two unpacked archives
ADDRESSES = 1536 * 2**20  # bytes of address space beyond what the imports take
MAX_MESSAGE = 600  # characters
_STATE_EVERY = 10  # mutants; a comparison takes as long as reading one

# Audit events that no reader of data may cause.
_FORBIDDEN = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "subprocess.Popen", "pickle.find_class", "pty.spawn", "webbrowser.open", "exec", "import",
    "marshal.loads", "code.__new__", "function.__new__", "os.kill", "os.putenv", "sys.addaudithook",
    "builtins.input", "os.chmod", "os.chown", "os.setxattr",
)  # fmt: skip
_FAMILIES = ("ctypes.", "socket.", "urllib.", "ftplib.", "smtplib.", "shutil.", "tempfile.")
_TOUCHING = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink",
             "os.truncate", "os.listdir", "os.scandir", "os.chdir")  # fmt: skip


class Hang(BaseException):
    """Time limit exceeded. Not an Exception, as readers catch those."""


class Guard:
    """Call functions under watch. One guard per process, as audit hooks cannot be removed."""

    def __init__(self, folder: Path):
        self._folder = f"{folder}{os.sep}"
        self._active = False
        self._seen: list[str] = []
        self._greatest = _memory()
        self._state, self._judged = _state(), 0
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, self._ring)
        soft = _addresses() + ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (soft, soft))

    def _ring(self, *_: Any) -> None:
        raise Hang

    def _audit(self, event: str, arguments: tuple) -> None:
        if not self._active:
            return
        if event in _FORBIDDEN or event.startswith(_FAMILIES):
            self._seen.append(f"{event}{arguments!r:.100}")
        elif event in _TOUCHING:
            for path in arguments[:2]:
                if isinstance(path, str | bytes | os.PathLike):
                    self._check(event, os.fsdecode(path))

    def _check(self, event: str, path: str) -> None:
        if event == "open" and path in ("r", "rb", "w", "wb", "a", "r+b", "w+b", "ab", "r+"):
            return  # the mode, not a path
        whole = os.path.normpath(os.path.join(self._folder, path))
        if not f"{whole}{os.sep}".startswith(self._folder):
            self._seen.append(f"{event} of {path!r:.100}, outside")

    def judge(self, use: Callable[[], None], path: Path) -> tuple[str, str]:
        """Call a reader; return "loaded", "rejected" or "failed", and its message or faults.

        Args:
            use: reads the file and uses its content.
            path: path that the message of a rejection must name.
        """
        message = ""
        faults = self._seen = []
        words = io.StringIO()
        start = time.process_time()
        signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
        with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stderr(words):
            warnings.simplefilter("always")
            try:
                try:
                    self._active = True
                    use()
                    outcome = "loaded"
                finally:
                    self._active = False
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except JaxtalError as error:
                outcome, message = "rejected", str(error)
                faults += _message_faults(message, path)
            except Hang:
                faults.append("hangs: " + traceback.format_exc()[-1500:])
            except BaseException as error:
                faults.append(f"{type(error).__name__}: " + traceback.format_exc()[-3000:])
        if (seconds := time.process_time() - start) > SECONDS:
            faults.append(f"takes {seconds:.1f} s")
        faults += [f"warns: {one.category.__name__}: {one.message}"[:500] for one in warned]
        for line in words.getvalue().splitlines():
            if (
                not line.startswith("warning: ")
                or len(line) > MAX_MESSAGE
                or not line.isprintable()
            ):
                faults.append(f"prints {line!r:.300}")
        if (growth := _memory() - self._greatest) > MEMORY:
            faults.append(f"takes {growth / 2**20:.0f} MiB")
            self._greatest += growth
        self._judged += 1
        if self._judged % _STATE_EVERY == 0 and (changed := self.changed()):
            faults.append(f"this or one of the {_STATE_EVERY} before changes {changed}")
        if any(True for _ in Path(self._folder).rglob(CANARY)):
            faults.append("executes a payload: the canary is there")
        return ("failed", "\n".join(faults)) if faults else (outcome, message)

    def changed(self) -> list[str]:
        """Return changes of the process since the last call, or since the guard was made."""
        before, self._state = self._state, _state()
        return sorted(map(str, before ^ self._state))[:5]

    @property
    def growth(self) -> int:
        """Bytes by which the peak memory has grown."""
        return max(_memory() - self._greatest, 0)


def _message_faults(message: str, path: Path) -> list[str]:
    """Return the faults of the message of a rejection."""
    faults = []
    if len(message) > MAX_MESSAGE:
        faults.append(
            f"message of {len(message)} characters: {message[:300]!r} ... {message[-100:]!r}"
        )
    if not message.isprintable():
        faults.append(f"message is not printable: {message[:600]!r}")
    if str(path) not in message:
        faults.append(f"message does not name {path}: {message[:600]!r}")
    if "MemoryError" in message or "RecursionError" in message or "nable to allocate" in message:
        faults.append(f"was stopped by the limits only: {message[:600]!r}")
    return faults


def _memory() -> int:
    """Return the peak memory of this process, bytes. That of getrusage includes the parent's."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def _addresses() -> int:
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def _state() -> set[tuple]:
    """Return everything that a payload could change: modules, functions, attributes of classes."""
    found: set[tuple] = {("module", name) for name in sys.modules}
    for module in [*_WATCHED, *(m for n, m in sys.modules.items() if n.startswith("jaxtal"))]:
        for name, value in vars(module).items():
            found.add((module.__name__, name, id(value)))
            if isinstance(value, types.FunctionType):
                found.add((module.__name__, name, id(value.__code__), len(vars(value))))
            elif isinstance(value, type) and value.__module__ == module.__name__:
                for key, inner in vars(value).items():
                    found.add((module.__name__, name, key, id(inner)))
    return found


_WATCHED = tuple(sys.modules[name] for name in ("builtins", "os", "pickle", "numpy"))
