"""SIGTERM, truncated checkpoints, a full disk, a lost process.

After each of them the same command resumes and ends like an uninterrupted run, bit for bit.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxtal.training import checkpoint_integrity
from tests.conftest import ROOT
from tests.helpers.command import TINY, outcome, run, start

STEPS = 400
RUN = [
    *TINY, f"--config.train.steps={STEPS}", "--config.train.eval_every=40",
    "--config.evaluation.plot_videos=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("calm")
    code, _, err = run(*RUN, f"--workdir={folder}")
    assert code == 0, err
    return folder


def begun(folder: Path, **options) -> subprocess.Popen:
    """Start a run and wait for its first checkpoint."""
    return wait_for_checkpoint(start(*RUN, f"--workdir={folder}", **options), folder)


def wait_for_checkpoint(process: subprocess.Popen, folder: Path) -> subprocess.Popen:
    wait_until(
        lambda: checkpoint_integrity.latest_complete_step(folder / "checkpoints") is not None,
        process,
    )
    return process


def wait_until(condition, process: subprocess.Popen) -> None:
    """Wait for an effect of a process, at most 300 seconds and while it runs."""
    begun = time.monotonic()
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - begun < 300
        time.sleep(0.02)


def ends_like(calm: Path, folder: Path) -> str:
    """Resume in `folder` with the same command; return its stderr."""
    code, out, err = run(*RUN, f"--workdir={folder}")
    assert code == 0, err
    assert "resuming from step" in out
    assert outcome(folder) == outcome(calm)
    assert (folder / "metrics.jsonl").read_text() == (calm / "metrics.jsonl").read_text()
    return err


def test_sigterm(calm, tmp_path):
    """The current step is saved, and nothing is lost."""
    process = begun(tmp_path)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75
    step = int(re.search(r"stopped by SIGTERM; step (\d+) is saved; the same command", err)[1])
    assert checkpoint_integrity.latest_complete_step(tmp_path / "checkpoints") == step < STEPS
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["step"] == step
    ends_like(calm, tmp_path)


def test_sigterm_before_there_is_anything_to_save(tmp_path):
    process = start(*RUN, f"--workdir={tmp_path}")
    wait_until((tmp_path / "config.json").exists, process)  # written after SIGTERM is handled
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 75
    assert err.splitlines()[-1].startswith("error: stopped by SIGTERM before there was anything")
    assert not (tmp_path / "result.json").exists()


def test_a_truncated_checkpoint_is_set_aside(calm, tmp_path):
    process = begun(tmp_path, start_new_session=True)
    wait_until(
        lambda: len(checkpoint_integrity.checkpoint_steps(tmp_path / "checkpoints")) > 1, process
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    *_, before, last = checkpoint_integrity.checkpoint_steps(tmp_path / "checkpoints")
    largest = max(
        (tmp_path / "checkpoints" / str(last)).rglob("*"),
        key=lambda path: path.stat().st_size if path.is_file() else 0,
    )
    os.truncate(largest, largest.stat().st_size - 1)
    assert checkpoint_integrity.latest_complete_step(tmp_path / "checkpoints") == before
    err = ends_like(calm, tmp_path)
    assert re.search(rf"warning: .*checkpoints/{last}: this checkpoint is damaged \(state/", err)
    assert (tmp_path / "damaged" / str(last) / "sealed.json").exists()


def test_a_full_disk(calm, tmp_path):
    """Simulated by a limit of the file size that the next checkpoint exceeds."""
    code, _, err = run(*RUN, "--config.train.steps=40", f"--workdir={tmp_path}")
    assert code == 0, err
    process = start(*RUN, f"--workdir={tmp_path}", "--compilation_cache_dir=")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (9000, 9000))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1
    last = checkpoint_integrity.latest_complete_step(tmp_path / "checkpoints")
    assert re.search(rf"the disk is full \(File too large\); the checkpoint of step {last} is", err)
    assert 40 <= last < STEPS
    assert not [*(tmp_path / "checkpoints").glob("*tmp*")]
    ends_like(calm, tmp_path)


TWO = [*RUN, "--config.population=2"]


def job_of_two(folder: Path) -> subprocess.Popen:
    """Start a job of two processes and wait for its first checkpoint."""
    arguments = ["--processes=2", "--", *TWO, f"--workdir={folder}"]
    launcher = [sys.executable, "launch/local.py", *arguments]
    options = {"cwd": ROOT, "stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return wait_for_checkpoint(subprocess.Popen(launcher, **options), folder)


@pytest.mark.slow
def test_a_lost_process_ends_a_job(tmp_path):
    """After SIGTERM to all it resumes; after a kill of one the other one notices in time."""
    job = job_of_two(tmp_path)
    job.terminate()
    _, err = job.communicate(timeout=30)
    assert job.returncode == 75
    steps = re.findall(r"stopped by SIGTERM; step (\d+) is saved; the same", err)
    assert [*map(int, steps)] == [
        checkpoint_integrity.latest_complete_step(tmp_path / "checkpoints")
    ] * 2
    job = job_of_two(tmp_path)
    wait_until(
        lambda: int(steps[0]) < checkpoint_integrity.latest_complete_step(tmp_path / "checkpoints"),
        job,
    )
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    killed = time.monotonic()
    _, err = job.communicate(timeout=90)
    assert time.monotonic() - killed < 60
    assert job.returncode == 75
    assert "another process of this job was lost" in err
    assert err.splitlines()[-1].startswith("process 1 was killed by signal 9")
    code, out, err = run(*TWO, f"--workdir={tmp_path}")  # with one process and one device
    assert code == 0, err
    assert "resuming from step" in out
    assert json.loads((tmp_path / "result.json").read_text())["step"] == STEPS
