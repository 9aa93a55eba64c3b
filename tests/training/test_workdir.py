"""Files of the work directory: written atomically, and checked against config and data."""

import copy
import json
import sys
import unittest.mock

import numpy as np
import pytest

from jaxtal.config import get_config
from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.data.io import json_files
from jaxtal.data.segments import Segments
from jaxtal.errors import JaxtalError
from jaxtal.training.model_description import ModelDescription
from jaxtal.training.workdir import Workdir

CONFIG = {"seed": 0, "train": {"steps": 5, "log_every": 1}, "data": {"thresholds": (0.1, 2)}}


DATA = {"classes": 3, "checksum": 7}


def test_the_same_config_or_more_steps_can_resume(tmp_path):
    files = Workdir(tmp_path / "run")
    for config in (CONFIG, CONFIG, {**CONFIG, "train": {"steps": 9, "log_every": 3}}):
        files.check_config(config)
        files.open(config, DATA)
    assert json.loads((files.path / "config.json").read_text())["train"]["steps"] == 9


def test_a_different_config_is_rejected_and_named(tmp_path):
    files = Workdir(tmp_path)
    files.open(CONFIG, DATA)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(JaxtalError, match=r"config\.data\.thresholds: .* config\.seed: 0 there, 1"):
        files.check_config({**CONFIG, "seed": 1, "data": {"thresholds": (0.2, 2)}})
    with pytest.raises(JaxtalError, match=r"config\.extra: None there, 3 here"):
        files.check_config({**CONFIG, "extra": 3})
    assert (tmp_path / "config.json").read_text() == before
    for text, message in (
        ("{", "not a JSON file"),
        ("[]", r"\[\]; wanted a file that a run wrote"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(
            JaxtalError, match=rf"config\.json: {message}.*, or give another workdir="
        ):
            files.check_config(CONFIG)


def test_different_data_are_rejected_and_named(tmp_path):
    files = Workdir(tmp_path)
    files.check_data(DATA)
    files.open(CONFIG, DATA)
    files.check_data(DATA)
    with pytest.raises(JaxtalError, match="different data: checksum: 7 there, 8 here; give"):
        files.check_data({**DATA, "checksum": 8})


def test_a_field_that_one_config_lacks_is_a_difference(tmp_path):
    files = Workdir(tmp_path)
    files.open(CONFIG, DATA)
    more = {**CONFIG, "data": {**CONFIG["data"], "fps": 30.0}}
    with pytest.raises(JaxtalError, match=r"config: config\.data\.fps: 0.0 there, 30.0 here; give"):
        files.check_config(more)
    files.open(more, DATA)
    with pytest.raises(JaxtalError, match=r"config: config\.data\.fps: 30.0 there, 0.0 here; give"):
        files.check_config(CONFIG)


def test_fields_of_the_localization_that_were_added_later(tmp_path):
    """They had the method's defaults; any other value in a config is a difference."""
    config = get_config("d2net_thumos").to_dict()
    old = copy.deepcopy(config)
    for name in ("inclusive", "upsample", "sigma"):
        del old["localization"][name]
    del old["data"]["generator"]
    files = Workdir(tmp_path)
    files.open(old, DATA)
    files.check_config(config)
    config["localization"]["upsample"] = 4
    with pytest.raises(JaxtalError, match=r"config\.localization\.upsample: 1 there, 4 here; give"):
        files.check_config(config)


def test_a_run_whose_generator_had_fifty_fields_is_different(tmp_path):
    """One difference; the message names a few of its fields."""
    old = get_config("co2net_demo").to_dict()
    old["data"]["generator"] = {f"field_{number}": number for number in range(53)}
    files = Workdir(tmp_path)
    files.open(old, DATA)
    message = r"config: config\.data\.generator: \{'field_0': 0, .{0,90} there, demo here; give"
    with pytest.raises(JaxtalError, match=message):
        files.check_config(get_config("co2net_demo").to_dict())


def test_a_model_of_other_classes_is_rejected_and_named(tmp_path):
    files = Workdir(tmp_path)
    files.check_model(("a", "b"), 8)
    files.write_model(ModelDescription(("a", "b"), TimeGrid(), 8, "Tiny"))
    files.check_model(("a", "b"), 8)
    two = "2 classes and 8 features a snippet in model.json"
    for classes, width, message in (
        (
            ("b", "a"),
            8,
            r"class 0 \(counted from 0\) is 'a' in model.json, 'b' in this data set; give",
        ),
        (("a",), 8, f"{two}, 1 classes and 8 features a snippet in this data set; give"),
        (("a", "b", "c"), 8, f"{two}, 3 classes and 8 features a snippet in this"),
        (("b", "a"), 6, f"{two}, 2 classes and 6 features a snippet in this"),
    ):
        with pytest.raises(
            JaxtalError, match=f"the model was trained on different data: {message}"
        ):
            files.check_model(classes, width)
    files.write_model(ModelDescription((None, None), TimeGrid(), 8, ""))
    files.check_model(("b", "a"), 8)
    with pytest.raises(JaxtalError, match=f"{two}, 3 classes and 8 features a snippet in this"):
        files.check_model(("a", "b", "c"), 8)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(
        JaxtalError, match=r"model.json: not a JSON file .* delete it and evaluate the run"
    ):
        files.check_model(("a", "b"), 8)


def test_metrics_are_cut_back_and_half_a_line_is_forgotten(tmp_path):
    files = Workdir(tmp_path)
    for step in (2, 4, 6):
        files.append_metrics({"step": step, "loss": float("nan") if step == 4 else 0.5})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "lo')
    assert [line["step"] for line in files.metrics()] == [2, 4, 6]
    assert files.metrics()[1]["loss"] is None  # JSON has no NaN
    files.repair_metrics(4)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2
    assert not (tmp_path / "damaged").exists()


@pytest.mark.parametrize(
    "damaged",
    [b'{"step": 10, garbage', b'{"a": 1}', b"\xff\xfe", b"[3]", b"", b'{"step": 4, "sha256": ""}'],
)
def test_damaged_lines_of_the_metrics_are_set_aside(tmp_path, caplog, damaged):
    files = Workdir(tmp_path)
    for step in (2, 4, 6):
        files.append_metrics({"step": step, "loss": 0.5, "map": {"0.5": 0.25}})
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], damaged, *lines[2:], b""]))
    with pytest.raises(JaxtalError, match=r"metrics\.jsonl: line 2 is damaged .*; delete the line"):
        files.metrics()
    assert [line["step"] for line in files.intact_metrics()] == [2, 6]
    before = path.read_bytes()
    files.repair_metrics(6)
    assert "line 2 is damaged" in caplog.text
    assert (tmp_path / "damaged" / "metrics.jsonl").read_bytes() == before
    assert [line["step"] for line in files.metrics()] == [2, 6]


