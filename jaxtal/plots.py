"""Pictures of a run: what was found in a few test videos, and how training went."""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from jaxtal.data.dataset import Dataset
from jaxtal.diagnosis import KINDS, LENGTHS, MULTIPLES, Diagnosis
from jaxtal.evaluation import Evaluation
from jaxtal.segments import Segments

if TYPE_CHECKING:  # they import JAX, which evaluating detections does not need
    from jaxtal.methods.method import Method
    from jaxtal.workdir import Workdir

_CURVES = {
    "attention_rgb": "C3",
    "attention_flow": "C0",
    "attention_context": "C8",
    "attention_background": "C5",
    "attention": "C7",
}


def draw(
    files: "Workdir", config, dataset: Dataset, method: "Method", outputs, detections: Segments
) -> None:
    """Write plots/videos.png and plots/training.png."""
    shown = [index for index, output in enumerate(outputs) if output]
    indices = pick_videos(dataset, shown, config.evaluation.plot_videos)
    if len(indices):
        figure = draw_videos(config, dataset, indices, method, outputs, detections)
        save(figure, files.plots / "videos.png")
    save(draw_training(files.metrics()), files.plots / "training.png")


def save(figure, path: Path) -> None:
    """Write a figure, in the format of the file's ending, and forget it."""
    figure.savefig(path, dpi=110)
    plt.close(figure)


def pick_videos(dataset: Dataset, among: list[int], count: int) -> np.ndarray:
    """Test videos of different classes with several instances, the same ones in every run."""
    order = sorted(among, key=lambda i: abs(len(dataset.test[i].segment_labels) - 8))
    chosen: dict[int, int] = {}
    for index in order:
        labels = dataset.test[index].segment_labels
        if len(labels):
            chosen.setdefault(int(labels[0]), index)
    return np.array(list(chosen.values())[:count], int)


def draw_videos(config, dataset: Dataset, indices, method: "Method", outputs, detections: Segments):
    """A row for each video: ground truth, detections (opacity = score), attentions, T-CAM."""
    figure, axes = plt.subplots(
        len(indices), 1, figsize=(12, 2.9 * len(indices)), squeeze=False, layout="constrained"
    )
    for axis, index in zip(axes[:, 0], indices, strict=True):
        _draw_video(axis, config, dataset, index, method, outputs[index], detections)
    axes[0, 0].barh(0, 0, color="C2", label="ground truth")
    axes[0, 0].barh(0, 0, color="C4", label="detections (opacity = score)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    axes[-1, 0].set_xlabel("seconds")
    return figure


def _draw_video(axis, config, dataset: Dataset, index: int, method, output, detections) -> None:
    """Curves from 0 to 1, and above them a lane of bars for each class shown or found best."""
    video, mine = dataset.test[index], detections.take(detections.video == index)
    activation = method.activations(output, config)
    rows = len(activation)
    times = dataset.grid.to_seconds((np.arange(rows) + 0.5) * len(video.features) / rows)
    for name, colour in _CURVES.items():
        if name in output:
            label = name.replace("attention_", "attention, ")
            axis.plot(times, output[name][:, 0], colour, lw=1, label=label)
    top = int(mine.label[mine.score.argmax()] if len(mine) else video.segment_labels[0])
    axis.fill_between(
        times, activation[:, top], color="C1", alpha=0.35, lw=0, label="T-CAM, top class"
    )
    classes = np.unique([*video.segment_labels, top])
    heights = 1.1 + 0.28 * np.arange(len(classes))
    strongest = max(mine.score.max(initial=0), 1e-9)
    for class_index, height in zip(classes, heights, strict=True):
        true = video.segments[video.segment_labels == class_index]
        found = mine.take(mine.label == class_index)
        _bars(axis, height + 0.12, true.T, "C2", np.ones(len(true)))
        _bars(axis, height, (found.start, found.end), "C4", found.score.clip(0) / strongest)
    axis.set(xlim=(0, video.duration), ylim=(0, heights[-1] + 0.22), title=None)
    names = [dataset.classes[c] for c in classes]
    axis.set_yticks([0, 0.5, 1, *(heights + 0.06)], ["0", "0.5", "1", *names], size=8)
    found_as = f"{video.name}; best detection: {dataset.classes[top]}"
    axis.set_title(found_as, loc="left", size=9)


def _bars(axis, height: float, spans, colour: str, opacity) -> None:
    """Horizontal bars from spans[0] to spans[1], the strongest drawn last."""
    for start, end, alpha in sorted(zip(*spans, opacity, strict=True), key=lambda bar: bar[2]):
        axis.barh(height, end - start, 0.11, start, color=colour, alpha=float(alpha), lw=0)


def draw_training(metrics: list[dict]):
    """Loss terms and, below, test mAP over training steps; what is null leaves a gap.

    Of a population the means over its members, and the average of each.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(9, 7), sharex=True, layout="constrained")
    losses = [line for line in metrics if "loss" in line]
    for name in [key for key in (losses[0] if losses else {}) if key not in ("step", "members")]:
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
    lower.set(xlabel="step", ylabel="test mAP, per cent", ylim=(0, None))
    lower.legend(fontsize=8)
    return figure


_KIND_COLOURS = ("C2", "C9", "C4", "C1", "C8", "C7")


def draw_errors(evaluation: Evaluation, diagnosis: Diagnosis):
    """Where a detector errs: kinds of false positive, what they cost, recall by length, mAP."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
    at = f"at t-IoU {diagnosis.threshold:g}"
    _draw_profile(axes[0, 0], diagnosis)
    gains = 100 * diagnosis.gain[1:]
    bars = axes[0, 1].barh(KINDS[1:], gains, color=_KIND_COLOURS[1:])
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
    axes[1, 1].set(ylim=(0, 105), xlabel="t-IoU", ylabel="mAP, per cent")
    axes[1, 1].set_title("mAP", loc="left", size=10)
    count = f"{len(evaluation.detections)} detections, {len(evaluation.truth)} instances"
    figure.suptitle(f"{diagnosis.protocol}: {count}")
    return figure


def _draw_profile(axis, diagnosis: Diagnosis) -> None:
    """Shares of the kinds among the best G, 2 G, ... detections, G the number of instances."""
    total = np.maximum(diagnosis.profile.sum(axis=1), 1)
    names, below = [f"{multiple}G" for multiple in MULTIPLES], np.zeros(len(MULTIPLES))
    for index in range(len(KINDS)):
        share = 100 * diagnosis.profile[:, index] / total
        axis.bar(names, share, bottom=below, color=_KIND_COLOURS[index], width=0.85)
        below += share
    axis.set(ylim=(0, 100), ylabel="per cent", xlabel="best detections, in multiples of instances")
    axis.set_title(
        "what the best detections are: true (green), or as on the right", loc="left", size=10
    )


def _draw_recall(axis, diagnosis: Diagnosis) -> None:
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
    axis.set(ylim=(0, 108), ylabel="recall, per cent")
