"""No corruption of a data set goes unnoticed: a finding or an error names each."""

import dataclasses

import numpy as np
import pytest

import jaxtal
from jaxtal.data import inputs, layouts
from jaxtal.data.dataset import Dataset, TimeGrid
from jaxtal.data.examination import examine
from jaxtal.data.reading import ReadingOptions
from jaxtal.data.validation import check_trainable
from jaxtal.errors import JaxtalError
from tests.conftest import ROOT
from tests.data.examination import corruptions
from tests.data.examination.corruptions import CORRUPTIONS, LAYOUTS, Corruption

CASES = [
    pytest.param(one, layout, id=f"{one.what}, {layout}".replace(" ", "_"))
    for one in CORRUPTIONS
    for layout in one.layouts
]


def findings(folder, **options) -> dict[str, str]:
    """Return {kind: severity} of what training finds in a data set."""
    dataset = layouts.read(folder, **options).load()
    check_trainable(dataset)
    return {one.kind: one.severity for one in examine(dataset)}


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> dict[str, dict[str, str]]:
    """Findings of the clean data set in each layout."""
    folder = tmp_path_factory.mktemp("clean")
    found = {}
    for layout in LAYOUTS:
        corruptions.write(folder / layout, corruptions.clean(), layout)
        found[layout] = findings(folder / layout)
    return found


def test_a_clean_data_set_has_no_findings(usual):
    """Only that the columns may be split otherwise, where layouts hold any encoder's features."""
    assert {layout for layout, found in usual.items() if found} <= {"opentad", "actionformer"}
    assert all(found.keys() <= {"assumed streams"} for found in usual.values())


@pytest.mark.parametrize(("corruption", "layout"), CASES)
def test_a_corruption_is_named(corruption: Corruption, layout: str, usual, tmp_path):
    rng = np.random.default_rng(1)
    corrupt = corruption.change(corruptions.clean(), rng)
    corruptions.write(tmp_path / "data", corrupt, layout)
    corruption.edit(tmp_path / "data")
    try:
        found = findings(tmp_path / "data", **corruption.options)
    except JaxtalError as error:
        message = str(error)
        assert any(words in message for words in corruption.kinds), message
        assert "\n" not in message
        return
    new = found.keys() - usual[layout].keys()
    assert new & set(corruption.kinds), (new, found)


@pytest.mark.parametrize("seed", range(1, 4))
def test_no_clean_data_set_has_findings(seed):
    dataset: Dataset = corruptions.clean(seed, count=5)
    assert not examine(dataset)


def test_the_documentation_lists_all():
    text = (ROOT / "docs" / "guides" / "data_check.md").read_text()
    assert len(CORRUPTIONS) >= 40
    assert len({one.what for one in CORRUPTIONS}) == len(CORRUPTIONS)
    for one in CORRUPTIONS:
        assert f"| {one.what} |" in text, one.what


CLEAN = corruptions.clean()

# What is stated about a corrupted data set to use it, and the clean one it must then equal.
FIXES = [
    ("features rescaled to 100 snippets", {"time": "rescaled"}, "acmnet"),
    ("durations and segments in frames", {"unit": "frames"}, "actionformer"),
    ("durations and segments in frames", {"unit": "frames"}, "wtalc"),
    ("segments in frames", {"unit": "segment_frames"}, "hamnet"),
    ("durations in frames", {"unit": "duration_frames"}, "opentad"),
    ("durations in frames", {"unit": "duration_frames"}, "wtalc"),
    (
        "durations and segments in frames, and a time grid is assumed that is not the features'",
        {"unit": "frames", "fps": 25, "stride": 16, "window": 16},
        "opentad",
    ),
    ("features with exchanged axes", {"axes": "DT"}, "opentad"),
    ("features with exchanged axes", {"axes": "DT"}, "wtalc"),
    ("features of ten crops", {"axes": "TCD"}, "acmnet"),
    ("features with an axis of length 1", {"axes": "1TD"}, "wtalc"),
    ("all flow features are zero", {"modality": "rgb"}, "basnet"),
    ("one stream in place of two", {"streams": 1}, "wtalc"),
    ("some videos of a third subset", {"test_subset": ("validation", "spare")}, "opentad"),
    (
        "every second snippet is missing (stride of 32 frames)",
        {"stride": 32, "window": 32},
        "acmnet",
    ),
    (
        "a time grid is assumed that is not the features'",
        {"fps": 25, "stride": 16, "window": 16},
        "opentad",
    ),
]


