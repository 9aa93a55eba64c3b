"""Reading of all layouts as other programs have them, and lossless conversion between them."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from jaxtal.data import conversion, layouts
from jaxtal.data.dataset import TimeGrid
from jaxtal.data.layouts import load_annotations, load_from_config, manifest
from jaxtal.errors import JaxtalError
from tests.conftest import GOLDEN
from tests.data.layouts.test_wtalc import write as write_wtalc
from tests.helpers import layout_cases

FOLDERS = [name for name in conversion.LAYOUTS if name != "activitynet"]
RNG = np.random.default_rng(0)


def save(path, *shape, dtype=np.float32):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = RNG.random(shape).astype(dtype)
    np.save(path, array)
    return array


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def basnet(root):
    """Write segments as text, no durations, and a third video that is in no list."""
    entries = {
        name: {"subset": subset, "annotations": [{"segment": ["1.2", "4.0"], "label": label}]}
        for name, subset, label in (
            ("a", "train", "Jump"), ("b", "test", "Dive"), ("c", "test", "Dive"),
        )
    }  # fmt: skip
    text(root / "gt.json", {"database": entries})
    text(root / "split_train.txt", "a\n")
    text(root / "split_test.txt", "b\n\n")
    return [
        [save(root / f"features/{s}/{stream}/{v}.npy", 20, 3) for stream in ("rgb", "flow")]
        for v, s in (("a", "train"), ("b", "test"))
    ]


def test_basnet(tmp_path):
    arrays = basnet(tmp_path)
    source = layouts.read(tmp_path)
    assert (source.layout, source.dataset.name) == ("basnet", tmp_path.name)
    assert source.dataset.classes == ("Dive", "Jump")
    loaded = source.load()
    assert [video.name for video in (*loaded.train, *loaded.test)] == ["a", "b"]
    for video, streams in zip((*loaded.train, *loaded.test), arrays, strict=True):
        np.testing.assert_array_equal(video.features, np.concatenate(streams, axis=1))
        assert video.segments.tolist() == [[1.2, 4.0]]
        assert video.duration == pytest.approx(20 * 0.64)
    assert not source.has_time_grid


def test_basnet_streams_of_different_lengths(tmp_path):
    basnet(tmp_path)
    save(tmp_path / "features/test/flow/b.npy", 19, 3)
    with pytest.raises(
        JaxtalError, match=r"b\.npy: RGB features are 20 x 3 .* flow features 19 x 3"
    ):
        layouts.read(tmp_path).load()


def acmnet(root):
    """Write one duration that is too short, and a video that is in no list."""
    entries = {
        name: {
            "subset": subset,
            "duration": duration,
            "annotations": [{"segment": [1, 4.5], "label": "Jump"}],
        }
        for name, subset, duration in (("a", "train", 12.9), ("b", "test", 10.0), ("c", "test", 5))
    }
    text(root / "gt.json", {"database": entries})
    text(root / "split_train.txt", "a\n")
    text(root / "split_test.txt", "b\n")
    return [save(root / f"{s}/{v}.npy", 20, 6) for v, s in (("a", "train"), ("b", "test"))]


def test_acmnet(tmp_path):
    arrays = acmnet(tmp_path)
    source = layouts.read(tmp_path)
    assert source.layout == "acmnet"
    loaded = source.load()
    np.testing.assert_array_equal(loaded.test[0].features, arrays[1])
    # 10 s are a fifth shorter than the 20 snippets, 12.9 s are longer.
    assert [video.duration for video in source.videos] == [12.9, pytest.approx(12.8)]
    assert source.lengthened == ("b",)


def actionformer(root, fps=30.0):
    entries = {
        name: {
            "subset": subset,
            "duration": 10.0,
            "fps": fps,
            "annotations": [
                {"label": "Jump", "label_id": 7, "segment": [1.0, 3.0], "segment(frames)": [30, 90]}
            ],
        }
        for name, subset in (("a", "Validation"), ("b", "Test"))
    }
    text(root / "annotations" / "thumos14.json", {"version": "x", "database": entries})
    return [save(root / "i3d_features" / f"{name}.npy", 72, 6) for name in "ab"]


def test_actionformer_and_its_overlapping_windows(tmp_path):
    actionformer(tmp_path, fps=24.0)
    source = layouts.read(tmp_path)
    assert (source.layout, source.dataset.name) == ("actionformer", "thumos14")
    assert source.dataset.grid == TimeGrid(30, 4, 16)
    assert source.videos[0].fps == 24
    grid = source.dataset.grid.of(source.videos)
    # The middle of snippet i is at (i * stride + window / 2) / fps seconds.
    for snippet in (0, 5, 71):
        middle = (snippet * 4 + 0.5 * 16) / 24
        assert grid.take(0).to_seconds(snippet + 0.5) == pytest.approx(middle)
        assert grid.take(0).to_snippets(middle) == pytest.approx(snippet + 0.5)
    assert len(layouts.read(tmp_path, fps=25.0).load().train) == 1
    forced = layouts.read(tmp_path, fps=25, stride=8).dataset
    assert forced.grid == TimeGrid(25, 8, 16)
    assert forced.train[0].fps is None


def test_activitynet_in_actionformers_layout(tmp_path):
    actionformer(tmp_path)
    for name in "ab":
        (tmp_path / f"i3d_features/{name}.npy").rename(tmp_path / f"i3d_features/v_{name}.npy")
    source = layouts.read(tmp_path)
    assert source.dataset.grid == TimeGrid(25, 16, 16)
    assert source.videos[0].fps is None
    assert source.load().train[0].features.shape == (72, 6)


def opentad(root):
    entries = {
        "a": ("training", 300, ["Jump"]), "b": ("validation", 250, ["Dive", "Ambiguous"]),
        "c": ("validation", 250, ["Dive"]), "d": ("training", 250, ["Dive"]),
    }  # fmt: skip
    database = {
        name: {
            "subset": subset,
            "duration": 10.0,
            "frame": frames,
            "annotations": [{"label": n, "segment": [i, i + 1.5]} for i, n in enumerate(labels)],
        }
        for name, (subset, frames, labels) in entries.items()
    }
    text(root / "annotations" / "thumos_14_anno.json", {"database": database})
    text(root / "annotations" / "category_idx.txt", "Jump\nDive\n")
    text(root / "features" / "i3d" / "missing_files.txt", "c\n")
    return [save(root / "features" / "i3d" / f"{name}.npy", 72, 6) for name in "abx"]


def test_opentad(tmp_path):
    opentad(tmp_path)
    source = layouts.read(tmp_path)
    assert source.layout == "opentad"
    assert source.dataset.classes == ("Jump", "Dive")
    assert [video.fps for video in source.videos] == [30, 25, 25, 25]
    b = source.dataset.test[0]
    assert (b.segments.tolist(), b.ambiguous.tolist()) == ([[0, 1.5]], [[1, 2.5]])
    assert (source.missing, source.declared_missing) == (("d", "c"), ("c",))
    assert source.unannotated == ("x",)
    with pytest.raises(
        JaxtalError, match=r"no feature file of video d; .*skip_damaged=True skips such"
    ):
        source.load()
    loaded = source.load(skip_damaged=True)
    assert [video.name for video in (*loaded.train, *loaded.test)] == ["a", "b"]


def test_hamnet(tmp_path):
    write_wtalc(tmp_path)
    database = {
        name: {"subset": "train", "annotations": [{"segment": ["0.25", "1.75"], "label": "Jump"}]}
        for name in "abc"
    }
    text(tmp_path / "gt.json", {"class-list": {"0": "Jump", "1": "Dive"}, "database": database})
    source = layouts.read(tmp_path)
    assert (source.layout, source.dataset.name) == ("hamnet", "Tiny")
    assert source.dataset.classes == ("Dive", "Jump")
    assert source.videos[1].segments.tolist() == [[0.25, 1.75]]
    assert source.videos[1].segment_labels.tolist() == [1]
    assert source.videos[1].labels.tolist() == [0, 1]
    assert (
        source.notes == ("gt.json lacks 1 videos",) or "lacks 1 videos, d first" in source.notes[0]
    )
    text(tmp_path / "gt.json", {"class-list": {"0": "Hop"}, "database": {}})
    with pytest.raises(JaxtalError, match=r"gt\.json"):
        layouts.read(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set in every layout, with overlapping windows and a video with its own fps."""
    wanted = layout_cases.source(layout_cases.dataset(TimeGrid(30, 4, 16), own_fps=True))
    root = tmp_path_factory.mktemp("layouts")
    for layout in FOLDERS:
        conversion.convert(wanted, layout, root / layout)
    return root, wanted


