"""Peak memory of a THUMOS-shaped run against what it cannot do without.

    python -m benchmarks.memory

A run of the public trainer on generated videos of THUMOS14's number, lengths and width, float16 on
the device, batches of 10 x 500 x 2048. What it cannot do without: features, parameters, Adam's
moments and one step's activations, which are the temporaries of the compiled training program as
the compiler lays them out (forward pass, gradients and work space). `ratio` is the peak over that
sum. On the CPU the peak is the process's largest resident set, less what it was before the run,
when everything was imported; on an accelerator it is the allocator's.
"""

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import psutil
from ml_collections import ConfigDict
from rich.table import Table

from benchmarks.end_to_end import THUMOS
from benchmarks.timing import Rows, parser_of, row, show
from benchmarks.training import CONFIGS
from jaxtal.train import trainer


def config_of(options: argparse.Namespace) -> ConfigDict:
    """A short run on generated videos: a few steps and one evaluation."""
    config = CONFIGS[options.method][1].get_config()
    config.data.dir = ""
    config.data.generator = (
        f"{THUMOS} num_train={options.train_videos} num_test={options.test_videos} "
        f"feature_width={options.width // 2}"
    )
    config.data.update(num_snippets=options.snippets, device_dtype="float16")
    config.train.update(
        batch_size=10, steps=options.steps, log_every=options.steps, eval_every=options.steps
    )
    return config


def peak() -> int:
    """The most bytes held so far: by the device's allocator, or by this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    of_process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return stats.get("peak_bytes_in_use", of_process)


def measure(config: ConfigDict) -> dict[str, int]:
    """Bytes of the parts that are needed, before the run, and at its peak."""
    runs, programs = [], []
    compile_steps = trainer.Run._compile

    def recording(run, *arguments):
        program = compile_steps(run, *arguments)
        runs.append(run)
        programs.append(program)
        return program

    jax.block_until_ready(jax.jit(jnp.matmul)(jnp.ones((8, 8)), jnp.ones((8, 8))))
    on_cpu = jax.default_backend() == "cpu"
    before = psutil.Process().memory_info().rss if on_cpu else 0
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(trainer.Run, "_compile", recording),
    ):
        trainer.train_and_evaluate(config, Path(folder))
    run, program = runs[0], programs[0]
    videos = (*run.dataset.train, *run.dataset.test)
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(run.state.params))
    return {
        "features": sum(video.features.nbytes for video in videos),
        "parameters": parameters,
        "optimizer": sum(leaf.nbytes for leaf in jax.tree.leaves(run.state.opt_state)),
        "activations": program.memory_analysis().temp_size_in_bytes,
        "before": before,
        "peak": peak(),
    }


NEEDED = ("features", "parameters", "optimizer", "activations")


def main() -> None:
    """Run, print the row and the table."""
    parser = parser_of(__doc__, 1)
    parser.add_argument("--method", choices=list(CONFIGS), default="co2net")
    for name, number in (("train_videos", 200), ("test_videos", 212), ("snippets", 500)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    found = measure(config_of(options))
    needed = sum(found[name] for name in NEEDED)
    ratio = (found["peak"] - found["before"]) / needed
    shapes = {"batch": 10, "snippets": options.snippets, "features": options.width,
              "videos": [options.train_videos, options.test_videos]}  # fmt: skip
    line = json.loads(row(f"{options.method}, peak memory", shapes, [0.0], None, bytes=found))
    unused = ("median_s", "quartiles_s", "repeats")
    kept = {name: value for name, value in line.items() if name not in unused}
    Rows(options.json)(json.dumps({**kept, "ratio": ratio}))
    table = Table("what", "MiB", title=f"{options.method}: peak memory")
    for name, size in {**found, "peak less before": found["peak"] - found["before"]}.items():
        table.add_row(name, f"{size / 2**20:,.0f}")
    table.add_row("ratio to the first four", f"{ratio:.2f}")
    show(table)


if __name__ == "__main__":
    main()
