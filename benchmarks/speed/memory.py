"""Compare the peak memory of a THUMOS14-sized run with the memory that it must have.

    python -m benchmarks.speed.memory

Runs the trainer on generated videos of THUMOS14's number, lengths and width, with float16 features
on the device and batches of 10 x 500 x 2048. The run must have features, parameters, Adam's moments
and one step's activations, the temporaries of the compiled training program (forward pass,
gradients, work space). `ratio` is the peak divided by this sum. On the CPU the peak is the largest
resident set of the process minus the one before the run; on an accelerator it is the allocator's.
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import psutil
from ml_collections import ConfigDict

from benchmarks.timing import Rows, numbers_table, parser_of, show, untimed_row
from benchmarks.workloads import CONFIGS, THUMOS
from jaxtal.training import dispatch, trainer

NEEDED = ("features", "parameters", "optimizer", "activations")


def config_of(options: argparse.Namespace) -> ConfigDict:
    """Return the config of a short run on generated videos: few steps and one evaluation."""
    config = CONFIGS[options.method][1].get_config()
    config.data.dir = ""
    config.data.generator = (
        f"{THUMOS} num_train={options.train_videos} num_test={options.test_videos} "
        f"feature_width={options.width // 2}"
    )
    config.data.update(num_snippets=options.snippets, device_dtype="float16")
    steps = options.steps
    config.train.update(batch_size=10, steps=steps, log_every=steps, eval_every=steps)
    return config


def peak() -> int:
    """Return the peak bytes of the device's allocator or, on the CPU, of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    of_process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return stats.get("peak_bytes_in_use", of_process)


def measure(config: ConfigDict) -> dict[str, int]:
    """Measure the bytes of the necessary parts, before the run, and at its peak."""
    found = {}
    compile_steps = dispatch._compile

    def recording(setup, model, hyper, state, *arguments):
        program = compile_steps(setup, model, hyper, state, *arguments)
        videos = (*setup.dataset.train, *setup.dataset.test)
        found["features"] = sum(video.features.nbytes for video in videos)
        found["parameters"] = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
        found["optimizer"] = sum(leaf.nbytes for leaf in jax.tree.leaves(state.opt_state))
        analysis = program.memory_analysis()
        assert analysis is not None
        found["activations"] = analysis.temp_size_in_bytes
        return program

    jax.block_until_ready(jax.jit(jnp.matmul)(jnp.ones((8, 8)), jnp.ones((8, 8))))
    on_cpu = jax.default_backend() == "cpu"
    before = psutil.Process().memory_info().rss if on_cpu else 0
    recorded = mock.patch.object(dispatch, "_compile", recording)
    with tempfile.TemporaryDirectory() as folder, recorded:
        trainer.train_and_evaluate(config, Path(folder))
    return {**found, "before": before, "peak": peak()}


def main() -> None:
    """Run; print the row and a table."""
    parser = parser_of(__doc__, repeats=1)
    parser.add_argument("--method", choices=list(CONFIGS), default="co2net", help="default: co2net")
    numbers = {"train_videos": 200, "test_videos": 212, "snippets": 500, "width": 2048, "steps": 2}
    for name, number in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=number, help=f"default: {number}")
    options = parser.parse_args()
    found = measure(config_of(options))
    beyond = found["peak"] - found["before"]
    ratio = beyond / sum(found[name] for name in NEEDED)
    shapes = {"batch": 10, "snippets": options.snippets, "features": options.width,
              "videos": [options.train_videos, options.test_videos]}  # fmt: skip
    name = f"{options.method}, peak memory"
    Rows(options.json)(untimed_row(name, shapes, bytes=found, ratio=ratio))
    table = numbers_table(f"{options.method}: peak memory", "part", "MiB")
    for part, size in {**found, "peak minus before": beyond}.items():
        table.add_row(part, f"{size / 2**20:,.0f}")
    table.add_row("ratio to the first four", f"{ratio:.2f}")
    show(table)


if __name__ == "__main__":
    main()