@pytest.mark.parametrize("layout", FOLDERS)
def test_written_data_sets_are_read(made, layout):
    root, wanted = made
    source = layouts.read(root / layout)
    assert (source.layout, source.has_time_grid) == (layout, True)
    layout_cases.assert_same(source, wanted)


@pytest.mark.parametrize("second", FOLDERS)
@pytest.mark.parametrize("first", FOLDERS)
def test_round_trips_between_all_layouts(made, tmp_path, first, second):
    root, wanted = made
    conversion.convert(layouts.read(root / first), second, tmp_path / second)
    layout_cases.assert_same(layouts.read(tmp_path / second), wanted)


@pytest.mark.parametrize("layout", FOLDERS)
def test_detection_without_the_manifest(tmp_path, layout):
    wanted = layout_cases.source(layout_cases.dataset())
    conversion.convert(wanted, layout, tmp_path)
    (tmp_path / "jaxtal.json").unlink()
    source = layouts.read(tmp_path)
    assert source.layout == layout
    layout_cases.assert_same(source, wanted)


@pytest.mark.parametrize("layout", FOLDERS)
def test_recordings(shared, tmp_path, layout):
    wanted = layouts.read(shared / "audio_wtal")
    conversion.convert(wanted, layout, tmp_path / "there")
    conversion.convert(layouts.read(tmp_path / "there"), "wtalc", tmp_path / "back")
    layout_cases.assert_same(layouts.read(tmp_path / "back"), wanted)
    annotations = np.load(
        tmp_path / "back" / "AudioWTAL-Annotations" / "segments.npy", allow_pickle=True
    )
    assert annotations[0] == [list(pair) for pair in wanted.videos[0].segments.tolist()]


