"""The W-TALC reader, and counts of real annotations; see also cli/test_bad_input.py."""

import os
import shutil

import numpy as np
import pytest

from jaxtal.data import layouts
from jaxtal.data.dataset import count_annotation_errors
from jaxtal.data.layouts import wtalc
from jaxtal.data.segments import ground_truth
from jaxtal.errors import JaxtalError
from tests.conftest import GOLDEN


def objects(values) -> np.ndarray:
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def write(folder, **changes):
    """Write a data set `Tiny` of four videos and two classes; `changes` replace whole files."""
    rng = np.random.default_rng(0)
    files = {
        "videoname": np.array([b"a", b"b", b"c", b"d"]),
        "subset": np.array([b"validation", b"validation", b"test", b"test"]),
        "classlist": np.array([b"Dive", b"Jump"]),
        "labels": objects([["Jump"], ["Dive", "Jump"], ["Dive"], []]),
        "labels_all": objects([["Jump"], ["Jump", "Dive"], ["Dive"], []]),
        "segments": objects([[[0.5, 1.5]], [[1, 2], [3, 4.5]], [[0, 2]], []]),
        "duration": np.array([[7.0], [9.0], [5.0], [6.0]]),
        "features": objects([rng.random((n, 6)).astype(np.float16) for n in (10, 14, 7, 9)]),
    } | changes
    annotations = folder / "Tiny-Annotations"
    annotations.mkdir(exist_ok=True)
    for name, value in files.items():
        path = annotations / f"{name}.npy"
        if name == "features":
            path = folder / "Tiny-I3D-JOINTFeatures.npy"
        if value is not None:
            np.save(path, value)
    return folder


def test_reads_everything(tmp_path):
    (write(tmp_path) / "Tiny-Annotations" / "Ambiguous_test.txt").write_text("c  0.5 1.0\n\n")
    data = wtalc.read(tmp_path, "Tiny")
    assert data.classes == ("Dive", "Jump")
    assert [video.name for video in data.train] == ["a", "b"]
    assert [video.name for video in data.test] == ["c", "d"]
    second = data.train[1]
    assert second.duration == 9
    assert second.labels.tolist() == [0, 1]
    assert second.segment_labels.tolist() == [0, 1]
    assert second.segments.tolist() == [[1, 2], [3, 4.5]]
    assert data.test[0].ambiguous.tolist() == [[0.5, 1]]
    assert data.test[1].segments.shape == (0, 2)
    assert second.features.shape == (14, 6)
    assert second.features.dtype == np.float16
    assert data.feature_width == 6


def test_activitynet_subsets_flat_durations_and_float32(tmp_path):
    features = objects([np.ones((3, 4), np.float32) for _ in range(4)])
    write(tmp_path, subset=np.array(["training", "validation", "validation", "testing"]),
          duration=np.arange(1.0, 5), features=features)  # fmt: skip
    data = wtalc.read(tmp_path, "Tiny")
    assert [video.name for video in data.train] == ["a"]
    assert [video.name for video in data.test] == ["b", "c"]
    assert data.test[1].duration == 3
    assert data.train[0].features.dtype == np.float32


def test_missing_files_are_named_with_the_layout(tmp_path):
    with pytest.raises(
        JaxtalError, match=r"Tiny-Annotations/videoname\.npy is missing, and 7 more"
    ) as e:
        wtalc.read(tmp_path, "Tiny")
    assert "Tiny-I3D-JOINTFeatures.npy (object array of (T, 2D) float features" in str(e.value)
    write(tmp_path)
    (tmp_path / "Tiny-I3D-JOINTFeatures.npy").unlink()
    with pytest.raises(JaxtalError, match=r"Tiny-I3D-JOINTFeatures.npy is missing; looked for"):
        wtalc.read(tmp_path, "Tiny")


def test_streams_in_separate_files(tmp_path):
    write(tmp_path)
    joint = wtalc.read(tmp_path, "Tiny")
    features = np.load(tmp_path / "Tiny-I3D-JOINTFeatures.npy", allow_pickle=True)
    (tmp_path / "Tiny-I3D-JOINTFeatures.npy").unlink()
    for name, columns in (("RGB", slice(0, 3)), ("FLOW", slice(3, 6))):
        part = objects([video[:, columns] for video in features])
        np.save(tmp_path / f"Tiny-I3D-{name}Features.npy", part)
    apart = wtalc.read(tmp_path, "Tiny")
    for ours, wanted in zip((*apart.train, *apart.test), (*joint.train, *joint.test), strict=True):
        np.testing.assert_array_equal(ours.features, wanted.features)
        assert ours.features.dtype == wanted.features.dtype


@pytest.mark.parametrize("entry", [[[1, 2], [3]], [["x" * 1000, 2]] * 1000, 5, "ab", {"a": 1}])
def test_segments_of_another_form(tmp_path, entry):
    """They are rejected without an array of all of them, which may exceed the memory."""
    write(tmp_path, segments=objects([[[0.5, 1.5]], entry, [[0, 2]], []]))
    with pytest.raises(JaxtalError, match=r"video b: segments must be|rejected.* a dict"):
        wtalc.read(tmp_path, "Tiny")


@pytest.mark.parametrize(
    "changes",
    [
        {"duration": objects([[True], [9.0], [5.0], [6.0]])},
        {"duration": np.array([[True]] * 4)},
        {"segments": objects([[[True, 2.0]], [[1, 2], [3, 4.5]], [[0, 2]], []])},
        {"segments": objects([np.array([[False, True]]), [[1, 2], [3, 4.5]], [[0, 2]], []])},
    ],
)
def test_true_and_false_are_no_numbers(tmp_path, changes):
    write(tmp_path, **changes)
    with pytest.raises(JaxtalError, match=r"video a: (duration is|segments must be)"):
        wtalc.read(tmp_path, "Tiny")


