"""Figures of a run: detections in a few test videos, training curves, errors, data sets."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtal.data.dataset import Dataset, TimeGrid
from jaxtal.data.io import checksums
from jaxtal.data.io.files import atomic_write
from jaxtal.data.segments import Segments
from jaxtal.errors import DataError
from jaxtal.evaluation.detection_map import Evaluation
from jaxtal.evaluation.error_analysis import ERROR_TYPES, LENGTHS, MULTIPLES, ErrorAnalysis

if TYPE_CHECKING:  # these import JAX, which the evaluation of detections does not need
    from ml_collections import ConfigDict

    from jaxtal.inference.model import VideoPrediction
    from jaxtal.localization.scoring import ScoreSpec
    from jaxtal.methods.base import Method
    from jaxtal.training.workdir import Workdir

_Outputs = dict[str, np.ndarray]

CURVES = {
    "attention_rgb": "C3",
    "attention_flow": "C0",
    "attention_context": "C8",
    "attention_background": "C5",
    "attention": "C7",
}


def draw(
    files: "Workdir",
    config: "ConfigDict",
    dataset: Dataset,
    method: "Method",
    outputs: Sequence[_Outputs],
    detections: Segments,
) -> None:
    """Write plots/videos.png and, of a folder with metrics, plots/training.png.

    Args:
        files: the folder of the results.
        config: the run's config.
        dataset: the data set, with its test videos.
        method: the method, which maps outputs to activations.
        outputs: outputs of each test video, {name: (rows, n)}; {} for videos without outputs.
        detections: detections in the test videos, in seconds.
    """
    shown = [index for index, output in enumerate(outputs) if output]
    indices = pick_videos(dataset, shown, config.evaluation.plot_videos)
    if len(indices):
        figure = draw_videos(config, dataset, indices, method, outputs, detections)
        save(figure, files.plots / "videos.png")
    if metrics := files.metrics():
        save(draw_training(metrics), files.plots / "training.png")


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically; the file's extension is the format.

    Args:
        figure: the figure.
        path: the file.

    Raises:
        DataError: the file cannot be written, or the format is unknown.
    """
    kind, known = path.suffix[1:].lower() or "png", figure.canvas.get_supported_filetypes()
    if kind not in known.keys() - {"pgf"}:  # needs LaTeX
        raise DataError(f"{path}: not the name of a figure; wanted .png, .pdf or .svg")
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format=kind, dpi=110)


def pick_videos(dataset: Dataset, among: list[int], count: int) -> np.ndarray:
    """Pick test videos of different classes with about 8 instances, the same in every run.

    Args:
        dataset: the data set.
        among: indices of the candidates.
        count: maximum number of videos.

    Returns:
        Indices of test videos.
    """
    order = sorted(among, key=lambda i: abs(len(dataset.test[i].segment_labels) - 8))
    chosen: dict[int, int] = {}
    for index in order:
        labels = dataset.test[index].segment_labels
        if len(labels):
            chosen.setdefault(int(labels[0]), index)
    return np.array(list(chosen.values())[:count], int)


_LANES = 6  # classes of a video without annotations


class Shown(NamedTuple):
    """Contents of the row of one video in a figure.

    Attributes:
        name: name of the video.
        duration: length in seconds.
        snippets: number of snippets, T.
        grid: the video's time grid.
        output: the model's outputs, {name: (rows, n)}.
        activation: (rows, C) in 0 to 1.
        found: detections in the video, in seconds.
        segments: (m, 2) annotated instances, in seconds; empty for unlabeled videos.
        labels: (m,) class indices of the instances.
    """

    name: str
    duration: float
    snippets: int
    grid: TimeGrid
    output: dict[str, np.ndarray]
    activation: np.ndarray
    found: Segments
    segments: np.ndarray = np.empty((0, 2))
    labels: np.ndarray = np.empty(0, np.int64)


