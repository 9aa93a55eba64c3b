"""Pictures of a run: what was found in a few test videos, and how training went."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from jaxtal.data.dataset import Dataset
from jaxtal.segments import Segments
from jaxtal.workdir import Workdir

_CURVES = {"attention_rgb": "C3", "attention_flow": "C0", "attention": "C7"}


def draw(files: Workdir, config, dataset: Dataset, outputs, detections: Segments) -> None:
    """Write plots/videos.png and plots/training.png."""
    indices = pick_videos(dataset, config.evaluation.plot_videos)
    if len(indices):
        figure = draw_videos(dataset, indices, outputs, detections)
        figure.savefig(files.plots / "videos.png", dpi=110)
        plt.close(figure)
    figure = draw_training(files.metrics())
    figure.savefig(files.plots / "training.png", dpi=110)
    plt.close(figure)


def pick_videos(dataset: Dataset, count: int) -> np.ndarray:
    """Test videos of different classes with several instances, the same ones in every run."""
    order = sorted(
        range(len(dataset.test)), key=lambda i: abs(len(dataset.test[i].segment_labels) - 8)
    )
    chosen: dict[int, int] = {}
    for index in order:
        labels = dataset.test[index].segment_labels
        if len(labels):
            chosen.setdefault(int(labels[0]), index)
    return np.array(list(chosen.values())[:count], int)


def draw_videos(dataset: Dataset, indices, outputs, detections: Segments):
    """A row for each video: ground truth, detections (opacity = score), attentions, T-CAM."""
    figure, axes = plt.subplots(
        len(indices), 1, figsize=(12, 2.9 * len(indices)), squeeze=False, layout="constrained"
    )
    for axis, index in zip(axes[:, 0], indices, strict=True):
        _draw_video(axis, dataset, index, outputs[index], detections)
    axes[0, 0].legend(loc="upper center", bbox_to_anchor=(0.5, 1.42), ncols=6, frameon=False)
    axes[-1, 0].set_xlabel("seconds")
    return figure


def _draw_video(axis, dataset: Dataset, index: int, output: dict, detections: Segments) -> None:
    video = dataset.test[index]
    mine = detections.take(detections.video == index)
    times = dataset.grid.to_seconds(np.arange(len(output["cas"])) + 0.5)
    for name, colour in _CURVES.items():
        if name in output:
            label = name.replace("attention_", "attention, ")
            axis.plot(times, output[name][:, 0], colour, lw=1, label=label)
    label = _top_class(mine, video)
    activation = np.exp(output["cas"][:, label] - np.logaddexp.reduce(output["cas"], axis=-1))
    axis.fill_between(times, activation, color="C1", alpha=0.35, lw=0, label="T-CAM, top class")
    _bars(axis, 1.22, video.segments.T, "C2", np.ones(len(video.segments)), "ground truth")
    found = mine.take(mine.label == label)
    strength = found.score.clip(0) / max(found.score.max(initial=0), 1e-9)
    seconds = dataset.grid.to_seconds(np.stack([found.start, found.end]))
    _bars(axis, 1.08, seconds, "C4", strength, "detections (opacity = score)")
    axis.set(xlim=(0, video.duration), ylim=(0, 1.33), yticks=[0, 0.5, 1])
    names = ", ".join(dataset.classes[i] for i in np.unique(video.segment_labels))
    axis.set_title(f"{video.name}: {names}; detected: {dataset.classes[label]}", loc="left", size=9)


def _top_class(detections: Segments, video) -> int:
    if detections.score is None or not len(detections):
        return int(video.segment_labels[0])
    return int(detections.label[detections.score.argmax()])


def _bars(axis, height: float, spans, colour: str, opacity, label: str) -> None:
    """Horizontal bars from spans[0] to spans[1], the strongest drawn last."""
    for start, end, alpha in sorted(zip(*spans, opacity, strict=True), key=lambda bar: bar[2]):
        axis.barh(height, end - start, 0.1, start, color=colour, alpha=float(alpha), lw=0)
    axis.barh(height, 0, 0.1, 0, color=colour, label=label)


def draw_training(metrics: list[dict]):
    """Loss terms and, below, test mAP over training steps."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(9, 7), sharex=True, layout="constrained")
    losses = [line for line in metrics if "loss" in line]
    for name in [key for key in (losses[0] if losses else {}) if key != "step"]:
        values = [np.nan if line[name] is None else line[name] for line in losses]
        width = 2 if name == "loss" else 1
        upper.plot([line["step"] for line in losses], values, lw=width, label=name)
    upper.set(ylabel="loss terms, not weighted", yscale="log")
    upper.legend(ncols=2, fontsize=8)
    evaluations = [line for line in metrics if "map" in line]
    steps = [line["step"] for line in evaluations]
    for name in evaluations[0]["average"] if evaluations else ():
        values = [100 * line["average"][name] for line in evaluations]
        lower.plot(steps, values, "o-", ms=3, label=f"average {name}")
    classification = [100 * line["classification_map"] for line in evaluations]
    lower.plot(steps, classification, "k:", label="video-level classification")
    lower.set(xlabel="step", ylabel="test mAP, per cent", ylim=(0, None))
    lower.legend(fontsize=8)
    return figure