REAL = {  # folder or file of annotations: name, videos, instances, ambiguous intervals
    "thumos14": ("Thumos14reduced", (200, 212), (3007, 3358), 96),
    "thumos14/thumos14.json": ("Thumos14", (200, 212), (3007, 3358), 96 + 89),
    "activitynet": ("ActivityNet1.2", (4819, 2383), (7151, 3582), 0),
    "activitynet/activitynet_1.2.json": ("ActivityNet1.2", (4819, 2383), (7151, 3582), 0),
    "activitynet/activitynet_1.3.json": ("ActivityNet1.3", (10024, 4926), (15410, 7654), 0),
}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow if path.startswith("activitynet") else [])
        for path in REAL
    ],
)
def test_real_annotations_in_every_layout(request, tmp_path, path):
    root = GOLDEN if path.startswith("thumos14") else request.getfixturevalue("shared")
    name, videos, instances, ambiguous = REAL[path]
    wanted = layouts.read(root / path, name=name, features=None)
    for layout in conversion.LAYOUTS:
        conversion.convert(wanted, layout, tmp_path / layout)
        place = tmp_path / layout
        if layout == "activitynet":
            layout_cases.assert_same(layouts.read(place, features=None), wanted)
            place = place / f"{name}.json"
        source = layouts.read(place, features=None)
        layout_cases.assert_same(source, wanted)
        parts = source.dataset.train, source.dataset.test
        assert tuple(map(len, parts)) == videos
        assert tuple(sum(len(v.segments) for v in part) for part in parts) == instances
        assert sum(len(v.ambiguous) for part in parts for v in part) == ambiguous
        assert source.features is None
        assert load_annotations(place).classes == wanted.dataset.classes


