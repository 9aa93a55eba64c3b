"""Timelines of several models in the same videos, in the form of the papers' figures.

From top to bottom: frames of the video, the ground truth, and a row per model with its detections,
attention and T-CAM (CO2-Net, Fig. 5; D2-Net, Fig. 1 and 5; two-stream network, Fig. 3).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import AutoLocator

from jaxtal.data.dataset import Dataset, Video
from jaxtal.data.segments import Segments
from jaxtal.errors import DataError
from jaxtal.visualization.plots import CURVES

FRAMES = 10  # pictures in a strip
_PICTURES = (".jpg", ".jpeg", ".png")
_WIDTH, _ROW = 11.0, 0.8  # inches
_OTHER = "0.6"  # color of detections of classes that are not annotated in the video


class Variant(NamedTuple):
    """A model in the figure.

    Attributes:
        name: label of its row.
        found: detections in the test videos, in seconds.
        outputs: outputs of the network, {name: (rows, n)}, by index of the test video; may be
            empty.
        activations: (rows, C) in 0 to 1, by index of the test video; as `outputs`.
    """

    name: str
    found: Segments
    outputs: Mapping[int, dict[str, np.ndarray]]
    activations: Mapping[int, np.ndarray]


def draw(
    truth: Dataset,
    indices: Sequence[int],
    variants: Sequence[Variant],
    frames: Mapping[int, list[Path]],
    least: float = 0.1,
) -> Figure:
    """Draw the timelines.

    Args:
        truth: data set with the ground truth.
        indices: indices of the test videos to draw.
        variants: the models, from top to bottom.
        frames: pictures of a video in the order of time, by index of the test video; may be empty.
        least: share of a model's best score in the video below which detections are not drawn.

    Returns:
        The figure.

    Raises:
        DataError: a picture cannot be read.
    """
    blocks = {index: _rows(index, variants, frames) for index in indices}
    heights = [_height(row) for rows in blocks.values() for row in rows]
    figure = Figure(figsize=(_WIDTH, _ROW * sum(heights) + 0.7), layout="constrained")
    axes = iter(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    for index, rows in blocks.items():
        video, own = truth.test[index], [next(axes) for _ in rows]
        for axis, row in zip(own, rows, strict=True):
            axis.set(xlim=(0, video.duration), xticks=[], yticks=[])
            if isinstance(row, Variant):
                _draw_variant(axis, video, index, row, least)
            elif row == "frames":
                _draw_frames(axis, frames[index], video.duration)
            else:
                _draw_truth(axis, video)
        _explain_classes(own[0], video, truth.classes)
        _label_seconds(own[-1])
    _explain_curves(figure, {name for v in variants for one in v.outputs.values() for name in one})
    return figure


def find_frames(folder: Path, names: Mapping[int, str]) -> dict[int, list[Path]]:
    """Return the pictures of each video, FOLDER/VIDEO/*.jpg or .png in the order of their names.

    Args:
        folder: the folder of all videos.
        names: name of each video, by index.

    Raises:
        DataError: the folder has pictures of none of the videos.
    """
    found = {}
    for index, name in names.items():
        paths = sorted((folder / name).glob("*")) if (folder / name).is_dir() else []
        found[index] = [path for path in paths if path.suffix.lower() in _PICTURES]
    found = {index: paths for index, paths in found.items() if paths}
    if not found:
        raise DataError(
            f"{folder}: no pictures of these videos; wanted FOLDER/VIDEO/*.jpg or *.png, for "
            f"example {folder / next(iter(names.values()))}/00001.jpg"
        )
    return found


def _rows(index: int, variants: Sequence[Variant], frames: Mapping) -> list[str | Variant]:
    return [*(["frames"] if index in frames else []), "truth", *variants]


def _height(row: str | Variant) -> float:
    return {"frames": 1.1, "truth": 0.35}[row] if isinstance(row, str) else 1.0


def _draw_frames(axis: Axes, paths: list[Path], duration: float) -> None:
    """Draw evenly spaced pictures side by side."""
    count = min(FRAMES, len(paths))
    places = np.linspace(0, len(paths), 2 * count + 1)[1::2].astype(int)
    for number, place in enumerate(places):
        try:
            picture = image.imread(paths[place])
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{paths[place]}: not a picture ({error})") from None
        left, right = (duration * edge / count for edge in (number, number + 1))
        axis.imshow(picture, extent=(left, right, 0, 1), aspect="auto", cmap="gray")
    axis.set(xlim=(0, duration), ylim=(0, 1))
    axis.axis("off")


def _draw_truth(axis: Axes, video: Video) -> None:
    colors = _colors(video)
    for (start, end), label in zip(video.segments, video.segment_labels.tolist(), strict=True):
        axis.axvspan(start, end, color=colors[label], lw=0)
    _name(axis, "ground truth")


def _draw_variant(axis: Axes, video: Video, index: int, variant: Variant, least: float) -> None:
    """Draw a model's detections, height = score, its attentions and T-CAM."""
    mine = variant.found.take(variant.found.video == index)
    best = mine.score.max(initial=0)
    mine = mine.take((mine.score >= least * best) & (mine.score > 0))
    colors = _colors(video)
    for at in np.argsort(-mine.score, kind="stable"):  # higher ones are behind lower ones
        axis.bar(
            mine.start[at],
            mine.score[at] / best,
            width=mine.end[at] - mine.start[at],
            align="edge",
            color=colors.get(int(mine.label[at]), _OTHER),
            alpha=0.55,
            lw=0,
        )
    if index in variant.outputs:
        _draw_curves(axis, video, variant, index)
    axis.set(ylim=(0, 1.03))
    axis.set_yticks([0, 1], ["0", "1"], size=7)
    _name(axis, variant.name)


def _draw_curves(axis: Axes, video: Video, variant: Variant, index: int) -> None:
    activation = variant.activations[index]
    times = (np.arange(len(activation)) + 0.5) * video.duration / len(activation)
    for name, color in CURVES.items():
        curve = variant.outputs[index].get(name)
        if curve is not None and len(curve) == len(times):
            axis.plot(times, curve[:, 0], color=color, lw=0.9)
    for label, color in _colors(video).items():
        axis.plot(times, activation[:, label], color=color, lw=0.8, ls=":")


def _colors(video: Video) -> dict[int, str]:
    """Return a color for each annotated class of a video."""
    shown = video.segment_labels if len(video.segment_labels) else video.labels
    return {label: f"C{2 + place}" for place, label in enumerate(np.unique(shown).tolist())}


def _name(axis: Axes, text: str) -> None:
    axis.set_ylabel(text, rotation=0, ha="right", va="center", size=8, parse_math=False)


def _label_seconds(axis: Axes) -> None:
    axis.xaxis.set_major_locator(AutoLocator())
    axis.tick_params(axis="x", labelsize=8)
    axis.set_xlabel("seconds", size=8)


def _explain_classes(axis: Axes, video: Video, classes: Sequence[str]) -> None:
    """Write the video's name on the left, and its annotated classes on the right."""
    axis.set_title(video.name, loc="left", size=9, parse_math=False)
    patches = [Patch(color=color, label=classes[label]) for label, color in _colors(video).items()]
    legend = axis.legend(
        handles=patches, ncols=6, fontsize=8, frameon=False, loc="lower right",
        bbox_to_anchor=(1, 1), borderaxespad=0.1,
    )  # fmt: skip
    _plain(legend)


def _explain_curves(figure: Figure, curves: set[str]) -> None:
    lines = [
        Line2D([], [], color=color, lw=1.2, label=name.replace("_", " "))
        for name, color in CURVES.items()
        if name in curves
    ]
    if curves:
        lines.append(Line2D([], [], color="C2", lw=1.2, ls=":", label="T-CAM"))
    other = Patch(color=_OTHER, alpha=0.55, label="detection of another class")
    _plain(figure.legend(handles=[*lines, other], loc="outside lower right", ncols=8, fontsize=8))


def _plain(legend: Legend) -> None:
    """Show names as they are: a dollar sign is no mathematics."""
    for text in legend.get_texts():
        text.set_parse_math(False)
