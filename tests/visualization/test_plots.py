"""Figures of videos and training, also of empty and partial runs."""

import errno
import json
import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from configs import d2net_thumos, twostream_thumos
from jaxtal.data.dataset import Dataset, TimeGrid, Video
from jaxtal.data.io.feature_files import FeatureFile
from jaxtal.data.segments import Segments, concatenate
from jaxtal.errors import DataError
from jaxtal.inference.model import VideoPrediction
from jaxtal.methods import d2net, twostream
from jaxtal.methods.co2net import METHOD
from jaxtal.training import metrics_file
from jaxtal.visualization import plots

CONFIG = twostream_thumos.get_config()


@pytest.fixture
def dataset() -> Dataset:
    empty = np.empty((0, 2))
    videos = tuple(
        Video(f"v{i}", 12.8, np.array([i]), np.array([[1.0, 3.0], [5.0, 6.0]][: i + 1]),
              np.array([i] * (i + 1)), empty, np.ones((20, 2)))
        for i in range(2)
    )  # fmt: skip
    return Dataset("Tiny", ("Dive", "Jump"), (), videos)


def outputs():
    rng = np.random.default_rng(0)
    names = ("attention", "attention_rgb", "attention_flow")
    curves = {name: rng.random((20, 1)) for name in names}
    return {"cas": rng.normal(size=(20, 3)), **curves}


def test_videos_show_truth_and_detections_of_every_class(dataset):
    found = Segments(np.array([0, 0]), np.array([1, 0]), np.array([1.28, 5.12]),
                     np.array([2.56, 5.76]), np.array([0.9, 0.3]))  # fmt: skip
    figure = plots.draw_videos(CONFIG, dataset, [0, 1], METHOD, [outputs(), outputs()], found)
    first, second = figure.axes
    lanes = [label.get_text() for label in first.get_yticklabels()]
    assert lanes == ["0", "0.5", "1", "Dive", "Jump"]
    assert "best detection: Jump" in first.get_title(loc="left")
    bars = [(b.get_x(), b.get_width(), b.get_alpha()) for b in first.patches if b.get_width()]
    np.testing.assert_allclose(
        sorted(bars), [(1.0, 2.0, 1.0), (1.28, 1.28, 1.0), (5.12, 0.64, 1 / 3)], rtol=1e-6
    )
    assert second.get_xlim() == (0, 12.8)
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"ground truth", "detections (opacity = score)", "attention, rgb"} <= legend


def test_the_activation_of_a_class_is_the_methods_own(dataset):
    """D2-Net's T-CAM are probabilities, CO2-Net's are logits with a background column."""
    cas = np.linspace(0.1, 0.9, 40).reshape(20, 2)
    output = {"attention": np.ones((20, 1)), "cas": cas}
    nothing = concatenate([])
    config = d2net_thumos.get_config()
    figure = plots.draw_videos(config, dataset, [1], d2net.METHOD, [{}, output], nothing)
    np.testing.assert_allclose(heights(figure), cas[:, 1])
    figure = plots.draw_videos(CONFIG, dataset, [1], METHOD, [{}, outputs()], nothing)
    logits = np.exp(outputs()["cas"])
    np.testing.assert_allclose(heights(figure), logits[:, 1] / logits.sum(axis=1))


def heights(figure) -> np.ndarray:
    """Return the upper edge of the filled T-CAM."""
    (area,) = figure.axes[0].collections
    x, y = area.get_paths()[0].vertices.T
    return np.array([y[x == value].max() for value in np.unique(x)])


def test_videos_without_detections(dataset):
    figure = plots.draw_videos(CONFIG, dataset, [0], METHOD, [outputs()], concatenate([]))
    assert "no detection; T-CAM: Dive" in figure.axes[0].get_title(loc="left")