def test_missing_features_are_an_error_unless_optional(tmp_path):
    wanted = layout_cases.source(layout_cases.dataset(), features=False)
    for layout in FOLDERS:
        conversion.convert(wanted, layout, tmp_path / layout)
        with pytest.raises(JaxtalError, match=r"features"):
            layouts.read(tmp_path / layout)
    conversion.convert(wanted, "activitynet", tmp_path / "json")
    with pytest.raises(JaxtalError, match=r"annotations only"):
        layouts.read(tmp_path / "json" / "Tiny.json")


def test_folders_without_a_data_set(tmp_path):
    with pytest.raises(JaxtalError, match=r"no data set is detected; looked for <DS>-Annot"):
        layouts.read(tmp_path)
    with pytest.raises(JaxtalError, match=r"no such file or folder"):
        layouts.read(tmp_path / "nothing")
    with pytest.raises(JaxtalError, match=r"unknown layout 'x'; wanted one of hamnet, wtalc"):
        layouts.read(tmp_path, layout="x")
    basnet(tmp_path / "b")
    with pytest.raises(JaxtalError, match=r"axes='XY'; wanted one letter for each axis"):
        layouts.read(tmp_path / "b", axes="XY")
    with pytest.raises(JaxtalError, match=r"stride is -1; wanted a number above 0"):
        layouts.read(tmp_path / "b", stride=-1)


def test_several_data_sets_in_a_folder(tmp_path):
    write_wtalc(tmp_path)
    shutil.copytree(tmp_path / "Tiny-Annotations", tmp_path / "Other-Annotations")
    with pytest.raises(JaxtalError, match=r"2 folders <DS>-Annotations; .*: Other, Tiny"):
        layouts.read(tmp_path)
    assert layouts.read(tmp_path, name="Tiny").dataset.name == "Tiny"
    actionformer(tmp_path / "b")
    text(tmp_path / "b" / "annotations" / "other.json", {})
    with pytest.raises(JaxtalError, match=r"2 files; wanted one, or one named like the data set"):
        layouts.read(tmp_path / "b")
    assert layouts.read(tmp_path / "b", name="thumos14").dataset.name == "thumos14"


def test_the_trainer_reads_any_layout(tmp_path):
    from configs import co2net_thumos

    opentad(tmp_path)
    config = co2net_thumos.get_config()
    config.data.dir, config.data.name = str(tmp_path), "thumos_14_anno"
    with pytest.raises(JaxtalError, match=r"video d; config.data.skip_damaged skips"):
        load_from_config(config.data)
    config.data.update(skip_damaged=True, fps=25.0)
    loaded = load_from_config(config.data)
    assert (len(loaded.train), len(loaded.test)) == (1, 1)
    assert loaded.grid == TimeGrid(25, 4, 16)
    assert dataclasses.replace(loaded.train[0], fps=None).fps == loaded.train[0].fps


def test_a_single_subset_is_not_both(tmp_path):
    opentad(tmp_path)
    path = tmp_path / "annotations" / "thumos_14_anno.json"
    content = json.loads(path.read_text())
    for entry in content["database"].values():
        entry["subset"] = "training"
    text(path, content)
    source = layouts.read(tmp_path, features=None)
    assert (len(source.dataset.train), len(source.dataset.test)) == (4, 0)
    for entry in content["database"].values():
        entry["subset"] = "Val"
    text(path, content)
    assert len(layouts.read(tmp_path, features=None).dataset.test) == 4


