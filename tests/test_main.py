"""The public command: a run, its files, resuming, a kill at any time, and errors for people."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.data.test_wtalc import damaged, objects, write

TINY = [
    "--config=configs/co2net_demo.py",
    "--config.data.num_snippets=16",
    "--config.data.generator.num_train=12",
    "--config.data.generator.num_test=6",
    "--config.data.generator.num_classes=3",
    "--config.data.generator.feature_width=8",
    "--config.data.generator.max_snippets=100",
    "--config.train.log_every=2",
    "--config.train.eval_every=4",
    "--config.evaluation.plot_videos=2",
]


def start(*arguments, **options) -> subprocess.Popen:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "COLUMNS": "100"}
    return subprocess.Popen(
        [sys.executable, "-m", "jaxtal.main", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(*arguments) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def outcome(workdir: Path) -> tuple[dict, bytes]:
    """What must not depend on interruptions: result.json without seconds, detections.json."""
    result = json.loads((workdir / "result.json").read_text())
    del result["seconds"]
    return result, (workdir / "detections.json").read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A finished tiny run and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    code, out, err = run(*TINY, f"--workdir={workdir}", "--config.train.steps=10")
    assert code == 0, err
    return workdir, out


def test_work_directory(finished):
    workdir, out = finished
    config = json.loads((workdir / "config.json").read_text())
    assert config["train"]["steps"] == 10
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    assert [line["step"] for line in losses] == [2, 4, 6, 8, 10]
    assert all(np.isfinite(line["co_activity"]) for line in losses)
    assert [line["step"] for line in lines if "map" in line] == [4, 8, 10]
    result = json.loads((workdir / "result.json").read_text())
    assert (result["protocol"], result["step"], result["seed"]) == ("co2", 10, 0)
    assert list(result["map"]) == [f"0.{digit}" for digit in range(1, 10)]
    assert list(result["average"]) == ["0.1:0.5", "0.1:0.7", "0.1:0.9"]
    assert result["average"]["0.1:0.7"] == pytest.approx(np.mean(list(result["map"].values())[:7]))
    assert set(result["seconds"]) == {"compile", "train", "evaluate"}
    assert result["best_on_test"]["step"] in (4, 8, 10)
    assert result["best_on_test"]["average"]["0.1:0.7"] >= result["average"]["0.1:0.7"]
    assert result["official"]["protocol"] == "official"
    assert 0 <= result["classification_map"] <= 1
    assert {path.name for path in (workdir / "plots").iterdir()} == {"videos.png", "training.png"}
    assert "average 0.1:0.7" in out
    assert "best on test" in out


def test_detections_are_in_seconds_inside_the_videos(finished):
    workdir, _ = finished
    detections = json.loads((workdir / "detections.json").read_text())
    assert detections["version"] == "VERSION 1.3"
    results = detections["results"]
    assert len(results) == 6
    found = [entry for video in results.values() for entry in video]
    assert found
    for entry in found:
        start, end = entry["segment"]
        assert 0 <= start < end <= 102 * 0.64
        assert start / 0.64 == pytest.approx(round(start / 0.64))
        assert set(entry) == {"score", "segment", "label"}


def test_eval_mode_repeats_the_result(finished):
    workdir, _ = finished
    before = outcome(workdir)
    code, out, err = run(*TINY, f"--workdir={workdir}", "--config.train.steps=10", "--mode=eval")
    assert code == 0, err
    assert "average 0.1:0.7" in out
    assert outcome(workdir) == before


def test_more_steps_continue_and_equal_one_run(finished, tmp_path):
    workdir, _ = finished
    code, out, err = run(*TINY, f"--workdir={workdir}", "--config.train.steps=12")
    assert code == 0, err
    assert "continuing from step 10" in out
    code, _, err = run(*TINY, f"--workdir={tmp_path}", "--config.train.steps=12")
    assert code == 0, err
    assert outcome(workdir)[1] == outcome(tmp_path)[1]  # the detections


def test_another_config_or_fewer_steps_are_refused(finished):
    workdir, _ = finished
    before = outcome(workdir)
    code, _, err = run(*TINY, f"--workdir={workdir}", "--config.seed=5")
    assert code == 2
    assert "config.seed: 0 there, 5 here" in err
    code, _, err = run(*TINY, f"--workdir={workdir}", "--config.train.steps=3")
    assert code == 2
    assert "beyond config.train.steps=3" in err
    assert outcome(workdir) == before


def test_kill_at_any_moment_ends_the_same(tmp_path):
    arguments = [*TINY, "--config.train.steps=60", "--config.train.eval_every=2"]
    code, _, err = run(*arguments, f"--workdir={tmp_path / 'calm'}")
    assert code == 0, err
    troubled = tmp_path / "troubled"
    rng = np.random.default_rng(0)
    for after_step in (2, 14, 28):
        process = start(*arguments, f"--workdir={troubled}", start_new_session=True)
        wait_for_step(troubled / "metrics.jsonl", after_step, process)
        time.sleep(float(rng.uniform(0, 0.2)))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (troubled / "result.json").exists()
    code, out, err = run(*arguments, f"--workdir={troubled}")
    assert code == 0, err
    assert "continuing from step" in out
    assert outcome(troubled) == outcome(tmp_path / "calm")
    # The log, too, says every step once.
    logs = [(folder / "metrics.jsonl").read_text() for folder in (troubled, tmp_path / "calm")]
    steps = [[json.loads(line)["step"] for line in log.splitlines()] for log in logs]
    assert steps[0] == steps[1]


def wait_for_step(metrics: Path, step: int, process) -> None:
    while process.poll() is None:
        if metrics.exists() and any(
            json.loads(line)["step"] >= step for line in metrics.read_text().split("\n")[:-1]
        ):
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1])


def test_help_is_worth_reading():
    code, out, err = run("--help")
    assert code == 1  # absl's own
    for words in ("--config", "--workdir", "--mode", "configs/co2net_demo.py", "result.json"):
        assert words in out + err


def hostile(folder: Path) -> None:
    write(folder, segments=objects([Path("executed"), [], [], []]))


@pytest.mark.parametrize(
    ("arguments", "prepare", "message"),
    [
        (["--config.data.name=None"], None, r"no data set 'None'"),
        ([], None, r"Tiny-I3D-JOINTFeatures\.npy \(object array"),
        ([], lambda f: write(f, features=damaged(np.nan)), r"video c: NaN features in 1 of 4"),
        ([], hostile, r"segments\.npy: refused, because it contains a reference to pathlib"),
        (["--config.train.batch_size=4"], write, r"batch_size is 4.*need at least 6"),
        (["--config.train.eval_every=0"], write, r"eval_every is 0; it must be at least 1"),
        (["--config.loss.mutual_metric=l9"], write, r"'l9'; it must be one of mse, mae, kl, js"),
        (["--config.method=none"], write, r"config\.method is 'none'; it must be one of co2net"),
        (["--config.evaluation.protocol=x"], write, r"config\.evaluation\.protocol is 'x'"),
        (["--config.train.stepz=4"], write, r"stepz"),
        (["--config.train.steps=many"], write, r"many"),
        (["--mode=eval"], write, r"has no checkpoint to evaluate"),
        (["--mode=sing"], write, r"train\|eval"),
        (["something"], write, r"unexpected argument 'something'"),
        (["--workdir=/proc/none"], write, r"/proc/none: the work directory cannot be written"),
    ],
)
def test_errors_are_one_line_exit_2_and_leave_nothing(tmp_path, arguments, prepare, message):
    folder, workdir = tmp_path / "data", tmp_path / "run"
    folder.mkdir()
    if prepare:
        prepare(folder)
    code, _, err = run(
        "--config=configs/co2net_thumos.py", "--config.data.name=Tiny",
        f"--config.data.dir={folder}", f"--workdir={workdir}", *arguments,
    )  # fmt: skip
    lines = [line for line in err.splitlines() if line.strip()]
    assert code == 2, err
    assert len(lines) == 1, err
    assert re.search(message, lines[0]), lines[0]
    assert not workdir.exists()


def test_a_missing_config_is_one_line():
    for arguments in ([], ["--config=configs/none.py"]):
        code, _, err = run(*arguments)
        assert code == 2
        assert len(err.strip().splitlines()) == 1
        assert "config" in err


def test_the_written_data_set_trains(tmp_path):
    """What test_wtalc writes is a data set: two classes, two training videos, float16."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    code, out, err = run(
        "--config=configs/co2net_thumos.py", f"--config.data.dir={tmp_path / 'data'}",
        "--config.data.name=Tiny", "--config.data.num_snippets=8", "--config.train.steps=2",
        f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert code == 0, err
    assert "3 + 3 features a snippet" in out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["data"] == "Tiny"
