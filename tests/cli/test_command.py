"""A command forked from a warm process behaves like a command in its own process."""

import functools
import io
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from jaxtal import cli
from tests.conftest import ROOT
from tests.data.layouts.test_wtalc import write
from tests.helpers import command, fork_server
from tests.helpers.command import TINY, outcome, run_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux only")

RUN = [
    *TINY, "--config.train.steps=2", "--config.evaluation.save_activations=True",
    "--workdir={to}/run",
]  # fmt: skip

_SECONDS = r"\s*\b([\d.]+\s*(m?s\b|seconds)|\d+:\d\d:\d\d)"

# A complete run of every program, in one of the folders that `folders` makes.
COMMANDS = {
    "main": [*RUN, "--mode=eval"],
    "localize": [
        TINY[0], "--activations={to}/run/activations.npz", "--output={to}/localized.json",
    ],
    "evaluate": [
        "--annotations={to}/run/annotations.json", "--detections={to}/run/detections.json",
        "--protocol=co2", "--output={to}/scores.json", "--figure={to}/errors.png",
    ],
    "data inspect": ["{to}/data", "--figure={to}/data.png", "--output={to}/data.json"],
    "data convert": ["{to}/data", "--to=acmnet", "{to}/converted"],
    "data prepare": [
        "--builder=jaxtal_videos/Tiny", "--manual_dir={to}/data", "--data_dir={to}/prepared",
    ],
    "export": ["--workdir={to}/run", "--output={to}/model.jaxtal"],
    "predict": [
        "--workdir={to}/run", "--features={to}/features", "--output={to}/found.json",
        "--plots={to}/plots",
    ],
    "report": ["--workdir={to}/run", "--output={to}/report.html"],
    "convert-checkpoint": ["--method=co2net", "--workdir={to}/run", "--to_torch={to}/torch.pkl"],
    "configs": [],
    "summary": [TINY[0]],
    "figure timelines": ["{to}/run", "--output={to}/timelines.png"],
    "search": [
        *RUN[:-1], "--grid=localization.sigma=0.2,0.3", "--workdir={to}/search",
    ],
}  # fmt: skip

ENDINGS = {
    "nothing": "pass",
    "no code": "sys.exit()",
    "a code": "sys.exit(3)",
    "a code too large": "sys.exit(259)",
    "a text": "print('out'); sys.exit('reason')",
    "an exception": "print('out'); 1 / 0",
    "a signal": "os.kill(os.getpid(), 9)",
    "at once": "print('lost'); os._exit(4)",
    "an exit handler": "atexit.register(print, 'late'); print('soon')",
    "a thread": "threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()",
    "descriptors": "os.write(1, b'out\\n'); os.write(2, b'err\\n')",
    "where": "print(sys.argv, sys.path, os.getcwd(), sys.modules['__main__'].__spec__.name)",
    "files": "print(sorted(os.listdir('/proc/self/fd')), sys.stdout.isatty())",
    "environment": "print({n: v for n, v in os.environ.items() if n.startswith(('JAX', 'XLA'))})",
}


def test_commands_are_forked():
    """Without the fork server, commands would be started in their own processes, more slowly."""
    assert command.fork_server().useless == ""


def test_every_program_is_compared():
    assert {*cli.COMMANDS, "main"} == {*COMMANDS, "train"}  # main is the same command


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[Path, bool]:
    """Folders with data, features and a finished run -> True if commands are started there."""
    root = tmp_path_factory.mktemp("both")
    made = {
        root / "start": True,
        root / "forks": False,
    }  # names of equal length, for tables with paths
    for folder, fresh in made.items():
        folder.mkdir()
        (folder / "data").mkdir()
        write(folder / "data")
        features = np.random.default_rng(0).random((40, 16), np.float32)
        (folder / "features").mkdir()
        np.save(folder / "features" / "video.npy", features)
        code, _, err = run_program("main", *(text.format(to=folder) for text in RUN), fresh=fresh)
        assert code == 0, err
    return made


def same_for_both(text: str, folder: Path) -> str:
    """Return the text without the folder's name, seconds, and the line breaks that they shift."""
    text = text.replace(folder.name, "folder")
    if re.search(_SECONDS, text):
        text = re.sub(r"\s*\n", " ", text)
    return re.sub(_SECONDS, "", text)


