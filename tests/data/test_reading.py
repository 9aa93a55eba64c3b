"""Subsets of a data set: every annotated video is in a part, or counted as unused."""

import dataclasses
import json
from collections import Counter

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jaxtal.data import conversion, layouts
from jaxtal.data.dataset import Video
from jaxtal.data.layouts import per_video, wtalc
from jaxtal.data.reading import PARTS, ReadingOptions, assign_subsets
from jaxtal.errors import DataError
from tests.data.layouts.test_wtalc import objects
from tests.data.layouts.test_wtalc import write as write_wtalc
from tests.helpers import layout_cases

NAMES = ("train", "Training", "val", "validation", "TEST", "testing", "unused", "background")
ACTIVITYNET = ("training", "validation", "testing")


def entry(subset: str, labels: tuple[str, ...] = ("Jump",)) -> dict:
    annotations = [{"label": label, "segment": [1, 2]} for label in labels]
    return {"subset": subset, "duration": 20.0, "annotations": annotations}


def read(tmp_path, subsets, labels=None, **options) -> layouts.LazyDataset:
    """Read an ActivityNet-form file of one video for each subset in a list."""
    database = {
        f"video {index}": entry(subset, ("Jump",) if labels is None else labels[index])
        for index, subset in enumerate(subsets)
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"classes": ["Jump"], "database": database}))
    return layouts.read(path, ReadingOptions(**options), features=False)


def members(source: layouts.LazyDataset) -> dict[str, list[str]]:
    return {part: [v.name for v in getattr(source.dataset, part)] for part in PARTS}


@hypothesis.given(
    subsets=st.lists(st.sampled_from(NAMES), min_size=1, max_size=12),
    annotated=st.lists(st.booleans(), min_size=12, max_size=12),
    stated=st.dictionaries(st.sampled_from(PARTS), st.sampled_from(NAMES)),
)
def test_no_video_is_unaccounted_for(tmp_path_factory, subsets, annotated, stated):
    tmp_path = tmp_path_factory.mktemp("read")
    labels = [("Jump",) * known for known in annotated]
    options = {f"{part}_subset": (name,) for part, name in stated.items()}
    absent = {name.lower() for name in stated.values()} - {subset.lower() for subset in subsets}
    twice = len({name.lower() for name in stated.values()}) < len(stated)
    if absent or twice or (not stated and set(subsets) == {"unused", "background"}):
        with pytest.raises(DataError):
            read(tmp_path, subsets, labels, **options)
        return
    source = read(tmp_path, subsets, labels, **options)
    found = members(source)
    assert sum(map(len, found.values())) + sum(source.unused.values()) == len(subsets)
    names = [name for part in found.values() for name in part]
    assert len(set(names)) == len(names)
    used = {subsets[int(name.split()[1])] for name in names}
    assert source.unused == Counter(s for s in subsets if s not in used)
    for part, name in stated.items():
        wanted = [f"video {i}" for i, s in enumerate(subsets) if s.lower() == name.lower()]
        assert found[part] == wanted


@pytest.mark.parametrize(
    ("subsets", "withheld", "parts", "unused"),
    [
        (ACTIVITYNET, "testing", ("training", "", "validation"), ["testing"]),
        (ACTIVITYNET, "", ACTIVITYNET, []),
        (("train", "val", "test"), "", ("train", "val", "test"), []),
        (("Train", "Val", "Test"), "", ("Train", "Val", "Test"), []),
        (("train", "val", "test"), "val", ("train", "", "test"), ["val"]),
        (("validation", "test"), "", ("validation", "", "test"), []),
        (("validation", "test"), "test", ("validation", "", "test"), []),
        (("training", "validation"), "validation", ("training", "", "validation"), []),
        (("Validation", "Test", "Background"), "", ("Validation", "", "Test"), ["Background"]),
        (("training",), "", ("training", "", ""), []),
        (("val",), "", ("", "", "val"), []),
        (("anything",), "", ("", "", "anything"), []),
    ],
)  # fmt: skip
def test_parts_follow_from_names(subsets, withheld, parts, unused):
    found = assign_subsets(dict.fromkeys(subsets, 1), {*subsets} - {withheld}, ReadingOptions(), "")
    assert found == {name: part for part, name in zip(PARTS, parts, strict=True) if name}
    assert [name for name in subsets if name not in found] == unused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_subset": ("fold 3",)}, r"test_subset='fold 3' is not among .*1 of subset 'fold 1'"),
        ({"train_subset": ("FOLD 1",), "test_subset": ("fold 1",)},
         "subset 'fold 1' is in train_subset and in test_subset"),
        ({}, r"subsets are 1 of subset 'fold 1', 1 of subset 'fold 2'; wanted .*test_subset=NAME"),
    ],
)  # fmt: skip
def test_an_assignment_that_cannot_be_meant(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, ("fold 1", "fold 2"), **options)


def test_folds_are_assigned_by_options(tmp_path):
    options = {"train_subset": ("fold 1", "Fold 2"), "validation_subset": ("fold 4",)}
    subsets = ("fold 1", "fold 2", "fold 3", "fold 4", "fold 5", "fold 3")
    source = read(tmp_path, subsets, test_subset="fold 5", **options)
    assert [len(part) for part in members(source).values()] == [2, 1, 1]
    assert source.unused == {"fold 3": 2}


def test_videos_in_no_split_list_are_counted(tmp_path):
    database = {name: entry("train") for name in "abcd"}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    (tmp_path / "split_train.txt").write_text("a\n")
    (tmp_path / "split_test.txt").write_text("b\n")
    source = layouts.read(tmp_path, layout="acmnet", features=False)
    assert members(source) == {"train": ["a"], "validation": [], "test": ["b"]}
    assert source.unused == {"in no split list": 2}


