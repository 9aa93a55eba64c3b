"""Streams of a data set: statements of the user and of files, and what the reader makes of them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import co2net_demo
from jaxtal.data import conversion, inputs, layouts
from jaxtal.data.dataset import TimeGrid
from jaxtal.data.lazy_dataset import with_streams
from jaxtal.data.reading import ReadingOptions
from jaxtal.data.validation import validated
from jaxtal.errors import DataError
from tests.data.layouts.test_layouts import basnet, save
from tests.data.layouts.test_wtalc import objects
from tests.data.layouts.test_wtalc import write as write_wtalc
from tests.helpers import layout_cases


def of_width(width: int):
    """Return a data set in memory and the same as a lazy one, with features of this width."""
    rng = np.random.default_rng(width)
    data = layout_cases.dataset().map(
        lambda video: dataclasses.replace(
            video, features=rng.random((len(video.features), width)).astype(np.float32)
        )
    )
    return data, layout_cases.source(data)


@given(first=st.integers(1, 6), second=st.integers(1, 6), modality=st.sampled_from(["rgb", "flow"]))
def test_a_modality_is_the_columns_of_its_stream(first, second, modality):
    data, source = of_width(first + second)
    options = ReadingOptions(stream_widths=(first, second), modality=modality)
    loaded = with_streams(source, options).load()
    part = slice(first) if modality == "rgb" else slice(first, None)
    assert loaded.stream_widths == loaded.streams == ((first, second)[modality == "flow"],)
    for ours, theirs in zip(loaded.videos, data.videos, strict=True):
        np.testing.assert_array_equal(ours.features, theirs.features[:, part])
        assert ours.features.base is None  # the other columns are not kept in memory


@given(width=st.integers(1, 9), cut=st.integers(0, 8))
def test_statements_agree_with_the_width_or_are_refused(width, cut):
    data, source = of_width(width)
    one = with_streams(source, ReadingOptions(streams=1))
    assert (one.dataset.stream_widths, one.has_streams) == ((width,), True)
    assert one.load().streams == validated(one.load()).streams == (width,)
    assert with_streams(source, ReadingOptions(stream_widths=(width,))).load().streams == (width,)
    with pytest.raises(DataError, match=rf"{width} features a snippet, but .*{width + 1};.*=1"):
        with_streams(source, ReadingOptions(stream_widths=(width + 1,)))
    if 0 < cut < width:
        two = with_streams(source, ReadingOptions(stream_widths=(cut, width - cut))).load()
        assert two.streams == (cut, width - cut)
    if width % 2:
        wanted = "an even number, RGB then flow, or streams=1 .* stream_widths="
        for load in (source.load, lambda: validated(data)):
            with pytest.raises(DataError, match=wanted):
                load()
    else:
        assert source.load().streams == (width // 2,) * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streams": 3}, "streams=3; wanted 1, or 2"),
        ({"streams": 1, "stream_widths": (2, 4)}, "streams=1, but .* two, 2 . 4; omit"),
        ({"streams": 1, "modality": "rgb"}, "modality=rgb selects one of two streams"),
        ({"stream_widths": (6,), "modality": "flow"}, "modality=flow selects one of two streams"),
        ({"stream_widths": (1, 2, 3)}, r"stream_widths is \(1, 2, 3\); wanted"),
        ({"stream_widths": (6, 0)}, r"stream_widths is \(6, 0\); wanted"),
        ({"stream_widths": (2, 3)}, "6 features a snippet, but .*together 5; wanted streams=1"),
    ],
    ids=str,
)
def test_contradictions(options, message):
    with pytest.raises(DataError, match=message):
        with_streams(of_width(6)[1], ReadingOptions(**options))


def test_streams_of_data_sets_in_memory_are_validated():
    data, _ = of_width(6)
    assert validated(dataclasses.replace(data, stream_widths=[2, 4])).stream_widths == (2, 4)
    with pytest.raises(DataError, match=r"6 features a snippet, but the streams are 2 \+ 3 wide"):
        validated(dataclasses.replace(data, stream_widths=(2, 3)))
    with pytest.raises(DataError, match="stream_widths is 'rgb'; wanted"):
        validated(dataclasses.replace(data, stream_widths="rgb"))
    assert "2 + 4 features a snippet" in repr(dataclasses.replace(data, stream_widths=(2, 4)))


def test_a_video_of_another_width_has_no_modality():
    data, _ = of_width(6)
    first, *others = data.train
    wide = np.ones((5, 8), np.float32)
    source = layout_cases.source(
        dataclasses.replace(data, train=(*others, dataclasses.replace(first, features=wide)))
    )
    with pytest.raises(DataError, match="8 features a snippet, but others have 6"):
        with_streams(source, ReadingOptions(modality="rgb")).load()


def test_separate_files_of_different_width(tmp_path):
    basnet(tmp_path)
    for subset, video in (("train", "a"), ("test", "b")):
        save(tmp_path / f"features/{subset}/flow/{video}.npy", 20, 5)
    source = layouts.read(tmp_path)
    assert source.has_streams
    assert source.load().streams == (3, 5)
    rgb, flow = (layouts.read(tmp_path, modality=name).load() for name in ("rgb", "flow"))
    assert (rgb.streams, flow.streams) == ((3,), (5,))
    np.testing.assert_array_equal(
        flow.train[0].features, np.load(tmp_path / "features/train/flow/a.npy")
    )
    save(tmp_path / "features/train/flow/a.npy", 19, 5)
    with pytest.raises(DataError, match=r"RGB features are 20 x 3 .*flow features 19 x 5"):
        layouts.read(tmp_path).load()


def test_rgb_and_flow_files_of_the_wtalc_layout(tmp_path):
    write_wtalc(tmp_path)
    plain = layouts.read(tmp_path)
    assert (plain.dataset.stream_widths, plain.has_streams) == ((), False)
    features = np.load(tmp_path / "Tiny-I3D-JOINTFeatures.npy", allow_pickle=True)
    (tmp_path / "Tiny-I3D-JOINTFeatures.npy").unlink()
    for name, columns in (("RGB", slice(0, 2)), ("FLOW", slice(2, 6))):
        part = objects([video[:, columns] for video in features])
        np.save(tmp_path / f"Tiny-I3D-{name}Features.npy", part)
    source = layouts.read(tmp_path)
    assert source.has_streams
    assert source.load().streams == (2, 4)


@pytest.mark.parametrize("layout", [name for name in conversion.LAYOUTS if name != "activitynet"])
@pytest.mark.parametrize("streams", [(6,), (2, 4)], ids=str)
def test_a_conversion_keeps_the_streams(tmp_path, layout, streams):
    data, _ = of_width(6)
    source = layout_cases.source(dataclasses.replace(data, stream_widths=streams))
    if layout == "basnet" and len(streams) == 1:
        with pytest.raises(DataError, match=r"one stream of 6 .* give another layout="):
            conversion.convert(source, layout, tmp_path / "new")
        return
    conversion.convert(source, layout, tmp_path / "new")
    found = layouts.read(tmp_path / "new")
    assert found.has_streams
    assert found.load().streams == streams
    layout_cases.assert_same(found, source)


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_a_modality_of_bare_feature_files(tmp_path, modality):
    joint = save(tmp_path / "joint/a.npy", 9, 6)
    for name, part in (("rgb", joint[:, :2]), ("flow", joint[:, 2:])):
        (tmp_path / f"apart/{name}").mkdir(parents=True)
        np.save(tmp_path / f"apart/{name}/a.npy", part)
    part = joint[:, :2] if modality == "rgb" else joint[:, 2:]
    for folder, widths in (("joint", (2, 4)), ("apart", ())):
        options = ReadingOptions(stream_widths=widths, modality=modality)
        (read,) = inputs.in_path(tmp_path / folder, TimeGrid(), options).reads
        assert read().shape == part.shape
        np.testing.assert_array_equal(read().read(), part)


def test_streams_of_generated_videos():
    config = co2net_demo.get_config().data
    config.generator = "demo num_train=3 num_test=2 num_classes=2 feature_width=4 max_snippets=60"
    whole = layouts.load_from_config(config)
    assert (whole.stream_widths, whole.streams) == ((), (4, 4))
    config.streams = 1
    assert layouts.load_from_config(config).streams == (8,)
    config.update(streams=2, modality="flow")
    flow = layouts.load_from_config(config)
    assert flow.streams == (4,)
    for ours, theirs in zip(flow.videos, whole.videos, strict=True):
        np.testing.assert_array_equal(ours.features, theirs.features[:, 4:])