@pytest.mark.parametrize(
    "name", ["Tiny-I3D-JOINTFeatures.npy", "Tiny-Annotations/Ambiguous_test.txt"]
)
def test_a_side_file_that_is_no_file_is_not_ignored(tmp_path, name):
    write(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(JaxtalError, match=r"cannot be read|is missing"):
        wtalc.read(tmp_path, "Tiny")


def test_segments_that_cannot_be_right_are_counted(tmp_path):
    segments = [[[5, 5.5], [7.5, 8]], [[-2, -1], [4, 3]], [[0, 9]], [[2, 2]]]
    labels = [["Jump"] * 2, ["Dive"] * 2, ["Dive"], ["Jump"]]
    write(tmp_path, segments=objects(segments), labels=objects(labels))
    data = wtalc.read(tmp_path, "Tiny")
    assert count_annotation_errors(data.train) == {"outside": 2, "reversed": 1, "total": 4}
    assert count_annotation_errors(data.test) == {"outside": 0, "reversed": 0, "total": 2}
    assert data.train[1].segments.tolist() == [[-2, -1], [4, 3]]


def test_thumos_needs_its_ambiguous_intervals(tmp_path):
    write(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / path.name.replace("Tiny", "Thumos14reduced"))
    with pytest.raises(JaxtalError, match=r"Ambiguous_test\.txt is missing"):
        wtalc.read(tmp_path, "Thumos14reduced")


def test_thumos14(thumos14):
    data = wtalc.read(thumos14, "Thumos14reduced", features=False)
    assert len(data.classes) == 20
    assert data.classes[0] == "BaseballPitch"
    assert (len(data.train), len(data.test)) == (200, 212)
    assert sum(len(video.segments) for video in data.train) == 3007
    assert sum(len(video.segments) for video in data.test) == 3358
    assert [sum(len(v.labels) == n for v in data.train) for n in (1, 2)] == [179, 21]
    assert [sum(len(v.labels) == n for v in data.test) for n in (0, 1, 2, 3)] == [1, 181, 29, 1]
    assert sum(len(video.ambiguous) for video in data.test) == 96
    hours = [sum(video.duration for video in part) / 3600 for part in (data.train, data.test)]
    np.testing.assert_allclose(hours, [11.61, 12.76], atol=0.005)
    videos = (*data.train, *data.test)
    assert count_annotation_errors(videos) == {"outside": 30, "reversed": 0, "total": 6365}
    unlabeled = [(~np.isin(v.segment_labels, v.labels)).sum() for v in videos]
    assert (sum(unlabeled[:200]), sum(unlabeled[200:])) == (30, 120)
    # Boundaries at exactly half a snippet, where the rounding rule matters.
    times = np.concatenate([v.segments.ravel() for v in data.test])
    half = np.abs(data.grid.to_snippets(times) % 1 - 0.5) < 1e-6
    assert (len(times), half.sum()) == (6716, 225)
    up = np.floor(data.grid.to_snippets(times) + 0.5)
    assert (up != data.grid.round_to_snippets(times)).sum() == 100


def test_activitynet12(shared):
    data = wtalc.read(shared / "activitynet", "ActivityNet1.2", features=False)
    assert len(data.classes) == 100
    assert (len(data.train), len(data.test)) == (4819, 2383)
    assert sum(len(video.segments) for video in data.train) == 7151
    assert sum(len(video.segments) for video in data.test) == 3582
    assert count_annotation_errors((*data.train, *data.test)) == {
        "outside": 0,
        "reversed": 0,
        "total": 10733,
    }
    stored = np.load(GOLDEN / "evaluation" / "activitynet12_validation.npz", allow_pickle=False)
    truth = ground_truth(data.test)
    assert stored["wtalc_names"].tolist() == [video.name for video in data.test]
    assert stored["duration"].tolist() == [video.duration for video in data.test]
    assert stored["classes"].tolist() == list(data.classes)
    for name in ("video", "start", "end"):
        np.testing.assert_array_equal(stored[f"gt_{name}"], getattr(truth, name))
    np.testing.assert_array_equal(stored["gt_class"], truth.label)


def test_recordings(shared, tmp_path):
    data = wtalc.read(shared / "audio_wtal", "AudioWTAL")
    assert (len(data.train), len(data.test), len(data.classes)) == (160, 80, 10)
    assert data.feature_width == 256
    assert all(video.features.dtype == np.float16 for video in data.train)
    # The error of a truncated file names it.
    for path in (shared / "audio_wtal").glob("AudioWTAL*"):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, tmp_path / path.name)
    features = tmp_path / "AudioWTAL-I3D-JOINTFeatures.npy"
    features.write_bytes(features.read_bytes()[:100_000])
    with pytest.raises(JaxtalError, match=r"JOINTFeatures\.npy: not a complete \.npy file"):
        wtalc.read(tmp_path, "AudioWTAL")


@pytest.mark.parametrize("how", ["shortened", "overwritten", "replaced", "deleted"])
def test_a_joint_file_that_changes_while_it_is_read(tmp_path, how):
    source = layouts.read(write(tmp_path))
    path = next(tmp_path.glob("*JOINT*"))
    videos = source.iter_videos()
    next(videos)
    content = path.read_bytes()
    if how == "shortened":
        os.truncate(path, 100)
    elif how == "overwritten":
        path.write_bytes(content[:-1] + b"x")
    elif how == "replaced":
        (tmp_path / "new").write_bytes(content)
        os.replace(tmp_path / "new", path)
    else:
        path.unlink()
    with pytest.raises(
        JaxtalError, match=r"JOINTFeatures\.npy: changed while it was in use; repeat"
    ):
        next(videos)
