"""The public command: a run, its files, resuming, kills at random times, and errors."""

import json
import os
import signal
import time
from pathlib import Path

import jax
import numpy as np
import platformdirs
import pytest

from jaxtal.cli.runtime import enable_compilation_cache
from jaxtal.cli.train import default_workdir
from tests.data.layouts.test_wtalc import objects, write
from tests.helpers.command import TINY, outcome, run, start


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A finished tiny run and its output."""
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
    assert "resuming from step 10" in out
    code, _, err = run(*TINY, f"--workdir={tmp_path}", "--config.train.steps=12", fresh=True)
    assert code == 0, err
    assert outcome(workdir)[1] == outcome(tmp_path)[1]  # the detections


@pytest.mark.parametrize(
    ("name", "protocol", "options", "late"),
    [
        ("d2net", "d2", ["--config.loss.denoising_start=2"], "video_denoising"),
        (
            "twostream",
            "official",
            [
                "--config.loss.warmup=freeze_dict",
                "--config.loss.warmup_steps=8",
                "--config.data.test_snippets=40",
            ],
            "",
        ),
    ],
)
def test_other_methods_through_the_public_command(tmp_path, name, protocol, options, late):
    """A resumed run equals an uninterrupted one, and --mode=eval repeats its result.

    The checkpoint holds D2-Net's state, or an untrained dictionary in the middle of an epoch.
    """
    tiny = [f"--config=configs/{name}_demo.py", *TINY[1:], "--config.train.batch_size=5", *options]
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    for arguments in (
        [f"--workdir={parts}", "--config.train.steps=7"],
        [f"--workdir={parts}", "--config.train.steps=12"],
        [f"--workdir={whole}", "--config.train.steps=12"],
    ):
        code, _, err = run(*tiny, *arguments, fresh=str(whole) in arguments[0])
        assert code == 0, err
    assert outcome(parts)[1] == outcome(whole)[1]
    before = outcome(whole)
    code, _, err = run(*tiny, f"--workdir={whole}", "--config.train.steps=12", "--mode=eval")
    assert code == 0, err
    assert outcome(whole) == before
    result = before[0]
    assert (result["method"], result["protocol"]) == (name, protocol)
    assert 0 <= result["f1"] <= 1
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    terms = [line for line in lines if "loss" in line]
    weights = json.loads((whole / "config.json").read_text())["loss"]["weights"]
    assert set(terms[0]) - {"step", "loss", "gradient_norm", "sha256"} == set(weights)
    if late:
        assert [line[late] > 0 for line in terms] == [False, True, True, True, True, True]


def test_kill_at_any_moment_ends_the_same(tmp_path):
    delays = np.random.default_rng(0).uniform(0, 0.2, 2)
    moments = list(zip((2, 14), delays, strict=True))
    kill_and_compare(
        tmp_path, [*TINY, "--config.train.steps=60", "--config.train.eval_every=2"], moments
    )


@pytest.mark.slow
def test_twenty_kills_of_the_demo_end_the_same(tmp_path):
    """Ten kills during start and compilation, nine in training, one at the end."""
    rng = np.random.default_rng(time.time_ns())
    starting = [(0, delay) for delay in rng.uniform(0, 15, 10)]
    training = zip(np.sort(rng.integers(1, 1250, 9)), rng.uniform(0, 3, 9), strict=True)
    moments = [moment for pair in zip(starting, training, strict=False) for moment in pair]
    moments += [starting[-1], (1400, rng.uniform(0, 0.3))]
    print("kills (after step, then seconds):", [(int(s), round(float(d), 2)) for s, d in moments])
    arguments = ["--config=configs/co2net_demo.py", "--config.train.eval_every=100"]
    kill_and_compare(tmp_path, arguments, moments)


def kill_and_compare(tmp_path: Path, arguments: list[str], moments) -> None:
    """Kill a run `delay` seconds after it logged `step`, for each moment; then let it finish."""
    code, _, err = run(*arguments, f"--workdir={tmp_path / 'calm'}")
    assert code == 0, err
    troubled = tmp_path / "troubled"
    for step, delay in moments:
        process = start(*arguments, f"--workdir={troubled}", start_new_session=True)
        if step:
            wait_for_step(troubled / "metrics.jsonl", step, process)
        time.sleep(float(delay))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL  # it was still running
    code, out, err = run(*arguments, f"--workdir={troubled}")
    assert code == 0, err
    assert "resuming from step" in out
    assert outcome(troubled) == outcome(tmp_path / "calm")
    # The log has every step once, with the same values.
    logs = [(folder / "metrics.jsonl").read_text() for folder in (troubled, tmp_path / "calm")]
    assert logs[0] == logs[1]


def wait_for_step(metrics: Path, step: int, process) -> None:
    while process.poll() is None:
        if metrics.exists() and any(
            json.loads(line)["step"] >= step for line in metrics.read_text().split("\n")[:-1]
        ):
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize(
    ("config_file", "workdir"),
    [
        ("configs/co2net_demo.py", "runs/co2net_demo"),
        ("configs/d2net_thumos.py:paper", "runs/d2net_thumos_paper"),
        ("/some/where/my-own.py:../a b", "runs/my-own_a_b"),
    ],
)
def test_default_work_directory(config_file, workdir):
    assert default_workdir(config_file) == Path(workdir)


def test_compiled_programs_are_cached_in_the_user_s_cache_folder(monkeypatch, tmp_path):
    settings = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in settings}
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path))
    try:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
        enable_compilation_cache(None)  # JAX itself follows the variable
        assert jax.config.jax_compilation_cache_dir == before["jax_compilation_cache_dir"]
        enable_compilation_cache("mine")
        assert jax.config.jax_compilation_cache_dir == "mine"
        enable_compilation_cache("")
        assert jax.config.jax_compilation_cache_dir is None
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        enable_compilation_cache(None)
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_programs_are_compiled_once(tmp_path):
    """The second run reads the compiled programs of the first."""
    steps = [*TINY, "--config.train.steps=2", f"--compilation_cache_dir={tmp_path / 'compiled'}"]
    seconds = []
    for name in ("first", "second"):
        code, _, err = run(*steps, f"--workdir={tmp_path / name}", fresh=True)
        assert code == 0, err
        result = json.loads((tmp_path / name / "result.json").read_text())
        seconds.append(result["seconds"]["compile"])
        kept = {path.name for path in (tmp_path / "compiled").glob("*-cache")}
        assert kept
    assert seconds[1] < 0.7 * seconds[0]
    assert outcome(tmp_path / "first") == outcome(tmp_path / "second")


def test_help_names_the_main_flags_and_files():
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for words in ("--config", "--workdir", "--mode", "configs/co2net_demo.py", "result.json"):
        assert words in out


def test_the_written_data_set_trains(tmp_path):
    """The data set of test_wtalc trains: two classes, two training videos, float16."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    code, out, err = run(
        "--config=configs/co2net_thumos.py", f"--config.data.dir={tmp_path / 'data'}",
        "--config.data.name=Tiny", "--config.data.num_snippets=8", "--config.train.steps=2",
        f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert code == 0, err
    assert "3 + 3 features a snippet" in out
    assert "end before they begin" not in err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["data"] == "Tiny"


