"""Findings: how they are reported, and single checks of the examination."""

import dataclasses

import numpy as np
import pytest

from jaxtal.data.dataset import TimeGrid
from jaxtal.data.examination import examine
from jaxtal.data.examination.facts import Facts
from jaxtal.data.findings import ERROR, NOTE, WARNING, Finding, by_severity, report
from jaxtal.errors import JaxtalError
from tests.data.examination import corruptions
from tests.data.examination.corruptions import clean

NOTED = Finding("withheld", NOTE, "a note")
WARNED = Finding("zeros", WARNING, "two zeros; state modality=rgb", ("a", "b"))
WRONG = Finding("grid", ERROR, "wrong grid; state fps=25 stride=16")


def test_only_errors_stop(caplog):
    report([NOTED, WARNED], "mine")
    assert caplog.messages == ["mine: two zeros; state modality=rgb"]
    with pytest.raises(JaxtalError, match=r"^mine: wrong grid; state fps=25 stride=16$"):
        report([WRONG, WARNED, NOTED], "mine")


def test_strict_makes_warnings_errors(caplog):
    with pytest.raises(JaxtalError, match="two zeros"):
        report([WARNED, NOTED], "mine", strict=True)
    with pytest.raises(JaxtalError, match=r"wrong grid.* \(1 more: zeros\)"):
        report([WRONG, WARNED], "mine", strict=True)
    report([NOTED], "mine", strict=True)
    assert not caplog.messages


def test_options_are_spelled_as_they_are_given():
    with pytest.raises(JaxtalError, match=r"state config\.data\.fps=25 config\.data\.stride=16"):
        report([WRONG], "mine", prefix="config.data.")


def test_errors_come_first_and_examples_are_few():
    assert by_severity([NOTED, WRONG, WARNED]) == [WRONG, WARNED, NOTED]
    many = dataclasses.replace(WARNED, examples=tuple("abcdefg"))
    assert many.to_json()["count"] == 7
    assert many.to_json()["first"] == list("abcde")


def naive_facts(features: np.ndarray, border: int) -> tuple:
    """Return zeros, zero streams and constancy by definition."""
    streams = features[:, :border], features[:, border:]
    return (
        sum(not row.any() for row in features),
        [not stream.any() for stream in streams],
        len(features) > 1 and all((row == features[0]).all() for row in features),
    )


@pytest.mark.parametrize("seed", range(40))
def test_facts_of_few_columns_are_those_of_all(seed):
    """Zeros that the sampled columns suggest are looked for in all columns."""
    rng = np.random.default_rng(seed)
    length, width = int(rng.integers(1, 12)), int(rng.integers(2, 70))
    border = int(rng.integers(1, width))
    features = (rng.random((length, width)) * (rng.random((length, width)) < 0.05)).astype("f4")
    features[rng.random(length) < 0.3] = 0
    if seed % 3 == 0:
        features[:, :border] = 0
    if seed % 5 == 0:
        features = np.repeat(features[:1], length, axis=0)
    facts = Facts.unknown(1)
    facts.add(0, features, (border, width - border))
    zeros, streams, constant = naive_facts(features, border)
    assert facts.zeros[0] == zeros
    assert facts.zero_streams[0].tolist() == streams
    assert facts.constant[0] == constant
    assert (facts.snippets[0], facts.widths[0]) == (length, width)


@pytest.mark.parametrize("share", [0.0, 0.09, 0.2, 0.6, 1.0])
def test_the_share_of_videos_that_differ_decides(share):
    data = clean(5, 50)
    count = round(share * 100)
    changed = [
        dataclasses.replace(video, duration=2 * video.duration) if index < count else video
        for index, video in enumerate(data.videos)
    ]
    data = dataclasses.replace(data, train=tuple(changed[:50]), test=tuple(changed[50:]))
    kinds = {one.kind for one in examine(data) if one.severity != NOTE}
    wanted = {
        0.0: set(),
        0.09: {"features much longer or shorter than the video"},
        0.2: {"features much longer or shorter than the video"},
        0.6: {"time that does not fit", "instances at the beginning only"},  # of all in training
        1.0: {"other time grid", "instances at the beginning only"},
    }[share]
    assert kinds == wanted