def draw_videos(
    config: "ConfigDict",
    dataset: Dataset,
    indices: Iterable[int],
    method: "Method",
    outputs: Sequence[_Outputs],
    detections: Segments,
) -> Figure:
    """Draw a row per test video: ground truth, detections (opacity = score), attentions, T-CAM.

    Args:
        config: the run's config.
        dataset: the data set.
        indices: indices of the test videos to draw.
        method: the method, which maps outputs to activations.
        outputs: outputs of each test video, {name: (rows, n)}.
        detections: detections in the test videos, in seconds.

    Returns:
        The figure.
    """
    grids = dataset.grid.of(dataset.test)
    shown = [
        Shown(
            video.name,
            video.duration,
            len(video.features),
            grids.take(index),
            outputs[index],
            method.score_spec(config).activations(outputs[index]),
            detections.take(detections.video == index),
            video.segments,
            video.segment_labels,
        )
        for index, video in ((index, dataset.test[index]) for index in indices)
    ]
    return _draw_rows(shown, dataset.classes)


def draw_found(found: "VideoPrediction", score_spec: "ScoreSpec", classes: Sequence[str]) -> Figure:
    """Draw detections, attentions and T-CAM of an unlabeled video, as in `draw_videos`.

    Args:
        found: a prediction of the model.
        score_spec: mapping from the model's outputs to activations.
        classes: names of the C classes.

    Returns:
        The figure.
    """
    video, output, detections, grid = found
    snippets, activation = video.shape[0], score_spec.activations(output)
    duration = float(grid.to_seconds(snippets))
    shown = Shown(video.name, duration, snippets, grid, output, activation, detections)
    return _draw_rows([shown], classes)


