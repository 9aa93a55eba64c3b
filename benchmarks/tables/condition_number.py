"""Draw D2-Net's Figure 3: condition number against determinant of joint matrices.

    python -m benchmarks.tables.condition_number [--count N] [--output FILE]

The losses' own functions compute the joint matrices. The paper's left panel has random matrices:
here they come from random labels and predictions that follow the labels more or less closely, for
snippets (2 x 2) and for batches of 20 videos with 10 classes, as in the demo. Most of these batches
lack a class; then the determinant is 0 for any predictions, while the condition number is that of
the nonzero singular values. The paper's right panel has the matrices that training meets at snippet
level: here those of the demo, preset `paper_bounded`. Prints one JSON row per panel.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from benchmarks.tables import denoising_trace, rows
from jaxtal.nn.mutual_information import dmi, joint_matrix, pdmi
from jaxtal.visualization import plots

# Title: classes, labeled items per matrix, threshold of the discarded singular values.
PANELS = {
    "snippet level: 2 x 2, 60 snippets": (2, 60, 0.0),
    "video level: 10 x 10, 20 videos": (10, 20, 1e-5),
}


def random_joints(count: int, classes: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw random joint matrices.

    Args:
        count: number of matrices.
        classes: number of classes, C.
        items: labeled items per matrix.

    Returns:
        Joint matrices [count, C, C], and how closely predictions follow labels, [count], from 0
        (noise) to 1.
    """
    rng = np.random.default_rng(0)
    labels = np.eye(classes, dtype=np.float32)[rng.integers(classes, size=(count, items))]
    noise = rng.dirichlet(np.ones(classes), size=(count, items)).astype(np.float32)
    closeness = rng.random(count).astype(np.float32)
    share = closeness[:, None, None]
    predictions = share * labels + (1 - share) * noise
    joint = jax.jit(joint_matrix, static_argnames="conditional")
    return np.asarray(joint(labels, predictions, conditional=True)), closeness


def met_in_training(seeds: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Train D2-Net on the demo and return the snippet-level matrices of its batches.

    Args:
        seeds: members that are trained.

    Returns:
        Joint matrices [n, 2, 2], pseudo-labels in rows, and the share of the training that was done
        before each, [n].
    """
    setting = rows.setting_of("demo", "table", {}, "paper_bounded")
    config = denoising_trace.config_of(setting, seeds)
    seen = denoising_trace.trace(config)
    counted = seen["counted"]
    done = np.broadcast_to(seen["step"][:, None, None] / config.train.steps, counted.shape)
    return seen["snippet matrices"][counted], done[counted]


def draw(axis, title: str, joints: np.ndarray, order: np.ndarray, discard: float) -> dict:
    """Draw one panel and return its JSON row.

    Args:
        axis: Matplotlib axes.
        title: title of the panel.
        joints: joint matrices [count, C, C].
        order: how closely predictions follow labels, or the share of the training, [count].
        discard: singular values below this fraction of the largest are discarded.
    """
    determinant = np.exp(-np.asarray(jax.jit(jax.vmap(dmi))(joints), np.float64))
    condition = np.exp(np.asarray(jax.jit(jax.vmap(lambda m: pdmi(m, discard)))(joints)))
    zero = np.linalg.matrix_rank(joints.astype(np.float64)) < joints.shape[-1]
    determinant[zero] = 0  # dmi returns float32's rounding error there
    axis.scatter(determinant, condition, c=order, s=2, lw=0, cmap="viridis", vmin=0, vmax=1)
    axis.set(yscale="log", xlabel="|determinant|", ylabel="condition number")
    axis.set_xscale("symlog", linthresh=1e-6)
    axis.set_xlim(-3e-7, 2)
    axis.set_title(f"{title}; determinant 0: {zero.mean():.0%}", size=10)
    return {
        "case": title,
        "matrices": len(joints),
        "determinant_zero": float(zero.mean()),
        "rank_correlation": {
            "determinant": rank_correlation(determinant, order),
            "condition_number": rank_correlation(condition, order),
            "of_both": rank_correlation(determinant, condition),
        },
    }


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Compute Spearman's rank correlation; equal values share their mean rank."""
    ranks = []
    for values in (x, y):
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2)[place])
    return round(float(np.asarray(np.corrcoef(np.stack(ranks)))[0, 1]), 3)


def main() -> None:
    """Draw the figure and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=25_000, help="matrices; default: 25,000")
    parser.add_argument(
        "--output", default="docs/images/condition_number.png", metavar="FILE",
        help="the figure; default: docs/images/condition_number.png",
    )  # fmt: skip
    options = parser.parse_args()
    figure = Figure(figsize=(15, 4.4), layout="constrained")
    axes = figure.subplots(1, len(PANELS) + 1)
    panels = {
        f"random, {title}": (*random_joints(options.count, classes, items), discard)
        for title, (classes, items, discard) in PANELS.items()
    }
    panels["met in training, snippet level"] = (*met_in_training(), 0.0)
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        print(json.dumps(draw(axis, title, *panel)), flush=True)
    colors = ScalarMappable(cmap="viridis")
    figure.colorbar(colors, ax=axes[:-1], label="how closely predictions follow labels")
    figure.colorbar(colors, ax=axes[-1], label="share of the training")
    plots.save(figure, Path(options.output))


if __name__ == "__main__":
    main()