def test_times_are_compared_alike_wherever_lines_break():
    """On a busy machine one more digit can move a word to the next line."""

    def printed(path: str, seconds: float) -> str:
        file = io.StringIO()
        text = f"20 detections are in {path}; {seconds:.1f} s; weights are there, too"
        Console(file=file, width=100).print(text, highlight=False)
        return same_for_both(file.getvalue(), Path("folder"))

    for length in range(20, 140):
        path = f"/{'x' * length}.json"
        assert len({printed(path, seconds) for seconds in (0.1, 9.9, 38.6, 100.0)}) == 1
    assert same_for_both("1 video\n2 videos", Path("a")) != same_for_both("1 video 2", Path("a"))


@pytest.mark.parametrize("program", COMMANDS)
def test_forked_as_started(folders, program):
    found = []
    for folder, fresh in folders.items():
        arguments = [text.format(to=folder) for text in COMMANDS[program]]
        code, out, err = run_program(program, *arguments, fresh=fresh)
        assert code == 0, err
        files = {
            path.name: path.suffix == ".json" and same_for_both(path.read_text(), folder)
            for path in folder.iterdir()
        }
        found.append((same_for_both(out, folder), same_for_both(err, folder), files))
    assert found[0] == found[1]
    if program == "main":
        first, second = [outcome(folder / "run") for folder in folders]
        assert first == second


@pytest.mark.parametrize("program", COMMANDS)
def test_misuse_is_refused_as_if_started(program):
    code, out, err = run_program(program, "--no_such_option=3")
    assert (code, err.count("\n")) == (2, 1)
    assert (code, out, err) == run_program(program, "--no_such_option=3", fresh=True)


@pytest.mark.parametrize("ending", ENDINGS)
def test_endings(ending):
    arguments = ["tests.helpers.ending", ENDINGS[ending]]
    server = command.fork_server()
    started = subprocess.run(
        [sys.executable, "-m", *arguments],
        check=False, cwd=ROOT, env=server.environment, capture_output=True, text=True,
    )  # fmt: skip
    code, out, err = server.run(arguments[0], arguments[1:], timeout=60)
    # The frames of runpy differ.
    started_err, err = (
        re.sub(r"  File .*runpy.*\n(    .*\n)*", "", text) for text in (started.stderr, err)
    )
    assert (code, out, err) == (started.returncode, started.stdout, started_err)


def test_chance_is_not_shared():
    """Every child would inherit the state of NumPy's global generator."""
    draw = "import numpy, random; print(numpy.random.random(), random.random())"
    drawn = [
        command.fork_server().run("tests.helpers.ending", [draw], 60)[1].split() for _ in range(2)
    ]
    assert not {*drawn[0]} & {*drawn[1]}


def test_a_command_that_hangs():
    server = command.fork_server()
    with pytest.raises(subprocess.TimeoutExpired):
        server.run("tests.helpers.ending", ["time.sleep(60)"], timeout=0.2)
    assert server.run("tests.helpers.ending", ["print('the next')"], timeout=60) == (
        0,
        "the next\n",
        "",
    )


def test_a_server_for_each_environment(monkeypatch):
    """Imports read environment variables, so each environment needs its own server."""
    closed = []

    def server(environment, folder):
        close = functools.partial(closed.append, environment)
        return SimpleNamespace(environment=environment, close=close)

    monkeypatch.setattr(command, "_servers", [])
    monkeypatch.setattr(command, "ForkServer", server)
    first = command.fork_server()
    assert command.fork_server() is first
    monkeypatch.setenv("JAXTAL_TESTED", "1")
    second = command.fork_server()
    assert second.environment["JAXTAL_TESTED"] == "1"
    assert closed == [first.environment]


def test_an_import_that_fails_or_prints(tmp_path):
    """The server is then useless, and commands are started in their own processes."""
    (tmp_path / "jaxtal").mkdir()
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    for text, message in (("import nothing_like_it", "ModuleNotFoundError"), ("print(3)", "3\n")):
        (tmp_path / "jaxtal" / "__init__.py").write_text("")
        (tmp_path / "jaxtal" / "part.py").write_text(text)
        server = fork_server.ForkServer(command.fork_server().environment, tmp_path)
        assert message in server.useless
        server.close()
