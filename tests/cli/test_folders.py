"""Names of folders that cannot be used, and folders that cannot be written or vanish."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from jaxtal.cli import runtime
from jaxtal.data.io import files
from jaxtal.errors import CheckpointError
from jaxtal.training import setup
from jaxtal.training.workdir import Workdir
from tests.conftest import ROOT
from tests.helpers.command import TINY, run, run_program, start

LONG = "n" * 300
DEEP = "/".join(["d" * 200] * 25)
LATIN = os.fsdecode(b"caf\xe9")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        (LONG, "File name too long"),
        (f"none/{LONG}/x", "File name too long"),
        (DEEP, "File name too long"),
        (LATIN, "its name is not UTF-8"),
    ],
)
def test_a_name_that_cannot_be_used_is_an_error_before_data_are_read(tmp_path, name, why):
    code, out, err = run(*TINY, f"--workdir={tmp_path / name}")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"the work directory cannot be written ({why}); give another --workdir" in err
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_work_directory(tmp_path):
    (tmp_path / "file").touch()
    code, out, err = run(*TINY, f"--workdir={tmp_path / 'file' / 'run'}")
    assert (code, out) == (2, "")
    assert "file is not a folder); give another --workdir" in err


@pytest.mark.parametrize(
    "words",
    [
        "predict --features=configs --workdir", "export --workdir", "report --workdir",
        "train --config", "data inspect", "convert-checkpoint --config=co2net_demo --checkpoint",
        "evaluate --protocol=co2 --detections=d.json --annotations",
        "predict --workdir=x --features=configs --output",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [LONG, LATIN])
def test_other_commands_report_such_names_in_one_line(tmp_path, words, name):
    program, *arguments = words.split(" ")
    code, _, err = run_program(program, *arguments, str(tmp_path / name))
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_the_name_of_an_unfinished_file_may_be_too_long(tmp_path):
    """It is five bytes longer."""
    assert not files.too_long(tmp_path / ("n" * 255))
    assert files.too_long(tmp_path / ("é" * 128)) == os.strerror(36)
    code, _, err = run_program(
        "export", f"--workdir={tmp_path}", f"--output={tmp_path / ('n' * 252)}"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "File name too long" in err


def test_a_read_only_folder(monkeypatch, tmp_path):
    """Simulated, since the superuser may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    why = f"{tmp_path} is read-only for this user"
    assert files.unwritable_folder(tmp_path / "a" / "b") == why
    with pytest.raises(CheckpointError, match="the work directory cannot be written"):
        setup._check_writable(Workdir(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    setup._check_writable(Workdir(tmp_path / "run"))


UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.mark.skipif(
    not shutil.which("setpriv") or os.geteuid() != 0, reason="drops the superuser's rights"
)
def test_training_without_rights(tmp_path):
    """A read-only work directory is an error at once; a read-only cache costs one warning."""
    (tmp_path / "closed").mkdir(mode=0o555)
    (tmp_path / "open").mkdir()
    for name, code, said in (
        ("closed", 2, "error: {0}/closed: the work directory cannot be written ({0}/closed is "
         "read-only for this user); give another --workdir\n"),
        ("open", 0, "warning: --compilation_cache_dir={0}/closed: {0}/closed is read-only for this "
         "user; compiled programs are not cached\n"),
    ):  # fmt: skip
        words = [sys.executable, "-m", "jaxtal.main", *TINY, "--config.train.steps=2"]
        cache = f"--compilation_cache_dir={tmp_path / 'closed' if name == 'open' else ''}"
        done = subprocess.run(
            [*UNPRIVILEGED, *words, f"--workdir={tmp_path / name}", cache],
            cwd=ROOT,
            env={**os.environ, "HOME": str(tmp_path / "closed"), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (code, said.format(tmp_path))


def test_the_cache_needs_a_home_folder(monkeypatch, caplog):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/jaxtal")
    try:
        runtime.enable_compilation_cache(None)
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert "no home folder; compiled programs are not cached" in caplog.text
    assert runtime._cache("gs://bucket/folder") == "gs://bucket/folder"


def test_a_work_directory_that_is_deleted_during_training(tmp_path):
    workdir = tmp_path / "run"
    with start(*TINY, "--config.train.steps=4000", f"--workdir={workdir}") as process:
        while not (workdir / "checkpoints" / "4").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        shutil.rmtree(workdir, ignore_errors=True)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert err.count("\n") == 1
    assert err.startswith(f"error: {workdir}: the work directory was moved or deleted while")