def test_segments_that_cannot_be_right_are_reported_and_not_fatal(tmp_path):
    (tmp_path / "data").mkdir()
    segments = [[[9.5, 9]], [[1, 2], [3, 4.5]], [[20, 22]], []]
    write(tmp_path / "data", segments=objects(segments))
    code, _, err = run(
        "--config=configs/co2net_thumos.py", f"--config.data.dir={tmp_path / 'data'}",
        "--config.data.name=Tiny", "--config.train.steps=0", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert code == 0, err
    line = " ".join(err.split())
    assert "2 of 4 instances lie outside their video; they are kept" in line
    assert "1 of 4 instances end before they begin; they are kept" in line


def test_the_real_annotations_of_activitynet12(shared, tmp_path):
    """configs/co2net_anet12.py on 7,202 videos; the features are noise, 4 + 4 per snippet."""
    source = shared / "activitynet" / "ActivityNet1.2-Annotations"
    (tmp_path / "ActivityNet1.2-Annotations").symlink_to(source.resolve())
    durations = np.load(source / "duration.npy")
    rng = np.random.default_rng(0)
    features = [rng.random((int(d * 25 / 16), 8)).astype(np.float16) for d in durations]
    np.save(tmp_path / "ActivityNet1.2-I3D-JOINTFeatures.npy", objects(features))
    code, out, err = run(
        "--config=configs/co2net_anet12.py", f"--config.data.dir={tmp_path}",
        f"--workdir={tmp_path / 'run'}", "--config.train.steps=2",
    )  # fmt: skip
    assert code == 0, err
    assert "ActivityNet1.2: 4819 training and 2383 test videos, 100 classes" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["protocol"], result["official"]["protocol"]) == ("anet12_co2", "anet12")
    assert list(result["map"])[::9] == ["0.5", "0.95"]
    assert list(result["average"]) == ["0.5:0.95"]
    assert result["best_on_test"]["selected_by"] == "0.5:0.95"
    found = json.loads((tmp_path / "run" / "detections.json").read_text())["results"]
    assert len(found) == 2383
    names, subset = (np.load(source / f"{key}.npy").astype(str) for key in ("videoname", "subset"))
    short = [n for n, s, f in zip(names, subset, features, strict=True)
             if s == "validation" and len(f) <= 10]  # fmt: skip
    assert len(short) == 35  # of 80 in both subsets
    assert all(not found[name] for name in short)
    assert sum(not entries for entries in found.values()) < 40