def _draw_rows(shown: list[Shown], classes) -> Figure:
    figure = Figure(figsize=(12, 2.9 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 1, squeeze=False)
    for axis, video in zip(axes[:, 0], shown, strict=True):
        _draw_video(axis, video, classes)
    if any(len(video.labels) for video in shown):
        axes[0, 0].barh(0, 0, color="C2", label="ground truth")
    axes[0, 0].barh(0, 0, color="C4", label="detections (opacity = score)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    axes[-1, 0].set_xlabel("seconds")
    return figure


def _draw_video(axis, video: Shown, classes) -> None:
    """Draw curves from 0 to 1, and above them a lane of bars per class."""
    found, rows = video.found, len(video.activation)
    times = video.grid.to_seconds((np.arange(rows) + 0.5) * video.snippets / rows)
    for name, color in CURVES.items():
        if name in video.output:
            label = name.replace("attention_", "attention, ")
            axis.plot(times, video.output[name][:, 0], color, lw=1, label=label)
    top = _most_likely(video)
    axis.fill_between(
        times, video.activation[:, top], color="C1", alpha=0.35, lw=0, label="T-CAM, top class"
    )
    lanes = np.unique([*(video.labels if len(video.labels) else _best_classes(found)), top])
    heights = 1.1 + 0.28 * np.arange(len(lanes))
    strongest = max(found.score.max(initial=0), 1e-9)
    for class_index, height in zip(lanes, heights, strict=True):
        true = video.segments[video.labels == class_index]
        mine = found.take(found.label == class_index)
        draw_bars(axis, height + 0.12, true.T, "C2", np.ones(len(true)))
        draw_bars(axis, height, (mine.start, mine.end), "C4", mine.score.clip(0) / strongest)
    axis.set(xlim=(0, video.duration), ylim=(0, heights[-1] + 0.22), title=None)
    names = [classes[index] for index in lanes]
    ticks = [0, 0.5, 1, *(heights + 0.06)]
    axis.set_yticks(ticks, ["0", "0.5", "1", *names], size=8, parse_math=False)
    best = (
        f"best detection: {classes[top]}" if len(found) else f"no detection; T-CAM: {classes[top]}"
    )
    axis.set_title(f"{video.name}; {best}", loc="left", size=9, parse_math=False)


def _best_classes(found: Segments) -> np.ndarray:
    """Return the classes of the best detections, at most `_LANES`."""
    labels = found.label[np.argsort(-found.score, kind="stable")]
    return np.array([*dict.fromkeys(labels.tolist())][:_LANES], np.int64)


def _most_likely(video: Shown) -> int:
    """Return the class of the best detection, else the first annotated, else the most active."""
    if len(video.found):
        return int(video.found.label[video.found.score.argmax()])
    if len(video.labels):
        return int(video.labels[0])
    return int(video.activation.mean(axis=0).argmax())


def draw_bars(
    axis: Axes,
    height: float,
    spans: Iterable,
    color: str,
    opacity: np.ndarray,
    thickness: float = 0.11,
) -> None:
    """Draw horizontal bars, the most opaque last.

    Args:
        axis: Matplotlib axes.
        height: vertical position.
        spans: starts (n,) and ends (n,).
        color: Matplotlib color.
        opacity: (n,) in 0 to 1.
        thickness: height of a bar.
    """
    for start, end, alpha in sorted(zip(*spans, opacity, strict=True), key=lambda bar: bar[2]):
        axis.barh(height, end - start, thickness, start, color=color, alpha=float(alpha), lw=0)


def draw_training(metrics: list[dict]) -> Figure:
    """Draw loss terms and, below, mAP over training steps; null values are gaps.

    The mAP is that of the validation videos where the run has some, otherwise that of the test
    videos. For a population, the curves are means over the members, beside each member's mAP.

    Args:
        metrics: the lines of metrics.jsonl.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    losses = [line for line in metrics if "loss" in line]
    others = ("step", "members", checksums.KEY)
    for name in [key for key in (losses[0] if losses else {}) if key not in others]:
        values = np.array([line[name] for line in losses], float)
        width = 2 if name == "loss" else 1
        upper.plot([line["step"] for line in losses], values, lw=width, label=name)
    upper.set(ylabel="loss terms, not weighted", yscale="log" if losses else "linear")
    if losses:
        upper.legend(ncols=2, fontsize=8)
    evaluations = [line for line in metrics if "map" in line]
    steps = [line["step"] for line in evaluations]
    for name in evaluations[0]["average"] if evaluations else ():
        values = np.array([line["average"][name] for line in evaluations], float)
        lower.plot(steps, 100 * values, "o-", ms=3, label=f"average {name}")
    if evaluations and "members" in evaluations[0]:
        (name,) = evaluations[0]["members"]
        members = np.array([line["members"][name] for line in evaluations], float)
        lines = lower.plot(steps, 100 * members, "0.6", lw=0.7, zorder=1)
        lines[0].set_label(f"members, {name}")
    classification = np.array([line["classification_map"] for line in evaluations], float)
    lower.plot(steps, 100 * classification, "k:", label="video-level classification")
    on = next((line["on"] for line in evaluations if "on" in line), "test")
    lower.set(xlabel="step", ylabel=f"{on} mAP, percent", ylim=(0, None))
    lower.legend(fontsize=8)
    return figure


_KIND_COLORS = ("C2", "C9", "C4", "C1", "C8", "C7")


def draw_errors(evaluation: Evaluation, diagnosis: ErrorAnalysis) -> Figure:
    """Draw kinds of false positive, the mAP that each costs, recall by length, and mAP.

    Args:
        evaluation: the evaluation.
        diagnosis: its error analysis.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    at = f"at t-IoU {diagnosis.threshold:g}"
    _draw_profile(axes[0, 0], diagnosis)
    gains = 100 * diagnosis.gain[1:]
    bars = axes[0, 1].barh(ERROR_TYPES[1:], gains, color=_KIND_COLORS[1:])
    axes[0, 1].bar_label(bars, fmt="%.1f", padding=3)
    axes[0, 1].invert_yaxis()
    axes[0, 1].margins(x=0.12)
    axes[0, 1].set_title(f"mAP gained without that kind of error, {at}", loc="left", size=10)
    axes[0, 1].set_xlabel("percentage points")
    _draw_recall(axes[1, 0], diagnosis)
    axes[1, 0].set_title(f"instances found, by their length, {at}", loc="left", size=10)
    summary = evaluation.summary()["map"]
    values = [100 * value for value in summary.values()]
    bars = axes[1, 1].bar(range(len(values)), values, color="C0", tick_label=list(summary))
    axes[1, 1].bar_label(bars, fmt="%.1f", size=8, padding=2)
    axes[1, 1].set(ylim=(0, 105), xlabel="t-IoU", ylabel="mAP, percent")
    axes[1, 1].set_title("mAP", loc="left", size=10)
    count = f"{len(evaluation.detections)} detections, {len(evaluation.truth)} instances"
    figure.suptitle(f"{diagnosis.protocol}: {count}")
    return figure


def _draw_profile(axis, diagnosis: ErrorAnalysis) -> None:
    """Draw shares of the kinds among the best G, 2 G, ... detections, G the instances."""
    total = np.maximum(diagnosis.profile.sum(axis=1), 1)
    names, below = [f"{multiple}G" for multiple in MULTIPLES], np.zeros(len(MULTIPLES))
    for index in range(len(ERROR_TYPES)):
        share = 100 * diagnosis.profile[:, index] / total
        axis.bar(names, share, bottom=below, color=_KIND_COLORS[index], width=0.85)
        below += share
    axis.set(ylim=(0, 100), ylabel="percent", xlabel="best detections, in multiples of instances")
    axis.set_title(
        "kinds of the best detections: true (green), or as on the right", loc="left", size=10
    )


def _draw_recall(axis, diagnosis: ErrorAnalysis) -> None:
    recall = 100 * diagnosis.found / np.maximum(diagnosis.instances, 1)
    bounds = [0, *diagnosis.lengths]
    names = [
        f"{length}\n{low:g} to {high:g} s"
        for length, low, high in zip(LENGTHS, bounds, bounds[1:], strict=False)
    ]
    bars = axis.bar([*names, f"{LENGTHS[-1]}\nabove {bounds[-1]:g} s"], recall, color="C0")
    counts = [
        f"{found} of {n}" for found, n in zip(diagnosis.found, diagnosis.instances, strict=True)
    ]
    axis.bar_label(bars, counts, size=8, padding=2)
    axis.set(ylim=(0, 108), ylabel="recall, percent")


_PART_COLORS = {"train": "C0", "validation": "C2", "test": "C1"}


def draw_dataset(dataset: Dataset, report: dict) -> Figure:
    """Draw classes, lengths of videos and instances, and the fraction of action in the videos.

    Args:
        dataset: a data set, with or without features.
        report: as `inspection.inspect` returns it; only "classes" is required.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    layout = f" ({report['data']['layout']})" if "data" in report else ""
    figure.suptitle(f"{dataset.name}{layout}")
    _draw_classes(axes[0, 0], report["classes"])
    for name, videos in dataset.parts.items():
        color = _PART_COLORS[name]
        seconds = [video.duration for video in videos]
        lengths = np.concatenate([np.empty(0), *(v.segments @ (-1, 1) for v in videos)])
        share = [_share_of_action(video) for video in videos]
        for axis, values, low in (
            (axes[0, 1], seconds, 1.0),
            (axes[1, 0], lengths, 0.1),
            (axes[1, 1], share, None),
        ):
            _draw_share_below(axis, np.asarray(values), low, color, name)
    axes[0, 1].set(xlabel="seconds a video", ylabel="share of videos below")
    axes[1, 0].set(xlabel="seconds an instance", ylabel="share of instances below")
    axes[1, 1].set(xlabel="share of a video inside an action", ylabel="share of videos below")
    axes[0, 1].legend()
    return figure


_MOST_BARS = 1000  # above, a line


def _draw_classes(axis, classes: dict) -> None:
    """Draw the number of instances per class; more than 30 classes without names."""
    order = sorted(classes, key=lambda name: -sum(c["instances"] for c in classes[name].values()))
    places = np.arange(len(order))
    subsets = list(next(iter(classes.values()), {}))
    height = 0.8 / max(len(subsets), 1)
    for side, subset in enumerate(subsets):
        counts = [classes[name][subset]["instances"] for name in order]
        lowest = height * (side - len(subsets) / 2)
        color = _PART_COLORS[subset]
        if len(order) > _MOST_BARS:
            axis.plot(counts, places, color=color, label=subset, lw=1)
            continue
        axis.barh(places + lowest + height / 2, counts, height, color=color, label=subset)
    axis.invert_yaxis()
    axis.set(xlabel="instances of a class")
    if len(order) <= 30:
        axis.set_yticks(places, order, size=8)
    else:
        axis.set_ylabel(f"{len(order)} classes, by their number of instances")


def _share_of_action(video) -> float:
    """Return the fraction of a video's time that lies inside an instance."""
    edges = np.clip(video.segments, 0, video.duration)
    edges = edges[np.argsort(edges[:, 0])]
    ends = np.maximum.accumulate(edges[:, 1]) if len(edges) else edges[:, 1]
    start = np.maximum(edges[:, 0], np.append(0, ends[:-1])[: len(edges)])
    return float(np.maximum(edges[:, 1] - start, 0).sum() / video.duration)


def _draw_share_below(axis, values: np.ndarray, low: float | None, color: str, name: str) -> None:
    if low is not None:
        axis.set_xscale("log")
        values = np.maximum(values, low)
    axis.step(np.sort(values), np.linspace(0, 1, len(values)), color, where="post", label=name)
