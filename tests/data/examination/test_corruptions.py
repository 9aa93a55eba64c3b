"""No corruption of a data set goes unnoticed: a finding or an error names each."""

import numpy as np
import pytest

from jaxtal.data import layouts
from jaxtal.data.dataset import Dataset
from jaxtal.data.examination import examine
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
