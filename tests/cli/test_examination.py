"""The same findings in training, inspection, prediction and evaluation, through the commands."""

import dataclasses
import json
import re

import numpy as np
import pytest

from tests.data.examination import corruptions
from tests.helpers.command import TINY, run, run_program

CORRUPT = {one.what: one for one in corruptions.CORRUPTIONS}
SMALL = ["--config.train.steps=4", "--config.train.eval_every=4", "--config.data.name=Mine"]


def write(folder, what: str, layout: str = "acmnet"):
    corruption = CORRUPT[what]
    data = corruption.change(small(), np.random.default_rng(0))
    corruptions.write(folder, data, layout)
    corruption.edit(folder)
    return folder


def small():
    """The clean data set with a few columns of each stream."""
    keep = np.r_[0:16, 1024:1040]
    return corruptions.clean().map(
        lambda video: dataclasses.replace(video, features=video.features[:, keep])
    )


def train(folder, workdir, *arguments) -> tuple[int, str, str]:
    return run(*TINY, *SMALL, f"--config.data.dir={folder}", f"--workdir={workdir}", *arguments)


@pytest.fixture
def narrow(monkeypatch):
    corruptions.clean()  # with all columns, before the width of the corruptions changes
    monkeypatch.setattr(corruptions, "WIDTH", 16)


def test_a_wrong_grid_stops_every_command(tmp_path, narrow):
    folder = write(tmp_path / "data", "every second snippet is missing (stride of 32 frames)")
    code, _, err = train(folder, tmp_path / "run")
    assert code == 2
    stated = re.findall(r"--config\.data\.\S+", err.splitlines()[-1])
    assert stated == [f"--config.data.{one}" for one in ("fps=25", "stride=32", "window=32")]
    assert not (tmp_path / "run").exists()
    code, out, err = train(folder, tmp_path / "run", *stated)
    assert code == 0, err
    assert "25 fps, stride 32 (stated)" in " ".join(out.split())
    assert "time grid" not in err
    output = tmp_path / "found.json"
    predict = [f"--workdir={tmp_path / 'run'}", f"--features={folder}", f"--output={output}"]
    code, _, err = run_program("predict", *predict)
    assert code == 2
    assert "--fps=25 --stride=32 --window=32" in err
    code, _, err = run_program("predict", *predict, "--stride=32", "--window=32")
    assert code == 0, err
    code, out, _ = run_program("data inspect", folder, "--figure=")
    assert code == 0
    assert "error: on the time grid" in out
    assert "state --fps=25 --stride=32 --window=32" in " ".join(out.split())


def test_findings_are_those_of_inspect_and_in_data_json(tmp_path, narrow):
    folder = write(tmp_path / "data", "features of some videos are zero")
    code, _, err = train(folder, tmp_path / "run")
    assert code == 0, err
    found = json.loads((tmp_path / "run" / "data.json").read_text())["findings"]
    assert [one["kind"] for one in found] == ["videos of zeros", "assumed streams"]
    assert "state --config.data.streams=1 for" in err
    for one in found:
        words = re.split(r"(?:streams|stream_widths)=", one["message"])[0]
        assert f"warning: Mine: {words}" in err
    report = tmp_path / "report.json"
    code, _, err = run_program("data inspect", folder, "--figure=", f"--output={report}")
    assert code == 0, err
    assert json.loads(report.read_text())["findings"] == found


def test_strict_training_stops_at_warnings(tmp_path, narrow):
    folder = write(tmp_path / "data", "features of some videos are zero")
    strict = ["--config.data.strict=True", "--config.data.stream_widths=16,16"]
    code, _, err = train(folder, tmp_path / "run", *strict)
    assert code == 2
    assert err.startswith("error: Mine: all features of")
    assert not (tmp_path / "run").exists()


def test_ground_truth_in_frames_stops_an_evaluation(tmp_path, narrow):
    folder = write(tmp_path / "data", "segments in frames")
    detections = tmp_path / "found.json"
    name = small().test[0].name
    entry = {"label": "Jump", "segment": [1.0, 2.0], "score": 1.0}
    detections.write_text(json.dumps({"results": {name: [entry]}}))
    arguments = [f"--annotations={folder}", f"--detections={detections}", "--protocol=official"]
    code, _, err = run_program("evaluate", *arguments)
    assert code == 2
    assert "state --unit=segment_frames (and --annotation_fps if" in err
    code, _, err = run_program("evaluate", *arguments, "--unit=segment_frames")
    assert code == 0, err


def test_no_ground_truth_is_no_table_of_nan(tmp_path, narrow):
    folder = write(tmp_path / "data", "no test video has ground truth")
    (tmp_path / "found.json").write_text(json.dumps({"results": {}}))
    arguments = [f"--annotations={folder}", f"--detections={tmp_path / 'found.json'}"]
    code, out, err = run_program("evaluate", *arguments, "--protocol=official")
    assert code == 2
    assert not out
    assert "none of the 12 test videos has an annotated instance, so there is no ground" in err