def test_training_videos_alone_stay_training_videos(tmp_path):
    data = dataclasses.replace(layout_cases.dataset(), test=())
    wanted = layout_cases.source(data)
    for layout in FOLDERS:
        if layout in ("basnet", "acmnet", "opentad"):
            conversion.convert(wanted, layout, tmp_path / layout)
            layout_cases.assert_same(layouts.read(tmp_path / layout), wanted)
            continue
        with pytest.raises(
            JaxtalError, match=rf"6 training and 0 test videos; .* '{layout}' needs"
        ):
            conversion.convert(wanted, layout, tmp_path / layout)


def test_durations_follow_from_the_grid_that_is_given(tmp_path):
    basnet(tmp_path / "b")
    source = layouts.read(tmp_path / "b", fps=30)
    assert source.videos[0].duration == pytest.approx(20 * 16 / 30)
    acmnet(tmp_path / "a")
    source = layouts.read(tmp_path / "a", fps=30)  # 20 snippets are 10.7 s
    assert [video.duration for video in source.videos] == [12.9, pytest.approx(20 * 16 / 30)]
    alone = layouts.read(tmp_path / "a", fps=30, features=False)
    assert [v.duration for v in alone.videos] == [v.duration for v in source.videos]


@pytest.mark.parametrize(
    ("stated", "own", "wanted"),
    [
        ({}, {}, TimeGrid(30, 4, 16)),
        ({}, {"fps": 24}, TimeGrid(24, 4, 16)),
        ({"feature_fps": 25, "feature_stride": 16}, {}, TimeGrid(25, 16)),
        ({"feature_fps": 25, "feature_stride": 16}, {"feature_fps": 10}, TimeGrid(10, 16)),
        ({"feature_fps": 25, "feature_stride": 16}, {"fps": 60}, TimeGrid(25, 16)),
    ],
)
def test_durations_follow_from_the_grid_of_the_file_and_the_video(tmp_path, stated, own, wanted):
    actionformer(tmp_path)
    path = tmp_path / "annotations" / "thumos14.json"
    content = json.loads(path.read_text()) | stated
    for entry in content["database"].values():
        for field in ("duration", "fps"):
            entry.pop(field)
        entry |= own
    text(path, content)
    source = layouts.read(tmp_path)
    assert [video.duration for video in source.videos] == [float(wanted.to_seconds(72))] * 2
    assert source.dataset.grid.of(source.videos).fps.tolist() == [wanted.fps] * 2
    forced = layouts.read(tmp_path, fps=50)
    assert forced.videos[0].duration == float(wanted.replaced(50).to_seconds(72))


def test_a_video_that_is_shorter_than_its_features(tmp_path):
    data = layout_cases.dataset()
    data = data.map(lambda video: dataclasses.replace(video, duration=video.duration / 2))
    wanted = layout_cases.source(data)
    for layout in FOLDERS:
        conversion.convert(wanted, layout, tmp_path / layout)
        layout_cases.assert_same(layouts.read(tmp_path / layout), wanted)


def test_one_file_with_a_prefix_is_not_activitynet(tmp_path):
    actionformer(tmp_path)
    save(tmp_path / "i3d_features" / "v_c.npy", 72, 6)
    assert layouts.read(tmp_path).dataset.grid == TimeGrid(30, 4, 16)


def test_names_that_differ_in_the_prefix(tmp_path):
    data = layout_cases.dataset(name="ActivityNet1.3")
    first, second, *others = data.train
    names = (dataclasses.replace(first, name="a"), dataclasses.replace(second, name="v_a"))
    wanted = layout_cases.source(dataclasses.replace(data, train=(*names, *others)))
    for layout in FOLDERS:
        conversion.convert(wanted, layout, tmp_path / layout)
        layout_cases.assert_same(layouts.read(tmp_path / layout), wanted)


