"""Timelines: a row per model under the ground truth, the height of a detection is its score."""

import numpy as np
import pytest
from matplotlib import image
from matplotlib.colors import to_rgba

from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.segments import Segments
from jaxtal.errors import DataError
from jaxtal.visualization.timelines import Variant, draw, find_frames


@pytest.fixture
def truth() -> Dataset:
    """Two videos of 12 s: Dive from 1 to 3; Dive from 1 to 3, Jump from 5 to 6."""
    spans = np.array([[1.0, 3.0], [5.0, 6.0]])
    none = np.empty((0, 2))
    videos = (
        Video("a", 12.0, np.array([0]), spans[:1], np.array([0]), none),
        Video("$b$", 12.0, np.array([0, 1]), spans, np.array([0, 1]), none),
    )
    return Dataset("Tiny", ("Dive", "Jump", "Swim"), (), videos)


def variant(name: str, curves: bool = True) -> Variant:
    """Detections of both videos, the second of them of a class without instances."""
    columns = ([0, 0, 1, 1], [0, 2, 0, 1], [1.0, 4.0, 1.0, 5.0], [3.0, 8.0, 2.0, 7.0])
    integers, times = (np.array(columns[:2]), np.array(columns[2:]))
    found = Segments(*integers, *times, np.array([0.8, 0.4, 0.02, 0.5]))
    if not curves:
        return Variant(name, found, {}, {})
    rng = np.random.default_rng(0)
    outputs = {"attention": rng.random((20, 1)), "scores": rng.random((1, 4))}
    both = {0: outputs, 1: outputs}
    return Variant(name, found, both, dict.fromkeys(both, rng.random((20, 3))))


def bars(axis) -> list[tuple]:
    return [
        (bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height(), bar.get_facecolor()[:3])
        for container in axis.containers
        for bar in container
    ]


def test_rows_and_bars(truth):
    figure = draw(truth, [0, 1], [variant("one"), variant("other", curves=False)], {})
    axes = figure.axes
    assert len(axes) == 2 * 3
    assert [axis.get_ylabel() for axis in axes] == ["ground truth", "one", "other"] * 2
    green, gray = to_rgba("C2")[:3], to_rgba("0.6")[:3]
    for axis in axes[1:3]:
        assert bars(axis) == [(1, 3, 1.0, green), (4, 8, pytest.approx(0.5), gray)]
    for axis in axes[4:]:  # the detection with 4 % of the best score is left out
        assert bars(axis) == [(5, 7, 1.0, to_rgba("C3")[:3])]
    assert [len(axis.lines) for axis in axes] == [0, 2, 0, 0, 3, 0]
    assert bars(draw(truth, [1], [variant("one")], {}, least=0.01).axes[1])[1][:2] == (1, 2)


def test_names_are_shown_as_they_are(truth, tmp_path):
    figure = draw(truth, [1], [variant("$x_$")], {})
    figure.savefig(tmp_path / "a.svg")  # a wrong formula would raise an error
    assert figure.axes[0].get_title(loc="left") == "$b$"


def test_frames_are_spread_over_the_video(truth, tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(24):
        picture = np.full((4, 6, 3), 10 * number, np.uint8)
        image.imsave(tmp_path / "a" / f"{number:03}.png", picture)
    frames = find_frames(tmp_path, {0: "a", 1: "$b$"})
    assert list(frames) == [0]
    strip = draw(truth, [0, 1], [variant("one")], frames).axes[0]
    shown = [round(255 * float(one.get_array()[0, 0, 0])) for one in strip.images]
    assert shown == [10 * int(24 * (2 * i + 1) / 20) for i in range(10)]
    assert [one.get_extent()[:2] for one in strip.images] == [
        pytest.approx([1.2 * i, 1.2 * (i + 1)]) for i in range(10)
    ]


def test_wrong_frames(truth, tmp_path):
    with pytest.raises(DataError, match=r"no pictures of these videos; wanted FOLDER/VIDEO"):
        find_frames(tmp_path, {0: "a"})
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png: not a picture"):
        draw(truth, [0], [variant("one")], find_frames(tmp_path, {0: "a"}))