def test_an_unlabeled_video():
    """No ground truth, a lane per class of the best detections; names are not parsed as math."""
    rng = np.random.default_rng(0)
    classes = [f"$class {index}$" for index in range(9)]
    output = outputs() | {"cas": rng.normal(size=(20, 10))}
    label, start = np.repeat(np.arange(9), 2), np.tile([1.0, 5.0], 9)
    found = Segments(np.zeros(18, int), label, start, start + 2, np.arange(18) / 18)
    video = FeatureFile("a_$1", (40, 4), lambda: None, "")
    grid = TimeGrid(25, 8, 8)
    score_spec = METHOD.score_spec(CONFIG)
    figure = plots.draw_found(VideoPrediction(video, output, found, grid), score_spec, classes)
    (axis,) = figure.axes
    lanes = [label.get_text() for label in axis.get_yticklabels()]
    assert lanes == ["0", "0.5", "1", *classes[3:]]
    assert axis.get_title(loc="left") == "a_$1; best detection: $class 8$"
    assert axis.get_xlim() == (0, 12.8)
    assert len([bar for bar in axis.patches if bar.get_width()]) == 12
    assert "ground truth" not in {text.get_text() for text in figure.legends[0].get_texts()}
    figure.draw_without_rendering()
    nothing = VideoPrediction(video, output, concatenate([]), grid)
    figure = plots.draw_found(nothing, score_spec, classes)
    best = classes[np.argmax(score_spec.activations(output).mean(axis=0))]
    assert figure.axes[0].get_title(loc="left") == f"a_$1; no detection; T-CAM: {best}"


def test_picked_videos_show_different_classes(dataset):
    assert sorted(plots.pick_videos(dataset, [0, 1], 4)) == [0, 1]
    assert len(plots.pick_videos(dataset, [0, 1], 1)) == 1
    assert plots.pick_videos(dataset, [1], 4) == [1]


def test_training_curves_without_lines_and_with_gaps():
    assert len(plots.draw_training([]).axes) == 2
    line = {"average": {"0.1:0.7": None}, "map": {}, "classification_map": None}
    metrics = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": None}, {"step": 2, **line}]
    figure = plots.draw_training([json.loads(metrics_file.to_text(each)) for each in metrics])
    assert [curve.get_label() for curve in figure.axes[0].lines] == ["loss"]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1.0, np.nan])


def test_rows_of_several_snippets_have_the_right_times(dataset):
    """A subsampled video: 5 rows of its 20 snippets."""
    rng = np.random.default_rng(0)
    names = ("attention", "attention_context", "attention_background")
    output = {"cas": rng.random((5, 3))} | {name: rng.random((5, 1)) for name in names}
    figure = plots.draw_videos(
        CONFIG, dataset, [1], twostream.METHOD, [{}, output], concatenate([])
    )
    probability = np.exp(output["cas"])
    probability /= probability.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(heights(figure), probability[:, 1])
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"attention", "attention, context", "attention, background"}
    for line in lines.values():
        np.testing.assert_allclose(line.get_xdata(), 0.64 * np.array([2, 6, 10, 14, 18]))


def test_a_figure_on_a_full_disk_keeps_the_earlier_one(tmp_path, monkeypatch):
    path = tmp_path / "errors.png"
    plots.save(Figure(), path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"errors\.png: cannot be written \(No space left"):
        plots.save(Figure(), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["errors.png"]


@pytest.mark.parametrize(
    ("name", "begins"), [("a.PDF", b"%PDF"), ("a.svg", b"<?xml"), ("a", b"\x89PNG")]
)
def test_the_ending_is_the_format(tmp_path, name, begins):
    plots.save(Figure(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.parametrize("name", ["a.txt", "a.pgf"])
def test_a_file_that_is_no_figure(tmp_path, name):
    with pytest.raises(DataError, match=r"not the name of a figure; wanted \.png, \.pdf or \.svg"):
        plots.save(Figure(), tmp_path / name)
    assert os.listdir(tmp_path) == []
