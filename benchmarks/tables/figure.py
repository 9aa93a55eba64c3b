"""Figure of the ablation tables: means with their intervals, and the papers' numbers."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.tables.report import Report
from jaxtal.visualization import plots


def draw(reports: Sequence[Report], path: Path) -> None:
    """Draw a forest plot with one panel for each ablation table and compared column.

    Args:
        reports: reports of `benchmarks.tables.report.read`; those without orderings are omitted.
        path: file of the figure; its suffix selects the format.
    """
    panels = [
        (content, column) for content in reports if content["order"] for column in content["judged"]
    ]
    if not panels:
        return
    heights = [1.2 + len(content["rows"]) for content, _ in panels]
    figure = Figure(figsize=(8, 1.2 + 0.28 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, height_ratios=heights, sharex=True, squeeze=False)[:, 0]
    for axis, (content, column) in zip(axes, panels, strict=True):
        _panel(axis, content, column)
    axes[-1].set_xlabel("mAP or F1 (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    plots.save(figure, path)


def _panel(axis, content: Report, column: str) -> None:
    rows = [row for row in content["rows"] if row["n"]]
    places = range(len(rows))
    means = [row["mean"][column] for row in rows]
    halves = [
        row["interval_95"][column][1] - mean if row["n"] > 1 else 0
        for row, mean in zip(rows, means, strict=True)
    ]
    axis.errorbar(means, places, xerr=halves, fmt="o", capsize=3, color="C0", label="here, 95 %")
    paper = [row["paper"][column] for row in rows]
    axis.plot(paper, places, "|", markersize=11, markeredgewidth=2, color="C1", label="paper")
    axis.set_yticks(places, [row["name"] for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_title(f"{content['heading']}, {column}", loc="left", fontsize="medium")
    axis.grid(axis="x", alpha=0.3)