@pytest.mark.parametrize(
    "grid", [TimeGrid(30, 4, 16), TimeGrid(25, 8, 16), TimeGrid(10, 16), TimeGrid(25, 64)]
)
def test_a_known_grid_is_named(grid):
    """Videos of the durations that features on `grid` have, read as 16 frames at 25 fps."""
    data = clean(3, 20).map(
        lambda video: dataclasses.replace(
            video,
            duration=float(grid.to_seconds(len(video.features))),
            segments=video.segments * float(grid.to_seconds(len(video.features))) / video.duration,
        )
    )
    (found,) = [one for one in examine(data) if one.severity != NOTE]
    assert found.kind == "other time grid"
    assert f"fps={grid.fps:g} stride={grid.stride:g} window={grid.window:g}" in found.message
    assert not examine(dataclasses.replace(data, grid=grid))


def test_a_stride_that_fits_on_the_videos_own_frame_rates():
    rates = np.array([25.0, 30.0, 60.0])
    videos = [
        dataclasses.replace(
            video, fps=rates[index % 3], duration=len(video.features) * 16 / rates[index % 3],
            segments=video.segments * 25 / rates[index % 3],
        )
        for index, video in enumerate(clean(3, 20).videos)
    ]  # fmt: skip
    data = dataclasses.replace(
        clean(3, 20), train=tuple(videos[:20]), test=tuple(videos[20:]), grid=TimeGrid(30, 4, 16)
    )
    (found,) = examine(data)
    assert (found.kind, found.severity) == ("other time grid", ERROR)
    assert "state stride=16 window=16" in found.message
    assert "fps=" not in found.message
    assert not examine(dataclasses.replace(data, grid=TimeGrid(30, 16)))


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.03, 1.3])
def test_grids_that_are_not_known_are_measured(factor):
    """The advice is the length of a snippet, never a grid that fits only about."""
    data = clean(3, 20).map(
        lambda video: dataclasses.replace(
            video, duration=factor * video.duration, segments=factor * video.segments
        )
    )
    found = [one for one in examine(data) if one.severity != NOTE]
    assert len(found) == (factor != 1)
    for one in found:
        assert f"a snippet lasts {0.64 * factor:.4g} s of video" in one.message


def test_features_that_lack_the_last_snippet_are_no_finding():
    """Frames at the end that fill no snippet have no features."""
    data = clean(3, 20)
    assert not examine(data.map(lambda v: dataclasses.replace(v, duration=v.duration + 0.6)))


def without_labels(video):
    return dataclasses.replace(video, labels=np.empty(0, np.int64))


def of_zeros(video):
    return dataclasses.replace(video, features=0 * video.features)


@pytest.mark.parametrize(
    ("of_first", "of_others", "kind"),
    [
        (without_labels, without_labels, "no training label"),
        (of_zeros, of_zeros, "zero features"),
        (of_zeros, without_labels, "zero features"),
    ],
)
def test_nothing_to_learn_from(of_first, of_others, kind):
    """Also if the labeled videos are those of zeros."""
    data = clean(2, 6)
    train = (*map(of_first, data.train[:3]), *map(of_others, data.train[3:]))
    found = examine(dataclasses.replace(data, train=train))
    assert [one.kind for one in found if one.severity == ERROR] == [kind]
    assert "nothing to learn from" in found[0].message


@pytest.mark.parametrize("seconds", [1e-300, 1e300])
def test_extreme_durations_are_findings_without_warnings_of_numpy(seconds):
    change = corruptions.each(corruptions.duration(lambda _: seconds))
    found = examine(change(clean(), None))
    assert any(finding.severity == "error" for finding in found)
