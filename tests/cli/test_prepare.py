"""The command `jaxtal data prepare`: what it writes, prints and refuses."""

import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from jaxtal import cli
from jaxtal.data.tfds import reader
from tests.conftest import ROOT
from tests.data.layouts.test_wtalc import objects, write
from tests.helpers.command import run_program


def prepare(*arguments) -> tuple[int, str, str]:
    return run_program("data prepare", *arguments)


def test_generated(tmp_path):
    # Stopped in the middle, nothing is under the final name.
    stopping = f"""
import os, signal
from pathlib import Path
from jaxtal.data.tfds import builders, preparation
generate = builders.generate_video
def stopping(config, world, video, grid):
    if video.name == "test_00020":
        os.kill(os.getpid(), signal.SIGKILL)
    return generate(config, world, video, grid)
builders.generate_video = stopping
preparation.prepare("jaxtal_untrimmed/demo", Path({str(tmp_path)!r}))
"""
    killed = subprocess.run(
        [sys.executable, "-c", stopping], cwd=ROOT, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert [*(tmp_path / "jaxtal_untrimmed" / "demo").glob("incomplete.*")]
    assert not reader.detect(tmp_path)
    # The same command completes, and says what is left of the other.
    arguments = "--builder=jaxtal_untrimmed/demo", f"--data_dir={tmp_path}"
    code, out, err = prepare(*arguments)
    assert code == 0
    folder = tmp_path / "jaxtal_untrimmed" / "demo" / "1.0.0"
    assert f"Synthetic: 100 training and 60 test videos, 11 MB, are in {folder}" in out
    assert f"--config.data.dir={tmp_path} --config.data.name=jaxtal_untrimmed/demo\n" in out
    assert "is from an unfinished run" in err
    assert "WARNING" not in err
    # Once more, it stays as it is.
    before = folder.stat().st_mtime_ns
    code, again, err = prepare(*arguments)
    assert (code, again, folder.stat().st_mtime_ns) == (0, out, before)
    assert f"{folder} exists and is kept" in err


def test_full_disk(tmp_path):
    full = f"""
import resource
from pathlib import Path
from jaxtal import errors
from jaxtal.data.tfds import preparation
resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))
try:
    preparation.prepare("jaxtal_untrimmed/demo", Path({str(tmp_path)!r}))
except errors.JaxtalError as error:
    print(error)
"""
    out = subprocess.check_output([sys.executable, "-c", full], cwd=ROOT, stderr=subprocess.DEVNULL)
    assert b"jaxtal_untrimmed/demo/1.0.0: cannot be written (" in out
    assert not [*tmp_path.glob("**/*.array_record*")]


def test_thumos14(shared, tmp_path):
    name = "Thumos14reduced-Annotations"
    shutil.copytree(shared / "thumos14" / name, tmp_path / name)
    features = [np.full((3 + row % 5, 4), row, np.float16) for row in range(412)]
    np.save(tmp_path / "Thumos14reduced-I3D-JOINTFeatures.npy", objects(features))
    manual = f"--manual_dir={tmp_path}"
    code, out, err = prepare("--builder=jaxtal_thumos14", manual, f"--data_dir={tmp_path / 'to'}")
    assert code == 0, err
    assert "--config co2net_thumos --config.data.layout=tfds" in out
    data = reader.read(tmp_path / "to", "jaxtal_thumos14").load()
    assert data.name == "Thumos14reduced"
    assert (len(data.train), len(data.test), len(data.classes)) == (200, 212, 20)
    assert data.classes[0] == "BaseballPitch"
    counts = [sum(len(video.segments) for video in part) for part in (data.train, data.test)]
    assert counts == [3007, 3358]
    shards = [
        path.name for path in (tmp_path / "to" / "jaxtal_thumos14" / "1.0.0").glob("*.array*")
    ]
    assert len(shards) == 4


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_activitynet(tmp_path, version):
    write(tmp_path, subset=np.array(["training", "training", "validation", "testing"]))
    data_dir = tmp_path / "to"
    builder = f"--builder=jaxtal_activitynet/{version}"
    code, _, err = prepare(builder, f"--manual_dir={tmp_path}", f"--data_dir={data_dir}")
    assert code == 0, err
    data = reader.read(data_dir, f"jaxtal_activitynet/{version}").dataset
    assert (data.name, len(data.train), len(data.test)) == (f"ActivityNet{version}", 2, 1)


def test_damaged_features(tmp_path):
    features = [np.ones((4, 6), np.float32) for _ in range(4)]
    features[1][2, 3] = np.nan
    write(tmp_path, features=objects(features))
    arguments = ["--builder=jaxtal_videos/Tiny", f"--manual_dir={tmp_path}"]
    arguments.append(f"--data_dir={tmp_path / 'to'}")
    code, _, err = prepare(*arguments)
    assert code == 2
    assert "NaN features in 1 of 4 snippets" in err
    assert "--skip_damaged" in err
    assert not reader.detect(tmp_path / "to")
    assert not [*tmp_path.glob("to/**/incomplete.*")]
    code, out, err = prepare(*arguments, "--skip_damaged")
    assert code == 0, err
    assert "Tiny: 1 training and 2 test videos" in out
    assert "1 videos were skipped when it was prepared" in reader.read(tmp_path / "to").notes


WRONG = {
    "no builder": ("", "--builder is missing"),
    "unknown": ("--builder=mnist", "--builder=mnist: wanted one of jaxtal_thumos14, "),
    "no config": ("--builder=jaxtal_untrimmed", "wanted jaxtal_untrimmed/demo or "),
    "a config": ("--builder=jaxtal_thumos14/a", "wanted jaxtal_thumos14$"),
    "no name": ("--builder=jaxtal_videos --manual_dir=tests", "wanted jaxtal_videos/NAME"),
    "a bad name": ("--builder=jaxtal_videos/../a --manual_dir=tests", r"'\.\./a' cannot be"),
    "no folder": ("--builder=jaxtal_thumos14", "--manual_dir is missing. Put .*JOINTFeatures"),
    "not there": ("--builder=jaxtal_thumos14 --manual_dir=nowhere", "which is not a folder"),
    "nothing there": ("--builder=jaxtal_thumos14 --manual_dir=launch", "no data set is detected"),
    "not needed": ("--builder=jaxtal_untrimmed/demo --manual_dir=tests", "reads no files"),
    "not a folder": ("--builder=jaxtal_untrimmed/demo --data_dir=LICENSE", "cannot be written"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong(tmp_path, what, capsys, monkeypatch):
    arguments, message = WRONG[what]
    monkeypatch.chdir(ROOT)
    data_dir = f"--data_dir={tmp_path / 'to'}"
    assert cli.main(["data", "prepare", data_dir, *arguments.split()]) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert re.search(message, err.strip()), err