@pytest.mark.parametrize("name", ["{}.npy", "v_{}", "{}.mp4"])
def test_names_in_lists_with_a_prefix_or_suffix(tmp_path, name):
    names = [f"{letter}_video" for letter in "abcdef"]
    entry = {"subset": "train", "duration": 12.8, "annotations": [{"label": "Jump"}]}
    text(tmp_path / "gt.json", {"database": dict.fromkeys(names, entry)})
    for part, listed in (("train", names[:4]), ("test", names[4:])):
        lines = "".join(f"{name.format(one)}\n" for one in listed)
        text(tmp_path / f"split_{part}.txt", f"\N{ZERO WIDTH NO-BREAK SPACE}{lines}")
        for one in listed:
            save(tmp_path / part / f"{one}.npy", 20, 6)
    dataset = layouts.read(tmp_path).dataset
    assert [video.name for video in dataset.train] == names[:4]
    assert [video.name for video in dataset.test] == names[4:]


def test_segments_as_text_in_acmnets_layout(tmp_path):
    """The places of features decide about the layout, not the form of the segments."""
    acmnet(tmp_path)
    content = json.loads((tmp_path / "gt.json").read_text())
    for entry in content["database"].values():
        entry["annotations"][0]["segment"] = ["1.0", "4.5"]
    text(tmp_path / "gt.json", "\N{ZERO WIDTH NO-BREAK SPACE}" + json.dumps(content))
    source = layouts.read(tmp_path)
    assert source.layout == "acmnet"
    assert source.videos[0].segments.tolist() == [[1.0, 4.5]]


@pytest.mark.parametrize("rates", [(25, 30), (30, 30)])
def test_frame_rates_of_entries_that_alone_fit(tmp_path, rates):
    """Features of videos with native frame rates keep their durations."""
    database, lengths = {}, {}
    for index in range(12):
        name, fps = f"video_{index}", rates[index % 2]
        lengths[name] = 100 + 7 * index
        database[name] = {
            "subset": "train", "duration": lengths[name] * 16 / fps, "fps": fps,
            "annotations": [{"label": "Jump", "segment": [1, 2]}],
        }  # fmt: skip
        save(tmp_path / "train" / f"{name}.npy", lengths[name], 6)
    text(tmp_path / "gt.json", {"database": database})
    text(tmp_path / "split_train.txt", "\n".join([*database][:8]))
    text(tmp_path / "split_test.txt", "\n".join([*database][8:]))
    source = layouts.read(tmp_path)
    assert [video.fps for video in source.videos] == [*rates] * 6
    assert [v.duration for v in source.videos] == [e["duration"] for e in database.values()]
    assert not source.lengthened
    for name, entry in database.items():  # on the layout's frame rate
        entry["duration"] = lengths[name] * 16 / 25
    text(tmp_path / "gt.json", {"database": database})
    assert {video.fps for video in layouts.read(tmp_path).videos} == {None}


@pytest.mark.parametrize("field", ["duration", "duration_second", "duration_seconds"])
def test_names_of_the_duration(tmp_path, field):
    actionformer(tmp_path)
    path = tmp_path / "annotations" / "thumos14.json"
    content = json.loads(path.read_text())
    for entry in content["database"].values():
        entry[field] = entry.pop("duration")
    text(path, content)
    source = layouts.read(tmp_path)
    assert [video.duration for video in source.videos] == [10.0, 10.0]
    assert not source.computed_durations