def test_what_was_set_aside_is_never_replaced(tmp_path):
    for count in (1, 2, 3):
        (tmp_path / "metrics.jsonl").write_text(f"damaged {count}\n")
        Workdir(tmp_path).repair_metrics(0)
    found = {path.name: path.read_text() for path in (tmp_path / "damaged").iterdir()}
    assert found == {
        "metrics.jsonl": "damaged 1\n",
        "metrics.jsonl.1": "damaged 2\n",
        "metrics.jsonl.2": "damaged 3\n",
    }


def test_tensorboard_gets_the_same_numbers(tmp_path):
    files = Workdir(tmp_path)
    files.open_tensorboard(0)
    with unittest.mock.patch.object(files._board, "add_scalar") as add:
        files.append_metrics({"step": 3, "loss": 0.5, "map": {"0.1": 0.25}, "protocol": "co2"})
    assert [call.args for call in add.call_args_list] == [("loss", 0.5, 3), ("map/0.1", 0.25, 3)]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_tensorboard_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(JaxtalError, match=r"tensorboardX, .* pip install 'jaxtal\[tensorboard\]'"):
        Workdir(tmp_path).open_tensorboard(0)


def test_only_complete_checkpoints_count(tmp_path):
    files = Workdir(tmp_path)
    assert files.latest_step() is None
    (files.checkpoints / "20.orbax-checkpoint-tmp").mkdir(parents=True)
    assert files.latest_step() is None
    for step in (9, 10):
        for name in ("state", "progress"):
            (files.checkpoints / str(step) / name).mkdir(parents=True)
        (files.checkpoints / str(step) / "_CHECKPOINT_METADATA").touch()
    assert files.latest_step() == 10


def test_detections_in_seconds_for_every_test_video(tmp_path):
    empty = np.empty((0, 2))
    videos = tuple(Video(name, 9.0, empty, empty, empty, empty) for name in ("a", "b"))
    dataset = Dataset("Tiny", ("Dive", "Jump"), (), videos)
    found = Segments(
        np.array([1]), np.array([0]), np.array([1.28]), np.array([1.92]), np.array([0.7])
    )
    Workdir(tmp_path).write_detections(found, dataset)
    assert json_files.load(tmp_path / "detections.json", "detections") == {
        "version": "VERSION 1.3",
        "results": {"a": [], "b": [{"score": 0.7, "segment": [1.28, 1.92], "label": "Dive"}]},
        "external_data": {},
    }
    assert [path.name for path in tmp_path.iterdir()] == ["detections.json"]
