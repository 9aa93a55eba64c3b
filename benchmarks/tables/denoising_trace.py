"""Trace D2-Net's denoising losses in training, and draw why the paper's own words do not train it.

    python -m benchmarks.tables.denoising_trace [--data demo] [--seeds N] [--output FILE]

D2-Net is trained as printed (preset `paper`), with a bounded gradient of the denoising loss
(`paper_bounded`), and with the published code's values (`code`). Before each traced step the figure
has: the loss terms; the norm of the gradient of each weighted term; the singular values of the
joint matrices, which pDMI divides by each other; and how often these matrices agree with their
labels, on which pDMI does not depend. Lines are means over the seeds, and medians of the matrices
of a batch. Prints one JSON row per preset, with the medians of both halves of the training.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from benchmarks.tables import rows
from benchmarks.timing import add_set, positive
from benchmarks.workloads import Trainer
from jaxtal.data.layouts import load_from_config
from jaxtal.input_pipeline.packing import PackedVideos, gather, pack
from jaxtal.input_pipeline.sampling import Context, sample_batch_indices, step_rngs
from jaxtal.methods import d2net, denoising
from jaxtal.nn.discriminative_loss import bottom_up_attention
from jaxtal.training.train_state import Hyperparams, TrainState
from jaxtal.training.train_step import loss_fn
from jaxtal.visualization import plots

PRESETS = {
    "paper": "as printed",
    "paper_bounded": "as printed, gradient bounded",
    "code": "published code",
}
_TERMS = {
    "discriminative": "L_Dis",
    "snippet_denoising": "L_DS, snippets",
    "video_denoising": "L_DV, videos",
}
_EVERY = 5  # steps from one traced step to the next


def observe(
    state: TrainState, hyper: Hyperparams, data: PackedVideos, *, model: nn.Module,
    config: ConfigDict,
) -> dict[str, jax.Array]:  # fmt: skip
    """Compute losses, gradients and joint matrices of one member's next batch.

    Args:
        state: training state before the step.
        hyper: hyperparameters of the member.
        data: packed training videos.
        model: the network.
        config: the whole config.

    Returns:
        For each term its value, "TERM", and the norm of the gradient of the weighted term,
        "TERM gradient", scalars; "snippet matrices" [B, 2, 2] and "counted" [B] bool; "video
        matrix" [C, C], labels in rows.
    """
    keys = step_rngs(hyper.seed, state.step)
    drawn = sample_batch_indices(
        hyper.seed, state.step, data.videos, sample=d2net.sample, config=config
    )
    batch = gather(data, drawn)
    context = Context(state.step, keys.loss, keys.run, state.model_state)

    def weighted(params):
        _, (terms, state) = loss_fn(
            params, batch, context, keys.dropout, hyper, model, d2net.METHOD, config
        )
        return {name: hyper.loss_weights[name] * terms[name] for name in _TERMS}, (terms, state)

    gradients, (terms, model_state) = jax.jacrev(weighted, has_aux=True)(state.params)
    variables = {"params": state.params, **state.model_state}
    outputs: Any = model.apply(
        variables, batch.features, batch.mask, train=True, rngs={"dropout": keys.dropout}
    )
    valid, mask = denoising.taking_part(batch)
    attention = bottom_up_attention(outputs["embeddings"], model_state["running"]["background"])
    snippets, counted = jax.vmap(partial(denoising.snippet_joint, settings=config.loss))(
        outputs["cas"], batch.labels, *denoising.pseudo_labels(attention, mask, config.loss)
    )
    probability = denoising.video_probability(outputs["cas"], mask, config.loss)
    return {
        **{name: terms[name] for name in _TERMS},
        **{f"{name} gradient": optax.tree.norm(gradients[name]) for name in _TERMS},
        "snippet matrices": snippets,
        "counted": counted,
        "video matrix": denoising.video_joint(probability, batch.labels, valid, config.loss),
    }


def trace(config: ConfigDict, every: int = _EVERY) -> dict[str, np.ndarray]:
    """Train the members of a config, and observe every `every`-th step.

    Args:
        config: the whole config.
        every: steps from one observation to the next.

    Returns:
        "step" [N], and the arrays of `observe` with leading axes [N, M].
    """
    dataset = load_from_config(config.data)
    data = pack(dataset.train, len(dataset.classes))
    trainer = Trainer(config, data, every)
    of_one = partial(observe, model=trainer.model, config=config)
    of_members = jax.jit(jax.vmap(of_one, in_axes=(0, 0, None)))
    steps = range(0, config.train.steps, every)
    seen = []
    for _ in steps:
        found = of_members(trainer.state, trainer.hyper, trainer.data)
        seen.append(jax.tree.map(np.asarray, found))
        trainer()
    return {"step": np.array(steps), **{name: np.stack([s[name] for s in seen]) for name in found}}


def agreement(seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return how many predictions follow their labels; pDMI is the same if none does.

    Args:
        seen: result of `trace`.

    Returns:
        "snippets": share of the counted videos whose activations are higher on pseudo-foreground
        than on pseudo-background, i.e. with a positive determinant. "videos": share of the classes
        of the batch that are the most probable class of their own videos. [N, M] each; NaN where
        nothing counts.
    """
    positive = np.linalg.det(seen["snippet matrices"].astype(np.float64)) > 0
    matrix = seen["video matrix"]
    present = matrix.sum(axis=-1) > 0  # a class without a video in the batch has a row of zeros
    own = matrix.argmax(axis=-1) == np.arange(matrix.shape[-1])
    return {"snippets": _share(positive, seen["counted"]), "videos": _share(own, present)}