@pytest.mark.parametrize(
    ("fps", "annotation_fps", "rate"),
    [(30, 0, 30), (30, 50, 50), (float("inf"), 0, 25), (-1, 0, 25), ("x", 0, 25)],
)
def test_annotated_frames_are_of_the_entries_frame_rate(tmp_path, fps, annotation_fps, rate):
    """An `fps` that is no frame rate is ignored."""
    acmnet(tmp_path)
    content = json.loads((tmp_path / "gt.json").read_text())
    for entry in content["database"].values():
        entry["fps"] = fps
        entry["annotations"][0]["segment"] = [30, 135]
    text(tmp_path / "gt.json", content)
    source = layouts.read(tmp_path, unit="segment_frames", annotation_fps=annotation_fps)
    assert source.videos[0].segments.tolist() == [[30 / rate, 135 / rate]]


def test_lists_that_contradict(tmp_path):
    basnet(tmp_path)
    text(tmp_path / "split_train.txt", "a\nd\n")
    assert "1 listed videos are not in gt.json, d first" in layouts.read(tmp_path).notes
    text(tmp_path / "split_train.txt", "a\nb\n")
    with pytest.raises(JaxtalError, match=r"split_test\.txt: 'b' is in both; remove it from one"):
        layouts.read(tmp_path)


@pytest.mark.parametrize("word", ["val", "validation"])
def test_a_list_of_validation_videos(tmp_path, word):
    """Their features are in train, test, or a folder of their own."""
    acmnet(tmp_path)
    text(tmp_path / f"split_{word}.txt", "c\n")
    save(tmp_path / word / "c.npy", 8, 6)
    data = layouts.read(tmp_path).load()
    parts = {part: [video.name for video in videos] for part, videos in data.parts.items()}
    assert parts == {"train": ["a"], "validation": ["c"], "test": ["b"]}
    text(tmp_path / f"split_{word}.txt", "b\n")
    with pytest.raises(JaxtalError, match=rf"split_{word}\.txt: 'b' is in both; remove it"):
        layouts.read(tmp_path)


def test_durations_are_not_replaced_on_another_grid(tmp_path):
    """Neither if most are too short for the features, nor for rescaled features."""
    acmnet(tmp_path)
    entries = json.loads((tmp_path / "gt.json").read_text())
    entries["database"]["a"]["duration"] = 10.5
    text(tmp_path / "gt.json", entries)
    source = layouts.read(tmp_path)
    assert [video.duration for video in source.videos] == [10.5, 10.0]
    acmnet(tmp_path)
    source = layouts.read(tmp_path, time="rescaled")
    assert [video.duration for video in source.videos] == [12.9, 10.0]


def test_the_annotation_folder_stands_for_the_data_set(tmp_path):
    wanted = layout_cases.source(layout_cases.dataset(TimeGrid(30, 4, 16)))
    conversion.convert(wanted, "hamnet", tmp_path)
    assert load_annotations(tmp_path / "Tiny-Annotations").grid == TimeGrid(30, 4, 16)


def test_names_are_no_paths(tmp_path):
    write_wtalc(tmp_path)
    with pytest.raises(JaxtalError, match=r"the name of the data set: '\.\./x' cannot be a name"):
        layouts.read(tmp_path, name="../x")


def test_fields_that_actionformer_reads_are_written(tmp_path):
    wanted = layout_cases.source(layout_cases.dataset())
    conversion.convert(wanted, "actionformer", tmp_path)
    content = json.loads((tmp_path / "annotations" / "Tiny.json").read_text())
    entry = content["database"][wanted.videos[2].name]
    one = entry["annotations"][0]
    assert one["label_id"] == wanted.videos[2].segment_labels[0]
    assert one["segment(frames)"] == [25 * time for time in one["segment"]]
    assert (entry["fps"], entry["subset"]) == (25, "Validation")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("none")])
@pytest.mark.parametrize("name", ["split_train.txt", "split_val.txt", "jaxtal.json"])
def test_a_side_file_that_is_no_file_is_not_ignored(tmp_path, name, make):
    acmnet(tmp_path)
    path = tmp_path / (manifest.NAME if name == "jaxtal.json" else name)
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(JaxtalError, match=rf"{path.name}: (cannot be read|not a reg|No such)"):
        layouts.read(tmp_path)