@pytest.mark.parametrize(
    ("subsets", "found"),
    [
        (("train", "train", "train", "test", "test", "test"), ()),
        (("train", "train", "test", "test", "test", "train"), ("c", "f")),
        (("test", "test", "test", "train", "train", "train"), tuple("abcdef")),
        (("Validation", "Validation", "Test", "Test", "Test", "Test"), ("c",)),
        (("training", "training", "validation", "validation", "validation", 7), ("c",)),
        (("train", "train", "train", "train", "train", "train"), ()),
        (("fold 1", "fold 2", "fold 1", "fold 3", "fold 3", "fold 3"), ()),
    ],
)
def test_split_lists_that_contradict_the_subsets_of_the_file(tmp_path, subsets, found):
    """Subsets of other names mean the part of most of their videos."""
    database = {name: entry(subset) for name, subset in zip("abcdef", subsets, strict=True)}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    (tmp_path / "split_train.txt").write_text("a\nb\nc\n")
    (tmp_path / "split_test.txt").write_text("d\ne\nf\n")
    source = layouts.read(tmp_path, layout="acmnet", features=False)
    assert members(source) == {"train": [*"abc"], "validation": [], "test": [*"def"]}
    assert source.contradictory == found


def test_the_w_talc_layout_has_three_parts(tmp_path):
    subset = np.array([b"train", b"val", b"test", b"spare"])
    segments = objects([[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], []])
    labels = objects([["Jump"], ["Jump"], ["Jump"], []])
    write_wtalc(tmp_path, subset=subset, segments=segments, labels=labels)
    (name,) = wtalc.find(tmp_path)
    source = layouts.read(tmp_path, name=name, features=False)
    assert [len(part) for part in members(source).values()] == [1, 1, 1]
    assert source.unused == {"spare": 1}


def with_validation(test_annotated: bool = True):
    """A data set whose last training videos are validation videos."""
    data = layout_cases.dataset()
    parts = {"train": data.train[:3], "validation": data.train[3:]}
    if not test_annotated:
        parts["test"] = [dataclasses.replace(v, **_nothing()) for v in data.test]
    return data.with_parts(parts)


def _nothing() -> dict:
    return {"segments": np.empty((0, 2)), "segment_labels": np.empty(0, np.int64)}


@pytest.mark.parametrize("annotated", [True, False])
@pytest.mark.parametrize("layout", conversion.LAYOUTS)
def test_conversion_keeps_three_parts(tmp_path, layout, annotated):
    source = layout_cases.source(with_validation(annotated))
    split = {spec.name for spec in per_video.LAYOUT_SPECS if spec.split}
    if layout in split or (layout in ("wtalc", "hamnet") and not annotated):
        with pytest.raises(DataError, match=r"3 training, 3 validation .*; or assign|, or assign"):
            conversion.convert(source, layout, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    conversion.convert(source, layout, tmp_path / "out")
    again = layouts.read(tmp_path / "out", features=None)
    layout_cases.assert_same(again, source)
    assert again.dataset.parts.keys() == source.dataset.parts.keys()
    assert members(again) == members(source)


JUMP = {"label": "Jump", "segment": [1, 2]}


@pytest.mark.parametrize(
    ("given", "labels", "segments"),
    [
        ({"annotations": [{"label": "Jump"}, {"label": "Run"}]}, ["Jump", "Run"], 0),
        ({"annotations": ["Jump", "Jump"]}, ["Jump"], 0),
        ({"video_labels": ["Run"]}, ["Run"], 0),
        ({"annotations": [], "video_labels": ["Run", "Jump"]}, ["Jump", "Run"], 0),
        ({"label": "Jump"}, ["Jump"], 0),
        ({"labels": ["Run", "Jump"]}, ["Jump", "Run"], 0),
        ({"class": "Run", "annotations": []}, ["Run"], 0),
        ({"annotations": [JUMP, {"label": "Run"}]}, ["Jump", "Run"], 1),
        ({"annotations": [JUMP], "label": "Run"}, ["Jump", "Run"], 1),
        ({}, [], 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["activitynet", "opentad", "actionformer", "basnet"])
def test_labels_without_segments(tmp_path, layout, given, labels, segments):
    others = {"b": entry("training", ("Jump", "Run")), "c": entry("validation")}
    database = {"a": {"subset": "training", "duration": 9.0, **given}, **others}
    text = json.dumps({"database": database})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "category_idx.txt").write_text("Jump\nRun\n")
    for name in ("gt.json", "mine.json", "annotations/mine.json"):
        (tmp_path / name).write_text(text)
    path = tmp_path / "mine.json" if layout == "activitynet" else tmp_path
    source = layouts.read(path, layout=layout, features=False)
    video: Video = source.dataset.train[0]
    assert [source.dataset.classes[label] for label in video.labels] == labels
    assert video.segments.tolist() == [[1, 2]] * segments
    assert len(video.segment_labels) == segments


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([{"label": "Jump", "segment": [1]}], r'annotation 0: "segment" is \[1\]'),
        ([{"label": "Jump", "segment": None}], '"segment" is None'),
        ([{"segment": [1, 2]}], 'no "label"'),
        ([7], 'no "label" in 7'),
        ("Jump", "wanted a list"),
        (None, "wanted a list"),
    ],
)
def test_a_malformed_annotation_is_an_error(tmp_path, annotations, message):
    database = {"a": {**entry("train"), "annotations": annotations}, "b": entry("test")}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"classes": ["Jump"], "database": database}))
    with pytest.raises(DataError, match=message):
        layouts.read(path, features=False)
