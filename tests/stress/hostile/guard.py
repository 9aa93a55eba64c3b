"""What a reader does to the process that it runs in, watched: files, calls, time, memory, words."""

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

SECONDS = 5.0  # of processor time that a file may take; real time is cut at twice that
MEMORY = 160 * 2**20  # bytes by which a file may raise the greatest memory: two zips unpacked
ADDRESSES = 1536 * 2**20  # bytes of address space beyond what the imports take
MOST_WORDS = 600
_STATE_EVERY = 10  # mutants: comparing takes as long as reading

# Events of which none belongs to reading data.
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
    """The time is up; no Exception, which readers catch."""


class Guard:
    """Calls functions under watch; one for the life of a process, as audit hooks stay."""

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
            return  # the mode
        whole = os.path.normpath(os.path.join(self._folder, path))
        if not f"{whole}{os.sep}".startswith(self._folder):
            self._seen.append(f"{event} of {path!r:.100}, outside")

    def judge(self, use: Callable[[], None], path: Path) -> tuple[str, str]:
        """The outcome of a reader: "loaded", "rejected" or "failed", and what was said.

        Args:
            use: reads, and does what follows.
            path: that a refusal must name.
        """
        said = ""
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
                outcome, said = "rejected", str(error)
                faults += _spoken(said, path)
            except Hang:
                faults.append("hangs: " + traceback.format_exc()[-1500:])
            except BaseException as error:
                faults.append(f"{type(error).__name__}: " + traceback.format_exc()[-3000:])
        if (seconds := time.process_time() - start) > SECONDS:
            faults.append(f"takes {seconds:.1f} s")
        faults += [f"warns: {one.category.__name__}: {one.message}"[:500] for one in warned]
        for line in words.getvalue().splitlines():
            if not line.startswith("warning: ") or len(line) > MOST_WORDS or not line.isprintable():
                faults.append(f"says {line!r:.300}")
        if (growth := _memory() - self._greatest) > MEMORY:
            faults.append(f"takes {growth / 2**20:.0f} MiB")
            self._greatest += growth
        self._judged += 1
        if self._judged % _STATE_EVERY == 0 and (changed := self.changed()):
            faults.append(f"this or one of the {_STATE_EVERY} before changes {changed}")
        if any(True for _ in Path(self._folder).rglob(CANARY)):
            faults.append("executes a payload: the canary is there")
        return ("failed", "\n".join(faults)) if faults else (outcome, said)

    def changed(self) -> list[str]:
        """What has changed in the process since this was asked, or the guard made."""
        before, self._state = self._state, _state()
        return sorted(map(str, before ^ self._state))[:5]

    @property
    def growth(self) -> int:
        """Bytes by which the greatest memory has grown."""
        return max(_memory() - self._greatest, 0)


def _spoken(said: str, path: Path) -> list[str]:
    """What is wrong with the words of a refusal."""
    faults = []
    if len(said) > MOST_WORDS:
        faults.append(f"says {len(said)} characters: {said[:300]!r} ... {said[-100:]!r}")
    if not said.isprintable():
        faults.append(f"says what cannot be printed: {said[:600]!r}")
    if str(path) not in said:
        faults.append(f"does not name {path}: {said[:600]!r}")
    if "MemoryError" in said or "RecursionError" in said or "nable to allocate" in said:
        faults.append(f"was stopped by its limits only: {said[:600]!r}")
    return faults


def _memory() -> int:
    """The greatest memory of this process so far, in bytes; not, as getrusage's, its parent's."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def _addresses() -> int:
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def _state() -> set[tuple]:
    """What a payload could have changed: modules, their functions, the classes' attributes."""
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
