"""Running the public commands as a user does, each in a process of its own."""

import atexit
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

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

# One for all runs of a test session, which compile the same programs again and again.
_COMPILED = tempfile.TemporaryDirectory(prefix="jaxtal_compiled_")
_servers: list[ForkServer] = []  # none or one


def start(*arguments, program: str = "main", **options) -> subprocess.Popen:
    """`jaxtal <program>` with pipes, in a process of its own."""
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
    """Exit code, standard output and standard error of a run."""
    return run_program("main", *arguments, fresh=fresh)


def run_program(
    program: str, *arguments, fresh: bool = False, folder: Path = ROOT
) -> tuple[int, str, str]:
    """The same of any of the package's commands, "predict" or "data inspect".

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
    """The module that is the program, and its first arguments; "main" is `jaxtal.main`."""
    return ["jaxtal.main"] if program == "main" else ["jaxtal", *program.split()]


def fork_server() -> ForkServer:
    """The server for commands in the present environment, started if need be."""
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
    """What commands are started with, the same for all tests that do not change os.environ."""
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
    """What must not depend on interruptions: result.json without seconds, detections.json."""
    result = json.loads((workdir / "result.json").read_text())
    del result["seconds"]
    return result, (workdir / "detections.json").read_bytes()


def snapshot(folder: Path) -> dict[str, tuple]:
    """Every path below `folder` with its time of change and contents."""
    return {
        str(path): (path.stat().st_mtime_ns, path.is_file() and _digest(path))
        for path in [folder, *sorted(folder.rglob("*"))]
        if path.exists()
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
