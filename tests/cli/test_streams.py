"""Standard output and error that are closed, broken or full."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxtal import cli
from jaxtal.parallel import preemption
from tests.conftest import ROOT
from tests.data.layouts.test_wtalc import write
from tests.helpers.command import TINY, outcome, run, start

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")

STEPS = [*TINY, "--config.train.steps=8"]
FULL = "(No space left on device)"


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("calm")
    code, _, err = run(*STEPS, f"--workdir={folder}")
    assert code == 0, err
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(folder)
    return folder


def shell(line: str, *arguments) -> subprocess.CompletedProcess:
    """Run a line of bash, in which "$@" is `jaxtal` with the arguments."""
    words = ["bash", "-c", line, "bash", sys.executable, "-m", "jaxtal", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_warning_is_written_at_once(unbuffered):
    """Even if the process is killed after it."""
    code = (
        "import os, sys\nfrom jaxtal.cli import streams\nstreams.install()\n"
        "print('a warning', file=sys.stderr)\nos._exit(3)"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (3, "a warning\n")


def test_training_goes_on_without_the_reader_of_its_output(calm, tmp_path):
    with start(*STEPS, f"--workdir={tmp_path}") as process:
        assert process.stdout.readline().startswith("Synthetic: 12 training")
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, "")
    assert outcome(tmp_path) == outcome(calm)


def test_training_goes_on_with_one_warning_if_its_output_is_full(calm, tmp_path):
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "jaxtal.main", *STEPS, f"--workdir={tmp_path}"]
        done = subprocess.run(
            words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    why = f"warning: stdout cannot be written {FULL}; going on without it\n"
    assert (done.returncode, done.stderr) == (0, why)
    assert outcome(tmp_path) == outcome(calm)


@pytest.mark.parametrize(
    ("line", "err"),
    [
        ('"$@" >&-', ""),
        ('"$@" 2>&-', ""),
        ('"$@" >&- 2>&-', ""),
        ('"$@" 2>/dev/full', ""),
        ('"$@" | true; exit ${PIPESTATUS[0]}', ""),
        ('"$@" >/dev/full', f"warning: stdout cannot be written {FULL}; going on without it\n"),
        ('"$@" >/dev/full 2>&1', ""),
    ],
)
def test_a_command_that_writes_files_goes_on(dataset, tmp_path, line, err):
    target = tmp_path / "out"
    done = shell(line, "data", "convert", dataset, target, "--to=basnet")
    assert (done.returncode, done.stderr) == (0, err)
    assert (target / "SHA256SUMS").is_file()


PRINTING = [["--version"], ["--help"], ["configs"], ["train", "--help"], ["data", "--help"]]


@pytest.mark.parametrize("arguments", PRINTING)
def test_text_that_is_the_product_must_be_written(arguments):
    done = shell('"$@" >/dev/full', *arguments)
    why = f"error: stdout cannot be written {FULL}; redirect it to another place\n"
    assert (done.returncode, done.stderr) == (2, why)


@pytest.mark.parametrize("arguments", PRINTING[:3])
def test_a_pipe_may_end_early(arguments):
    done = shell('"$@" | true; exit ${PIPESTATUS[0]}', *arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_evaluate_and_inspect_print_their_product(dataset, calm, tmp_path):
    written = (
        ["evaluate", "--annotations", calm / "annotations.json", "--protocol=thumos14",
         "--detections", calm / "detections.json", "--output", tmp_path / "scores.json"],
        ["data", "inspect", dataset, "--output", tmp_path / "report.json", "--figure="],
    )  # fmt: skip
    for arguments in written:
        for line, code in (
            ('"$@" >/dev/full', 2),
            ('"$@" | true; exit ${PIPESTATUS[0]}', 0),
        ):
            done = shell(line, *arguments)
            assert done.returncode == code, done.stderr
            assert done.stderr.count("\n") == (code == 2)
    assert (tmp_path / "scores.json").is_file()
    assert (tmp_path / "report.json").is_file()


def test_an_error_of_a_command_has_its_code_without_stderr():
    for line in ('"$@" 2>&-', '"$@" 2>/dev/full', '{ "$@" 2>&1 >/dev/null; } | true'):
        done = shell(f"{line}; exit ${{PIPESTATUS[0]}}", "nothing")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_names_that_the_encoding_lacks_are_escaped(dataset, tmp_path):
    target = tmp_path / "größe"
    done = shell('PYTHONIOENCODING=ascii "$@"', "data", "convert", dataset, target, "--to=basnet")
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xf6\\xdfe" in done.stdout.replace("\n", "")


def test_a_supervised_process_goes_on():
    program = (
        "import sys\nfrom jaxtal.cli import streams\nfrom jaxtal.parallel import multihost\n"
        "def run():\n    print('a line', flush=True)\n    return 75\n"
        "multihost._wait_for_all_processes = lambda run: run()\n"
        "streams.install()\nsys.exit(multihost.run_supervised(run))"
    )
    words = ["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "bash", sys.executable]
    done = subprocess.run(
        [*words, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (75, "")


def test_a_call_from_python_changes_neither_streams_nor_signals(capsys):
    before = sys.stdout, sys.stderr, *map(signal.getsignal, preemption.stop_signals())
    assert cli.main(["configs"]) == 0
    after = sys.stdout, sys.stderr, *map(signal.getsignal, preemption.stop_signals())
    assert before == after
    assert "co2net_demo" in capsys.readouterr().out
