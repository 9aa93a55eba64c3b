"""Run commands of the package without its import time: fork them from a process that imported it.

`ForkServer` starts `python -m tests.helpers.fork_server`, which imports every module of the package
but the two that are run (`jaxtal.__main__`, `jaxtal.main`), starts no thread and no JAX backend,
and forks a child for each command. The child exits the server's code and continues like `python -m
MODULE ARGUMENTS`, with the same exit codes, tracebacks and exit handlers. It differs from a
separate process in three respects: a module that the program forgot to import may be present, all
children iterate over sets of strings in the same order, and objects are not deleted at the end.
Therefore tests/cli/test_command.py compares the two for every program, and a test of repeatability
makes one of its runs in a separate process.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path

_LONGEST_MESSAGE = 100_000


class ForkServer:
    """The client; `useless` is the reason if commands cannot be forked, else empty."""

    def __init__(self, environment: dict[str, str], folder: Path):
        self.environment = environment
        self._lock = threading.Lock()
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115, until close()
        # A packet socket: messages are atomic. Standard input stays free for the commands.
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.helpers.fork_server", str(theirs.fileno())],
                cwd=folder,
                env=environment,
                stdout=self._messages,
                stderr=self._messages,
                pass_fds=[theirs.fileno()],
            )
        # If an import prints text, every command has to print it: by importing the module itself.
        self.useless = ""
        if not self._socket.recv(_LONGEST_MESSAGE):
            self._process.wait()
            self.useless = "it has ended"
        self.useless = _text(self._messages) or self.useless

    def run(
        self, module: str, arguments: list[str], timeout: float, folder: str = ""
    ) -> tuple[int, str, str]:
        """Run `python -m module arguments`; return exit code, standard output and standard error.

        It runs in `folder`, or else in the server's.

        Raises subprocess.TimeoutExpired after `timeout` seconds; the command is killed.
        """
        with self._lock, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            request = json.dumps([folder, module, *arguments]).encode()
            socket.send_fds(self._socket, [request], [out.fileno(), err.fileno()])
            pid = self._receive()
            try:
                self._socket.settimeout(timeout)
                code = self._receive()
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._socket.settimeout(None)
                self._receive()
                raise subprocess.TimeoutExpired([module, *arguments], timeout) from None
            self._socket.settimeout(None)
            return code, _text(out), _text(err)

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.wait()
        self._messages.close()

    def _receive(self) -> int:
        message = self._socket.recv(_LONGEST_MESSAGE)
        if not message:
            self._process.wait()
            raise RuntimeError(f"the fork server has ended: {_text(self._messages)}")
        return json.loads(message)


def _text(file) -> str:
    """Return the content of an open file, decoded as subprocess decodes text."""
    file.seek(0)
    reader = TextIOWrapper(file)
    text = reader.read()
    reader.detach()
    return text


def _import_package() -> None:
    """Import all modules of jaxtal but programs; runpy warns about an imported program."""
    for module in pkgutil.walk_packages([str(Path("jaxtal"))], "jaxtal."):
        source = Path(find_spec(module.name).origin).read_text()
        if 'if __name__ == "__main__":' not in source:
            importlib.import_module(module.name)


def _require_one_thread() -> None:
    """Raise RuntimeError if there are threads; OpenBLAS ends its own before a fork."""
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    for _ in range(100):  # a thread that has ended is listed for a moment
        if (threads := os.listdir("/proc/self/task")) == [str(os.getpid())]:
            return
        time.sleep(0.01)
    raise RuntimeError(f"{len(threads)} threads after the imports; a fork needs a single one")


def _require_no_backend() -> None:
    from jax._src import xla_bridge

    if xla_bridge.backends_are_initialized():
        raise RuntimeError("an import has started a JAX backend; its threads end in a fork")


def _serve(connection: socket.socket) -> str:
    """Return in a child the module to run; in the parent "" when the client has closed."""
    import numpy as np

    while True:
        request, files, *_ = socket.recv_fds(connection, _LONGEST_MESSAGE, 2)
        if not request:
            return ""
        if (pid := os.fork()) == 0:
            for file, standard in zip(files, (1, 2), strict=True):
                os.dup2(file, standard)
                os.close(file)
            np.random.seed()  # noqa: NPY002, random, as in every process
            folder, module, *sys.argv[1:] = json.loads(request)
            if folder:
                os.chdir(folder)
            return module
        for file in files:
            os.close(file)
        connection.send(json.dumps(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())


def _run(module: str) -> int:
    """Do the work of `python -m module`; return the exit code."""
    code = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code
    except Exception as error:
        code = 1
        error = error.with_traceback(error.__traceback__.tb_next)  # without this function
        sys.excepthook(type(error), error, error.__traceback__)
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    return code or 0


def _end(code: int) -> None:
    """End this process like the interpreter, but without deleting its objects.

    Deleting them takes half a second, since each of their pages is copied first.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _connection:
        _import_package()
        _require_no_backend()
        _require_one_thread()
        gc.collect()
        gc.freeze()  # a collection in a child would copy every page
        _connection.send(b"ready")
        _module = _serve(_connection)
    if _module:
        _end(_run(_module))
