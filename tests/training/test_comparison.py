"""Settings of a run and of its evaluation: which may differ, and the folder of the results."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from jaxtal.data import layouts
from jaxtal.data.io import json_files, object_arrays
from jaxtal.errors import JaxtalError
from jaxtal.training import comparison
from jaxtal.training.trainer import train_and_evaluate
from jaxtal.training.workdir import Workdir
from tests.data.layouts.test_wtalc import write
from tests.helpers.command import TINY, run, run_program, snapshot
from tests.methods import toy_config

STEPS = "--config.train.steps=4"
HARD = ("--config.localization.nms=hard", "--config.localization.nms_threshold=0.45")


def without(path, *names):
    """Return the content of a result.json without some of its entries."""
    content = json_files.load(path, "a result")
    return {name: value for name, value in content.items() if name not in names}


def files_in(folder):
    """Return every file with its modification time and a digest."""
    return {name: seen for name, seen in snapshot(folder).items() if seen[1]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    code, _, err = run(*TINY, STEPS, f"--workdir={workdir}")
    assert code == 0, err
    return workdir


def test_another_localization_of_a_finished_run(finished, tmp_path):
    """It equals a run from scratch with this localization, and changes no file of the run."""
    before = files_in(finished)
    code, out, err = run(*TINY, STEPS, *HARD, f"--workdir={finished}", "--mode=eval")
    assert code == 0, err
    folder = finished / "evaluations" / "step=4,nms=hard,nms_threshold=0.45"
    assert str(folder) in out.replace("\n", "")
    after = files_in(finished)
    assert {name: after[name] for name in before} == before
    assert all(folder in Path(name).parents for name in after.keys() - before.keys())
    code, _, err = run(*TINY, STEPS, *HARD, f"--workdir={tmp_path / 'scratch'}")
    assert code == 0, err
    for name in ("detections.json", "annotations.json"):
        assert (folder / name).read_bytes() == (tmp_path / "scratch" / name).read_bytes()
    assert (folder / "detections.json").read_bytes() != (finished / "detections.json").read_bytes()
    assert without(folder / "result.json", "seconds", "changed") == without(
        tmp_path / "scratch" / "result.json", "seconds", "metrics_lines"
    )
    changed = json.loads((folder / "result.json").read_text())["changed"]
    assert changed == {"localization.nms": "hard", "localization.nms_threshold": 0.45}
    assert json.loads((folder / "config.json").read_text())["localization"]["nms"] == "hard"
    report = tmp_path / "report.html"
    folders = [f"--workdir={finished}", f"--workdir={folder}"]
    code, _, err = run_program("report", *folders, f"--output={report}")
    assert code == 0, err
    assert report.is_file()
    code, _, err = run_program("predict", folders[1], "--features=.")
    assert code == 2
    assert f"{folder}: an evaluation of the run {finished}; give that run" in err


def test_training_goes_on_with_the_settings_of_the_run_only(finished):
    before = files_in(finished)
    code, _, err = run(*TINY, STEPS, *HARD, f"--workdir={finished}")
    assert code == 2
    assert "config.localization.nms: gaussian there, hard here" in err
    assert "--mode=eval, which evaluates the run with these" in err
    options = [*TINY, STEPS, "--config.seed=1", f"--workdir={finished}"]
    for mode, others in (("train", HARD), ("eval", HARD), ("eval", HARD[:1])):
        code, _, err = run(*options, *others, f"--mode={mode}")
        assert code == 2
        assert "config.seed: 0 there, 1 here" in err
        assert "mode=eval, which" not in err
    assert files_in(finished) == before


def on_files(folder, **fields):
    """Return the toy's config for the data set of test_wtalc."""
    config = toy_config.get_config()
    config.data.update(dir=str(folder), name="Tiny", num_snippets=8)
    config.train.update(batch_size=2)
    config.update_from_flattened_dict({"train.steps": 2, "evaluation.plot_videos": 0, **fields})
    return config


def test_data_that_were_moved(tmp_path):
    """They are the same data as long as the fingerprint agrees."""
    (tmp_path / "a").mkdir()
    write(tmp_path / "a")
    workdir = tmp_path / "run"
    train_and_evaluate(on_files(tmp_path / "a"), workdir)
    before = files_in(workdir)
    (tmp_path / "a").rename(tmp_path / "b")
    train_and_evaluate(on_files(tmp_path / "b"), workdir, "eval")
    assert {name: files_in(workdir)[name] for name in before} == before
    again = workdir / "evaluations" / "step=2" / "detections.json"
    assert again.read_bytes() == (workdir / "detections.json").read_bytes()
    longer = on_files(tmp_path / "b", **{"train.steps": 4})
    assert train_and_evaluate(longer, workdir)["step"] == 4
    joint = tmp_path / "b" / "Tiny-I3D-JOINTFeatures.npy"
    features = object_arrays.load(joint)
    with open(joint, "wb") as file:
        writer = object_arrays.Writer(file, len(features))
        for array in features:
            writer.add(array + np.float16(1))
        writer.end()
    for mode in ("train", "eval"):
        with pytest.raises(JaxtalError, match=r"run on different data: checksum: \d+ there"):
            train_and_evaluate(longer, workdir, mode)


def test_findings_are_no_part_of_the_fingerprint(tmp_path):
    files = Workdir(tmp_path)
    files.open({}, {"checksum": 7, "findings": [{"kind": "zero features"}]})
    files.check_data({"checksum": 7})
    files.check_data({"checksum": 7, "findings": []})
    with pytest.raises(JaxtalError, match="checksum: 7 there, 8 here"):
        files.check_data({"checksum": 8, "findings": [{"kind": "zero features"}]})


def test_a_name_that_selects_another_protocol(tmp_path):
    """The same features under a name with its own protocol are evaluated beside the run."""
    (tmp_path / "a").mkdir()
    few = layouts.load_dataset(write(tmp_path / "a"))
    config, workdir = on_files(""), tmp_path / "run"
    first = train_and_evaluate(config, workdir, dataset=few)
    named = dataclasses.replace(few, name="Thumos14")
    message = "called Tiny, which selects the protocol official, and is called Thumos14 now"
    with pytest.raises(JaxtalError, match=message):
        train_and_evaluate(config, workdir, dataset=named)
    second = train_and_evaluate(config, workdir, "eval", dataset=named)
    assert (first["protocol"], second["protocol"]) == ("official", "thumos14")
    assert (workdir / "evaluations" / "step=2,name=Thumos14" / "result.json").is_file()
    assert json.loads((workdir / "result.json").read_text())["protocol"] == "official"


def test_names():
    assert comparison.folder_name({"localization.nms": "hard"}) == "nms=hard"
    assert (
        comparison.folder_name({"data.fps": 30.0, "localization.sigma": 0.1})
        == "fps=30.0,sigma=0.1"
    )
    twice = comparison.folder_name({"a.x": 1, "b.x": 2})
    assert twice == "a.x=1,b.x=2"
    pairs = [{"localization.thresholds": (0.1, 0.9, n)} for n in (5, 6)]
    pairs += [{"evaluation.protocol": "x" * 300 + end} for end in "ab"]
    names = [comparison.folder_name(changed) for changed in pairs]
    assert len(set(names)) == 4
    for name in names:
        assert re.fullmatch(r"[\w.,=+-]{1,120}", name)
