"""Signals, and processes of a job that do not connect, are too few, or end unexpectedly."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jaxtal.parallel import preemption
from tests.conftest import ROOT
from tests.helpers.command import TINY, run, start

ENDINGS = {
    "a code": ("sys.exit(3)", 3, ""),
    "nothing": ("pass", 0, ""),
    "interrupted": ("sys.exit(75)", 75, ""),
    "a lost process": ("os.abort()", 75, "aborted: another process of this job was lost"),
    "out of memory": ("os.kill(os.getpid(), 9)", 75, "this process was killed by SIGKILL"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_end_of_a_process_is_reported(ending):
    """In one line, by its supervisor."""
    does, wanted, message = ENDINGS[ending]
    program = (
        "import os, sys\nfrom jaxtal.parallel import multihost, preemption\n"
        f"def run():\n    {does}\n    return 0\n"
        "multihost._wait_for_all_processes = lambda run: run()\n"
        "sys.exit(multihost.run_supervised(run))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == wanted
    lines = done.stderr.splitlines()
    assert len(lines) == bool(message)
    assert not message or (message in lines[0] and "the same command resumes" in lines[0])


def test_sigterm_kills_after_the_grace_period(tmp_path):
    """A process that ignores the signal is killed."""
    program = (
        "import signal, sys, time\nfrom jaxtal.parallel import multihost, preemption\n"
        "def run():\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"    open({str(tmp_path / 'runs')!r}, 'w').close()\n"
        "    time.sleep(60)\n"
        "multihost._wait_for_all_processes = lambda run: run()\n"
        "multihost.GRACE_PERIOD_SECONDS = 1\n"
        "sys.exit(multihost.run_supervised(run))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "runs").exists():
        time.sleep(0.01)
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 75
    assert "stopped by SIGTERM and no checkpoint could be saved in time (SIGKILL)" in err


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
WAITS = "print('ready', flush=True); time.sleep(60)"
INSTALL = "preemption.make_resumable(); preemption.install_handlers()"
BEGIN = "import signal, sys, time\nfrom jaxtal.parallel import multihost, preemption\n"


def signaled(program: str, *numbers: int, ignored: tuple[int, ...] = ()) -> tuple[int, str]:
    """Signal a program once it is ready; return exit code and stderr.

    Every signal is sent 0.2 seconds after the one before.
    """
    # A shell may have started the tests with ignored signals, which children inherit.
    others = {number: signal.SIG_IGN if number in ignored else signal.SIG_DFL for number in SIGNALS}
    before = {number: signal.signal(number, how) for number, how in others.items()}
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + program],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        for number, how in before.items():
            signal.signal(number, how)
    with process:
        assert process.stdout.readline() == "ready\n"
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.2)
        _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_command_in_one_line(tmp_path, number):
    """It is noticed while the main thread waits, and unfinished files are deleted."""
    path = tmp_path / "scores.json"
    program = (
        f"import pathlib\nfrom jaxtal.data.io import files\npath = pathlib.Path({str(path)!r})\n"
        "preemption.install_handlers(files.remove_temporaries)\n"
        f"with files.atomic_write(path) as file:\n    file.write('half'); file.flush(); {WAITS}"
    )
    name = signal.Signals(number).name
    line = f"error: stopped by {name}; run the same command again\n"
    assert signaled(program, number) == (128 + number, line)
    assert list(tmp_path.iterdir()) == []


def test_no_error_follows_the_signal(tmp_path):
    """The main thread does not notice that its unfinished file is deleted."""
    path = tmp_path / "scores.json"
    program = (
        "import pathlib\nfrom jaxtal.data.io import files\n"
        "def cleanup():\n    files.remove_temporaries(); time.sleep(0.5)\n"
        "preemption.install_handlers(cleanup)\nprint('ready', flush=True)\n"
        f"while True:\n    with files.atomic_write(pathlib.Path({str(path)!r})) as file:\n"
        "        file.write('text')"
    )
    line = "error: stopped by SIGINT; run the same command again\n"
    assert signaled(program, signal.SIGINT) == (130, line)


@pytest.mark.parametrize(("number", "code"), [*zip(SIGNALS, (130, 75, 75), strict=True)])
def test_a_signal_stops_training(number, code):
    """The loop sees the request, and the signal is named."""
    program = (
        f"{INSTALL}\nwith preemption.defer_sigterm():\n"
        "    print('ready', flush=True)\n"
        "    while not preemption.preemption_requested(): time.sleep(0.01)\n"
        "print(preemption.signal_name(), file=sys.stderr)\nsys.exit(preemption.exit_code())"
    )
    assert signaled(program, number) == (code, f"{signal.Signals(number).name}\n")


def test_a_second_ctrl_c_ends_training_at_once():
    program = (
        f"{INSTALL}; preemption.SECOND_AFTER_SECONDS = 0.1\n"
        f"with preemption.defer_sigterm(): {WAITS}"
    )
    code, err = signaled(program, signal.SIGINT, signal.SIGINT)
    assert code == 130
    assert err == (
        "error: stopped by a second SIGINT before a checkpoint was saved; the same command resumes "
        "from the last checkpoint\n"
    )


def test_a_signal_that_a_wrapper_repeats_counts_once():
    program = (
        f"{INSTALL}; preemption.GRACE_PERIOD_SECONDS = 1\n"
        "preemption.SECOND_AFTER_SECONDS = 30\n"
        f"with preemption.defer_sigterm(): {WAITS}"
    )
    code, err = signaled(program, signal.SIGINT, signal.SIGINT)
    assert code == 130
    assert err.startswith("error: stopped by SIGINT and no checkpoint could be saved in time; ")


def test_ignored_signals_stay_ignored():
    """Under nohup, and in background jobs of a shell."""
    program = (
        "preemption.install_handlers(); print('ready', flush=True); time.sleep(1); sys.exit(3)"
    )
    ignored = signal.SIGHUP, signal.SIGINT
    assert signaled(program, *ignored, ignored=ignored) == (3, "")


def test_signals_have_no_effect_at_the_end():
    program = (
        "preemption.install_handlers(); preemption.stop_watching()\n"
        "print('ready', flush=True); time.sleep(0.5); sys.exit(3)"
    )
    assert signaled(program, signal.SIGINT) == (3, "")


@pytest.mark.parametrize(("number", "code"), [*zip(SIGNALS, (130, 75, 75), strict=True)])
def test_a_supervised_process_learns_the_signal(number, code):
    """It receives SIGTERM, which JAX notices, after the signal of its supervisor."""
    program = (
        "def run():\n"
        "    signal.signal(signal.SIGTERM, preemption.note)\n"
        "    print('ready', flush=True)\n"
        "    while signal.SIGTERM not in preemption.received(): time.sleep(0.01)\n"
        "    print(preemption.signal_name(), file=sys.stderr)\n"
        "    return 75\n"
        "multihost._wait_for_all_processes = lambda run: run()\n"
        "preemption.install_handlers()\n"
        "sys.exit(multihost.run_supervised(run))"
    )
    assert signaled(program, number) == (code, f"{signal.Signals(number).name}\n")


def test_without_sighup(monkeypatch):
    """Windows has none."""
    monkeypatch.delattr(signal, "SIGHUP")
    assert signal.SIGTERM in preemption.stop_signals()
    assert len(preemption.stop_signals()) <= 2


def test_no_other_process(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", {**os.environ, "JAX_NUM_PROCESSES": "two"})
    process = start(*TINY, "--distributed", f"--workdir={tmp_path / 'run'}")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        2, "error: JAX_NUM_PROCESSES=two, JAX_PROCESS_ID=None; wanted integers\n"
    )  # fmt: skip
    del os.environ["JAX_NUM_PROCESSES"]
    process = start(*TINY, "--distributed", f"--workdir={tmp_path / 'run'}")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith("error: --distributed: the processes of this job did not connect (")
    assert not (tmp_path / "run").exists()


def test_the_topology_check(tmp_path):
    code, _, err = run(*TINY, "--expect_devices=3", f"--workdir={tmp_path / 'run'}")
    assert code == 2
    assert err.startswith("error: --expect_devices=3, but this job has 1 devices in 1 processes")
    assert not (tmp_path / "run").exists()
