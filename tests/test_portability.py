"""The package on systems without Unix-only functions, which are removed here."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from jaxtal.data.io.files import atomic_write, open_regular
from jaxtal.data.io.locks import FileLock
from jaxtal.errors import JaxtalError
from jaxtal.parallel import multihost, preemption
from jaxtal.training import checkpoint_integrity
from tests.conftest import ROOT
from tests.helpers.command import TINY, outcome, run

# Executed after the imports of the dependencies and before the import of the package.
WITHOUT_UNIX = """
import ctypes, os, runpy, select, signal, sys
import flax, jax, matplotlib.pyplot, optax, orbax.checkpoint, platformdirs, rich.progress
import tensorflow_datasets
NAMES = {
    os: "O_NONBLOCK O_DIRECTORY O_NOFOLLOW fork forkpty killpg getpgid setsid sysconf getuid "
        "geteuid waitpid mkfifo sched_setaffinity fchmod chown",
    signal: "SIGALRM SIGKILL SIGHUP SIGUSR1 SIGUSR2 alarm setitimer pthread_kill sigwait pause",
}
for module, names in NAMES.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
"""


def without_unix(program: str, *arguments, **options) -> subprocess.CompletedProcess[str]:
    """Run a program in its own process, without Unix-only functions."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_UNIX + program, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600, **options,
    )  # fmt: skip


@pytest.fixture
def no_nonblock(monkeypatch):
    monkeypatch.delattr(os, "O_NONBLOCK")


def test_files_are_opened_if_they_are_regular(no_nonblock, tmp_path):
    (tmp_path / "a").write_bytes(b"a\r\nb\x1a\x00c")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"a\r\nb\x1a\x00c"
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {
        "pipe": "not a regular file", ".": "not a regular file", "none": "No such file",
        "a\0b": "null",
    }.items():  # fmt: skip
        with pytest.raises(JaxtalError, match=f"cannot be read .*{reason}"):
            open_regular(tmp_path / name)


def test_text_is_utf_8_for_every_locale(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom jaxtal.data.io.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n    file.write('\\u00e9\\u4e2d')\n"
    )
    environment = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, env=environment, check=True)
    assert path.read_bytes() == "é中".encode()
    with atomic_write(path, "wb") as file:
        file.write(b"\xff")
    assert path.read_bytes() == b"\xff"


def test_manifests_are_written_where_folders_cannot_be_opened(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "O_DIRECTORY")
    opened, really = [], os.open

    def open_no_folder(path, flags, *more):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        opened.append(flags & os.O_RDWR)
        return really(path, flags, *more)

    monkeypatch.setattr(os, "open", open_no_folder)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "a").write_bytes(b"123")
    checkpoint_integrity.write_manifest(tmp_path)
    assert checkpoint_integrity.find_damage(tmp_path) == ""
    synced = opened.count(os.O_RDWR)  # Windows only syncs writable files
    assert synced == 2  # the file and the manifest
    (tmp_path / "state" / "a").write_bytes(b"12")
    assert checkpoint_integrity.find_damage(tmp_path) == "state/a has 2 of 3 bytes"


@pytest.mark.parametrize("system", ["unix", "windows"])
def test_a_lock_has_one_holder(monkeypatch, tmp_path, system):
    path = tmp_path / "lock"
    held: list[int] = []

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        if held:
            raise PermissionError(13, "Permission denied")
        held.append(descriptor)

    if system == "windows":
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    assert not second.acquire()
    second.close()
    assert path.exists()
    first.close()
    held.clear()  # the system releases it
    third = FileLock(path)
    assert third.acquire()
    third.remove()
    assert not path.exists()


def test_a_lock_is_closed_before_it_is_removed(monkeypatch, tmp_path):
    lock = FileLock(tmp_path / "lock")
    unlink = type(tmp_path).unlink

    def unlink_closed(path, **options):
        if not lock._file.closed:
            raise PermissionError(13, "in use")
        unlink(path, **options)

    monkeypatch.setattr(type(tmp_path), "unlink", unlink_closed)
    lock.remove()
    assert not (tmp_path / "lock").exists()


def test_a_process_of_a_job_on_a_system_without_fork(monkeypatch):
    monkeypatch.delattr(os, "fork")
    monkeypatch.setattr(multihost, "_wait_for_all_processes", lambda run: run())
    assert multihost.run_supervised(lambda: 3) == 3
    assert multihost.run_supervised(os.getpid) == os.getpid()


def test_all_modules_can_be_imported():
    done = without_unix("""
import importlib, pkgutil
from pathlib import Path
for module in pkgutil.walk_packages(["jaxtal"], "jaxtal."):
    path = Path(*module.name.split(".")).with_suffix(".py")
    if not (path.is_file() and 'if __name__ == "__main__":' in path.read_text()):
        importlib.import_module(module.name)
""")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_training_without_unix_gives_the_same_result(tmp_path):
    """Commands do not need Unix-only functions."""
    steps = [*TINY, "--config.train.steps=2", "--compilation_cache_dir="]
    code, _, err = run(*steps, f"--workdir={tmp_path / 'unix'}")
    assert code == 0, err
    program = 'runpy.run_module("jaxtal.main", run_name="__main__", alter_sys=True)'
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    done = without_unix(program, *steps, f"--workdir={tmp_path / 'other'}", env=environment)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "other") == outcome(tmp_path / "unix")


def test_sigterm_without_unix(tmp_path):
    """Windows delivers signals through a socket only."""
    done = without_unix("""
import time
from jaxtal.parallel import preemption
preemption.GRACE_PERIOD_SECONDS = 1
preemption.make_resumable(); preemption.install_handlers()
assert not preemption.preemption_requested()
with preemption.defer_sigterm():
    signal.raise_signal(signal.SIGTERM)
    assert preemption.preemption_requested()
    print("goes on", flush=True)
    time.sleep(30)
""")
    assert (done.returncode, done.stdout) == (preemption.INTERRUPTED, "goes on\n")
    assert "stopped by SIGTERM and no checkpoint could be saved in time" in done.stderr
