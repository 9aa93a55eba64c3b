"""Processes of a job that do not connect, are too few, or end unexpectedly."""

import os
import subprocess
import sys
import time

import pytest

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