@pytest.mark.parametrize(("what", "options", "layout"), FIXES)
def test_the_stated_option_restores_the_data(what, options, layout, usual, tmp_path):
    """Without the finding, and with the times and features of the clean data set."""
    corruption = next(one for one in CORRUPTIONS if one.what == what)
    corrupt = corruption.change(CLEAN, np.random.default_rng(1))
    corruptions.write(tmp_path / "data", corrupt, layout)
    corruption.edit(tmp_path / "data")
    found = findings(tmp_path / "data", **options).keys() - usual[layout].keys()
    assert not found
    restored = layouts.read(tmp_path / "data", **options).load()
    assert restored.grid.of(restored.videos).to_seconds(
        [len(video.features) for video in restored.videos]
    ) == pytest.approx([video.duration for video in CLEAN.videos], abs=1.3)
    for video, wanted in zip(restored.videos, CLEAN.videos, strict=True):
        assert video.name == wanted.name
        assert video.duration == pytest.approx(wanted.duration, rel=1e-12)
        np.testing.assert_allclose(video.segments, wanted.segments, rtol=1e-12)
        if "rescaled" in what or "snippet is missing" in what:
            continue
        width = video.features.shape[1]
        np.testing.assert_array_equal(video.features, wanted.features[:, :width])
    assert restored.streams == (
        (1024,) if "modality" in options or "streams" in options else (1024, 1024)
    )


def test_rescaled_features_end_with_their_videos(tmp_path):
    corruption = next(one for one in CORRUPTIONS if one.kinds == ("rescaled features",))
    corrupt = corruption.change(CLEAN, np.random.default_rng(1))
    corruptions.write(tmp_path / "data", corrupt, "hamnet")
    dataset = layouts.read(tmp_path / "data", time="rescaled", features=None).load()
    ends = dataset.grid.of(dataset.videos).to_seconds([100] * len(dataset.videos))
    np.testing.assert_allclose(ends, [video.duration for video in CLEAN.videos], rtol=1e-12)
    half = dataset.grid.of(dataset.videos).to_seconds([50] * len(dataset.videos))
    np.testing.assert_allclose(2 * half, ends, rtol=1e-12)


def test_rescaled_is_stated_of_features_of_different_lengths(tmp_path, caplog):
    corruptions.write(tmp_path / "data", CLEAN, "acmnet")
    layouts.read(tmp_path / "data", time="rescaled")
    (record,) = caplog.records
    assert "time=rescaled, but the videos have " in record.getMessage()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_annotated_frames_may_have_another_rate(layout, tmp_path):
    """Segments in frames of 30 fps, features of 25 fps."""
    frames = corruptions.each(corruptions.segments(lambda video: video.segments * 30))
    corruptions.write(tmp_path / "data", frames(CLEAN, np.random.default_rng(0)), layout)
    options = {"unit": "segment_frames", "annotation_fps": 30.0}
    read = layouts.read(tmp_path / "data", **options).load()
    for video, wanted in zip(read.videos, CLEAN.videos, strict=True):
        np.testing.assert_allclose(video.segments, wanted.segments, rtol=1e-12)
        assert video.duration == pytest.approx(wanted.duration, rel=1e-12)


@pytest.mark.parametrize("unit", ["frames", "segment_frames"])
def test_durations_from_features_are_seconds_already(unit, tmp_path):
    frames = corruptions.each(corruptions.segments(lambda video: video.segments * 25))
    corruptions.write(tmp_path / "data", frames(CLEAN, np.random.default_rng(0)), "acmnet")
    corruptions.edit_json(
        lambda content: [entry.pop("duration") for entry in content["database"].values()]
    )(tmp_path / "data")
    read = layouts.read(tmp_path / "data", unit=unit).load()
    for video, wanted in zip(read.videos, CLEAN.videos, strict=True):
        np.testing.assert_allclose(video.segments, wanted.segments, rtol=1e-12)
        assert video.duration == pytest.approx(wanted.duration, rel=1e-12)


