"""Annotations in ActivityNet form: counts of real files, and one-line errors."""

import json

import pytest

from jaxtal.data import activitynet, activitynet_writer
from jaxtal.data.dataset import TimeGrid
from jaxtal.errors import JaxtalError


def write(tmp_path, content):
    path = tmp_path / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def entry(subset, label="Jump", **fields):
    annotations = [{"label": label, "segment": [1.0, 2.5]}]
    return {"subset": subset, "duration": 20.0, "annotations": annotations, **fields}


def test_annotations_from_a_file(tmp_path):
    database = {
        "a": entry("training"),
        "b": entry("validation", "Hop", video_labels=["Jump"], ambiguous=[[3, 4]]),
        "c": {"subset": "testing", "duration": 5.0},
    }
    data = activitynet.read(write(tmp_path, {"database": database}))
    assert data.name == "annotations"
    assert data.classes == ("Hop", "Jump")
    assert [video.name for video in (*data.train, *data.test)] == ["a", "b"]
    assert data.test[0].labels.tolist() == [1]
    assert data.test[0].segment_labels.tolist() == [0]
    assert data.test[0].ambiguous.tolist() == [[3, 4]]


GOOD = {"label": "Hop", "segment": [1, 2]}
BROKEN = {
    "not a JSON file": "{",
    'no "database"': {"videos": {}},
    "subsets are": {"database": {"a": entry("fold 1"), "b": entry("fold 2")}},
    'no "subset"': {"database": {"a": {}}},
    'no "duration"': {
        "database": {"a": {"subset": "train", "annotations": []}, "b": entry("test")}
    },
    'no "label"': {"database": {"a": entry("train", annotations=[{}]), "b": entry("test")}},
    "not among the 1": {
        "classes": ["Hop"],
        "database": {"a": entry("train"), "b": entry("test")},
    },
    "distinct names": {
        "classes": ["Hop", "Hop"],
        "database": {"a": entry("train"), "b": entry("test")},
    },
    "seconds above 0": {"database": {"a": entry("train", duration=0), "b": entry("test")}},
    '"duration" is': {"database": {"a": entry("train", duration="long"), "b": entry("test")}},
    'video a, annotation 1: "segment" is': {
        "database": {
            "a": entry("train", annotations=[GOOD, {"label": "Hop", "segment": [1, 2, 3]}]),
            "b": entry("test"),
        }
    },
    'annotation 0: "segment" is': {
        "database": {
            "a": entry("train", annotations=[{"label": "Hop", "segment": [1, 10**400]}]),
            "b": entry("test"),
        }
    },
    '"annotations" is None; wanted a list': {
        "database": {"a": entry("train", annotations=None), "b": entry("test")}
    },
    '"video_labels" is 3; wanted a list': {
        "database": {"a": entry("train", video_labels=3), "b": entry("test")}
    },
    "\"video_labels\" is \\['Hop'\\]; wanted text": {
        "classes": ["Jump"],
        "database": {"a": entry("train", video_labels=[["Hop"]]), "b": entry("test")},
    },
}


@pytest.mark.parametrize(
    "fields",
    [
        {"duration": True},
        {"fps": True},
        {"ambiguous": [[True, 2.0]]},
        {"annotations": [{"label": "Hop", "segment": [True, False]}]},
        {"annotations": [{"label": "Hop", "segment": [True, 2.5]}]},
    ],
)
def test_true_and_false_are_no_numbers(tmp_path, fields):
    path = write(tmp_path, {"database": {"a": entry("train", **fields), "b": entry("test")}})
    with pytest.raises(JaxtalError, match=r"video a.* is \[*True.*; wanted"):
        activitynet.read(path)


@pytest.mark.parametrize("message", BROKEN)
def test_broken_file(tmp_path, message):
    with pytest.raises(JaxtalError, match=message) as error:
        activitynet.read(write(tmp_path, BROKEN[message]))
    assert "annotations.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_time_grid_may_be_stated(tmp_path):
    content = {"feature_fps": 30, "feature_stride": 4, "database": {"b": entry("test")}}
    data = activitynet.read(write(tmp_path, content))
    assert data.grid == TimeGrid(30, 4)
    assert (len(data.train), len(data.test)) == (0, 1)
    assert activitynet.read(write(tmp_path, activitynet_writer.to_json(data))).grid == data.grid
    with pytest.raises(JaxtalError, match=r"feature_window are 30\.0, 0\.0, 0\.0; wanted"):
        activitynet.read(write(tmp_path, {**content, "feature_stride": 0}))


def test_a_duplicate_video(tmp_path):
    path = write(tmp_path, '{"database": {"a": {"subset": "train"}, "b": {}, "a": {}}}')
    with pytest.raises(JaxtalError, match="'a' is listed twice, as entry 0 and as entry 2"):
        activitynet.read(path)


def test_missing_file(tmp_path):
    with pytest.raises(JaxtalError, match=r"No such file.*wanted a JSON file"):
        activitynet.read(tmp_path / "none.json")


def test_activitynet13(shared):
    data = activitynet.read(shared / "activitynet" / "activitynet_1.3.json")
    assert (len(data.train), len(data.test), len(data.classes)) == (10024, 4926, 200)
    assert sum(len(video.segments) for video in data.train) == 15410
    assert sum(len(video.segments) for video in data.test) == 7654
    assert data.train[0].features.size == 0