def _share(true: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return the share of true entries over the last axis among the counted ones, NaN of none."""
    with np.errstate(invalid="ignore"):
        return (true & counted).sum(axis=-1) / counted.sum(axis=-1)


def singular_values(seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the largest and the smallest nonzero singular values of the joint matrices.

    Args:
        seen: result of `trace`.

    Returns:
        "snippets, largest" and so on, [N, M] each: the median over the counted videos of a batch,
        NaN without any; and the values of the video-level matrix, above 1e-5 as in its loss.
    """
    values = np.linalg.svd(seen["snippet matrices"], compute_uv=False)
    values = np.where(seen["counted"][..., None], values, np.nan)
    videos = np.linalg.svd(seen["video matrix"], compute_uv=False)
    return {
        "snippets, largest": _median_of_batch(values[..., 0]),
        "snippets, smallest": _median_of_batch(values[..., 1]),
        "videos, largest": videos[..., 0],
        "videos, smallest": np.where(videos > 1e-5, videos, np.inf).min(axis=-1),
    }


def _median_of_batch(values: np.ndarray) -> np.ndarray:
    """Return the median over the last axis without the NaNs, NaN of none."""
    values = np.ma.masked_invalid(values)
    return np.ma.median(values, axis=-1).filled(np.nan)


def draw(traces: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Draw one column per preset: losses, gradients, singular values, agreement.

    Args:
        traces: results of `trace` by preset.
    """
    figure = Figure(figsize=(4.2 * len(traces), 10), layout="constrained")
    axes = figure.subplots(4, len(traces), sharex=True, sharey="row", squeeze=False)
    for column, (preset, seen) in zip(axes.T, traces.items(), strict=True):
        column[0].set_title(PRESETS[preset])
        _draw_column(column, seen)
    for axis, label in zip(axes[:, 0], _LABELS, strict=True):
        axis.set_ylabel(label)
    for axis in axes[:, -1]:
        axis.legend(fontsize="small")
    return figure


_LABELS = (
    "loss, unweighted",
    "norm of the weighted gradient",
    "singular value",
    "share that follows its label",
)


def _draw_column(axes, seen: dict[str, np.ndarray]) -> None:
    panels = (_by_label(seen), _by_label(seen, " gradient"), singular_values(seen), agreement(seen))
    for axis, panel in zip(axes, panels, strict=True):
        axis.grid(alpha=0.3)
        for name, numbers in panel.items():
            _line(axis, seen["step"], numbers, name)
    axes[1].set_yscale("log")
    axes[2].set_yscale("log")
    axes[3].set(ylim=(-0.03, 1.03), xlabel="step")


def _by_label(seen: dict[str, np.ndarray], suffix: str = "") -> dict[str, np.ndarray]:
    return {label: seen[f"{name}{suffix}"] for name, label in _TERMS.items()}


def _line(axis, steps, numbers, name: str) -> None:
    """Draw the mean over the seeds, smoothed over 5 traced steps; zeros are gaps on a log scale."""
    numbers = np.where(numbers == 0, np.nan, numbers) if "L_D" in name else numbers
    padded = np.pad(numbers, ((2, 2), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0)
    found = np.isfinite(windows).any(axis=(1, 2))
    mean = np.full(len(steps), np.nan)
    mean[found] = np.nanmean(windows[found], axis=(1, 2))
    axis.plot(steps, mean, label=name, lw=1.2)


def summary(preset: str, seen: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return a JSON row: medians over seeds and steps of the first and of the second half.

    Args:
        preset: name of the preset.
        seen: result of `trace`.
    """
    half = len(seen["step"]) // 2
    numbers = {**agreement(seen), **singular_values(seen)}
    reference = seen["discriminative gradient"]
    for name, label in _TERMS.items():
        if name != "discriminative":
            active = np.where(seen[name] == 0, np.nan, seen[f"{name} gradient"])
            numbers[f"gradient of {label.partition(',')[0]} over that of L_Dis"] = (
                active / reference
            )
    return {
        "preset": preset,
        "traced_steps": len(seen["step"]),
        **{
            name: [_median(values[:half]), _median(values[half:])]
            for name, values in numbers.items()
        },
    }


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(f"{np.median(finite):.3g}") if len(finite) else None


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="demo", metavar="NAME", help="d2net_NAME; default: demo")
    parser.add_argument("--seeds", type=positive, default=5, help="members; default: 5")
    parser.add_argument(
        "--scale", choices=list(rows.SCALES), default="table",
        help="as of benchmarks.tables; default: table",
    )  # fmt: skip
    add_set(parser, "data.dir=FOLDER")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the figure; default: none")
    return parser.parse_args()


def config_of(setting: rows.Setting, seeds: int) -> ConfigDict:
    """Return D2-Net's config for a setting, with a population of seeds."""
    (config,) = (row.config for row in rows.rows_of("d2net/1", setting))
    config.population = seeds
    return config


def main() -> None:
    """Trace the presets, print their rows and draw the figure."""
    options = parse()
    traces = {}
    for preset in PRESETS:
        setting = rows.setting_of(options.data, options.scale, dict(options.set), preset)
        traces[preset] = trace(config_of(setting, options.seeds))
        print(json.dumps(summary(preset, traces[preset])), flush=True)
    if options.output:
        plots.save(draw(traces), options.output)


if __name__ == "__main__":
    main()
