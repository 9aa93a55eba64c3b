"""A network file system that fails one call: one line and exit code 2, or the same result.

`eio.c` is preloaded into the command and fails one call on one kind of file.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.helpers.command import TINY

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"
)

STEPS = ["--config.train.steps=8", "--config.evaluation.plot_videos=1"]
RESULTS = ("detections.json", "metrics.jsonl", "predicted.json")


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    library = tmp_path_factory.mktemp("eio") / "eio.so"
    source = Path(__file__).with_name("eio.c")
    command = ["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture(scope="module")
def run_once(tmp_path_factory) -> Path:
    """A folder with a finished run, features, predictions and compiled programs."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "features").mkdir()
    for name in "ab":
        features = np.random.default_rng(ord(name)).normal(size=(40, 16)).astype(np.float16)
        np.save(folder / "features" / f"{name}.npy", features)
    for words in (train(folder), predict(folder)):
        assert call(words, folder).returncode == 0
    return folder


def train(folder: Path) -> list[str]:
    return ["train", *TINY, *STEPS, f"--workdir={folder / 'work'}"]


def predict(folder: Path) -> list[str]:
    return [
        "predict", f"--workdir={folder / 'work'}", f"--features={folder / 'features'}",
        f"--output={folder / 'work' / 'predicted.json'}", f"--plots={folder / 'figures'}",
    ]  # fmt: skip


def call(words: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess:
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment = os.environ | cache | more
    return subprocess.run(
        [sys.executable, "-m", "jaxtal", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def results(folder: Path) -> dict[str, str]:
    paths = [path for name in RESULTS if (path := folder / "work" / name).exists()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def check(shim: Path, done: Path, tmp_path: Path, case: tuple) -> None:
    """Fail one call of a command; compare its end with the one of a calm command."""
    command, path, kind, nth = case
    folder = tmp_path / "again"
    shutil.copytree(done, folder)
    if command is train:
        shutil.rmtree(folder / "work")
    else:
        (folder / "work" / "predicted.json").unlink()
    faulted = {"EIO_PATH": path, "EIO_CALL": kind, "EIO_NTH": f"{nth}"}
    log = tmp_path / "failed"
    ended = call(command(folder), folder, LD_PRELOAD=f"{shim}", EIO_LOG=f"{log}", **faulted)
    assert log.exists(), "the call did not occur"
    assert "Traceback" not in ended.stderr
    if ended.returncode:
        assert ended.returncode == 2, ended.stderr
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        assert ended.stderr.startswith("error: ")
        assert not [*folder.rglob("*.tmp")]
        assert call(command(folder), folder).returncode == 0  # nothing is lost
        assert not [*folder.rglob("*.orbax-checkpoint-tmp*")]
    else:
        assert ended.stderr == ""
    wanted = results(done)
    assert results(folder) == {name: wanted[name] for name in results(folder)}


FAST = [
    (train, "metrics.jsonl", "write", 2),
    (predict, "sealed.json", "read", 1),
    (predict, "features/a.npy", "open", 1),
]
SLOW = [
    *((train, "metrics.jsonl", "open", nth) for nth in (1, 2)),
    *((train, "/checkpoints/", kind, nth) for kind in ("open", "write", "fsync") for nth in (2, 9)),
    (train, "/checkpoints/", "rename", 2),
    *((train, name, kind, 1) for name in ("config.json", "result.json") for kind in
      ("open", "write", "fsync", "rename")),
    *((train, "plots/", kind, 1) for kind in ("open", "write", "fsync", "rename")),
    *((predict, "/checkpoints/", kind, nth) for kind in ("open", "read") for nth in (1, 4, 7)),
    *((predict, name, "open", 1) for name in ("model.json", "config.json")),
    *((predict, "predicted.json", kind, 1) for kind in ("open", "write", "fsync", "rename")),
    *((predict, "figures/", kind, 1) for kind in ("open", "write", "fsync", "rename")),
]  # fmt: skip


def named(case: tuple) -> str:
    return "-".join([case[0].__name__, *map(str, case[1:])])


@pytest.mark.parametrize("case", FAST, ids=named)
def test_a_call_that_fails_once(shim, run_once, tmp_path, case):
    check(shim, run_once, tmp_path, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=named)
def test_many_calls_that_fail_once(shim, run_once, tmp_path, case):
    check(shim, run_once, tmp_path, case)