def test_a_number_of_frames_does_not_hide_durations_in_frames(tmp_path):
    """OpenTAD's "frame" over a duration that is in frames, too, is no frame rate."""
    frames = corruptions.each(
        lambda video: dataclasses.replace(
            video, duration=video.duration * 25, segments=video.segments * 25
        )
    )
    corruptions.write(tmp_path / "data", frames(CLEAN, np.random.default_rng(0)), "opentad")

    def count_frames(content):
        corruptions.drop_grid(content)
        for entry in content["database"].values():
            entry["frame"] = round(entry["duration"])

    corruptions.edit_json(count_frames)(tmp_path / "data")
    options = {"fps": 25.0, "stride": 16, "window": 16}
    assert "durations in frames" in findings(tmp_path / "data", **options)
    read = layouts.read(tmp_path / "data", unit="frames", **options).load()
    for video, wanted in zip(read.videos, CLEAN.videos, strict=True):
        np.testing.assert_allclose(video.segments, wanted.segments, rtol=1e-12)
        assert video.duration == pytest.approx(wanted.duration, rel=1e-12)


def test_statements_without_effect_are_errors(tmp_path):
    config = jaxtal.get_config("co2net_demo").data
    config.axes = "DT"
    with pytest.raises(JaxtalError, match="axes=DT has no effect: the videos are generated"):
        layouts.load_from_config(config)
    with pytest.raises(JaxtalError, match=r"axes=DT has no effect: it is in memory.*config\.data"):
        layouts.in_memory_from_config(CLEAN, config, "it is in memory")
    np.save(tmp_path / "a.npy", np.ones((9, 4), np.float32))
    options = ReadingOptions(time="rescaled")
    with pytest.raises(JaxtalError, match=r"time=rescaled has no effect: .* is not a data set"):
        inputs.in_path(tmp_path, TimeGrid(), options)


def test_features_rescaled_to_about_the_right_length(tmp_path):
    """The differences are small, but one number of snippets shows why there are any."""
    rng = np.random.default_rng(0)

    def rescale(video):
        seconds = float(rng.uniform(52, 76))  # 100 snippets last 64
        segments = video.segments / video.duration * seconds
        features = video.features[np.arange(100) % len(video.features)]
        return dataclasses.replace(video, features=features, duration=seconds, segments=segments)

    for layout in ("acmnet", "actionformer"):
        corruptions.write(tmp_path / layout, CLEAN.map(rescale), layout)
        corruptions.edit_json(corruptions.drop_grid)(tmp_path / layout)
        stated = {} if layout == "acmnet" else {"fps": 25.0, "stride": 16.0, "window": 16.0}
        assert findings(tmp_path / layout, **stated)["rescaled features"] == "error"
        assert "rescaled features" not in findings(tmp_path / layout, time="rescaled")


def test_statements_about_a_data_set_in_memory():
    config = jaxtal.get_config("co2net_demo").data
    assert layouts.in_memory_from_config(CLEAN, config, "").grid.times == CLEAN.grid.times
    config.update(fps=50.0, stride=8.0, modality="flow")
    found = layouts.in_memory_from_config(CLEAN, config, "")
    assert found.grid.times == (50, 8, 8)
    assert {video.fps for video in found.videos} == {None}
    half = CLEAN.feature_width // 2
    for video, whole in zip(found.videos, CLEAN.videos, strict=True):
        np.testing.assert_array_equal(video.features, whole.features[:, half:])
    config.update(fps=0.0, stride=0.0, time="rescaled")
    found = layouts.in_memory_from_config(CLEAN, config, "")
    ends = found.grid.of(found.videos).to_seconds([len(v.features) for v in found.videos])
    np.testing.assert_allclose(ends, [video.duration for video in CLEAN.videos])


def test_the_subsets_of_hamnet_may_be_stated(tmp_path):
    corruptions.write(tmp_path / "data", CLEAN, "hamnet")
    path = tmp_path / "data" / "gt.json"
    path.write_text(path.read_text().replace('"train"', '"fold_a"').replace('"test"', '"fold_b"'))
    subsets = tmp_path / "data" / "Mine-Annotations" / "subset.npy"
    np.save(subsets, np.repeat(np.array([b"fold_a", b"fold_b"]), len(CLEAN.train)))
    options = {"train_subset": ("fold_a",), "test_subset": ("fold_b",)}
    read = layouts.read(tmp_path / "data", **options).dataset
    assert [video.name for video in read.test] == [video.name for video in CLEAN.test]
