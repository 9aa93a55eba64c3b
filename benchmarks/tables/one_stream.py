"""Compare one stream with two halves on features without RGB and flow.

    python -m benchmarks.tables.one_stream [--steps N] [--seeds N] [--methods NAME ...]

The features of generated videos are turned by a fixed random rotation of all columns, as if a
single encoder had made them: halves of the columns mean nothing. Each method is trained with
`streams=1` and with halves, from the same seeds, as populations. Prints a Markdown table of mAP
(average of t-IoU 0.1:0.7, in percent, protocol `official`, last step): mean and standard deviation
over seeds, and those of the paired difference.
"""

import argparse
import dataclasses

import numpy as np

import jaxtal
from benchmarks.timing import positive
from jaxtal.data import synthetic
from jaxtal.data.dataset import Dataset

METHODS = ("co2net", "d2net", "hybrid", "twostream")
VIDEOS = "demo feature_width=32 num_train=100 num_test=60 num_classes=5"
METRIC = "0.1:0.7"


def rotated(dataset: Dataset, seed: int = 0) -> Dataset:
    """Return a data set whose features are multiplied by a random orthogonal matrix.

    Args:
        dataset: data set with features.
        seed: of the matrix.
    """
    width = dataset.feature_width
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))

    def rotate(video):
        features = (video.features.astype(np.float32) @ rotation).astype(np.float32)
        return dataclasses.replace(video, features=features)

    return dataset.map(rotate)


def scores(method: str, dataset: Dataset, seeds: int, steps: int) -> np.ndarray:
    """Train a population and return the mAP of each member in percent.

    Args:
        method: one of `METHODS`.
        dataset: data set with features; its streams are those of the networks.
        seeds: number of members.
        steps: length of the training; 0: the config's. In a shorter one the learning rate grows
            and the schedules of the losses shrink in proportion.
    """
    config = jaxtal.get_config(f"{method}_demo", overrides={"population": seeds})
    steps = steps or config.train.steps
    factor = steps / config.train.steps
    for name in ("denoising_start", "warmup_steps"):
        if name in config.loss:
            config.loss[name] = round(factor * config.loss[name])
    config.train.update(steps=steps, eval_every=steps)
    config.optimizer.learning_rate /= factor
    config.evaluation.update(plot_videos=0, protocol="official")
    result = jaxtal.train(config, dataset=dataset, progress=False)
    return 100 * np.array([member["average"][METRIC] for member in result.result["members"]])


def _in_words(values: np.ndarray, sign: str = "") -> str:
    return f"{np.mean(values):{sign}.1f} ± {np.std(values, ddof=1):.1f}"


def main() -> None:
    """Print the table, a row at a time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=positive, default=0, help="default: those of the config")
    parser.add_argument("--seeds", type=positive, default=5, help="default: 5")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    arguments = parser.parse_args()
    halves = rotated(synthetic.generate(synthetic.parse(VIDEOS)))
    one = dataclasses.replace(halves, stream_widths=(halves.feature_width,))
    print("| | one stream | halves | difference |\n|---|---|---|---|", flush=True)
    for method in arguments.methods:
        first, second = (
            scores(method, dataset, arguments.seeds, arguments.steps) for dataset in (one, halves)
        )
        columns = (_in_words(first), _in_words(second), _in_words(first - second, "+"))
        print(f"| {method} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
