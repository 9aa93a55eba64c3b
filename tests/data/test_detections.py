"""Reading detections: errors name file, video and index."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest

from jaxtal.data import detections
from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.segments import Segments
from jaxtal.errors import JaxtalError


def video(name: str) -> Video:
    none = np.empty((0, 2))
    return Video(name, 60.0, np.array([0]), none, np.empty(0, int), none)


DATA = Dataset("Tiny", ("Dive", "Jump"), (video("t"),), (video("a"), video("b")))
GOOD = {"label": "Jump", "segment": [1.5, 2], "score": -3}


def write(folder, results, **others):
    path = folder / "found.json"
    path.write_text(json.dumps({"results": results, **others}))
    return path


def test_reading(tmp_path):
    """Keeps the file's order; segments of length zero and videos without detections are valid."""
    point = {"label": "Dive", "segment": ["0", 0.0], "score": 1e-300}
    path = write(tmp_path, {"b": [GOOD, point], "a": []}, version="x", external_data={})
    found = detections.read(path, DATA)
    assert found.video.tolist() == [1, 1]
    assert found.label.tolist() == [1, 0]
    assert found.start.tolist() == [1.5, 0]
    assert found.end.tolist() == [2, 0]
    assert found.score.tolist() == [-3, 1e-300]
    assert len(detections.read(write(tmp_path, {}), DATA)) == 0


def test_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    start = rng.random(20)
    found = Segments(
        np.sort(rng.integers(2, size=20)), rng.integers(2, size=20), start, start + 0.1, start**9
    )
    path = tmp_path / "found.json"
    path.write_text(detections.to_json(found, ["a", "b"], DATA.classes))
    again = detections.read(path, DATA)
    for column in ("video", "label", "start", "end", "score"):
        np.testing.assert_array_equal(getattr(again, column), getattr(found, column))


def changed(**fields):
    return {"a": [GOOD], "b": [GOOD, GOOD, {**GOOD, **fields}]}


def without(field: str):
    return {"b": [{key: value for key, value in GOOD.items() if key != field}]}


AT = r"found\.json, video b, detection 2 \(counted from 0\): "
WRONG = {
    "score": (changed(score=float("nan")), AT + r"score is nan; wanted a finite number"),
    "infinite score": (changed(score=float("inf")), AT + r"score is inf; wanted a finite"),
    "no number": (changed(score="high"), AT + r"score is 'high'; wanted a finite number"),
    "reversed": (changed(segment=[3, 2]), AT + r"segment \[3, 2\] ends before it begins; wanted"),
    "negative": (changed(segment=[-1, 2]), AT + r"segment \[-1, 2\] begins before its video; cut"),
    "one time": (changed(segment=[3]), AT + r"segment is \[3\]; wanted \[start, end\] in seconds"),
    "three": (changed(segment=[3, 4, 5]), AT + r"segment is \[3, 4, 5\]; wanted"),
    "a number": (changed(segment=3), AT + r"segment is 3; wanted \[start, end\]"),
    "text": (changed(segment="12"), AT + r"segment is '12'; wanted \[start, end\]"),
    "a big number": (changed(score=10**400), AT + r"score is 1000.*; wanted a finite number"),
    "true": (changed(score=True), AT + r"score is True; wanted a finite number"),
    "forever": (changed(segment=[3, 1e12]), AT + r"segment is \[3, 1000000000000\.0\]; w"),
    "pairs of names": (changed(segment={"0": 1, "5": 2}), AT + r"segment is {'0': 1, '5': 2}; w"),
    "NaN": (changed(segment=[3, float("nan")]), AT + r"segment is \[3, nan\]; wanted"),
    "class": (changed(label="Run"), AT + r"label 'Run' is not among the 2 classes of .*skip_u"),
    "no label": (without("label"), r'video b, detection 0 .*: no "label" in .*score.*; wanted'),
    "no segment": (without("segment"), r'no "segment" in .*; wanted {"results"'),
    "no score": (without("score"), r'no "score" in'),
    "no object": ({"b": [3]}, r'video b, detection 0 .*: no "label" in 3; wanted'),
    "no list": ({"b": {"label": 3}}, r"found\.json, video b: .*; wanted a list"),
    "training video": ({"t": [GOOD]}, r"video t: 1 detections in a training video of"),
    "unknown video": ({"x": [GOOD]}, r"video x: 1 detections in no video of Tiny; wanted one of"),
    "list": ([], r'"results" is \[\]; wanted'),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_invalid_detections(tmp_path, what):
    results, message = WRONG[what]
    with pytest.raises(JaxtalError, match=message):
        detections.read(write(tmp_path, results), DATA)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"results": {"a": [{"label"', r"found\.json: not a JSON file \(.*char \d+\)\); wanted"),
        ('{"results": {"a": [], "a": []}}', r"found\.json: 'a' is listed twice"),
        ("[]", r"found\.json: \[\]; wanted"),
        ("{}", r'found\.json: no "results" in \[\]; wanted'),
        ("[" * 100_000, r"found\.json: not a JSON file"),
        ("\x00\xff", r"found\.json: not a JSON file"),
    ],
)
def test_malformed_files(tmp_path, text, message):
    (tmp_path / "found.json").write_text(text, encoding="latin1")
    with pytest.raises(JaxtalError, match=message):
        detections.read(tmp_path / "found.json", DATA)


def test_no_file(tmp_path):
    with pytest.raises(JaxtalError, match=r"none\.json: No such file or directory; wanted a JSON"):
        detections.read(tmp_path / "none.json", DATA)


def test_unknown_videos_and_classes_may_be_skipped_and_are_counted(tmp_path):
    """Invalid detections remain errors."""
    skipped: Counter = Counter()
    results = {"x": [GOOD, GOOD], "a": [{**GOOD, "label": "Run"}, GOOD], "t": [GOOD]}
    found = detections.read(write(tmp_path, results), DATA, skipped)
    assert len(found) == 1
    assert skipped == {"of unknown videos": 3, "of unknown classes": 1}
    with pytest.raises(JaxtalError, match=r"detection 2 .*: score is nan"):
        detections.read(write(tmp_path, changed(score=float("nan"))), DATA, Counter())


def test_names_with_a_prefix_or_suffix(tmp_path, caplog):
    """They are recognized if half of them match, with a warning; test videos come first."""
    path = write(tmp_path, {"v_b.mp4": [GOOD], "v_a.mp4": [], "v_t.mp4": []})
    found = detections.read(path, DATA)
    assert found.video.tolist() == [1]
    assert "no video is named as in Tiny; 'v_b.mp4' is taken for 'b'" in caplog.text
    assert detections.spelled_as_in(DATA, ["v_a", "v_b", "v_c"], "x") == ["a", "b", "v_c"]
    numbered = dataclasses.replace(
        DATA,
        train=tuple(video(f"tr_{number:03}") for number in range(20)),
        test=tuple(video(f"te_{number:03}") for number in range(10)),
    )
    names = [f"{number:03}" for number in range(12)]
    found = detections.spelled_as_in(numbered, names, "x")
    assert found == [f"te_{number:03}" for number in range(10)] + names[10:]
    caplog.clear()
    assert detections.spelled_as_in(DATA, ["v_b"], "x") == ["v_b"]  # one is too few
    names = ["v_a", "v_b", "v_c", "v_d", "v_e"]
    assert detections.spelled_as_in(DATA, names, "x") == names
    assert detections.spelled_as_in(DATA, ["a", "v_b"], "x") == ["a", "v_b"]
    assert not caplog.text
