"""Run the public commands as a user does, each in a separate process."""

import atexit
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from jaxtal.data.io import json_files
from tests.conftest import ROOT
from tests.helpers.fork_server import ForkServer

TINY_VIDEOS = "demo num_train=12 num_test=6 num_classes=3 feature_width=8 max_snippets=100"
TINY = [
    "--config=configs/co2net_demo.py",
    "--config.data.num_snippets=16",
    f"--config.data.generator={TINY_VIDEOS}",
    "--config.train.log_every=2",
    "--config.train.eval_every=4",
    "--config.evaluation.plot_videos=2",
]

# Shared by all runs of a test session, which compile the same functions repeatedly.
_COMPILED = tempfile.TemporaryDirectory(prefix="jaxtal_compiled_")
_servers: list[ForkServer] = []  # at most one


def start(*arguments, program: str = "main", **options) -> subprocess.Popen:
    """Start `jaxtal <program>` with pipes, in a separate process."""
    return subprocess.Popen(
        [sys.executable, "-m", *_module(program), *map(str, arguments)],
        cwd=options.pop("cwd", ROOT),
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(*arguments, fresh: bool = False) -> tuple[int, str, str]:
    """Train; return exit code, standard output and standard error."""
    return run_program("main", *arguments, fresh=fresh)


def run_program(
    program: str, *arguments, fresh: bool = False, folder: Path = ROOT
) -> tuple[int, str, str]:
    """Run a command, e.g. "predict"; return exit code, standard output and standard error.

    It is forked from a process that has imported the package (see tests/helpers/fork_server.py),
    or, if `fresh`, started as a user does, which takes two seconds more.
    """
    if not fresh and sys.platform == "linux" and not (server := fork_server()).useless:
        module, *words = _module(program)
        return server.run(module, [*words, *map(str, arguments)], timeout=600, folder=str(folder))
    process = start(*arguments, program=program, cwd=folder)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def _module(program: str) -> list[str]:
    """Return the module of a command and its first arguments; "main" is `jaxtal.main`."""
    return ["jaxtal.main"] if program == "main" else ["jaxtal", *program.split()]


def fork_server() -> ForkServer:
    """Return the server for commands in the current environment; start it if needed."""
    environment = _environment()
    if _servers and _servers[0].environment != environment:
        _close_servers()
    if not _servers:
        _servers.append(ForkServer(environment, ROOT))
    return _servers[0]


@atexit.register
def _close_servers() -> None:
    while _servers:
        _servers.pop().close()


def _environment() -> dict[str, str]:
    """Return the environment of commands, constant unless a test changes os.environ."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "COLUMNS": "100",
        "JAX_COMPILATION_CACHE_DIR": _COMPILED.name,
    }
    environment.pop("PYTEST_CURRENT_TEST", None)
    return environment


def outcome(workdir: Path) -> tuple[dict, bytes]:
    """Return result.json without seconds, and detections.json; interruptions preserve both."""
    result = json_files.load(workdir / "result.json", "a result")
    del result["seconds"]
    return result, (workdir / "detections.json").read_bytes()


def snapshot(folder: Path) -> dict[str, tuple]:
    """Return every path below `folder` with its modification time and a digest."""
    return {
        str(path): (path.stat().st_mtime_ns, path.is_file() and _digest(path))
        for path in [folder, *sorted(folder.rglob("*"))]
        if path.exists()
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
